"""Checksums of files that do not change any more: of a cell's in the cell, of the cells' in `run.json`."""

import hashlib
from pathlib import Path

import msgspec

from harness.disk import check_regular, replace
from harness.errors import UserError
from harness.records.layout import CELL, CHECKSUMS, INJECTIONS, RECORDS, VERDICTS
from harness.records.sane import read_file
from harness.records.schema import Checksums


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises UserError if it is none."""
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, value: msgspec.Struct) -> None:
    """Write a JSON file for people and programs. Nothing is written where that is what it holds.

    Raises:
        DiskError: it could not be written.
    """
    content = _json(value)
    if not path.exists() or path.read_bytes() != content:
        replace(path, content)


def _json(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted")) + b"\n"


def sealed(folder: Path) -> dict[str, str]:
    """The checksums of a cell's files, empty where it has none yet.

    Raises:
        UserError: the file is not one that this version can read.
    """
    path = folder / CHECKSUMS
    return read_file(path, Checksums).files if path.exists() else {}


def seal_cell(folder: Path) -> None:
    """Keep the checksums of a complete cell's files, unless there are some: `harness verify` finds changes.

    Of several processes the first one says which files these are; none of them is replaced any more.
    """
    if (folder / CHECKSUMS).exists():
        return
    files = [folder / CELL, folder / RECORDS, folder / INJECTIONS, *sorted(folder.glob("engine-*.json"))]
    sums = Checksums(files={path.name: checksum(path) for path in files if path.exists()})
    replace(folder / CHECKSUMS, _json(sums), once=True)


def seal_verdicts(folder: Path) -> None:
    """Keep the checksums of what judges said of a complete cell, as it is now."""
    kept = sealed(folder)
    sums = {f"{VERDICTS}/{path.name}": checksum(path) for path in sorted(folder.glob(f"{VERDICTS}/*"))}
    write(folder / CHECKSUMS, Checksums(files={**kept, **sums}))


def rewrite(folder: Path, name: str, value: msgspec.Struct) -> tuple[str, str] | None:
    """Write a file of a cell anew. A checksum that it had and no longer has stays broken.

    Returns:
        The checksums of the cell's own checksums before and after; None where the file has none there.
    """
    kept, path, sums = sealed(folder), folder / name, folder / CHECKSUMS
    whole = name in kept and path.exists() and checksum(path) == kept[name]
    write(path, value)
    if not whole:
        return None
    before = checksum(sums)
    write(sums, Checksums(files={**kept, name: checksum(path)}))
    return before, checksum(sums)


def check_unchanged(path: Path, expected: str | None) -> None:
    """Raises UserError if a file does not have the checksum that it had."""
    if expected is not None and checksum(path) != expected:
        raise UserError(f"{path} was changed after it was complete: restore it from a copy")
