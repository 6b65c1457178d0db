"""How much of a number may be missing before nothing is claimed from it."""

from harness.types import Estimate, Metric

MOST_MISSING = 0.05
"""Share of attempts, more than which may not be missing where a best model is named, models are ranked or
anything is claimed. Were all that is missing right, or all wrong, a rate would move by up to this share: 5
points, as much as the half width of the 95% interval of 400 attempts. Beyond it, what failed weighs more than
what chance does, and failures seldom are chance: long questions overflow, hard ones run out of budget."""


def missing_share(estimate: Estimate) -> float:
    """Share of the attempts that should have a score and have none."""
    return estimate.missing / max(1, estimate.n + estimate.missing)


def misses_much(estimate: Estimate) -> bool:
    """Whether so much is missing that nothing is claimed from a number."""
    return estimate.worst_case is not None or missing_share(estimate) > MOST_MISSING


def worst_case(estimate: Estimate, metric: Metric) -> tuple[float, float] | None:
    """What the number would be if all that is missing were the least, and the most, that there can be.

    None where that is not known: for a metric without bounds, or one that is no mean over attempts.
    """
    if estimate.worst_case is not None:
        return estimate.worst_case.low, estimate.worst_case.high
    ends = (0.0, 1.0) if metric.kind == "rate" else metric.bounds
    if ends is None or metric.kind == "corpus" or (estimate.value is None and estimate.n):
        return None
    total = max(1, estimate.n + estimate.missing)
    known = (estimate.value or 0.0) * estimate.n
    low, high = ((known + end * estimate.missing) / total for end in ends)
    return low, high
