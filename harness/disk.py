"""Files and folders that are written: whole or as they were before, one sentence where the disk refuses."""

import mmap
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import DiskError, UserError

ABANDONED_SECONDS = 24 * 3600.0
"""After which whoever was writing to a temporary file or folder has died."""


def cache_folder() -> Path:
    """Where this reader keeps what can be made again at any time; `XDG_CACHE_HOME` says where caches are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def make_folder(path: Path) -> None:
    """Make a folder for output, with those above it.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {path} ({error.strerror}): give another --out") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {path}: you may not; give another --out")


def check_regular(path: Path) -> None:
    """Raises UserError for what is no file, such as a pipe, which would be waited for without an end.

    Which one it was is known from then on, see `looked_at_last`.
    """
    _looked_at[:] = os.fsencode(path)[: len(_looked_at)].ljust(len(_looked_at), b"\0")
    try:
        kind = path.stat().st_mode
    except OSError:  # which its reader tells
        return
    if not stat.S_ISREG(kind):
        raise UserError(f"{path} is not a file; restore it from a copy")


def check_links(folder: Path, run: Path) -> None:
    """Raises UserError if what lies in a folder of a run is a link that leads out of the run.

    A received run could have what its maker may not see read by one who may, or have it written to.
    """
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        links = [Path(entry) for entry in entries if entry.is_symlink()]
    for link in links:
        if not link.resolve().is_relative_to(run.resolve()):
            raise UserError(
                f"{link} is a link that leads out of the folder of its run: put what it leads to in its place"
            )


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; what links lead to stays. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what writers that died left in a folder as `.NAME.tmp`; a younger one may be at work."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):  # another process is faster, or it may not be removed: it is in nobody's way
            if time.time() - path.lstat().st_mtime > ABANDONED_SECONDS:
                remove(path)


def looked_at_last() -> str:
    """The file that is being read, here or in a process that was forked from this one; empty if none was."""
    return os.fsdecode(_looked_at[:].rstrip(b"\0"))


_looked_at = mmap.mmap(-1, mmap.PAGESIZE)
"""A path; shared with processes that are forked from this one, so that it outlives them."""


@contextmanager
def replacing(path: Path, *, once: bool = False) -> Iterator[Path]:
    """A temporary file to write to, which takes the place of a file once it is whole and on the disk.

    Args:
        path: of the file.
        once: whether one that is there by then stays: of several processes the first one's counts, for good.

    Raises:
        DiskError: it could not be written.
    """
    # A name of its own: other processes may be replacing the same file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if once:
            _place_first(temporary, path)
        else:
            temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"cannot write {path} ({reason}): what was there before is there still") from error
    finally:
        with suppress(OSError):  # what stands in the way of writing may stand in the way of this too
            temporary.unlink(missing_ok=True)


def _place_first(temporary: Path, path: Path) -> None:
    """Give a file a name that it keeps, unless another file has it. Raises OSError."""
    try:
        path.hardlink_to(temporary)  # renaming would take the name from the other
    except FileExistsError:
        pass
    except OSError:  # file systems without links say so in many ways; what else is wrong stops a rename too
        if not path.exists():  # without links two can still meet between this and the next line
            temporary.replace(path)


def replace(path: Path, content: bytes, *, once: bool = False) -> None:
    """Write a file so that it is there whole, or as it was before. once: see `replacing`.

    Raises:
        DiskError: it could not be written.
    """
    with replacing(path, once=once) as temporary:
        temporary.write_bytes(content)
