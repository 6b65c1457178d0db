"""Cells that are complete in another run below a root are taken over, and nothing else is."""

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.records.directory import RunDirectory
from harness.records.extend import is_part
from harness.records.root import Root
from harness.types import CellEntry
from tests import fakes
from tests.run.test_runner import CONFIG, run, scorecards
from tests.runs import unfinish

FEW, MANY = CONFIG.splitlines()[5], CONFIG.splitlines()[6]
TWO = CONFIG.splitlines()[3]


@pytest.fixture(scope="module")
def monday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one run, of one of the two suites. Not to be written to."""
    folder = tmp_path_factory.mktemp("root")
    assert run(folder, out="root/monday", text=CONFIG.replace(f"{MANY}\n", "")) == 0
    return folder / "root"


@pytest.fixture
def root(monday: Path, tmp_path: Path) -> Path:
    fakes.STARTED.clear()
    return Path(shutil.copytree(monday, tmp_path / "root"))


def test_ten_thousand_cells_are_looked_up_by_reading_each_folder_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of a root: the names of its folders are its catalogue."""
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(10_000)]
    for run_number in range(100):
        cells = tmp_path / f"run-{run_number}" / "cells"
        cells.mkdir(parents=True)
        (cells.parent / "run.json").write_text("{}")
        for key in keys[run_number::100]:
            (cells / f"m--s--{key[:12]}").mkdir()
    read: Counter[str] = Counter()
    for function in (os.listdir, os.scandir):

        def counted(path: Any, function: Any = function) -> Any:
            read[str(path)] += 1
            return function(path)

        monkeypatch.setattr(os, function.__name__, counted)
    found = Root(tmp_path)
    there = [run.path.name for key in keys for run in found.runs_with(key)]
    assert read[str(tmp_path / "run-0" / "cells")], "the count sees how folders are read"
    assert read.total() <= 10 * 100, "a few times a run, not once a cell"
    assert there == [f"run-{number % 100}" for number in range(10_000)]
    assert not [*found.runs_with("f" * 64)]


def nightly(root: Path, text: str = CONFIG, out: str = "root/tuesday") -> int:
    return run(root.parent, "--root", str(root), out=out, text=text)


def test_only_what_is_new_is_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nightly(root) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"taken from {root / 'monday'}: few of one, few of two" in said
    assert run(root.parent, out="alone") == 0
    assert scorecards(root.parent, "root/tuesday") == scorecards(root.parent, "alone")
    tuesday = RunDirectory(root / "tuesday")
    for cell in tuesday.manifest().cells.values():
        if cell.suite == "few":
            taken = RunDirectory(root / "monday").complete_path(cell).read_bytes()
            assert tuesday.complete_path(cell).read_bytes() == taken
    assert main(["verify", str(root / "tuesday")]) == 0


def test_where_everything_is_there_no_engine_is_loaded(root: Path) -> None:
    assert nightly(root, CONFIG.replace(f"{MANY}\n", "")) == 0
    assert fakes.STARTED == []
    assert main(["verify", str(root / "tuesday")]) == 0


def test_a_suite_of_another_name_is_the_same_cell(root: Path) -> None:
    renamed = CONFIG.replace(f"{MANY}\n", "").replace("name: few", "name: short")
    assert nightly(root, renamed) == 0
    assert fakes.STARTED == []
    assert "short/acc" in scorecards(root.parent, "root/tuesday")[0]["metrics"]
    assert main(["verify", str(root / "tuesday")]) == 0


def test_what_was_changed_since_or_is_unfinished_is_run_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (
        RunDirectory(root / "monday").complete_path(cell)
        for cell in RunDirectory(root / "monday").manifest().cells.values()
    )
    one.write_bytes(one.read_bytes()[:-1] + b"!")
    two.unlink()
    assert nightly(root, CONFIG.replace(f"{MANY}\n", "")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "was changed since it was complete" in said and "it is not complete" in said
    assert fakes.STARTED == ["one", "two"]
    assert main(["verify", str(root / "tuesday")]) == 0


def test_imported_cells_are_never_taken(root: Path) -> None:
    for path in root.rglob("engine-*.json"):
        engine = json.loads(path.read_text())
        engine["facts"]["name"] = "imported"
        path.write_text(json.dumps(engine))
    assert nightly(root, CONFIG.replace(f"{MANY}\n", "")) == 0
    assert fakes.STARTED == ["one", "two"]


def test_another_protocol_is_another_cell(root: Path) -> None:
    assert nightly(root, CONFIG.replace(f"{MANY}\n", "").replace("temperature: 1.0", "temperature: 0.9")) == 0
    assert fakes.STARTED == ["one", "two"]


def test_a_root_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nightly(tmp_path / "nowhere") == 2
    assert "expected a folder of run directories" in capsys.readouterr().err


MORE = CONFIG.replace("attempts: 2", "attempts: 3")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_more_attempts_run_only_the_difference(
    tmp_path: Path, elsewhere: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert run(tmp_path, out="root/a") == 0
    before = started(root / "a")
    out = "root/b" if elsewhere else "root/a"
    capsys.readouterr()
    assert run(tmp_path, "--root", str(root), out=out, text=MORE) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"few of one: 40 of 60 attempts are taken from {root / 'a'}, where it had 2 for each of 20" in said
    found = started(tmp_path / out)
    assert len(found) == 3 * 80 and {key: found[key] for key in before} == before
    assert run(tmp_path, out="alone", text=MORE) == 0
    assert scorecards(tmp_path, out) == scorecards(tmp_path, "alone")
    assert main(["verify", str(tmp_path / out)]) == 0


def started(path: Path) -> dict[tuple[str, str, int], float]:
    """(suite, sample, attempt) -> when it was made, of `one`."""
    directory = RunDirectory(path)
    cells = [cell for cell in directory.manifest().cells.values() if cell.model == "one"]
    return {(c.suite, r.sample, r.attempt): r.started for c in cells for r in directory.records(c)}


def test_a_part_that_was_stopped_contributes_too(tmp_path: Path) -> None:
    assert run(tmp_path, out="a") == 0
    directory = RunDirectory(tmp_path / "a")
    cells = [c for c in directory.manifest().cells.values() if (c.model, c.suite) == ("one", "few")]
    kept = directory.records(cells[0])[:7]
    unfinish(directory, cells[0], kept)
    assert run(tmp_path, out="a", text=MORE) == 0
    taken = {("few", r.sample, r.attempt): r.started for r in kept}
    assert taken.items() <= started(tmp_path / "a").items()


def test_what_was_changed_or_is_of_another_protocol_contributes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, out="a") == 0
    capsys.readouterr()
    assert run(tmp_path, out="a", text=MORE.replace("seed: 3", "seed: 4")) == 0
    assert "are taken from" not in capsys.readouterr().out
    for path in (tmp_path / "a").rglob("records.parquet"):
        path.write_bytes(path.read_bytes() + b"x")
    assert run(tmp_path, out="b", text=MORE) == 0
    assert (
        run(tmp_path, "--root", str(tmp_path), out="c", text=MORE.replace("attempts: 3", "attempts: 4")) == 0
    )
    said = capsys.readouterr().out
    assert f"taken from {tmp_path / 'b'}" in said and f"taken from {tmp_path / 'a'}" not in said


def test_a_lower_limit_is_a_part_of_a_higher_one_and_of_no_other_protocol() -> None:
    def cell(key: str, samples: int, attempts: int = 1, **protocol: str) -> CellEntry:
        return CellEntry(
            key=key,
            model="m",
            suite="s",
            adapter="a",
            protocol=protocol,
            metrics=(),
            samples=samples,
            attempts=attempts,
        )

    large = cell("large", 20, 2, limit="20", data="x")
    assert is_part(cell("small", 10, limit="10", data="x"), large)
    assert is_part(cell("small", 20, 2, limit="None", data="x"), large)
    assert not is_part(cell("other", 10, limit="10", data="y"), large)
    assert not is_part(cell("more", 10, 3, limit="10", data="x"), large)
    assert not is_part(cell("longer", 30, limit="30", data="x"), large)
    assert not is_part(large, large)


def test_the_same_engine_may_be_demanded(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = CONFIG.replace(f"{MANY}\n", "")
    assert run(root.parent, "--root", str(root), "--same-engine", out="root/same", text=few) == 0
    assert fakes.STARTED == []
    monkeypatch.setattr("harness.run.runner.installed_versions", lambda: {"vllm": "9.9"})
    capsys.readouterr()
    assert run(root.parent, "--root", str(root), "--same-engine", out="root/other", text=few) == 0
    assert "few of one was not taken from" in " ".join(capsys.readouterr().out.split())
    assert [*fakes.STARTED] != []
