"""Records as tables: one Parquet file a complete cell, which pandas reads without our code."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.disk import check_regular, replacing
from harness.errors import UserError
from harness.hostile import one_line
from harness.records.sane import NOT_RECORDS, check_record, check_table, check_version
from harness.types import SCHEMA_VERSION, CellEntry, FailureKind, Record, Score, Transcript, Usage

if TYPE_CHECKING:
    import pyarrow as pa

NOT_ROWS = (*NOT_RECORDS, KeyError, AttributeError)
"""What reading raises at rows that are no records: arrays of another type lack what a list or struct has."""


_FLAT = ("cell", "sample", "attempt", "content_hash", "failure", "failure_message", "truncated")
"""Fields of a record that are columns as they are."""
_FILLED = (
    "cell", "sample", "attempt", "content_hash", "truncated", "started", "seconds", "transcript",
)  # fmt: skip
"""Columns of fields that every record has."""
_LATER = ("lost_tokens", "thoughts_cut", "thoughts_ended")
"""Counts that files of earlier versions do not have."""
_USAGE = Usage.__struct_fields__


# Nothing is read in threads of Arrow's: where memory is out, what one of them throws ends the process.
GROUP_BYTES, GROUP_ROWS = 16 << 20, 1 << 16
"""Of transcripts, and rows, that are in memory at once while records are written or read."""

BATCH_ROWS = 1024
"""That are records at once, however small."""


def write_parquet(path: Path, cell: CellEntry, records: Iterable[Record], *, once: bool = False) -> None:
    """Write records as a table that pandas reads without our code.

    One row an attempt. Plain columns for what is counted (`tool_calls` in the transcript); `clusters` and
    `labels` are maps, `scores` a list of structs, `transcript` JSON text.

    once: see `disk.replacing`.
    """
    with parquet_writer(path, once=once) as writer:
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
def parquet_writer(path: Path, *, once: bool = False) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` of `record_schema`; the file is there whole or not at all.

    once: see `disk.replacing`.
    """
    import pyarrow.parquet as pq

    with (
        replacing(path, once=once) as temporary,
        pq.ParquetWriter(temporary, record_schema(), compression=dict.fromkeys(_PACKED, "zstd")) as writer,
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
            *((name, whole) for name in (*_LATER, "tool_calls")),
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
        "tool_calls": _tool_calls(record.transcript),
        "warnings": list(record.warnings),
        "scores": [_scoreto_row(score) for score in record.scores],
        **msgspec.structs.asdict(record.usage),
        "started": record.started,
        "seconds": record.seconds,
        "clusters": sorted(record.clusters.items()),
        "labels": sorted(record.labels.items()),
        "transcript": msgspec.json.encode(record.transcript).decode(),
    }


def bare_row(cell: CellEntry, record: Record) -> dict[str, Any]:
    """The same without the transcript, which takes most of the room."""
    row = to_row(cell, msgspec.structs.replace(record, transcript=Transcript()))
    return {**row, "tool_calls": _tool_calls(record.transcript)}


def _tool_calls(transcript: Transcript) -> int:
    """How many calls of tools a model made; where no replies were kept, as others tell its conversation."""
    said = transcript.generations or transcript.messages
    return sum(len(one.tool_calls) for one in said)


def _scoreto_row(score: Score) -> dict[str, Any]:
    row = msgspec.structs.asdict(score)
    if score.operands is not None:
        row["operands"] = msgspec.json.encode(score.operands).decode()
    return row


def read_table(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """A file that `write_parquet` wrote, or some of its columns; UserError if it is damaged."""
    with _parquet(path) as file:
        table: pa.Table = file.read(columns=columns, use_threads=False)
        return table


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile` that is read in pieces; UserError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_regular(path)
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            yield file
    except MemoryError:  # of Arrow's exceptions too, and no damage
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({one_line(str(error))}); restore it from a copy") from error


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
        for batch in file.iter_batches(batch_size=GROUP_ROWS, columns=names, use_threads=False):
            table = pa.Table.from_batches([batch])
            try:
                check_table(table, record_schema())
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"{path} cannot be read ({one_line(str(error))}); restore it from a copy"
                ) from error
            _check_versions(path, table)
            yield table


def _read_group(path: Path, file: Any, group: int, first: int) -> Iterator[Record]:
    told = file.metadata.row_group(group)
    each = max(1, told.total_byte_size // max(1, told.num_rows))  # earlier versions wrote one large group
    rows = max(1, min(BATCH_ROWS, GROUP_BYTES // each))
    for batch in file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False):
        yield from _from_batch(path, batch, first)
        first += len(batch)


def _from_batch(path: Path, batch: "pa.RecordBatch", first: int) -> Iterator[Record]:
    """The records of some rows, of which the first has so many before it; UserError if one is no record."""
    try:
        check_table(batch, record_schema())
        records = _to_records(path, batch)
    except NOT_ROWS:  # which row it is comes out below
        yield from _one_by_one(path, batch, first)
    else:
        yield from records


def _one_by_one(path: Path, batch: "pa.RecordBatch", first: int) -> Iterator[Record]:
    for number in range(len(batch)):
        try:
            (record,) = _to_records(path, batch.slice(number, 1))
            record = msgspec.convert(msgspec.to_builtins(record), Record)
            check_record(record)
        except NOT_ROWS as error:
            raise UserError(
                f"{path}, row {first + number + 1}: not a record ({error}); restore it from a copy"
            ) from error
        yield record


def read_sample(path: Path, sample: str) -> Iterator[Record]:
    """The records of one sample; of groups of rows that cannot have it nothing is read but the footer.

    Raises:
        UserError: as `read_parquet`.
    """
    with _parquet(path) as file:
        for group in range(file.num_row_groups):
            if not _may_have(file.metadata.row_group(group), sample):
                continue
            table = file.read_row_group(group, columns=["sample"], use_threads=False)
            places = [row for row, name in enumerate(table.to_pydict().get("sample", ())) if name == sample]
            whole = file.read_row_group(group, use_threads=False) if places else table
            for row in places:
                for batch in whole.slice(row, 1).to_batches():
                    yield from _one_by_one(path, batch, row)


def _may_have(group: Any, sample: str) -> bool:
    """Whether a sample may be in a group of rows, by the smallest and the largest name in it."""
    told = next(
        (c.statistics for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "sample"),
        None,
    )
    try:
        return told is None or not told.has_min_max or bool(told.min <= sample <= told.max)
    except (ValueError, TypeError):  # no text: what is wrong comes out where the rows are read
        return True


_LEFT_OUT = ("model", "suite", "cell", "content_hash", "failure_message", "started", "seconds", "transcript")
"""Columns that no statistic needs."""
_UNREAD = ("scores.list.element.answer", "scores.list.element.reason")
_PACKED = (*_LEFT_OUT, *_UNREAD, "scores.list.element.operands")
"""Columns that are compressed. The others are small, and to unpack them takes as long as to read them."""
_CODED = (
    "sample",
    "scores.list.element.metric",
    *(f"{name}.key_value.{part}" for name in ("clusters", "labels") for part in ("key", "value")),
)
"""Text that is read as dictionary codes, as the writer's Arrow calls it."""


def read_columns(path: Path) -> "pa.Table":
    """What statistics need of a file that `write_parquet` wrote, text as dictionary codes.

    Raises:
        UserError: the file is damaged or of another schema version.
    """
    import pyarrow as pa

    check_regular(path)
    try:
        with pa.OSFile(str(path)) as source, _coded(source) as file:
            schema = file.metadata.schema
            names = [schema.column(i).path for i in range(len(schema))]
            wanted = [name for name in names if name not in (*_LEFT_OUT, *_UNREAD)]
            groups = [
                file.read_row_group(i, columns=wanted, use_threads=False) for i in range(file.num_row_groups)
            ]
        table = pa.concat_tables(groups) if len(groups) != 1 else groups[0]
        check_table(table, record_schema())
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({one_line(str(error))}); restore it from a copy") from error
    _check_versions(path, table)
    return table


def _coded(source: Any) -> Any:
    """A `pyarrow.parquet.ParquetFile`, which gives `_CODED` as codes."""
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(source, read_dictionary=_CODED)
    except KeyError:  # other versions of Arrow call the parts of lists and maps otherwise
        return pq.ParquetFile(source)


def _check_versions(path: Path, table: "pa.Table | pa.RecordBatch") -> None:
    for version in table["schema_version"].unique().to_pylist():
        if version != SCHEMA_VERSION:
            check_version(path, msgspec.json.encode({"schema_version": version}))


def _to_records(path: Path, batch: "pa.RecordBatch") -> list[Record]:
    """Rows as records, a column after the other; raises one of `NOT_RECORDS` or KeyError for what is none."""
    _check_versions(path, batch)
    for name in (*_FILLED, "scores", "clusters", "labels"):
        if batch[name].null_count:
            raise ValueError(f"{name} is missing")
    names = batch.schema.names
    if "warnings" in names and batch["warnings"].flatten().null_count:
        raise ValueError("a warning has no text")
    flat = [batch[name].to_pylist() for name in _FILLED]
    later = [batch[name].to_pylist() if name in names else [0] * len(batch) for name in _LATER]
    warned = batch["warnings"].to_pylist() if "warnings" in names else [None] * len(batch)
    failures = [None if text is None else FailureKind(text) for text in batch["failure"].to_pylist()]
    decode = msgspec.json.Decoder(Transcript).decode
    return [
        Record(
            cell=cell,
            sample=sample,
            attempt=attempt,
            content_hash=content_hash,
            truncated=truncated,
            started=started,
            seconds=seconds,
            failure=failure,
            failure_message=message,
            lost_tokens=lost or 0,
            thoughts_cut=cut or 0,
            thoughts_ended=ended or 0,
            warnings=tuple(warnings or ()),
            usage=usage,
            scores=scores,
            clusters=clusters,
            labels=labels,
            transcript=decode(transcript),
        )
        for (
            cell, sample, attempt, content_hash, truncated, started, seconds, transcript,
            failure, message, lost, cut, ended, warnings, usage, scores, clusters, labels,
        ) in zip(
            *flat,
            failures,
            batch["failure_message"].to_pylist(),
            *later,
            warned,
            _to_usages(batch),
            _to_scores(batch["scores"]),
            _to_dicts(batch["clusters"]),
            _to_dicts(batch["labels"]),
            strict=True,
        )
    ]  # fmt: skip


def _to_usages(batch: "pa.RecordBatch") -> Iterator[Usage]:
    """What each row cost."""
    names = batch.schema.names
    columns = [batch[name].to_pylist() if name in names else [None] * len(batch) for name in _USAGE]
    return (
        Usage(
            engine_seconds=busy,
            prompt_tokens=read,
            completion_tokens=written,
            cached_tokens=cached,
            reasoning_tokens=thought,
            requests=requests,
            joules=joules,
        )
        for busy, read, written, cached, thought, requests, joules in zip(*columns, strict=True)
    )


def _to_scores(rows: "pa.ListArray") -> Iterator[tuple[Score, ...]]:
    """The scores of each row."""
    decoder = msgspec.json.Decoder(tuple[Any, ...])
    entries = rows.flatten()
    columns = [entries.field(name) for name in Score.__struct_fields__]
    if columns[0].null_count:
        raise ValueError("a score is of no metric")
    scores = [
        Score(
            metric=metric,
            value=value,
            answer=answer,
            reason=reason,
            operands=None if operands is None else decoder.decode(operands),
        )
        for metric, value, answer, reason, operands in zip(*(c.to_pylist() for c in columns), strict=True)
    ]
    return (tuple(scores[start:end]) for start, end in _spans(rows))


def _to_dicts(rows: "pa.MapArray") -> Iterator[dict[str, str]]:
    """The map of each row."""
    start, end = (rows.offsets[at].as_py() for at in (0, len(rows)))
    keys, items = (entries.slice(start, end - start) for entries in (rows.keys, rows.items))
    if keys.null_count or items.null_count:
        raise ValueError("a cluster or a label has no value")
    pairs = list(zip(keys.to_pylist(), items.to_pylist(), strict=True))
    return (dict(pairs[start:end]) for start, end in _spans(rows))


def _spans(rows: "pa.ListArray | pa.MapArray") -> Iterator[tuple[int, int]]:
    """From where to where the entries of each row stand among those of all."""
    places = rows.offsets.to_pylist()
    return ((start - places[0], end - places[0]) for start, end in pairwise(places))
