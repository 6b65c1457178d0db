"""Jobs in processes of their own on this machine, several at once, each with GPUs that no other one has.

A process is forked for each job, from this one, which holds the plan and nothing heavy. It tells what happens
through a pipe. One that dies has lost nothing that it had finished: its job goes to another process.

Long jobs are in parts, each half of what is left. An engine that has done a part goes on with the next one of
its model; where a GPU has nothing else to do it takes one over. So few models are loaded twice, and the last
to end are short, also where they take longer than was foreseen.

Where the last attempts of an engine are in flight, the next model loads on the same GPUs if memory has room
for both. It makes its first attempt when the other engine has ended, so that no two compute on a GPU at once.
"""

import asyncio
import ctypes
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

import msgspec

from harness.disk import make_folder
from harness.engines.base import Engine
from harness.engines.vllm.last_words import LOG
from harness.errors import DiskError, Status
from harness.records.directory import RunDirectory
from harness.records.workers import LOGS, log_path
from harness.run.attempts import Progress
from harness.run.beside import fits_beside
from harness.run.deaths import MAX_BARREN
from harness.run.jobs import ENGINE_DIED, Job
from harness.run.launchers.in_process import InProcess
from harness.run.read_ahead import ReadAhead
from harness.types import Caution, Record, Transcript

STOP_SECONDS = 60.0
"""That a process has to release its engine once it is asked to stop."""

GRAIN = 0.05
"""Parts are halved until they take no more than this, of the time in which all could be done."""

FULL = 16
"""Attempts of a part, over those in flight: at the end of each part its engine runs dry."""

PR_SET_PDEATHSIG = 1
"""Of Linux: which signal a process gets when its parent ends."""


class Processes:
    """Satisfies `Launcher`."""

    def __init__(self, workers: int, gpus: Sequence[str] = ()) -> None:
        """Run some jobs at once.

        Args:
            workers: how many, at most.
            gpus: what `CUDA_VISIBLE_DEVICES` may name; none where engines run on the CPU.
        """
        self._workers = workers
        self._free = list(gpus)
        self._on_gpus = bool(gpus)
        self._owed: list[Job] = []
        """Jobs, or parts of them, that nobody runs, in the order in which they are begun."""
        self._left: Counter[str] = Counter()
        """Job -> parts of it that are not over."""
        self._running: dict[Connection, Worker] = {}
        self._deaths: Counter[Share] = Counter()
        self._ahead = ReadAhead()
        self._alone: set[str] = set()
        """Jobs that found no room beside another one."""
        self._told: set[tuple[str, str]] = set()
        """(job, what progress was told of it once, whichever part said so)."""

    def run(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Job]:
        """See `Launcher.run`. What takes longest comes first, if it finds room.

        Where all find room and leave some, replicas share out the attempts of those that have most.
        """
        whole = {job.name: job for job in jobs}
        parts = self._parts(jobs, progress)
        self._left = Counter(job.name for job in parts)
        self._owed = sorted(parts, key=lambda job: (-job.work, -job.gpus))
        try:
            while self._owed or self._running:
                for job in [*self._owed]:
                    if self._has_room(job):
                        self._owed.remove(job)
                        self._start(job)
                for connection in wait([*self._running]):
                    assert isinstance(connection, Connection)
                    if (ended := self._hear(connection, progress)) is None:
                        continue
                    if not ended.over:
                        self._owed.insert(0, ended)
                        continue
                    self._left[ended.name] -= 1
                    job = _with(whole[ended.name], ended)
                    if {problem.model for problem in job.problems if problem.suite is None} >= {*job.names}:
                        self._drop(job.name)
                    if not self._left[ended.name]:
                        yield from _told(job, progress)
        finally:
            self._stop()

    def _parts(self, jobs: Sequence[Job], progress: Progress) -> list[Job]:
        """Jobs, those that replicas share out or that take long in parts."""
        gpus = len(self._free) if self._on_gpus else None
        counts = replicas(jobs, self._workers, gpus)
        bound = sum(job.work * job.gpus for job in jobs) / (gpus or self._workers)
        parts = []
        for job in jobs:
            if (count := counts[job.name]) > 1:
                progress.note(f"{job.name}: {count} engines share its attempts out")
                parts += job.split([(which, count) for which in range(count)])
            else:
                full = FULL * job.config.engine.max_concurrency
                most = job.owed // full if self._workers > 1 else 1
                parts += job.split(halves(job.work, GRAIN * bound, most))
        return parts

    def _drop(self, name: str) -> None:
        """Begin no other part of a job: it would end the same way."""
        rest = [job for job in self._owed if job.name == name]
        self._owed = [job for job in self._owed if job.name != name]
        self._left[name] -= len(rest)

    def _give_more(self, connection: Connection) -> None:
        """Hand the next part of its job to a process that has done one, if one is owed."""
        worker = self._running[connection]
        part = next((job for job in self._owed if job.name == worker.job.name), None)
        if part is not None:
            self._owed.remove(part)
            self._left[part.name] -= 1
            worker.job, worker.finished = part, 0
        _answer(connection, part.share if part else None)

    def _has_room(self, job: Job) -> bool:
        places = sum(worker.before is None for worker in self._running.values())
        return places < self._workers and (not self._on_gpus or job.gpus <= len(self._free))

    def _start_next(self, connection: Connection) -> None:
        """Start what comes next beside an engine whose last attempts are in flight, where it has room."""
        worker = self._running[connection]
        if any(job.name == worker.job.name for job in self._owed):  # it goes on itself
            return
        if any(other.before is connection for other in self._running.values()):
            return
        for job in self._owed:
            enough = not self._on_gpus or job.gpus <= len(worker.gpus)
            if enough and job.name not in self._alone and fits_beside(job, worker.job, on_gpus=self._on_gpus):
                self._owed.remove(job)
                self._start(job, connection)
                return

    def _start(self, job: Job, before: Connection | None = None) -> None:
        """Start a process; before: that of the engine which still computes where it is to."""
        self._ahead.end()  # what is forked has no thread but its own
        ours, theirs = get_context("fork").Pipe()
        free = self._free if before is None else self._running[before].gpus
        gpus = [free.pop(0) for _ in range(job.gpus if self._on_gpus else 0)]
        others = [*self._running, ours]
        process = get_context("fork").Process(
            target=_work, args=(os.getpid(), job, gpus, theirs, others, before is not None), name=job.name
        )
        process.start()
        theirs.close()
        self._running[ours] = Worker(job, process, gpus, before, early=before is not None)

    def _hear(self, connection: Connection, progress: Progress) -> Job | None:
        """Take in one message; returns the job where its process has ended.

        Raises:
            DiskError: what was to be kept could not be.
        """
        worker = self._running[connection]
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return self._bury(connection, progress)
        if isinstance(message, Ended):
            worker.ended = message
        elif isinstance(message, Done):
            self._give_more(connection)
        elif isinstance(message, Last):
            self._start_next(connection)
        else:
            name, arguments = message
            worker.finished += name == "finished"
            if name == "loaded":
                busy = {other.job.name for other in self._running.values()}
                self._ahead.begin([job for job in self._owed if job.name not in busy])
            first = (arguments[0], name) not in self._told
            if worker.job.share[1] > 1 and name in ("begun", "loaded") and not first:
                return None
            self._told.add((arguments[0], name))
            handlers: dict[str, Callable[..., None]] = {
                "begun": progress.begun,
                "loaded": progress.loaded,
                "finished": progress.finished,
                "note": progress.note,
            }
            handlers[name](*arguments)
        return None

    def _bury(self, connection: Connection, progress: Progress) -> Job:
        """Take a process out that has ended; its job is over, or owed to another process."""
        worker = self._running.pop(connection)
        connection.close()
        worker.process.join()
        self._free += worker.gpus
        for other, following in self._running.items():
            if following.before is connection:
                following.before = None
                _answer(other, None)
        job, ended = worker.job, worker.ended
        if worker.early and (
            ended is None or any(problem.check == "not_loaded" for problem in ended.problems)
        ):
            self._alone.add(job.name)
            if ended is not None:
                progress.note(f"{job.name}: it had no room next to another engine; it is loaded again")
                return job
        if ended is not None:
            if ended.disk is not None:
                raise DiskError(ended.disk)
            job.problems, job.over = ended.problems, True
            return job
        how = _how(worker.process.exitcode)
        part = job.name, job.share
        self._deaths[part] = 1 if worker.finished else self._deaths[part] + 1
        if self._deaths[part] > MAX_BARREN:
            job.leave_out(
                ENGINE_DIED,
                f"model {job.name}: its process {how}, again and again; the same command resumes",
            )
            job.over = True
        else:
            progress.note(f"the process of {job.name} {how}; another one goes on")
        return job

    def _stop(self) -> None:
        """End every process, with its engine."""
        self._ahead.end()
        for worker in self._running.values():
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid or 0, signal.SIGINT)
        for connection, worker in self._running.items():
            worker.process.join(STOP_SECONDS)
            worker.process.kill()  # its engine is ended by what watches over it
            worker.process.join()
            connection.close()
        self._running.clear()


def _answer(connection: Connection, answer: tuple[int, int] | None) -> None:
    """Answer a process that may have died meanwhile."""
    with suppress(OSError):
        connection.send(answer)


def _told(job: Job, progress: Progress) -> Iterator[Job]:
    """A job that has ended, which progress is told."""
    for name in job.names:
        progress.ended(name)
    yield job


def _with(job: Job, part: Job) -> Job:
    """A job, with what came of a share of it."""
    job.over = True
    job.problems += [problem for problem in part.problems if problem not in job.problems]
    return job


Share = tuple[str, tuple[int, int]]
"""(name of a job, which share of it)."""


def halves(work: float, grain: float, most: int) -> list[tuple[int, int]]:
    """Shares of a job, longest first: half of it, half of what is left, and so on.

    Factoring (Hummel, Schonberg and Flynn, 1992), for one job.

    Args:
        work: of the job.
        grain: that of the last share is no more, in the same unit.
        most: the last share is no less than one of so many.
    """
    shares, count = [], 1
    while work / count > grain and 2 * count <= most:
        count *= 2
        shares.append((count - 2, count))
    return [*shares, (count - 1, count)]


def replicas(jobs: Sequence[Job], workers: int, gpus: int | None) -> dict[str, int]:
    """Job -> how many engines it is given, of those that find room beside the others.

    Another one is given to the job whose engines have most attempts each. One engine keeps
    `max_concurrency` attempts in flight: more engines than fill that would only wait for each other.

    Args:
        jobs: all of them.
        workers: engines at once, at most.
        gpus: that there are; None where engines run on the CPU.
    """
    counts = {job.name: 1 for job in jobs}
    room = workers - len(jobs)
    free = None if gpus is None else gpus - sum(job.gpus for job in jobs)
    if room <= 0 or (free is not None and free <= 0):
        return counts
    owed = {job.name: job.owed for job in jobs}
    while room > 0:
        more = [
            job
            for job in jobs
            if (free is None or job.gpus <= free)
            and owed[job.name] > counts[job.name] * job.config.engine.max_concurrency
        ]
        if not more:
            break
        chosen = max(more, key=lambda job: owed[job.name] / counts[job.name])
        counts[chosen.name] += 1
        room -= 1
        free = None if free is None else free - chosen.gpus
    return counts


@dataclass
class Ended:
    """The last message of a process."""

    problems: list[Caution]
    disk: str | None = None
    """What the disk did not take."""


@dataclass
class Done:
    """A process has done its share, and asks for another one."""


@dataclass
class Last:
    """All that a process still owes is in flight."""


@dataclass
class Worker:
    """A process that runs a job."""

    job: Job
    process: ForkProcess
    gpus: list[str]
    before: Connection | None = None
    """Of the process whose engine still computes where it is to: it waits for that one's end."""
    early: bool = False
    """It was started beside another one."""
    finished: int = 0
    """Attempts that it told of."""
    ended: Ended | None = None


class Reporter:
    """Satisfies `Progress`: tells another process."""

    def __init__(self, connection: Connection, *, waits: bool = False) -> None:
        """Args: connection: to the other process. waits: whether its turn comes later, see `Job.turn`."""
        self._connection = connection
        self._waits = waits

    def begun(self, model: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """See `Progress.begun`."""
        self._tell("begun", model, totals, done)

    def loaded(self, model: str, engine: Engine | None) -> None:
        """See `Progress.loaded`."""
        self._tell("loaded", model, None)

    def finished(self, model: str, suite: str, record: Record) -> None:
        """See `Progress.finished`. What was said stays here."""
        self._tell("finished", model, suite, msgspec.structs.replace(record, transcript=Transcript()))

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._tell("note", text)

    def ended(self, model: str) -> None:
        """Told by the last message."""

    def last(self) -> None:
        """See `Job.on_last`."""
        self._connection.send(Last())

    async def turn(self) -> None:
        """See `Job.turn`. It comes once."""
        if self._waits:
            self._waits = False
            await self._answered()

    async def more(self) -> tuple[int, int] | None:
        """See `Job.more`."""
        self._connection.send(Done())
        return await self._answered()

    async def _answered(self) -> tuple[int, int] | None:
        """What the other process says next."""
        loop, answered = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._connection.fileno(), answered.set)  # a Ctrl-C could not end `recv`
        try:
            await answered.wait()
        finally:
            loop.remove_reader(self._connection.fileno())
        share: tuple[int, int] | None = self._connection.recv()
        return share

    def _tell(self, name: str, *arguments: Any) -> None:
        self._connection.send((name, arguments))


def _work(
    parent: int,
    job: Job,
    gpus: list[str],
    connection: Connection,
    others: list[Connection],
    early: bool,
) -> None:
    """What a process does."""
    os.setsid()  # a Ctrl-C in the terminal is for the parent, which passes it on once
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:  # which ended before it could be told
        return
    for other in others:
        other.close()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    job.directory = RunDirectory(job.directory.path)  # what it writes goes to files of this process alone
    make_folder(job.directory.path / LOGS)
    os.environ[LOG] = str(log_path(job.directory.path, job.directory.writer_name, job.name))
    reporter = Reporter(connection, waits=early)
    job.more, job.turn, job.on_last = reporter.more, reporter.turn, reporter.last
    try:
        for ended in InProcess().run([job], reporter):
            connection.send(Ended(ended.problems))
    except DiskError as error:
        connection.send(Ended(job.problems, str(error)))
    except (KeyboardInterrupt, ConnectionError, EOFError):
        os._exit(Status.INTERRUPTED)


def _how(exit_code: int | None) -> str:
    """How a process ended before its time."""
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with status {exit_code}"
