"""From a run directory to scorecards, and the files that they are kept in."""

from harness.scorecards.build import build_scorecards
from harness.scorecards.origins import build_origins
from harness.scorecards.render import render
from harness.store import RunDirectory, replace
from harness.types import Record

WRITTEN = ("html", "md", "json")
"""Formats kept beside the records, as `scorecard.<format>`."""


def render_scorecards(
    directory: RunDirectory, form: str, by: str = "country", *, width: int = 100, color: bool = False
) -> str:
    """The scorecards of a run as text.

    Args:
        directory: the run.
        form: `table`, `md`, `json` or `html`.
        by: what an origin is: `country` or `developer`.
        width: columns of the table.
        color: whether the table may hold terminal colours.

    Raises:
        UserError: the directory is not a run, is damaged, or mixes protocols.
    """
    manifest = directory.manifest()

    def records(key: str) -> list[Record]:
        return directory.records(manifest.cells[key])

    cards = build_scorecards(manifest, records)
    return render(cards, build_origins(cards, by), form, width=width, color=color)


def write_scorecards(directory: RunDirectory, *, width: int, color: bool) -> str:
    """Write every kept format; returns the table for the terminal."""
    for form in WRITTEN:
        replace(directory.path / f"scorecard.{form}", render_scorecards(directory, form).encode())
    return render_scorecards(directory, "table", width=width, color=color)
