"""A lock saves the work of two processes that would do the same. Nothing depends on it."""

import fcntl
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from harness.disk import check_links, make_folder, remove_abandoned
from harness.errors import UserError


class Held(FileIO):
    """The file of a lock, which is given back when it is closed.

    Closing alone would not do: a process that was forked meanwhile has the file open too, be it for the
    moment until it becomes another program.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")
        self._owner = os.getpid()

    def close(self) -> None:
        """Give the lock back, if it is this process that took it."""
        if not self.closed and self._owner == os.getpid():
            with suppress(OSError):  # there are no locks
                fcntl.flock(self, fcntl.LOCK_UN)
        super().close()


def lock(path: Path) -> Held:
    """Hold a run directory for this process until the returned file is closed.

    What writers left there that died long ago, such as half of a copied cell, is removed.

    On a file system without locks nothing is held: two runs would measure the same attempts, of which each
    counts once.

    Raises:
        UserError: another process holds it, or it cannot be written to, or a link in it leads out of it: what
            is written to a received folder goes nowhere else.
    """
    make_folder(path)
    for folder in (path, path / "cells", *path.glob("cells/*")):
        check_links(folder, path)
    handle = Held(path / ".lock")
    try:
        lock_file(handle)
    except BlockingIOError as error:
        handle.close()
        raise UserError(
            f"another process is writing to {path}: wait for it, or give another --out"
        ) from error
    except OSError:  # there are no locks
        pass
    remove_abandoned(path)
    return handle


def lock_file(handle: FileIO) -> None:
    """Lock an open file for this process, by the first kind of lock that its file system has.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system has no locks, as some of clusters, or refuses them.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # Lustre and NFS may have POSIX locks alone
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:  # EACCES is another way to say EAGAIN
            raise BlockingIOError(*error.args) from error
