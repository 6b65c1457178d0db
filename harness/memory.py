"""The memory that a command may take: what is free, so that a file made to fill it ends nothing else."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def free_bytes() -> int:
    """Memory that this process could still get, by the machine and by its container."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    machine = int(told["MemAvailable"].split()[0]) << 10
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
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
