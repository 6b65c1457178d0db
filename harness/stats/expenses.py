"""What it costs one model to do what another does, by the two methods of CAISI.

CAISI is the Center for AI Standards and Innovation at NIST. Costs are in any unit: ratios have none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.stats.clusters import Floats, bootstrap_tails
from harness.types import Estimate

RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Expenses:
    """n attempts of one model."""

    task: NDArray[np.intp]
    """Shape (n,): which task; equal numbers mean the same task for both models that are compared."""
    solved: Floats
    """Shape (n,), each 0 or 1."""
    cost: Floats
    """Shape (n,)."""
    cut: NDArray[np.bool_]
    """Shape (n,): whether a budget of another kind, such as of tokens, ended the attempt."""

    def of(self, tasks: NDArray[np.intp]) -> "Expenses":
        """The attempts at some tasks, numbered anew in their order."""
        rows = np.isin(self.task, tasks)
        return Expenses(
            np.searchsorted(tasks, self.task[rows]), self.solved[rows], self.cost[rows], self.cut[rows]
        )


Ratio = Callable[[Floats], Floats]
"""Weights of tasks, shape (draws, tasks) -> cost of a over that of b, shape (draws,); NaN where there is no
ratio."""
CHUNK = 4_000_000
"""Weights that are worked on at once, at most."""


def curve_ratio(a: Expenses, b: Expenses) -> Estimate:
    """What a costs over what b costs, at the same performance: CAISI's method of September 2025.

    A model gives a task up once that has cost a limit, which is a failure. As the limit rises, so do the
    share of tasks that are solved, y, and the mean cost of a task, expense(y). A model's cost is
    exp(E[log expense(y)]), with y uniform over the shares that both models reach. A curve ends at the
    cheapest attempt that another budget has ended.
    Source: CAISI, Evaluation of DeepSeek AI Models (NIST, 30 September 2025), appendix A6. There giving up a
    multiple-choice task is a random guess; here it is a failure too.
    """
    tasks = np.intersect1d(a.task, b.task)
    sides = a.of(tasks), b.of(tasks)

    def ratio(weights: Floats) -> Floats:
        curves = [_curve(side, weights) for side in sides]
        top = np.minimum(*(share.sum(axis=1) for share, _ in curves))
        logs = [_mean_log(share, expense, top) for share, expense in curves]
        ratios: Floats = np.exp(logs[0] - logs[1])
        return ratios

    return _estimate(
        ratio,
        tasks.size,
        "ratio of performance-averaged expenses, exp(E[log expense(y)]) over the shares of solved tasks that "
        "both reach (CAISI, September 2025, appendix A6)",
        timed=_timed(a, b),
    )


def _curve(side: Expenses, weights: Floats) -> tuple[Floats, Floats]:
    """(share of tasks that each attempt adds to what is solved, expense of a task), as the limit rises.

    Both of shape (draws, attempts).
    """
    order = np.argsort(side.cost, kind="stable")
    each = weights / np.bincount(
        side.task, minlength=weights.shape[1]
    )  # a task counts once, however often tried
    weight, cost = each[:, side.task[order]], side.cost[order]
    total = weight.sum(axis=1, keepdims=True)
    spent = np.cumsum(weight * cost, axis=1) + cost * (total - np.cumsum(weight, axis=1))
    kept = cost <= side.cost[side.cut].min(initial=math.inf)
    return (weight * side.solved[order] / total)[:, kept], (spent / total)[:, kept]


def _mean_log(share: Floats, expense: Floats, top: Floats) -> Floats:
    """Mean of log expense(y) over y from 0 to `top`, by draw; NaN where that is 0."""
    upper = np.cumsum(share, axis=1)
    width = np.clip(np.minimum(upper, top[:, None]) - (upper - share), 0.0, None)
    mean = np.full(top.shape, np.nan)
    np.divide((width * np.log(expense)).sum(axis=1), width.sum(axis=1), out=mean, where=top > 0)
    return mean


def both_solved_ratio(a: Expenses, b: Expenses) -> Estimate:
    """What a costs over what b costs, in the mean over tasks that both solved: CAISI's method of May 2026.

    Of several attempts at a task, those that solved it are averaged. Source: CAISI, Evaluation of DeepSeek V4
    Pro (NIST, 1 May 2026).
    """
    tasks = np.intersect1d(a.task[a.solved > 0], b.task[b.solved > 0])
    costs = [_solved_cost(side, tasks) for side in (a, b)]

    def ratio(weights: Floats) -> Floats:
        ratios: Floats = (weights @ costs[0]) / (weights @ costs[1])
        return ratios

    return _estimate(
        ratio,
        tasks.size,
        "ratio of mean costs over the tasks that both solved (CAISI, May 2026)",
        timed=_timed(a, b),
    )


def _solved_cost(side: Expenses, tasks: NDArray[np.intp]) -> Floats:
    """Mean cost of the successful attempts at each of some tasks, all of which were solved."""
    won = side.of(tasks)
    spent, times = (np.bincount(won.task, x, tasks.size) for x in (won.cost * won.solved, won.solved))
    cost: Floats = spent / times
    return cost


def _timed(*sides: Expenses) -> bool:
    """Whether every attempt has a cost: one without was not measured, and is not free."""
    return all(bool((side.cost > 0).all()) for side in sides)


def _estimate(ratio: Ratio, tasks: int, method: str, *, timed: bool) -> Estimate:
    """With an expanded percentile bootstrap interval over tasks, which both models share."""
    value = low = high = None
    if tasks and timed:
        whole = float(ratio(np.ones((1, tasks)))[0])
        value = None if math.isnan(whole) else whole
        drawn = _resampled(ratio, tasks) if value is not None and tasks > 1 else np.asarray([np.nan])
        if not np.isnan(drawn).any():
            low, high = np.quantile(drawn, bootstrap_tails(tasks)).tolist()
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=tasks,
        missing=0,
        clusters=tasks,
        method=f"{method}; expanded percentile bootstrap over tasks, {RESAMPLES} resamples",
    )


def _resampled(ratio: Ratio, tasks: int) -> Floats:
    """The ratio over tasks drawn with replacement, shape (RESAMPLES,); the same every time."""
    random = np.random.default_rng(0)
    rows = max(1, min(RESAMPLES, CHUNK // tasks))
    sizes = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    even = np.full(tasks, 1 / tasks)
    return np.concatenate([ratio(random.multinomial(tasks, even, size).astype(np.float64)) for size in sizes])
