"""Runs in the format of Every Eval Ever among the downloads: what is shown, and no more."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from harness.exports import export
from harness.records.directory import RunDirectory
from harness.site import exported
from harness.site.build import Built, build_site
from harness.site.reading import Reading
from tests.site.roots import PUBLIC, make


def test_every_run_is_there_in_the_format_of_every_eval_ever_as_far_as_it_is_open(
    site: tuple[Path, Built], root: Path, tmp_path: Path
) -> None:
    out, _ = site
    about = (out / "about.html").read_text()
    packed = sorted((out / "data/every-eval-ever").iterdir())
    assert [path.stem for path in packed] == ["first", "hostile", "later", "other"]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() in about for path in packed)
    export(RunDirectory(root / "first"), "every-eval-ever", tmp_path)
    with zipfile.ZipFile(packed[0]) as archive:
        names = archive.namelist()
        assert sorted(names) == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.json*"))
        for name in names:
            exported = (tmp_path / name).read_text()
            if name.endswith(".jsonl"):  # of the attempts that can be read
                open_lines = [line for line in exported.splitlines() if '"agent/' not in line]
                assert archive.read(name).decode().splitlines() == open_lines != []
            else:
                own, whole = json.loads(archive.read(name)), json.loads(exported)
                assert own["evaluation_results"] == whole["evaluation_results"] != []
                lines = own["detailed_evaluation_results"]
                assert lines["checksum"] == hashlib.sha256(archive.read(lines["file_path"])).hexdigest()


def test_what_is_withdrawn_or_not_published_is_not_in_that_format_either(tmp_path: Path) -> None:
    make(tmp_path / "root" / "one")
    settings = tmp_path / "site.yaml"
    withdrawn = "{model: aster-moe, date: 2026-01-01, reason: wrong}, {model: borea-moe, suite: agent, "
    settings.write_text(f"{PUBLIC}withdrawn: [{withdrawn}date: 2026-01-01, reason: wrong}}]\n")
    for attempts in (None, 5):
        out = tmp_path / f"site{attempts}"
        reading = Reading(attempts=attempts, quick=True)
        build_site(tmp_path / "root", out, settings=settings, store=tmp_path / "store", reading=reading)
        with zipfile.ZipFile(out / "data/every-eval-ever/one.zip") as archive:
            names = archive.namelist()
            lines = [name for name in names if name.endswith(".jsonl")]
            assert len(lines) == (3 if attempts is None else 0)
            found = [json.loads(archive.read(name)) for name in names if name not in lines]
        suites = {
            one["model_info"]["name"]: {r["source_data"]["dataset_name"] for r in one["evaluation_results"]}
            for one in found
        }
        both = {"questions", "agent"}
        assert suites == {"aster-dense": both, "borea-dense": both, "borea-moe": {"questions"}}


def test_what_is_too_large_leaves_results_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(root / "first")
    keys = run.manifest().cells.keys()
    shown = exported.Shown(run, keys, keys, restore=False)
    assert exported.archive(shown, tmp_path / "whole.zip", None) == exported.LINES
    for name, limit in (("MOST_ATTEMPTS", 8 * 60 - 1), ("LARGEST_FILE", 40_000)):
        with monkeypatch.context() as patch:
            patch.setattr(exported, name, limit)
            assert exported.archive(shown, tmp_path / f"{name}.zip", None) == exported.RESULTS
    assert (tmp_path / "MOST_ATTEMPTS.zip").read_bytes() == (tmp_path / "LARGEST_FILE.zip").read_bytes()
    names = zipfile.ZipFile(tmp_path / "MOST_ATTEMPTS.zip").namelist()
    assert len(names) == 4
    assert not any(name.endswith(".jsonl") for name in names)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []
