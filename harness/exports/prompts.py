"""The prompts of a run, which its records of single texts do not hold: made again from the tasks' data."""

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UserError
from harness.suites.restore import Restored
from harness.types import CellEntry, Record, Sample


class Incomplete(UserError):
    """Everything was written, but without the prompts of some suites, which cannot be made again."""

    def __init__(self, message: str, paths: Sequence[Path]) -> None:
        """Args: message: the sentence. paths: what was written."""
        super().__init__(message)
        self.paths = list(paths)


class Prompts:
    """What was put to the models of a run."""

    def __init__(self, run: Restored) -> None:
        self._run = run
        self._last: tuple[str, dict[str, Sample]] = "", {}
        """The cell that was asked for last, and its samples: cells are exported one after the other."""
        self.lacking: dict[str, str] = {}
        """Suite -> why its prompts cannot be made again."""

    def texts(self, cell: CellEntry, record: Record) -> tuple[str, ...]:
        """What was put to the model, for a record that does not hold it; else nothing, as in `sample`."""
        sample = self.sample(cell, record)
        return tuple(texts[0] for texts in self._run.suite(cell).prompts(sample)) if sample else ()

    def sample(self, cell: CellEntry, record: Record) -> Sample | None:
        """The sample of a record that does not hold what was put to the model.

        None for one that does, and where it cannot be made again, which `whole` tells.
        """
        if record.transcript.messages:
            return None
        if self._last[0] != cell.key:
            self._last = cell.key, self._samples(cell)
        return self._last[1].get(record.sample)

    def _samples(self, cell: CellEntry) -> dict[str, Sample]:
        try:
            return self._run.samples(cell, self._run.suite(cell))
        except UserError as error:
            self.lacking.setdefault(cell.suite, str(error))
            return {}

    def whole(self, paths: list[Path]) -> list[Path]:
        """What was written. Raises `Incomplete` if prompts are not in it."""
        if self.lacking:
            (suite, why), more = next(iter(self.lacking.items())), len(self.lacking) - 1
            others = f", and of {more} more" if more else ""
            raise Incomplete(
                f"written without the prompts of suite {suite}{others}, which cannot be made again ({why})",
                paths,
            )
        return paths
