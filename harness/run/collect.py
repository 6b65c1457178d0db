"""What came of jobs that ran in other processes: from the files of their workers, and from the records."""

import time

from harness.records.directory import RunDirectory
from harness.records.schema import WorkerFile
from harness.records.workers import read_submissions, read_workers
from harness.run.deaths import MAX_BARREN
from harness.run.jobs import ENGINE_DIED, Job
from harness.run.plan import problem
from harness.types import Caution

MAX_UNLOADED = 2
"""How often a job may be told that its time limit is near while its model is still loading. The second
time the weights are in the page cache, if they ever will be."""


def collect(directory: RunDirectory, model: str) -> list[Caution]:
    """Why a model that was submitted is not measured, of which nothing is queued any more; empty if it is.

    Raises:
        UserError: a file of the run cannot be read.
    """
    cells = [cell for cell in directory.manifest().cells.values() if cell.model == model]
    submission = next((s for s in reversed(read_submissions(directory.path)) if model in s.models), None)
    if submission is None or all(directory.is_complete(cell) for cell in cells):
        return []
    job = f"{submission.job}_{submission.models.index(model)}"
    workers = [worker for worker in read_workers(directory.path, model) if worker.job == job]
    if workers and workers[-1].problems:
        return list(workers[-1].problems)
    text = f"model {model}: its job {job} {_how(workers)}; the same command goes on"
    return [problem(ENGINE_DIED, text, model=model)]


def _how(workers: list[WorkerFile]) -> str:
    if not workers:
        return "was cancelled before it began, or could not begin"
    last = workers[-1]
    log = f" (its log: {last.log})" if last.log else ""
    when = time.strftime("%H:%M:%S", time.localtime(last.beat))
    how = "was killed" if last.ended is None else "was stopped"
    return f"{how} on {last.host} at {when}, and is not queued any more{log}"


def given_up(job: Job, name: str) -> str | None:
    """Why a job is not tried again: it was killed, or ran out of time, again and again and got nowhere.

    Args:
        job: what is about to begin.
        name: the scheduler's, under which it may have begun before.
    """
    killed: list[WorkerFile] = []
    unloaded: list[WorkerFile] = []
    for worker in reversed(read_workers(job.directory.path, job.name)):
        if worker.job != name:
            continue
        if worker.finished or worker.ended not in (None, "warned"):
            break
        (killed if worker.ended is None else unloaded).append(worker)
    if len(unloaded) >= MAX_UNLOADED and all(worker.loaded is None for worker in unloaded):
        seconds = max(worker.beat - worker.began for worker in unloaded)
        return (
            f"model {job.name}: the time limit of its job is shorter than it takes to load: it was told to "
            f"stop {len(unloaded)} times while it was loading, after {seconds:.0f} s at most; give it a "
            "longer `time` in the file of --cluster"
        )
    if len(killed) >= MAX_BARREN:
        last = killed[0]
        log = f", its log: {last.log}" if last.log else ""
        return (
            f"model {job.name}: its process was killed {len(killed)} times before it finished anything "
            f"(last on {last.host}{log}): give it more memory, or leave it out; the same command tries again"
        )
    return None
