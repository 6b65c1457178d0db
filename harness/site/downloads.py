"""The numbers of a site as files: Parquet, CSV, JSON, and checksums of everything."""

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.hostile import one_line
from harness.site.board import Board
from harness.types import Struct


class File(Struct):
    """A file that can be taken away."""

    path: str
    what: str
    bytes: int
    sha256: str


def number_rows(board: Board) -> Iterator[dict[str, Any]]:
    """A row for each number that counts."""
    for row in board.rows:
        for column in board.columns:
            number = row.numbers.get(column.id)
            if number is None:
                continue
            e, facts, rank = number.estimate, row.facts, row.ranks.get(column.id)
            yield {
                "model": row.model.name,
                "developer": facts.developer,
                "country": facts.country,
                "base_country": facts.base,
                "licence": facts.licence,
                "type": facts.kind,
                "total_params": facts.total,
                "active_params": facts.active,
                "released": facts.released,
                "suite": column.suite,
                "metric": column.metric.name,
                "headline": column.metric.headline,
                "higher_is_better": column.metric.higher_is_better,
                "column": column.id,
                "differs": ", ".join(f"{field}={value}" for field, value in column.differs),
                "value": e.value,
                "low": e.low,
                "high": e.high,
                "n": e.n,
                "missing": e.missing,
                "same_tasks_low": e.same_tasks.low if e.same_tasks else None,
                "same_tasks_high": e.same_tasks.high if e.same_tasks else None,
                "rank_best": rank[0] if rank else None,
                "rank_worst": rank[1] if rank else None,
                "ranked": rank[2] if rank else None,
                "method": e.method,
                "run": number.run.name,
                "measured": number.created,
                "harness": number.run.harness_version,
                "signer": number.run.signer,
                "scored_again": number.again[0],
                "attempts": number.again[1],
            }


def csv_text(rows: list[dict[str, Any]]) -> str:
    """CSV that a spreadsheet takes for no formula."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _harmless(value) for name, value in row.items()})
    return out.getvalue()


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    """The same as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, compression="zstd")
    return out.getvalue()


def json_bytes(rows: list[dict[str, Any]]) -> bytes:
    """The same as JSON."""
    return msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n"


def listed(file: Path, path: str, what: str) -> File:
    """A file of the site at a path, with its checksum."""
    content = file.read_bytes()
    return File(path=path, what=what, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
