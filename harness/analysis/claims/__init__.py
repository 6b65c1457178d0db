"""What is claimed of models and origins, each with its instrument. One module a claim.

To add a claim: a module with its type and a function of the `Evidence`, a line in `CLAIMS`, and a field of
`Claims` by that name. How it is shown is `reports.claims_text`'s to say.
"""

from collections.abc import Sequence
from typing import Any

from harness.analysis.build import ModelScorecard
from harness.analysis.claims.adoption import AdoptionClaim, adoption_claims
from harness.analysis.claims.contrasts import ContrastClaim, contrast_claims
from harness.analysis.claims.costs import CostClaim, cost_claims
from harness.analysis.claims.dates import date_models
from harness.analysis.claims.evidence import Asked, Claim, CostMethod, Evidence, gather
from harness.analysis.claims.gaps import GapClaim, gap_claims
from harness.analysis.claims.guardrails import GuardrailClaim, guardrail_claims
from harness.analysis.claims.hardware import HardwareClaim, hardware_claims
from harness.analysis.claims.hijacking import hijacking_claims
from harness.analysis.claims.judged import judged_claims
from harness.analysis.claims.lags import LagClaim, lag_claims
from harness.analysis.claims.mismatches import MismatchClaim, mismatch_claims
from harness.analysis.claims.models import ModelClaim, model_claims
from harness.analysis.claims.sizes import SizeClaim, size_claims
from harness.analysis.claims.snapshot import Snapshot
from harness.analysis.claims.trends import TrendClaim, trend_claims
from harness.analysis.comparability import Differences, Setting, check_protocols, differences
from harness.analysis.origins import Compared, OriginScorecard
from harness.errors import UserError
from harness.types import Struct

CLAIMS: dict[str, Claim] = {
    "models": model_claims,
    "gaps": gap_claims,
    "sizes": size_claims,
    "hardware": hardware_claims,
    "trends": trend_claims,
    "lags": lag_claims,
    "hijacking": hijacking_claims,
    "judged": judged_claims,
    "mismatches": mismatch_claims,
    "contrasts": contrast_claims,
    "guardrails": guardrail_claims,
    "costs": cost_claims,
    "adoption": adoption_claims,
}
"""Field of `Claims` -> what makes it."""


class Claims(Struct):
    """All claims of a run."""

    by: str
    models: tuple[ModelClaim, ...]
    gaps: tuple[GapClaim, ...]
    finite: bool
    """Whether every model has a finite ability; without, there are no lines through them."""
    sizes: tuple[SizeClaim, ...]
    hardware: tuple[HardwareClaim, ...]
    trends: tuple[TrendClaim, ...]
    lags: tuple[LagClaim, ...]
    undated: tuple[str, ...]
    """Models without a release date that can be read."""
    hijacking: tuple[Compared, ...]
    """Risk ratios of being hijacked."""
    judged: tuple[Compared, ...]
    """Gaps in what a judge saw in replies, of the best models of each pair of origins."""
    mismatches: tuple[MismatchClaim, ...]
    contrasts: tuple[ContrastClaim, ...]
    guardrails: tuple[GuardrailClaim, ...]
    """What derivations changed."""
    cost_method: CostMethod | None
    costs: tuple[CostClaim, ...]
    snapshot: Snapshot | None
    adoption: tuple[AdoptionClaim, ...]
    questions: int
    spread: float
    price: float | None
    allowed: tuple[Setting, ...]
    """Protocol fields that differ and were allowed to."""
    differences: Differences
    """What else differs between the models, and may move their scores."""
    unread: tuple[str, ...] = ()
    """Why the records of some cells cannot be read, a sentence each: nothing here is made from them."""
    problems: dict[str, str] = {}
    """Field of a claim that could not be computed -> why. The others are none the worse."""

    @property
    def not_computed(self) -> list[str]:
        """The same, a sentence each."""
        return [f"the claim {name!r} was not computed: {why}" for name, why in self.problems.items()]


def make_claims(
    cards: Sequence[ModelScorecard],
    asked: Asked | None = None,
    origins: Sequence[OriginScorecard] | None = None,
) -> Claims:
    """Claims about every model, and the gaps between origins.

    Args:
        cards: of the models.
        asked: what is asked.
        origins: those of `build_origins` for it, where they are there already.

    Raises:
        UserError: nothing was measured that a claim is made of, no suite links all models that have a
            capability, protocols differ, models cannot be grouped as asked, or the snapshot has none of them.
    """
    asked = asked or Asked()
    allowed = check_protocols(cards, asked.allow)
    evidence = gather(cards, asked, origins)
    made, problems = _made(evidence)
    return Claims(
        **made,
        problems=problems,
        unread=tuple(sentence for card in cards for sentence in card.unread.values()),
        by=asked.by,
        finite=evidence.finite,
        undated=date_models(evidence)[1],
        cost_method=asked.cost,
        snapshot=asked.snapshot,
        questions=evidence.questions,
        spread=evidence.abilities.spread,
        price=asked.price,
        allowed=allowed,
        differences=differences(cards),
    )


def _made(evidence: Evidence) -> tuple[dict[str, Any], dict[str, str]]:
    """(claims, why some could not be computed), by the field of `Claims`."""
    made: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, claim in CLAIMS.items():
        try:
            made[name] = claim(evidence)
        except UserError:  # what was asked for cannot be: whoever asked is told
            raise
        except Exception as error:
            made[name] = ()
            problems[name] = f"{type(error).__name__}: {error}"
    return made, problems
