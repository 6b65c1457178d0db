"""A cell may be larger than the memory: whatever reads or writes transcripts holds some megabytes of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness import memory
from harness.cli import main
from harness.errors import Status
from harness.memory import within_memory
from harness.records.directory import RunDirectory
from harness.types import CellEntry, Record
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]  # of inspect_ai's and AgentDojo's imports

ATTEMPTS, LONG = 8, 250_000
"""Of each of the 100 samples, and characters of each: 400 MB as Python's text, since one letter is wide."""
ROOM = 256 << 20
"""Bytes that a command may take beyond what this process has."""


def grown(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        for attempt in range(ATTEMPTS):
            said = f"{record.sample}/{attempt}" + "ж" * LONG
            replies = tuple(msgspec.structs.replace(r, raw=said) for r in record.transcript.generations)
            transcript = msgspec.structs.replace(record.transcript, generations=replies)
            yield msgspec.structs.replace(record, attempt=attempt, transcript=transcript)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The demo's arithmetic of one model, each attempt eight times over with a long reply, one line each."""
    demo = RunDirectory(ROOT / "results" / "demo")
    found = demo.manifest()
    cell = next(c for c in found.cells.values() if c.suite == "planted_arithmetic")
    directory = RunDirectory(tmp_path_factory.mktemp("large") / "run")
    directory.path.mkdir()
    shutil.copy(demo.config_path, directory.config_path)
    own = msgspec.structs.replace(cell, attempts=ATTEMPTS)
    models = {cell.model: found.models[cell.model]}
    directory.add(msgspec.structs.replace(found, cells={cell.key: own}, models=models, groups=()))
    writer = directory.writer(own)
    for record in grown(demo.each_record(cell)):
        writer.append(record)
    writer.close()
    assert sum(path.stat().st_size for path in directory.appended_paths(own)) > ROOM
    return directory


def only(directory: RunDirectory) -> CellEntry:
    (cell,) = directory.manifest().cells.values()
    return cell


def test_a_cell_is_compacted_some_megabytes_at_a_time(large: RunDirectory) -> None:
    with within_memory(ROOM):
        large.compact([only(large)])
    assert large.complete_path(only(large)).exists()


@pytest.mark.parametrize(
    "command",
    [
        ["scorecard", "DIR"],
        ["show", "DIR", "--pair", "planted_arithmetic/7"],
        ["verify", "DIR"],
        ["replay", "DIR"],
        *(["export", "DIR", "--format", form] for form in ("csv", "lm-eval", "every-eval-ever", "inspect")),
    ],
    ids=" ".join,
)
def test_what_reads_transcripts_holds_some_megabytes(
    large: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    if "inspect" in command:
        pytest.importorskip("inspect_ai")
    large.compact([only(large)])
    arguments = [str(large.path) if word == "DIR" else word for word in command]
    out = ["--out", str(tmp_path / "large")] if command[0] == "export" else []
    # Libraries are read before: what is measured is the data.
    main(["show", *arguments[1:2], "--pair", "planted_arithmetic/7"])
    if command[0] == "export":
        main(["export", str(ROOT / "results" / "demo"), *command[2:], "--out", str(tmp_path / "demo")])
    monkeypatch.setattr(memory, "free_bytes", lambda: ROOM)
    status = main([*arguments, *out])
    said = capsys.readouterr()
    assert "memory" not in said.err
    assert status == Status.DONE, said.err
