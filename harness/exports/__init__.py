"""Records in the formats of other tools, one module a format.

A module has `write(directory, out) -> list[Path]`, which says what it wrote.
"""

from pathlib import Path

from harness.config import load_object
from harness.errors import UserError
from harness.store import RunDirectory

FORMATS = {"inspect": "harness.exports.inspect"}
"""Name -> module."""


def export(directory: RunDirectory, form: str, out: Path) -> list[Path]:
    """Write the records of a run in another format.

    Args:
        directory: the run.
        form: a name of `FORMATS`.
        out: a folder, made if it is not there.

    Raises:
        UserError: there is no such format, or what it needs is not installed.
    """
    if form not in FORMATS:
        raise UserError(f"there is no export format {form!r}: use one of {', '.join(FORMATS)}")
    write = load_object(f"{FORMATS[form]}:write", "export format")
    out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = write(directory, out)
    return paths
