"""The finished attempts of a cell as columns, in the order of sample and attempt."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.errors import UserError
from harness.records.layout import cell_name
from harness.types import CellEntry, FailureKind, Usage

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, eq=False)
class Factor:
    """The level of each of n attempts."""

    codes: Codes
    """Shape (n,): index into `levels`, -1 for an attempt that has none."""
    levels: pa.StringArray

    def take(self, rows: Rows) -> "Factor":
        """The levels of some attempts."""
        return Factor(self.codes[rows], self.levels)

    def or_own(self, sample: "Factor") -> "Factor":
        """Attempts without a level get one that only the attempts of their sample have."""
        if (self.codes >= 0).all():
            return self
        own = pc.binary_join_element_wise("", sample.levels, "\0")
        codes = np.where(self.codes >= 0, self.codes, sample.codes + np.int32(len(self.levels)))
        return Factor(codes, pa.concat_arrays([self.levels, own]))

    def none(self) -> "Factor":
        """A factor that none of these attempts has."""
        return Factor(np.full_like(self.codes, -1), self.levels.slice(0, 0))


def pool_factors(factors: Sequence[Factor]) -> Factor:
    """The attempts of several cells, one after the other; equal levels are one level."""
    levels = factors[0].levels
    if all(factor.levels.equals(levels) for factor in factors[1:]):  # as where models met the same samples
        return Factor(np.concatenate([factor.codes for factor in factors]), levels)
    codes = [pa.array(factor.codes, mask=factor.codes < 0) for factor in factors]
    return _encode([pa.DictionaryArray.from_arrays(c, f.levels) for c, f in zip(codes, factors, strict=True)])


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one metric, of the attempts that have one; of failed ones if the metric books them."""

    rows: Rows
    """Shape (m,), rising: which attempts."""
    values: Floats
    """Shape (m,), NaN where not measured."""
    operands: pa.Array
    """Shape (m,), JSON text or null."""


@dataclass(frozen=True, eq=False)
class Attempts:
    """n finished attempts of a cell."""

    sample: Factor
    """Levels are in their order."""
    attempt: NDArray[np.int64]
    failed: Mask
    failures: dict[str, int]
    """Failure kind -> attempts."""
    unparsed: Mask
    """Which failed since a tool call could not be read."""
    truncated: int
    warnings: dict[str, int]
    """What was warned of as attempts were scored -> how many of them, most of them first."""
    clusters: dict[str, Factor]
    labels: dict[str, Factor]
    scores: dict[str, Scored]
    usage: Usage
    seconds: Floats
    """Shape (n,): engine seconds of each."""
    tokens: Floats | None
    """Shape (n,): read and written in each; None where that is not known of all."""
    tool_calls: Floats | None
    """Shape (n,): made in each; None where that is not known of all."""
    cut: Mask
    """Which had a reply that hit its token budget."""
    shortened: Mask
    """Which were shown a context that had lost its beginning."""
    thoughts_cut: int = 0
    """Replies that were cut off in mid-thought."""
    thoughts_ended: int = 0
    """Replies whose thought came to the end of its budget."""

    @property
    def n(self) -> int:
        """Attempts."""
        return self.failed.size

    def of_kind(self, factors: Sequence[str] | None, labels: Mapping[str, str]) -> Mask:
        """Which attempts have exactly these clustering factors (None: any) and these labels."""
        mask = np.ones(self.n, dtype=bool)
        if factors is not None:
            for name in {*factors, *self.clusters}:
                mask &= self._has_factor(name) == (name in factors)
        for name, value in labels.items():
            mask &= self._has_label(name, value)
        return mask

    def _has_factor(self, name: str) -> Mask:
        has: Mask = self.clusters[name].codes >= 0 if name in self.clusters else np.zeros(self.n, dtype=bool)
        return has

    def _has_label(self, name: str, value: str) -> Mask:
        if name not in self.labels:
            return np.zeros(self.n, dtype=bool)
        factor = self.labels[name]
        has: Mask = (factor.codes == pc.index(factor.levels, value).as_py()) & (factor.codes >= 0)
        return has


def read_attempts(cell: CellEntry, table: pa.Table) -> Attempts:
    """Columns of records, sorted: what follows does not depend on the order on disk.

    Args:
        cell: whose records they are.
        table: as from `RunDirectory.columns`.

    Raises:
        UserError: an attempt is recorded twice, or has two scores of one metric.
    """
    sample = _sorted_levels(_encode(table["sample"].chunks))
    attempt = table["attempt"].to_numpy()
    order = _order(cell, sample, attempt)
    failure = _encode(table["failure"].chunks).take(order)
    failed = failure.codes >= 0
    counts = np.bincount(failure.codes[failed], minlength=len(failure.levels))
    unparsed = pc.equal(failure.levels, FailureKind.TOOL_PARSE.value).to_numpy(zero_copy_only=False)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    try:
        booked = {metric.name for metric in cell.metrics if metric.booking}
        scores = _scores(table["scores"].chunks, place, failed, booked)
    except Impossible as error:
        row = order[error.row]
        raise UserError(
            f"{cell_name(cell)}: attempt {attempt[row]} of sample "
            f"{sample.levels[sample.codes[row]].as_py()!r} has {error}: restore the file from a copy, or "
            "delete it to have the cell measured again"
        ) from error
    return Attempts(
        sample=sample.take(order),
        attempt=attempt[order],
        failed=failed,
        failures=dict(sorted(zip(failure.levels.to_pylist(), counts.tolist(), strict=True))),
        unparsed=np.append(unparsed, False)[failure.codes],  # -1 is none
        truncated=pc.sum(table["truncated"]).as_py() or 0,
        warnings=_warnings(table),
        clusters=_maps(table["clusters"].chunks, place),
        labels=_maps(table["labels"].chunks, place),
        scores=scores,
        usage=_usage(table),
        seconds=table["engine_seconds"].to_numpy()[order],
        tokens=_known(table, ("prompt_tokens", "completion_tokens"), order),
        tool_calls=_known(table, ("tool_calls",), order),
        cut=table["truncated"].to_numpy()[order],
        shortened=_counted(table, "lost_tokens")[order] > 0,
        thoughts_cut=int(_counted(table, "thoughts_cut").sum()),
        thoughts_ended=int(_counted(table, "thoughts_ended").sum()),
    )


def impossible(cell: CellEntry, attempts: Attempts) -> dict[str, str]:
    """Metric -> a sentence about a score of it that nobody can have measured, such as a rate of 7."""
    reasons = {}
    for metric in cell.metrics:
        scored = attempts.scores.get(metric.name)
        if scored is None or metric.kind == "corpus":
            continue
        values = scored.values
        low, high = metric.bounds or (-math.inf, math.inf)
        right = (values == 0) | (values == 1) if metric.kind == "rate" else (low <= values) & (values <= high)
        wrong = np.flatnonzero(~right & ~np.isnan(values))
        if wrong.size:
            row = scored.rows[wrong[0]]
            sample = attempts.sample.levels[attempts.sample.codes[row]].as_py()
            span = "0 or 1" if metric.kind == "rate" else f"from {low:g} to {high:g}"
            reasons[metric.name] = (
                f"{cell_name(cell)}: attempt {attempts.attempt[row]} of sample {sample!r} has the "
                f"score {values[wrong[0]]:g} of metric {metric.name!r}, which is {span}: restore the file "
                "from a copy"
            )
    return reasons


def _counted(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Shape (n,): a count of each attempt that earlier files do not have."""
    if table.schema.get_field_index(name) < 0:
        return np.zeros(len(table), dtype=np.int64)
    counts: NDArray[np.int64] = pc.fill_null(table[name], 0).to_numpy()
    return counts


def _known(table: pa.Table, names: Sequence[str], order: Rows) -> Floats | None:
    """Shape (n,): the sum of some counts of each attempt, None where one is not known."""
    if any(table.schema.get_field_index(name) < 0 or table[name].null_count for name in names):
        return None
    total: Floats = np.sum([table[name].to_numpy()[order].astype(np.float64) for name in names], axis=0)
    return total


def _warnings(table: pa.Table) -> dict[str, int]:
    """Text -> attempts; earlier files have no such column."""
    if "warnings" not in table.column_names:
        return {}
    counted = pc.value_counts(pc.list_flatten(table["warnings"])).to_pylist()
    return {
        one["values"]: one["counts"] for one in sorted(counted, key=lambda x: (-x["counts"], x["values"]))
    }


def _usage(table: pa.Table) -> Usage:
    later = {"joules", "reasoning_tokens"} - set(table.column_names)
    names = [name for name in Usage.__struct_fields__ if name not in later]
    used = Usage(**{name: _total(table[name]) for name in names})
    return used if len(table) else msgspec.structs.replace(used, joules=None, reasoning_tokens=None)


def _total(column: pa.ChunkedArray) -> Any:
    """An exact sum, so that the order of the attempts cannot matter; None if a part is not known."""
    if column.null_count:
        return None
    values = column.to_numpy()
    if values.dtype.kind == "f":
        return math.fsum(values)
    high, low = values >> 32, values & 0xFFFFFFFF  # apart, neither sum can run over
    return (int(high.sum()) << 32) + int(low.sum())


def _encode(chunks: Sequence[pa.Array]) -> Factor:
    """Text as codes."""
    encoded = [c if pa.types.is_dictionary(c.type) else c.dictionary_encode() for c in chunks]
    if len(encoded) != 1:
        encoded = [pa.chunked_array(encoded, type=_TEXT).unify_dictionaries().combine_chunks()]
    codes = encoded[0].indices.fill_null(-1).to_numpy().astype(np.int32, copy=False)
    return Factor(codes, encoded[0].dictionary)


def _sorted_levels(factor: Factor) -> Factor:
    order = pc.sort_indices(factor.levels)
    place = np.empty(len(order), dtype=np.int32)
    place[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return Factor(place[factor.codes], factor.levels.take(order))


def _order(cell: CellEntry, sample: Factor, attempt: NDArray[np.int64]) -> Rows:
    """Row numbers by sample and attempt."""
    keys = sample.codes * (attempt.max(initial=0) + 1) + attempt
    order = np.arange(keys.size) if (np.diff(keys) > 0).all() else np.argsort(keys, kind="stable")
    twice = np.flatnonzero(np.diff(keys[order]) == 0)
    if twice.size:
        row = order[twice[0]]
        name = sample.levels[sample.codes[row]].as_py()
        raise UserError(
            f"attempt {attempt[row]} of sample {name!r} of cell {cell.key} "
            f"({cell.model}, {cell.suite}) is recorded twice: delete one of the two records"
        )
    return order


def _rows(chunks: Sequence[Any], place: Rows) -> Rows:
    """For each entry of lists or maps, the sorted row that it stands in."""
    lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks]
    return np.repeat(place, np.concatenate([np.empty(0, dtype=np.int32), *lengths]))


def _maps(chunks: Sequence[pa.MapArray], place: Rows) -> dict[str, Factor]:
    """Key -> the values under it, by key."""
    rows = _rows(chunks, place)
    keys = _encode([_entries(chunk, chunk.keys) for chunk in chunks])
    values = _encode([_entries(chunk, chunk.items) for chunk in chunks])
    factors = {}
    for code, name in enumerate(keys.levels.to_pylist()):
        chosen = np.flatnonzero(keys.codes == code)
        codes = np.full(place.size, -1, dtype=np.int32)
        codes[rows[chosen]], used = _compact(values.codes[chosen], len(values.levels))
        factors[name] = Factor(codes, values.levels.take(pa.array(used)))
    return dict(sorted(factors.items()))


def _entries(chunk: pa.MapArray, child: pa.Array) -> pa.Array:
    """The keys or items of a map's rows alone, where the chunk is a slice of something larger."""
    offsets = chunk.offsets
    start, end = (offsets[0].as_py(), offsets[-1].as_py()) if len(chunk) else (0, 0)
    return child.slice(start, end - start)


def _compact(codes: Codes, levels: int) -> tuple[Codes, Rows]:
    """(codes without gaps, the old code of each)."""
    used = np.flatnonzero(np.bincount(codes, minlength=levels))
    place = np.empty(levels, dtype=np.int32)
    place[used] = np.arange(used.size, dtype=np.int32)
    return place[codes], used


class Impossible(Exception):
    """A record with two scores of one metric: nobody can say which of them was measured."""

    def __init__(self, message: str, row: int) -> None:
        """Args: message: what it has. row: the attempt, by sample and attempt."""
        super().__init__(message)
        self.row = row


def _scores(
    chunks: Sequence[pa.ListArray], place: Rows, failed: Mask, booked: Collection[str]
) -> dict[str, Scored]:
    """Metric -> scores, of failed attempts those of the metrics that book them. Raises Impossible."""
    rows = _rows(chunks, place)
    items = [chunk.flatten() for chunk in chunks]
    metric = _encode([item.field("metric") for item in items])
    values = np.concatenate([item.field("value").to_numpy(zero_copy_only=False) for item in items] or [[]])
    operands = pa.chunked_array([item.field("operands") for item in items], type=pa.string())
    scores = {}
    for code, name in enumerate(metric.levels.to_pylist()):
        chosen = np.flatnonzero((metric.codes == code) & ((name in booked) | ~failed[rows]))
        steps = np.diff(rows[chosen])
        if (steps < 0).any():
            chosen = chosen[np.argsort(rows[chosen], kind="stable")]
            steps = np.diff(rows[chosen])
        if (steps == 0).any():
            message = f"two scores of metric {name!r}, where one was expected"
            raise Impossible(message, int(rows[chosen][np.flatnonzero(steps == 0)[0]]))
        scores[name] = Scored(rows[chosen], values[chosen], operands.take(pa.array(chosen)).combine_chunks())
    return scores


def decode_operands(texts: pa.Array) -> list[tuple[Any, ...]]:
    """Operands of a corpus metric from their JSON."""
    decoder = msgspec.json.Decoder(tuple[Any, ...])
    try:
        return [decoder.decode(text) for text in texts.to_pylist()]
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(
            f"the operands of a score are not a JSON list ({error}): restore the records from a copy"
        ) from error
