"""Jobs: what one engine does. A launcher says where and when.

A job is one model with its cells, or several variants of one that share what is loaded. It is run one engine
at a time, until it owes nothing: all attempts are in flight at once, each is appended to its cell's records
as soon as it is finished, and where an engine dies the next one goes on.
"""

import asyncio
import errno
import os
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from harness.config import EngineSpec, ModelSpec, RunConfig, drawn_by
from harness.engines import open_variants
from harness.engines.base import Engine
from harness.engines.energy import open_meter
from harness.engines.metered import BusyClock
from harness.errors import AttemptFailure, DiskError, EngineDead, ServerGone, UserError
from harness.memory import rare_collections
from harness.models.forecast import gpus_wanted
from harness.records.append import RecordWriter
from harness.records.directory import RunDirectory
from harness.records.schema import EngineFile
from harness.records.workers import LOGS
from harness.run.attempts import Asked, Attempt, Progress, new_record, order
from harness.run.deaths import MAX_CULPRITS, Deaths
from harness.run.models import PlannedModel
from harness.run.plan import PlannedCell, hardware, installed_versions, problem
from harness.suites.base import Suite
from harness.suites.scoring_processes import Scorers
from harness.types import Caution, CellEntry, FailureKind, Message, Transcript, Usage

E = TypeVar("E", bound=Exception)

ENGINE_DIED = "engine_died"
"""The check of a caution about an engine that died: the same command may go further."""

PORT_TAKEN = os.strerror(errno.EADDRINUSE)
"""What an engine says whose port another process took."""

PORT_TRIES = 3
"""How often an engine is started that says so."""

SYNC_SECONDS = 0.5
"""How often appended records are forced onto the disk."""

Opening = Callable[[EngineSpec, Sequence[ModelSpec], str | None], Awaitable[Mapping[str, Engine | UserError]]]
"""(kind and arguments, variants of a model, day that templates are told) -> engine of each, by name, or why
it cannot be asked."""


@dataclass
class Job:
    """What one engine does: the cells of one model or of its variants, until they owe nothing."""

    config: RunConfig
    models: list[PlannedModel]
    """One, or variants of one checkpoint, which share what is loaded."""
    cells: list[PlannedCell]
    """What is left of them: a problem takes its cells out."""
    directory: RunDirectory
    retry_before: float = 0.0
    """Unix time; an attempt whose engine or scorer failed before it is owed again."""
    opening: Opening = field(default_factory=lambda: open_variants)
    """How its engines are got."""
    share: tuple[int, int] = (0, 1)
    """(which, of how many): it makes a range of each cell's attempts, and others make the rest."""
    more: Callable[[], Awaitable[tuple[int, int] | None]] | None = None
    """Asked for another share when one is done, so that the model need not be loaded again for it."""
    on_loaded: Callable[[], None] = field(default=lambda: None)
    """Called when its engine has read the weights."""
    turn: Callable[[], Awaitable[None]] = field(default=lambda: asyncio.sleep(0))
    """Awaited before the first attempt, where another engine still computes on the same GPUs."""
    on_last: Callable[[], None] = field(default=lambda: None)
    """Called when no attempt of its share is owed that is not in flight."""
    problems: list[Caution] = field(default_factory=list)
    """What could not be measured, and why."""
    deaths: Deaths = field(default_factory=Deaths)
    """Of its engines, in this process."""
    over: bool = False
    """Its last engine did what it could."""

    @property
    def name(self) -> str:
        """By which launchers know it: that of its first model."""
        return self.names[0]

    @property
    def names(self) -> list[str]:
        """Of its models, one by one."""
        return [model.spec.name for model in self.models]

    @property
    def gpus(self) -> int:
        """That its engine takes, where it runs on GPUs."""
        return gpus_wanted({**self.config.engine.args, **self.models[0].spec.engine_args})

    @property
    def work(self) -> float:
        """What tells longer jobs from shorter ones, in no unit: tokens to write, times parameters, by GPU."""
        entries, read = [cell.entry for cell in self.cells], self.models[0].architecture
        tokens = (
            entry.samples * entry.attempts * int(entry.protocol.get("sampling.max_tokens", "1"))
            for entry in entries
        )
        return sum(tokens) * (read.active_params if read else 1) / self.gpus / self.share[1]

    @property
    def owed(self) -> int:
        """Attempts that are left to make."""
        return sum(
            cell.entry.samples * cell.entry.attempts - self._count_finished(cell)
            for cell in self.cells
            if self.retry_before or not self._complete(cell)
        )

    def split(self, shares: Sequence[tuple[int, int]]) -> "list[Job]":
        """A job for each of some shares of the attempts."""
        if len(shares) == 1:
            return [self]
        return [
            replace(self, cells=[*self.cells], share=share, problems=[], deaths=Deaths()) for share in shares
        ]

    @property
    def suites(self) -> list[Suite]:
        """Of its cells."""
        return [cell.suite for cell in self.cells]

    def _of(self, model: str) -> list[PlannedCell]:
        return [cell for cell in self.cells if cell.entry.model == model]

    def begin(self, progress: Progress) -> None:
        """Tell what is owed, and bring the records of each cell into the form that its state asks for."""
        try:
            done = {cell.entry.key: self._count_finished(cell) for cell in self.cells}
            for name in self.names:
                cells = self._of(name)
                totals = {cell.suite.name: cell.entry.samples * cell.entry.attempts for cell in cells}
                progress.begun(name, totals, {cell.suite.name: done[cell.entry.key] for cell in cells})
            self._compact_complete()
            for cell in self.cells if self.retry_before else ():
                if self._complete(cell) and done[cell.entry.key] < self.directory.count(cell.entry):
                    self.directory.reopen(cell.entry)
            self.deaths.answered = any(done.values())
        except DiskError:
            raise
        except UserError as error:
            self.leave_out("not_loaded", str(error))

    @property
    def is_complete(self) -> bool:
        """Whether all records of its cells are there, and none is to be made again."""
        return all(
            self._complete(cell) and self._count_finished(cell) == cell.entry.samples * cell.entry.attempts
            for cell in self.cells
        )

    @property
    def owes(self) -> bool:
        """Whether an engine is needed: the first, or another where one died."""
        return not self.over and not all(map(self._complete, self.cells))

    async def run(self, progress: Progress, scorers: Scorers) -> None:
        """Load the model, make the attempts that are owed, and release it.

        Where the engine dies the job goes on owing what was in flight. What cannot be measured at all
        becomes one of its problems.

        Raises:
            DiskError: what was to be kept could not be.
        """
        self.over = True
        begun = time.perf_counter()
        try:
            engines = await self._open()
        except UserError as error:
            self.leave_out("not_loaded", str(error))
            return
        engine = next(iter(engines.values()))
        sampling = {model.spec.name: drawn_by(self.config.sampling, model.spec) for model in self.models}
        clock = BusyClock(open_meter(engine.facts), lambda: engine.load().idle_seconds)
        asked = Asked(engines, clock, sampling, progress, scorers)
        try:
            self._record_engines(engines, time.perf_counter() - begun)
            for name, loaded in engines.items():
                progress.loaded(name, loaded)
            self.on_loaded()
            async with self._recording() as asked.writers:
                await self.turn()
                share: tuple[int, int] | None = self.share
                while share is not None:
                    self.share = share
                    for attempts, at_once in self._due(asked):
                        async with asyncio.TaskGroup() as group:  # what one raises ends the others
                            asked.slots = asyncio.Semaphore(at_once)
                            for attempt in attempts:
                                await asked.slots.acquire()
                                group.create_task(asked.attempt(attempt)).add_done_callback(asked.release)
                    share = await self.more() if self.more and not asked.refused else None
        except DiskError:
            raise
        except UserError as error:
            self.leave_out("not_loaded", str(error))
        except ExceptionGroup as errors:
            self._stopped(errors, asked)
        finally:
            for suite in self.suites:
                await suite.keep_logs(self.directory.path / LOGS)
                await suite.close()
            await engine.close()
        self._settle(asked)

    def _due(self, asked: Asked) -> Iterator[tuple[Iterable[Attempt], int]]:
        """(attempts that are owed of its share, how many of them at once), one after the other."""
        owed = {attempt.key: attempt for attempt in order(list(self._owed(asked)))}
        yield [owed.pop(key) for key in self.deaths.alone(list(owed))], 1
        yield self._to_the_last(owed.values()), self.config.engine.max_concurrency

    def _to_the_last(self, attempts: Iterable[Attempt]) -> Iterator[Attempt]:
        """The same, and word of it when the last one is in flight."""
        yield from attempts
        self.on_last()

    def _settle(self, asked: Asked) -> None:
        """Take in what an engine leaves behind: suites that were refused, and cells that are complete."""
        for cell in [cell.entry for cell in self.cells if cell.entry.key in asked.refused]:
            self.leave_out("suite", asked.refused[cell.key], cell)
        try:
            self._compact_complete()
        except DiskError:
            raise
        except UserError as error:
            self.leave_out("not_loaded", str(error))

    async def _open(self) -> dict[str, Engine]:
        """Load the model; returns what each variant is asked through, but for those that cannot be.

        Raises:
            UserError: none of them can be.
        """
        wanted = [model.spec for model in self.models if self._of(model.spec.name)]
        try:
            opened = await self._opened(wanted)
        except UserError:
            raise
        except EngineDead as error:  # starting it again would end the same way
            raise UserError(
                f"model {self.name} could not be loaded: {error}; give it more memory or a shorter "
                "max_model_len in engine.args, or leave it out"
            ) from error
        except Exception as error:  # the engine and the checkpoint may be anybody's
            raise UserError(f"model {self.name} could not be loaded: {_named(error)}") from error
        refused = {name: engine for name, engine in opened.items() if isinstance(engine, UserError)}
        for name, why in refused.items():
            self.problems.append(problem("not_loaded", f"model {name}: {why}", model=name))
        self.cells = [cell for cell in self.cells if cell.entry.model not in refused]
        return {name: engine for name, engine in opened.items() if not isinstance(engine, UserError)}

    async def _opened(self, wanted: Sequence[ModelSpec]) -> Mapping[str, Engine | UserError]:
        """What `opening` gives, asked again where another process took a port that the engine had chosen.

        Engines that start at once on one machine do so to each other: each looks for a free port, and takes
        it a while later.
        """
        for _ in range(PORT_TRIES - 1):
            try:
                return await self.opening(self.config.engine, wanted, self.config.day)
            except Exception as error:
                if PORT_TAKEN not in str(error):
                    raise
        return await self.opening(self.config.engine, wanted, self.config.day)

    def _record_engines(self, engines: Mapping[str, Engine], load_seconds: float) -> None:
        """Keep what an engine is with each cell that it works on, and refuse to mix two in one."""
        facts = {
            name: EngineFile(
                facts=engine.facts,
                hardware=hardware(),
                versions=installed_versions(),
                started=time.time(),
                load_seconds=load_seconds,
            )
            for name, engine in engines.items()
        }
        for cell in self.cells:
            if not self._complete(cell):
                self.directory.add_engine(cell.entry, facts[cell.entry.model])

    def _owed(self, asked: Asked) -> Iterator[Attempt]:
        """What the cells owe, but for suites whose samples cannot be made."""
        called = {model.spec.name: model.called for model in self.models}
        for cell in self.cells:
            if self._complete(cell):
                continue
            name = cell.entry.model
            try:
                yield from owed_attempts(
                    self.directory, cell, called[name], asked.engines[name], self.retry_before, self.share
                )
            except DiskError:
                raise
            except Exception as error:  # the suite may be anybody's, and its data too
                text = str(error) if isinstance(error, UserError) else _named(error)
                asked.refused[cell.entry.key] = f"suite {cell.suite.name}: {text}"

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[dict[str, RecordWriter]]:
        """Key of a cell -> where its records go, which are forced onto the disk beside the attempts."""
        with ExitStack() as stack:
            stack.enter_context(rare_collections())
            writers = {}
            for cell in self.cells:
                if not self._complete(cell):
                    writer = self.directory.writer(cell.entry)
                    stack.callback(writer.close)
                    writers[cell.entry.key] = writer
            async with asyncio.TaskGroup() as group:
                done = asyncio.Event()
                group.create_task(_sync(writers.values(), done))
                yield writers
                done.set()

    def _stopped(self, errors: ExceptionGroup, asked: Asked) -> None:
        """Take in what ended an engine before its time."""
        if disk := _first(errors, DiskError):
            raise disk from errors
        if gone := _first(errors, ServerGone):  # nobody here can start it again
            self.leave_out(ENGINE_DIED, f"model {self.name}: {gone}; the same command resumes")
            return
        died = _first(errors, EngineDead)
        if died is None:
            raise errors
        in_flight = list(asked.in_flight.values())
        try:
            culprit = self.deaths.died([a.key for a in in_flight], asked.finished, str(died))
        except EngineDead:
            text = f"model {self.name}: the engine died: {died}; the same command resumes"
            self.leave_out(ENGINE_DIED, text)
            return
        self.over, blamed = False, ""
        if culprit:
            self._record_culprit(in_flight[0], str(died))
            blamed = f" of {in_flight[0].cell.suite.name}/{culprit[1]}"
        asked.progress.note(f"the engine of {self.name} died{blamed} ({died}); starting it again")
        for cell in [c.entry for c in self.cells if c.entry.key in self.deaths.given_up]:
            self.leave_out(
                ENGINE_DIED,
                f"{MAX_CULPRITS} attempts of {cell.suite} each ended the engine of {cell.model}, so that the "
                "rest of the suite was not tried: `harness show --failed` lists them, and the same command "
                "goes on",
                cell,
            )

    def _record_culprit(self, attempt: Attempt, reason: str) -> None:
        """Book the attempt that ended an engine, alone."""
        writer = self.directory.writer(attempt.cell.entry)
        try:
            message = f"the engine died of this attempt, also where it was asked alone: {reason}"
            failure = AttemptFailure(FailureKind.ENGINE_ERROR, message)
            usage = Usage(requests=1)
            writer.append(new_record(attempt, Transcript(), (), failure, usage, time.time(), 0.0))
        finally:
            writer.close()

    def leave_out(self, check: str, text: str, cell: CellEntry | None = None) -> None:
        """Note why the models, or a cell of one, were not measured, and take the cells out."""
        if cell is None:
            self.problems += [problem(check, text, model=name) for name in self.names]
            self.cells = []
            return
        self.problems.append(problem(check, text, model=cell.model, suite=cell.suite))
        self.cells = [other for other in self.cells if other.entry.key != cell.key]

    def _complete(self, cell: PlannedCell) -> bool:
        return self.directory.is_complete(cell.entry)

    def _count_finished(self, cell: PlannedCell) -> int:
        """How many attempts need not be made."""
        if not self.retry_before:
            return self.directory.count(cell.entry)
        return len(self.directory.finished(cell.entry, self.retry_before))

    def _compact_complete(self) -> None:
        """Compact every cell that owes nothing, and finish what a dying process began to compact."""
        self.directory.compact(
            [
                cell.entry
                for cell in self.cells
                if self._complete(cell)
                or self._count_finished(cell) == cell.entry.samples * cell.entry.attempts
            ]
        )


def owed_attempts(
    directory: RunDirectory,
    cell: PlannedCell,
    called: str,
    engine: Engine,
    retry_before: float = 0.0,
    share: tuple[int, int] = (0, 1),
) -> list[Attempt]:
    """The attempts of a cell that have no record yet, or one that is to be superseded.

    Args:
        directory: of the run.
        cell: which.
        called: how its model is called in prose.
        engine: what its model is asked through.
        retry_before: as of a `Job`.
        share: as of a `Job`: a range of the attempts, whether they are owed or not, so that replicas which
            begin at different times agree about it.

    Raises:
        UserError: a record that is there was made of another sample than there is now.
    """

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str:
        return engine.render(messages, add_generation_prompt=add_generation_prompt)

    kept = directory.contents(cell.entry)
    finished = directory.finished(cell.entry, retry_before) if retry_before else kept
    samples = cell.suite.samples(called, render if cell.suite.needs.chat_template else None)
    built = {sample.id: sample.content_hash for sample in samples}
    others = [sample for (sample, _), content in kept.items() if built.get(sample, content) != content]
    if others:
        raise UserError(
            f"{len(others)} of the attempts in {directory.path} were made of samples that are built "
            f"otherwise now, {others[0]} for one: restore the data, template and day that it was begun with, "
            "or give another --out"
        )
    every = [(sample, number) for number in range(cell.entry.attempts) for sample in samples]
    which, count = share
    mine = every[len(every) * which // count : len(every) * (which + 1) // count]
    return [Attempt(cell, sample, number) for sample, number in mine if (sample.id, number) not in finished]


async def _sync(writers: Collection[RecordWriter], done: asyncio.Event) -> None:
    while not done.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), SYNC_SECONDS)
        for writer in writers:  # in a thread: a slow disk would hold up every attempt
            await asyncio.to_thread(writer.sync)


def _first(errors: BaseException, kind: type[E]) -> E | None:
    """The first error of a kind in a group of groups."""
    if isinstance(errors, BaseExceptionGroup):
        return next((inner for error in errors.exceptions if (inner := _first(error, kind))), None)
    return errors if isinstance(errors, kind) else None


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
