"""The scorecards that are kept beside the records of a run."""

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

from harness.disk import replace
from harness.records.directory import RunDirectory
from harness.records.seal import checksum
from harness.reports.document import read_document
from harness.reports.render import render

WRITTEN = ("html", "md", "json")
"""Formats kept beside the records, as `scorecard.<format>`."""


def write_scorecards(directory: RunDirectory, *, width: int, color: bool) -> str:
    """Write every kept format, and what checksums are missing; returns the table for the terminal."""
    directory.seal()
    document = read_document(directory)
    made_of = _made_of(directory)
    made_of_path(directory).unlink(missing_ok=True)
    for form in WRITTEN:
        replace(kept_path(directory, form), render(document, form).encode())
    replace(made_of_path(directory), made_of.encode())
    return render(document, "table", width=width, color=color)


def are_current(directory: RunDirectory) -> bool:
    """Whether the kept scorecards are of the records that are there, and made by the code that is here."""
    try:
        kept = made_of_path(directory).read_text(encoding="utf8")
        return all(kept_path(directory, form).exists() for form in WRITTEN) and kept == _made_of(directory)
    except OSError:  # something is not there
        return False


def kept_path(directory: RunDirectory, form: str) -> Path:
    """Where a format is kept."""
    return directory.path / f"scorecard.{form}"


def made_of_path(directory: RunDirectory) -> Path:
    """Where it is kept what the scorecards were made of: of this machine, and no part of the results."""
    return directory.path / ".scorecards"


def _made_of(directory: RunDirectory) -> str:
    """A digest of the code and of every file that scorecards are made of, by checksum where it has one."""
    sums = directory.checksums(directory.manifest())
    found = sha256(code_digest().encode())
    for path in sorted(directory.files()):
        name = str(path.relative_to(directory.path))
        if path.suffix in (".jsonl", ".parquet"):
            found.update(f"{name} {sums.get(name) or checksum(path)}\n".encode())
        elif path.exists():  # runs of others need no config
            found.update(f"{name} {checksum(path)}\n".encode())
    return found.hexdigest()


@cache
def code_digest() -> str:
    """A digest of this package's own files, read when it is first asked for."""
    found = sha256()
    for path in _own_files():
        found.update(f"{path.name} {checksum(path)}\n".encode())
    return found.hexdigest()


def _own_files() -> Iterator[Path]:
    package = Path(__file__).parents[1]
    for pattern in ("*.py", "*.j2"):
        yield from sorted(package.rglob(pattern))
