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
        self._lacking: dict[str, str] = {}
        """Suite -> why its prompts cannot be made again."""

    def of(self, cell: CellEntry, records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
        """Sample -> the texts that were put to the model, for records that do not hold them themselves.

        Empty where they cannot be made again, which `whole` tells.
        """
        return {
            name: tuple(str(i.args[0]) for i in getattr(sample.payload, "instances", ()))
            for name, sample in self.samples(cell, records).items()
        }

    def samples(self, cell: CellEntry, records: Sequence[Record]) -> dict[str, Sample]:
        """Id -> sample, for records that do not hold what was put to the model. Empty as in `of`."""
        if all(record.transcript.messages for record in records):
            return {}
        try:
            return self._run.samples(cell, self._run.suite(cell))
        except UserError as error:
            self._lacking.setdefault(cell.suite, str(error))
            return {}

    def whole(self, paths: list[Path]) -> list[Path]:
        """What was written. Raises `Incomplete` if prompts are not in it."""
        if self._lacking:
            (suite, why), more = next(iter(self._lacking.items())), len(self._lacking) - 1
            others = f", and of {more} more" if more else ""
            raise Incomplete(
                f"written without the prompts of suite {suite}{others}, which cannot be made again ({why})",
                paths,
            )
        return paths
