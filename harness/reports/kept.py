"""The scorecards that are kept beside the records of a run."""

from pathlib import Path

from harness.disk import replace
from harness.records.directory import RunDirectory
from harness.reports.document import read_document
from harness.reports.render import render

WRITTEN = ("html", "md", "json")
"""Formats kept beside the records, as `scorecard.<format>`."""


def write_scorecards(directory: RunDirectory, *, width: int, color: bool) -> str:
    """Write every kept format, and what checksums are missing; returns the table for the terminal."""
    directory.seal()
    document = read_document(directory)
    for form in WRITTEN:
        replace(kept_path(directory, form), render(document, form).encode())
    return render(document, "table", width=width, color=color)


def are_current(directory: RunDirectory) -> bool:
    """Whether the kept scorecards are younger than all that they are made of, our own code included."""
    code = Path(__file__).parents[1].rglob("*.py")
    try:
        oldest = min(kept_path(directory, form).stat().st_mtime_ns for form in WRITTEN)
        records = (directory.path / "records").iterdir()
        made_of = (directory.config_path, directory.manifest_path, *records, *code)
        return all(path.stat().st_mtime_ns <= oldest for path in made_of)
    except OSError:  # something is not there
        return False


def kept_path(directory: RunDirectory, form: str) -> Path:
    """Where a format is kept."""
    return directory.path / f"scorecard.{form}"
