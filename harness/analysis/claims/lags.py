"""The months that an origin's abilities lag behind another's."""

from collections.abc import Sequence

import numpy as np

from harness.analysis.claims.dates import Dated, by_origin, date_models
from harness.analysis.claims.evidence import Evidence
from harness.analysis.origins import pairs
from harness.stats.clusters import Floats
from harness.stats.trends import Lag, lag
from harness.types import Struct

LAG_DRAWS = 500
"""Of abilities, for the interval of a lag."""


class LagClaim(Struct):
    """How long an origin took to get where another had been."""

    leader: str
    behind: str
    model: str
    """The best of the one behind."""
    reached_by: str
    """The leader's first that is as able."""
    months: float
    """Between their release dates; below 0 where the one behind was first and was overtaken since."""
    low: float | None
    """None where the one behind may not be behind at all."""
    high: float | None
    """None where the models of this run set no upper limit."""
    at_least: bool
    """The leader's earliest model here is as able already, so that one before it may have been."""


def lag_claims(evidence: Evidence) -> tuple[LagClaim, ...]:
    """The lag of every origin behind every one whose best is abler."""
    dated, _ = date_models(evidence)
    return lags(dated, evidence.abilities.ability, evidence.drawn)


def lags(dated: Sequence[Dated], ability: Sequence[float], drawn: Floats | None) -> tuple[LagClaim, ...]:
    """The lag of every origin behind every one whose best is abler.

    Args:
        dated: models with release dates.
        ability: of all models.
        drawn: shape (draws, models), abilities around them; None where they have no interval.
    """
    claims = []
    origins = by_origin(dated)
    best = {origin: max(ability[model.index] for model in own) for origin, own in origins.items()}
    for a, b in pairs(list(origins), max(best, key=lambda origin: best[origin], default="")):
        leader, behind = (a, b) if best[a] >= best[b] else (b, a)
        leading, following = origins[leader], origins[behind]
        gap = lag(_series(leading, ability), _series(following, ability))
        assert gap is not None, "the leader's best is as able"
        low, high = _interval(leading, following, drawn)
        claims.append(
            LagClaim(
                leader=leader,
                behind=behind,
                model=following[gap.follower].model,
                reached_by=leading[gap.leader].model,
                months=gap.time,
                low=low,
                high=high,
                at_least=gap.at_least,
            )
        )
    return tuple(claims)


def _series(models: Sequence[Dated], ability: Sequence[float] | Floats) -> tuple[list[float], list[float]]:
    return [model.month for model in models], [float(ability[model.index]) for model in models]


def _interval(
    leading: Sequence[Dated], following: Sequence[Dated], drawn: Floats | None
) -> tuple[float | None, float | None]:
    """95% of the lags that abilities drawn around the measured ones have."""
    if drawn is None:
        return None, None
    rows = drawn[:LAG_DRAWS]
    times = np.asarray([_time(lag(_series(leading, row), _series(following, row))) for row in rows])
    low, high = np.quantile(times, [0.025, 0.975], method="inverted_cdf").tolist()
    return (low if np.isfinite(low) else None), (high if np.isfinite(high) else None)


def _time(gap: Lag | None) -> float:
    """The lag; without end if it may have begun before the leader's earliest model, or if there is none."""
    if gap is None:
        return -np.inf
    return np.inf if gap.at_least else gap.time
