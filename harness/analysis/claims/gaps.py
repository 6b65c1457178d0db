"""How far the best model of an origin is ahead of the best of another, by three instruments."""

from harness import stats
from harness.analysis.claims.evidence import Evidence, shared
from harness.analysis.compare import difference
from harness.stats.trends import luck
from harness.types import Estimate, Struct


class GapClaim(Struct):
    """The gap of the best models of two origins, by three instruments."""

    a: str
    b: str
    best_a: str
    best_b: str
    suites: int
    """That both have: points and odds are over these alone."""
    points: Estimate
    """Mean over those suites of the difference of their headline rates, as a share; paired by sample."""
    odds_ratio: Estimate
    """Odds of the mean rate over those suites; no value where one is 0 or 1."""
    ability: float | None
    """In logits; None where one of the two abilities is not finite."""
    ability_low: float | None
    """None where there is no gap, or both answered alike."""
    ability_high: float | None
    ability_corrected: float | None
    """Without what choosing the best of each origin is expected to have added; None where any ability of the
    run is not finite."""


def gap_claims(evidence: Evidence) -> tuple[GapClaim, ...]:
    """The best of each origin by ability against the best of each other."""
    drawn = evidence.drawn
    chosen = {
        origin: 0.0 if drawn is None else luck([evidence.models[i].ability for i in own], drawn[:, own])
        for origin, own in evidence.members().items()
    }
    return tuple(_gap(evidence, (a, b), chosen[a] - chosen[b]) for a, b in evidence.pairs())


def _gap(evidence: Evidence, origins: tuple[str, str], luckier: float) -> GapClaim:
    """Args: luckier: how much more of its ability the first owes to having been chosen."""
    best = evidence.best()
    i, j = (best[origin] for origin in origins)
    ours, theirs = evidence.models[i], evidence.models[j]
    gap, error = evidence.abilities.difference(i, j)
    both = shared(ours, theirs)
    finite = ours.finite and theirs.finite
    known = error > 1e-9 and finite
    rates = [stats.average([result.estimate for result in side]) for side in zip(*both, strict=True)]
    return GapClaim(
        a=origins[0],
        b=origins[1],
        best_a=ours.name,
        best_b=theirs.name,
        suites=len(both),
        points=stats.average([difference(y, x) for x, y in both]),
        odds_ratio=stats.odds_ratio(*rates) if both else stats.average([]),
        ability=gap if finite else None,
        ability_low=gap - stats.Z * error if known else None,
        ability_high=gap + stats.Z * error if known else None,
        ability_corrected=None if evidence.drawn is None else gap - luckier,
    )
