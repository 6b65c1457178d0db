"""Capability against release dates: a trend for each origin, and the months that one lags behind another."""

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import combinations

import numpy as np

from harness.stats.clusters import Floats
from harness.stats.trends import Lag, fit_line, lag
from harness.types import Struct

MONTH = 365.25 / 12
"""Days."""
LAG_DRAWS = 500
"""Of abilities, for the interval of a lag."""


class TrendClaim(Struct):
    """How an origin's abilities rose with release dates."""

    origin: str
    models: int
    """Models with a release date."""
    per_year: float | None
    """Logits a year; None with fewer than three models, or of one date alone."""
    low: float | None
    high: float | None


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


class Dated(Struct):
    """A model on the line of time."""

    model: str
    origin: str
    index: int
    """Of its ability."""
    month: float


def months_of(release_date: str | None) -> float | None:
    """A release date as months since the year 0; the middle of the month where no day is given.

    None for what is no date of the form YYYY-MM-DD or YYYY-MM.
    """
    text = release_date or ""
    try:
        return date.fromisoformat(f"{text}-15" if text.count("-") == 1 else text).toordinal() / MONTH
    except ValueError:
        return None


def trend_claims(dated: Sequence[Dated], ability: Sequence[float]) -> tuple[TrendClaim, ...]:
    """A line of ability over release date for each origin, all of its models alike."""
    claims = []
    for origin, own in _by_origin(dated).items():
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


def _by_origin(dated: Sequence[Dated]) -> dict[str, list[Dated]]:
    found: dict[str, list[Dated]] = {}
    for model in sorted(dated, key=lambda model: (model.origin, model.month, model.model)):
        found.setdefault(model.origin, []).append(model)
    return found


def lag_claims(
    dated: Sequence[Dated], ability: Sequence[float], drawn: Floats | None
) -> tuple[LagClaim, ...]:
    """The lag of every origin behind every one whose best is abler.

    Args:
        dated: models with release dates.
        ability: of all models.
        drawn: shape (draws, models), abilities around them; None where they have no interval.
    """
    claims = []
    for a, b in combinations(_by_origin(dated).items(), 2):
        best = [max(ability[model.index] for model in own) for _, own in (a, b)]
        (leader, leading), (behind, following) = (a, b) if best[0] >= best[1] else (b, a)
        found = lag(_series(leading, ability), _series(following, ability))
        assert found is not None, "the leader's best is as able"
        low, high = _interval(leading, following, drawn)
        claims.append(
            LagClaim(
                leader=leader,
                behind=behind,
                model=following[found.follower].model,
                reached_by=leading[found.leader].model,
                months=found.time,
                low=low,
                high=high,
                at_least=found.at_least,
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


def _time(found: Lag | None) -> float:
    """The lag; without end if it may have begun before the leader's earliest model, or if there is none."""
    if found is None:
        return -np.inf
    return np.inf if found.at_least else found.time


def date_models(
    models: Mapping[str, tuple[str, str | None]],
) -> tuple[list[Dated], list[str]]:
    """(models with a release date, names of those without one that can be read).

    Args:
        models: name -> (origin, release date), in the order of abilities.
    """
    dated, undated = [], []
    for index, (name, (origin, released)) in enumerate(models.items()):
        month = months_of(released)
        if month is None:
            undated.append(name)
        else:
            dated.append(Dated(model=name, origin=origin, index=index, month=month))
    return dated, undated
