"""How widely models are used, from a dated snapshot that the user supplies: never from the network.

    date: 2026-11-01
    source: Hugging Face, downloads of the last 30 days, derivatives by their base_model tags
    models:
      Qwen/Qwen3-8B: {downloads: 4100000, derivatives: 812}

Models are named as in the run, or by their hub id. What is left out is not known, and is not 0.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from harness.config import Document
from harness.errors import UserError
from harness.types import Struct


class Adopted(Struct):
    """Figures of one model."""

    downloads: int | None = None
    derivatives: int | None = None

    def __post_init__(self) -> None:
        if any(count is not None and count < 0 for count in (self.downloads, self.derivatives)):
            raise ValueError("downloads and derivatives must be at least 0")


class Snapshot(Struct):
    """A snapshot file."""

    date: date
    """When the figures were read."""
    source: str
    """Where, and what they count: downloads of which period, derivatives found how."""
    models: dict[str, Adopted]


class _Raw(Struct):
    """The same before its models are looked at, so that what is wrong with one is said with its line."""

    date: date
    source: str
    models: dict[str, Any]


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


def read_snapshot(path: Path) -> Snapshot:
    """A snapshot from its YAML file.

    Raises:
        UserError: it cannot be read, a key is unknown, missing or of the wrong type, or its date is to come.
    """
    document = Document(path)
    if not isinstance(document.data, dict):
        raise UserError(f"{path}: expected a mapping with the keys date, source and models")
    raw = document.convert(document.data, _Raw)
    if raw.date > datetime.now(UTC).date():
        raise UserError(
            f"{document.where(('date',))}: key `date`: {raw.date} is to come; give when it was read"
        )
    if not raw.source.strip():
        raise UserError(
            f"{document.where(('source',))}: key `source`: say where figures are from and what they count"
        )
    models = {
        name: document.convert(figures, Adopted, ("models", name)) for name, figures in raw.models.items()
    }
    return Snapshot(date=raw.date, source=raw.source, models=models)


def adoption_claims(
    snapshot: Snapshot, origins: Mapping[str, str], paths: Mapping[str, str]
) -> tuple[AdoptionClaim, ...]:
    """Figures of every model of a run, and of every origin.

    Args:
        snapshot: what the user supplied.
        origins: model -> origin.
        paths: model -> hub id, where it is known.

    Raises:
        UserError: the snapshot has none of the models.
    """
    found = {name: _figures(snapshot, name, paths.get(name)) for name in origins}
    if not any(found.values()):
        names = ", ".join(sorted({*origins, *paths.values()}))
        raise UserError(f"the adoption snapshot has none of this run's models: name them as one of {names}")
    claims = []
    for origin in sorted(set(origins.values())):
        own = [found[name] for name in sorted(origins) if origins[name] == origin]
        claims += [
            AdoptionClaim(
                origin=origin,
                model=name,
                downloads=figures.downloads if figures else None,
                derivatives=figures.derivatives if figures else None,
                models=int(figures is not None),
                of=1,
            )
            for name, figures in found.items()
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
