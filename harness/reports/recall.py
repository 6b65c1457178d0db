"""What was shown of a run is recalled where nothing that it was made of has changed since.

It lies in the reader's own cache folder; nothing of that kind is taken from a run directory. It goes by the
contents of every file that a run is read from, as hashed here, whatever checksums a run has of itself; by the
code; and by what was asked. What is not whole is made again, and the folder may be removed at any time.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

from harness import disk
from harness.errors import DiskError, UserError
from harness.models.hashes import file_hash
from harness.records.directory import RunDirectory
from harness.types import Struct

MOST = 200
"""So many are kept, the last that were made."""


class Shown(Struct):
    """What a command says."""

    text: str
    incomplete: tuple[str, ...] = ()
    """What could not be read or computed, a sentence each."""


def recall(directory: RunDirectory, asked: Sequence[str], make: Callable[[], Shown]) -> Shown:
    """What is kept of a run, else what `make` gives, which is kept.

    Args:
        directory: of the run.
        asked: all that is shown depends on beside the run.
        make: makes it. May raise UserError: then nothing is kept.
    """
    before = made_of(directory)
    found = recalled(before, asked)
    if found is None:
        found = make()
        if made_of(directory) == before:  # else it was written to meanwhile
            keep(before, asked, found)
    return found


def recalled(of: str | None, asked: Sequence[str]) -> Shown | None:
    """What is kept; None if nothing is, or not whole. Args: of: what it was made of, see `made_of`."""
    if of is None:
        return None
    try:
        digest, _, content = _path(of, asked).read_bytes().partition(b"\n")
        whole = digest == sha256(content).hexdigest().encode()
        return msgspec.json.decode(content, type=Shown) if whole else None
    except (OSError, ValueError):  # nothing there, or nothing of this version
        return None


def keep(of: str | None, asked: Sequence[str], shown: Shown) -> None:
    """Keep what was shown, where there is a folder for it; see `recalled`."""
    if of is None:
        return
    path, content = _path(of, asked), msgspec.json.encode(shown)
    with suppress(OSError, DiskError):  # a home that cannot be written to: it is made each time
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.replace(path, sha256(content).hexdigest().encode() + b"\n" + content)
        there = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in there[MOST:]:
            old.unlink(missing_ok=True)


def _path(of: str, asked: Sequence[str]) -> Path:
    key = sha256("\0".join([of, *asked]).encode()).hexdigest()
    return disk.cache_folder() / "shown" / key


def made_of(directory: RunDirectory) -> str | None:
    """A digest of the code and of every file that a run is read from; None if one cannot be read."""
    found = sha256(code_digest().encode())
    try:
        for path in sorted(directory.files(), key=str):
            if path.exists():  # runs of others need no config
                found.update(f"{path.relative_to(directory.path)} {file_hash(path)}\n".encode())
    except (OSError, UnicodeError, UserError):
        return None
    return found.hexdigest()


@cache
def code_digest() -> str:
    """A digest of this package's own files and of what is installed beside it, read when first asked for."""
    found = sha256(sys.version.encode())
    package = Path(__file__).parents[1]
    for path in sorted((*package.rglob("*.py"), *package.rglob("*.j2"))):
        found.update(f"{path.relative_to(package)} {file_hash(path)}\n".encode())
    for folder in filter(Path.is_dir, map(Path, sys.path)):
        # Names and versions of packages, which reading all of their metadata would take longer to tell.
        found.update("\n".join(sorted(one.name for one in folder.glob("*.dist-info"))).encode())
    return found.hexdigest()
