"""How much of a number may be missing before nothing is claimed from it."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.analysis.columns import Attempts, Floats
from harness.analysis.derived import Measured
from harness.types import Estimate, Interval, Metric

MOST_MISSING = 0.05
"""Share of attempts, more than which may not be missing where a best model is named, models are ranked or
anything is claimed. Were all that is missing right, or all wrong, a rate would move by up to this share: 5
points, as much as the half width of the 95% interval of 400 attempts; clinical trials draw the line there too
(Schulz and Grimes, Lancet 359 (2002) 781-785). Beyond it, what failed weighs more than what chance does, and
failures seldom are chance: long questions overflow, hard ones run out of budget."""


def missing_share(estimate: Estimate) -> float:
    """Share of the attempts that should have a score and have none."""
    return estimate.missing / max(1, estimate.n + estimate.missing)


def cut_share(estimate: Estimate) -> float:
    """Share of the measured attempts that were shown a context without its beginning."""
    return estimate.contexts_cut / max(1, estimate.n)


def lacks_attempts(estimate: Estimate) -> bool:
    """Whether so many attempts are missing that nothing is claimed from a number."""
    return estimate.worst_case is not None or missing_share(estimate) > MOST_MISSING


def misses_much(estimate: Estimate) -> bool:
    """Whether so much is missing, of attempts or of what they were shown, that nothing is claimed.

    A context without its beginning is another question. The same share counts: that many attempts could be
    all wrong where the whole question would have been answered, or all right.
    """
    return lacks_attempts(estimate) or cut_share(estimate) > MOST_MISSING


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


TELLING = 0.01
"""p-value below which it is said that failures go with the outcome."""


def qualified(
    estimate: Estimate,
    measured: Measured,
    attempts: Attempts,
    estimator: Callable[[Measured], Estimate],
) -> Estimate:
    """An estimate with its worst case and with what its missing attempts are like, if it misses much.

    The worst case goes from the interval if all that is missing came out at the lower end to that if all came
    out at the upper end: the bounds of Manski, Am. Econ. Rev. 80(2) (1990) 319-323, with sampling error.

    Args:
        estimate: of what was measured.
        measured: the metric.
        attempts: of the cell.
        estimator: gives the estimate of a metric.
    """
    metric = measured.metric
    ends = (0.0, 1.0) if metric.kind == "rate" else metric.bounds
    if not estimate.n or not misses_much(estimate) or metric.kind == "corpus" or ends is None:
        return estimate
    least, most = (stats.estimated(lambda end, missing: estimator(measured.filled(end)), end) for end in ends)
    worst = None
    if least.low is not None and most.high is not None:
        method = f"if all {estimate.missing} that are missing were {ends[0]:g}, and if all were {ends[1]:g}"
        # More attempts may leave a narrower interval: what is possible without the missing ones stays so.
        low = least.low if estimate.low is None else min(least.low, estimate.low)
        high = most.high if estimate.high is None else max(most.high, estimate.high)
        worst = Interval(low=low, high=high, method=method)
    return msgspec.structs.replace(
        estimate, worst_case=worst, warnings=(*estimate.warnings, *_telling(measured, attempts))
    )


def _telling(measured: Measured, attempts: Attempts) -> Iterator[str]:
    """Factors by which failures go with the outcome.

    What a missing attempt would have given is guessed from the others at the same task, and so is what each
    that was measured gave, from all but itself. Where the guesses differ (`stats.p_of_means`), more is lost
    of what is easy, or of what is hard: what is left says too little or too much.
    """
    values = np.asarray(measured.values, dtype=np.float64)
    for name, factor in {"sample": attempts.sample, **attempts.clusters}.items():
        codes, lost = factor.codes[measured.rows], factor.codes[measured.missing]
        if min(codes.min(initial=0), lost.min(initial=0)) < 0:
            continue
        size = len(factor.levels)
        sums, counts = np.bincount(codes, values, size), np.bincount(codes, minlength=size)
        here = _guesses(sums[codes] - values, counts[codes] - 1)
        there = _guesses(sums[lost], counts[lost])
        p = stats.p_of_means(here, there)
        if p is not None and p < TELLING:
            yield (
                f"what failed is unlike what was measured: by the same {name}, {there.mean():.3g} was to be "
                f"expected of it and {here.mean():.3g} of the others (p = {p:.2g})"
            )


def _guesses(sums: NDArray[Any], counts: NDArray[Any]) -> Floats:
    """Means of the others at the same task, where there are any."""
    means: Floats = sums[counts > 0] / counts[counts > 0]
    return means
