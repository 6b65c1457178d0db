"""Locks: they save work where two processes would do the same, and nothing depends on them alone."""

import fcntl
from typing import IO


def lock_file(handle: IO[bytes]) -> None:
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
