"""One attempt after the other: what an engine is asked, and the record of what came of it.

A failure is recorded, never raised. What ends an engine or a run is raised, and recorded nowhere.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from harness.engines.base import Engine
from harness.engines.metered import BusyClock, MeteredEngine
from harness.errors import AttemptFailure, DiskError, UserError, classify
from harness.records.append import RecordWriter, Unwritable
from harness.run.plan import PlannedCell
from harness.suites.base import Suite
from harness.suites.scoring_processes import Scorers
from harness.types import FailureKind, Record, Sample, Sampling, Score, Transcript, Usage

AttemptKey = tuple[str, str, int]
"""(key of the cell, sample, number)."""


class Progress(Protocol):
    """What a run tells whoever watches it. Several models may have their turn at once."""

    def begun(self, model: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """A model's turn has come. totals and done: suite -> attempts."""
        ...

    def loaded(self, model: str, engine: Engine | None) -> None:
        """The model is loaded; None where its engine is in another process."""
        ...

    def finished(self, model: str, suite: str, record: Record) -> None:
        """An attempt was appended."""
        ...

    def ended(self, model: str) -> None:
        """The model's turn is over."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


@dataclass(frozen=True)
class Attempt:
    """One attempt at a sample, which is owed."""

    cell: PlannedCell
    sample: Sample
    number: int
    """Which attempt at the sample, from 0."""

    @property
    def key(self) -> AttemptKey:
        """What tells it from every other attempt of the run."""
        return self.cell.entry.key, self.sample.id, self.number


def order(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Attempts of all cells spread evenly, so that every suite is in flight from the first to the last.

    Documents that begin with the same solved examples are of one cell: they keep their order and come
    some time after one another, so that the second finds the examples of the first in the prefix cache.
    """
    totals: dict[str, int] = {}
    positions = []
    for attempt in attempts:
        cell = attempt.cell.entry.key
        positions.append(totals.get(cell, 0))
        totals[cell] = positions[-1] + 1
    shares = [
        (position + 0.5) / totals[attempt.cell.entry.key]
        for attempt, position in zip(attempts, positions, strict=True)
    ]
    return [attempts[i] for i in sorted(range(len(attempts)), key=lambda i: (shares[i], i))]


def attempt_seed(sampling: Sampling, sample: str, attempt: int) -> int:
    """The seed of one attempt: its own, whatever else runs and in whatever order. 31 bits."""
    text = f"{sampling.seed}/{sample}/{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


@dataclass
class Asked:
    """What one engine was asked, and what came of it."""

    engines: Mapping[str, Engine]
    """Model -> the engine that is asked of it; variants of one model share what is loaded."""
    clock: BusyClock
    sampling: Mapping[str, Sampling]
    """Model -> how its replies are drawn where a suite does not say otherwise."""
    progress: Progress
    scorers: Scorers
    writers: Mapping[str, RecordWriter] = field(default_factory=dict)
    """Key of a cell -> where its records go."""
    in_flight: dict[AttemptKey, Attempt] = field(default_factory=dict)
    """Asked and not answered."""
    finished: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    """Key of a cell -> why no attempt of it can be made, as one of them found."""
    slots: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)
    """One for each attempt that may be in flight."""

    def release(self, _: object) -> None:
        """An attempt has ended, and another may begin."""
        self.slots.release()

    async def attempt(self, attempt: Attempt) -> None:
        """Put one sample to the model, score what it wrote, and keep the record.

        Raises:
            EngineDead: no request is answered any more; nothing is recorded.
            DiskError: the disk does not take the record.
        """
        suite, sample, cell = attempt.cell.suite, attempt.sample, attempt.cell.entry
        if cell.key in self.refused:
            return
        self.in_flight[attempt.key] = attempt
        engine = MeteredEngine(self.engines[cell.model], self.clock)
        sampling = self.sampling[cell.model]
        sampling = msgspec.structs.replace(sampling, seed=attempt_seed(sampling, sample.id, attempt.number))
        started, clock = time.time(), time.perf_counter()
        transcript: Transcript | None = None
        scores: tuple[Score, ...] = ()
        warnings: tuple[str, ...] = ()
        failure: AttemptFailure | None = None
        try:
            try:
                transcript = await suite.run(sample, engine, sampling)
                scores, warnings = await self.scorers.score(suite, sample, transcript)
                _check_scores(scores)
            except Exception as error:
                unscored = transcript is not None
                failure = classify(error, FailureKind.SCORER_ERROR if unscored else FailureKind.ENGINE_ERROR)
                transcript = transcript or engine.transcript
                scores, failure = _book(suite, sample, transcript, failure)
            seconds = time.perf_counter() - clock
            record = new_record(attempt, transcript, scores, failure, engine.usage, started, seconds)
            record = msgspec.structs.replace(record, warnings=warnings)
            record = append(self.writers[cell.key], record)
        except DiskError:
            raise
        except UserError as error:
            self.refused[cell.key] = str(error)
            del self.in_flight[attempt.key]
            return
        del self.in_flight[attempt.key]
        self.finished += 1
        self.progress.finished(cell.model, suite.name, record)


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


def _book(
    suite: Suite, sample: Sample, transcript: Transcript, failure: AttemptFailure
) -> tuple[tuple[Score, ...], AttemptFailure]:
    """(scores of a failed attempt, its failure, which says so if there should have been scores)."""
    try:
        return suite.score_failed(sample, transcript, failure.kind), failure
    except Exception as error:
        also = classify(error, failure.kind).message
        return (), AttemptFailure(failure.kind, f"{failure.message}; it could not be recorded either: {also}")


def new_record(
    attempt: Attempt,
    transcript: Transcript,
    scores: tuple[Score, ...],
    failure: AttemptFailure | None,
    usage: Usage,
    started: float,
    seconds: float,
) -> Record:
    """The record of an attempt. started: Unix time; seconds: on the wall clock."""
    return Record(
        cell=attempt.cell.entry.key,
        sample=attempt.sample.id,
        attempt=attempt.number,
        content_hash=attempt.sample.content_hash,
        clusters=attempt.sample.clusters,
        labels=attempt.sample.labels,
        transcript=transcript,
        scores=scores,
        usage=usage,
        started=started,
        seconds=seconds,
        failure=failure.kind if failure else None,
        failure_message=failure.message if failure else None,
        truncated=any(reply.finish_reason == "length" for reply in transcript.generations),
        thoughts_cut=sum(reply.thought_cut for reply in transcript.generations),
        thoughts_ended=sum(reply.thought_ended for reply in transcript.generations),
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
