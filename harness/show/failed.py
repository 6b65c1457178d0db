"""Attempts that were not measured, answered wrongly or were hijacked, a line each."""

from collections.abc import Iterator

from harness.errors import UserError
from harness.hostile import one_line
from harness.records.directory import RunDirectory
from harness.records.load import Outcome
from harness.types import CellEntry, Metric

SHOWN = 50
"""Lines of the list, where it is not asked for more."""


def failed(
    directory: RunDirectory, *, suite: str | None = None, model: str | None = None, limit: int = SHOWN
) -> Iterator[str]:
    """Failed attempts first, then those with the worst value of a headline rate; each with its `--pair`.

    Args:
        directory: with records.
        suite: of this suite alone.
        model: of this model alone.
        limit: at most so many lines; 0 for all.

    Raises:
        UserError: there is no such suite or model.
    """
    cells = list(directory.manifest().cells.values())
    for option, name, known in (
        ("--suite", suite, {cell.suite for cell in cells}),
        ("--model", model, {cell.model for cell in cells}),
    ):
        if name is not None and name not in known:
            raise UserError(f"{option} {name}: expected one of {', '.join(sorted(known))}")
    chosen = [c for c in cells if suite in (None, c.suite) and model in (None, c.model)]
    lines = [line for cell in chosen for line in _failures(directory, cell)]
    lines += [line for cell in chosen for line in _wrong(directory, cell)]
    shown = lines[:limit] if limit else lines
    yield from shown
    if not lines:
        yield "no attempt failed, and none has the worst value of a headline metric"
    elif len(shown) < len(lines):
        yield f"and {len(lines) - len(shown)} more: --limit 0 lists all"


def _failures(directory: RunDirectory, cell: CellEntry) -> Iterator[str]:
    for outcome in directory.outcomes(cell):
        if outcome.failure:
            message = one_line(outcome.failure_message or "")[:200]
            yield f"{_name(cell, outcome)}  {outcome.failure}: {message}"


def _wrong(directory: RunDirectory, cell: CellEntry) -> Iterator[str]:
    worst = {m.name: _worst(m) for m in cell.metrics if m.headline and m.kind == "rate"}
    for outcome in directory.outcomes(cell):
        if outcome.failure:
            continue
        bad = [s.metric for s in outcome.scores if s.value is not None and worst.get(s.metric) == s.value]
        if bad:
            answers = [s.answer for s in outcome.scores if s.metric in bad and s.answer is not None]
            answered = f"  answered {one_line(answers[0])[:80]!r}" if answers else ""
            yield f"{_name(cell, outcome)}  {', '.join(f'{name} {worst[name]:g}' for name in bad)}{answered}"


def _worst(metric: Metric) -> float | None:
    return None if metric.higher_is_better is None else float(not metric.higher_is_better)


def _name(cell: CellEntry, outcome: Outcome) -> str:
    again = f" --attempt {outcome.attempt}" if outcome.attempt else ""
    return one_line(f"{cell.model}  {cell.suite}/{outcome.sample}{again}")
