"""What a replay found: how many scores came out as they were stored, and every one that did not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from harness.hostile import one_line
from harness.replay.rescore import Values
from harness.types import Struct

SHOWN = 40
"""Differences that a table lists."""


class Difference(Struct):
    """A run whose scores did not come out as they are stored."""

    model: str
    pair: str
    """`<suite>/<sample>`."""
    stored: Values
    replayed: Values
    reason: str
    attempt: int = 0
    source: str | None = None
    """File of an imported run."""


class Tally(Struct):
    """The runs of one model on one suite."""

    model: str
    suite: str
    runs: int
    utility_equal: int
    security_equal: int


class Report(Struct):
    """The outcome of a replay. An attempt without scores has nothing to differ, unless it has scores now."""

    runs: int
    utility_equal: int
    """Runs whose scores of usefulness are all equal."""
    security_equal: int
    """Runs whose scores of having been hijacked are all equal."""
    differences: tuple[Difference, ...]
    tallies: tuple[Tally, ...]
    judged: int
    """Runs of suites and tasks that there are."""
    left_out: tuple[str, ...] = ()
    """What was not scored again, and why."""


class Counts:
    """Collects a report, run by run."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._differences: list[Difference] = []
        self._left_out: list[str] = []

    def leave_out(self, sentence: str) -> None:
        """Say what is not scored again, and why."""
        self._left_out.append(sentence)

    def add(self, model: str, suite: str, *, utility: bool, security: bool) -> None:
        """Count a run. utility, security: whether these scores are equal."""
        counter = self._counts.setdefault((model, suite), Counter())
        counter.update(runs=1, utility=utility, security=security)

    def differ(self, difference: Difference) -> None:
        """Name a run that differs."""
        self._differences.append(difference)

    def report(self, unknown: int = 0) -> Report:
        """All of it. unknown: runs of suites or tasks that there are not."""
        tallies = tuple(
            Tally(model=m, suite=s, runs=n["runs"], utility_equal=n["utility"], security_equal=n["security"])
            for (m, s), n in sorted(self._counts.items())
        )
        return Report(
            runs=sum(t.runs for t in tallies),
            utility_equal=sum(t.utility_equal for t in tallies),
            security_equal=sum(t.security_equal for t in tallies),
            differences=tuple(self._differences),
            tallies=tallies,
            judged=sum(t.runs for t in tallies) - unknown,
            left_out=tuple(self._left_out),
        )


def equal(stored: Mapping[str, Any], replayed: Mapping[str, Any], names: set[str]) -> bool:
    """Whether two sets of values agree on the metrics named; a metric that is not there has no value."""
    return all(stored.get(name) == replayed.get(name) for name in names)


def render_json(report: Report) -> str:
    """The report as JSON; its tallies are for the table."""
    shown = (
        "runs",
        "utility_equal",
        "security_equal",
        *(["left_out"] if report.left_out else []),
        "differences",
    )
    fields = {name: getattr(report, name) for name in shown}
    return msgspec.json.format(msgspec.json.encode(fields)).decode() + "\n"


def render_table(report: Report) -> str:
    """The report for a person."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    rows = [(f"{t.model} {t.suite}", t.runs, t.utility_equal, t.security_equal) for t in report.tallies]
    rows.append(("all", report.runs, report.utility_equal, report.security_equal))
    width = max(len(one_line(name)) for name, *_ in rows)
    yield f"{'':<{width}}  {'runs':>7}  {'utility equal':>13}  {'security equal':>14}"
    for name, runs, utility, security in rows:
        yield f"{one_line(name):<{width}}  {runs:>7}  {utility:>13}  {security:>14}"
    yield from map(one_line, report.left_out)
    yield from _difference_lines(report.differences)


def _difference_lines(differences: Sequence[Difference]) -> Iterator[str]:
    for difference in differences[:SHOWN]:
        yield one_line(
            f"{difference.model} {difference.pair} (attempt {difference.attempt}): "
            f"{_values(difference.stored)} stored, {_values(difference.replayed)} replayed: "
            f"{difference.reason}"
        )
    if len(differences) > SHOWN:
        yield f"and {len(differences) - SHOWN} more: --format json lists all"


def _values(values: Values) -> str:
    return ", ".join(f"{name} {'none' if v is None else v}" for name, v in values.items()) or "no score"
