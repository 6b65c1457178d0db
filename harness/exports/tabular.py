"""Plain tables: one row a score of an attempt. Parquet for programs, CSV that a spreadsheet may open.

A failed attempt has a row without a metric, and one for each metric that books it: these metrics have their
rule in the column `booking`, and are no rates of this harness. What an imported model cost is not known, and
left out.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.store import RunDirectory
from harness.types import CellEntry, Manifest, ModelEntry, Record

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
    "requests": "int64",
    "clusters": "string",
    "labels": "string",
}
"""Column -> type. A failed attempt has one row without metric and value."""


def write_csv(directory: RunDirectory, out: Path) -> list[Path]:
    """Write `scores.csv`. Text that a spreadsheet would run gets a quote in front."""
    path = out / "scores.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows(directory):
            writer.writerow([defuse(row[name]) for name in COLUMNS])
    return [path]


def write_parquet(directory: RunDirectory, out: Path) -> list[Path]:
    """Write `scores.parquet`, cell by cell."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    path = out / "scores.parquet"
    manifest = directory.whole_manifest()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for cell in manifest.cells.values():
            found = list(_cell_rows(directory, manifest, cell))
            writer.write_table(pa.Table.from_pylist(found, schema=schema))
    return [path]


def rows(directory: RunDirectory) -> Iterator[dict[str, Any]]:
    """Every score of every attempt of a run."""
    manifest = directory.whole_manifest()
    for cell in manifest.cells.values():
        yield from _cell_rows(directory, manifest, cell)


def _cell_rows(directory: RunDirectory, manifest: Manifest, cell: CellEntry) -> Iterator[dict[str, Any]]:
    metrics = {metric.name: metric for metric in cell.metrics}
    model = manifest.models[cell.model]
    head = {
        "model": cell.model,
        "developer": model.origin.developer,
        "country": model.origin.country,
        "suite": cell.suite,
    }
    for record in directory.records(cell):
        shared = {**head, **_attempt(model, record)}
        if record.failure:
            yield {**dict.fromkeys(COLUMNS), **shared}
        for score in cell.counted(record):
            metric = metrics.get(score.metric)
            yield {
                **shared,
                "metric": score.metric,
                "value": score.value,
                "higher_is_better": metric and metric.higher_is_better,
                "booking": metric and (metric.booking or None),
                "answer": score.answer,
            }


def _attempt(model: ModelEntry, record: Record) -> dict[str, Any]:
    return {
        "sample": record.sample,
        "attempt": record.attempt,
        "failure": record.failure.value if record.failure else None,
        "truncated": record.truncated,
        **model.known(record.usage),
        "clusters": _pairs(record.clusters),
        "labels": _pairs(record.labels),
    }


def _pairs(values: dict[str, str]) -> str:
    return ";".join(f"{key}={value}" for key, value in sorted(values.items()))


def defuse(value: Any) -> Any:
    """A cell that no spreadsheet runs: numbers as they are, text that begins like a formula quoted."""
    if not isinstance(value, str):
        return value
    clean = value.replace("\0", "")
    return f"'{clean}" if clean.startswith(_FORMULA) or clean.lstrip().startswith(_FORMULA) else clean
