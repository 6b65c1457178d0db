"""Several models, each measured on samples that they may share: the models are what varies."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from harness.stats.clusters import (
    Clusters,
    Floats,
    careful_variance,
    cluster_variance,
    crossed_factors,
    finest_factor,
    level_codes,
    levels_of,
    student_t,
    without_nested,
)
from harness.stats.comparisons import ratio
from harness.types import Estimate, Struct

DRAWS = 4000
"""Of the correction for choosing the best."""


class ModelsMean(Struct):
    """The mean over models, and how far models lie apart."""

    estimate: Estimate
    """Of the mean over all models like these; n is the number of models."""
    spread: float | None
    """Standard deviation between models, sampling noise taken out; None with fewer than two models."""
    noise: tuple[float, ...]
    """Of each model: variance of its mean that it does not share with the others."""


def mean_of_models(
    values: Sequence[ArrayLike],
    clusters: Sequence[Clusters],
    *,
    missing: int = 0,
    bounds: tuple[float, float] | None = None,
) -> ModelsMean:
    """The mean over models of their means, with models and samples both taken as drawn at random.

    A hierarchical model fitted by moments (Searle, Casella and McCulloch, Variance Components (1992), ch. 3).
    With m model means of variance s^2, the variance of their mean is s^2/m + C: s^2 holds what differs
    between models and the noise of each, C is the noise that all share because they met the same samples. C
    follows from the clustered variances of each mean and of the mean over models. The spread is the root of
    s^2 less the noise of each. The interval joins those of the two parts, each with its own t quantile: m - 1
    degrees of freedom for s^2/m, one less than there are clusters for C (MOVER: Zou and Donner, Stat. Med. 27
    (2008) 1693-1702). Satterthwaite's degrees of freedom for the sum of both covered 90% with two models and
    93% with three, in simulations, where this covers 96%.

    Args:
        values: of each model, shape (n_j,); none is empty.
        clusters: of each model, factor -> n_j levels as numbers; all have the same factors, and equal numbers
            mean the same level.
        missing: attempts of all models that were not measured.
        bounds: smallest and largest value possible; the interval is cut there.
    """
    samples = [np.asarray(x, dtype=np.float64) for x in values]
    means = np.asarray([x.mean() for x in samples])
    m = len(samples)
    if m == 0:
        raise ValueError("the mean of no models")
    together, units = _variance(samples, clusters)
    parts = zip(samples, clusters, strict=True)
    each = np.asarray([_variance([x], [c])[0] for x, c in parts] if m > 1 else [together])
    between = float(means.var(ddof=1)) if m > 1 else 0.0
    shared = max(0.0, (m * together - float(each.mean())) / (m - 1)) if m > 1 else 0.0
    own = np.maximum(each - shared, 0.0)
    low, high, method = _interval(float(means.mean()), between / m, shared, together, (m, units))
    floor, ceiling = bounds or (-math.inf, math.inf)
    estimate = Estimate(
        value=float(means.mean()),
        low=None if low is None else max(floor, low),
        high=None if high is None else min(ceiling, high),
        n=m,
        missing=missing,
        clusters=m,
        method=method,
    )
    spread = math.sqrt(max(0.0, between - float(own.mean()))) if m > 1 else None
    return ModelsMean(estimate=estimate, spread=spread, noise=tuple(own.tolist()))


def _variance(samples: Sequence[Floats], clusters: Sequence[Clusters]) -> tuple[float, int]:
    """(clustered variance of the mean over models of their means, models taken as given; units)."""
    n = sum(x.size for x in samples)
    factors = crossed_factors(_join(clusters), n)
    units = min((levels_of(codes) for codes in factors.values()), default=n)
    # Each model weighs the same: residuals are scaled so that their mean is over models.
    return (cluster_variance(n * _influence(samples, 1.0), factors) if units > 1 else 0.0), units


def ratio_over_models(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    clusters_a: Sequence[Clusters],
    clusters_b: Sequence[Clusters],
    *,
    missing: int = 0,
) -> Estimate:
    """The mean over models of a over that of b, models and samples both taken as drawn at random.

    The log of the ratio has three parts: what differs between the models of either side, and the samples, on
    which both sides may depend alike (linearised as in `shared_risk_ratio`). Their variances add up, with the
    degrees of freedom of Welch (Biometrika 34 (1947) 28-35) and Satterthwaite (Biometrics Bull. 2 (1946)
    110-114). The noise of single models is in two of them, so that the interval is rather too wide. Where
    nothing happened on a side it comes from both means (`comparisons.ratio`).

    Args:
        a: of each model, shape (n_j,), values that are 0 or more.
        b: the same of the other side.
        clusters_a: of each model, factor -> n_j levels as numbers; equal numbers mean the same level, on
            either side.
        clusters_b: the same of the other side.
        missing: attempts that were not measured.
    """
    sides = [[np.asarray(x, dtype=np.float64) for x in side] for side in (a, b)]
    means = [np.asarray([x.mean() for x in side]) for side in sides]
    centres = [float(values.mean()) for values in means]
    if min(centres) <= 0 or min(map(len, sides)) < 2:
        whole = [mean_of_models(a, clusters_a), mean_of_models(b, clusters_b)]
        return msgspec.structs.replace(ratio(whole[0].estimate, whole[1].estimate), missing=missing)
    influence = [_influence(side, sign / c) for side, sign, c in zip(sides, (1, -1), centres, strict=True)]
    n = sum(part.size for part in influence)
    joint = level_codes(_join([*clusters_a, *clusters_b]))
    factors = without_nested(joint, n)
    units = min((levels_of(codes) for codes in factors.values()), default=n)
    shared = careful_variance(n * np.concatenate(influence), factors, finest_factor(joint))
    parts = [values.var(ddof=1) / values.size / c**2 for values, c in zip(means, centres, strict=True)]
    # Each part of the variance with its degrees of freedom.
    variances = [*zip(parts, (values.size - 1 for values in means), strict=True), (shared, units - 1)]
    variance = math.fsum(part for part, _ in variances)
    freedom = variance**2 / math.fsum(part**2 / max(1, of) for part, of in variances) if variance else 1.0
    half = student_t(freedom) * math.sqrt(variance) if units > 1 else math.inf
    value = centres[0] / centres[1]
    return Estimate(
        value=value,
        low=value * math.exp(-half) if half else None,  # where no spread can be seen there is no interval
        high=value * math.exp(half) if 0 < half < LARGE else None,
        n=n,
        missing=missing,
        clusters=min(units, *(values.size for values in means)),
        method=f"ratio of means over {means[0].size} and {means[1].size} models and samples, both drawn at "
        f"random, log interval, t with {freedom:.1f} degrees of freedom (Welch and Satterthwaite)",
    )


LARGE = 50.0
"""Logarithm of a ratio that is as good as without limit."""


def _influence(side: Sequence[Floats], scale: float) -> Floats:
    """What each value adds to the mean over models, less its model's mean, times a scale."""
    return np.concatenate([(x - x.mean()) * scale / (len(side) * x.size) for x in side])


def _join(clusters: Sequence[Clusters]) -> dict[str, Any]:
    return {key: np.concatenate([np.asarray(c[key]) for c in clusters]) for key in clusters[0]}


def _interval(
    value: float, between: float, shared: float, together: float, counts: tuple[int, int]
) -> tuple[float | None, float | None, str]:
    """(low, high, method) from the variances of a mean of models; `counts`: of models, of sample clusters."""
    models, units = counts
    if models < 2:
        return None, None, "mean of 1 model; no interval, since nothing is known about other models"
    if max(between + shared, together) == 0.0 or units < 2:
        return None, None, f"mean of {models} models; no interval, since no spread can be seen"
    of_models, of_samples = student_t(models - 1), student_t(units - 1)
    half = math.hypot(of_models * math.sqrt(between), of_samples * math.sqrt(shared))
    half = max(half, of_samples * math.sqrt(together))
    how = f"t with {models - 1} degrees of freedom for models, {units - 1} for samples"
    return value - half, value + half, f"mean of {models} models and samples both drawn at random, {how}"


@lru_cache(maxsize=1)
def _draws(seed: int, models: int) -> Floats:
    """Standard normal draws, shape (DRAWS, models): kept, since a card asks for the same of every metric."""
    drawn = np.random.default_rng(seed).normal(size=(DRAWS, models))
    drawn.flags.writeable = False
    return drawn


def selection_bias(values: Sequence[float], noise: Sequence[float], *, seed: int = 0) -> float:
    """By how much the largest of several estimates is expected to exceed its own truth: the winner's curse.

    Parametric bootstrap (Efron, J. Am. Stat. Assoc. 106 (2011) 1602-1614, section 1): new estimates are drawn
    around the given ones, and the excess of the largest over its centre is averaged. The given estimates lie
    further apart than their truths, so that this says too little rather than too much.

    Args:
        values: one estimate a model.
        noise: variance of each that is not shared.
        seed: of the draws; the answer is the same every time.
    """
    centre, sd = np.asarray(values, dtype=np.float64), np.sqrt(np.asarray(noise, dtype=np.float64))
    if centre.size < 2:
        return 0.0
    drawn = _draws(seed, centre.size) * sd
    best = np.argmax(centre + drawn, axis=1)
    return max(0.0, float(drawn[np.arange(DRAWS), best].mean()))
