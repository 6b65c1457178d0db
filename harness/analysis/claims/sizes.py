"""How ability goes with a model's size."""

import math
from collections.abc import Callable

from harness.analysis.claims.evidence import Evidence
from harness.stats.trends import fit_line
from harness.types import Architecture, Struct

SIZES: dict[str, Callable[[Architecture], int]] = {
    "active parameters": lambda architecture: architecture.active_params,
    "bytes of weights": lambda architecture: architecture.weight_bytes,
}


class SizeClaim(Struct):
    """How ability goes with a size, over all models."""

    size: str
    models: int
    per_doubling: float | None
    """Logits for each doubling; None with fewer than three models, or where all are of one size."""
    low: float | None
    high: float | None


def size_claims(evidence: Evidence) -> tuple[SizeClaim, ...]:
    """Ability against the logarithm of each size, over all models of the run."""
    if not evidence.finite:
        return ()
    claims = []
    for name, size in SIZES.items():
        known = [
            (math.log2(value), model.ability)
            for model in evidence.models
            if (architecture := model.card.model.architecture) and (value := size(architecture))
        ]
        line = fit_line([x for x, _ in known], [y for _, y in known])
        claims.append(
            SizeClaim(
                size=name,
                models=len(known),
                per_doubling=line.slope if line else None,
                low=line.low if line else None,
                high=line.high if line else None,
            )
        )
    return tuple(claims)
