"""What was shown is shown again where nothing has changed, and is no part of what a run brings."""

import os
from pathlib import Path

import pytest

from harness import disk
from harness.cli import main
from harness.models.hashes import file_hash
from harness.records.directory import RunDirectory
from harness.reports import document, recall
from harness.reports.kept import scorecard
from tests.analysis.synthetic import synthetic_run
from tests.analysis.test_compare import write
from tests.runs import change_run

FORGED = b"nobody is better"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(write(tmp_path / "run", *synthetic_run()))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The documents that were made."""
    read, found = document.read_document, []

    def counted(directory: RunDirectory, by: str, *args: object, **kwargs: object) -> object:
        found.append(by)
        return read(directory, by, *args, **kwargs)

    monkeypatch.setattr(document, "read_document", counted)
    return found


def kept() -> list[Path]:
    return sorted((disk.cache_folder() / "shown").iterdir())


def test_an_unchanged_run_is_shown_again(run: RunDirectory, made: list[str]) -> None:
    first = scorecard(run, "table")
    assert scorecard(run, "table") == first and "aster" in first.text and made == ["country"]
    assert scorecard(run, "table", by="developer").text != first.text
    assert scorecard(run, "table", width=80).text != first.text
    assert len(made) == 3 and not list(run.path.rglob("shown"))
    assert scorecard(run, "table", recalling=False) == first and len(made) == 4


@pytest.mark.parametrize("of", ["records", "code"])
def test_what_changed_is_made_anew(
    run: RunDirectory, made: list[str], of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorecard(run, "json")
    if of == "records":
        change_run(run, name="renamed")
    else:
        monkeypatch.setattr(recall, "code_digest", lambda: "of another version")
    assert ("renamed" in scorecard(run, "json").text) == (of == "records") and len(made) == 2


def test_records_that_claim_the_checksums_of_others_are_read(run: RunDirectory, made: list[str]) -> None:
    """Whatever `checksums.json` says, it is the contents that count."""
    scorecard(run, "table")
    path = next(run.path.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    assert scorecard(run, "table").incomplete and len(made) == 2


def test_files_are_read_once_until_one_is_touched(
    run: RunDirectory, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = list[Path]()
    monkeypatch.setattr(recall, "file_hash", lambda path: hashed.append(path) or file_hash(path))
    monkeypatch.setattr(recall, "SETTLED_NS", -(10**18))
    recall.code_digest()
    hashed.clear()
    scorecard(run, "table")
    assert len(hashed) == len(recall.states(run) or ()) > 10
    scorecard(run, "table")
    assert scorecard(run, "table", by="developer") and len(hashed) == len(recall.states(run) or ())

    path = next(run.path.rglob("*.parquet"))
    before, old = path.read_bytes(), path.stat()
    path.write_bytes(before[:-8] + b"\0" * 8)  # as large, and as old by the time that can be set
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert scorecard(run, "table").incomplete and len(made) == 3


def test_a_file_that_was_just_written_is_read_again(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times would not tell whether it is written to once more."""
    monkeypatch.setattr(recall, "SETTLED_NS", 10**18)
    scorecard(run, "table")
    assert not (disk.cache_folder() / "contents").exists() and kept()


@pytest.mark.parametrize("content", [b"", b"{", FORGED, b"0" * 64 + b"\n" + FORGED, b"\xff\n{}"])
def test_what_is_not_whole_is_made_anew(run: RunDirectory, made: list[str], content: bytes) -> None:
    first = scorecard(run, "table")
    (path,) = kept()
    path.write_bytes(content)
    assert scorecard(run, "table") == first and len(made) == 2
    path.write_bytes(path.read_bytes()[:-1])
    assert scorecard(run, "table") == first and len(made) == 3
    assert scorecard(run, "table") == first and len(made) == 3


def test_a_cache_that_cannot_be_written_is_done_without(
    run: RunDirectory, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(disk, "cache_folder", lambda: tmp_path / "file" / "below")
    assert scorecard(run, "table") == scorecard(run, "table") and len(made) == 2


def test_a_run_that_was_written_to_meanwhile_is_not_kept(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = document.read_document

    def slow(*args: object, **kwargs: object) -> object:
        found = read(*args, **kwargs)
        change_run(run, name="later")
        return found

    monkeypatch.setattr(document, "read_document", slow)
    assert "later" not in scorecard(run, "table").text
    assert not (disk.cache_folder() / "shown").exists()


def test_the_last_ones_are_kept(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST", 2)
    for width in (80, 90, 100):
        scorecard(run, "table", width=width)
    assert len(kept()) == 2


def test_the_command_line_recalls_with_its_status(
    run: RunDirectory, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    next(run.path.rglob("*.parquet")).write_bytes(b"no records")
    command = ["scorecard", str(run.path)]
    first, said = main(command), capsys.readouterr()
    assert main(command) == first and capsys.readouterr() == said and made == ["country"]
    assert ".parquet" in said.err
    main([*command, "--no-cache"])
    assert len(made) == 2
    main([*command, "--trust-code", str(run.path)])
    assert len(made) == 3
