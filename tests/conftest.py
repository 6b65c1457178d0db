"""Fixtures shared by all tests."""

import importlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from harness import disk

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = Path(os.environ.get("HARNESS_TEST_DATA", ROOT.parent / "shared" / "data"))
"""Public benchmark data, kept outside of the repository."""


def lacking(reason: str) -> NoReturn:
    """Skip a test for want of something; fail it in CI, which installs what tests need."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI is to have it: {reason}")
    pytest.skip(reason)


def shared_data(relative: str) -> Path:
    """A file or folder of the public benchmark data; see `lacking` for where it is absent."""
    path = SHARED_DATA / relative
    if not path.exists():
        lacking(f"public test data not found at {path}; set HARNESS_TEST_DATA to where it lies")
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recalled of what another test made, or whoever runs the tests."""
    folder = tmp_path_factory.getbasetemp() / f"cache-{secrets.token_hex(8)}"
    monkeypatch.setattr(disk, "cache_folder", lambda: folder)


def script(name: str) -> ModuleType:
    """A file of scripts/ as a module; scripts find one another, as they do where they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        return importlib.import_module(name)


INTEGRATION = (
    "suites",
    "sandbox",
    "exports",
    "replay/test_transcripts.py",
    "replay/test_run_directory.py",
    "show",
    "parity",
    "engines/vllm/test_pieces.py",
    "engines/vllm/test_texts.py",
    "models/test_planted.py",
    "test_bench_agent.py",
    "test_bench_hijack.py",
    "stats/test_coverage.py",
    "test_hostile_server.py",
    "test_docs.py",
    "stats/test_irt.py",
    "test_offline.py",
)
"""Tests that go through lm-eval, AgentDojo, Inspect or long computations: seconds each, not milliseconds."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where no integration test is wanted their modules are not imported either: that alone takes seconds."""
    if "not integration" not in config.option.markexpr:
        return None
    return _is_integration(collection_path) or None


def _is_integration(path: Path) -> bool:
    tests = ROOT / "tests"
    return path.is_relative_to(tests) and path.relative_to(tests).as_posix().startswith(INTEGRATION)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is no unit test, by where it lies; the longest file goes first, or all would wait for it."""
    for item in items:
        if _is_integration(item.path):
            item.add_marker("integration")
    items.sort(key=lambda item: item.path.name != "test_demo.py")


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    """Results of tests need not outlive a power cut: waiting for the disk takes seconds in all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small finished run; see `tests.recorded`. Not to be written to."""
    from tests.recorded import record

    return record(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def sandboxed() -> None:
    """A machine on which programs can be run safely (that they are refused elsewhere is another test)."""
    from harness.errors import UserError
    from harness.sandbox import programs

    try:
        programs.check_available()
    except UserError as error:
        lacking(str(error))
