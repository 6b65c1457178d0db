"""Records as tables: one Parquet file a complete cell, which pandas reads without our code."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.disk import replacing
from harness.errors import UserError
from harness.records.sane import NOT_RECORDS, check_record, check_table, check_version
from harness.types import SCHEMA_VERSION, CellEntry, Record, Score, Transcript, Usage

if TYPE_CHECKING:
    import pyarrow as pa


_FLAT = ("cell", "sample", "attempt", "content_hash", "failure", "failure_message", "truncated")
"""Fields of a record that are columns as they are."""
_LATER = ("lost_tokens",)
"""Counts that files of earlier versions do not have."""
_USAGE = Usage.__struct_fields__


GROUP_BYTES, GROUP_ROWS = 16 << 20, 1 << 16
"""Of transcripts, and rows, that are in memory at once while records are written or read."""


def write_parquet(path: Path, cell: CellEntry, records: Iterable[Record]) -> None:
    """Write records as a table that pandas reads without our code.

    One row an attempt. Plain columns for what is counted; `clusters` and `labels` are maps, `scores` a list
    of structs, `transcript` JSON text.
    """
    with parquet_writer(path) as writer:
        for rows in _groups(to_row(cell, record) for record in records):
            writer.write_table(table_of(rows))


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row["transcript"])
        if size >= GROUP_BYTES or len(group) == GROUP_ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group


@contextmanager
def parquet_writer(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` of `record_schema`; the file is there whole or not at all."""
    import pyarrow.parquet as pq

    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, record_schema(), compression="zstd") as writer,
    ):
        yield writer


def to_table(cell: CellEntry, records: Iterable[Record]) -> "pa.Table":
    """Records as a table of `record_schema`."""
    return table_of([to_row(cell, record) for record in records])


def table_of(rows: list[dict[str, Any]]) -> "pa.Table":
    """Rows as a table of `record_schema`."""
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=record_schema())


def write_table(path: Path, table: "pa.Table") -> None:
    """Write a table of `record_schema` so that it is there whole or not at all."""
    with parquet_writer(path) as writer:
        writer.write_table(table)


def record_schema() -> "pa.Schema":
    """Columns of records on disk."""
    import pyarrow as pa

    text, real, whole = pa.string(), pa.float64(), pa.int64()
    score = pa.struct(
        [("metric", text), ("value", real), ("answer", text), ("reason", text), ("operands", text)]
    )
    return pa.schema(
        [
            ("schema_version", whole),
            ("model", text),
            ("suite", text),
            *((name, {"attempt": whole, "truncated": pa.bool_()}.get(name, text)) for name in _FLAT),
            *((name, whole) for name in _LATER),
            ("warnings", pa.list_(text)),
            ("scores", pa.list_(score)),
            *((name, real if name in ("engine_seconds", "joules") else whole) for name in _USAGE),
            ("started", real),
            ("seconds", real),
            ("clusters", pa.map_(text, text)),
            ("labels", pa.map_(text, text)),
            ("transcript", text),
        ]
    )


def to_row(cell: CellEntry, record: Record) -> dict[str, Any]:
    """A record as a row of `record_schema`."""
    return {
        "schema_version": record.schema_version,
        "model": cell.model,
        "suite": cell.suite,
        **{name: getattr(record, name) for name in (*_FLAT, *_LATER)},
        "warnings": list(record.warnings),
        "scores": [_scoreto_row(score) for score in record.scores],
        **msgspec.structs.asdict(record.usage),
        "started": record.started,
        "seconds": record.seconds,
        "clusters": sorted(record.clusters.items()),
        "labels": sorted(record.labels.items()),
        "transcript": msgspec.json.encode(record.transcript).decode(),
    }


def _scoreto_row(score: Score) -> dict[str, Any]:
    row = msgspec.structs.asdict(score)
    if score.operands is not None:
        row["operands"] = msgspec.json.encode(score.operands).decode()
    return row


def read_table(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """A file that `write_parquet` wrote, or some of its columns; UserError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns)
    except MemoryError:  # of Arrow's exceptions too, and no damage
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile` that is read in pieces; UserError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            yield file
    except MemoryError:  # of Arrow's exceptions too, and no damage
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error


def count_rows(path: Path) -> int:
    """How many records a file holds, by its footer. Raises UserError if it is damaged."""
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def in_order(path: Path) -> bool:
    """Whether the records of a file are in the order of sample and attempt, each there once."""
    import pyarrow.compute as pc

    table = read_table(path, ["sample", "attempt"])
    if len(table) < 2:
        return True
    sample, attempt = (table[name].combine_chunks() for name in ("sample", "attempt"))
    before, after = sample[:-1], sample[1:]
    later = pc.and_(pc.equal(before, after), pc.less(attempt[:-1], attempt[1:]))
    return bool(pc.all(pc.or_(pc.less(before, after), later)).as_py())


def read_parquet(path: Path) -> Iterator[Record]:
    """Records that `write_parquet` wrote, some megabytes at a time.

    Raises:
        UserError: the file is damaged or of another schema version.
    """
    first = 0
    with _parquet(path) as file:
        for group in range(file.num_row_groups):
            yield from _read_group(path, file, group, first)
            first += file.metadata.row_group(group).num_rows


def read_tables(path: Path) -> Iterator["pa.Table"]:
    """Tables of a file without transcripts, some thousand attempts each. Raises UserError at damage."""
    import pyarrow as pa

    with _parquet(path) as file:
        names = [name for name in file.schema_arrow.names if name != "transcript"]
        for batch in file.iter_batches(batch_size=GROUP_ROWS, columns=names):
            table = pa.Table.from_batches([batch])
            try:
                check_table(table, record_schema())
            except (ValueError, KeyError) as error:
                raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error
            _check_versions(path, table)
            yield table


def _read_group(path: Path, file: Any, group: int, first: int) -> Iterator[Record]:
    told = file.metadata.row_group(group)
    each = max(1, told.total_byte_size // max(1, told.num_rows))  # earlier versions wrote one large group
    rows = max(1, min(1024, GROUP_BYTES // each))
    for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
        yield from _from_batch(path, batch, first)
        first += len(batch)


def _from_batch(path: Path, batch: Any, first: int) -> Iterator[Record]:
    """The records of some rows, of which the first has so many before it; UserError if one is no record."""
    try:
        rows: Iterable[Any] = batch.to_pylist()
    except NOT_RECORDS:  # which row it is comes out below
        rows = (batch.slice(number, 1).to_pylist()[0] for number in range(len(batch)))
    each = iter(rows)
    for number in range(len(batch)):
        try:
            row = next(each)
            record = _from_row(path, row)
            check_record(record)
        except (*NOT_RECORDS, KeyError) as error:
            raise UserError(
                f"{path}, row {first + number + 1}: not a record ({error}); restore it from a copy"
            ) from error
        yield record


def read_sample(path: Path, sample: str) -> Iterator[Record]:
    """The records of one sample; of the groups of rows that have none of it nothing but the names is read."""
    import pyarrow.compute as pc

    with _parquet(path) as file:
        for group in range(file.num_row_groups):
            names = file.read_row_group(group, columns=["sample"])["sample"]
            found = pc.indices_nonzero(pc.equal(names, sample))
            if len(found):
                for batch in file.read_row_group(group).take(found).to_batches():
                    yield from _from_batch(path, batch, 0)


_LEFT_OUT = ("model", "suite", "cell", "content_hash", "failure_message", "started", "seconds", "transcript")
"""Columns that no statistic needs."""
_UNREAD = ("scores.list.element.answer", "scores.list.element.reason")


def read_columns(path: Path) -> "pa.Table":
    """What statistics need of a file that `write_parquet` wrote, text as dictionary codes.

    Raises:
        UserError: the file is damaged or of another schema version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = [file.schema.column(i).path for i in range(len(file.schema))]
        wanted = [name for name in names if name not in (*_LEFT_OUT, *_UNREAD)]
        texts = [name for name in wanted if name == "sample" or name.endswith((".metric", ".key", ".value"))]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            groups = [file.read_row_group(i, columns=wanted) for i in range(file.num_row_groups)]
        table = pa.concat_tables(groups)
        check_table(table, record_schema())
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error
    _check_versions(path, table)
    return table


def _check_versions(path: Path, table: "pa.Table") -> None:
    for version in table["schema_version"].unique().to_pylist():
        if version != SCHEMA_VERSION:
            check_version(path, msgspec.json.encode({"schema_version": version}))


def _from_row(path: Path, row: dict[str, Any]) -> Record:
    if row["schema_version"] != SCHEMA_VERSION:
        check_version(path, msgspec.json.encode({"schema_version": row["schema_version"]}))
    return msgspec.convert(
        {
            **{name: row[name] for name in (*_FLAT, "schema_version", "started", "seconds")},
            **{name: row.get(name) or 0 for name in _LATER},
            "warnings": row.get("warnings") or (),  # earlier files have none
            "scores": [_score_from_row(score) for score in row["scores"]],
            "usage": {name: row.get(name) for name in _USAGE},  # earlier files have no energy
            "clusters": dict(row["clusters"]),
            "labels": dict(row["labels"]),
            "transcript": msgspec.json.decode(row["transcript"], type=Transcript),
        },
        Record,
    )


def _score_from_row(row: dict[str, Any]) -> Score:
    operands = row["operands"] if row["operands"] is None else tuple(msgspec.json.decode(row["operands"]))
    return Score(**{**row, "operands": operands})
