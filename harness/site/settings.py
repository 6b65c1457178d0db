"""What whoever publishes a site says about it: `site.yaml`, a sentence under each key."""

import datetime
from pathlib import Path

from harness.config import Document
from harness.suites import Publication
from harness.types import Struct


class Change(Struct):
    """Numbers that are taken off the site, or that are to be read otherwise than they were."""

    reason: str
    """Why, in a sentence for the reader. It stands in the history."""
    date: datetime.date
    """When that was decided."""
    model: str
    """Whose numbers."""
    suite: str | None = None
    """Of which suite; of all if not given."""
    run: str | None = None
    """Of which run, by the name of its folder; of all if not given."""

    def concerns(self, model: str, suite: str, run: str) -> bool:
        """Whether it is about a cell of a run."""
        return self.model == model and self.suite in (None, suite) and self.run in (None, run)


class SiteSettings(Struct):
    """`site.yaml`."""

    title: str = "Leaderboard"
    """Of the site."""
    description: str = ""
    """What it is, in a sentence or two under its title."""
    url: str | None = None
    """Where it will stand, for citations."""
    authors: tuple[str, ...] = ()
    """Who publishes it, for citations."""
    licence: str | None = None
    """Of its numbers and transcripts, an SPDX identifier."""
    submit: str = ""
    """How to submit a run, in plain words; the command is told in any case."""
    publication: dict[str, Publication] = {}
    """Suite -> `public` or `numbers`, over what the suite itself says."""
    withdrawn: tuple[Change, ...] = ()
    """Numbers that are not shown any more."""
    corrected: tuple[Change, ...] = ()
    """Numbers that a newer run replaces: what was wrong with them."""


def read_settings(path: Path | None) -> SiteSettings:
    """The settings of a site; the defaults where there is no file.

    Raises:
        UserError: a key is not known, or its value not of the right kind; the sentence says where.
    """
    if path is None:
        return SiteSettings()
    document = Document(path)
    return document.convert(document.data or {}, SiteSettings)
