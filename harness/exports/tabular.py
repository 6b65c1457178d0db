"""Plain tables: one row a score of an attempt. Parquet for programs, CSV that a spreadsheet may open.

A failed attempt has a row without a metric, and one for each metric that books it: these metrics have their
rule in the column `booking`, and are no rates of this harness. What an imported model cost is not known, and
left out.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.directory import RunDirectory
from harness.suites.restore import Restored
from harness.types import CellEntry, Metric, ModelEntry, Usage

if TYPE_CHECKING:
    import pyarrow as pa

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for the beginning of a formula (OWASP, CSV Injection), full-width signs too."""

COLUMNS: dict[str, str] = {
    "model": "string",
    "developer": "string",
    "country": "string",
    "suite": "string",
    "sample": "string",
    "attempt": "int64",
    "metric": "string",
    "value": "double",
    "higher_is_better": "bool",
    "booking": "string",
    "answer": "string",
    "failure": "string",
    "truncated": "bool",
    "engine_seconds": "double",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "cached_tokens": "int64",
    "reasoning_tokens": "int64",
    "requests": "int64",
    "clusters": "string",
    "labels": "string",
}
"""Column -> type. A failed attempt has one row without metric and value."""


def write_csv(run: Restored, out: Path) -> list[Path]:
    """Write `scores.csv`. Text that a spreadsheet would run gets a quote in front."""
    path = out / "scores.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for table in tables(run.directory):
            writer.writerows(zip(*(_cells(column) for column in table.columns), strict=True))
    return [path]


def write_parquet(run: Restored, out: Path) -> list[Path]:
    """Write `scores.parquet`, some thousand attempts at a time."""
    import pyarrow.parquet as pq

    path = out / "scores.parquet"
    with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
        for table in tables(run.directory):
            writer.write_table(table)
    return [path]


def schema() -> "pa.Schema":
    """Of the tables: `COLUMNS`."""
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])


def tables(directory: RunDirectory) -> "Iterator[pa.Table]":
    """Every score of every attempt of a run, as tables of `COLUMNS`."""
    manifest = directory.manifest()
    for cell in manifest.cells.values():
        for table in directory.each_table(cell):
            yield _scores(manifest.models[cell.model], cell, table)


def _scores(model: ModelEntry, cell: CellEntry, attempts: "pa.Table") -> "pa.Table":
    """A row for every score that counts and, without metric, for every failed attempt."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    scores = attempts["scores"].combine_chunks()
    entries = pc.list_flatten(scores)
    owner = pc.list_parent_indices(scores).to_numpy()
    failed = attempts["failure"].is_valid().to_numpy()
    metric = entries.field("metric").dictionary_encode()
    names = metric.dictionary.to_pylist()
    booked = {metric.name for metric in cell.metrics if metric.booking}
    books = np.asarray([name in booked for name in names], dtype=bool)
    counted = np.flatnonzero(~failed[owner] | books[metric.indices.to_numpy()])
    rows = np.concatenate([np.flatnonzero(failed), owner[counted]])
    entry = np.concatenate([np.full(failed.sum(), -1), counted])
    order = np.lexsort((entry, rows))
    rows, entry = pa.array(rows[order]), pa.array(entry[order], mask=entry[order] < 0)
    known = {metric.name: metric for metric in cell.metrics}
    code = metric.indices.take(entry)

    def of_metric(tell: Callable[[Metric], Any], kind: "pa.DataType") -> "pa.Array":
        cells = [tell(known[name]) if name in known else None for name in names]
        return pa.array(cells, kind).take(code)

    columns = {
        **{name: pa.repeat(pa.scalar(value), len(rows)) for name, value in _head(model, cell).items()},
        **{name: column.take(rows) for name, column in _attempts(model, attempts).items()},
        "metric": metric.dictionary.take(code),
        "value": entries.field("value").take(entry),
        "higher_is_better": of_metric(lambda metric: metric.higher_is_better, pa.bool_()),
        "booking": of_metric(lambda metric: metric.booking or None, pa.string()),
        "answer": entries.field("answer").take(entry),
    }
    return pa.table({name: columns[name] for name in COLUMNS}, schema=schema())


def _head(model: ModelEntry, cell: CellEntry) -> dict[str, str]:
    return {
        "model": cell.model,
        "developer": model.origin.developer,
        "country": model.origin.country,
        "suite": cell.suite,
    }


def _attempts(model: ModelEntry, attempts: "pa.Table") -> "dict[str, pa.Array]":
    """What the rows of an attempt share."""
    import pyarrow as pa

    cost = [name for name in COLUMNS if name in Usage.__struct_fields__]
    unknown = {name for name, value in model.known(Usage()).items() if model.imported and value is None}
    unknown |= {name for name in cost if name not in attempts.column_names}  # earlier files lack some
    columns = {
        name: attempts[name].combine_chunks()
        for name in ("sample", "attempt", "failure", "truncated", *cost)
        if name not in unknown
    }
    nothing = {name: pa.nulls(len(attempts), pa.type_for_alias(COLUMNS[name])) for name in unknown & {*cost}}
    pairs = {name: _pairs(attempts[name].combine_chunks()) for name in ("clusters", "labels")}
    return {**columns, **nothing, **pairs}


def _pairs(maps: "pa.MapArray") -> "pa.Array":
    """`key=value;key=value` of each map, whose keys are in their order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pairs = pc.binary_join_element_wise(maps.keys, maps.items, "=")
    return pc.binary_join(pa.ListArray.from_arrays(maps.offsets, pairs), ";")


def _cells(column: "pa.ChunkedArray") -> list[Any]:
    """A column for a spreadsheet: each of its texts is looked at once."""
    import pyarrow as pa

    if not pa.types.is_string(column.type):
        return list(column.to_pylist())
    texts = column.combine_chunks().dictionary_encode()
    safe = pa.array([defuse(text) for text in texts.dictionary.to_pylist()], pa.string())
    return list(safe.take(texts.indices).to_pylist())


def defuse(value: Any) -> Any:
    """A cell that no spreadsheet runs: numbers as they are, text that begins like a formula quoted."""
    if not isinstance(value, str):
        return value
    clean = value.replace("\0", "")
    return f"'{clean}" if clean.startswith(_FORMULA) or clean.lstrip().startswith(_FORMULA) else clean
