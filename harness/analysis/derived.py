"""What was measured of a metric, and metrics that follow from others: at k attempts, or as suites declare.

`<metric>@k` is the chance that at least one of k attempts at a sample succeeds: pass@k of a capability, and
of an attack its success rate for an attacker who may try k times. Of a rate that not every attempt has, such
as that of being hijacked where the attack was seen, it is the chance of at least one success in k attempts
that have it, over the samples with k of them or more; how many have fewer is said.

What else follows from a suite's metrics stands in the cell (`Declared`). No metric is known by its name here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from harness import stats
from harness.analysis.columns import Attempts, Factor, Floats, Mask, Rows, Scored, decode_operands
from harness.types import CellEntry, ChosenMetric, Declared, DerivedMetric, Metric, Reference


@dataclass(frozen=True, eq=False)
class Observations:
    """What was measured of one metric: n attempts (or samples) in the order of sample and attempt."""

    values: Floats | list[tuple[Any, ...]]
    """The scores; for a corpus metric the operands."""
    factors: dict[str, Factor]
    """Clustering factor -> n levels, those left out that are given. The factor `sample` is always there."""
    seconds: Floats
    """Shape (n,): engine seconds of each attempt."""
    cut: Mask
    """Shape (n,): which attempts had a reply that hit its token budget."""

    @property
    def clusters(self) -> stats.Clusters:
        """The factors as estimators take them."""
        return {name: factor.codes for name, factor in self.factors.items()}


@dataclass(frozen=True, eq=False)
class Measured:
    """A metric of a cell: which attempts have it, and which lack it."""

    metric: Metric
    rows: Rows
    """Measured attempts, rising; for a metric at k the first attempt of each sample."""
    values: Floats | list[tuple[Any, ...]]
    """Of each of them."""
    missing: Rows
    """Attempts that should have it and do not; for a metric at k samples."""
    note: str = ""
    """What a reader of the method has to know."""
    condition: str | None = None
    """The rate that an attempt must have 1 of to have this one."""
    unit: str = ""
    """The clustering factor that stands for the sample, where two models were not asked the same samples."""

    def observations(self, attempts: Attempts) -> Observations:
        """Values with their factors; a sample without a factor that others have shares it with nobody.

        Factors that are given are left out: they are the same in every sample that there could be.
        """
        sample = (attempts.clusters[self.unit] if self.unit else attempts.sample).take(self.rows)
        chance = {name: f for name, f in attempts.clusters.items() if name not in self.metric.given}
        factors = {name: factor.take(self.rows) for name, factor in chance.items()}
        own = {name: factor.or_own(sample) for name, factor in factors.items() if (factor.codes >= 0).any()}
        return Observations(
            self.values, {"sample": sample, **own}, attempts.seconds[self.rows], attempts.cut[self.rows]
        )

    def filled(self, value: float) -> "Measured":
        """The same if every attempt that is missing had come out like this."""
        rows = np.concatenate([self.rows, self.missing])
        values = np.concatenate(
            [np.asarray(self.values, dtype=np.float64), np.full(self.missing.size, value)]
        )
        order = np.argsort(rows, kind="stable")
        none = np.empty(0, dtype=np.intp)
        return replace(self, rows=rows[order], values=values[order], missing=none)


@dataclass(frozen=True)
class Levels:
    """What a model did of the levels of a factor."""

    suite: str
    """Where that was measured."""
    values: dict[str, float]
    """Level -> from 0 to 1; levels that were not measured are not there."""


class References:
    """What the cells of one model say of each other's tasks, as they are read one after the other."""

    def __init__(self, cells: Mapping[str, CellEntry], declared: Mapping[str, Declared]) -> None:
        """Args: cells: suite -> cell. declared: suite -> what it says of its metrics."""
        named = {derived.reference for declaration in declared.values() for derived in declaration.derived}
        self._wanted = sorted(named, key=msgspec.structs.astuple)
        self._cells = cells
        self._read: dict[tuple[Reference, tuple[tuple[str, str], ...]], Levels] = {}

    def order(self) -> list[str]:
        """The suites, those first that others refer to."""
        return sorted(
            self._cells,
            key=lambda suite: (*(_announces(self._cells[suite], r) is None for r in self._wanted), suite),
        )

    def read(self, cell: CellEntry, attempts: Attempts) -> dict[Reference, Levels]:
        """What is known for a cell by its own attempts, else by those of the cells before it."""
        levels = {}
        for reference in self._wanted:
            place = reference, _but_for(cell, reference.may_differ)
            before, metric = self._read.get(place), _announces(cell, reference)
            own = None if metric is None else _levels(cell, metric, attempts, reference)
            if own is not None and not (before and before.values):
                self._read[place] = own
            if (best := own if own and own.values else before or own) is not None:
                levels[reference] = best
        return levels


def _announces(cell: CellEntry, reference: Reference) -> Metric | None:
    """The rate of a cell that a reference is about, if it has it."""
    rates = (metric for metric in cell.metrics if metric.kind == "rate")
    return next((metric for metric in rates if metric.name == reference.metric), None)


def _but_for(cell: CellEntry, fields: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The protocol of a cell without some fields."""
    return tuple(sorted((key, value) for key, value in cell.protocol.items() if key not in fields))


def _levels(cell: CellEntry, metric: Metric, attempts: Attempts, reference: Reference) -> Levels:
    """What a cell's own attempts say of the levels of a factor."""
    factor, scored = attempts.clusters.get(reference.factor), attempts.scores.get(metric.name)
    if factor is None or scored is None:
        return Levels(cell.suite, {})
    there = attempts.of_kind(metric.applies_to, metric.where)[scored.rows]
    there &= ~np.isnan(scored.values) & (factor.codes[scored.rows] >= 0)
    codes, values = factor.codes[scored.rows[there]], scored.values[there]
    counts = np.bincount(codes, minlength=len(factor.levels)).tolist()
    sums = np.bincount(codes, values, len(factor.levels)).tolist()
    return Levels(
        cell.suite,
        {
            level: float(total > 0) if reference.take == "best" else total / n
            for level, total, n in zip(factor.levels.to_pylist(), sums, counts, strict=True)
            if n
        },
    )


def measure(
    cell: CellEntry, declared: Declared, attempts: Attempts, references: Mapping[Reference, Levels]
) -> list[Measured]:
    """Every metric of a cell, and those derived from them but for rates at k attempts (`at_k`).

    Args:
        cell: what was measured.
        declared: what its suite says of its metrics.
        attempts: of the cell.
        references: what is known of the levels that derived metrics refer to.
    """
    measured = [
        _measure(metric, attempts, declared.conditions.get(metric.name))
        for metric in cell.metrics
        if metric.name not in declared.void
    ]
    rates = {metric.name for metric in cell.metrics if metric.kind == "rate"}
    for derived in declared.derived:
        levels = references.get(derived.reference)
        if {derived.of, derived.condition or derived.of} <= rates and (levels or derived.kind == "lost"):
            measured.append(_derived(derived, cell, attempts, levels or Levels(cell.suite, {})))
    by_name = {one.metric.name: one for one in measured}
    measured += [
        _chosen(chosen, attempts, by_name[chosen.of], by_name[chosen.by])
        for chosen in declared.chosen
        if {chosen.of, chosen.by} <= rates
    ]
    return measured


def numbers_of_attempts(cell: CellEntry) -> list[int]:
    """For which k rates of a cell are told at k attempts."""
    return [] if cell.attempts == 1 or greedy(cell) else powers_of_two(cell.attempts)


def greedy(cell: CellEntry) -> bool:
    """Whether every attempt at a sample is one and the same reply: to try again is no chance more."""
    return cell.protocol.get("sampling.temperature") == "0.0"


def powers_of_two(attempts: int) -> list[int]:
    """1, 2, 4, ... below a number of attempts, and the number itself."""
    return [1 << i for i in range(attempts.bit_length()) if 1 << i < attempts] + [attempts]


def _measure(metric: Metric, attempts: Attempts, condition: str | None) -> Measured:
    """A score without a value is missing, and so is what a failed attempt is not booked with.

    An attempt that did not fail and has no score is none of the metric's business.
    """
    failed = attempts.failed & attempts.of_kind(metric.applies_to, metric.where)
    scored = attempts.scores.get(metric.name)
    if scored is None:
        none = np.empty(0, dtype=np.intp)
        return Measured(metric, none, np.empty(0), np.flatnonzero(failed), metric.booking, condition)
    corpus = metric.kind == "corpus"
    there: Mask = np.asarray(scored.operands.is_valid()) if corpus else ~np.isnan(scored.values)
    values = decode_operands(scored.operands.drop_null()) if corpus else scored.values[there]
    missing = failed.copy()
    missing[scored.rows] = ~there
    return Measured(metric, scored.rows[there], values, np.flatnonzero(missing), metric.booking, condition)


def at_k_metric(metric: Metric, k: int) -> Metric:
    """What a rate is at k attempts."""
    return msgspec.structs.replace(
        metric, name=f"{metric.name}@{k}", kind="mean", bounds=(0.0, 1.0), headline=False
    )


def at_k(measured: Measured, attempts: Attempts, k: int, of: int) -> Measured:
    """A rate as the chance that at least one of k attempts is a success, by sample.

    A sample of which fewer than k attempts are measured is missing if failures are the reason, and is left
    out, and counted in the note, if it is still owed some or if the rate does not apply to every attempt.

    Args:
        measured: a rate.
        attempts: of the cell.
        k: attempts that are allowed.
        of: attempts that the run asks for, at each sample.
    """
    samples = len(attempts.sample.levels)
    codes = attempts.sample.codes[measured.rows]
    n = np.bincount(codes, minlength=samples)
    successes = np.bincount(codes, weights=np.asarray(measured.values), minlength=samples)
    lost = np.bincount(attempts.sample.codes[measured.missing], minlength=samples)
    enough = np.flatnonzero(n >= k)
    first = np.searchsorted(attempts.sample.codes, np.arange(samples))
    missing = (lost > 0) & (n < k) & (of - lost < k)
    notes = [f"unbiased estimate of at least one success in {k}, over samples with {k} measured attempts"]
    applies = attempts.of_kind(measured.metric.applies_to, measured.metric.where)
    of_kind = np.bincount(attempts.sample.codes[applies], minlength=samples) > 0
    left_out = int((of_kind & (n < k) & ~missing).sum())
    if left_out:
        notes.append(
            f"{left_out} of {of_kind.sum()} samples left out: fewer of their attempts have this rate"
        )
    return Measured(
        at_k_metric(measured.metric, k),
        first[enough],
        stats.at_least_one(n[enough], successes[enough], k),
        first[missing],
        "; ".join([*notes, measured.note] if measured.note else notes),
        measured.condition,
    )


def _derived(derived: DerivedMetric, cell: CellEntry, attempts: Attempts, levels: Levels) -> Measured:
    """A metric that follows from rates of the attempts, and from what is known of their tasks."""
    of, has = _column(attempts, derived.of)
    given, known = np.ones(attempts.n), np.ones(attempts.n, dtype=bool)
    if derived.condition is not None:
        given, known = _column(attempts, derived.condition)
    reference = _by_level(attempts, derived.reference.factor, levels.values)
    applies = attempts.of_kind(derived.metric.applies_to, derived.metric.where) & (
        attempts.failed | (has & known)
    )
    counts = applies & (given != 0)  # what is not known is not 0
    measured = ~np.isnan(given) & ~np.isnan(of) & ~np.isnan(reference)
    note = derived.note
    if derived.kind == "where_able":
        able = reference != 0
        beyond = int((applies & (given == 1) & (of == 1) & ~able).sum())
        counts &= able
        note += f", in suite {levels.suite}" if levels.suite != cell.suite else ""
        note += f"; left out: {beyond} {derived.left_out}" if beyond else ""
    rows, missing = np.flatnonzero(counts & measured), np.flatnonzero(counts & ~measured)
    values = of[rows] if derived.kind == "where_able" else reference[rows] - of[rows]
    return Measured(derived.metric, rows, values, missing, note, derived.condition)


def _chosen(chosen: ChosenMetric, attempts: Attempts, of: Measured, by: Measured) -> Measured:
    """A rate at the level of a label at which another is highest; missing where none of that is measured."""
    at = {level: attempts.of_kind(None, {chosen.label: level}) for level in chosen.levels}
    rates = {
        level: float(np.mean(np.asarray(by.values)[there[by.rows]]))
        for level, there in at.items()
        if there[by.rows].any()
    }
    if not rates:
        none = np.empty(0, dtype=np.intp)
        missing = np.union1d(of.rows, of.missing)
        return Measured(
            chosen.metric, none, np.empty(0), missing, f"nothing measured to choose by ({chosen.by})"
        )
    best = max(rates, key=lambda level: rates[level])
    there = at[best]
    kept, lost = int(there[by.rows].sum()), int(there[by.missing].sum())
    note = (
        f"{chosen.label} {best}, of {len(chosen.levels)} the one with the highest {chosen.by}: "
        f"{100 * rates[best]:.1f}%, n={kept}" + (f" ({lost} missing)" if lost else "")
    )
    mask = there[of.rows]
    values, missing = np.asarray(of.values)[mask], of.missing[there[of.missing]]
    return Measured(chosen.metric, of.rows[mask], values, missing, note, unit=chosen.unit)


def without_condition(measured: Measured, attempts: Attempts) -> int:
    """Attempts that have 0 of the rate that a rate is conditional on: those in which no attack was shown."""
    if measured.condition is None:
        return 0
    given, has = _column(attempts, measured.condition)
    applies = attempts.of_kind(measured.metric.applies_to, measured.metric.where)
    return int((applies & has & (given == 0)).sum())


def _column(attempts: Attempts, metric: str) -> tuple[Floats, Mask]:
    """(the scores of a metric, NaN where not measured; which attempts have one), both of shape (n,)."""
    column, has = np.full(attempts.n, np.nan), np.zeros(attempts.n, dtype=bool)
    scored: Scored | None = attempts.scores.get(metric)
    if scored is not None:
        column[scored.rows], has[scored.rows] = scored.values, True
    return column, has


def _by_level(attempts: Attempts, factor: str, values: Mapping[str, float]) -> Floats:
    """Shape (n,): the value of each attempt's level of a factor, NaN where there is none."""
    levels = attempts.clusters.get(factor)
    by_attempt = np.full(attempts.n, np.nan)
    if levels is not None and len(levels.levels):
        of_levels = np.array([values.get(level, np.nan) for level in levels.levels.to_pylist()])
        has = levels.codes >= 0
        by_attempt[has] = of_levels[levels.codes[has]]
    return by_attempt
