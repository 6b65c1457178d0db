"""Records to model scorecards. Pure: reads no file, knows no engine and no suite."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec

from harness import stats
from harness.errors import UserError
from harness.suites.lm_eval_metrics import aggregate
from harness.types import (
    CellEntry,
    Estimate,
    Manifest,
    Metric,
    ModelEntry,
    Record,
    Score,
    Struct,
    Transcript,
    Usage,
)


class Observations(Struct):
    """What was measured of one metric: n attempts in the order of sample and attempt."""

    values: tuple[Any, ...]
    """The scores; for a corpus metric the operands."""
    clusters: dict[str, tuple[str, ...]]
    """Factor -> n levels. The factor `sample` is always there."""


class MetricResult(Struct):
    """One metric of one model."""

    suite: str
    metric: Metric
    estimate: Estimate
    observations: Observations


class SuiteResult(Struct):
    """How one suite went on one model."""

    suite: str
    protocol: dict[str, str]
    expected: int
    """Attempts that the run asks for."""
    finished: int
    """Attempts that have a record, failed ones included."""
    failures: dict[str, int]
    """Failure kind -> attempts."""
    truncated: int
    """Attempts with a reply that hit its token budget, scored or not."""
    usage: Usage

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

    @property
    def complete(self) -> bool:
        """True if no attempt is owed."""
        return not any(suite.owed for suite in self.suites.values())

    @property
    def usage(self) -> Usage:
        """What all suites cost together."""
        return total_usage([suite.usage for suite in self.suites.values()])


def build_scorecards(manifest: Manifest, records: Callable[[str], Iterable[Record]]) -> list[ModelScorecard]:
    """The scorecard of every model of a run, by name.

    Args:
        manifest: what the run directory says about itself.
        records: cell key -> the finished attempts of that cell, in any order.

    Raises:
        UserError: an attempt is recorded twice, or a model has two cells of one suite.
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
    return [_scorecard(manifest.models[name], cells[name], records) for name in sorted(manifest.models)]


def _scorecard(
    model: ModelEntry, cells: Mapping[str, CellEntry], records: Callable[[str], Iterable[Record]]
) -> ModelScorecard:
    suites, metrics = {}, {}
    for suite in sorted(cells):
        cell = cells[suite]
        attempts = _ordered(cell, records(cell.key))
        suites[suite] = _suite_result(cell, attempts)
        for metric in cell.metrics:
            metrics[f"{suite}/{metric.name}"] = _metric_result(suite, metric, attempts)
    return ModelScorecard(model=model, suites=suites, metrics=metrics)


def _ordered(cell: CellEntry, records: Iterable[Record]) -> list[Record]:
    """Records by sample and attempt, without transcripts: statistics do not depend on the order on disk."""
    attempts = [msgspec.structs.replace(record, transcript=Transcript()) for record in records]
    attempts.sort(key=lambda record: (record.sample, record.attempt))
    for a, b in pairwise(attempts):
        if (a.sample, a.attempt) == (b.sample, b.attempt):
            raise UserError(
                f"attempt {a.attempt} of sample {a.sample!r} of cell {cell.key} ({cell.model}, {cell.suite}) "
                "is recorded twice: delete one of the two records"
            )
    return attempts


def _suite_result(cell: CellEntry, attempts: Sequence[Record]) -> SuiteResult:
    failures = Counter(record.failure.value for record in attempts if record.failure is not None)
    return SuiteResult(
        suite=cell.suite,
        protocol=cell.protocol,
        expected=cell.samples * cell.attempts,
        finished=len(attempts),
        failures=dict(sorted(failures.items())),
        truncated=sum(record.truncated for record in attempts),
        usage=total_usage([record.usage for record in attempts]),
    )


def total_usage(usages: Sequence[Usage]) -> Usage:
    """The sum of what attempts cost."""
    return Usage(
        engine_seconds=math.fsum(usage.engine_seconds for usage in usages),
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        requests=sum(usage.requests for usage in usages),
    )


def _metric_result(suite: str, metric: Metric, attempts: Sequence[Record]) -> MetricResult:
    measured: list[tuple[Record, Any]] = []
    missing = 0
    for record in attempts:
        score = _score(metric, record)
        value = None if score is None else _operand(metric, score)
        if value is not None:
            measured.append((record, value))
        elif score is not None or (record.failure is not None and _applies(metric, record)):
            missing += 1
    observations = _observations(measured)
    estimate = estimate_metric(metric, observations, missing)
    return MetricResult(suite=suite, metric=metric, estimate=estimate, observations=observations)


def _score(metric: Metric, record: Record) -> Score | None:
    """The record's score of a metric. A failed attempt has none."""
    if record.failure is not None:
        return None
    return next((score for score in record.scores if score.metric == metric.name), None)


def _operand(metric: Metric, score: Score) -> Any:
    """What the metric is computed from: the value, or the operands of a corpus metric."""
    return score.operands if metric.kind == "corpus" else score.value


def _applies(metric: Metric, record: Record) -> bool:
    return metric.applies_to is None or set(metric.applies_to) == set(record.clusters)


def _observations(measured: Sequence[tuple[Record, Any]]) -> Observations:
    """Values with their cluster levels; a sample without some factor shares it with nobody."""
    records = [record for record, _ in measured]
    factors = sorted({factor for record in records for factor in record.clusters})
    clusters = {
        factor: tuple(record.clusters.get(factor, f"\0{record.sample}") for record in records)
        for factor in factors
    }
    samples = tuple(record.sample for record in records)
    return Observations(
        values=tuple(value for _, value in measured), clusters={"sample": samples, **clusters}
    )


def estimate_metric(metric: Metric, observations: Observations, missing: int) -> Estimate:
    """The estimate of a metric by its kind.

    Raises:
        UserError: a corpus metric's aggregation cannot be found.
    """
    values, clusters = observations.values, observations.clusters
    if metric.kind == "rate":
        return stats.rate(values, clusters, missing=missing)
    if metric.kind == "mean":
        return stats.mean(values, clusters, missing=missing, bounds=metric.bounds)
    return stats.bootstrap(values, partial(aggregate, metric.aggregation), clusters, missing=missing)
