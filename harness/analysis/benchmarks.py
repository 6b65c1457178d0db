"""Benchmarks instead of suites: what one entry of a config stands for is one benchmark, with one row.

A group of lm-eval's (MMLU's 57 subjects) is run as one suite a task. Counted by its tasks it would outweigh
every other benchmark 57 to one; here its questions are pooled into one number, and its tasks fold out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow.compute as pc

from harness import stats
from harness.analysis.build import (
    MetricResult,
    ModelScorecard,
    SuiteResult,
    estimate_metric,
    total_usage,
)
from harness.analysis.columns import Factor, pool_factors
from harness.analysis.derived import Observations
from harness.suites.declared import groups
from harness.types import GroupMetric, Manifest, Metric, SuiteGroup
from harness.warned import gathered


@dataclass(frozen=True)
class Benchmark:
    """Several suites that are one benchmark."""

    name: str
    suites: tuple[str, ...]
    metrics: dict[str, Metric]
    """By name: those that all of the suites have."""
    groups: tuple[SuiteGroup, ...]
    """The whole, and the groups inside of it; nothing in runs from before they were recorded."""


def find_benchmarks(manifest: Manifest) -> list[Benchmark]:
    """The benchmarks of a run that are made of several suites.

    A group whose suites have no metric in common is a collection of benchmarks: the groups inside of it are
    looked at in its place.
    """
    metrics = {
        cell.suite: {metric.name: metric for metric in cell.metrics} for cell in manifest.cells.values()
    }
    benchmarks: list[Benchmark] = []
    taken: set[str] = set()
    for name, members in groups(manifest):
        there = tuple(suite for suite in members if suite in metrics)
        shared = _shared([metrics[suite] for suite in there])
        if len(there) > 1 and shared and taken.isdisjoint(there):
            inside = tuple(group for group in manifest.groups if set(group.members) <= set(members))
            benchmarks.append(Benchmark(name, there, shared, inside))
            taken.update(there)
    return benchmarks


def _shared(metrics: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics that all suites have, measured alike; a headline of any is one of the benchmark."""
    if not metrics:
        return {}
    shared = {}
    for name, first in metrics[0].items():
        own = [suite[name] for suite in metrics if name in suite]
        alike = [msgspec.structs.replace(metric, headline=False) for metric in own]
        if len(own) == len(metrics) and all(other == alike[0] for other in alike):
            shared[name] = msgspec.structs.replace(first, headline=any(metric.headline for metric in own))
    return shared if any(metric.headline for metric in shared.values()) else {}


def by_benchmark(cards: Sequence[ModelScorecard], manifest: Manifest) -> list[ModelScorecard]:
    """The same scorecards with one entry a benchmark; what its suites say is under `members`."""
    benchmarks = find_benchmarks(manifest)
    return [_fold(card, benchmarks) for card in cards]


def _fold(card: ModelScorecard, benchmarks: Sequence[Benchmark]) -> ModelScorecard:
    suites, metrics = dict(card.suites), dict(card.metrics)
    members: dict[str, MetricResult] = {}
    for benchmark in benchmarks:
        parts = [suites.pop(suite) for suite in benchmark.suites if suite in suites]
        own = {
            key: metrics.pop(key) for key in [k for k, r in metrics.items() if r.suite in benchmark.suites]
        }
        if not parts:
            continue
        members |= own
        suites[benchmark.name] = _suite(benchmark, parts, own)
        for metric in benchmark.metrics.values():
            results = [own[key] for part in parts if (key := f"{part.suite}/{metric.name}") in own]
            if results:
                metrics[f"{benchmark.name}/{metric.name}"] = _pooled(benchmark.name, metric, results)
    # By suite; the metrics of a suite in the order in which they were found.
    metrics = dict(sorted(metrics.items(), key=lambda item: item[1].suite))
    return msgspec.structs.replace(
        card, suites=dict(sorted(suites.items())), metrics=metrics, members=members
    )


def _suite(
    benchmark: Benchmark, parts: Sequence[SuiteResult], metrics: Mapping[str, MetricResult]
) -> SuiteResult:
    """How the suites of a benchmark went, together."""
    fields = [part.protocol.items() for part in parts]
    failures, warnings = Counter[str](), Counter[str]()
    for part in parts:
        failures.update(part.failures)
        warnings.update(part.warnings)
    return SuiteResult(
        suite=benchmark.name,
        protocol=dict(sorted(set(fields[0]).intersection(*fields[1:]))),
        expected=sum(part.expected for part in parts),
        attempts=max(part.attempts for part in parts),
        finished=sum(part.finished for part in parts),
        failures=dict(sorted(failures.items())),
        truncated=sum(part.truncated for part in parts),
        warnings=dict(warnings.most_common()),
        contexts_cut=sum(part.contexts_cut for part in parts),
        thoughts_cut=sum(part.thoughts_cut for part in parts),
        thoughts_ended=sum(part.thoughts_ended for part in parts),
        usage=total_usage([part.usage for part in parts]),
        members={part.suite: part for part in parts},
        group_averages=_group_averages(benchmark.groups, metrics),
    )


def _group_averages(
    groups: Sequence[SuiteGroup], metrics: Mapping[str, MetricResult]
) -> dict[str, float | None]:
    """`<group>/<metric>,<filter>` -> what lm-eval would print for it."""
    values = {key: result.estimate.value for key, result in metrics.items()}
    averages = {}
    for group in groups:
        for metric in group.metrics:
            keys = {suite: f"{suite}/{name}" for suite, name in metric.members.items()}
            sizes = {suite: metrics[key].estimate.n for suite, key in keys.items() if key in metrics}
            own = {suite: values.get(key) for suite, key in keys.items()}
            if len(sizes) == len(keys):
                averages[f"{group.name}/{metric.name}"] = group_average(metric, own, sizes)
    return averages


def group_average(
    metric: GroupMetric, values: Mapping[str, float | None], sizes: Mapping[str, int]
) -> float | None:
    """lm-eval's average over the tasks of a group, equal to its `Group.aggregate`.

    Args:
        metric: of the group.
        values: suite -> value of the metric that `metric.members` names there.
        sizes: suite -> documents that were scored, lm-eval's `sample_len`: weights, where sizes are.

    Returns:
        The average, None where a member has no value: an average of the others would be of something else.
    """
    rates = [values.get(suite) for suite in metric.members]
    weights = [sizes[suite] if metric.weight_by_size else 1 for suite in metric.members]
    if None in rates or not sum(weights):
        return None
    # Added up in lm-eval's order, so that the last digit is its own.
    return sum(
        value * weight for value, weight in zip(rates, weights, strict=True) if value is not None
    ) / sum(weights)


def _pooled(name: str, metric: Metric, results: Sequence[MetricResult]) -> MetricResult:
    """One metric over the questions of all suites of a benchmark, each question counting the same."""
    measured = [result for result in results if len(result.observations.values)] or results[:1]
    observations = _joined(measured)
    missing = sum(result.estimate.missing for result in results)
    with gathered() as warnings:
        estimate = stats.estimated(estimate_metric, metric, observations, missing=missing)
    cut = sum(result.estimate.contexts_cut for result in results)
    method = f"{estimate.method}; every question of {len(results)} suites counts once"
    estimate = msgspec.structs.replace(estimate, method=method, contexts_cut=cut)
    return MetricResult(
        suite=name, metric=metric, found=(estimate, observations), warnings=tuple(dict.fromkeys(warnings))
    )


def _joined(results: Sequence[MetricResult]) -> Observations:
    """The observations of several suites, one after the other: samples of two suites are never the same."""
    parts = [result.observations for result in results]
    samples = [
        _named(part.factors["sample"], result.suite) for part, result in zip(parts, results, strict=True)
    ]
    factors = {"sample": pool_factors(samples)}
    for factor in sorted({name for part in parts for name in part.factors} - {"sample"}):
        levels = [
            part.factors.get(factor, sample.none()).or_own(sample)
            for part, sample in zip(parts, samples, strict=True)
        ]
        factors[factor] = pool_factors(levels)
    corpus = results[0].metric.kind == "corpus"
    return Observations(
        [operands for part in parts for operands in part.values]
        if corpus
        else np.concatenate([np.asarray(part.values) for part in parts]),
        factors,
        np.concatenate([part.seconds for part in parts]),
        np.concatenate([part.cut for part in parts]),
    )


def _named(sample: Factor, suite: str) -> Factor:
    """Samples with their suite in their name."""
    return Factor(sample.codes, pc.binary_join_element_wise(suite, sample.levels, ":"))
