"""How widely models are used, from a dated snapshot that the user supplies: never from the network.

    date: 2026-11-01
    source: Hugging Face, downloads of the last 30 days, derivatives by their base_model tags
    models:
      Qwen/Qwen3-8B: {downloads: 4100000, derivatives: 812}

Models are named as in the run, or by their hub id. What is left out is not known, and is not 0.
"""

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
