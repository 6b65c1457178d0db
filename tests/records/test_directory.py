"""The run directory: nothing is lost, torn lines are owed again, and pandas reads the files."""

import errno
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from harness.config import load_config
from harness.disk import replace
from harness.errors import UserError
from harness.records import seal
from harness.records.append import RecordWriter, cut_torn_line
from harness.records.directory import RunDirectory
from harness.records.lines import Lines
from harness.records.load import CellRecords
from harness.records.schema import EngineFile
from harness.records.seal import checksum
from harness.records.table import parquet_writer, table_of, to_row
from harness.types import (
    CellEntry,
    EngineFacts,
    FailureKind,
    Generation,
    Manifest,
    Message,
    ModelEntry,
    Origin,
    Record,
    Score,
    ToolCall,
    Transcript,
    Usage,
)
from tests.config.test_config import GOOD, write
from tests.runs import append, change_cell, make_run

CELL = CellEntry(
    key="ab" * 32, model="m/1", suite="a b", adapter="x", protocol={}, metrics=(), samples=2, attempts=1
)


MANIFEST = Manifest(
    name="n", config_digest="", harness_version="", created="", versions={}, hardware={},
    models={CELL.model: ModelEntry(name=CELL.model, origin=Origin(), architecture=None)},
    cells={CELL.key: CELL},
)  # fmt: skip


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
    writer = directory.writer(CELL)
    for one in records:
        writer.append(one)
    writer.close()
    assert directory.records(CELL) == [records[1], records[0]]
    directory.compact([CELL])
    assert directory.appended_paths(CELL) == []
    assert directory.records(CELL) == [records[1], records[0]]
    directory.compact([CELL])  # once more does nothing
    assert directory.records(CELL) == [records[1], records[0]]


def test_one_sample_is_read_without_the_transcripts_of_others(tmp_path: Path) -> None:
    """Names are in no order, and the transcripts of other groups of rows are none, which would be noticed."""
    directory = RunDirectory(tmp_path)
    directory.add(MANIFEST)
    wanted = [record("m", attempt=0), record("m", attempt=1, scores=(), failure=FailureKind.TOOL_PARSE)]
    with parquet_writer(directory.complete_path(CELL)) as writer:
        for group in ([record("a"), record("c")], [record("z"), *wanted, record("d")], [record("n")]):
            rows = [to_row(CELL, one) for one in group]
            found = [
                row if "m" in {one.sample for one in group} else {**row, "transcript": "{"} for row in rows
            ]
            writer.write_table(table_of(found))
    assert directory.attempts_at(CELL, "m") == wanted
    assert directory.attempts_at(CELL, "b") == []
    assert directory.samples(CELL) == {"a", "c", "d", "m", "n", "z"}
    with pytest.raises(UserError, match="row 1: not a record"):
        directory.attempts_at(CELL, "a")


def test_a_folder_may_be_called_as_a_column(tmp_path: Path) -> None:
    """Data sets of many files have columns in the names of folders; ours have not."""
    directory = RunDirectory(tmp_path / "sample=3" / "attempt=x")
    directory.add(MANIFEST)
    append(directory, CELL, [record("a"), record("b")])
    directory.compact([CELL])
    assert directory.records(CELL) == [record("a"), record("b")]
    assert directory.samples(CELL) == {"a", "b"}
    assert set(directory.contents(CELL)) == {("a", 0), ("b", 0)}


def test_failures_are_counted_while_a_cell_is_run_and_after(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.add(MANIFEST)
    writer = directory.writer(CELL)
    for sample, failure in (("a", None), ("b", FailureKind.TRUNCATED), ("c", FailureKind.ENGINE_ERROR)):
        writer.append(record(sample, failure=failure, scores=()))
    writer.append(record("d", failure=FailureKind.ENGINE_ERROR, scores=()))
    writer.close()
    expected = {None: 1, "engine_error": 2, "truncated": 1}
    assert directory.kinds(CELL) == expected
    directory.compact([CELL])
    assert directory.kinds(CELL) == expected


def test_pandas_reads_both_forms(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    writer = directory.writer(CELL)
    writer.append(record("a"))
    writer.close()
    (path,) = directory.appended_paths(CELL)
    lines = pd.read_json(path, lines=True)
    assert lines.loc[0, "scores"][0]["value"] == 1.0
    directory.compact([CELL])
    table = pd.read_parquet(directory.complete_path(CELL))
    assert table.loc[0, "suite"] == "a b"
    assert table.loc[0, "scores"][0]["value"] == 1.0
    assert json.loads(table.loc[0, "transcript"])["messages"][0]["content"] == "q"
    assert pd.isna(table.loc[0, "failure"])


@pytest.mark.parametrize("keep", range(1, 40, 7))
def test_a_torn_last_line_is_owed_again(tmp_path: Path, keep: int) -> None:
    path = append(RunDirectory(tmp_path), CELL, [record("a")])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:keep])
    assert names(tmp_path) == [("a", 0)]
    writer = RecordWriter(path)  # the same process goes on with its file
    writer.append(record("b"))
    writer.close()
    assert names(tmp_path) == [("a", 0), ("b", 0)]


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
        Lines(path, checked=False).places()


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"schema_version": 99}\n')
    with pytest.raises(UserError, match="schema version 99"):
        Lines(path, checked=False).places()


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    path = directory.complete_path(CELL)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="cannot be read"):
        directory.records(CELL)


def test_record_files_stay_inside_the_directory(tmp_path: Path) -> None:
    hostile = msgspec.structs.replace(CELL, model="../../etc", suite="/passwd\0")
    path = RunDirectory(tmp_path).complete_path(hostile).parent
    assert path.parent == tmp_path / "cells"
    assert not path.name.startswith(".")


def names(path: Path) -> list[tuple[str, int]]:
    return [(r.sample, r.attempt) for r in RunDirectory(path).each_record(CELL)]


def test_a_config_that_measured_nothing_may_be_corrected(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    directory = RunDirectory(tmp_path / "out")
    directory.prepare(load_config(path, ["engine.args.base_url=htp://x"]))
    directory.writer(CELL).close()
    directory.prepare(load_config(path, ["engine.args.base_url=http://x"]))
    assert directory.config().engine.args == {"base_url": "http://x"}


def test_a_config_that_no_run_left_is_not_overwritten(tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    own.write_text(GOOD)
    with pytest.raises(UserError, match="no run left it"):
        RunDirectory(tmp_path).prepare(load_config(own, ["sampling.top_p=0.9"]))
    assert own.read_text() == GOOD


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file .*: give another --out"):
        RunDirectory(tmp_path / "file").lock()


def test_two_processes_do_not_write_to_one_directory(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.lock(), pytest.raises(UserError, match="another process"):
        directory.lock()
    directory.lock().close()
    with directory.lock() as held:  # a process that was forked meanwhile may have the file open still
        other = subprocess.Popen(["sleep", "60"], pass_fds=[held.fileno()])
    directory.lock().close()
    other.kill()
    other.wait()


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results"):
        RunDirectory(tmp_path).manifest()


def test_what_is_appended_while_the_disk_is_written_is_synced_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RunDirectory(tmp_path).writer(CELL)
    writing, go_on, calls = threading.Event(), threading.Event(), []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        writing.set()
        assert go_on.wait(300)

    monkeypatch.setattr("harness.records.append.os.fsync", fsync)
    writer.append(record("a"))
    thread = threading.Thread(target=writer.sync)
    thread.start()
    assert writing.wait(300)
    writer.append(record("b"))  # does not wait for the disk
    go_on.set()
    thread.join()
    writer.close()
    assert len(calls) == 2
    assert names(tmp_path) == [("a", 0), ("b", 0)]


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = RunDirectory(tmp_path).writer(CELL)
    writer.append(record("a"))
    with monkeypatch.context() as patch:
        patch.setattr("harness.records.append.os.fsync", fsync)
        for _ in range(2):
            with pytest.raises(UserError, match=r"jsonl could not be forced onto the disk \(Input/output"):
                writer.sync()
    writer.close()


def test_a_changed_file_is_not_opened_again(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    writer = directory.writer(CELL)
    writer.append(record("a"))
    writer.close()
    directory.add(MANIFEST)
    directory.compact([CELL])
    path = directory.complete_path(CELL)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="was changed after it was complete"):
        directory.reopen(CELL)
    assert path.exists()


@pytest.mark.parametrize(
    "name", [".lock", ".run.json.1.tmp", "scorecard.md", "cells", "cells/a", "cells/a/a.jsonl"]
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
    path = RunDirectory(tmp_path).complete_path(entry)
    assert path.resolve().parent.parent == tmp_path / "cells"


def test_every_flipped_bit_of_a_line_leaves_its_attempt_owed(tmp_path: Path) -> None:
    whole = append(RunDirectory(tmp_path), CELL, [record("a"), record("b")]).read_bytes()
    (path,) = RunDirectory(tmp_path).appended_paths(CELL)
    first = whole.index(b"\n") + 1
    for bit in range(first * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        directory = RunDirectory(tmp_path)
        gone = [("b", 0)] if bit // 8 < first - 1 else []  # without its end the line takes the next with it
        assert list(directory.finished(CELL)) == gone
        assert directory.damaged(CELL)[path][0] == 1
    path.write_bytes(whole)
    assert names(tmp_path) == [("a", 0), ("b", 0)]


def test_what_two_wrote_of_one_attempt_counts_once_whoever_reads(tmp_path: Path) -> None:
    good = record("a", started=5.0, content_hash="good")
    later = record("a", started=7.0, content_hash="later")
    failed = record("a", started=9.0, failure=FailureKind.ENGINE_ERROR, content_hash="failed", scores=())
    for number, order in enumerate(permutations([good, later, failed])):
        directory = RunDirectory(tmp_path / str(number))
        for one in order:
            append(RunDirectory(directory.path), CELL, [one])  # a process each
        assert [r.content_hash for r in directory.each_record(CELL)] == ["later"]
        assert directory.finished(CELL) == {("a", 0): "later"}
        assert directory.count(CELL) == 1
        directory.compact([CELL])
        assert [r.content_hash for r in directory.each_record(CELL)] == ["later"]


def test_whoever_compacts_second_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process compacts a cell, and removes what it was made of, while another reads the same files."""
    one, other = RunDirectory(tmp_path), RunDirectory(tmp_path)
    append(one, CELL, [record("a")])
    append(other, CELL, [record("b")])
    real = CellRecords.each_record

    def overtaken(self: CellRecords) -> Iterator[Record]:
        monkeypatch.setattr(CellRecords, "each_record", real)
        first, *rest = real(self)
        yield first
        other.compact([CELL])
        yield from rest[1:]  # what was not read yet is gone

    monkeypatch.setattr(CellRecords, "each_record", overtaken)
    one.compact([CELL])
    assert names(tmp_path) == [("a", 0), ("b", 0)]
    assert one.appended_paths(CELL) == []
    left = sorted(path.name for path in (tmp_path / "cells").glob("*/*"))
    assert left == ["checksums.json", "records.parquet"]


@pytest.mark.parametrize("moment", [1, 2, None], ids=["before the rename", "before the seal", "afterwards"])
def test_what_is_sealed_is_what_lies_there_whoever_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int | None
) -> None:
    """Two processes compact one cell with other records of an attempt; one stops before its file is there."""
    one, late = make_run(tmp_path, MANIFEST, {CELL.key: [record("a")]}), RunDirectory(tmp_path)
    written, go, real = threading.Event(), threading.Event(), os.fsync

    def compact_late() -> None:
        late.compact([CELL])
        late.seal()

    thread = threading.Thread(target=compact_late)
    reached: list[int] = []

    def fsync(file: int) -> None:
        if threading.current_thread() is thread:
            written.set()
            assert go.wait(300)
        else:
            reached.append(file)
            if len(reached) == moment:
                go.set()
                thread.join(300)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    thread.start()
    assert written.wait(300)
    append(one, CELL, [record("a", started=5.0, content_hash="later")])
    reached.clear()
    one.compact([CELL])
    one.seal()
    go.set()
    thread.join(300)
    sums = one.checksums(one.manifest())
    assert {name.rpartition("/")[2] for name in sums} >= {"records.parquet", "checksums.json"}
    assert {name: checksum(tmp_path / name) for name in sums} == sums
    assert names(tmp_path) == [("a", 0)]
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_engine_that_comes_after_the_seal_is_no_part_of_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineFile(facts=EngineFacts(name="x", version="1"), hardware={}, versions={}, started=1.0)
    one, late = make_run(tmp_path, MANIFEST, {CELL.key: [record("a")]}), RunDirectory(tmp_path)
    one.add_engine(CELL, engine)
    real = seal.write

    def overtaken(path: Path, value: msgspec.Struct) -> None:
        monkeypatch.setattr(seal, "write", real)
        one.compact([CELL])
        one.seal()
        real(path, value)

    monkeypatch.setattr(seal, "write", overtaken)
    late.add_engine(CELL, engine)
    late.compact([CELL])
    late.seal()
    sums = one.checksums(one.manifest())
    assert {name: checksum(tmp_path / name) for name in sums} == sums
    assert len(one.engines(CELL)) == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EACCES, errno.EMLINK, errno.EXDEV])
def test_a_file_system_without_links_keeps_what_is_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, "no links")

    monkeypatch.setattr(os, "link", refused)
    for content in (b"first", b"second"):
        replace(tmp_path / "file", content, once=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"first")]


def test_a_reader_goes_on_where_records_are_compacted_under_it(tmp_path: Path) -> None:
    for sample in "abc":
        append(RunDirectory(tmp_path), CELL, [record(sample)])
    each = RunDirectory(tmp_path).each_record(CELL)
    found = [next(each).sample]
    RunDirectory(tmp_path).compact([CELL])
    assert found + [r.sample for r in each] == ["a", "b", "c"]


def test_each_line_is_decoded_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    path = append(directory, CELL, [record("a")])
    lines = Lines(path, checked=True)
    first = lines.places()[0][1]
    append(directory, CELL, [record("b")])
    assert [key.sample for _, key in lines.places()] == ["a", "b"]
    assert lines.places()[0][1] is first
    path.unlink()
    assert lines.places() == []


def test_a_cell_is_found_by_its_key_whatever_its_suite_is_called(tmp_path: Path) -> None:
    directory = make_run(tmp_path, MANIFEST, {CELL.key: [record("a")]})
    other = msgspec.structs.replace(CELL, suite="another name")
    asked = msgspec.structs.replace(MANIFEST, cells={CELL.key: other})
    RunDirectory(tmp_path).ask(asked, keep=lambda cell, model: False)
    found = RunDirectory(tmp_path).manifest()
    assert [cell.suite for cell in found.cells.values()] == ["another name"]
    assert RunDirectory(tmp_path).count(other) == 1
    assert len(directory.layout.folders()) == 1


def test_what_a_plan_says_otherwise_of_a_model_holds_for_every_cell(tmp_path: Path) -> None:
    directory = make_run(tmp_path, MANIFEST, {CELL.key: [record("a"), record("b")]})
    directory.compact([CELL])
    directory.seal()
    model = ModelEntry(name=CELL.model, origin=Origin(country="XA"), architecture=None)
    directory.ask(
        msgspec.structs.replace(MANIFEST, models={CELL.model: model}), keep=lambda cell, model: True
    )
    found = directory.manifest()
    assert found.models[CELL.model].origin.country == "XA"
    sums = directory.checksums(found)
    assert all(checksum(tmp_path / name) == value for name, value in sums.items() if "/checksums" not in name)


def test_a_cell_that_is_asked_for_and_gone_is_said(tmp_path: Path) -> None:
    directory = make_run(tmp_path, MANIFEST, {CELL.key: [record("a")]})
    shutil.rmtree(directory.layout.folder(CELL))
    with pytest.raises(UserError, match=r"run\.json asks for the cell 'abababababab', which has no folder"):
        RunDirectory(tmp_path).manifest()
    RunDirectory(tmp_path).ask(MANIFEST, keep=lambda cell, model: True)
    assert RunDirectory(tmp_path).count(CELL) == 0


def test_a_cell_in_the_folder_of_another_is_said(tmp_path: Path) -> None:
    directory = make_run(tmp_path, MANIFEST, {CELL.key: []})
    change_cell(directory, CELL, key="abababababab" + "0" * 52)
    with pytest.raises(UserError, match=r"cell\.json is of another cell than its folder"):
        RunDirectory(tmp_path).manifest()


def test_engines_that_differ_in_their_layout_may_share_a_cell_and_others_not(tmp_path: Path) -> None:
    def engine(**details: str) -> EngineFile:
        facts = EngineFacts(name="vllm", version="1", details=details)
        return EngineFile(facts=facts, hardware={}, versions={}, started=1.0)

    make_run(tmp_path, MANIFEST, {CELL.key: []})
    first = RunDirectory(tmp_path)
    first.add_engine(CELL, engine(dtype="bfloat16", tensor_parallel_size="1"))
    append(first, CELL, [record("a")])
    RunDirectory(tmp_path).add_engine(CELL, engine(dtype="bfloat16", tensor_parallel_size="2"))
    with pytest.raises(UserError, match="dtype was bfloat16 and is float32"):
        RunDirectory(tmp_path).add_engine(CELL, engine(dtype="float32", tensor_parallel_size="1"))
    (model,) = RunDirectory(tmp_path).manifest().models.values()
    assert model.engine and model.engine.details["dtype"] == "bfloat16"
    assert model.engine.details["tensor_parallel_size"] == "1 and 2"
    on_gpus = {
        **model.engine.details,
        "device": "H100",
        "pipeline_parallel_size": "1",
        "data_parallel_size": "1",
    }
    assert msgspec.structs.replace(model.engine, details=on_gpus).gpus is None
