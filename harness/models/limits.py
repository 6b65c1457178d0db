"""What a checkpoint makes the harness compute (its chat template), within a share of time and memory.

Jinja's sandbox keeps a template from Python, not from a loop in a loop or `9 ** (9 ** 9)`, and computes
constants when a template is only parsed. No signal ends that: it is done in a process that can be killed.
"""

import resource
from collections.abc import Callable
from typing import TypeVar

from harness.forked import NoAnswer, forked

T = TypeVar("T")

SECONDS = 10.0
"""Of the processor's time. A template renders in milliseconds."""
WAITING = 4
"""So many times as long it may take in all, where the processor has others to serve."""
MEGABYTES = 2048
"""Beyond what the process has already."""


class Exceeded(Exception):
    """More was asked for than there is: the message says of what."""


def within_limits(work: Callable[[], T]) -> T:
    """What a function returns, which is called in a process of its own.

    Raises:
        Exceeded: it took too long or too much memory.
        Exception: what it raises.
    """

    def limited() -> T:
        whole = int(SECONDS) or 1
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
        has = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
        room = has + (MEGABYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return work()

    try:
        with forked(limited, WAITING * SECONDS) as answer:
            return answer()
    except NoAnswer as late:  # of the kernel's clock or of ours
        raise Exceeded(f"takes longer than {SECONDS:g} s") from late
    except MemoryError as error:
        raise Exceeded(f"needs more than {MEGABYTES / 1024:g} GiB of memory") from error
