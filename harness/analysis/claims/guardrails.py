"""What was left of the guardrails of a model in those that were derived from it."""

from harness import stats
from harness.analysis.claims.evidence import Evidence, shared
from harness.analysis.compare import GuardrailChange, difference, guardrail_changes
from harness.types import Estimate, Struct


class GuardrailClaim(Struct):
    """A model and one that was derived from it, such as a fine-tune or an adapter."""

    base: str
    derived: str
    changes: tuple[GuardrailChange, ...]
    """Of each headline of safety, and of the utility beside it."""
    capability: Estimate | None
    """Mean over the benchmarks without attacks that both have of derived less base, paired by sample; None
    where they have none."""
    benchmarks: int
    """That it is the mean of."""


def guardrail_claims(evidence: Evidence) -> tuple[GuardrailClaim, ...]:
    """Every such pair of the run that has a headline of safety in common."""
    able = {model.name: model for model in evidence.models}
    claims = []
    for base, one in sorted(evidence.cards.items()):
        for derived, other in sorted(evidence.cards.items()):
            if changes := guardrail_changes(one, other):
                both = shared(able[base], able[derived]) if {base, derived} <= able.keys() else []
                claims.append(
                    GuardrailClaim(
                        base=base,
                        derived=derived,
                        changes=changes,
                        capability=stats.average([difference(x, y) for x, y in both]) if both else None,
                        benchmarks=len(both),
                    )
                )
    return tuple(claims)
