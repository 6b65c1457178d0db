"""What was shown of a run is recalled where nothing that it was made of has changed since.

It lies in the reader's own cache folder; nothing of that kind is taken from a run directory. It goes by the
contents of every file that a run is read from, as hashed here, whatever checksums a run has of itself; by the
code; and by what was asked. What is not whole is made again, and the folder may be removed at any time.

Files are hashed again where any of them was touched: its size, its inode or a time of these is another one,
which no copy of a file and no date that is set for it can keep as they were.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from harness import disk
from harness.errors import DiskError, UserError
from harness.models.hashes import file_hash, state
from harness.records.directory import RunDirectory
from harness.types import Struct

MOST = 200
"""So many are kept, the last that were made."""
SETTLED_NS = 2_000_000_000
"""After so long the times of a file tell that it was written to once more: no file system's are coarser."""

T = TypeVar("T", bound=Struct)


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
    of, before = made_of(directory)
    found = recalled(of, asked)
    if found is None:
        found = make()
        if states(directory) == before:  # else it was written to meanwhile
            keep(of, asked, found)
    return found


def recalled(of: str | None, asked: Sequence[str]) -> Shown | None:
    """What is kept; None if nothing is, or not whole. Args: of: what it was made of, see `made_of`."""
    return None if of is None else _kept(_path("shown", of, *asked), Shown)


def keep(of: str | None, asked: Sequence[str], shown: Shown) -> None:
    """Keep what was shown, where there is a folder for it; see `recalled`."""
    if of is not None:
        _keep(_path("shown", of, *asked), shown)


def states(directory: RunDirectory) -> dict[str, list[int]] | None:
    """Every file that a run is read from -> its state; None if one cannot be looked at."""
    try:
        found = sorted((str(path), path) for path in directory.files())
        return {name: state(path) for name, path in found if path.exists()}  # runs of others need no config
    except (OSError, UserError):
        return None


class _Contents(Struct):
    digest: str


def made_of(directory: RunDirectory) -> tuple[str | None, dict[str, list[int]] | None]:
    """(a digest of the code and of every file of a run, None if one cannot be read; `states` before that)."""
    began, before = time.time_ns(), states(directory)
    if before is None:
        return None, None
    known = _path("contents", str(directory.path.resolve()), repr(before))
    contents = _kept(known, _Contents)
    if contents is None:
        found = sha256()
        try:
            for path in before:
                inside = path.removeprefix(str(directory.path))
                found.update(f"{inside} {file_hash(Path(path))}\n".encode())
        except (OSError, UnicodeError, UserError):
            return None, before
        contents = _Contents(digest=found.hexdigest())
        touched = max((max(times) for _, _, *times in before.values()), default=0)
        if states(directory) == before and touched + SETTLED_NS < began:
            _keep(known, contents)
    return sha256(f"{code_digest()} {contents.digest}".encode()).hexdigest(), before


def _kept(path: Path, kind: type[T]) -> T | None:
    """What a file of this cache holds; None if there is none, or it is not whole."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
        whole = digest == sha256(content).hexdigest().encode()
        return msgspec.json.decode(content, type=kind) if whole else None
    except (OSError, ValueError):  # nothing there, or nothing of this version
        return None


def _keep(path: Path, found: Struct) -> None:
    content = msgspec.json.encode(found)
    with suppress(OSError, DiskError):  # a home that cannot be written to: it is made each time
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.replace(path, sha256(content).hexdigest().encode() + b"\n" + content)
        there = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in there[MOST:]:
            old.unlink(missing_ok=True)


def _path(folder: str, *of: str) -> Path:
    return disk.cache_folder() / folder / sha256("\0".join(of).encode()).hexdigest()


@cache
def code_digest(*without: str) -> str:
    """A digest of this package's own files and of what is installed beside it, read when first asked for.

    Args:
        without: modules and folders, as paths below the package, that what is kept does not come from.
    """
    found = sha256(sys.version.encode())
    package = Path(__file__).parents[1]
    left_out = [package / one for one in without]
    for path in sorted(package.rglob("*")):
        shows = any(path.is_relative_to(one) for one in left_out)
        if path.is_file() and path.suffix != ".pyc" and not shows:
            found.update(f"{path.relative_to(package)} {file_hash(path)}\n".encode())
    for folder in filter(Path.is_dir, map(Path, sys.path)):
        # Names and versions of packages, which reading all of their metadata would take longer to tell.
        found.update("\n".join(sorted(one.name for one in folder.glob("*.dist-info"))).encode())
    return found.hexdigest()
