"""The run directory: nothing is lost, torn lines are owed again, and pandas reads the files."""

import errno
import json
import threading
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from harness.config import load_config
from harness.errors import UserError
from harness.records.append import RecordWriter, cut_torn_line
from harness.records.directory import RunDirectory
from harness.records.lines import read_jsonl
from harness.types import (
    CellEntry,
    FailureKind,
    Generation,
    Manifest,
    Message,
    Record,
    Score,
    ToolCall,
    Transcript,
    Usage,
)
from tests.config.test_config import GOOD, write

CELL = CellEntry(
    key="ab" * 32, model="m/1", suite="a b", adapter="x", protocol={}, metrics=(), samples=2, attempts=1
)


def record(sample: str, **changes: object) -> Record:
    call = ToolCall(id="1", name="pay", arguments={"to": "Zoë\u2028", "amount": 1.5, "nested": {"a": [1]}})
    reply = Generation(
        text="hi",
        raw="hi<end>",
        finish_reason="stop",
        prompt_tokens=3,
        completion_tokens=2,
        tool_calls=(call,),
    )
    whole = Record(
        cell=CELL.key,
        sample=sample,
        attempt=0,
        content_hash="c",
        clusters={"user_task": "u1"},
        labels={"harm": "financial"},
        transcript=Transcript(messages=(Message(role="user", content="q"),), generations=(reply,)),
        scores=(
            Score(metric="acc", value=1.0, answer="4"),
            Score(metric="ppl", value=None, operands=(-3.5, 2)),
        ),
        usage=Usage(engine_seconds=0.25, prompt_tokens=3, completion_tokens=2, requests=1),
        started=1.0,
        seconds=0.5,
    )
    return msgspec.structs.replace(whole, **changes)


def test_append_read_compact_read(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    records = [record("b"), record("a", scores=(), failure=FailureKind.TOOL_PARSE, failure_message="bad")]
    writer = RecordWriter(directory.records_path(CELL, "jsonl"))
    for one in records:
        writer.append(one)
    writer.close()
    assert directory.records(CELL) == [records[1], records[0]]
    directory.compact([CELL])
    assert not directory.records_path(CELL, "jsonl").exists()
    assert directory.records(CELL) == [records[1], records[0]]
    directory.compact([CELL])  # once more does nothing
    assert directory.records(CELL) == [records[1], records[0]]


def test_pandas_reads_both_forms(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    writer = RecordWriter(directory.records_path(CELL, "jsonl"))
    writer.append(record("a"))
    writer.close()
    lines = pd.read_json(directory.records_path(CELL, "jsonl"), lines=True)
    assert lines.loc[0, "scores"][0]["value"] == 1.0
    directory.compact([CELL])
    table = pd.read_parquet(directory.records_path(CELL, "parquet"))
    assert table.loc[0, "suite"] == "a b"
    assert table.loc[0, "scores"][0]["value"] == 1.0
    assert json.loads(table.loc[0, "transcript"])["messages"][0]["content"] == "q"
    assert pd.isna(table.loc[0, "failure"])


@pytest.mark.parametrize("keep", range(1, 40, 7))
def test_a_torn_last_line_is_owed_again(tmp_path: Path, keep: int) -> None:
    path = RunDirectory(tmp_path).records_path(CELL, "jsonl")
    writer = RecordWriter(path)
    writer.append(record("a"))
    writer.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:keep])
    assert [r.sample for r in read_jsonl(path)] == ["a"]
    writer = RecordWriter(path)
    writer.append(record("b"))
    writer.close()
    assert [r.sample for r in read_jsonl(path)] == ["a", "b"]


def test_cutting_works_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"whole\n" + b"x" * 200_000)
    cut_torn_line(path)
    assert path.read_bytes() == b"whole\n"
    path.write_bytes(b"x" * 200_000)
    cut_torn_line(path)
    assert path.read_bytes() == b""


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(msgspec.json.encode(record("a")) + b"\n" + b'{"cell": 3, "schema_version": 1}\n')
    with pytest.raises(UserError, match=r"r.jsonl:2: not a record"):
        list(read_jsonl(path))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"schema_version": 99}\n')
    with pytest.raises(UserError, match="schema version 99"):
        list(read_jsonl(path))


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    path = directory.records_path(CELL, "parquet")
    path.parent.mkdir()
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="cannot be read"):
        directory.records(CELL)


def test_record_files_stay_inside_the_directory(tmp_path: Path) -> None:
    hostile = msgspec.structs.replace(CELL, model="../../etc", suite="/passwd\0")
    path = RunDirectory(tmp_path).records_path(hostile, "jsonl")
    assert path.parent == tmp_path / "records"
    assert not path.name.startswith(".")


def keep(directory: RunDirectory, *records: Record) -> None:
    writer = RecordWriter(directory.records_path(CELL, "jsonl"))
    for one in records:
        writer.append(one)
    writer.close()


def test_a_config_that_measured_nothing_may_be_corrected(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    directory = RunDirectory(tmp_path / "out")
    directory.prepare(load_config(path, ["engine.args.base_url=htp://x"]))
    RecordWriter(directory.records_path(CELL, "jsonl")).close()
    directory.prepare(load_config(path, ["engine.args.base_url=http://x"]))
    assert directory.config().engine.args == {"base_url": "http://x"}


def test_a_config_that_no_run_left_is_not_overwritten(tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    own.write_text(GOOD)
    with pytest.raises(UserError, match="results of another config"):
        RunDirectory(tmp_path).prepare(load_config(own, ["sampling.top_p=0.9"]))
    assert own.read_text() == GOOD


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file .*: give another --out"):
        RunDirectory(tmp_path / "file").lock()


def test_a_changed_config_is_refused_naming_the_keys(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    directory = RunDirectory(tmp_path / "out")
    directory.prepare(load_config(path))
    keep(directory, record("a"))
    directory.prepare(load_config(path, ["engine.max_concurrency=3"]))
    with pytest.raises(UserError, match=r"differs in sampling\.top_p"):
        directory.prepare(load_config(path, ["sampling.top_p=0.9"]))


def test_two_processes_do_not_write_to_one_directory(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.lock(), pytest.raises(UserError, match="another process"):
        directory.lock()
    directory.lock().close()


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results"):
        RunDirectory(tmp_path).manifest()


def test_what_is_appended_while_the_disk_is_written_is_synced_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordWriter(RunDirectory(tmp_path).records_path(CELL, "jsonl"))
    writing, go_on, calls = threading.Event(), threading.Event(), []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        writing.set()
        assert go_on.wait(5)

    monkeypatch.setattr("harness.records.append.os.fsync", fsync)
    writer.append(record("a"))
    thread = threading.Thread(target=writer.sync)
    thread.start()
    assert writing.wait(5)
    writer.append(record("b"))  # does not wait for the disk
    go_on.set()
    thread.join()
    writer.close()
    assert len(calls) == 2
    assert [r.sample for r in read_jsonl(RunDirectory(tmp_path).records_path(CELL, "jsonl"))] == ["a", "b"]


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = RecordWriter(RunDirectory(tmp_path).records_path(CELL, "jsonl"))
    writer.append(record("a"))
    with monkeypatch.context() as patch:
        patch.setattr("harness.records.append.os.fsync", fsync)
        for _ in range(2):
            with pytest.raises(UserError, match=r"jsonl could not be forced onto the disk \(Input/output"):
                writer.sync()
    writer.close()


def test_a_changed_file_is_not_opened_again(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    writer = RecordWriter(directory.records_path(CELL, "jsonl"))
    writer.append(record("a"))
    writer.close()
    manifest = Manifest(
        name="n", config_digest="", harness_version="", created="", versions={}, hardware={}, models={},
        cells={CELL.key: CELL},
    )  # fmt: skip
    directory.write_manifest(manifest)
    directory.compact([CELL])
    path = directory.records_path(CELL, "parquet")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="was changed after it was complete"):
        directory.reopen(CELL)
    assert path.exists()


@pytest.mark.parametrize(
    "name", [".lock", ".manifest.json.tmp", "scorecard.md", "records", "records/a.jsonl"]
)
def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path, name: str) -> None:
    run, elsewhere = RunDirectory(tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    (run.path / name).parent.mkdir(parents=True)
    (run.path / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link that leads out of the folder"), run.lock():
        pass
    assert elsewhere.read_text() == "kept"


def test_a_link_to_the_folder_itself_and_links_within_it_are_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "a").write_text("")
    (tmp_path / "scratch" / "b").symlink_to("a")
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    RunDirectory(tmp_path / "run").lock().close()
    assert (tmp_path / "scratch" / ".lock").exists()


def test_the_name_of_a_cell_leads_nowhere_else(tmp_path: Path) -> None:
    entry = msgspec.structs.replace(CELL, key="/../../../etc", model="../../m", suite="..")
    path = RunDirectory(tmp_path).records_path(entry, "parquet")
    assert path.resolve().parent == tmp_path / "records"
