"""Rates, means and corpus metrics of one sample."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.beta_binomial import limits
from harness.stats.clusters import (
    FEW_CLUSTERS,
    Clusters,
    Codes,
    Floats,
    Z,
    bootstrap_tails,
    cluster_variance,
    crossed_factors,
    finest_factor,
    level_codes,
    levels_of,
    student_t,
    tells_spread,
    wilson,
)
from harness.types import Estimate, Interval, Struct

T = TypeVar("T")


LEAST_OF_EACH = 5
"""Successes and failures; with fewer, the spread that is seen tells little and the largest one counts."""
LEAST_FREEDOM = 4
"""Limits of a rate over fewer clusters than five are not as wide as their t quantile is."""


class Proportion(Struct):
    """Events among attempts, with the limits of their rate."""

    events: int
    n: int
    low: float
    high: float
    clusters: int
    method: str
    independent: bool
    """Whether no two attempts share a task."""

    @property
    def value(self) -> float | None:
        """Events per attempt, None if there was no attempt."""
        return self.events / self.n if self.n else None


def rate(values: ArrayLike, clusters: Clusters | None = None, *, missing: int = 0) -> Estimate:
    """Share of ones among values that are 0 or 1, with its interval over tasks like these.

    Where values are clustered there is an interval on these tasks too (`_same_tasks`).

    Args:
        values: shape (n,), each 0 or 1.
        clusters: factor -> n levels.
        missing: attempts that were not measured; they are reported and enter nothing.
    """
    codes = level_codes(clusters or {})
    share = proportion(values, codes)
    if share.value is None:
        return _not_measured(missing)
    return Estimate(
        value=share.value,
        low=share.low,
        high=share.high,
        n=share.n,
        missing=missing,
        clusters=share.clusters,
        method=share.method,
        same_tasks=None if share.independent else _same_tasks(np.asarray(values, float), codes),
    )


def proportion(values: ArrayLike, clusters: Clusters | None = None, *, among: float = 0.0) -> Proportion:
    """Events and attempts of values that are 0 or 1, with the limits of their rate.

    Wilson's interval; where values are clustered, that of `beta_binomial.limits`, which `among` is of. All in
    one cluster are one observation.
    """
    x = np.asarray(values, dtype=np.float64)
    if not ((x == 0.0) | (x == 1.0)).all():
        raise ValueError("a rate needs values that are 0 or 1")
    n, events = x.size, int(x.sum())
    factors = crossed_factors(clusters or {}, n)
    smallest = min((levels_of(codes) for codes in factors.values()), default=n)
    names = " x ".join(factors)
    if n == 0 or not factors:
        low, high = wilson(events, n) if n else (0.0, 1.0)
        method = "Wilson interval, independent samples"
    elif smallest == 1:
        low, high = wilson(events / n, 1)
        method = f"Wilson interval on one observation: all samples share one cluster of {names}"
    else:
        low, high = limits(x, factors, among=among)
        method = f"tasks like these: beta-binomial interval, clustered by {names}"
    return Proportion(
        events=events, n=n, low=low, high=high, clusters=smallest, method=method, independent=not factors
    )


def _same_tasks(x: Floats, levels: Mapping[str, Codes]) -> Interval:
    """What would come out if the same samples were run again.

    Wilson's interval as if attempts were independent, which is too wide rather than too narrow: chances that
    differ between samples make a sum vary less (Hoeffding, Ann. Math. Stat. 27 (1956) 713-721). Where samples
    were repeated, their spread within a sample takes that out.

    Args:
        x: shape (n,), each 0 or 1.
        levels: factor -> n codes, as from `level_codes`; the factor with most levels tells samples apart.
    """
    n, share = float(x.size), float(x.mean())
    effective, how = n, "attempts taken as independent"
    (codes,) = finest_factor(levels).values()
    sizes = np.bincount(codes)
    if sizes.min() > 1:
        hits = np.bincount(codes, x)
        within = float((hits * (sizes - hits) / (sizes - 1)).sum()) / n
        split = int(np.count_nonzero((hits > 0) & (hits < sizes)))
        if split >= FEW_CLUSTERS:  # in fewer, repeats say little about how far they differ
            effective = max(n, n * share * (1 - share) / within * (Z / student_t(split - 1)) ** 2)
            how = f"spread within {sizes.size} repeated samples"
    low, high = wilson(share * effective, effective)
    return Interval(low=low, high=high, method=f"on these tasks: Wilson interval, {how}")


def of_population(
    values: ArrayLike,
    size: int,
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    by_difficulty: bool = False,
) -> Interval | None:
    """The mean over all samples of a suite, of which some were drawn at random and tried once.

    Wilson's interval over the bounds with the finite population correction: as if n (N - 1) / (N - n) had
    been drawn from endlessly many (Cochran, Sampling Techniques (1977), 2.6), or as many as explain the
    variance that is seen, where values are not 0 or 1 alone. Where each group is drawn from in proportion, a
    mean varies less, so that it is wide enough then too. Where every k-th was drawn in the order of
    difficulty, the variance is that of neighbours in that order (Wolter, J. Am. Stat. Assoc. 79 (1984)
    781-790, his v2).

    Args:
        values: shape (n,).
        size: N, of which they were drawn.
        bounds: the smallest and largest value possible; None where there are none.
        by_difficulty: whether every k-th was drawn in that order, in which the values are.

    Returns:
        None without bounds where no spread can be seen.
    """
    x = np.asarray(values, dtype=np.float64)
    n, center = x.size, float(x.mean())
    order = ", in the order of difficulty" if by_difficulty else ""
    sample_text = f"{n} drawn of {size}{order}, finite population correction"
    if n >= size:
        return Interval(low=center, high=center, method=f"on these tasks: {sample_text}")
    left = 1 - n / size
    seen = 0.0
    if n > 1:
        seen = float((np.diff(x) ** 2).mean() / 2 if by_difficulty else x.var(ddof=1)) * left / n
    if bounds is None:
        if not seen:
            return None
        half = student_t(n - 1) * math.sqrt(seen)
        return Interval(
            low=center - half, high=center + half, method=f"on these tasks: t interval, {sample_text}"
        )
    floor, width = bounds[0], bounds[1] - bounds[0]
    share = (center - floor) / width
    effective = n * (size - 1) / (size - n)
    plain = not by_difficulty and bool(np.isin(x, bounds).all())
    if not plain and seen and n * min(share, 1 - share) >= LEAST_OF_EACH:
        # Differences of neighbours share values: about two thirds as many are free.
        freedom = 2 * (n - 1) / 3 if by_difficulty else n - 1
        effective = share * (1 - share) / (seen / width**2) * (Z / student_t(max(1, int(freedom)))) ** 2
    low, high = wilson(share * effective, effective)
    method = f"on these tasks: Wilson interval, {sample_text}"
    return Interval(low=floor + width * low, high=floor + width * high, method=method)


def _short(number: float) -> str:
    """Three digits, and no exponent."""
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def mean(
    values: ArrayLike,
    clusters: Clusters | None = None,
    *,
    missing: int = 0,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Mean with a cluster-robust standard error and a t quantile.

    Degrees of freedom are one less than the smallest factor has levels (Cameron, Gelbach and Miller, J. Bus.
    Econ. Stat. 29 (2011) 238-249), or n - 1 without clustering (Student). Where the values have bounds the
    interval is Wilson's over the bounds, on the effective sample size p (1 - p) / variance, as `proportion`
    has it. Where they have none and do not vary there is no interval.

    Args:
        values: shape (n,).
        clusters: factor -> n levels.
        missing: attempts that were not measured.
        bounds: the smallest and largest value possible.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return _not_measured(missing)
    factors = crossed_factors(clusters or {}, x.size)
    smallest = min((levels_of(codes) for codes in factors.values()), default=x.size)
    low, high, method = _mean_interval(x, factors, smallest, bounds)
    return Estimate(
        value=float(x.mean()),
        low=low,
        high=high,
        n=x.size,
        missing=missing,
        clusters=smallest,
        method=method,
    )


def _mean_interval(
    x: Floats, factors: Mapping[str, Codes], smallest: int, bounds: tuple[float, float] | None
) -> tuple[float | None, float | None, str]:
    """(low, high, method) of a mean."""
    variance = cluster_variance(x, factors) if smallest > 1 else 0.0
    names = f"clustered by {' x '.join(factors)}" if factors else "independent samples"
    if bounds is not None:
        return _bounded_interval(x, factors, smallest, bounds, variance)
    if variance == 0.0:
        return None, None, f"mean; no interval, since no spread can be seen in {smallest} cluster(s)"
    half = student_t(smallest - 1) * math.sqrt(variance)
    method = f"mean, t interval with {smallest - 1} degrees of freedom, {names}"
    return float(x.mean()) - half, float(x.mean()) + half, method


def _bounded_interval(
    x: Floats,
    factors: Mapping[str, Codes],
    smallest: int,
    bounds: tuple[float, float],
    variance: float,
) -> tuple[float, float, str]:
    """(low, high, method): Wilson's interval over the bounds, on the sample size that explains the variance.

    A t interval covers badly near the ends (83% instead of 95% in simulations of small rates at k attempts).
    """
    floor, width = bounds[0], bounds[1] - bounds[0]
    share = (float(x.mean()) - floor) / width
    effective, how = float(x.size), "too little spread can be seen to estimate its own"
    told = min(share, 1 - share) * x.size >= 2
    if factors:
        told = tells_spread(x > floor, factors) and tells_spread(x < floor + width, factors)
    if factors and not told:
        if smallest > 1:
            low, high = limits((x - floor) / width, factors)
            how = f"mean; beta-binomial interval over the bounds, clustered by {' x '.join(factors)}: {how}"
            return floor + width * low, floor + width * high, how
        effective, how = 1.0, "all samples share one cluster"
    if variance > 0.0 and told:
        effective = share * (1 - share) / (variance / width**2) * (Z / student_t(smallest - 1)) ** 2
        names = f"clustered by {' x '.join(factors)}" if factors else "independent samples"
        how = f"{names}, t with {smallest - 1} degrees of freedom"
    low, high = wilson(share * effective, effective)
    method = f"mean; Wilson interval over the bounds with n_eff={_short(effective)}: {how}"
    return floor + width * low, floor + width * high, method


def bootstrap(
    operands: Sequence[Any],
    aggregate: Callable[[Sequence[Any]], float],
    clusters: Clusters | None = None,
    *,
    missing: int = 0,
    seed: int = 0,
    resamples: int = 1000,
    of_rows: Callable[[Codes], float] | None = None,
) -> Estimate:
    """A corpus metric with a percentile bootstrap interval.

    Whole clusters of the factor with the fewest levels are drawn (single samples without clustering). Source:
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13, with `bootstrap_tails`; for
    clusters: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8. A resample in
    which the metric is not defined (the aggregate raises, or gives NaN) is left out, and their number said.

    Args:
        operands: what `aggregate` needs from each of the n samples.
        aggregate: n operands -> the metric.
        clusters: factor -> n levels.
        missing: attempts that were not measured.
        seed: of the resampling; the interval is the same every time.
        resamples: number of bootstrap samples.
        of_rows: numbers of operands -> the metric of these, where that is cheaper than to aggregate them.
    """
    if not operands:
        return _not_measured(missing)
    factors = crossed_factors(clusters or {}, len(operands))
    name = min(factors, key=lambda key: levels_of(factors[key]), default=None)
    codes = np.arange(len(operands)) if name is None else factors[name]
    groups = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    unit = "samples" if name is None else f"clusters of {name}"
    method = f"expanded percentile bootstrap over {unit}, {resamples} resamples, seed {seed}"
    try:
        value = float(aggregate(operands))
    except ArithmeticError as error:
        method = f"not measured: it is not defined on these {len(operands)} sample(s) ({error})"
        value, low, high = math.nan, None, None
    else:
        of_rows = of_rows or (lambda rows: aggregate([operands[j] for j in rows]))
        low, high, note = _percentiles(of_rows, groups, seed, resamples)
        method += note
    return Estimate(
        value=value if math.isfinite(value) else None,
        low=low,
        high=high,
        n=len(operands),
        missing=missing,
        clusters=len(groups),
        method=method,
    )


def _percentiles(
    of_rows: Callable[[Codes], float], groups: Sequence[Codes], seed: int, resamples: int
) -> tuple[float | None, float | None, str]:
    """(low, high, what is to be said) of the metric over resampled groups, by `bootstrap_tails`."""
    if len(groups) < 2:
        return None, None, ": no interval, it is not finite"
    generator = np.random.default_rng(seed)
    values = np.full(resamples, math.nan)
    alike = len({len(group) for group in groups}) == 1
    stacked = np.stack(groups) if alike else None  # a look-up, instead of joining thousands of arrays
    for i in range(resamples):
        drawn = generator.integers(len(groups), size=len(groups))
        rows = np.concatenate([groups[j] for j in drawn]) if stacked is None else stacked[drawn].ravel()
        with suppress(Exception):  # code of the metric's own, on samples that it may not be defined for
            values[i] = of_rows(rows)
    defined = values[~np.isnan(values)]
    if np.isinf(defined).any():
        return None, None, ": no interval, it is not finite"
    if defined.size and defined.min() == defined.max():
        return None, None, f": no interval, since no spread can be seen in {len(groups)}"
    if 2 * defined.size < resamples:
        return None, None, f": no interval, it is defined in {defined.size} of the resamples alone"
    undefined = resamples - defined.size
    low, high = np.quantile(defined, bootstrap_tails(len(groups)))
    note = f", without {undefined} in which it is not defined" if undefined else ""
    return float(low), float(high), note


def p_of_means(a: ArrayLike, b: ArrayLike) -> float | None:
    """Two-sided p-value that two means are equal (Welch, Biometrika 34 (1947) 28-35); None without spread."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if min(x.size, y.size) < 2:
        return None
    parts = np.array([x.var(ddof=1) / x.size, y.var(ddof=1) / y.size])
    if not parts.sum():
        return None
    from scipy.special import stdtr  # type: ignore[import-untyped]

    freedom = parts.sum() ** 2 / (parts**2 / np.array([x.size - 1, y.size - 1])).sum()
    return float(2 * stdtr(freedom, -abs(x.mean() - y.mean()) / math.sqrt(parts.sum())))


def at_least_one(n: ArrayLike, successes: ArrayLike, k: int) -> Floats:
    """Unbiased estimate of the chance that at least one of k attempts succeeds, for each sample.

    1 - C(n - c, k) / C(n, k), as the product of Chen et al., arXiv 2107.03374 (pass@k).

    Args:
        n: shape (m,), attempts made; none is less than k.
        successes: shape (m,), how many of them succeeded.
        k: attempts that are allowed.
    """
    tried = np.asarray(n, dtype=np.float64)
    failed = tried - np.asarray(successes, dtype=np.float64)
    if tried.size and tried.min() < k:
        raise ValueError(f"the chance at {k} attempts needs {k} attempts or more")
    none = np.ones_like(tried)
    for i in range(k):
        none *= np.maximum(failed - i, 0.0) / (tried - i)
    return 1.0 - none


def median(estimates: Sequence[Estimate]) -> Estimate:
    """Median of estimates, with the medians of their limits as its interval.

    The median rises with each of its arguments, so the interval holds the true median wherever every single
    interval holds its own truth.
    """
    measured = [e for e in estimates if e.value is not None]
    ends = [(e.low, e.high) for e in measured if e.low is not None and e.high is not None]
    whole = len(ends) == len(measured) > 0
    return Estimate(
        value=statistics.median(e.value for e in measured if e.value is not None) if measured else None,
        low=statistics.median(low for low, _ in ends) if whole else None,
        high=statistics.median(high for _, high in ends) if whole else None,
        n=sum(e.n for e in estimates),
        missing=sum(e.missing for e in estimates),
        clusters=min((e.clusters for e in measured), default=0),
        method=f"median of {len(measured)} model(s); its limits are the medians of theirs",
    )


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of several estimates, each counting the same, with limits from theirs.

    Source: MOVER for a sum of independent estimates, Zou and Donner, Stat. Med. 27 (2008) 1693-1702. What is
    averaged over is taken as given: nothing is said about suites that were not measured.
    """
    values = [e.value for e in estimates if e.value is not None]
    if not values or len(values) < len(estimates):
        return _not_measured(sum(e.missing for e in estimates))
    value, m = math.fsum(values) / len(values), len(values)
    low = high = None
    ends = [(e.low, e.high) for e in estimates if e.low is not None and e.high is not None]
    if len(ends) == m:
        low = value - math.hypot(*(v - end for v, (end, _) in zip(values, ends, strict=True))) / m
        high = value + math.hypot(*(end - v for v, (_, end) in zip(values, ends, strict=True))) / m
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=sum(e.n for e in estimates),
        missing=sum(e.missing for e in estimates),
        clusters=min(e.clusters for e in estimates),
        method=f"mean of {m} estimate(s), limits from theirs (MOVER), taken as independent",
    )


class Stratum(NamedTuple):
    """The rate of one stratum, with what it is made of."""

    estimate: Estimate
    values: ArrayLike
    """Shape (n,), each 0 or 1."""
    clusters: Clusters


def stratified(strata: Sequence[Stratum]) -> Estimate:
    """The rate over several strata that are given, such as suites, every attempt counting once.

    Distances of the limits are joined as errors are, weighed by attempts (MOVER for a sum of independent
    estimates, Zou and Donner, Stat. Med. 27 (2008) 1693-1702). All strata together may tell the spread
    between clusters where those of one are too few to (`among` of `limits`). On the side of one half, limits
    of strata of few clusters have the t quantile of few; their sum is better known than each, and has that of
    Satterthwaite (Biometrics Bull. 2 (1946) 110-114). On the other side it would cover less than it says:
    rates are skewed, and stray further towards one half than from it. Other strata than these are not spoken
    of, so that it does not matter how far they lie apart.
    """
    measured = [(one, one.estimate.value) for one in strata if one.estimate.value is not None]
    missing = sum(one.estimate.missing for one in strata)
    if not measured:
        return _not_measured(missing)
    n = sum(one.estimate.n for one, _ in measured)
    value = math.fsum(one.estimate.n / n * v for one, v in measured)
    down, up, again = [], [], []
    for one, v in measured:
        weight, same, clusters = one.estimate.n / n, one.estimate.same_tasks, one.estimate.clusters
        share = proportion(one.values, one.clusters, among=min(value, 1 - value))
        down.append((weight * (v - share.low), clusters))
        up.append((weight * (share.high - v), clusters))
        again += [(weight * (v - same.low), weight * (same.high - v))] if same else []
    same_tasks = Interval(
        low=value - math.hypot(*(below for below, _ in again)),
        high=value + math.hypot(*(above for _, above in again)),
        method=f"on these tasks: stratified over {len(again)}, limits from theirs (MOVER)",
    )
    sides = (_plainly, _together) if value <= 0.5 else (_together, _plainly)
    return Estimate(
        value=value,
        low=value - sides[0](down),
        high=value + sides[1](up),
        n=n,
        missing=missing,
        clusters=sum(one.estimate.clusters for one, _ in measured),
        method=f"stratified over {len(measured)}, limits from theirs (MOVER, Satterthwaite)",
        same_tasks=same_tasks if len(again) == len(measured) else None,
    )


def _plainly(distances: Sequence[tuple[float, int]]) -> float:
    """The distance of a sum's limit from that of each part."""
    return math.hypot(*(distance for distance, _ in distances))


def _together(distances: Sequence[tuple[float, int]]) -> float:
    """The distance of a sum's limit from that of each part, which has so many clusters."""
    freedom = [max(LEAST_FREEDOM, clusters - 1) for _, clusters in distances]
    parts = [(d / student_t(f)) ** 2 for (d, _), f in zip(distances, freedom, strict=True)]
    variance = math.fsum(parts)
    if not variance:
        return 0.0
    joint = variance**2 / math.fsum(part**2 / f for part, f in zip(parts, freedom, strict=True))
    return student_t(joint) * math.sqrt(variance)


def attempted(compute: Callable[[], T], failed: Callable[[Estimate], T], *, missing: int = 0) -> T:
    """What an estimator gives. Where it fails: an estimate without a value, whose method says why.

    A number that cannot be computed, be it for a rule of aggregation that nobody can find, must not take the
    others of a scorecard with it.

    Args:
        compute: the estimator, with its arguments.
        failed: makes what `compute` would have given from the estimate without a value.
        missing: attempts that were not measured.
    """
    try:
        return compute()
    except Exception as error:
        method = f"could not be computed: {type(error).__name__}: {error}"
        return failed(
            Estimate(value=None, low=None, high=None, n=0, missing=missing, clusters=0, method=method)
        )


def estimated(estimator: Callable[..., Estimate], *samples: object, missing: int = 0) -> Estimate:
    """`attempted` of an estimator that gives an `Estimate`."""
    return attempted(lambda: estimator(*samples, missing=missing), lambda none: none, missing=missing)


def _not_measured(missing: int) -> Estimate:
    """Of nothing, since all of it is missing or since there was nothing to miss."""
    method = "nothing was measured" if missing else "nothing so far that it applies to"
    return Estimate(value=None, low=None, high=None, n=0, missing=missing, clusters=0, method=method)
