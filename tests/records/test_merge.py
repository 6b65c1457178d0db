"""Runs put together: all that they measured, once, and contradictions named."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from harness.cli import main
from harness.records.directory import RunDirectory
from harness.records.merge import copy_cell
from harness.records.root import what_changed
from harness.types import CellEntry, Manifest
from tests.analysis.synthetic import synthetic_run
from tests.conftest import ROOT
from tests.run.test_runner import CONFIG, fakes, run, scorecards
from tests.runs import change_run, make_run, unfinish

FEW, MANY = CONFIG.splitlines()[5], CONFIG.splitlines()[6]


def merge(folder: Path, *names: str) -> int:
    return main(["merge", *(str(folder / name) for name in names), "--out", str(folder / "both")])


def test_two_halves_are_the_whole(tmp_path: Path) -> None:
    assert run(tmp_path, out="whole") == 0
    for name, left_out in (("a", FEW), ("b", MANY)):
        assert run(tmp_path, out=name, text=CONFIG.replace(f"{left_out}\n", "")) == 0
    assert merge(tmp_path, "a", "b") == 0
    assert [c["metrics"] for c in scorecards(tmp_path, "both")] == [
        c["metrics"] for c in scorecards(tmp_path, "whole")
    ]
    assert main(["verify", str(tmp_path / "both")]) == 0
    assert merge(tmp_path, "a") == 0, "once more changes nothing"
    assert main(["verify", str(tmp_path / "both")]) == 0
    fakes.STARTED.clear()
    assert run(tmp_path, out="both") == 0
    assert fakes.STARTED == [], "the whole config takes over what the halves measured"


def test_a_suite_that_stands_elsewhere_in_another_config_is_there_once(tmp_path: Path) -> None:
    one, two = CONFIG.splitlines()[2:4]
    for name, left_out in (("a", two), ("b", one)):
        assert run(tmp_path, out=name, text=CONFIG.replace(f"{left_out}\n", "")) == 0
    config = (tmp_path / "b" / "config.yaml").read_text()
    (tmp_path / "b" / "config.yaml").write_text(f"# another line\n{config}")
    assert merge(tmp_path, "a", "b") == 0
    both = RunDirectory(tmp_path / "both").config()
    assert [spec.name for spec in both.suites] == ["few", "many"]
    assert [spec.name for spec in both.models] == ["one", "two"]


def test_two_parts_of_one_cell_are_put_together(tmp_path: Path) -> None:
    assert run(tmp_path, out="a") == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    cells = RunDirectory(tmp_path / "a").manifest().cells
    for name, part in (("a", slice(0, 12)), ("b", slice(8, 20))):
        directory = RunDirectory(tmp_path / name)
        for cell in cells.values():
            unfinish(directory, cell, directory.records(cell)[part])
    assert merge(tmp_path, "a", "b") == 0
    both = RunDirectory(tmp_path / "both")
    assert {both.count(cell) for cell in cells.values()} == {20}


class Died(BaseException):
    """In place of a signal that nobody catches."""


@pytest.mark.parametrize("begun", [False, True], ids=["nothing is there", "a part is there"])
def test_a_merge_that_dies_leaves_no_cell_with_checksums_of_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    assert run(tmp_path, out="a") == 0
    whole = RunDirectory(tmp_path / "a")
    cell = next(iter(whole.manifest().cells.values()))
    sums = whole.cell_checksums(cell)
    both = RunDirectory(tmp_path / "both")
    if begun:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        for other in whole.manifest().cells.values():
            unfinish(RunDirectory(tmp_path / "b"), other, whole.records(other)[:1])
        assert merge(tmp_path, "b") == 0
    real, written, died = os.fsync, 0, 0

    def fsync(file: int) -> None:
        nonlocal written
        written += 1
        if written > died:
            raise Died
        real(file)

    while not both.path.exists() or not both.is_complete(cell) or cell_sums(both, cell) != sums:
        died, written = died + 1, 0
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            merge(tmp_path, "a")
        except Died:
            folder = both.layout.folder(cell)
            for name in cell_sums(both, cell):
                assert (both.path / name).exists(), f"after {died} writes"
            assert not (folder / "checksums.json").exists() or both.is_complete(cell)
        monkeypatch.setattr(os, "fsync", real)
        assert died < 40
    assert died > 4, "it died at each of several writes"
    assert merge(tmp_path, "a") == 0
    assert main(["verify", str(both.path)]) == 0
    assert not list(both.path.rglob("*.tmp"))


def test_half_of_a_cell_that_a_killed_copy_left_goes_with_the_next_command_that_writes_there(
    tmp_path: Path,
) -> None:
    assert run(tmp_path, out="a") == 0
    old, link, lost, young = (
        tmp_path / "a" / f".cell.{name}.tmp" for name in ("old", "link", "lost", "young")
    )
    notes = tmp_path / "a" / "notes.tmp"
    notes.write_text("of a person")
    for half in (old, young):
        half.mkdir()
        (half / "records.parquet").write_text("half")
    link.symlink_to(tmp_path / "a" / "cells")
    lost.symlink_to(tmp_path / "a" / "nowhere")
    for path in (old, link, lost, notes):
        os.utime(path, (1.0, 1.0), follow_symlinks=False)
    before = list((tmp_path / "a" / "cells").rglob("*"))
    assert run(tmp_path, out="a") == 0
    assert not (old.exists() or link.is_symlink() or lost.is_symlink())
    assert young.exists() and notes.exists()
    assert list((tmp_path / "a" / "cells").rglob("*")) == before
    assert main(["verify", str(tmp_path / "a")]) == 0


def test_of_two_that_copy_one_cell_at_once_the_first_ones_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        assert run(tmp_path, out=name) == 0
    one, other = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    cell = next(iter(one.manifest().cells.values()))
    real = shutil.copyfile

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(shutil, "copyfile", real)
        copy_cell(other, {}, cell, RunDirectory(tmp_path / "both"))
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", overtaken)
    both = RunDirectory(tmp_path / "both")
    copy_cell(one, {}, cell, both)
    assert cell_sums(both, cell) == cell_sums(other, cell) != cell_sums(one, cell)
    assert what_changed(both, cell) is None
    assert not list(both.path.rglob("*.tmp"))


def test_a_run_that_is_put_into_itself_stays_as_it_is(tmp_path: Path) -> None:
    assert run(tmp_path, out="both") == 0
    both = RunDirectory(tmp_path / "both")
    one, *_, last = both.manifest().cells.values()
    unfinish(both, last, both.records(last)[:7])
    assert merge(tmp_path, "both") == 0
    again = RunDirectory(tmp_path / "both")
    assert again.count(last) == 7
    assert what_changed(again, one) is None


def cell_sums(run: RunDirectory, cell: CellEntry) -> dict[str, str]:
    return RunDirectory(run.path).cell_checksums(cell)


def test_what_two_runs_say_otherwise_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, records = synthetic_run()
    make_run(tmp_path / "a", manifest, records)
    entry = manifest.cells["aster-moe-agent"]
    other = msgspec.structs.replace(entry, key="other", protocol={**entry.protocol, "seed": "4"})
    changed: Manifest = msgspec.structs.replace(manifest, cells={"other": other})
    make_run(tmp_path / "b", changed, {"other": []})
    assert merge(tmp_path, "a", "b") == 2
    said = capsys.readouterr().err
    assert "agent of aster-moe in" in said and "differ in seed" in said and said.count("\n") == 1
    assert not (tmp_path / "both").exists()


def test_one_cell_measured_twice_is_a_contradiction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, records = synthetic_run()
    for name, left in (("a", records), ("b", {key: found[1:] for key, found in records.items()})):
        directory = make_run(tmp_path / name, manifest, left)
        directory.compact(manifest.cells.values())
    assert merge(tmp_path, "a", "b") == 2
    assert "was measured twice, with other records" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_is_taken_in(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "demo", tmp_path / "demo")
    assert merge(tmp_path, "demo") == 0
    earlier, now = RunDirectory(tmp_path / "demo"), RunDirectory(tmp_path / "both")
    assert now.manifest().cells == earlier.manifest().cells
    assert now.manifest().models == earlier.manifest().models
    for cell in now.manifest().cells.values():
        assert now.records(cell) == earlier.records(cell)
    assert main(["verify", str(tmp_path / "both"), "--quick"]) == 0


def test_what_is_no_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge(tmp_path, "nothing") == 2
    assert "is not there" in capsys.readouterr().err
    change = make_run(tmp_path / "a", *synthetic_run())
    change_run(change, cells=("0" * 64,))
    assert merge(tmp_path, "a") == 2
    assert "has no folder" in capsys.readouterr().err
