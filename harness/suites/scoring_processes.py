"""Scoring in processes of its own, which can be killed, while everything else of a run goes on.

Each scorer is two processes. They are forked before any engine is loaded, when they hold the suites and
nothing else. The first waits for requests and forks the second, which scores. Where that gives no answer in
time it is killed, and another one is forked: the first never runs code that is not ours.
"""

import asyncio
import os
import pickle
import signal
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from harness import bounded
from harness.errors import AttemptFailure, UserError, classify
from harness.suites import scoring
from harness.suites.base import Scoring, Suite
from harness.suites.scoring import Scored
from harness.types import FailureKind, Sample, Transcript

SCORERS = 2
"""So that one reply that takes its whole time does not hold up all others."""

GRACE_SECONDS = 3.0
"""After the limit, until what does not look at signals is killed."""


class Scorers:
    """Scores the replies of all suites of a run, each where it belongs."""

    def __init__(self, suites: Iterable[Suite]) -> None:
        """Args: suites: of the run. Processes are forked if any of them is scored in one."""
        self._suites = {s.name: s for s in suites if s.needs.scoring is Scoring.PROCESS}
        self._processes: list[int] = []
        self._open: list[Connection] = []
        self._idle: asyncio.Queue[Connection] | None = None
        for _ in range(SCORERS if self._suites else 0):
            self._fork()

    def _fork(self) -> None:
        ours, theirs = Pipe()
        if (process := os.fork()) == 0:
            _supervise(theirs, self._suites, [*self._open, ours])
        theirs.close()
        self._open.append(ours)
        self._processes.append(process)

    def __enter__(self) -> "Scorers":
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for connection in self._open:
            connection.close()
        for process in self._processes:
            os.waitpid(process, 0)
        self._open, self._processes = [], []

    async def score(self, suite: Suite, sample: Sample, transcript: Transcript) -> Scored:
        """`scoring.score`, where the suite is scored.

        Raises:
            AttemptFailure: it took too long, or ended the process that it ran in; and what the suite raises.
        """
        if suite.needs.scoring is Scoring.THREADS:
            return await asyncio.to_thread(scoring.score, suite, sample, transcript)
        if not self._open or self._suites.get(suite.name) is not suite:
            return scoring.score(suite, sample, transcript)
        answer = await self._ask(pickle.dumps((suite.name, sample, transcript)))
        if answer is None:
            raise AttemptFailure(
                FailureKind.SCORER_ERROR,
                f"scoring {scoring.named(suite, sample)} took longer than {bounded.LIMIT_SECONDS:g} s, "
                "heeded no signal, or ended the process that it ran in",
            )
        scored, failure = answer
        if isinstance(failure, str):
            raise UserError(failure)
        if failure is not None:
            raise AttemptFailure(*failure)
        return Scored(*scored)

    async def _ask(self, request: bytes) -> Any:
        """The answer of the first scorer that is free."""
        if self._idle is None:
            self._idle = asyncio.Queue()
            for connection in self._open:
                self._idle.put_nowait(connection)
        connection, loop = await self._idle.get(), asyncio.get_running_loop()
        there = asyncio.Event()
        loop.add_reader(connection.fileno(), there.set)
        try:
            connection.send_bytes(request)
            await there.wait()
            answer = pickle.loads(connection.recv_bytes())
        finally:  # if the wait was cancelled the run ends, and an answer that comes now is for nobody
            loop.remove_reader(connection.fileno())
        self._idle.put_nowait(connection)
        return answer


def _supervise(requests: Connection, suites: dict[str, Any], others: Iterable[Connection]) -> None:
    """The first process of a scorer: hands each request on and waits for its answer. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends its scorers
        for connection in others:
            connection.close()
        worker: tuple[int, Connection] | None = None
        while True:
            request = requests.recv_bytes()
            worker = worker or _worker(requests, suites)
            process, answers = worker
            answers.send_bytes(request)
            ready = _wait(process, [answers, requests])
            try:
                answer = answers.recv_bytes() if answers in ready else None
            except (EOFError, OSError):
                answer = None
            if answer is None:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                answers.close()
                worker = None
            requests.send_bytes(answer or pickle.dumps(None))
    except (EOFError, OSError):  # the run has ended
        os._exit(0)
    finally:
        os._exit(1)


def _wait(process: int, connections: list[Connection]) -> list[Any]:
    """Those of the connections that have something, none where a process took longer than it may."""
    clock = (~process << 3) | 2  # as `clock_getcpuclockid` of Linux has it
    spent = time.clock_gettime(clock) + bounded.LIMIT_SECONDS + GRACE_SECONDS
    waited = time.monotonic() + bounded.WAITING * bounded.LIMIT_SECONDS + GRACE_SECONDS
    while not (ready := wait(connections, bounded.TICK_SECONDS)):
        if time.monotonic() >= waited or time.clock_gettime(clock) >= spent:
            return []
    return ready


def _worker(requests: Connection, suites: dict[str, Any]) -> tuple[int, Connection]:
    """Fork the second process: (its id, the pipe to it)."""
    ours, theirs = Pipe()
    if (process := os.fork()) != 0:
        theirs.close()
        return process, ours
    try:
        ours.close()
        requests.close()
        while True:
            name, sample, transcript = pickle.loads(theirs.recv_bytes())
            theirs.send_bytes(pickle.dumps(_answer(suites[name], sample, transcript)))
    except (EOFError, OSError):
        os._exit(0)
    finally:
        os._exit(1)


def _answer(
    suite: Suite, sample: Sample, transcript: Transcript
) -> tuple[Scored | None, str | tuple[FailureKind, str] | None]:
    """(scores, what was raised instead: the sentence of a `UserError`, or kind and message of a failure)."""
    try:
        return scoring.score(suite, sample, transcript), None
    except UserError as error:
        return None, str(error)
    except Exception as error:
        failure = classify(error, FailureKind.SCORER_ERROR)
        return None, (failure.kind, failure.message)
