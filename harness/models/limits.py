"""What a checkpoint makes the harness compute (its chat template), within a share of time and memory.

Jinja's sandbox keeps a template from Python, not from a loop in a loop or `9 ** (9 ** 9)`, and computes
constants when a template is only parsed. No signal ends that: it is done in a process that can be killed.
"""

import os
import pickle
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import Any, NoReturn, TypeVar

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
    ours, theirs = Pipe(duplex=False)
    if (process := os.fork()) == 0:
        ours.close()
        _work(work, theirs.send_bytes)
    theirs.close()
    late = True
    answer: Any = None
    raised = False
    try:
        if ours.poll(WAITING * SECONDS):
            raised, answer = pickle.loads(ours.recv_bytes())
            late = False
    except EOFError:  # the kernel ended it
        pass
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    if late:
        raise Exceeded(f"takes longer than {SECONDS:g} s")
    if raised:
        raise answer
    found: T = answer
    return found


def _work(work: Callable[[], object], answer: Callable[[bytes], object]) -> NoReturn:
    try:
        whole = int(SECONDS) or 1
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
        has = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
        room = has + (MEGABYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            said = pickle.dumps((False, work()))
        except MemoryError:
            said = pickle.dumps((True, Exceeded(f"needs more than {MEGABYTES / 1024:g} GiB of memory")))
        except Exception as error:
            said = pickle.dumps((True, error))
        answer(said)
    finally:
        os._exit(0)
