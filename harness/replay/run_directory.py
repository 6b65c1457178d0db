"""Scoring the records of a run directory again, from their transcripts."""

from collections.abc import Mapping

from harness.records.directory import RunDirectory
from harness.replay.report import Counts, Difference, Report, equal
from harness.replay.rescore import RUNS_PROGRAMS, Rescored, rescore
from harness.suites.restore import Restored
from harness.types import CellEntry


def replay_run(
    directory: RunDirectory, suites: Mapping[str, str] | None = None, *, run_programs: bool = False
) -> Report:
    """Score every record of a run again.

    Args:
        directory: of the run.
        suites: see `harness.replay.replay`.
        run_programs: whether to run what the model wrote, where that is how a suite scores.

    Raises:
        UserError: the directory is no run, a suite cannot be loaded, or a chat template is not here.
    """
    run, counts = Restored(directory, suites), Counts()
    for cell in run.manifest.cells.values():
        suite = run.suite(cell)
        if suite.needs.sandbox and not run_programs:
            counts.leave_out(f"{cell.model} {cell.suite} is not scored again: {RUNS_PROGRAMS}")
            continue
        security = {metric.name for metric in cell.metrics if metric.hijack}
        for rescored in rescore(suite, run.samples(cell, suite), cell, directory.each_record(cell)):
            names = {*rescored.stored, *rescored.replayed}
            utility, hijacked = (
                equal(rescored.stored, rescored.replayed, part)
                for part in (names - security, names & security)
            )
            counts.add(cell.model, cell.suite, utility=utility, security=hijacked)
            if rescored.reason is not None:
                counts.differ(_difference(cell, rescored, rescored.reason))
    return counts.report()


def _difference(cell: CellEntry, rescored: Rescored, reason: str) -> Difference:
    stored, replayed = rescored.stored, rescored.replayed
    changed = sorted(n for n in stored.keys() | replayed.keys() if stored.get(n) != replayed.get(n))
    return Difference(
        model=cell.model,
        pair=f"{cell.suite}/{rescored.record.sample}",
        attempt=rescored.record.attempt,
        stored={name: stored.get(name) for name in changed},
        replayed={name: replayed.get(name) for name in changed},
        reason=reason,
    )
