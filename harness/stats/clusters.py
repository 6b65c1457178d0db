"""Clustered samples: factors, the variance that they leave in a mean, and what any interval is made with."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z = NormalDist().inv_cdf(0.975)
"""The normal quantile of a two-sided 95% interval."""

Clusters = Mapping[str, Sequence[str] | NDArray[np.integer[Any]]]
"""Factor -> level of each value, by name or as numbers from 0. Values that share a level of a factor are not
independent."""

FEW_CLUSTERS = 3
"""What occurs in fewer clusters than this does not tell how it varies between them."""

Codes = NDArray[np.intp]
Floats = NDArray[np.float64]


def cluster_variance(values: ArrayLike, factors: Mapping[str, Codes]) -> float:
    """Cluster-robust variance of the mean of values.

    One factor: sum of squared sums of residuals by cluster over n^2, times G/(G-1) (Liang and Zeger,
    Biometrika 73 (1986) 13-22). Crossed factors: inclusion and exclusion over their intersections, for two
    V_a + V_b - V_ab (Cameron, Gelbach and Miller, J. Bus. Econ. Stat. 29 (2011) 238-249), but never less than
    by any one factor alone, since the difference can be far too small or negative (MacKinnon, Nielsen and
    Webb, arXiv 2406.08880). No factor: the usual variance of a mean, s^2/n.

    Args:
        values: shape (n,).
        factors: name -> level codes, as from `crossed_factors`. Every factor has two levels or more.
    """
    x = np.asarray(values, dtype=np.float64)
    residuals = x - x.mean()
    codes = list(factors.values()) or [np.arange(x.size)]
    one_way, total = [], 0.0
    for size in range(1, len(codes) + 1):
        for subset in itertools.combinations(codes, size):
            part = _one_way_variance(residuals, _intersection(subset))
            total += part if size % 2 else -part
            one_way += [part] if size == 1 else []
    return max(total, *one_way)


def careful_variance(
    values: ArrayLike, factors: Mapping[str, Codes], finest: Mapping[str, Codes] | None = None
) -> float:
    """`cluster_variance`, but never less than of independent values; 0 where there is one cluster.

    With few clusters their sums can agree by chance, more than those of independent values would.

    Args:
        values: shape (n,).
        factors: name -> level codes, as from `crossed_factors`.
        finest: the factor within whose levels values belong together, such as the two sides of a pair.
    """
    if min((levels_of(codes) for codes in factors.values()), default=np.size(values)) < 2:
        return 0.0
    return max(cluster_variance(values, factors), cluster_variance(values, finest or {}))


def tells_spread(present: ArrayLike, factors: Mapping[str, Codes]) -> bool:
    """True if what is counted occurs in `FEW_CLUSTERS` of every factor; without factors, in two values.

    Args:
        present: shape (n,), whether it occurs.
        factors: name -> level codes.
    """
    there = np.asarray(present, dtype=bool)
    if not factors:
        return int(np.count_nonzero(there)) > 1
    # Counting takes time in proportion to the values, where sorting takes more.
    counts = (np.count_nonzero(np.bincount(codes[there])) for codes in factors.values())
    return all(clusters >= FEW_CLUSTERS for clusters in counts)


def _one_way_variance(residuals: Floats, codes: Codes) -> float:
    sums = np.bincount(codes, weights=residuals)
    # Not a dot product: BLAS would start threads, which wait for each other on a busy machine.
    return float(sums.size / (sums.size - 1) * np.square(sums).sum() / residuals.size**2)


def _intersection(factors: Sequence[Codes]) -> Codes:
    """Codes of the cells of crossed factors."""
    cells = factors[0]
    for codes in factors[1:]:
        cells = _to_codes(cells * levels_of(codes) + codes)
    return cells


def _to_codes(levels: NDArray[Any]) -> Codes:
    """Levels as 0, 1, ... without gaps, in the order of the levels."""
    if levels.dtype.kind != "i" or not levels.size or levels.max() > 4 * levels.size:
        return np.unique(levels, return_inverse=True)[1]
    # Counting takes time in proportion to the values, where sorting takes more.
    counts = np.bincount(levels)
    if counts.all():
        return levels.astype(np.intp, copy=False)
    used = np.flatnonzero(counts)
    place = np.empty(used[-1] + 1, dtype=np.intp)
    place[used] = np.arange(used.size)
    codes: Codes = place[levels]
    return codes


def crossed_factors(clusters: Clusters, n: int) -> dict[str, Codes]:
    """Factor -> level codes, without the factors that say nothing.

    A factor is left out if no two samples share a level, or if it only divides the levels of another one (the
    repeats of a sample within its user task), since the coarser one then covers it.
    """
    return without_nested(level_codes(clusters), n)


def level_codes(clusters: Clusters) -> dict[str, Codes]:
    """Factor -> level codes, of all factors."""
    return {name: _to_codes(np.asarray(levels)) for name, levels in clusters.items()}


def without_nested(codes: Mapping[str, Codes], n: int) -> dict[str, Codes]:
    """`crossed_factors` of what `level_codes` gives."""
    shared = {name: c for name, c in sorted(codes.items()) if n and levels_of(c) < n}
    kept: dict[str, Codes] = {}
    for name in sorted(shared, key=lambda key: levels_of(shared[key])):
        if not any(_divides(shared[name], coarser) for coarser in kept.values()):
            kept[name] = shared[name]
    return kept


def finest_factor(codes: Mapping[str, Codes]) -> dict[str, Codes]:
    """The factor with the most levels, of what `level_codes` gives; none if there is none."""
    name = max(codes, key=lambda key: levels_of(codes[key]), default=None)
    return {} if name is None else {name: codes[name]}


def _divides(fine: Codes, coarse: Codes) -> bool:
    """True if every level of `fine` lies in one level of `coarse`."""
    return levels_of(_intersection([fine, coarse])) == levels_of(fine)


def levels_of(codes: Codes) -> int:
    """Number of levels of a factor."""
    return int(codes.max()) + 1


def bootstrap_tails(n: int) -> tuple[float, float]:
    """The quantiles of n resampled units that make a 95% percentile interval.

    Source: the expanded percentile interval of Hesterberg, Am. Stat. 69 (2015) 371-386: wider by what
    the plain one lacks with few units, t instead of z and n - 1 instead of n.
    """
    from scipy.special import ndtr  # type: ignore[import-untyped]

    tail = float(ndtr(-math.sqrt(n / (n - 1)) * student_t(n - 1)))
    return tail, 1 - tail


def wilson(successes: float, n: float, z: float = Z) -> tuple[float, float]:
    """Score interval of a binomial proportion.

    Source: Wilson, JASA 22 (1927) 209-212; recommended by Brown, Cai and DasGupta, Stat. Sci. 16 (2001)
    101-133. `n` need not be whole, so that an effective sample size can be used.
    """
    p, penalty = successes / n, z * z / n
    centre = (p + penalty / 2) / (1 + penalty)
    half = z / (1 + penalty) * math.sqrt(p * (1 - p) / n + penalty / (4 * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def student_t(degrees_of_freedom: float) -> float:
    """The 97.5% quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, 0.975))
