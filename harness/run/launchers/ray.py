"""Jobs on a Ray cluster: a task for each job, with its GPUs as resources.

A task is a command line (`harness job DIR MODEL`), as on Slurm, so that nothing heavy is loaded into Ray's
own workers, and the run directory, which all nodes see, is its state. Ray runs a task again whose node was
lost; what was killed on a node that lives is begun again there, until `harness job` gives it up.
"""

import ctypes
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import config as configs
from harness.disk import make_folder
from harness.engines.vllm.last_words import LOG
from harness.errors import UserError
from harness.models.fit import Gpu
from harness.records.schema import Submission
from harness.records.workers import LOGS, write_submission
from harness.run.attempts import Progress
from harness.run.collect import collect
from harness.run.jobs import Job
from harness.run.launchers.processes import PR_SET_PDEATHSIG, STOP_SECONDS
from harness.run.watched import JOB

MAX_LOST = 8
"""How often a task is run again whose node was lost."""

LIBC = ctypes.CDLL(None)


class Ray:
    """Satisfies `Launcher`. It waits: Ray ends the tasks of a command that has ended."""

    def __init__(self, address: str = "auto", *, lock: Path | None = None) -> None:
        """Connect to a cluster.

        Args:
            address: of its head, such as `10.0.0.1:6379`; `auto` for the one that this machine is a node of.
            lock: the config beside which the lock lies, see `harness.run.lock`.

        Raises:
            UserError: Ray is not installed, or there is no such cluster.
        """
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "--on ray needs Ray, here and on each node: pip install 'openweight-harness[ray]'"
            ) from error
        self._ray: Any = ray
        self._lock = lock
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"--address {address}: there is no Ray cluster ({' '.join(str(error).split())[:200]}): run "
                "this on one of its nodes, or give the address of its head"
            ) from error

    def node_gpus(self) -> list[Gpu]:
        """The GPUs of the node that has most, as far as they are known."""
        there = max((int(node["Resources"].get("GPU", 0)) for node in self._nodes()), default=0)
        return [Gpu("of a node", 0, 0, 0, "Ray")] * there

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def run(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Job]:
        """See `Launcher.run`. What takes longest comes first."""
        owed = sorted(jobs, key=lambda job: (-job.work, -job.gpus))
        yield from (job for job in owed if job.is_complete)
        owed = [job for job in owed if not job.is_complete]
        pending = self._submit(owed, progress) if owed else {}
        try:
            while pending:
                (done, *_), _ = self._ray.wait([*pending])
                job = pending.pop(done)
                with suppress(self._ray.exceptions.RayError):  # what came of it is on disk
                    self._ray.get(done)
                job.problems += collect(job.directory, job.name)
                progress.note(f"{job.name}: {'not all of it was measured' if job.problems else 'done'}")
                yield job
        finally:
            for task in pending:
                self._ray.cancel(task)
            if pending:
                self._ray.wait([*pending], num_returns=len(pending), timeout=STOP_SECONDS)
            self._ray.shutdown()

    def _submit(self, jobs: Sequence[Job], progress: Progress) -> dict[Any, Job]:
        directory, number = jobs[0].directory, secrets.token_hex(4)
        logs = directory.path.resolve() / LOGS
        make_folder(logs)
        names = tuple(job.name for job in jobs)
        write_submission(
            directory.path, Submission(launcher="ray", job=number, models=names, submitted=time.time())
        )
        with_gpus = bool(self.node_gpus())
        tasks = {}
        for place, job in enumerate(jobs):
            element = f"{number}_{place}"
            gpus = job.gpus if with_gpus and job.config.engine.kind != "endpoint" else 0
            remote = self._ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_LOST)(work)
            environment = {JOB: element, LOG: str(logs / f"ray-{element}.log")}
            tasks[remote.remote(self._command(job), environment)] = job
        progress.note(f"given to Ray: {len(jobs)} models, on {len(self._nodes())} nodes")
        return tasks

    def _command(self, job: Job) -> list[str]:
        command = [sys.executable, "-m", "harness.cli", "job", str(job.directory.path.resolve()), job.name]
        command.append(f"--digest={configs.digest(job.config)}")
        if job.retry_before:
            command.append(f"--retry-before={job.retry_before!r}")
        if self._lock is not None:
            command.append(f"--lock={self._lock.resolve()}")
        return command


def work(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """What a task does: run a job until it ends by itself; returns its exit status.

    Args:
        command: of the job.
        environment: what it is told beside this node's own environment, which has the secrets.
    """
    while True:
        with (
            Path(environment[LOG]).open("ab") as log,
            subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            ) as child,
        ):
            try:
                status = child.wait()
            except BaseException:  # the task was cancelled
                child.terminate()
                child.wait(STOP_SECONDS)
                raise
        if status >= 0:
            return status


def _end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
