"""How models of an origin differ between requests of two kinds, beside how others do on the same requests.

Requests about two governments are not the same requests: one set may be harder than the other for everybody.
So a model's rates on the two are not compared with each other. What is compared is by how much they differ,
between origins, on the same requests: a difference in differences (Angrist and Pischke, Mostly Harmless
Econometrics, 2009, ch. 5.2). What makes one set harder for everybody cancels out.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from harness import stats
from harness.analysis.build import MetricResult
from harness.analysis.claims.evidence import Evidence
from harness.analysis.columns import Factor, pool_factors
from harness.analysis.missing import misses_much
from harness.analysis.origins import pairs
from harness.stats.clusters import Floats
from harness.types import Estimate, Struct


class ContrastClaim(Struct):
    """By how much the rates on two kinds of requests differ, at two origins."""

    suite: str
    metric: str
    kinds: tuple[str, str]
    """Values of the label: the rate on the first less that on the second."""
    a: str
    b: str
    models: tuple[int, int]
    """Of each origin that were measured on both kinds."""
    of_a: float
    """First kind less second, mean over the models of the origin."""
    of_b: float
    difference: Estimate
    """`of_a` less `of_b`, over the requests that all these models have measured. True of these models."""
    shared: str
    """The clustering factor by which the two kinds ask the same, which pairs them; empty if they do not."""


def contrast_claims(evidence: Evidence) -> tuple[ContrastClaim, ...]:
    """Every pair of kinds, for each pair of origins that has models measured on both."""
    members: dict[str, list[Mapping[str, MetricResult]]] = {}
    for name, card in evidence.cards.items():
        members.setdefault(evidence.keys[name], []).append(card.metrics)
    # Metrics of one kind of requests, to be set against the other kinds.
    kinds = (
        r
        for own in members.values()
        for metrics in own
        for r in metrics.values()
        if r.metric.contrast in r.metric.where
    )
    keys = sorted({(result.suite, result.metric.name) for result in kinds})
    claims = []
    for (suite, one), (other_suite, other) in combinations(keys, 2):
        if suite == other_suite and one.partition(":")[0] == other.partition(":")[0]:
            both = {
                origin: own
                for origin, metrics in sorted(members.items())
                if (own := _measured(metrics, f"{suite}/{one}", f"{suite}/{other}"))
            }
            leader = next(iter(both), "")
            claims += [
                _contrast(origins, [both[o] for o in origins]) for origins in pairs(list(both), leader)
            ]
    return tuple(claim for claim in claims if claim.difference.value is not None)


Both = tuple[MetricResult, MetricResult]
"""The two kinds of one model."""


def _measured(metrics: Sequence[Mapping[str, MetricResult]], one: str, other: str) -> list[Both]:
    """The models of an origin that were measured on both kinds."""
    every = [(own[one], own[other]) for own in metrics if one in own and other in own]
    return [
        both
        for both in every
        if all(r.estimate.value is not None and not misses_much(r.estimate) for r in both)
    ]


def _contrast(origins: tuple[str, str], sides: list[list[Both]]) -> ContrastClaim:
    """Args: sides: the models of each of the two origins, one at least."""
    values: list[tuple[Floats, Floats]] = []
    factors: list[dict[str, Factor]] = []
    for kind in (0, 1):
        at_a, at_b, shared = _together([[both[kind] for both in side] for side in sides])
        values.append((at_a, at_b))
        factors.append(shared)
    first, second = (a - b for a, b in values)
    pairing = next(
        (f for f in factors[0] if f != "sample" and _overlap(factors[0][f], factors[1].get(f))), ""
    )
    if pairing:
        estimate = _paired(first, second, factors[0][pairing], factors[1][pairing])
    else:
        estimate = stats.difference(
            *(
                stats.mean(d, {name: factor.codes for name, factor in own.items()}, bounds=(-1.0, 1.0))
                for d, own in zip((first, second), factors, strict=True)
            )
        )
    of_a, of_b = (_mean(values[0][side]) - _mean(values[1][side]) for side in (0, 1))
    example, other = sides[0][0]
    label = example.metric.contrast
    return ContrastClaim(
        suite=example.suite,
        metric=example.metric.name.partition(":")[0],
        kinds=(example.metric.where[label], other.metric.where[label]),
        a=origins[0],
        b=origins[1],
        models=(len(sides[0]), len(sides[1])),
        of_a=of_a,
        of_b=of_b,
        difference=estimate,
        shared=pairing,
    )


def _together(sides: list[list[MetricResult]]) -> tuple[Floats, Floats, dict[str, Factor]]:
    """(mean over the models of each of two origins by sample, twice; the samples' factors).

    Only samples that every model has a measurement of.
    """
    results = [result for side in sides for result in side]
    pooled = pool_factors([result.observations.factors["sample"] for result in results])
    codes = np.split(pooled.codes, np.cumsum([len(r.observations.values) for r in results])[:-1])
    size = len(pooled.levels)
    counts = [np.bincount(own, minlength=size) for own in codes]
    everywhere = np.flatnonzero(np.min(counts, axis=0) > 0)
    means = [
        np.bincount(own, np.asarray(result.observations.values), size)[everywhere] / count[everywhere]
        for own, result, count in zip(codes, results, counts, strict=True)
    ]
    of_a, of_b = (np.mean(part, axis=0) for part in (means[: len(sides[0])], means[len(sides[0]) :]))
    rows = np.array([np.flatnonzero(codes[0] == code)[0] for code in everywhere], dtype=np.intp)
    factors = results[0].observations.factors
    return of_a, of_b, {name: factor.take(rows) for name, factor in factors.items()}


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _overlap(one: Factor, other: Factor | None) -> bool:
    """Whether two kinds have levels of a factor in common."""
    used = [set(f.levels.take(np.unique(f.codes)).to_pylist()) for f in (one, other) if f is not None]
    return len(used) == 2 and bool(used[0] & used[1])


def _paired(first: Floats, second: Floats, one: Factor, other: Factor) -> Estimate:
    """The mean, over the levels that both kinds have, of the first less the second there."""
    codes = pool_factors([one, other]).codes
    ours, theirs = codes[: len(first)], codes[len(first) :]
    both = np.intersect1d(ours, theirs)
    differences = [first[ours == level].mean() - second[theirs == level].mean() for level in both]
    return stats.mean(differences, bounds=(-2.0, 2.0))
