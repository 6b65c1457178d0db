"""Records that cannot be are said in one sentence, with file and place; what else there is, is shown."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.cli import main
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.lines import Lines, add_checksum
from harness.records.table import read_columns, read_parquet, read_table
from tests.analysis.synthetic import synthetic_run
from tests.runs import change_cell, change_lines, make_run

Line = dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest, records = synthetic_run()
    return make_run(tmp_path_factory.mktemp("finished"), manifest, records).path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(finished, tmp_path / "run")))


def damaged(run: RunDirectory, form: str) -> Path:
    cell = next(c for c in run.manifest().cells.values() if (c.model, c.suite) == ("aster-moe", "questions"))
    if form == "parquet":
        run.compact([cell])
        return run.complete_path(cell)
    (path,) = run.appended_paths(cell)
    return path


def put(name: str, value: Any) -> Callable[[Line], Line]:
    return lambda line: {**line, name: value}


def usage(name: str, value: Any) -> Callable[[Line], Line]:
    return lambda line: {**line, "usage": {**line["usage"], name: value}}


def score(value: Any) -> Callable[[Line], Line]:
    return lambda line: {**line, "scores": [{**line["scores"][0], "value": value}]}


INSANE = {
    "a rate of 7": (score(7.0), "the score 7 of metric 'accuracy', which is 0 or 1"),
    "half a rate": (score(0.5), "the score 0.5 of metric 'accuracy'"),
    "below 0": (score(-1.0), "the score -1 of metric 'accuracy'"),
    "too many tokens": (usage("prompt_tokens", 2**63), "prompt_tokens"),
    "more than a machine's number": (usage("completion_tokens", 2**70), "completion_tokens"),
    "negative tokens": (usage("cached_tokens", -1), "cached_tokens is -1"),
    "negative time": (usage("engine_seconds", -0.5), "engine_seconds is -0.5"),
    "a negative attempt": (put("attempt", -1), "attempt is -1"),
    "a time that is text": (put("seconds", "long"), "seconds"),
    "no sample": (put("sample", None), "sample"),
}


@pytest.mark.parametrize("change", [change for change, _ in INSANE.values()], ids=INSANE)
def test_a_line_that_cannot_be_is_said_and_the_rest_is_shown(
    run: RunDirectory, change: Callable[[Line], Line], capsys: pytest.CaptureFixture[str]
) -> None:
    said = next(said for one, said in INSANE.values() if one is change)
    path = damaged(run, "jsonl")
    change_lines(path, lambda i, line: json.dumps(change(json.loads(line))).encode() if i == 1 else line)
    _shown_without_it(run, capsys, said, ":2: " if "metric" not in said else "attempt 0 of sample 'q1'")


def test_bytes_that_are_no_text_are_said(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    path = damaged(run, "jsonl")
    change_lines(path, lambda i, line: line.replace(b"q1", b"q\xff") if i == 1 else line)
    _shown_without_it(run, capsys, "", f"{path}:2: ")


def test_nesting_without_an_end_is_said(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    path = damaged(run, "jsonl")
    path.write_bytes(b'{"transcript": ' + b"[" * 200_000 + b"\n" + path.read_bytes())
    with pytest.raises(UserError, match=r"not JSON \(maximum recursion depth exceeded"):
        Lines(path, checked=False).places()


def _column(name: str, value: Any, kind: pa.DataType | None = None) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[1] = value
        found = pa.array(values, kind or table.schema.field(name).type)
        return table.set_column(table.column_names.index(name), name, found)

    return change


def _score(value: float) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        rows = table["scores"].to_pylist()
        rows[1][0]["value"] = value
        found = pa.array(rows, table.schema.field("scores").type)
        return table.set_column(table.column_names.index("scores"), "scores", found)

    return change


def _no_text(table: pa.Table) -> pa.Table:
    values = [text.encode() for text in table["sample"].to_pylist()]
    values[1] = b"q\xff"
    found = pa.array(values, pa.binary()).view(pa.string())
    return table.set_column(table.column_names.index("sample"), "sample", found)


INSANE_ROWS = {
    "a rate of 7": (_score(7.0), "the score 7 of metric 'accuracy'"),
    "no number": (_score(float("nan")), "row 2: a score is nan"),
    "without end": (_score(float("inf")), "row 2: a score is inf"),
    "too many tokens": (_column("prompt_tokens", 2**62), "row 2: prompt_tokens"),
    "negative tokens": (_column("completion_tokens", -5), "row 2: completion_tokens is -5"),
    "no attempt": (_column("attempt", None), "row 2: attempt is None"),
    "seconds without end": (_column("engine_seconds", float("inf")), "row 2: engine_seconds is inf"),
    "another type": (_column("requests", "1", pa.string()), "requests"),
    "no column": (lambda table: table.drop_columns(["clusters"]), "there is no column clusters"),
    "no text": (_no_text, "UTF8"),
}


@pytest.mark.parametrize("change", [change for change, _ in INSANE_ROWS.values()], ids=INSANE_ROWS)
def test_a_row_that_cannot_be_is_said_and_the_rest_is_shown(
    run: RunDirectory, change: Callable[[pa.Table], pa.Table], capsys: pytest.CaptureFixture[str]
) -> None:
    said = next(said for one, said in INSANE_ROWS.values() if one is change)
    path = damaged(run, "parquet")
    table = pq.read_table(path)
    if said == "requests":
        table = table.set_column(
            table.column_names.index("requests"), "requests", pa.array(["1"] * len(table), pa.string())
        )
    else:
        table = change(table)
    pq.write_table(table, path)
    _shown_without_it(run, capsys, said, path.parent.name if "metric" in said else str(path))


def _shown_without_it(run: RunDirectory, capsys: pytest.CaptureFixture[str], *said: str) -> None:
    capsys.readouterr()
    assert main(["scorecard", str(run.path), "--format", "json"]) == 3
    out, err = capsys.readouterr()
    found = {card["model"]: card["metrics"] for card in json.loads(out)["models"]}
    assert "questions/accuracy" in found["aster-dense"] and "agent/targeted_asr" in found["aster-moe"]
    assert found["aster-moe"].get("questions/accuracy", {"value": None})["value"] is None
    assert err.count("\n") == 1
    assert all(part in err for part in said)
    for command in (["claims"], ["export", "--format", "csv", "--out", str(run.path.parent / "csv")]):
        assert main([command[0], str(run.path), *command[1:]]) in (0, 2, 3)
        assert capsys.readouterr().err.count("\n") <= 1


def test_where_nothing_can_be_read_there_is_nothing_to_show(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in run.path.rglob("*.jsonl"):
        path.write_bytes(add_checksum(b'{"a": 1}'))
    assert main(["scorecard", str(run.path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_manifest_of_impossible_counts_is_said(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    change_cell(run, run.manifest().cells["aster-moe-questions"], samples=-3)
    _shown_without_it(run, capsys, "the manifest says -3 samples")


@pytest.mark.parametrize(
    "content",
    [
        b"<html>not found</html>",
        b"PAR1\xff\xff\xff\x7fPAR1",
        b"PAR1" + b"\x15\x00" * 1000 + (2000).to_bytes(4, "little") + b"PAR1",
    ],
    ids=["a page", "a footer larger than the file", "a footer of nothing"],
)
@pytest.mark.parametrize("read", [read_columns, read_table, lambda path: [*read_parquet(path)]])
def test_a_file_that_is_no_table_is_one_sentence(
    tmp_path: Path, read: Callable[[Path], object], content: bytes
) -> None:
    (path := tmp_path / "records.parquet").write_bytes(content)
    with pytest.raises(
        UserError, match=r"^\S*records\.parquet cannot be read \([^\n]*\); restore it"
    ) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_parts_of_lists_that_another_arrow_named_are_read(run: RunDirectory, tmp_path: Path) -> None:
    """A column asked for by the name of its part was a KeyError: arrow#1207, fastparquet#35."""
    path = damaged(run, "parquet")
    table, named = read_table(path), tmp_path / "named.parquet"
    place, scores = table.schema.get_field_index("scores"), table["scores"]
    kind = pa.list_(pa.field("item", scores.type.value_type))
    pq.write_table(
        table.set_column(place, "scores", scores.cast(kind)), named, use_compliant_nested_type=False
    )
    assert "scores.list.item.metric" in str(pq.read_metadata(named).schema.column(15))

    def told(rows: list[Line]) -> list[Line]:
        return [{**row, "scores": [(one["metric"], one["value"]) for one in row["scores"]]} for row in rows]

    assert told(read_columns(named).to_pylist()) == told(read_columns(path).to_pylist())


def test_texts_are_compressed_and_what_is_counted_is_not(run: RunDirectory) -> None:
    group = pq.read_metadata(damaged(run, "parquet")).row_group(0)
    columns = {one.path_in_schema: one.compression for one in map(group.column, range(group.num_columns))}
    assert columns["transcript"] == columns["scores.list.element.reason"] == "ZSTD"
    assert columns["sample"] == columns["scores.list.element.value"] == "UNCOMPRESSED"
