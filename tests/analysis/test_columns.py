"""Records as columns: whatever way they lie on disk, the same columns."""

import random
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.analysis.columns import Factor, pool_factors, read_attempts
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.table import read_parquet, record_schema, to_table
from harness.reports.document import make_document
from harness.reports.render import render
from harness.types import FailureKind, Manifest, Score
from tests.analysis.synthetic import cell, record, synthetic_run, tables


def written(path: Path, form: str, seed: int) -> tuple[Manifest, RunDirectory]:
    """The synthetic run on disk, its records shuffled."""
    manifest, records = synthetic_run()
    directory = RunDirectory(path)
    directory.add(manifest)
    for key, entry in manifest.cells.items():
        shuffled = random.Random(seed).sample(records[key], len(records[key]))
        if form == "jsonl":
            writer = directory.writer(entry)
            for one in shuffled:
                writer.append(one)
            writer.close()
        else:
            target = directory.complete_path(entry)
            pq.write_table(to_table(entry, shuffled), target, row_group_size=7)
    return manifest, directory


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("seed", [0, 1])
def test_neither_form_nor_order_on_disk_matters(tmp_path: Path, form: str, seed: int) -> None:
    manifest, directory = written(tmp_path, form, seed)
    _, records = synthetic_run()
    expected = render(make_document(manifest, tables(records)), "json")
    assert render(make_document(manifest, directory.columns), "json") == expected


def test_attempts_are_sorted_with_all_that_belongs_to_them() -> None:
    records = [
        record("k", f"s{i % 3}", {"x": float(i)}, attempt=i // 3, clusters={"task": f"t{i % 3 % 2}"})
        for i in range(6)
    ]
    records[4] = msgspec.structs.replace(records[4], labels={"harm": "phishing"})
    entry = cell("aster-moe", "s", (), 3, 2)
    found = read_attempts(entry, to_table(entry, list(reversed(records))))
    assert found.attempt.tolist() == [0, 1] * 3
    assert found.sample.levels.take(pa.array(found.sample.codes)).to_pylist() == [
        "s0", "s0", "s1", "s1", "s2", "s2",
    ]  # fmt: skip
    assert found.scores["x"].values.tolist() == [0, 3, 1, 4, 2, 5]
    assert found.clusters["task"].codes.tolist() == [0, 0, 1, 1, 0, 0]
    assert found.of_kind(None, {"harm": "phishing"}).tolist() == [False] * 3 + [True] + [False] * 2
    assert not found.of_kind(None, {"harm": "malware"}).any()
    assert not found.of_kind(None, {"size": "large"}).any()
    assert found.of_kind(("task",), {}).all()
    assert not found.of_kind(("task", "other"), {}).any()
    assert not found.of_kind((), {}).any()


@pytest.mark.parametrize("disorder", [False, True])
def test_two_scores_of_one_metric_are_refused(disorder: bool) -> None:
    twice = tuple(Score(metric="x", value=value) for value in (1.0, 0.0))
    entry = cell("aster-moe", "s", (), 3)
    records = [record("k", f"s{i}", {"x": 1.0, "y": 0.0}) for i in range(3)]
    records[1] = msgspec.structs.replace(records[1], scores=twice)
    said = rf"^aster-moe--s--{entry.key[:12]}: attempt 0 of sample 's1' has two scores of metric 'x'"
    with pytest.raises(UserError, match=said):
        read_attempts(entry, to_table(entry, records[::-1] if disorder else records))
    failed = msgspec.structs.replace(records[1], failure=FailureKind.SCORER_ERROR)
    found = read_attempts(entry, to_table(entry, [records[0], failed, records[2]]))
    assert found.scores["x"].rows.tolist() == [0, 2], "of a failed attempt no score counts"


def test_pooled_factors_share_equal_levels() -> None:
    a = Factor(np.array([0, 1, 1], dtype=np.int32), pa.array(["x", "y"]))
    b = Factor(np.array([0, 1, -1], dtype=np.int32), pa.array(["y", "z"]))
    pooled = pool_factors([a, b])
    assert pooled.codes.tolist() == [0, 1, 1, 1, 2, -1]
    sample = Factor(np.array([0, 1, 2], dtype=np.int32), pa.array(["s0", "s1", "s2"]))
    assert pool_factors([b.or_own(sample)]).codes.tolist() == [0, 1, 4]


def test_files_of_another_schema_version_are_refused(tmp_path: Path) -> None:
    manifest, directory = written(tmp_path, "parquet", 0)
    entry = next(iter(manifest.cells.values()))
    path = directory.complete_path(entry)
    table = pq.read_table(path)
    newer = table.set_column(0, "schema_version", pa.array([99] * table.num_rows))
    pq.write_table(newer.cast(record_schema()), path)
    with pytest.raises(UserError, match="schema version 99"):
        directory.columns(entry)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    manifest, directory = written(tmp_path, "parquet", 0)
    entry = next(iter(manifest.cells.values()))
    directory.complete_path(entry).write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="cannot be read"):
        directory.columns(entry)


def test_what_scoring_warned_of_is_counted_by_text_and_earlier_files_say_nothing(tmp_path: Path) -> None:
    entry = cell("aster-moe", "s", (), 4, 1)
    said = (("a",), ("b", "a"), ("b",), ("b",))
    told = [
        msgspec.structs.replace(record(entry.key, f"s{i}", {"x": 1.0}), warnings=texts)
        for i, texts in enumerate(said)
    ]
    table = to_table(entry, told)
    assert list(read_attempts(entry, table).warnings.items()) == [("b", 3), ("a", 2)]
    earlier = table.drop_columns(["warnings"])
    assert read_attempts(entry, earlier).warnings == {}
    pq.write_table(table, tmp_path / "now.parquet")
    pq.write_table(earlier, tmp_path / "then.parquet")
    assert tuple(r.warnings for r in read_parquet(tmp_path / "now.parquet")) == said
    assert {r.warnings for r in read_parquet(tmp_path / "then.parquet")} == {()}


def test_files_that_do_not_say_what_contexts_lost_lost_nothing(tmp_path: Path) -> None:
    entry = cell("aster-moe", "s", (), 2, 1)
    told = [
        msgspec.structs.replace(record(entry.key, f"s{i}", {"x": 1.0}), lost_tokens=i * 5) for i in range(2)
    ]
    table = to_table(entry, told)
    assert read_attempts(entry, table).shortened.tolist() == [False, True]
    earlier = table.drop_columns(["lost_tokens"])
    assert read_attempts(entry, earlier).shortened.tolist() == [False, False]
    pq.write_table(table, tmp_path / "now.parquet")
    pq.write_table(earlier, tmp_path / "then.parquet")
    assert [r.lost_tokens for r in read_parquet(tmp_path / "now.parquet")] == [0, 5]
    assert [r.lost_tokens for r in read_parquet(tmp_path / "then.parquet")] == [0, 0]
