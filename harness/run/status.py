"""How far a run is: from its records alone, from any machine, while others write to it."""

from collections import Counter
from collections.abc import Iterator

from harness.records.directory import RunDirectory
from harness.types import Struct


class CellStatus(Struct):
    """How far one model is on one suite."""

    model: str
    suite: str
    done: int
    """Attempts that are finished."""
    total: int
    failures: dict[str, int]
    """Kind -> attempts that could not be measured."""


def status(directory: RunDirectory) -> list[CellStatus]:
    """How far each cell of a run is, by model and suite.

    Raises:
        UserError: there is no run, or its records cannot be read.
    """
    found = []
    for cell in directory.manifest().cells.values():
        outcomes = list(directory.outcomes(cell))
        failures = Counter(outcome.failure.value for outcome in outcomes if outcome.failure)
        found.append(
            CellStatus(
                model=cell.model,
                suite=cell.suite,
                done=len(outcomes),
                total=cell.samples * cell.attempts,
                failures=dict(sorted(failures.items())),
            )
        )
    return sorted(found, key=lambda cell: (cell.model, cell.suite))


def status_lines(found: list[CellStatus]) -> Iterator[str]:
    """The same for a person, a line each and one for all."""
    width = max((len(f"{cell.model}: {cell.suite}") for cell in found), default=0)
    for cell in found:
        name = f"{cell.model}: {cell.suite}"
        failed = ", ".join(f"{count} {kind}" for kind, count in cell.failures.items())
        yield f"{name:<{width}}  {cell.done}/{cell.total}{f'  {failed}' if failed else ''}"
    done, total = sum(cell.done for cell in found), sum(cell.total for cell in found)
    whole = sum(cell.done == cell.total for cell in found)
    yield f"{whole} of {len(found)} cells are complete, {done} of {total} attempts finished"
