"""What judges said of the attempts of a cell, kept beside its records, a file a judge.

    CELL/verdicts/JUDGE.json    the judge: what it asks, its model, its measured errors
    CELL/verdicts/JUDGE.jsonl   one line an attempt, with its checksum; the last one of an attempt counts

A verdict is not written into the record that it is about: records stay as they were sealed, and another judge
may be asked years later.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.disk import check_regular
from harness.errors import UserError
from harness.hostile import without_surrogates
from harness.records.append import LineWriter
from harness.records.lines import add_checksum, check_line
from harness.records.sane import read_file
from harness.records.seal import write
from harness.types import CellEntry, JudgedAttempt, JudgeEntry, Metric, Score, Verdict

Key = tuple[str, int]
"""Sample and attempt."""


class Verdicts:
    """The verdicts on the attempts of one cell."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: of the cell's verdicts."""
        self._folder = folder

    def judges(self) -> dict[str, JudgeEntry]:
        """The judges that were asked, by name. Raises UserError for a file that is none of theirs."""
        return {path.stem: read_file(path, JudgeEntry) for path in sorted(self._folder.glob("*.json"))}

    def compared(self) -> tuple[JudgeEntry, ...]:
        """The judges, each with what those after it called the same replies."""
        judges = self.judges()
        if len(judges) < 2:
            return tuple(judges.values())
        said = {
            name: {
                key: called
                for key, one in self.of(name).items()
                if (called := one.verdict.verdict) is not None
            }
            for name in judges
        }
        entries = []
        for i, (name, entry) in enumerate(judges.items()):
            beside: dict[str, dict[str, dict[str, int]]] = {other: {} for other in list(judges)[i + 1 :]}
            for other, table in beside.items():
                for key in said[name].keys() & said[other].keys():
                    row = table.setdefault(said[name][key], {})
                    row[said[other][key]] = row.get(said[other][key], 0) + 1
            entries.append(msgspec.structs.replace(entry, beside=beside))
        return tuple(entries)

    def of(self, judge: str) -> dict[Key, JudgedAttempt]:
        """What one judge said; damaged lines and a torn last one are left out, and asked again."""
        return {(said.sample, said.attempt): said for said in self._lines(judge)}

    def files(self) -> list[Path]:
        """All files of verdicts."""
        return sorted(self._folder.iterdir()) if self._folder.is_dir() else []

    def _lines(self, judge: str) -> Iterator[JudgedAttempt]:
        decoder = msgspec.json.Decoder(JudgedAttempt)
        path = self._folder / f"{judge}.jsonl"
        check_regular(path)
        try:
            with path.open("rb") as file:
                for line in file:
                    if (read := check_line(line)) is not None:
                        yield decoder.decode(read)
        except FileNotFoundError:
            return
        except (msgspec.DecodeError, RecursionError) as error:
            raise UserError(f"{path} is no file of verdicts ({error}): delete it, and judge again") from error

    def writer(self, judge: JudgeEntry) -> "VerdictWriter":
        """Where a judge's verdicts are appended.

        Raises:
            UserError: another judge of this name was asked here.
        """
        kept = self.judges().get(judge.name)
        if kept is not None and kept.digest != judge.digest:
            raise UserError(
                f"{self._folder} has verdicts of another judge that was called {judge.name} (its prompt, its "
                "expressions or its model were others): give this one another name"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        write(self._folder / f"{judge.name}.json", judge)
        return VerdictWriter(self._folder / f"{judge.name}.jsonl")

    def votes(self) -> dict[Key, list[Verdict]]:
        """Attempt -> what each judge said of it."""
        votes: dict[Key, list[Verdict]] = {}
        for judge in self.judges():
            for key, said in self.of(judge).items():
                votes.setdefault(key, []).append(said.verdict)
        return votes


class VerdictWriter(LineWriter):
    """Appends verdicts to a file that one process writes to."""

    def append(self, said: JudgedAttempt) -> None:
        """Add a verdict. Raises DiskError if the disk does not take it."""
        self.write(add_checksum(msgspec.json.encode(without_surrogates(msgspec.to_builtins(said)))))


def is_judged(metrics: Iterable[Metric]) -> bool:
    """Whether a judge scores any of the metrics of a cell or a suite."""
    return any(metric.judged for metric in metrics)


def judged_value(metric: Metric, votes: Sequence[Verdict]) -> float | None:
    """1 if more judges say so than do not, 0 if fewer; None at a tie, and where none gave a verdict."""
    said = [vote.verdict in metric.judged for vote in votes if vote.verdict is not None]
    agreed = 2 * sum(said) - len(said)
    return None if agreed == 0 else float(agreed > 0)


def _judged_values(cell: CellEntry, votes: Sequence[Verdict]) -> dict[str, float | None]:
    """Judged metric -> its value by these votes."""
    return {metric.name: judged_value(metric, votes) for metric in cell.metrics if metric.judged}


def judged_rows(
    cell: CellEntry, scores: Sequence[Mapping[str, Any]], votes: Sequence[Verdict]
) -> list[dict[str, Any]]:
    """The scores of one attempt, as rows of a table, with what judges said of it.

    A judged score without operands needs no judge: its scorer could tell without one.
    """
    values = _judged_values(cell, votes)
    return [
        {**score, "value": values[score["metric"]]}
        if score["operands"] and score["metric"] in values
        else dict(score)
        for score in scores
    ]


def with_verdicts(cell: CellEntry, scores: Sequence[Score], votes: Sequence[Verdict]) -> tuple[Score, ...]:
    """The same of scores of a record, with the judges' words as the answer."""
    values = _judged_values(cell, votes)
    said = ", ".join(vote.verdict or "no verdict" for vote in votes) or None
    return tuple(
        msgspec.structs.replace(score, value=values[score.metric], answer=said)
        if score.operands and score.metric in values
        else score
        for score in scores
    )
