"""Records to model scorecards. Pure: reads no file, knows no engine and no suite."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import fsum
from typing import Any

import numpy as np
import pyarrow as pa

from harness import stats
from harness.errors import UserError
from harness.scorecards.columns import Attempts, Factor, Floats, Rows, decode_operands, read_attempts
from harness.suites.lm_eval_metrics import aggregate
from harness.types import CellEntry, Estimate, Manifest, Metric, ModelEntry, Struct, Usage


@dataclass(frozen=True, eq=False)
class Observations:
    """What was measured of one metric: n attempts in the order of sample and attempt."""

    values: Floats | list[tuple[Any, ...]]
    """The scores; for a corpus metric the operands."""
    factors: dict[str, Factor]
    """Clustering factor -> n levels. The factor `sample` is always there."""

    @property
    def clusters(self) -> stats.Clusters:
        """The factors as estimators take them."""
        return {name: factor.codes for name, factor in self.factors.items()}


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


def build_scorecards(manifest: Manifest, tables: Callable[[CellEntry], pa.Table]) -> list[ModelScorecard]:
    """The scorecard of every model of a run, by name.

    Args:
        manifest: what the run directory says about itself.
        tables: cell -> its finished attempts in any order, as from `RunDirectory.columns`.

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
    return [_scorecard(manifest.models[name], cells[name], tables) for name in sorted(manifest.models)]


def _scorecard(
    model: ModelEntry, cells: Mapping[str, CellEntry], tables: Callable[[CellEntry], pa.Table]
) -> ModelScorecard:
    suites, metrics = {}, {}
    for suite in sorted(cells):
        cell = cells[suite]
        attempts = read_attempts(cell, tables(cell))
        suites[suite] = _suite_result(cell, attempts)
        for metric in cell.metrics:
            metrics[f"{suite}/{metric.name}"] = _metric_result(suite, metric, attempts)
    return ModelScorecard(model=model, suites=suites, metrics=metrics)


def _suite_result(cell: CellEntry, attempts: Attempts) -> SuiteResult:
    return SuiteResult(
        suite=cell.suite,
        protocol=cell.protocol,
        expected=cell.samples * cell.attempts,
        finished=attempts.n,
        failures=attempts.failures,
        truncated=attempts.truncated,
        usage=attempts.usage,
    )


def total_usage(usages: Sequence[Usage]) -> Usage:
    """The sum of what attempts cost."""
    return Usage(
        engine_seconds=fsum(usage.engine_seconds for usage in usages),
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        requests=sum(usage.requests for usage in usages),
    )


def _metric_result(suite: str, metric: Metric, attempts: Attempts) -> MetricResult:
    """A score without a value is missing, and so is what a failed attempt would have had. No score: it does
    not apply.
    """
    missing = int((attempts.failed & attempts.of_kind(metric.applies_to, metric.where)).sum())
    scored = attempts.scores.get(metric.name)
    if scored is None:
        observations = Observations(np.empty(0), {"sample": attempts.sample.take(np.empty(0, dtype=np.intp))})
        return MetricResult(
            suite=suite,
            metric=metric,
            estimate=estimate_metric(metric, observations, missing),
            observations=observations,
        )
    corpus = metric.kind == "corpus"
    measured = np.asarray(scored.operands.is_valid()) if corpus else ~np.isnan(scored.values)
    rows = scored.rows[measured]
    values = decode_operands(scored.operands.drop_null()) if corpus else scored.values[measured]
    observations = Observations(values, _factors(attempts, rows))
    estimate = estimate_metric(metric, observations, missing + scored.rows.size - rows.size)
    return MetricResult(suite=suite, metric=metric, estimate=estimate, observations=observations)


def _factors(attempts: Attempts, rows: Rows) -> dict[str, Factor]:
    """The factors of some attempts; a sample without one of them shares it with nobody."""
    sample = attempts.sample.take(rows)
    found = {name: factor.take(rows) for name, factor in attempts.clusters.items()}
    present = {name: factor.or_own(sample) for name, factor in found.items() if (factor.codes >= 0).any()}
    return {"sample": sample, **present}


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
    return stats.bootstrap(list(values), partial(aggregate, metric.aggregation), clusters, missing=missing)
