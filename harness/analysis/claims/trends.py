"""How abilities of an origin rose with release dates."""

from collections.abc import Sequence

from harness.analysis.claims.dates import Dated, by_origin, date_models
from harness.analysis.claims.evidence import Evidence
from harness.stats.trends import fit_line
from harness.types import Struct


class TrendClaim(Struct):
    """How an origin's abilities rose with release dates."""

    origin: str
    models: int
    """Models with a release date."""
    per_year: float | None
    """Logits a year; None with fewer than three models, or of one date alone."""
    low: float | None
    high: float | None


def trend_claims(evidence: Evidence) -> tuple[TrendClaim, ...]:
    """A line for each origin; none where abilities are not finite."""
    dated, _ = date_models(evidence)
    return trends(dated, evidence.abilities.ability) if evidence.finite else ()


def trends(dated: Sequence[Dated], ability: Sequence[float]) -> tuple[TrendClaim, ...]:
    """A line of ability over release date for each origin, all of its models alike."""
    claims = []
    for origin, own in by_origin(dated).items():
        line = fit_line([model.month / 12 for model in own], [ability[model.index] for model in own])
        claims.append(
            TrendClaim(
                origin=origin,
                models=len(own),
                per_year=line.slope if line else None,
                low=line.low if line else None,
                high=line.high if line else None,
            )
        )
    return tuple(claims)
