"""Running a plan: its jobs go to a launcher, and what could not be measured is kept with the results.

A finished attempt is appended to its cell's records at once. What was finished before is not run
again; what was in flight when the process died is owed again.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.config import RunConfig
from harness.errors import Status, UserError
from harness.records.directory import RunDirectory
from harness.run.attempts import Progress
from harness.run.fetch import check_lock
from harness.run.jobs import ENGINE_DIED, Job
from harness.run.launchers import Launcher
from harness.run.lock import read_lock
from harness.run.plan import Plan, leave_out_too_large, make_manifest, make_plan, prepare, problem
from harness.types import Caution, Manifest


def plan_run(config: RunConfig, path: Path, gpus: int, *, download: bool = True) -> Plan:
    """The plan of a config, held to the lock beside it, and to the GPUs that there are.

    Args:
        config: what is asked for.
        path: the config's file.
        gpus: how many. None at all is taken for a CPU.
        download: whether the data of suites may be downloaded. If not, what is absent is only named.

    Raises:
        UserError: the lock cannot be read.
    """
    plan = make_plan(config, read_lock(path), download=download)
    plan.leave_out(problem("lock", text) for text in check_lock(path, plan))
    leave_out_too_large(plan, gpus)
    return plan


def run(
    plan: Plan,
    directory: RunDirectory,
    progress: Progress,
    launcher: Launcher,
    *,
    retry_failures: bool = False,
) -> None:
    """Run everything that the plan owes to the directory.

    What cannot be measured becomes a problem of the plan and is kept in the manifest; the rest is measured.

    Args:
        plan: what is asked for.
        directory: where records go.
        progress: who watches.
        launcher: who runs it.
        retry_failures: whether attempts are owed again that ended in one of `store.RETRIED` before now.

    Raises:
        UserError: nothing can be measured, or not into this directory.
    """
    prepare(plan)
    if directory.manifest_path.exists():
        check_same_cells(directory, plan)
        kept = directory.manifest()
        if (now := _with_new(kept, make_manifest(plan))) != kept:
            directory.write_manifest(now)
    else:
        directory.write_manifest(make_manifest(plan))
    retry_before = time.time() if retry_failures else 0.0
    jobs = [
        Job(plan.config, model, plan.of_model(name), directory, retry_before)
        for name, model in plan.models.items()
    ]
    for job in launcher.run(jobs, progress):
        if job.problems:
            plan.leave_out(job.problems)
            cautions = (*plan.problems, *plan.cautions)
            directory.write_manifest(msgspec.structs.replace(directory.manifest(), cautions=cautions))
    if outcome(plan.problems) is not Status.STOPPED:
        plan.check()


def _with_new(kept: Manifest, planned: Manifest) -> Manifest:
    """A manifest with the models and cells that could not be planned before, and what is known now."""
    return msgspec.structs.replace(
        kept,
        models={**planned.models, **kept.models},
        cells={**planned.cells, **kept.cells},
        groups=planned.groups,
        cautions=planned.cautions,
    )


def outcome(problems: Sequence[Caution]) -> Status:
    """How a run ended whose plan has these problems."""
    if any(found.check == ENGINE_DIED for found in problems):
        return Status.STOPPED
    return Status.INCOMPLETE if problems else Status.DONE


def check_same_cells(directory: RunDirectory, plan: Plan) -> None:
    """Refuse to go on where data, tasks, weights or versions are not those the directory began with.

    Raises:
        UserError: the cells that differ, with the fields that do.
    """
    kept = {(c.model, c.suite): c for c in directory.manifest().cells.values()}
    for cell in plan.cells:
        old = kept.get((cell.entry.model, cell.entry.suite))
        if old is not None and old.key != cell.entry.key:
            was, now = old.protocol, cell.entry.protocol
            changed = [k for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k)]
            raise UserError(
                f"{directory.path} was begun with another {cell.entry.suite} for {cell.entry.model} "
                f"({', '.join(changed) or 'weights or engine arguments'} changed since): "
                "give another --out, or restore what it was begun with"
            )
