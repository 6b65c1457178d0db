"""The memory that a command may take: what is free, so that a file made to fill it ends nothing else."""

import errno
import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError

CGROUP = Path("/sys/fs/cgroup")

COLLECT_AFTER = 50_000
"""New objects after which Python looks for unreachable ones. An environment of AgentDojo's has hundreds, and
a thousand records ten thousands, which go as soon as they are not wanted: with its own 700 it would look many
times a second, for nothing."""


def free_bytes() -> int:
    """Memory that this process could still get, by the machine and by its container."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    machine = int(fields["MemAvailable"].split()[0]) << 10
    try:
        most, used = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:  # no container, or one of an older kind
        return machine
    return machine if most == "max" else max(0, min(machine, int(most) - int(used)))


@contextmanager
def within_memory(more: int | None = None) -> Iterator[None]:
    """While inside, to take more than is free raises `MemoryError` here, and ends nothing else.

    Args:
        more: bytes beyond what the process has; by default what is free.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    room = pages * resource.getpagesize() + (free_bytes() if more is None else more)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [limit for limit in (soft, hard, room) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(known), hard))
    try:
        yield
    except Exception as error:
        if not _for_want_of_memory(error):
            raise
        raise MemoryError from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


_WORDS = {
    # CPython's, of code in C that gave up and did not say why: "without exception set", "without setting an".
    SystemError: "without",
    RuntimeError: "can't start new thread",
    ImportError: "failed to map segment",
    Exception: "not enough memory",  # zstd's
}
"""What an error says that is none of `MemoryError` and came of too little memory."""


def _for_want_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was made of, says that there was no memory, by any of its names.

    A sentence that was made of a `MemoryError` is meant for whoever reads it, and stays.
    """
    is_user_error = isinstance(error, UserError)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return not is_user_error
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if any(isinstance(cause, kind) and words in str(cause) for kind, words in _WORDS.items()):
            return True
        cause = cause.__cause__
    return False


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python's garbage collector begin every `COLLECT_AFTER` objects, and no more often."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
