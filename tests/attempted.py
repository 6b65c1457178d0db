"""One attempt at one sample, and the record of it, without a run directory."""

from typing import Any, cast

from harness.engines.base import Engine
from harness.engines.metered import BusyClock
from harness.records.append import RecordWriter
from harness.run.attempts import Asked, Attempt
from harness.run.plan import PlannedCell
from harness.suites.base import Suite
from harness.suites.scoring_processes import Scorers
from harness.types import CellEntry, Record, Sample, Sampling


class Unwatched:
    """Satisfies `Progress`, and tells nobody."""

    def begun(self, *_: Any) -> None: ...

    def loaded(self, *_: Any) -> None: ...

    def finished(self, *_: Any) -> None: ...

    def ended(self, *_: Any) -> None: ...

    def note(self, *_: Any) -> None: ...


class Kept:
    """Keeps records in memory, where a `RecordWriter` appends them to a file."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        self.records.append(record)


async def attempted(
    cell: CellEntry, suite: Suite, sample: Sample, engine: Engine, sampling: Sampling, number: int = 0
) -> Record:
    """The record of an attempt."""
    kept = Kept()
    writers = {cell.key: cast(RecordWriter, kept)}
    asked = Asked(
        {cell.model: engine}, BusyClock(), {cell.model: sampling}, Unwatched(), Scorers(()), writers
    )
    await asked.attempt(Attempt(PlannedCell(cell, suite), sample, number))
    (record,) = kept.records
    return record
