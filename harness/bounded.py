"""A bound in time on code that is not ours: checkers, filters, metrics, templates, tools, defences.

A regular expression that backtracks, or sympy on a long formula, may never end, and holds Python's
interpreter all the while: no thread and no event loop comes to its turn. The kernel's timer does: its signal
is looked at inside of regular expressions too. What does not look at signals either is ended with the process
that it runs in, see `harness.suites.scoring_processes`.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from harness.errors import AttemptFailure
from harness.types import FailureKind

LIMIT_SECONDS = 30.0
"""Of the processor's time, that the code of others may take at once. Scoring a reply takes milliseconds."""

WAITING = 4
"""So many times as long it may take in all: on a busy machine it waits for its turn, and some code sleeps."""

TICK_SECONDS = 0.5
"""How often a bounded section looks whether it is late or the run was interrupted, and ends what runs."""


class _Ended(BaseException):
    """Thrown into a bounded section. No `Exception`, so that the section does not take it for its own."""


class _Section:
    """One bounded section, as the handlers of signals see it."""

    def __init__(self) -> None:
        self.ends = time.thread_time() + LIMIT_SECONDS, time.monotonic() + WAITING * LIMIT_SECONDS
        self.late = self.interrupted = False

    def tick(self, *_: object) -> None:
        spent, waited = self.ends
        self.late = self.late or time.thread_time() >= spent or time.monotonic() >= waited
        if self.late or self.interrupted:
            raise _Ended


@contextmanager
def bounded(what: str, kind: FailureKind = FailureKind.SCORER_ERROR) -> Iterator[None]:
    """While inside, code has `LIMIT_SECONDS`. In the main thread alone; elsewhere nothing changes.

    Args:
        what: that is bounded, for the failure: `scoring document 3 of gsm8k`.
        kind: of the failure.

    Raises:
        AttemptFailure: it took longer, whatever it made of that.
        asyncio.CancelledError: the run was interrupted (Ctrl-C) meanwhile, and the section did not end.
    """
    if threading.current_thread() is not threading.main_thread() or _active:
        yield
        return
    section = _Section()
    _active.append(section)
    interrupt = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        section.interrupted = True
        if callable(interrupt):
            interrupt(number, frame)

    alarm = signal.signal(signal.SIGALRM, section.tick)
    if callable(interrupt):
        signal.signal(signal.SIGINT, on_interrupt)
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
    try:
        yield
    except _Ended:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGINT, interrupt)
        _active.clear()
    if section.late:
        raise AttemptFailure(kind, f"{what} took longer than {LIMIT_SECONDS:g} s and was ended")
    if section.interrupted:
        raise asyncio.CancelledError


_active: list[_Section] = []
