"""What a model does with the tools of a suite, and what a task that it solved took.

Knows no suite: the task is what its first headline rate without attacks is of, where a higher one is better.
"""

from collections.abc import Sequence

import numpy as np

from harness import stats
from harness.analysis.columns import Attempts, Floats, Rows
from harness.analysis.derived import Measured
from harness.types import Estimate, Metric, Struct

PARSE_FAILURES = Metric(name="parse_failures", higher_is_better=False, kind="rate", bounds=(0.0, 1.0))
"""Of all attempts, attacked ones too: how many wrote a tool call that could not be read."""


class ToolUse(Struct):
    """Of one model on one suite."""

    utility: str | None
    """Name of the rate that says which tasks are solved; None where the suite has none."""
    parse_failures: Estimate
    calls: Estimate | None
    """Of tools in an attempt that was measured; None where a record does not tell it, or without utility."""
    tokens: Estimate | None
    """Read and written in all attempts at these tasks, failed ones too, over those that solved them."""
    seconds: Estimate | None
    """The same of engine seconds."""


def tool_use(attempts: Attempts, measured: Sequence[Measured]) -> ToolUse:
    """What the attempts of a suite say, one at least.

    Args:
        attempts: of the suite.
        measured: its metrics, as from `measure`.
    """
    rows, none = np.arange(attempts.n, dtype=np.intp), np.empty(0, dtype=np.intp)
    unread = Measured(PARSE_FAILURES, rows, attempts.unparsed.astype(np.float64), none)
    utility = _utility([one for one in measured if one.unit == ""])
    calls = tokens = seconds = None
    if utility is not None:
        if attempts.tool_calls is not None:
            clusters = utility.observations(attempts).clusters
            made = attempts.tool_calls[utility.rows]
            calls = stats.estimated(stats.mean, made, clusters, missing=utility.missing.size)
        whole = utility.filled(0.0)  # a failed attempt has solved nothing, and was paid for
        if attempts.tokens is not None:
            tokens = _per_solved(attempts, whole, attempts.tokens)
        seconds = _per_solved(attempts, whole, attempts.seconds)
    return ToolUse(
        utility=None if utility is None else utility.metric.name,
        parse_failures=stats.estimated(stats.rate, unread.values, unread.observations(attempts).clusters),
        calls=calls,
        tokens=tokens,
        seconds=seconds,
    )


def _utility(measured: Sequence[Measured]) -> Measured | None:
    """The first headline rate where more is better, of samples that nobody attacks."""
    attacked = {one.metric.applies_to for one in measured if one.metric.hijack}
    rates = (one for one in measured if one.metric.headline and one.metric.kind == "rate")
    able = (one for one in rates if one.metric.higher_is_better and not one.metric.judged)
    return next((one for one in able if one.metric.applies_to not in attacked), None)


def _per_solved(attempts: Attempts, whole: Measured, spent: Floats) -> Estimate:
    """What all attempts took over how many solved their task, by a bootstrap over what they share."""
    cost, solved = spent[whole.rows], np.asarray(whole.values, dtype=np.float64)

    def of_rows(rows: Rows) -> float:
        if not (successes := float(solved[rows].sum())):
            raise ArithmeticError("no task was solved")
        return float(cost[rows].sum()) / successes

    every = np.arange(cost.size)
    return stats.bootstrap(
        every.tolist(), lambda _: of_rows(every), whole.observations(attempts).clusters, of_rows=of_rows
    )
