"""Lines through points, and how far one series lags behind another."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.clusters import Floats, student_t
from harness.types import Struct

FEW_POINTS = 3
"""Two points have a line through them, and nothing that tells how far it is off."""


class Line(Struct):
    """A straight line by least squares."""

    slope: float
    low: float
    """Lower end of the slope's 95% interval."""
    high: float
    points: int


def fit_line(x: ArrayLike, y: ArrayLike) -> Line | None:
    """The line of y over x by least squares, with a t interval of its slope on n - 2 degrees of freedom.

    Source: any textbook; Draper and Smith, Applied Regression Analysis (1998), ch. 1. The points are taken as
    independent draws around one line, each as exact as the others.

    Returns:
        None with fewer than three points, or where all x are the same.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.size < FEW_POINTS or np.ptp(a) == 0:
        return None
    spread = float(np.square(a - a.mean()).sum())
    slope = float(((a - a.mean()) * (b - b.mean())).sum()) / spread
    left = b - b.mean() - slope * (a - a.mean())
    freedom = a.size - 2
    half = student_t(freedom) * math.sqrt(float(np.square(left).sum()) / freedom / spread)
    return Line(slope=slope, low=slope - half, high=slope + half, points=a.size)


class Lag(Struct):
    """How much later one series reached a level than another."""

    time: float
    """From the day on which the leader first was as good, to that of the follower's best. Below 0: the
    follower was first, and was overtaken."""
    follower: int
    """Index of the follower's best."""
    leader: int
    """Index of the first of the leader's that is as good."""
    at_least: bool
    """The leader's earliest is as good already: one before it may have been."""


def lag(
    leader: tuple[Sequence[float], Sequence[float]], follower: tuple[Sequence[float], Sequence[float]]
) -> Lag | None:
    """When the leader first had what the follower's best has.

    Args:
        leader: (times, values) of its models.
        follower: (times, values); neither is empty.

    Returns:
        None if no model of the leader is as good as the follower's best.
    """
    best = max(range(len(follower[1])), key=lambda i: (follower[1][i], -follower[0][i]))
    ordered = sorted(range(len(leader[0])), key=lambda i: leader[0][i])
    first = next((i for i in ordered if leader[1][i] >= follower[1][best]), None)
    if first is None:
        return None
    return Lag(
        time=follower[0][best] - leader[0][first],
        follower=best,
        leader=first,
        at_least=leader[0][first] == leader[0][ordered[0]],
    )


def draws(values: Sequence[float], covariance: ArrayLike, *, number: int = 2000, seed: int = 0) -> Floats:
    """Normal draws around estimates, shape (number, values); the same every time."""
    random = np.random.default_rng(seed)
    # A covariance with a rounding error below 0 is no reason for a warning.
    return random.multivariate_normal(
        np.asarray(values), np.asarray(covariance), number, check_valid="ignore", method="eigh"
    )


def luck(values: Sequence[float], drawn: Floats) -> float:
    """By how much the largest of several estimates is expected to exceed its own truth: the winner's curse.

    As `selection_bias`, for estimates whose errors are correlated.

    Args:
        values: the estimates.
        drawn: shape (draws, values), around them, as from `draws`.
    """
    if len(values) < 2:
        return 0.0
    best = np.argmax(drawn, axis=1)
    return max(0.0, float((drawn[np.arange(len(drawn)), best] - np.asarray(values)[best]).mean()))
