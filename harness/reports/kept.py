"""The scorecards that are kept beside the records of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.disk import replace
from harness.records.directory import RunDirectory
from harness.reports.recall import Shown, keep, made_of, recall, recalled, states

if TYPE_CHECKING:
    from harness.reports.document import Document

WRITTEN = ("html", "md", "json")
"""Formats kept beside the records, as `scorecard.<format>`."""


def scorecard(
    directory: RunDirectory,
    form: str,
    *,
    by: str = "country",
    allow: Sequence[str] = (),
    width: int = 100,
    color: bool = False,
    full: bool = False,
    recalling: bool = True,
    timings: bool = True,
) -> Shown:
    """A run in one of `render.FORMATS`; see `render`.

    Args:
        directory: of the run.
        form: the format.
        by: what an origin is.
        allow: protocol fields that may differ between models.
        width: columns of a table.
        color: whether a table may hold terminal colours.
        full: whether a table may take more than a screen.
        recalling: whether it may be what was made before, where nothing has changed since.
        timings: see `document.read_document`.
    """

    def make() -> Shown:
        from harness.reports.document import read_document

        document = read_document(directory, by, allow, claims=form == "json", timings=timings)
        return _shown(document, form, width=width, color=color, full=full)

    if not recalling:
        return make()
    how = [str(width), str(color), str(full)] if form == "table" else []
    how += [] if timings else ["no timings"]
    return recall(directory, [*_asked(form, by), *how, *sorted(allow)], make)


def _asked(form: str, by: str = "country") -> list[str]:
    return ["scorecard", form, by]


def _shown(
    document: "Document", form: str, *, width: int = 100, color: bool = False, full: bool = False
) -> Shown:
    from harness.reports.render import render

    text = render(document, form, width=width, color=color, full=full)
    return Shown(text=text, incomplete=tuple(document.incomplete))


def write_scorecards(directory: RunDirectory, *, width: int, color: bool) -> str:
    """Write every kept format, and what checksums are missing; returns the table for the terminal."""
    from harness.reports.document import read_document

    directory.seal()
    of, before = made_of(directory)
    document = read_document(directory)
    no_claims = msgspec.structs.replace(document, claims=None, claims_problem=None)
    shown = {form: _shown(document if form == "json" else no_claims, form) for form in WRITTEN}
    unchanged = states(directory) == before
    for form, one in shown.items():
        replace(kept_path(directory, form), one.text.encode())
        if unchanged:
            keep(of, _asked(form), one)
    return _shown(no_claims, "table", width=width, color=color).text


def are_current(directory: RunDirectory) -> bool:
    """Whether the kept scorecards are what was made here of the records that are there."""
    of, _ = made_of(directory)
    try:
        kept = {form: kept_path(directory, form).read_text(encoding="utf8") for form in WRITTEN}
    except (OSError, ValueError):
        return False
    made = {form: recalled(of, _asked(form)) for form in WRITTEN}
    return all(one is not None and one.text == kept[form] for form, one in made.items())


def kept_path(directory: RunDirectory, form: str) -> Path:
    """Where a format is kept."""
    return directory.path / f"scorecard.{form}"
