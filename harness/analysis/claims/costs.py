"""What the best model of an origin costs, over what that of another does."""

from collections.abc import Callable

import numpy as np

from harness.analysis.build import MetricResult
from harness.analysis.claims.evidence import CostMethod, Evidence, key_of, shared
from harness.analysis.compare import shared_clusters
from harness.stats.expenses import Expenses, both_solved_ratio, curve_ratio
from harness.types import Estimate, Struct

COST_METHODS: dict[CostMethod, Callable[[Expenses, Expenses], Estimate]] = {
    "curve": curve_ratio,
    "both-solved": both_solved_ratio,
}
"""CAISI's two ways to compare costs, as `stats.expenses` says."""


class CostClaim(Struct):
    """Cost of the best model of an origin over that of another, on one suite."""

    key: str
    a: str
    b: str
    ratio: Estimate
    why: str | None
    """Why there is no ratio."""


def cost_claims(evidence: Evidence) -> tuple[CostClaim, ...]:
    """The best models of two origins on every suite that both have, where a method is asked for."""
    if evidence.asked.cost is None:
        return ()
    method = COST_METHODS[evidence.asked.cost]
    best = evidence.best()
    claims = []
    for pair in evidence.pairs():
        a, b = (evidence.models[best[origin]] for origin in pair)
        gpus = [model.card.model.engine.gpus if model.card.model.engine else None for model in (a, b)]
        for ours, theirs in shared(a, b):
            sides = _expenses(ours, theirs, gpus[0] or 1, gpus[1] or 1)
            ratio = method(*sides)
            why = _why(sides, ratio)
            claims.append(CostClaim(key=key_of(ours), a=a.name, b=b.name, ratio=ratio, why=why))
    return tuple(claims)


def _expenses(a: MetricResult, b: MetricResult, gpus_a: int, gpus_b: int) -> tuple[Expenses, Expenses]:
    """Engine seconds x GPUs of each attempt that was measured, with tasks numbered alike for both."""
    ours, theirs = shared_clusters([a.observations], [b.observations])
    first, second = (
        Expenses(
            np.asarray(codes["sample"]).astype(np.intp),
            np.asarray(result.observations.values, dtype=np.float64),
            result.observations.seconds * gpus,
            result.observations.cut,
        )
        for codes, result, gpus in ((ours, a, gpus_a), (theirs, b, gpus_b))
    )
    return first, second


def _why(sides: tuple[Expenses, Expenses], ratio: Estimate) -> str | None:
    """Why there is no ratio, None if there is one."""
    if ratio.value is not None:
        return None
    timeless = any((side.cost <= 0).any() for side in sides)
    return "some attempts have no engine time" if timeless else "no task was solved that both can be held to"
