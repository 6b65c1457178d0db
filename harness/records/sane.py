"""Records that are data and cannot be true: a count below 0, a time that is no number, a rate of 7.

Whoever made them, one sentence says which; nothing is computed from them.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from harness.disk import check_regular
from harness.errors import UserError
from harness.types import LARGEST_COUNT, SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

COUNTS = ("attempt", "prompt_tokens", "completion_tokens", "cached_tokens", "requests")
AMOUNTS = ("engine_seconds", "joules", "reasoning_tokens", "started", "seconds")
UNTOLD = ("prompt_tokens", "completion_tokens", "cached_tokens", "joules", "reasoning_tokens", "tool_calls")
"""What may not be known, which is not 0."""
NOT_RECORDS = (msgspec.DecodeError, ValueError, TypeError, RecursionError)
"""What reading raises at data that are no records; bytes that are no UTF-8 are a ValueError."""


class _Versioned(msgspec.Struct):
    schema_version: int = 0


def check_version(path: Path, line: bytes) -> None:
    """Raises UserError if JSON was written by a newer schema than this version knows."""
    try:
        version = msgspec.json.decode(line, type=_Versioned).schema_version
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); restore the file from a copy") from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this harness reads {SCHEMA_VERSION}: "
            "use the version of the harness that wrote it"
        )


def check_record(record: Record) -> None:
    """Raises ValueError, naming the field, for a record that cannot be."""
    usage = record.usage
    counts = (
        record.attempt,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.requests,
    )
    amounts = (
        usage.engine_seconds,
        usage.joules,
        usage.reasoning_tokens,
        record.started,
        record.seconds,
    )
    named = zip((*COUNTS, *AMOUNTS), (*counts, *amounts), strict=True)
    for name, value in named:
        if value is not None and not 0 <= value <= LARGEST_COUNT:
            raise ValueError(f"{name} is {value}, expected a number from 0 to 2**40")
    for score in record.scores:
        if score.value is not None and not math.isfinite(score.value):
            raise ValueError(f"the score of {score.metric} is {score.value}, which is not a number")


def check_table(table: "pa.Table | pa.RecordBatch", expected: "pa.Schema") -> None:
    """The same of the records of a table.

    Args:
        table: some columns of records; text may be dictionary codes.
        expected: the types that these have.

    Raises:
        ValueError: naming the column, and the row from 1.
    """
    import pyarrow as pa

    for name in ("sample", "failure", "truncated", "scores", "clusters", "labels", *COUNTS, "engine_seconds"):
        if name not in table.schema.names:
            raise ValueError(f"there is no column {name}")
    for field in table.schema:
        kind, right = field.type, expected.field(field.name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if kind != right and kind.id != right.id:
            raise ValueError(f"column {field.name} is of type {field.type}, expected {right}")
    table.validate(full=True)
    for name in (*COUNTS, *AMOUNTS, "tool_calls"):
        if name in table.schema.names:
            _check_amounts(name, table[name])
    for name in ("truncated", "sample"):
        if table[name].null_count:
            _check_all(table[name].is_valid(), name, table[name])
    _check_scores(table["scores"])


def _check_scores(scores: Any) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    scores = scores.combine_chunks() if isinstance(scores, pa.ChunkedArray) else scores
    values = scores.flatten()
    told = values.field("value")
    if not told.null_count and np.isfinite(told.to_numpy()).all():  # as nearly always
        return
    finite = pc.fill_null(pc.is_finite(values.field("value")), True)
    if (at := pc.index(finite, False).as_py()) >= 0:
        value, row = values.field("value")[at].as_py(), pc.list_parent_indices(scores)[at].as_py()
        raise ValueError(f"row {row + 1}: a score is {value}, which is not a number")


def _check_amounts(name: str, column: Any) -> None:
    import pyarrow.compute as pc

    if name in UNTOLD and column.null_count == len(column):
        return
    if not column.null_count:  # as nearly always, and then in a tenth of the time
        values = column.to_numpy()
        if (values >= 0).all() and (values <= LARGEST_COUNT).all():
            return
    right = pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, LARGEST_COUNT))
    _check_all(right, name, column, nullable=name in UNTOLD)


def _check_all(right: Any, name: str, column: Any, *, nullable: bool = False) -> None:
    import pyarrow.compute as pc

    at = pc.index(pc.fill_null(right, nullable), False).as_py()
    if at >= 0:
        raise ValueError(f"row {at + 1}: {name} is {column[at].as_py()}, which it cannot be")


def read_file(path: Path, kind: type[T]) -> T:
    """A JSON file of a run directory.

    Raises:
        UserError: it is not there, not one that this version can read, or not what is expected.
    """
    check_regular(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); restore it from a copy") from error
    check_version(path, data)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}; restore the file from a copy") from error
