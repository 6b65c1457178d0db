"""Limits of a rate over clustered outcomes that also hold where hardly anything, or hardly anyone, succeeds.

The question is what other tasks of the kind would give. Where few of them have an event, how much they differ
cannot be seen in the events, and has to be assumed: here by a weak prior on the spread between the levels of
a factor. Events move it as far as they tell.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.clusters import Codes, Floats

PRIOR_EVENTS = 1 / 3
"""Of the rate: Beta(1/3, 1/3), by which the rate is as likely to be above as below what was seen (Kerman,
Electron. J. Stat. 5 (2011) 1450-1470)."""
EDGES = np.array([0, 0.35, 0.65, 1, 1.4, 1.8, 2.25, 2.8, 3.6, 4.6, 6, 8])
"""Spread between levels is told apart by these limits: standard deviations of log odds."""
SCALE, DECISIVE, DECIDES = 1.1, 3.6, 0.4
"""The prior of the spread is a half-t with 5 degrees of freedom and this scale (Gelman, Bayesian Anal. 1
(2006) 515-534). For the factor with the fewest levels up to 40% of it are uniform above 3.6: single
goals may decide alone, some nearly always reached and the others never. Chosen by simulation."""
TOLD = 3, 6
"""With no more events than the first number nothing tells whether single goals decide, from the second on it
is taken to be told, between them in part. From the first event on, that one would leave a higher limit than
three."""
TAILS = (0.025, 0.975)
POINTS = 41
"""Rates at which a posterior is computed."""
WIDE = 14.0
"""Log odds between which the spread is tabulated."""


def limits(values: Floats, factors: Mapping[str, Codes]) -> tuple[float, float]:
    """The 95% interval of the rate of clustered values within [0, 1].

    For each factor alone: the rate's posterior under a beta-binomial of its levels (Skellam, J. R. Stat. Soc.
    B 10 (1948) 257-261), integrated over the spread between them. The distances of its quantiles from the
    rate that was seen are joined over crossed factors as variances are (Cameron, Gelbach and Miller, J. Bus.
    Econ. Stat. 29 (2011) 238-249): squares add up, less those of independent values, and are never less than
    of one factor alone. Without an event the lower limit is 0 (Brown, Cai and DasGupta, Stat. Sci. 16 (2001)
    101-133), and so at the other end.

    Args:
        values: shape (n,), n > 0.
        factors: name -> level codes, as from `crossed_factors`; one at least.
    """
    events, n = float(values.sum()), float(values.size)
    if 2 * events > n:
        low, high = limits(1 - values, factors)
        return 1 - high, 1 - low
    rate, alone = events / n, _independent(events, n)
    below, above = [], []
    decisive = DECIDES * min(1.0, max(0.0, (events - TOLD[0]) / (TOLD[1] - TOLD[0])))
    coarsest = min(factors, key=lambda name: int(factors[name].max()))
    for name, codes in factors.items():
        sizes = np.bincount(codes)
        found = _posterior(np.bincount(codes, weights=values), sizes, decisive if name == coarsest else 0.0)
        below.append(rate - min(found[0], alone[0]))
        above.append(max(found[1], alone[1]) - rate)
    low = rate - _joined(below, rate - alone[0])
    high = rate + _joined(above, alone[1] - rate)
    return (0.0 if events == 0 else max(0.0, low)), min(1.0, high)


def _joined(distances: list[float], alone: float) -> float:
    squares = [distance**2 for distance in distances]
    return math.sqrt(max(sum(squares) - (len(squares) - 1) * alone**2, *squares))


def _independent(events: float, n: float) -> tuple[float, float]:
    """Quantiles of the rate if nothing is clustered."""
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    low, high = betaincinv(events + PRIOR_EVENTS, n - events + PRIOR_EVENTS, TAILS)
    return float(low), float(high)


def _posterior(events: NDArray[Any], sizes: NDArray[np.intp], decisive: float) -> tuple[float, float]:
    """Quantiles of the rate by one factor.

    Args:
        events: shape (levels,), in each level.
        sizes: shape (levels,), values in each level.
        decisive: prior probability that single levels decide.
    """
    n = float(sizes.sum())
    rate, clusters = float(events.sum()) / n, n * n / float((sizes * sizes).sum())
    # First as far as clusters that agree wholly leave open, then closer to where the posterior is.
    spread = 4.0 * math.sqrt(rate * (1 - rate) / clusters + 4.0 / clusters**2) + 4.0 / clusters
    first, final = max(0.01 / n, rate - spread), min(1 - 0.01 / n, rate + spread)
    logits = np.linspace(math.log(first / (1 - first)), math.log(final / (1 - final)), POINTS)
    usual, tail = _priors()
    prior = (1 - decisive) * usual + decisive * tail
    for last in (False, True):
        chance = 1 / (1 + np.exp(-logits))
        weights = np.exp(_log_posterior(events, sizes, logits)) @ prior
        weights *= (chance * (1 - chance)) ** PRIOR_EVENTS
        below = np.concatenate([[0.0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
        below /= below[-1]
        if not last:
            inside = np.interp([0.0001, 0.9999], below, logits)
            logits = np.linspace(inside[0], inside[1], POINTS)
    low, high = 1 / (1 + np.exp(-np.interp(TAILS, below, logits)))
    return float(low), float(high)


def _log_posterior(events: NDArray[Any], sizes: NDArray[np.intp], logits: Floats) -> Floats:
    """Shape (rates, spreads): log likelihood of the levels, the largest being 0."""
    share = _intraclass(logits)
    total = (1 - share) / share
    chance = 1 / (1 + np.exp(-logits))[:, None]
    pairs, times = np.unique(np.stack([events, sizes], axis=1), axis=0, return_counts=True)
    a, b = chance * total, (1 - chance) * total
    if pairs[:, 1].max() > 8 * len(pairs) or (pairs % 1).any():
        found = _by_gamma(a, b, pairs[:, 0], pairs[:, 1] - pairs[:, 0], times)
    else:
        found = _by_factors(a, b, events, sizes)
    shifted: Floats = found - found.max()
    return shifted


def _by_gamma(a: Floats, b: Floats, won: Floats, lost: Floats, times: NDArray[np.intp]) -> Floats:
    from scipy.special import betaln

    found: Floats = (betaln(a[..., None] + won, b[..., None] + lost) - betaln(a, b)[..., None]) @ times
    return found


def _by_factors(a: Floats, b: Floats, events: NDArray[Any], sizes: NDArray[np.intp]) -> Floats:
    """The same for whole events, by the factors that the ratios of gamma functions are products of."""
    found = np.zeros_like(a)
    for base, counts, sign in ((a, events, 1), (b, sizes - events, 1), (a + b, sizes, -1)):
        reached = np.cumsum(np.bincount(counts.astype(np.intp))[::-1])[::-1][1:]  # levels with more than j
        found += sign * (np.log(base[..., None] + np.arange(reached.size)) @ reached)
    return found


@cache
def _priors() -> tuple[Floats, Floats]:
    """Each of shape (spreads,): weight between `EDGES`, usually and if single levels decide."""
    from scipy.special import stdtr

    usual, tail = np.diff(stdtr(5, EDGES / SCALE)), np.where(EDGES[:-1] >= DECISIVE, np.diff(EDGES), 0.0)
    return usual / usual.sum(), tail / tail.sum()


def _intraclass(logits: Floats) -> Floats:
    """Shape (rates, spreads): the intraclass correlation that normal log odds have at a mean rate."""
    table = _intraclass_table()
    place = np.clip((logits + WIDE) * (len(table) - 1) / (2 * WIDE), 0, len(table) - 1.0001)
    at = place.astype(np.intp)
    part = (place - at)[:, None]
    found: Floats = table[at] * (1 - part) + table[at + 1] * part
    return found


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
