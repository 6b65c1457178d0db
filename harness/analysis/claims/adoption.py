"""How widely the models of a run are used, by the snapshot that the user supplied."""

from collections.abc import Sequence

from harness.analysis.claims.evidence import Evidence
from harness.analysis.claims.snapshot import Adopted, Snapshot
from harness.errors import UserError
from harness.types import Struct


class AdoptionClaim(Struct):
    """Adoption of a model, or of all models of an origin that the snapshot has."""

    origin: str
    model: str | None
    """None for the origin."""
    downloads: int | None
    derivatives: int | None
    models: int
    """How many of the origin's models in this run have figures; 1 for a model."""
    of: int
    """Of how many."""


def adoption_claims(evidence: Evidence) -> tuple[AdoptionClaim, ...]:
    """Figures of every model of a run, and of every origin, where a snapshot was given.

    Raises:
        UserError: the snapshot has none of the models.
    """
    snapshot, origins, paths = evidence.asked.snapshot, evidence.keys, evidence.asked.paths
    if snapshot is None:
        return ()
    by_model = {name: _figures(snapshot, name, paths.get(name)) for name in origins}
    if not any(by_model.values()):
        names = ", ".join(sorted({*origins, *paths.values()}))
        raise UserError(f"the adoption snapshot has none of this run's models: name them as one of {names}")
    claims = []
    for origin in sorted(set(origins.values())):
        own = [by_model[name] for name in sorted(origins) if origins[name] == origin]
        claims += [
            AdoptionClaim(
                origin=origin,
                model=name,
                downloads=figures.downloads if figures else None,
                derivatives=figures.derivatives if figures else None,
                models=int(figures is not None),
                of=1,
            )
            for name, figures in by_model.items()
            if origins[name] == origin
        ]
        known = [figures for figures in own if figures]
        claims.append(
            AdoptionClaim(
                origin=origin,
                model=None,
                downloads=_sum([figures.downloads for figures in known]),
                derivatives=_sum([figures.derivatives for figures in known]),
                models=len(known),
                of=len(own),
            )
        )
    return tuple(claims)


def _figures(snapshot: Snapshot, name: str, path: str | None) -> Adopted | None:
    lowered = {key.lower(): figures for key, figures in snapshot.models.items()}
    return lowered.get(name.lower()) or lowered.get((path or name).lower())


def _sum(counts: Sequence[int | None]) -> int | None:
    """The sum, None where a part is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None
