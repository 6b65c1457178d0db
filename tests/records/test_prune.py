"""What `harness prune` takes away, and what it never does."""

import os
import shutil
import time
from pathlib import Path

import pytest

from harness import disk
from harness.cli import main
from harness.records.directory import RunDirectory
from harness.records.schema import WorkerFile
from harness.records.workers import write_worker
from tests.run.test_runner import CONFIG, records, scorecards


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run, at `out`, of which one suite is not asked for any more."""
    path = tmp_path / "digits.yaml"
    for text in (CONFIG, CONFIG.replace("  - {adapter: tests.fakes, name: few, samples: 20}\n", "")):
        path.write_text(text)
        assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_may_go_is_said_and_goes_only_when_it_is_asked_for(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = next(path for path in run.glob("cells/one--many--*"))
    elsewhere = run.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (run / "logs").mkdir()
    (run / "logs" / "one.log").write_text("x" * 3000)
    (run / "logs" / "link").symlink_to(elsewhere)
    (cell / ".records.parquet.1234abcd.tmp").write_text("half")
    os.utime(cell / ".records.parquet.1234abcd.tmp", (1.0, 1.0))
    (cell / ".cell.json.1234abcd.tmp").write_text("half, but of now")
    (cell / "20260101T000000-abcdef.jsonl").write_text("")
    (disk.cache_folder() / "shown").mkdir(parents=True, exist_ok=True)
    (disk.cache_folder() / "shown" / "one").write_text("y" * 2000)
    before, kept = contents(run), records(run.parent)
    cards = scorecards(run.parent)
    capsys.readouterr()
    assert main(["prune", str(run)]) == 0
    said = capsys.readouterr().out
    assert contents(run) == before
    assert f"{run}/logs/one.log  3 kB  log of an engine\n" in said
    assert ".records.parquet.1234abcd.tmp" in said and ".cell.json.1234abcd.tmp" not in said
    assert "20260101T000000-abcdef.jsonl" in said and "cache: is made again" in said
    assert "few of one: no part of the run any more" in said and "few of two" in said
    assert said.endswith(" may go: --yes removes it\n")
    assert main(["prune", str(run.parent), "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("removed: ")
    gone = before.keys() - contents(run).keys()
    assert {name.split("/")[0] for name in gone} == {"logs", "cells"}
    assert not any(name.startswith("cells/one--many--") and "parquet" in name[-8:] for name in gone)
    assert (elsewhere / "kept").exists() and not (run / "logs" / "link").is_symlink()
    assert records(run.parent) == kept and scorecards(run.parent) == cards
    assert main(["verify", str(run)]) == 0
    capsys.readouterr()
    assert main(["prune", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("nothing may go")


def test_a_run_that_somebody_works_on_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    worker = WorkerFile(model="one", host="h", pid=1, began=now, beat=now)
    write_worker(run, "20260101T000000-abcdef", worker)
    before = contents(run)
    assert main(["prune", str(run), "--yes"]) == 0
    assert f"{run}: somebody works on it: nothing of it may go now" in capsys.readouterr().err
    assert contents(run) == before


def test_records_that_are_still_owed_stay(run: Path) -> None:
    (cell,) = [cell for cell in RunDirectory(run).manifest().cells.values() if cell.model == "one"]
    folder = RunDirectory(run).layout.folder(cell)
    (folder / "records.parquet").unlink()
    (folder / "20260101T000000-abcdef.jsonl").write_text("")
    assert main(["prune", str(run), "--yes"]) == 0
    assert (folder / "20260101T000000-abcdef.jsonl").exists()


def test_where_no_run_is_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(tmp_path)
    assert main(["prune", str(tmp_path)]) == 2
    tmp_path.mkdir()
    assert main(["prune", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("harness: ") == 2
