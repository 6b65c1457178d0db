"""Scoring records again from their transcripts, without a model, and whether they say what comes out."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from harness.errors import AttemptFailure, classify
from harness.suites import scoring
from harness.suites.base import Suite
from harness.types import CellEntry, FailureKind, Record, Sample, Score, Struct

Values = dict[str, Any]
"""Metric -> value; None where there is none."""

RUNS_PROGRAMS = "programs that the model wrote are run only with --run-programs, in a sandbox"
"""Why the records of some suites are not scored again."""


class Rescored(Struct):
    """A record, scored again."""

    record: Record
    stored: Values
    replayed: Values
    reason: str | None
    """Why the two are not the same, None if they are."""


def rescore(
    suite: Suite, samples: Mapping[str, Sample], cell: CellEntry, records: Iterable[Record]
) -> Iterator[Rescored]:
    """The records of one cell, each scored again. What its suite has come to measure since is left out."""
    measured = {metric.name for metric in cell.metrics}
    for record in records:
        sample = samples.get(record.sample)
        stored = values(record.scores)
        replayed, why = score_again(suite, sample, record)
        replayed = {name: value for name, value in replayed.items() if name in measured}
        same = all(stored.get(name) == replayed.get(name) for name in {*stored, *replayed})
        if not same:
            why = why or "; ".join(_changes(suite, sample, cell, record)) or "the record was changed"
        yield Rescored(record=record, stored=stored, replayed=replayed, reason=None if same else why)


def score_again(suite: Suite, sample: Sample | None, record: Record) -> tuple[Values, str | None]:
    """(scores, why there are none). What failed before it was scored is booked, if it is, and not scored."""
    if sample is None:
        return {}, "the suite has no such sample any more"
    try:
        if record.failure in (None, FailureKind.SCORER_ERROR):
            return values(scoring.score(suite, sample, record.transcript).scores), None
        return values(suite.score_failed(sample, record.transcript, record.failure)), None
    except Exception as error:  # a transcript may hold anything
        failure: AttemptFailure = classify(error, FailureKind.SCORER_ERROR)
        return {}, failure.message


def values(scores: Iterable[Score]) -> Values:
    """Metric -> value, or the operands of a corpus metric, as they are kept on disk."""
    by_metric = {s.metric: s.value if s.operands is None else s.operands for s in scores}
    kept: Values = msgspec.json.decode(msgspec.json.encode(by_metric))
    return kept


def changed_protocol(suite: Suite, cell: CellEntry) -> list[str]:
    """The fields in which a suite, as it is made now, is not the one that was run."""
    return [key for key, value in suite.protocol.items() if cell.protocol.get(key) != value]


def _changes(suite: Suite, sample: Sample | None, cell: CellEntry, record: Record) -> Iterator[str]:
    """What is not as it was when the record was made."""
    if record.failure is not None:
        yield f"the scorer had failed ({record.failure_message})"
    if sample is not None and sample.content_hash != record.content_hash:
        yield "the sample is another one now"
    if fields := changed_protocol(suite, cell):
        yield f"these have changed: {', '.join(fields)}"


def misfits(suite: Suite, samples: Mapping[str, Sample], cell: CellEntry, *, as_run: bool) -> Iterator[str]:
    """What the manifest says of a cell and its suite, made anew, does not.

    Args:
        suite: as it is made now.
        samples: of the suite, by id.
        cell: of the manifest.
        as_run: whether the suite is made as it was when it was run: later versions may describe metrics anew.
    """
    if cell.samples != len(samples):
        yield f"the manifest says {cell.samples} samples, the suite has {len(samples)}"
    known = {metric.name: metric for metric in suite.metrics}
    for metric in cell.metrics if as_run else ():
        if metric.name in known and metric != known[metric.name]:
            now, was = msgspec.structs.asdict(known[metric.name]), msgspec.structs.asdict(metric)
            fields = ", ".join(name for name in now if now[name] != was[name])
            yield f"the manifest's metric {metric.name} is not the suite's ({fields})"
    if as_run and cell.declared not in (None, suite.declared):
        yield "what the manifest says to follow from the suite's metrics is not what the suite says"


def misfit(sample: Sample, record: Record, *, as_run: bool, as_shown: bool) -> str | None:
    """What a record says that its sample and its own transcript do not, None if nothing.

    Args:
        sample: as it is made now.
        record: of an attempt at it.
        as_run: whether its suite is made as it was when it was run: later versions may label samples anew.
        as_shown: whether the sample also holds what the model was shown then.
    """
    replies = record.transcript.generations
    if record.clusters != sample.clusters:
        return "its clusters are not those of its sample"
    if as_run and record.labels != sample.labels:
        return "its labels are not those of its sample"
    if as_shown and record.content_hash != sample.content_hash:
        return "its content hash is not that of its sample"
    if replies and record.truncated != any(reply.finish_reason == "length" for reply in replies):
        return f"truncated is {record.truncated}, and its replies say otherwise"
    if record.failure in (FailureKind.ENGINE_ERROR, FailureKind.CONTEXT_OVERFLOW) and _is_whole(record):
        return f"it is said to have failed ({record.failure}), and its conversation ends with an answer"
    return None


def _is_whole(record: Record) -> bool:
    """Whether a conversation ends with an answer of the model's own."""
    messages, replies = record.transcript.messages, record.transcript.generations
    if not messages or not replies or messages[-1].role != "assistant" or messages[-1].tool_calls:
        return False
    return bool(messages[-1].content.strip()) and replies[-1].text == messages[-1].content
