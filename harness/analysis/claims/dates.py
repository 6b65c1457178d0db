"""Models on the line of time, by their release dates."""

from collections.abc import Sequence
from datetime import date

from harness.analysis.claims.evidence import Evidence
from harness.types import Struct

MONTH = 365.25 / 12
"""Days."""


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


def by_origin(dated: Sequence[Dated]) -> dict[str, list[Dated]]:
    """Origin -> its models, the earliest first."""
    groups: dict[str, list[Dated]] = {}
    for model in sorted(dated, key=lambda model: (model.origin, model.month, model.model)):
        groups.setdefault(model.origin, []).append(model)
    return groups


def date_models(evidence: Evidence) -> tuple[list[Dated], tuple[str, ...]]:
    """(models with a release date, names of those without one that can be read)."""
    dated, undated = [], []
    for index, model in enumerate(evidence.models):
        month = months_of(model.card.model.origin.release_date)
        if month is None:
            undated.append(model.name)
        else:
            dated.append(Dated(model=model.name, origin=model.origin, index=index, month=month))
    return dated, tuple(undated)
