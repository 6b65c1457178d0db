"""From a run directory to scorecards, and the files that they are kept in."""

from harness.scorecards.build import build_scorecards
from harness.scorecards.origins import build_origins
from harness.scorecards.render import render
from harness.store import RunDirectory, replace

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
    cards = build_scorecards(directory.manifest(), directory.columns)
    return render(cards, build_origins(cards, by), form, width=width, color=color)


def write_scorecards(directory: RunDirectory, *, width: int, color: bool) -> str:
    """Write every kept format; returns the table for the terminal."""
    cards = build_scorecards(directory.manifest(), directory.columns)
    origins = build_origins(cards)
    for form in WRITTEN:
        replace(directory.path / f"scorecard.{form}", render(cards, origins, form).encode())
    return render(cards, origins, "table", width=width, color=color)
