"""A function in a process of its own, forked from this one: what it takes, and that it ends, is its own."""

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import NoReturn, TypeVar

from harness.errors import UserError

A = TypeVar("A")
T = TypeVar("T")


class NoAnswer(UserError):
    """The process ended without an answer, or gave none in time."""


@contextmanager
def forked(work: Callable[[], T], seconds: float | None = None) -> Iterator[Callable[[], T]]:
    """Begin a function in a process of its own, which is killed when the context is left.

    Args:
        work: the function. What it returns or raises is pickled.
        seconds: to wait for it, once its answer is asked for; None is for ever.

    Yields:
        Waits for what the function returns, or raises what it raised, or `NoAnswer`.
    """
    with _forked_each(lambda: (one() for one in (work,)), seconds) as answer:
        yield answer


def shared_out(work: Callable[[A], T], items: Sequence[A], processes: int) -> Iterator[T]:
    """What a function gives of each item, in their order; every process works on its share of them.

    An answer waits in its process until it is asked for, so that one of each process is in memory at most.
    Nothing is forked where one process is to do it, or where this one has other threads, which may hold
    what those processes would wait for.

    Args:
        work: the function. What it returns or raises is pickled where a process does it.
        items: what it is called with.
        processes: how many, at most.
    """
    processes = min(processes, len(items))
    if processes < 2 or threading.active_count() > 1:
        yield from map(work, items)
        return
    with ExitStack() as stack:
        shares = [partial(map, work, items[first::processes]) for first in range(processes)]
        answers = [stack.enter_context(_forked_each(share)) for share in shares]
        for place in range(len(items)):
            yield answers[place % processes]()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def _forked_each(work: Callable[[], Iterable[T]], seconds: float | None = None) -> Iterator[Callable[[], T]]:
    """As `forked`, of a function that gives one thing after the other; each call waits for the next."""
    ours, theirs = Pipe(duplex=False)
    if (process := os.fork()) == 0:
        ours.close()
        _work(work, theirs)
    theirs.close()

    def answer() -> T:
        try:
            if not ours.poll(seconds):
                raise NoAnswer(f"a process of this command did not answer in {seconds:g} s")
            raised, said = pickle.loads(ours.recv_bytes())
        except EOFError:
            raise NoAnswer(
                "a process of this command was ended by the machine: free memory, and try again"
            ) from None
        if raised:
            raise said
        value: T = said
        return value

    try:
        yield answer
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _work(work: Callable[[], Iterable[object]], answers: Connection) -> NoReturn:
    try:
        try:
            for result in work():
                answers.send_bytes(pickle.dumps((False, result), protocol=5))
        except Exception as error:
            answers.send_bytes(_raised(error))
    finally:
        os._exit(0)  # what the process was forked from has its own end


def _raised(error: Exception) -> bytes:
    try:
        said = pickle.dumps((True, error))
        pickle.loads(said)
    except Exception:  # of a class that is not made again from its arguments: what it says must not be lost
        said = pickle.dumps((True, RuntimeError(f"{type(error).__name__}: {error}")))
    return said
