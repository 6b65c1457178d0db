"""Cells that are complete in another run below a root are taken over, and nothing else is."""

import json
import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.records.directory import RunDirectory
from tests import fakes
from tests.run.test_runner import CONFIG, run, scorecards

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
