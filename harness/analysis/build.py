"""Records to model scorecards. Pure: reads no file, knows no engine and no suite."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from math import fsum

import msgspec
import numpy as np
import pyarrow as pa

from harness import stats
from harness.analysis.columns import Attempts, impossible, read_attempts
from harness.analysis.derived import (
    Measured,
    Observations,
    References,
    at_k,
    at_k_metric,
    measure,
    numbers_of_attempts,
    without_condition,
)
from harness.analysis.injection_tasks import InjectionTaskResult, by_injection_task
from harness.analysis.judged import judged_protocol, with_errors
from harness.analysis.missing import qualified
from harness.analysis.pooled import Pooled, pool
from harness.analysis.tool_use import ToolUse, tool_use
from harness.errors import UserError
from harness.forked import cores, shared_out
from harness.suites.corpus import corpus
from harness.suites.declared import declared
from harness.types import (
    LARGEST_COUNT,
    CellEntry,
    Declared,
    Estimate,
    Interval,
    JudgeEntry,
    Manifest,
    Metric,
    ModelEntry,
    Struct,
    Usage,
    total_count,
)
from harness.warned import gathered

MANY, CELL = 100_000, 1000
"""Attempts from which on models are counted by processes beside each other, and how many a cell takes as
long as, however few it has."""

Found = tuple[Estimate, Observations]


class MetricResult(Struct, dict=True):
    """One metric of one model."""

    suite: str
    metric: Metric
    found: Found | Callable[[], Found]
    """The estimate and what it is of, or what gives them when one of them is first asked for."""
    warnings: tuple[str, ...] = ()
    """What was warned of as the estimate was computed, each text once."""

    @cached_property
    def _found(self) -> Found:
        return self.found if isinstance(self.found, tuple) else self.found()

    @property
    def estimate(self) -> Estimate:
        """The number."""
        return self._found[0]

    @property
    def observations(self) -> Observations:
        """What it is of."""
        return self._found[1]


class SuiteResult(Struct):
    """How one suite went on one model."""

    suite: str
    protocol: dict[str, str]
    expected: int
    """Attempts that the run asks for."""
    attempts: int
    """Of them, at each sample; the most, where a benchmark's suites differ."""
    finished: int
    """Attempts that have a record, failed ones included."""
    failures: dict[str, int]
    """Failure kind -> attempts."""
    truncated: int
    """Attempts with a reply that hit its token budget, scored or not."""
    warnings: dict[str, int]
    """What was warned of as attempts were scored -> how many of them, most of them first."""
    contexts_cut: int
    """Attempts whose context had lost its beginning, since it did not fit."""
    usage: Usage
    thoughts_cut: int = 0
    """Replies that were cut off in mid-thought, scored or not."""
    thoughts_ended: int = 0
    """Replies whose thought came to the end of its budget."""
    no_tool_call: int | None = None
    """Attempts that finished without a tool having been called, None where the suite does not count them."""
    by_injection_task: Mapping[str, InjectionTaskResult] = {}
    """Injection task -> its rates, for suites that attack agents."""
    answers_read: int | None = None
    """Attempts that finished in which the agent read a planted answer, None where none was planted."""
    tool_use: ToolUse | None = None
    """Of a suite that offers tools."""
    members: dict[str, "SuiteResult"] = {}
    """The suites that a benchmark is made of, where there are several; see `benchmarks`."""
    group_averages: dict[str, float | None] = {}
    """`<group>/<metric>,<filter>` -> what lm-eval itself would print for it and the groups inside of it."""

    @property
    def owed(self) -> int:
        """Attempts that the run has not finished yet: neither missing nor wrong."""
        return max(0, self.expected - self.finished)


class ModelScorecard(Struct):
    """Everything that a run says about one model."""

    model: ModelEntry
    suites: dict[str, SuiteResult]
    metrics: dict[str, MetricResult]
    """`<suite>/<metric>` -> result."""
    members: dict[str, MetricResult] = {}
    """The same of suites that are parts of a benchmark, which stands under `metrics`; see `benchmarks`."""
    pooled: tuple[Pooled, ...] = ()
    """AgentDojo's books over several of its suites."""
    unread: dict[str, str] = {}
    """Suite, or `<suite>/<metric>` -> why its records cannot be read, of what is in no number."""

    @property
    def cells(self) -> dict[str, SuiteResult]:
        """Every suite that was run, those that are parts of a benchmark in its place."""
        return {
            name: part
            for benchmark, whole in self.suites.items()
            for name, part in (whole.members or {benchmark: whole}).items()
        }

    def computed(self) -> "ModelScorecard":
        """The same without the attempts that metrics are computed from."""
        metrics, members = (
            {
                key: msgspec.structs.replace(one, found=(one.estimate, one.observations))
                for key, one in of.items()
            }
            for of in (self.metrics, self.members)
        )
        return msgspec.structs.replace(self, metrics=metrics, members=members)

    @property
    def complete(self) -> bool:
        """True if no attempt is owed."""
        return not any(suite.owed for suite in self.suites.values())

    @property
    def usage(self) -> Usage:
        """What all suites cost together."""
        return total_usage([suite.usage for suite in self.suites.values()])


def build_scorecards(
    manifest: Manifest, tables: Callable[[CellEntry], pa.Table], *, processes: int | None = None
) -> list[ModelScorecard]:
    """The scorecard of every model of a run, by name.

    Args:
        manifest: what the run directory says about itself.
        tables: cell -> its finished attempts in any order, as from `RunDirectory.columns`.
        processes: that may work on a large run, each of which holds one cell in memory; None is as many as
            there are cores.

    Raises:
        UserError: a model has two cells of one suite, or no records can be read at all. Where some cannot,
            the cards say of which suites.
    """
    cells: dict[str, dict[str, CellEntry]] = {name: {} for name in manifest.models}
    for key in sorted(manifest.cells):
        cell = manifest.cells[key]
        if cell.suite in cells[cell.model]:
            raise UserError(
                f"the manifest has two cells of suite {cell.suite!r} for model {cell.model!r}: "
                "give the suites different names"
            )
        cells[cell.model][cell.suite] = cell
    names = sorted(manifest.models)
    large = sum(CELL + cell.samples * cell.attempts for cell in manifest.cells.values()) >= MANY
    with gathered():  # set up once for all of them
        cards = list(
            shared_out(
                lambda name: _scorecard(manifest.models[name], cells[name], tables, manifest.judges),
                names,
                (processes or cores()) if large else 1,
            )
        )
    unread = [said for card in cards for said in card.unread.values()]
    if unread and not any(card.suites for card in cards):
        raise UserError(unread[0])
    return cards


def _scorecard(
    model: ModelEntry,
    cells: Mapping[str, CellEntry],
    tables: Callable[[CellEntry], pa.Table],
    judges: Mapping[str, Sequence[JudgeEntry]],
) -> ModelScorecard:
    suites: dict[str, SuiteResult] = {}
    unread: dict[str, str] = {}
    by_suite: dict[str, list[MetricResult]] = {}
    said = {suite: declared(cell) for suite, cell in cells.items()}
    references = References(cells, said)
    for suite in references.order():
        cell = cells[suite]
        try:
            attempts = _read(cell, tables)
            wrong = impossible(cell, attempts)
            scores = {name: scored for name, scored in attempts.scores.items() if name not in wrong}
            attempts = dataclasses.replace(attempts, scores=scores)
            measured = [
                dataclasses.replace(one, note=wrong.get(one.metric.name, one.note))
                for one in measure(cell, said[suite], attempts, references.read(cell, attempts))
            ]
        except UserError as error:  # somebody else may have made them; the other suites are none the worse
            unread[suite] = str(error)
            continue
        unread |= {f"{suite}/{name}": said for name, said in wrong.items()}
        asked = judges.get(cell.key, ())
        own = [_metric_result(cell, one, attempts, asked, model) for one in measured]
        repeated = [_at_k_results(cell, one, attempts, asked, model) for one in measured]
        by_suite[suite] = [x for one, at_k in zip(own, repeated, strict=True) for x in (one, *at_k)]
        seen = [one.observations for one in own]
        suites[suite] = _suite_result(cell, attempts, measured, seen, said[suite], asked)
    metrics = {f"{suite}/{one.metric.name}": one for suite in sorted(by_suite) for one in by_suite[suite]}
    strata = {
        key: stats.Stratum(one.estimate, one.observations.values, one.observations.clusters)
        for key, one in metrics.items()
        if one.metric.kind == "rate"
    }
    return ModelScorecard(
        model=model,
        suites=dict(sorted(suites.items())),
        metrics=metrics,
        pooled=pool([(cells[suite], said[suite].pooling) for suite in suites], strata),
        unread=unread,
    )


def _read(cell: CellEntry, tables: Callable[[CellEntry], pa.Table]) -> Attempts:
    """The attempts of a cell. Raises UserError if its records, or how many there should be, cannot be."""
    if not (0 <= cell.samples <= LARGEST_COUNT and 1 <= cell.attempts <= LARGEST_COUNT):
        raise UserError(
            f"the manifest says {cell.samples} samples and {cell.attempts} attempts of suite {cell.suite!r} "
            f"for model {cell.model!r}: restore it from a copy"
        )
    return read_attempts(cell, tables(cell))


def _suite_result(
    cell: CellEntry,
    attempts: Attempts,
    measured: Sequence[Measured],
    observations: Sequence[Observations],
    declaration: Declared,
    judges: Sequence[JudgeEntry],
) -> SuiteResult:
    """Args: observations: of each metric; declaration: of the suite, about them; judges: that were asked."""
    return SuiteResult(
        suite=cell.suite,
        protocol={**cell.protocol, **judged_protocol(judges)},
        expected=cell.samples * cell.attempts,
        attempts=cell.attempts,
        finished=attempts.n,
        failures=attempts.failures,
        truncated=attempts.truncated,
        warnings=attempts.warnings,
        contexts_cut=int(attempts.shortened.sum()),
        thoughts_cut=attempts.thoughts_cut,
        thoughts_ended=attempts.thoughts_ended,
        usage=attempts.usage,
        no_tool_call=_together(measured, declaration.idle),
        answers_read=_together(measured, declaration.canaries),
        by_injection_task=by_injection_task(cell, attempts, measured, observations),
        tool_use=tool_use(attempts, measured) if cell.tools and attempts.n else None,
    )


def _together(measured: Sequence[Measured], names: Collection[str]) -> int | None:
    """Attempts that have 1 of any of these rates, no attempt having two of them; None without such a rate."""
    rates = [one for one in measured if one.metric.kind == "rate" and one.metric.name in names]
    return sum(int(np.asarray(one.values).sum()) for one in rates) if rates else None


def total_usage(usages: Sequence[Usage]) -> Usage:
    """The sum of what attempts cost; what is not known of a part is not known of the whole."""
    joules = [usage.joules for usage in usages]
    return Usage(
        joules=fsum(j for j in joules if j is not None) if joules and None not in joules else None,
        engine_seconds=fsum(usage.engine_seconds for usage in usages),
        prompt_tokens=total_count(usage.prompt_tokens for usage in usages),
        completion_tokens=total_count(usage.completion_tokens for usage in usages),
        cached_tokens=total_count(usage.cached_tokens for usage in usages),
        reasoning_tokens=total_count(usage.reasoning_tokens for usage in usages) if usages else None,
        requests=sum(usage.requests for usage in usages),
    )


def _metric_result(
    cell: CellEntry, measured: Measured, attempts: Attempts, judges: Sequence[JudgeEntry], model: ModelEntry
) -> MetricResult:
    with gathered() as warnings:
        found = _found(cell, measured, attempts, judges, model)
    return MetricResult(
        suite=cell.suite, metric=measured.metric, found=found, warnings=tuple(dict.fromkeys(warnings))
    )


def _at_k_results(
    cell: CellEntry, measured: Measured, attempts: Attempts, judges: Sequence[JudgeEntry], model: ModelEntry
) -> Iterator[MetricResult]:
    """A rate at 1, 2, 4, ... attempts, computed where it is shown: few views do, and it takes longest."""
    for k in numbers_of_attempts(cell) if measured.metric.kind == "rate" else ():
        yield MetricResult(
            suite=cell.suite,
            metric=at_k_metric(measured.metric, k),
            found=partial(_found_at, k, cell, measured, attempts, judges, model),
        )


def _found_at(
    k: int,
    cell: CellEntry,
    measured: Measured,
    attempts: Attempts,
    judges: Sequence[JudgeEntry],
    model: ModelEntry,
) -> Found:
    return _found(cell, at_k(measured, attempts, k, cell.attempts), attempts, judges, model)


def _found(
    cell: CellEntry, measured: Measured, attempts: Attempts, judges: Sequence[JudgeEntry], model: ModelEntry
) -> Found:
    observations = measured.observations(attempts)

    def estimator(one: Measured) -> Estimate:
        return estimate_metric(one.metric, one.observations(attempts), missing=one.missing.size)

    estimate = stats.estimated(estimate_metric, measured.metric, observations, missing=measured.missing.size)
    estimate = qualified(estimate, measured, attempts, estimator)
    drawn = cell.drawn_from and cell.drawn_factors in (None, measured.metric.applies_to)
    if drawn and cell.attempts == 1 and measured.metric.kind in ("rate", "mean") and estimate.n:
        estimate = msgspec.structs.replace(estimate, same_tasks=_of_all_samples(cell, measured, observations))
    cut = int(attempts.shortened[measured.rows].sum())
    estimate = msgspec.structs.replace(estimate, contexts_cut=cut)
    unseen = without_condition(measured, attempts)
    if not estimate.n and not estimate.missing and unseen:
        estimate = msgspec.structs.replace(estimate, out_of=unseen)
    if measured.note:
        estimate = msgspec.structs.replace(estimate, method=f"{estimate.method}; {measured.note}")
    return with_errors(estimate, measured.metric, judges, model), observations


def _of_all_samples(cell: CellEntry, measured: Measured, observations: Observations) -> Interval | None:
    """The interval of all samples that those of a cell were drawn from."""
    values, sample = np.asarray(observations.values, dtype=np.float64), observations.factors["sample"]
    if cell.by_difficulty:
        place = {name: number for number, name in enumerate(cell.by_difficulty)}
        levels = [place.get(name, len(place)) for name in sample.levels.to_pylist()]
        values = values[np.argsort(np.asarray(levels)[sample.codes], kind="stable")]
    return stats.of_population(
        values,
        max(cell.drawn_from or 0, values.size),
        bounds=(0.0, 1.0) if measured.metric.kind == "rate" else measured.metric.bounds,
        by_difficulty=bool(cell.by_difficulty),
    )


def estimate_metric(metric: Metric, observations: Observations, *, missing: int) -> Estimate:
    """The estimate of a metric by its kind.

    Raises:
        UserError: a corpus metric's aggregation cannot be found.
    """
    values, clusters = observations.values, observations.clusters
    if metric.kind == "rate":
        return stats.rate(values, clusters, missing=missing)
    if metric.kind == "mean" and metric.bounds == (-1.0, 1.0):  # of differences of what is there or not
        return stats.paired_difference(
            np.zeros(len(values)), np.asarray(values), clusters, missing=missing, largest=1.0
        ).estimate
    if metric.kind == "mean":
        return stats.mean(values, clusters, missing=missing, bounds=metric.bounds)
    operands = list(values)
    if not operands:
        return stats.bootstrap(operands, len, clusters, missing=missing)
    whole = corpus(metric.aggregation, operands)
    return stats.bootstrap(
        operands,
        lambda _: whole.value(),
        clusters,
        missing=missing,
        resamples=whole.resamples,
        of_rows=whole.of_rows,
    )
