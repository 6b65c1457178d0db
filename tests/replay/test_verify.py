"""A run directory is verified: what was changed is found, whoever changed it."""

import json
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness import __version__
from harness.cli import main
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.replay.verify import verify
from harness.reports.kept import write_scorecards
from harness.types import CellEntry
from tests.analysis.synthetic import synthetic_run
from tests.conftest import ROOT, lacking
from tests.runs import change_run, make_run


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> RunDirectory:
    """The synthetic run as `harness run` leaves it, to be tampered with."""
    return RunDirectory(Path(shutil.copytree(finished, tmp_path / "run")))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest, records = synthetic_run()
    directory = RunDirectory(tmp_path_factory.mktemp("finished"))
    directory.config_path.write_text("name: synthetic\n")
    make_run(directory.path, manifest, records)
    directory.compact(manifest.cells.values())
    write_scorecards(directory, width=100, color=False)
    return directory.path


def bad(run: RunDirectory, key: Path | None = None) -> list[str]:
    return [finding.text for finding in verify(run, key) if finding.good is False]


def parquet(run: RunDirectory) -> Path:
    return run.complete_path(first(run))


def first(run: RunDirectory) -> CellEntry:
    return next(iter(run.manifest().cells.values()))


def test_a_run_is_as_it_was_left(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert bad(run) == []
    assert len(run.checksums(run.manifest())) == 1 + 8 * 4
    assert main(["verify", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert out.count("byte for byte") == 3 and out.count("has its checksum") == 33


def test_scorecards_do_not_depend_on_when_they_are_made(run: RunDirectory) -> None:
    before = {path.name: path.read_bytes() for path in run.path.glob("scorecard.*")}
    write_scorecards(run, width=60, color=True)
    assert {path.name: path.read_bytes() for path in run.path.glob("scorecard.*")} == before


def test_a_changed_score_is_found(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    path = parquet(run)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    assert any("was changed: its checksum" in text for text in bad(run))
    assert main(["verify", str(run.path)]) == 1
    assert "does not hold what it says" in capsys.readouterr().err


def test_changed_records_with_a_new_checksum_do_not_give_the_kept_scorecards(run: RunDirectory) -> None:
    path = parquet(run)
    pq.write_table(pq.read_table(path).slice(1), path)
    sums = path.with_name("checksums.json")
    text = sums.read_text()
    sums.write_text(text.replace("records.parquet", "other.parquet"))
    change_run(run, checksums={})
    assert any("has no checksum" in text for text in bad(run))
    sums.unlink()
    run.seal()
    assert [text.partition(" (")[0] for text in sorted(bad(run))] == [
        f"scorecard.{form} is not what the records give" for form in ("html", "json", "md")
    ]


def test_a_changed_scorecard_is_found(run: RunDirectory) -> None:
    path = run.path / "scorecard.json"
    path.write_text(path.read_text().replace('"n": 58', '"n": 59', 1))
    other = f" (the run is of harness 0, this is {__version__}: verify with that one)"
    assert f"scorecard.json is not what the records give{other}" in bad(run)
    change_run(run, harness_version=__version__)
    write_scorecards(run, width=100, color=False)
    assert bad(run) == []
    path.write_text(path.read_text().replace('"n": 58', '"n": 59', 1))
    assert bad(run) == ["scorecard.json is not what the records give"]


def test_lost_files_and_strangers_are_found(run: RunDirectory) -> None:
    lost, kept = parquet(run), run.path / "scorecard.md"
    kept.unlink()
    assert bad(run) == ["scorecard.md is not there"]
    more = lost.with_name("more.parquet")
    more.write_bytes(lost.read_bytes())
    lost.unlink()
    found = bad(run)
    assert any("is gone" in text for text in found)
    assert f"{more.relative_to(run.path)} belongs to no cell of the run" in found


def test_lines_beside_complete_records_are_said_not_to_count(run: RunDirectory) -> None:
    beside = parquet(run).with_name("more.jsonl")
    beside.write_text('{"more": 1}\n')
    said = [finding for finding in verify(run) if beside.name in finding.text]
    assert [finding.good for finding in said] == [True] and "is not read" in said[0].text


def test_a_checksum_leads_to_no_file_elsewhere(run: RunDirectory) -> None:
    change_run(run, checksums={**run.manifest().checksums, "../../outside": "0"})
    assert "../../outside lies outside of the directory" in bad(run)


def test_manifests_without_checksums_are_read(run: RunDirectory) -> None:
    shutil.copytree(ROOT / "results" / "demo", run.path / "demo")
    path = run.path / "demo" / "manifest.json"
    old = json.loads(path.read_text())
    del old["checksums"]
    path.write_text(json.dumps(old))
    assert RunDirectory(path.parent).manifest().checksums == {}


def test_without_checksums_there_is_nothing_to_verify(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    change_run(run, checksums={})
    for path in run.path.rglob("checksums.json"):
        path.unlink()
    assert main(["verify", str(run.path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "run.json holds no checksums" in output.err and "harness run" in output.err


@pytest.fixture
def signers(run: RunDirectory, tmp_path: Path) -> Path:
    """Allowed signers, one of whom signed the manifest."""
    if shutil.which("ssh-keygen") is None:
        lacking("ssh-keygen is not installed")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"lab@example.org {key.with_suffix('.pub').read_text()}")
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "harness", str(run.manifest_path)]
    subprocess.run(sign, check=True, capture_output=True)
    return allowed


def test_a_signature_is_checked(run: RunDirectory, signers: Path) -> None:
    said = verify(run, signers)[-1].text
    assert said.startswith("run.json.sig is a signature by lab@example.org: it covers the file, and by its")
    assert "was not checked" in verify(run)[-1].text
    run.manifest_path.write_bytes(run.manifest_path.read_bytes().replace(b'"synthetic"', b'"Synthetic"'))
    assert "run.json.sig is not a signature by anyone in allowed_signers" in bad(run, signers)


def test_a_key_that_is_not_there_is_said(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--key .*nobody: expected a file"):
        verify(run, tmp_path / "nobody")


def test_an_unsigned_manifest_is_no_signed_one(run: RunDirectory, tmp_path: Path) -> None:
    assert bad(run) == []
    (tmp_path / "allowed_signers").touch()
    (said,) = bad(run, tmp_path / "allowed_signers")
    assert said.startswith("run.json is not signed")


def test_a_signature_does_not_cover_what_was_complete_since(run: RunDirectory, signers: Path) -> None:
    name = str(parquet(run).with_name("checksums.json").relative_to(run.path))
    sums = run.manifest().checksums
    change_run(run, checksums={key: value for key, value in sums.items() if key != name})
    (said,) = bad(run, signers)
    cell = first(run)
    assert said == f"run.json.sig does not cover {cell.suite} of {cell.model}, complete since"


def test_an_engine_that_somebody_added_is_found(run: RunDirectory) -> None:
    (kept,) = parquet(run).parent.glob("engine-*.json")
    kept.with_name("engine-more.json").write_bytes(kept.read_bytes())
    assert any(text.endswith("engine-more.json has no checksum") for text in bad(run))


def test_cells_that_the_config_no_longer_asks_for_are_told_apart(run: RunDirectory) -> None:
    change_run(run, cells=tuple(run.manifest().cells)[1:])
    said = [finding.text for finding in verify(run, quick=True) if "belongs to no cell" in finding.text]
    assert len(said) == 1 and said[0].endswith("records.parquet belongs to no cell of the run")


def test_a_run_of_an_earlier_version_holds(tmp_path: Path) -> None:
    """Its files are read as they are, and only the scorecards are written."""
    run = RunDirectory(Path(shutil.copytree(ROOT / "results" / "demo", tmp_path / "run")))
    before = contents(run.path)
    write_scorecards(run, width=100, color=False)
    found = verify(run, quick=True)
    assert [finding.text for finding in found if finding.good is False] == []
    assert sum("has its checksum" in finding.text for finding in found) == 13
    after = contents(run.path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {f"scorecard.{form}" for form in ("html", "json", "md")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
