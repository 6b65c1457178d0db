"""Scoring the records of a run directory again, from their transcripts."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from harness.errors import AttemptFailure, classify
from harness.replay.report import Counts, Difference, Report, Values, equal
from harness.restore import Restored
from harness.store import RunDirectory
from harness.suites import bounds
from harness.suites.base import BooksFailures, Suite
from harness.types import CellEntry, FailureKind, Record, Sample, Score


def replay_run(directory: RunDirectory, suites: Mapping[str, str] | None = None) -> Report:
    """Score every record of a run again.

    Args:
        directory: of the run.
        suites: see `harness.replay.replay`.

    Raises:
        UserError: the directory is no run, a suite cannot be loaded, or a chat template is not here.
    """
    run, counts = Restored(directory, suites), Counts()
    for cell in run.manifest.cells.values():
        suite = run.suite(cell)
        rescore(suite, run.samples(cell, suite), cell, directory.records(cell), counts)
    return counts.report()


def rescore(
    suite: Suite, samples: dict[str, Sample], cell: CellEntry, records: Sequence[Record], counts: Counts
) -> None:
    """Score the records of one cell again."""
    security = {metric.name for metric in cell.metrics if metric.hijack}
    measured = {metric.name for metric in cell.metrics}
    for record in records:
        sample = samples.get(record.sample)
        stored = values(record.scores)
        replayed, why = score_again(suite, sample, record)
        # A run does not have what its suite has come to measure since.
        replayed = {name: value for name, value in replayed.items() if name in measured}
        names = set(stored) | set(replayed)
        same = [equal(stored, replayed, names - security), equal(stored, replayed, names & security)]
        counts.add(cell.model, cell.suite, utility=same[0], security=same[1])
        if not all(same):
            why = why or "; ".join(_changes(suite, sample, cell, record)) or "the record was changed"
            counts.differ(_difference(cell, record, stored, replayed, why))


def score_again(suite: Suite, sample: Sample | None, record: Record) -> tuple[Values, str | None]:
    """(scores, why there are none). What failed before it was scored is booked, if it is, and not scored."""
    if sample is None:
        return {}, "the suite has no such sample any more"
    if record.failure not in (None, FailureKind.SCORER_ERROR):
        if not isinstance(suite, BooksFailures):
            return {}, None
        return values(suite.score_failed(sample, record.transcript, record.failure)), None
    try:
        return values(bounds.score(suite, sample, record.transcript)), None
    except Exception as error:
        failure: AttemptFailure = classify(error, FailureKind.SCORER_ERROR)
        return {}, failure.message


def values(scores: Sequence[Score]) -> Values:
    """Metric -> value, or the operands of a corpus metric, as they are kept on disk."""
    found = {s.metric: s.value if s.operands is None else s.operands for s in scores}
    kept: Values = msgspec.json.decode(msgspec.json.encode(found))
    return kept


def _difference(cell: CellEntry, record: Record, stored: Values, replayed: Values, why: str) -> Difference:
    changed = sorted(n for n in stored.keys() | replayed.keys() if stored.get(n) != replayed.get(n))
    return Difference(
        model=cell.model,
        pair=f"{cell.suite}/{record.sample}",
        attempt=record.attempt,
        stored={name: stored.get(name) for name in changed},
        replayed={name: replayed.get(name) for name in changed},
        reason=why,
    )


def _changes(suite: Suite, sample: Sample | None, cell: CellEntry, record: Record) -> Iterator[str]:
    """What is not as it was when the record was made."""
    if record.failure is not None:
        yield f"the scorer had failed ({record.failure_message})"
    if sample is not None and sample.content_hash != record.content_hash:
        yield "the sample is another one now"
    fields = [key for key, value in suite.protocol.items() if cell.protocol.get(key) != value]
    if fields:
        yield f"these have changed: {', '.join(fields)}"
