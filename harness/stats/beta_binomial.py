"""Limits of a rate over clustered outcomes that also hold where hardly anything, or hardly anyone, succeeds.

The question is what other tasks of the kind would give. Where few of them have an event, how much they differ
cannot be seen in the events, and has to be assumed: here by a weak prior on the spread between the levels of
a factor. Events move it as far as they tell.
"""

import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.stats.clusters import Codes, Floats, wilson

PRIOR_EVENTS = 1 / 3
"""Of the rate: Beta(1/3, 1/3), by which the rate is as likely to be above as below what was seen (Kerman,
Electron. J. Stat. 5 (2011) 1450-1470)."""
EDGES = np.array([0, 0.35, 0.65, 1, 1.4, 1.8, 2.25, 2.8, 3.6, 4.6, 6, 8])
"""Spread between levels is told apart by these limits: standard deviations of log odds."""
SCALE = 1.1
"""The prior of the spread is a half-t with 5 degrees of freedom and this scale (Gelman, Bayesian Anal. 1
(2006) 515-534)."""
USUAL = 3
"""The place between `EDGES` of the spread that is assumed where events are too few to tell it: 1 to 1.4."""
SPARSE = 0.05, 0.3
"""Up to the first rate the upper limit has the usual spread, from the second on the one that events tell, in
between some of both. A few events more can tell of so much less spread that the limit would fall."""
UNSEEN, REPEATED = 0.233, 13000.0
"""Parts of the limit that Wilson's interval has with one observation a level. Single levels may decide alone
though nothing tells so, and these parts are a price: the most with which no event in 16 x 9 tasks leaves 7
points, and 3% of them 12, and enough to hold 5% where no event is seen in 40 x 14, and 20% where 3 of 16
values of one level in 9 have an event."""
TRIED = 9
"""The fewest levels for which `REPEATED` was found."""
DECIDED = 0.45, 0.55
"""Between these intraclass correlations the lower limit comes to take each level as one observation."""
TOLD = 14, 16
"""Between so many levels with an event, and as many with a value that is none, the correlation within levels
is believed as it was seen: outcomes that are nearly all alike are more alike than normal log odds allow."""
TAILS = (0.025, 0.975)
POINTS = 41
"""Rates at which a posterior is computed."""
WIDE = 14.0
"""Log odds between which the spread is tabulated."""


class _Quantiles(NamedTuple):
    """Of the rate by one factor."""

    low: float
    high: float
    usual: float
    """The upper one under the usual spread."""


def limits(
    values: Floats, factors: Mapping[str, Codes], *, sparse: bool = True, among: float = 0.0
) -> tuple[float, float]:
    """The 95% interval of the rate of clustered values within [0, 1].

    For each factor alone: the rate's posterior under a beta-binomial of its levels (Skellam, J. R. Stat. Soc.
    B 10 (1948) 257-261), integrated over the spread between them. The distances of its quantiles from the
    rate that was seen are joined over crossed factors as variances are (Cameron, Gelbach and Miller, J. Bus.
    Econ. Stat. 29 (2011) 238-249): squares add up, less those of independent values, and are never less than
    of one factor alone. Without an event the lower limit is 0 (Brown, Cai and DasGupta, Stat. Sci. 16 (2001)
    101-133), and so at the other end.

    Up to `SPARSE` the upper limit never falls as events are added: there the spread is taken as given, so
    that an event can but raise what the rate may be; and it is not less than `_of_levels` has it. Where
    many levels have events (`TOLD`), neither limit is nearer than Wilson's at the sample's effective size.

    Args:
        values: shape (n,), n > 0.
        factors: name -> level codes, as from `crossed_factors`; one at least.
        sparse: False to take the spread as events tell it however few they are, as the two directions of a
            difference need it: what they assume would count twice.
        among: the rate of all strata, or its complement, where the values are of one: what events leave open
            of the spread, those of all strata may tell, which `SPARSE` is then of in the same way.
    """
    events, n = float(values.sum()), float(values.size)
    if 2 * events > n:
        low, high = limits(1 - values, factors, sparse=sparse, among=among)
        return 1 - high, 1 - low
    rate, alone = events / n, _independent(events, n)
    levels = {name: (np.bincount(codes, values), np.bincount(codes)) for name, codes in factors.items()}
    coarsest = min(levels, key=lambda name: levels[name][1].size)
    posteriors = [_posterior(*of) for of in levels.values()]
    low = rate - _joined([rate - min(own.low, alone[0]) for own in posteriors], rate - alone[0])
    high = rate + _joined([max(own.high, alone[1]) - rate for own in posteriors], alone[1] - rate)
    low = max(0.0, low) if events else 0.0
    if not sparse:
        return _of_many(*levels[coarsest], low, min(1.0, high))
    few = rate + _joined([max(own.usual, alone[1]) - rate for own in posteriors], alone[1] - rate)
    low, few = _of_levels(*levels[coarsest], low, few)
    open_yet = (1 - _part(rate, SPARSE)) * (1 - _part(among, SPARSE))
    return _of_many(*levels[coarsest], low, min(1.0, high + open_yet * (few - high)))


def _of_many(events: NDArray[Any], sizes: NDArray[np.intp], low: float, high: float) -> tuple[float, float]:
    """Limits that are no nearer than Wilson's at the effective size, as far as many levels tell that.

    The size of the sample over the design effect 1 + (m - 1) of the intraclass correlation (Kish, Survey
    Sampling, 1965), m being the values of a level, weighted by themselves.

    Args:
        events: shape (levels,), in each level.
        sizes: shape (levels,), values in each level.
        low: limit by all factors.
        high: the same.
    """
    share = _part(min((events > 0).sum(), (events < sizes).sum()), TOLD)
    if not share:
        return low, high
    n, each = float(sizes.sum()), float((sizes**2).sum() / sizes.sum())
    size = n / (1 + (each - 1) * max(0.0, _correlation(events, sizes)))
    wide = wilson(float(events.sum()) / n * size, size)
    lower, upper = low + share * (min(low, wide[0]) - low), high + share * (max(high, wide[1]) - high)
    return float(lower), float(upper)


def _correlation(events: NDArray[Any], sizes: NDArray[np.intp]) -> float:
    """Intraclass correlation of values of which some are events and some are not."""
    rate = float(events.sum() / sizes.sum())
    within = float((events * (sizes - events) / np.maximum(sizes - 1, 1)).sum() / sizes.sum())
    return 1 - within / (rate * (1 - rate))


def _of_levels(events: NDArray[Any], sizes: NDArray[np.intp], low: float, few: float) -> tuple[float, float]:
    """(lower limit, upper limit of few events), wider as far as levels decide, or may.

    Then there is one observation a level. That they do is told by the intraclass correlation of all values,
    which is near 1 as well if one event alone is seen. That they may is told, of few events, by the chance
    that a second value of a level has an event where one has: it rises with each event.

    Args:
        events: shape (levels,), in each level.
        sizes: shape (levels,), values in each level.
        low: limit by all factors.
        few: upper limit by all factors, of few events.
    """
    rate, again = float(events.sum() / sizes.sum()), np.maximum(sizes - 1, 1)
    one_each = wilson(rate * sizes.size, sizes.size)
    repeated = float(np.clip((events - 1) / again, 0.0, 1.0).max())
    # Few levels tell little of how they differ. Fewer than `TRIED` widen it no further: three that have a few
    # events each would be taken for three observations.
    may_decide = UNSEEN + REPEATED * repeated**3 / max(sizes.size, TRIED) ** 2
    few = max(few, min(1.0, may_decide) * one_each[1])
    if rate:
        low += _part(_correlation(events, sizes), DECIDED) * (min(low, one_each[0]) - low)
    return low, few


def _part(x: float, between: tuple[float, float]) -> float:
    """How far x lies from the first to the second, within 0 and 1."""
    return min(1.0, max(0.0, (x - between[0]) / (between[1] - between[0])))


def _joined(distances: list[float], alone: float) -> float:
    squares = [distance**2 for distance in distances]
    return math.sqrt(max(sum(squares) - (len(squares) - 1) * alone**2, *squares))


def _independent(events: float, n: float) -> tuple[float, float]:
    """Quantiles of the rate if nothing is clustered."""
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    low, high = betaincinv(events + PRIOR_EVENTS, n - events + PRIOR_EVENTS, TAILS)
    return float(low), float(high)


def _posterior(events: NDArray[Any], sizes: NDArray[np.intp]) -> _Quantiles:
    """Quantiles of the rate by one factor.

    Args:
        events: shape (levels,), in each level.
        sizes: shape (levels,), values in each level.
    """
    # Complex numbers are sorted by both parts, in a tenth of the time that rows take.
    alike, times = np.unique(events + 1j * sizes, return_counts=True)
    return _quantiles(alike.tobytes(), times.tobytes())


@lru_cache(maxsize=2**14)  # tasks of few attempts have the same few outcomes over and over
def _quantiles(alike: bytes, times: bytes) -> _Quantiles:
    """Of levels that are alike: (events, values) of each kind as float64, and how many there are as int64."""
    levels = np.frombuffer(alike).reshape(-1, 2)
    counts = np.frombuffer(times, dtype=np.int64)
    n = float(levels[:, 1] @ counts)
    rate, clusters = float(levels[:, 0] @ counts) / n, n * n / float(levels[:, 1] ** 2 @ counts)
    # First as far as clusters that agree wholly leave open, then closer to where the posterior is.
    spread = 4.0 * math.sqrt(rate * (1 - rate) / clusters + 4.0 / clusters**2) + 4.0 / clusters
    first, final = max(0.01 / n, rate - spread), min(1 - 0.01 / n, rate + spread)
    logits = np.linspace(math.log(first / (1 - first)), math.log(final / (1 - final)), POINTS)
    for last in (False, True):
        chance = 1 / (1 + np.exp(-logits))
        each = _log_posterior(levels, counts, logits)
        usual = each[:, USUAL] - each[:, USUAL].max()  # among many levels it may have no chance beside others
        weights = np.stack([np.exp(each) @ _prior(), np.exp(usual)], axis=1)  # by spreads of both kinds
        weights *= ((chance * (1 - chance)) ** PRIOR_EVENTS)[:, None]
        below = np.concatenate([np.zeros((1, 2)), np.cumsum((weights[1:] + weights[:-1]) / 2, axis=0)])
        below /= below[-1]
        if not last:
            inside = [np.interp([0.0001, 0.9999], column, logits) for column in below.T]
            logits = np.linspace(min(inside[0][0], inside[1][0]), max(inside[0][1], inside[1][1]), POINTS)
    (low, high), (_, usual) = (1 / (1 + np.exp(-np.interp(TAILS, column, logits))) for column in below.T)
    return _Quantiles(float(low), float(high), float(usual))


def _log_posterior(levels: Floats, counts: NDArray[np.int64], logits: Floats) -> Floats:
    """Shape (rates, spreads): log likelihood of the levels, the largest being 0."""
    share = _intraclass(logits)
    total = (1 - share) / share
    chance = 1 / (1 + np.exp(-logits))[:, None]
    a, b = chance * total, (1 - chance) * total
    by = _by_gamma if levels[:, 1].max() > 8 * len(levels) or (levels % 1).any() else _by_factors
    density = by(a, b, levels[:, 0], levels[:, 1] - levels[:, 0], counts)
    shifted: Floats = density - density.max()
    return shifted


def _by_gamma(a: Floats, b: Floats, won: Floats, lost: Floats, counts: NDArray[np.int64]) -> Floats:
    from scipy.special import betaln

    density: Floats = (betaln(a[..., None] + won, b[..., None] + lost) - betaln(a, b)[..., None]) @ counts
    return density


def _by_factors(a: Floats, b: Floats, won: Floats, lost: Floats, counts: NDArray[np.int64]) -> Floats:
    """The same for whole events, by the factors that the ratios of gamma functions are products of."""
    total = np.zeros_like(a)
    for base, events, sign in ((a, won, 1), (b, lost, 1), (a + b, won + lost, -1)):
        of_each = np.bincount(events.astype(np.intp), counts)
        reached = np.cumsum(of_each[::-1])[::-1][1:]  # levels with more than j
        total += sign * (np.log(base[..., None] + np.arange(reached.size)) @ reached)
    return total


@cache
def _prior() -> Floats:
    """Shape (spreads,): weight between `EDGES`."""
    from scipy.special import stdtr

    weights: Floats = np.diff(stdtr(5, EDGES / SCALE))
    weights /= weights.sum()
    return weights


def _intraclass(logits: Floats) -> Floats:
    """Shape (rates, spreads): the intraclass correlation that normal log odds have at a mean rate."""
    table = _intraclass_table()
    place = np.clip((logits + WIDE) * (len(table) - 1) / (2 * WIDE), 0, len(table) - 1.0001)
    at = place.astype(np.intp)
    part = (place - at)[:, None]
    correlation: Floats = table[at] * (1 - part) + table[at + 1] * part
    return correlation


@cache
def _intraclass_table() -> Floats:
    """Shape (log odds of the mean rate from -WIDE to WIDE, spreads)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights /= weights.sum()
    grid, centres = np.linspace(-WIDE, 0, 141), np.linspace(-60, 0, 601)
    columns = []
    for spread in (EDGES[1:] + EDGES[:-1]) / 2:
        chance = 1 / (1 + np.exp(-(centres[:, None] + spread * nodes)))
        mean = chance @ weights
        share = (chance - mean[:, None]) ** 2 @ weights / (mean * (1 - mean))
        columns.append(np.interp(grid, np.log(mean / (1 - mean)), share))
    lower = np.clip(np.stack(columns, axis=1), 1e-5, 0.9999)
    return np.concatenate([lower, lower[-2::-1]])  # a rate and its complement are spread alike
