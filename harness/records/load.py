"""The records of one cell: keys alone, one sample alone, tables, or one record after the other.

Several processes may have written to it, and one attempt may be there twice: `rank` says which counts,
whoever reads and in whatever order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.records.layout import CellPaths
from harness.records.lines import Key, Lines, Moved
from harness.records.table import (
    GROUP_ROWS,
    bare_row,
    in_order,
    read_columns,
    read_parquet,
    read_sample,
    read_table,
    read_tables,
    table_of,
)
from harness.records.verdicts import Verdicts, is_judged, judged_rows, with_verdicts
from harness.types import CellEntry, FailureKind, Record, Score, Struct, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

RETRIED = (FailureKind.ENGINE_ERROR, FailureKind.SCORER_ERROR)
"""Failures that `--retry-failures` owes again: of the surroundings, not of the model."""

Name = tuple[str, int]
"""(sample, attempt)."""


class Outcome(Struct):
    """What came of an attempt: a record without what was said."""

    sample: str
    attempt: int
    failure: FailureKind | None
    failure_message: str | None
    scores: tuple[Score, ...]


def rank(key: Key, writer: str, offset: int) -> tuple[bool, float, str, int]:
    """Of two records of one attempt the one with the higher rank counts.

    A failure of the surroundings gives way to whatever is none; else the attempt that began later counts.
    """
    return key.failure not in RETRIED, key.started, writer, offset


class CellRecords:
    """The finished attempts of a cell, as they are on disk."""

    def __init__(self, cell: CellEntry, paths: CellPaths) -> None:
        self.cell, self.paths = cell, paths
        self._lines: dict[Path, Lines] = {}
        self._kinds: tuple[tuple[int, int, int] | None, Counter[str | None]] = None, Counter()
        """(state of the complete file, see `kinds`), as it was read last."""

    @property
    def complete(self) -> bool:
        """Whether all records are in one file, which alone counts."""
        return self.paths.complete.exists()

    def _appended(self) -> list[Lines]:
        return [
            self._lines.setdefault(path, Lines(path, checked=self.paths.checked))
            for path in self.paths.appended()
        ]

    def _running(self) -> dict[Name, tuple[Lines, int, Key]] | None:
        """(file, place, key) of the records that count while the cell is run; None if it is complete."""
        if self.complete:
            return None
        best: dict[Name, tuple[Lines, int, Key]] = {}
        for lines in self._appended():
            for offset, key in lines.places():
                name, writer = (key.sample, key.attempt), lines.path.name
                if (had := best.get(name)) is None or rank(key, writer, offset) > rank(
                    had[2], had[0].path.name, had[1]
                ):
                    best[name] = (lines, offset, key)
        return None if self.complete else best  # compacted meanwhile, files may be gone

    def damaged(self) -> dict[Path, list[int]]:
        """Files -> the numbers of lines that do not have their checksum, of which none counts."""
        return {} if self.complete else {x.path: x.damaged() for x in self._appended() if x.damaged()}

    def each_record(self) -> Iterator[Record]:
        """The records in the order of sample and attempt, some megabytes at a time.

        Raises:
            UserError: a file is damaged or of another schema version.
        """
        last: Name | None = None
        if (running := self._running()) is not None:
            try:
                for record in _each(running):
                    yield record
                    last = (record.sample, record.attempt)
                return
            except Moved:
                if not self.complete:
                    raise
        if last is None:
            yield from self._completed()
            return
        for record in self._completed():
            if (record.sample, record.attempt) > last:
                yield record

    def _completed(self) -> Iterator[Record]:
        complete = self.paths.complete
        if in_order(complete):
            yield from read_parquet(complete)
        else:
            records = {(r.sample, r.attempt): r for r in read_parquet(complete)}
            yield from (records[name] for name in sorted(records))

    def each_table(self) -> Iterator["pa.Table"]:
        """The same as tables of `record_schema` without transcripts, some thousand attempts at a time."""
        votes = self._votes()
        if self.complete and in_order(self.paths.complete):
            yield from (self._judged(table, votes) for table in read_tables(self.paths.complete))
            return
        bare = self._bare()
        while rows := list(islice(bare, GROUP_ROWS)):
            yield self._judged(table_of(rows).drop_columns("transcript"), votes)

    def each_judged(self) -> Iterator[Record]:
        """As `each_record`, with the scores that judges gave since."""
        if not (votes := self._votes()):
            yield from self.each_record()
            return
        for record in self.each_record():
            yield self._with_verdicts(record, votes)

    def _votes(self) -> dict[Name, list[Verdict]] | None:
        return Verdicts(self.paths.verdicts).votes() if is_judged(self.cell.metrics) else None

    def _with_verdicts(self, record: Record, votes: dict[Name, list[Verdict]] | None) -> Record:
        verdicts = (votes or {}).get((record.sample, record.attempt))
        if not verdicts:
            return record
        return msgspec.structs.replace(record, scores=with_verdicts(self.cell, record.scores, verdicts))

    def _judged(self, table: "pa.Table", votes: dict[Name, list[Verdict]] | None) -> "pa.Table":
        """A table with the scores that judges gave since."""
        if not votes:
            return table
        import pyarrow as pa

        place = table.schema.get_field_index("scores")
        names = zip(table["sample"].to_pylist(), table["attempt"].to_pylist(), strict=True)
        scores = [
            judged_rows(self.cell, row, votes.get(name, []))
            for name, row in zip(names, table["scores"].to_pylist(), strict=True)
        ]
        kind = table.schema.field(place).type
        return table.set_column(place, "scores", pa.chunked_array([pa.array(scores, kind)]))

    def _bare(self) -> Iterator[dict[str, Any]]:
        return (bare_row(self.cell, record) for record in self.each_record())

    def columns(self) -> "pa.Table":
        """The records in no order, as `record_schema` without what no statistic needs.

        Raises:
            UserError: as `each_record`.
        """
        table = read_columns(self.paths.complete) if self.complete else table_of([*self._bare()])
        return self._judged(table, self._votes())

    def count(self) -> int:
        """How many attempts are finished."""
        return self.kinds().total()

    def kinds(self) -> Counter[str | None]:
        """Kind of failure, None for what was measured -> finished attempts, of which nothing else is read."""
        if (running := self._running()) is not None:
            return Counter(key.failure for _, _, key in running.values())
        about = self.paths.complete.stat()
        state = about.st_ino, about.st_size, about.st_mtime_ns
        if self._kinds[0] != state:
            table = read_table(self.paths.complete, ["failure"])
            kinds = table["failure"].to_pylist() if table.num_columns else [None] * table.num_rows
            self._kinds = state, Counter(kinds)
        return self._kinds[1].copy()

    def _keys(self) -> Iterable[Key]:
        if (running := self._running()) is not None:
            return (key for _, _, key in running.values())
        table = read_table(self.paths.complete, ["sample", "attempt", "content_hash", "failure", "started"])
        last = {(row["sample"], row["attempt"]): Key(**row) for row in table.to_pylist()}
        return last.values()

    def finished(self, retry_before: float = 0.0) -> dict[Name, str]:
        """(sample, attempt) -> content hash, of the finished attempts, of which nothing else is read.

        Args:
            retry_before: Unix time; one of `RETRIED` from before it is left out.
        """
        return {
            (key.sample, key.attempt): key.content_hash
            for key in self._keys()
            if key.failure not in RETRIED or key.started >= retry_before
        }

    def attempts_at(self, sample: str) -> list[Record]:
        """The attempts at one sample, without reading the transcripts of others."""
        running, votes = self._running(), self._votes()
        if running is None:
            records = sorted(read_sample(self.paths.complete, sample), key=lambda record: record.attempt)
        else:
            records = list(_each({name: place for name, place in running.items() if name[0] == sample}))
        return [self._with_verdicts(record, votes) for record in records]

    def samples(self) -> set[str]:
        """The samples that have a finished attempt."""
        if (running := self._running()) is not None:
            return {sample for sample, _ in running}
        return set(read_table(self.paths.complete, ["sample"])["sample"].unique().to_pylist())

    def outcomes(self) -> Iterator[Outcome]:
        """What came of the attempts, in the order of sample and attempt.

        Raises:
            UserError: as `each_record`.
        """
        fields = Outcome.__struct_fields__
        if not self.complete or is_judged(self.cell.metrics):
            yield from (Outcome(**{f: getattr(r, f) for f in fields}) for r in self.each_judged())
            return
        rows = read_table(self.paths.complete, list(fields)).to_pylist()
        for row in sorted(rows, key=lambda row: (row["sample"], row["attempt"])):
            scores = tuple(Score(**{**score, "operands": None}) for score in row.pop("scores"))
            yield msgspec.convert({**row, "scores": scores}, Outcome)


def _each(running: dict[Name, tuple[Lines, int, Key]]) -> Iterator[Record]:
    """The records at some places in the order of their names, from all files at once."""
    by_file: dict[Path, tuple[Lines, list[int]]] = {}
    for name in sorted(running):
        lines, offset, _ = running[name]
        by_file.setdefault(lines.path, (lines, []))[1].append(offset)
    each = (lines.records(offsets) for lines, offsets in by_file.values())
    return merge(*each, key=lambda record: (record.sample, record.attempt))
