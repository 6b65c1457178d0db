"""Running a plan: one model at a time, all of its suites in flight at once, bounded and resumable.

A finished attempt is appended to its cell's records at once. What was finished before is not run
again; what was in flight when the process died is owed again.
"""

import asyncio
import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from harness.engines import open_engine
from harness.engines.base import Engine
from harness.engines.energy import open_meter
from harness.engines.metered import BusyClock, MeteredEngine
from harness.errors import AttemptFailure, DiskError, EngineDead, ServerGone, Status, UserError, classify
from harness.records.append import RecordWriter, Unwritable
from harness.records.directory import RunDirectory
from harness.run.deaths import MAX_CULPRITS, Attempt, Deaths
from harness.run.plan import Plan, PlannedCell, attempt_seed, make_manifest, prepare, problem
from harness.run.preflight import PlannedModel
from harness.suites.apart import Scorers
from harness.suites.base import Suite
from harness.types import (
    Caution,
    FailureKind,
    Manifest,
    Message,
    Record,
    Sample,
    Sampling,
    Score,
    Transcript,
    Usage,
)

ENGINE_DIED = "engine_died"
"""The check of a caution about an engine that died: the same command may go further."""

SYNC_SECONDS = 0.5
"""How often appended records are forced onto the disk."""

COLLECT_AFTER = 50_000
"""New objects after which Python looks for unreachable ones. An environment of AgentDojo's has hundreds,
which go as soon as they are not wanted: with its own 700 it would look many times a second, for nothing."""


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def model(self, name: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """A model's turn has come. totals and done: suite -> attempts."""
        ...

    def loaded(self, engine: Engine) -> None:
        """The model is loaded."""
        ...

    def finished(self, suite: str, record: Record) -> None:
        """An attempt was appended."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


@dataclass(frozen=True)
class Job:
    """One attempt that is owed."""

    cell: PlannedCell
    sample: Sample
    attempt: int

    @property
    def key(self) -> Attempt:
        """What tells it from every other attempt of the run."""
        return self.cell.entry.key, self.sample.id, self.attempt


async def run(
    plan: Plan, directory: RunDirectory, progress: Progress, *, retry_failures: bool = False
) -> None:
    """Run everything that the plan owes to the directory.

    What cannot be measured becomes a problem of the plan and is kept in the manifest; the rest is measured.

    Args:
        plan: what is asked for.
        directory: where records go.
        progress: who watches.
        retry_failures: whether attempts are owed again that ended in one of `store.RETRIED` before now.

    Raises:
        UserError: nothing can be measured, or not into this directory.
    """
    plan.check()
    prepare(plan)
    if directory.manifest_path.exists():
        check_same_cells(directory, plan)
        kept = directory.manifest()
        if (now := _with_new(kept, make_manifest(plan))) != kept:
            directory.write_manifest(now)
    else:
        directory.write_manifest(make_manifest(plan))
    retry_before = time.time() if retry_failures else 0.0
    before = len(plan.problems)
    with Scorers({cell.suite.name: cell.suite for cell in plan.cells}.values()) as scorers:
        for model in plan.models.values():
            await _run_or_leave_out(plan, model, directory, progress, retry_before, scorers)
            if len(plan.problems) > before:
                _keep_cautions(directory, plan)
    if outcome(plan.problems) is not Status.STOPPED:
        plan.check()


async def _run_or_leave_out(
    plan: Plan,
    model: PlannedModel,
    directory: RunDirectory,
    progress: Progress,
    retry_before: float,
    scorers: Scorers,
) -> None:
    """Run one model; if it cannot be run that is a problem of the plan."""
    try:
        await run_model(plan, model, directory, progress, retry_before, scorers)
    except DiskError:
        raise
    except (UserError, EngineDead) as error:
        check, text = "not_loaded", str(error)
        if isinstance(error, EngineDead):
            check = ENGINE_DIED
            died = "" if isinstance(error, ServerGone) else "the engine died: "
            text = f"model {model.spec.name}: {died}{error}; the same command resumes"
        plan.leave_out([problem(check, text, model=model.spec.name)])


def _with_new(kept: Manifest, planned: Manifest) -> Manifest:
    """A manifest with the models and cells that could not be planned before, and what is known now."""
    return msgspec.structs.replace(
        kept,
        models={**planned.models, **kept.models},
        cells={**planned.cells, **kept.cells},
        groups=planned.groups,
        cautions=planned.cautions,
    )


def _keep_cautions(directory: RunDirectory, plan: Plan) -> None:
    cautions = (*plan.problems, *plan.cautions)
    directory.write_manifest(msgspec.structs.replace(directory.manifest(), cautions=cautions))


def outcome(problems: Sequence[Caution]) -> Status:
    """How a run ended whose plan has these problems."""
    if any(found.check == ENGINE_DIED for found in problems):
        return Status.STOPPED
    return Status.INCOMPLETE if problems else Status.DONE


def check_same_cells(directory: RunDirectory, plan: Plan) -> None:
    """Refuse to go on where data, tasks, weights or versions are not those the directory began with.

    Raises:
        UserError: the cells that differ, with the fields that do.
    """
    kept = {(c.model, c.suite): c for c in directory.manifest().cells.values()}
    for cell in plan.cells:
        old = kept.get((cell.entry.model, cell.entry.suite))
        if old is not None and old.key != cell.entry.key:
            was, now = old.protocol, cell.entry.protocol
            changed = [k for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k)]
            raise UserError(
                f"{directory.path} was begun with another {cell.entry.suite} for {cell.entry.model} "
                f"({', '.join(changed) or 'weights or engine arguments'} changed since): "
                "give another --out, or restore what it was begun with"
            )


async def run_model(
    plan: Plan,
    model: PlannedModel,
    directory: RunDirectory,
    progress: Progress,
    retry_before: float = 0.0,
    scorers: Scorers | None = None,
) -> None:
    """Run one model's cells; load it only if any of them is owed something.

    Args:
        plan: what is asked for.
        model: whose turn it is.
        directory: where records go.
        progress: who watches.
        retry_before: Unix time; one of `store.RETRIED` from before it is owed again.
        scorers: that score what it writes.
    """
    cells = plan.of_model(model.spec.name)
    done = {cell.entry.key: _count_finished(directory, cell, retry_before) for cell in cells}
    progress.model(
        model.spec.name,
        {cell.suite.name: cell.entry.samples * cell.entry.attempts for cell in cells},
        {cell.suite.name: done[cell.entry.key] for cell in cells},
    )
    _compact_complete(directory, cells, retry_before)
    for cell in cells:
        if _complete(directory, cell) and done[cell.entry.key] < directory.count(cell.entry):
            directory.reopen(cell.entry)
    deaths = Deaths(answered=any(done.values()))
    while owed := [c for c in plan.of_model(model.spec.name) if not _complete(directory, c)]:
        try:
            await _run_cells(plan, model, owed, directory, progress, retry_before, deaths, scorers)
            break
        except _Died as death:
            culprit = deaths.died([job.key for job in death.in_flight], death.finished, str(death))
            blamed = ""
            if culprit:
                _record_culprit(directory, death.in_flight[0], str(death))
                blamed = f" of {death.in_flight[0].cell.suite.name}/{culprit[1]}"
            progress.note(f"the engine of {model.spec.name} died{blamed} ({death}); starting it again")
            gone = [c.suite.name for c in owed if c.entry.key in deaths.given_up]
            plan.leave_out(_given_up(model, suite) for suite in gone)
            _compact_complete(directory, owed, retry_before)
    _compact_complete(directory, cells, retry_before)


def _complete(directory: RunDirectory, cell: PlannedCell) -> bool:
    return directory.records_path(cell.entry, "parquet").exists()


def _given_up(model: PlannedModel, suite: str) -> Caution:
    return problem(
        ENGINE_DIED,
        f"{MAX_CULPRITS} attempts of {suite} each ended the engine of {model.spec.name}, so that the rest of "
        f"the suite was not tried: `harness show --failed` lists them, and the same command goes on",
        model=model.spec.name,
        suite=suite,
    )


def _record_culprit(directory: RunDirectory, job: Job, reason: str) -> None:
    """Book the attempt that ended an engine, alone."""
    writer = RecordWriter(directory.records_path(job.cell.entry, "jsonl"))
    try:
        message = f"the engine died of this attempt, also where it was asked alone: {reason}"
        failure = AttemptFailure(FailureKind.ENGINE_ERROR, message)
        writer.append(_record(job, Transcript(), (), failure, Usage(requests=1), time.time(), 0.0))
    finally:
        writer.close()


def _compact_complete(directory: RunDirectory, cells: Sequence[PlannedCell], retry_before: float) -> None:
    """Compact every cell that owes nothing, and finish what a dying process began to compact."""
    directory.compact(
        [
            cell.entry
            for cell in cells
            if _complete(directory, cell)
            or _count_finished(directory, cell, retry_before) == cell.entry.samples * cell.entry.attempts
        ]
    )


async def _run_cells(
    plan: Plan,
    model: PlannedModel,
    cells: Sequence[PlannedCell],
    directory: RunDirectory,
    progress: Progress,
    retry_before: float,
    deaths: Deaths,
    scorers: Scorers | None,
) -> None:
    engine = await _open(plan, model)
    try:
        _record_engine(directory, model, engine)
        progress.loaded(engine)
        owed, refused = _owed_by_cell(directory, cells, model, engine, retry_before)
        jobs = {job.key: job for job in order(owed)}
        alone = [jobs.pop(key) for key in deaths.alone(list(jobs))]
        with _writers(directory, cells) as writers:
            asked = EngineRun(
                engine, BusyClock(open_meter(engine.facts)), plan.config.sampling, writers, progress, scorers
            )
            try:
                await run_jobs(alone, asked, 1)
                await run_jobs(list(jobs.values()), asked, plan.config.engine.max_concurrency)
            finally:
                refused |= asked.refused
                plan.leave_out(_refused(model, suite, text) for suite, text in refused.items())
    finally:
        await engine.close()


def _owed_by_cell(
    directory: RunDirectory,
    cells: Sequence[PlannedCell],
    model: PlannedModel,
    engine: Engine,
    retry_before: float,
) -> tuple[list[Job], dict[str, str]]:
    """(what the cells owe, suite -> why its samples cannot be made)."""
    owed, refused = [], {}
    for cell in cells:
        try:
            owed += owed_jobs(directory, cell, model, engine, retry_before)
        except DiskError:
            raise
        except Exception as error:  # the suite may be anybody's, and its data too
            text = str(error) if isinstance(error, UserError) else _named(error)
            refused[cell.suite.name] = f"suite {cell.suite.name}: {text}"
    return owed, refused


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _refused(model: PlannedModel, suite: str, text: str) -> Caution:
    return problem("suite", text, model=model.spec.name, suite=suite)


async def _open(plan: Plan, model: PlannedModel) -> Engine:
    try:
        return await open_engine(plan.config.engine, model.spec, plan.config.day)
    except UserError:
        raise
    except EngineDead as error:  # starting it again would end the same way
        raise UserError(
            f"model {model.spec.name} could not be loaded: {error}; give it more memory or a shorter "
            "max_model_len in engine.args, or leave it out"
        ) from error
    except Exception as error:  # the engine and the checkpoint may be anybody's
        raise UserError(f"model {model.spec.name} could not be loaded: {_named(error)}") from error


def _record_engine(directory: RunDirectory, model: PlannedModel, engine: Engine) -> None:
    """Keep the engine's facts, and refuse to mix two engines in one cell."""
    manifest = directory.manifest()
    entry = manifest.models[model.spec.name]
    if entry.engine is None:
        entry = msgspec.structs.replace(entry, engine=engine.facts)
        models = {**manifest.models, entry.name: entry}
        directory.write_manifest(msgspec.structs.replace(manifest, models=models))
    elif entry.engine != engine.facts:
        old, new = msgspec.to_builtins(entry.engine), msgspec.to_builtins(engine.facts)
        old, new = {**old, **old.pop("details")}, {**new, **new.pop("details")}
        changed = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
        said = ", ".join(f"{k} was {old.get(k)} and is {new.get(k)}" for k in changed)
        raise UserError(
            f"{directory.path} has records of {model.spec.name} from another engine ({said}): "
            "resume with that one, or give another --out"
        )


@contextmanager
def _writers(directory: RunDirectory, cells: Sequence[PlannedCell]) -> Iterator[dict[str, RecordWriter]]:
    with ExitStack() as stack:
        writers = {}
        for cell in cells:
            writer = RecordWriter(directory.records_path(cell.entry, "jsonl"))
            stack.callback(writer.close)
            writers[cell.entry.key] = writer
        yield writers


def _count_finished(directory: RunDirectory, cell: PlannedCell, retry_before: float) -> int:
    """How many attempts need not be run; see `run_model` for `retry_before`."""
    if not retry_before:
        return directory.count(cell.entry)
    return len(directory.finished(cell.entry, retry_before))


def owed_jobs(
    directory: RunDirectory,
    cell: PlannedCell,
    model: PlannedModel,
    engine: Engine,
    retry_before: float = 0.0,
) -> list[Job]:
    """The attempts of a cell that have no record yet, or one that is to be superseded.

    Raises:
        UserError: a record that is there was made of another sample than there is now.
    """

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str:
        return engine.render(messages, add_generation_prompt=add_generation_prompt)

    finished = directory.finished(cell.entry, retry_before)
    samples = cell.suite.samples(model.called, render if cell.suite.needs.chat_template else None)
    built = {sample.id: sample.content_hash for sample in samples}
    kept = directory.contents(cell.entry) if finished else {}
    others = [sample for (sample, _), content in kept.items() if built.get(sample, content) != content]
    if others:
        raise UserError(
            f"{len(others)} of the attempts in {directory.path} were made of samples that are built "
            f"otherwise now, {others[0]} for one: restore the data, template and day that it was begun with, "
            "or give another --out"
        )
    return [
        Job(cell, sample, attempt)
        for attempt in range(cell.entry.attempts)
        for sample in samples
        if (sample.id, attempt) not in finished
    ]


def order(jobs: Sequence[Job]) -> list[Job]:
    """Jobs of all cells spread evenly, so that every suite is in flight from the first to the last.

    Documents that begin with the same solved examples are of one cell: they keep their order and come
    some time after one another, so that the second finds the examples of the first in the prefix cache.
    """
    totals: dict[str, int] = {}
    positions = []
    for job in jobs:
        position = totals.get(job.cell.entry.key, 0)
        totals[job.cell.entry.key] = position + 1
        positions.append(position)
    keyed = sorted(range(len(jobs)), key=lambda i: ((positions[i] + 0.5) / totals[jobs[i].cell.entry.key], i))
    return [jobs[i] for i in keyed]


@dataclass
class EngineRun:
    """What one engine has been asked, and what came of it."""

    engine: Engine
    clock: BusyClock
    sampling: Sampling
    writers: dict[str, RecordWriter]
    """Key of a cell -> where its records go."""
    progress: Progress
    scorers: Scorers | None = None
    in_flight: dict[Attempt, Job] = field(default_factory=dict)
    """Asked and not answered."""
    finished: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    """Suite -> why no attempt of it can be made, as one of them found."""

    async def attempt(self, job: Job) -> None:
        """Make one attempt and keep what came of it."""
        suite = job.cell.suite
        if suite.name in self.refused:
            return
        self.in_flight[job.key] = job
        try:
            engine = MeteredEngine(self.engine, self.clock)
            record = await run_attempt(job, engine, self.sampling, self.scorers)
            record = append(self.writers[job.cell.entry.key], record)
        except DiskError:
            raise
        except UserError as error:
            self.refused[suite.name] = str(error)
            del self.in_flight[job.key]
            return
        del self.in_flight[job.key]
        self.finished += 1
        self.progress.finished(suite.name, record)


class _Died(Exception):
    """An engine died, with what it left unanswered."""

    def __init__(self, reason: str, in_flight: Sequence[Job], finished: int) -> None:
        super().__init__(reason)
        self.in_flight, self.finished = in_flight, finished


async def run_jobs(jobs: Sequence[Job], run: EngineRun, max_concurrency: int) -> None:
    """Run attempts, at most `max_concurrency` at once, appending each as it finishes.

    Raises:
        _Died: the engine died; what was in flight is not recorded.
        ServerGone: a server that others run is gone; what was in flight is not recorded.
        DiskError: what was to be kept could not be.
    """
    queue = iter(jobs)

    async def worker() -> None:
        for job in queue:
            await run.attempt(job)

    done = asyncio.Event()

    async def sync() -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), SYNC_SECONDS)
            for writer in run.writers.values():  # in a thread: a slow disk would hold up every attempt
                await asyncio.to_thread(writer.sync)

    try:
        with rare_collections():
            async with asyncio.TaskGroup() as both:  # what one raises ends the other
                both.create_task(sync())
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(max_concurrency, len(jobs))):
                        group.create_task(worker())
                done.set()
    except* ServerGone as errors:  # nobody here can start it again
        raise ServerGone(str(_first(errors))) from errors
    except* EngineDead as errors:
        raise _Died(str(_first(errors)), list(run.in_flight.values()), run.finished) from errors
    except* UserError as errors:
        raise type(_first(errors))(str(_first(errors))) from errors


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python's garbage collector begin every `COLLECT_AFTER` objects, and no more often."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _first(errors: BaseException) -> BaseException:
    """The first error in a group of groups."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors


async def run_attempt(
    job: Job, engine: MeteredEngine, sampling: Sampling, scorers: Scorers | None = None
) -> Record:
    """Put one sample to the model and score it. A failure is recorded, never raised."""
    suite, sample = job.cell.suite, job.sample
    sampling = msgspec.structs.replace(sampling, seed=attempt_seed(sampling, sample.id, job.attempt))
    started, clock = time.time(), time.perf_counter()
    transcript: Transcript | None = None
    scores: tuple[Score, ...] = ()
    failure: AttemptFailure | None = None
    try:
        transcript = await suite.run(sample, engine, sampling)
        scores = await (scorers or Scorers(())).score(suite, sample, transcript)
        _check_scores(scores)
    except Exception as error:
        scoring = transcript is not None
        failure = classify(error, FailureKind.SCORER_ERROR if scoring else FailureKind.ENGINE_ERROR)
        scores = ()
    transcript = transcript or engine.transcript
    if failure:
        scores, failure = _book(suite, sample, transcript, failure)
    return _record(job, transcript, scores, failure, engine.usage, started, time.perf_counter() - clock)


def _record(
    job: Job,
    transcript: Transcript,
    scores: tuple[Score, ...],
    failure: AttemptFailure | None,
    usage: Usage,
    started: float,
    seconds: float,
) -> Record:
    return Record(
        cell=job.cell.entry.key,
        sample=job.sample.id,
        attempt=job.attempt,
        content_hash=job.sample.content_hash,
        clusters=job.sample.clusters,
        labels=job.sample.labels,
        transcript=transcript,
        scores=scores,
        usage=usage,
        started=started,
        seconds=seconds,
        failure=failure.kind if failure else None,
        failure_message=failure.message if failure else None,
        truncated=any(reply.finish_reason == "length" for reply in transcript.generations),
        lost_tokens=max((scored.lost_tokens for scored in transcript.loglikelihoods), default=0),
    )


def append(writer: RecordWriter, record: Record) -> Record:
    """Keep what an attempt gave; returns what was kept: its failure, where the rest could not be read again.

    Raises:
        UserError: not even that can be kept, since the suite's own sample is not what a record holds.
        DiskError: the disk does not take it.
    """
    replace = msgspec.structs.replace
    kept = record
    for failure, left in (
        (FailureKind.SCORER_ERROR, record.transcript),
        (FailureKind.ENGINE_ERROR, Transcript()),
    ):
        try:
            writer.append(kept)
            return kept
        except Unwritable as error:
            why = f"what came of it cannot be kept: {error}"
            kept = replace(record, failure=failure, failure_message=why, scores=(), transcript=left)
    kept = replace(kept, usage=Usage(engine_seconds=record.usage.engine_seconds))
    try:
        writer.append(kept)
    except Unwritable as error:
        raise UserError(
            f"sample {record.sample!r} cannot be recorded ({error}): correct its suite"
        ) from error
    return kept


def _book(
    suite: Suite, sample: Sample, transcript: Transcript, failure: AttemptFailure
) -> tuple[tuple[Score, ...], AttemptFailure]:
    """(scores of a failed attempt, its failure, which says so if there should have been scores)."""
    try:
        return suite.score_failed(sample, transcript, failure.kind), failure
    except Exception as error:
        also = classify(error, failure.kind).message
        return (), AttemptFailure(failure.kind, f"{failure.message}; it could not be booked either: {also}")


def _check_scores(scores: Sequence[Score]) -> None:
    """Raises ValueError at two scores of one metric, since nobody can say which of them counts, and at one
    that is not a number, which JSON cannot hold.
    """
    for score in scores:
        if score.value is not None and not math.isfinite(score.value):
            raise ValueError(f"the suite gave {score.metric} the value {score.value}, which is not a number")
    metrics = [score.metric for score in scores]
    if len(set(metrics)) < len(metrics):
        raise ValueError(f"the suite gave two scores of one metric: {', '.join(sorted(metrics))}")
