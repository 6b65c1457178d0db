"""One model of a run, alone: what a job of a scheduler does. The run directory says what is asked for."""

import os
from pathlib import Path

import msgspec

from harness import config as configs
from harness.engines import one_load
from harness.errors import DiskError, UserError
from harness.models.fit import Gpu
from harness.models.forecast import machine_gpus
from harness.records.directory import RunDirectory
from harness.run.attempts import Progress
from harness.run.collect import given_up
from harness.run.jobs import ENGINE_DIED, Job
from harness.run.launchers.in_process import InProcess
from harness.run.models import PlannedModel
from harness.run.plan import PlannedCell, prepare, problem
from harness.run.runner import plan_run
from harness.run.watched import JOB
from harness.types import Caution


def run_model(
    directory: RunDirectory,
    name: str,
    progress: Progress,
    *,
    digest: str | None = None,
    lock: Path | None = None,
    retry_before: float = 0.0,
    gpus: int | None = None,
) -> list[Caution]:
    """Run what one model owes to a run that was planned; returns what could not be measured, and why.

    Nothing is written but records, what its engine is, and the worker's own file: others may run other models
    of the run at the same time, on any machine.

    Args:
        directory: of the run.
        name: of the model. Variants that share what is loaded with it are run too.
        progress: who watches.
        digest: of the config that was submitted; the directory's must have it.
        lock: the config beside which the lock lies.
        retry_before: see `Job`.
        gpus: of all nodes that are reserved for it; None for those of this machine.

    Raises:
        UserError: there is no such run or model, or its config is another than was submitted.
        DiskError: what was to be kept could not be.
    """
    config = directory.config()
    if digest not in (None, configs.digest(config)):
        raise UserError(
            f"{directory.config_path} is not the config that was submitted: give `harness run` again, which "
            "submits what it says now"
        )
    spec = next((model for model in config.models if model.name == name), None)
    if spec is None:
        names = ", ".join(model.name for model in config.models)
        raise UserError(f"{directory.config_path} has no model {name!r}: give one of {names}")
    shared = next(group for group in one_load(config.engine, config.models) if spec in group)
    config = msgspec.structs.replace(config, models=tuple(shared))
    job = Job(config, [PlannedModel(variant, None) for variant in shared], [], directory, retry_before)
    try:
        _plan(job, lock or directory.config_path, gpus)
    except DiskError:
        raise
    except UserError as error:
        job.leave_out("not_loaded", str(error))
    if (scheduled := os.environ.get(JOB)) and (why := given_up(job, scheduled)):
        job.leave_out(ENGINE_DIED, why)
    (ended,) = InProcess().run([job], progress)
    return ended.problems


def _plan(job: Job, lock: Path, gpus: int | None) -> None:
    """Fill a job with the cells that the run asks for. Raises UserError."""
    if gpus is not None:
        there = [Gpu("reserved", 0, 0, 0, "the launcher")] * gpus
    else:
        there = [gpu.sized for gpu in machine_gpus()] if job.config.engine.kind == "vllm" else []
    plan = plan_run(job.config, lock, there)
    job.problems += plan.problems
    prepare(plan)
    asked = job.directory.asked_keys()
    for cell in plan.cells:
        if cell.entry.key not in asked:
            job.problems.append(_other_cell(job.directory, cell))
    job.models = [plan.models[name] for name in job.names if name in plan.models]
    job.cells = [cell for cell in plan.cells if cell.entry.key in asked]


def _other_cell(directory: RunDirectory, cell: PlannedCell) -> Caution:
    """That a cell is another here than where the run was planned."""
    entry = cell.entry
    planned = [
        other
        for other in directory.manifest().cells.values()
        if (other.model, other.suite) == (entry.model, entry.suite)
    ]
    changed = configs.changed_keys(planned[0].protocol if planned else {}, entry.protocol)
    what = ", ".join(changed) or "weights or engine arguments"
    return problem(
        "not_as_planned",
        f"{entry.suite} of {entry.model} is not here what was planned ({what} differ): let this machine see "
        "the same models, data and packages as the one that submits",
        model=entry.model,
        suite=entry.suite,
    )
