"""A function in a process of its own, forked from this one: what it takes, and that it ends, is its own."""

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from typing import NoReturn, TypeVar

from harness.errors import UserError

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
        found: T = said
        return found

    try:
        yield answer
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _work(work: Callable[[], object], answers: Connection) -> NoReturn:
    try:
        try:
            said = pickle.dumps((False, work()))
        except Exception as error:
            said = pickle.dumps((True, error))
        answers.send_bytes(said)
    finally:
        os._exit(0)  # what the process was forked from has its own end
