"""Where there is no sandbox nothing runs; and the parts of it that need none."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.sandbox import programs as sandbox
from harness.sandbox.inside import decode, encode, imports_and_names
from harness.sandbox.programs import CodeEval, pass_at_k
from tests.conftest import lacking


@pytest.fixture
def nothing_known() -> Iterator[None]:
    """What was found out about this machine is forgotten, before and after."""
    for _ in range(2):
        sandbox.bwrap.cache_clear()
        sandbox.check_available.cache_clear()
        if _ == 0:
            yield


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(sandbox.subprocess, "Popen", start)


@pytest.mark.usefixtures("nothing_known", "no_processes")
def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="only run in bubblewrap, which is not installed"):
        sandbox.run("pass")
    with pytest.raises(UserError, match="only run in bubblewrap, which is not installed"):
        CodeEval().compute(references=["pass"], predictions=[["pass"]])


@pytest.mark.usefixtures("nothing_known")
def test_where_bubblewrap_fails_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    broken = tmp_path / "bwrap"
    broken.write_text(f"#!/bin/sh\necho x >> {ran}\necho no namespaces >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot build a sandbox on this machine \(no namespaces\)"):
        sandbox.run("pass")
    assert ran.read_text() == "x\n", "tried once, with no program"


@pytest.mark.usefixtures("nothing_known")
def test_where_the_sandbox_hides_python_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if sandbox.shutil.which("bwrap") is None:
        lacking("bubblewrap is not installed")
    monkeypatch.setattr(sandbox.sys, "executable", "/nowhere/bin/python")
    with pytest.raises(UserError, match=r"execvp /nowhere/bin/python.*: install Python elsewhere than"):
        sandbox.run("pass")


@pytest.mark.usefixtures("nothing_known", "no_processes")
@pytest.mark.parametrize("folder", ["/", str(Path.home())])
def test_python_right_in_a_folder_of_other_things_would_show_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "bwrap").write_text("")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sandbox.sys, "base_prefix", folder)
    with pytest.raises(UserError, match="programs would see all of it: install it in a folder of its own"):
        sandbox.run("pass")


@pytest.mark.usefixtures("nothing_known", "no_processes")
def test_on_an_unknown_machine_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bwrap").write_text("")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "riscv64")
    with pytest.raises(UserError, match="x86_64 and aarch64 alone, and this is riscv64"):
        sandbox.run("pass")


def test_the_calls_of_both_machines_are_filtered() -> None:
    intel, arm = sandbox.filter_of_calls("x86_64"), sandbox.filter_of_calls("aarch64")
    assert intel != arm
    assert len(intel) % 8 == len(arm) % 8 == 0


@pytest.mark.parametrize(
    ("n", "passed", "k", "expected"), [(1, 1, 1, 1.0), (5, 0, 2, 0.0), (4, 2, 2, 5 / 6), (10, 3, 1, 0.3)]
)
def test_pass_at_k(n: int, passed: int, k: int, expected: float) -> None:
    assert pass_at_k(n, passed, k) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ("assert f(1) == sorted([1])", ("", ("f",))),
        ("assert sum(1, 2) == 3", ("", ("sum",))),
        ("def check(c):\n    for x in c(): assert x\ncheck(g)", ("", ("g",))),
        ("import numpy as np\nassert np.all(f())", ("import numpy as np", ("f",))),
    ],
)
def test_what_tests_want_of_a_program(tests: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert imports_and_names(tests) == expected


@pytest.mark.parametrize(
    "sent", [["module", "antigravity"], ["module", "math"], ["numpy", ["O", []]], ["code", ""], [[], 1], [1]]
)
def test_nothing_but_data_is_made_of_what_was_sent(sent: Any) -> None:
    with pytest.raises((ImportError, ValueError, KeyError, TypeError)):
        decode(sent, lambda number: None)


def test_no_module_crosses() -> None:
    assert encode(json, lambda value: "kept") == "kept"


def test_what_is_no_data_is_not_sent() -> None:
    assert encode([lambda: 1], lambda value: "kept") == ["list", ["kept"]]
