"""The second pass: replies that wait for a judge, of all models and all runs, with one load of its model."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.errors import UserError
from harness.judges.base import Exchange, judge_all, open_judge
from harness.judges.calibration import read_calibration
from harness.judges.spec import JudgeSpec
from harness.models import checkpoint
from harness.records.directory import RunDirectory
from harness.records.verdicts import Verdicts, is_judged
from harness.types import CellEntry, EngineFacts, JudgedAttempt, JudgeEntry, Metric, Verdict


@dataclass(frozen=True)
class Owed:
    """A reply that a judge has not read."""

    folder: Path
    """Of the cell's verdicts."""
    sample: str
    attempt: int
    content_hash: str
    exchange: Exchange


@dataclass
class Judged:
    """What a pass came to."""

    cells: int = 0
    before: int = 0
    """Replies that this judge had read before."""
    read: int = 0
    missing: int = 0
    """Of those read now: without a verdict."""


def owed(directory: RunDirectory, cell: CellEntry, judge: str) -> Iterator[Owed]:
    """The replies of a cell that a judge has given no verdict on; failures of before are asked again."""
    by_attempt = directory.verdicts(cell).of(judge)
    judged = {metric.name for metric in cell.metrics if metric.judged}
    for table in directory.each_table(cell):
        for row in table.select(["sample", "attempt", "content_hash", "failure", "scores"]).to_pylist():
            kept = by_attempt.get((row["sample"], row["attempt"]))
            operands = next(
                (s["operands"] for s in row["scores"] if s["metric"] in judged and s["operands"]), None
            )
            if row["failure"] is not None or operands is None:
                continue
            request, reply, *context = msgspec.json.decode(operands, type=list[str])
            waiting = Owed(
                directory.layout.cell(cell).verdicts,
                row["sample"],
                row["attempt"],
                row["content_hash"],
                Exchange(request=request, reply=reply, context="".join(context)),
            )
            if kept is None or kept.verdict.verdict is None or kept.judged != waiting.exchange.digest:
                yield waiting


def not_told(spec: JudgeSpec, metrics: Sequence[Metric]) -> str:
    """Why verdicts of a judge say nothing about some metrics, empty if they do.

    A metric counts some classes. If the judge knows none of them, its rate would be 0 whatever was replied.
    """
    for metric in metrics:
        if metric.judged and not {*metric.judged} & {*spec.classes}:
            return (
                f"the judge {spec.name} calls replies {', '.join(spec.classes)}, and {metric.name} counts "
                f"{', '.join(metric.judged)}: ask a judge of that, or add its classes to the metric"
            )
    return ""


async def judge_runs(
    directories: Sequence[RunDirectory],
    spec: JudgeSpec,
    note: Callable[[str], None],
    suites: Collection[str] | None = None,
) -> Judged:
    """Have a judge read what waits in some runs. What it said is kept at once, so that a pass can be resumed.

    Args:
        directories: the runs.
        spec: the judge.
        note: told what is done.
        suites: of which; of all that leave their replies to a judge if not given.

    Raises:
        UserError: no suite of these runs asks for a judge, or for one of what this one tells; another judge
            of this name was asked before; the judge's model cannot be loaded.
        EngineDead: its engine died; the same command goes on.
        DiskError: a verdict could not be kept.
    """
    judged = [
        (d, cell)
        for d in directories
        for cell in d.whole_manifest().cells.values()
        if is_judged(cell.metrics) and (suites is None or cell.suite in suites)
    ]
    reasons = [not_told(spec, cell.metrics) for _, cell in judged]
    cells = [one for one, reason in zip(judged, reasons, strict=True) if not reason]
    why = {cell.suite: reason for (_, cell), reason in zip(judged, reasons, strict=True) if reason}
    for suite, reason in why.items():
        if cells:
            note(f"{suite} is not read: {reason}")
    if judged and not cells:
        raise UserError("; ".join(f"{suite}: {reason}" for suite, reason in why.items()))
    if not cells:
        raise UserError(
            f"no suite of {', '.join(str(d.path) for d in directories)} has a metric that a judge scores"
        )
    waiting = [one for d, cell in cells for one in owed(d, cell, spec.name)]
    total = sum(d.count(cell) for d, cell in cells)
    done = Judged(cells=len(cells), before=total - len(waiting))
    note(
        f"{spec.name}: {len(waiting)} replies to read; {done.before} attempts have none, or were read before"
    )
    if not waiting:
        return done
    try:
        async with open_judge(spec) as judge:
            entry = judge_entry(spec, judge.engine.facts if judge.engine else None)
            with ExitStack() as stack:
                writers = {}
                for folder in sorted({one.folder for one in waiting}):
                    writers[folder] = Verdicts(folder).writer(entry)
                    stack.callback(writers[folder].close)

                def keep(i: int, verdict: Verdict, started: float) -> None:
                    one = waiting[i]
                    writers[one.folder].append(
                        JudgedAttempt(
                            sample=one.sample,
                            attempt=one.attempt,
                            content_hash=one.content_hash,
                            verdict=verdict,
                            judged=one.exchange.digest,
                            started=started,
                        )
                    )
                    done.read += 1
                    done.missing += verdict.verdict is None

                await judge_all(judge, [one.exchange for one in waiting], keep)
    finally:
        for directory in directories:
            directory.seal_verdicts(cell for d, cell in cells if d is directory)
    return done


def judge_entry(spec: JudgeSpec, facts: EngineFacts | None) -> JudgeEntry:
    """What is kept of a judge with its verdicts. Raises UserError for a calibration of another judge."""
    measured = read_calibration(spec)
    return JudgeEntry(
        name=spec.name,
        asks=spec.asks,
        classes=spec.classes,
        digest=spec_digest(spec),
        origin=spec.model.origin if spec.model else None,
        repository=spec.model.repository if spec.model else None,
        engine=facts,
        calibration=measured.tables if measured else None,
        calibrated_on=measured.labels if measured else None,
    )


def spec_digest(spec: JudgeSpec) -> str:
    """Digest of everything that could change a verdict."""
    parts = {
        name: getattr(spec, name)
        for name in ("classes", "verdicts", "otherwise", "prompt", "raw", "max_tokens")
    }
    if spec.prompt_with_context:
        parts["prompt_with_context"] = spec.prompt_with_context
    if spec.model:
        folder = checkpoint.find(spec.model)
        named = {"path": spec.model.path, "revision": spec.model.revision}
        parts["model"] = {"weights": checkpoint.inspect(folder).weights_hash} if folder else named
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
