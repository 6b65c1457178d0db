"""Jobs on a Ray cluster: a task for each job, with its GPUs as resources.

A task is a command line (`harness job DIR MODEL`), as on Slurm, so that nothing heavy is loaded into Ray's
own workers, and the run directory, which all nodes see, is its state. Ray runs a task again whose node was
lost; what was killed on a node that lives is begun again there, until `harness job` gives it up.

A model that takes more GPUs than a node has gets a placement group, with a bundle for each GPU, in which
vLLM's own Ray executor starts its workers. Other models begin when all such groups have their GPUs: else they
would take each GPU that comes free, and a group would wait for ever.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import config as configs
from harness.disk import make_folder
from harness.engines.vllm.last_words import LOG
from harness.engines.vllm.placement import NAMESPACE, PLACEMENT_GROUP
from harness.errors import UserError, pip_install
from harness.models.fit import Gpu
from harness.records.schema import Submission
from harness.records.workers import LOGS, write_submission
from harness.run.attempts import Progress
from harness.run.collect import collect
from harness.run.jobs import ENGINE_DIED, Job
from harness.run.launchers.processes import PR_SET_PDEATHSIG, STOP_SECONDS
from harness.run.watched import JOB

MAX_LOST = 8
"""How often a task is run again whose node was lost."""

POLL_SECONDS = 1.0
"""Between two looks at placement groups."""

SHORT_SECONDS = 300.0
"""That nodes have to come back where those that live have fewer GPUs than a model takes."""

LIBC = ctypes.CDLL(None)


class Ray:
    """Satisfies `Launcher`. It waits: Ray ends the tasks of a command that has ended."""

    def __init__(self, address: str = "auto", *, lock: Path | None = None) -> None:
        """Connect to a cluster.

        Args:
            address: of its head, such as `10.0.0.1:6379`; `auto` for the one that this machine is a node of.
            lock: the config beside which the lock lies, see `harness.run.lockfile`.

        Raises:
            UserError: Ray is not installed, or there is no such cluster.
        """
        try:
            import ray
        except ImportError as error:
            raise UserError(f"--on ray needs Ray, here and on each node: {pip_install('ray')}") from error
        self._ray: Any = ray
        self._lock = lock
        try:
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"--address {address}: there is no Ray cluster ({' '.join(str(error).split())[:200]}): run "
                "this on one of its nodes, or give the address of its head"
            ) from error

    def gpus(self) -> list[Gpu]:
        """Those of all nodes that live, as far as they are known."""
        return [Gpu("of a node", 0, 0, 0, "Ray")] * sum(self._by_node())

    def _by_node(self) -> list[int]:
        """GPUs of each node that lives."""
        return [int(node["Resources"].get("GPU", 0)) for node in self._ray.nodes() if node["Alive"]]

    def run(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Job]:
        """See `Launcher.run`. What takes several nodes comes first, then what takes longest."""
        nodes = self._by_node()
        wide = _of_several_nodes(jobs, nodes)
        yield from (job for job in jobs if job.is_complete)
        owed = sorted((job for job in jobs if not job.is_complete), key=lambda job: (-job.work, -job.gpus))
        if not owed:
            self._ray.shutdown()
            return
        number = self._announce(owed, len(nodes), progress)
        element = {job.name: f"{number}_{place}" for place, job in enumerate(owed)}
        pending: dict[Any, Job] = {}
        waits: dict[Any, Waiting] = {}
        try:
            for job in [job for job in owed if job in wide]:
                owed.remove(job)
                group = self._reserve(job, element[job.name])
                task = self._begin(job, element[job.name], 0, group)
                pending[task], waits[task] = job, Waiting(group)
            while pending or owed:
                if all(map(self._is_placed, waits.values())):
                    while owed:
                        job = owed.pop(0)
                        task = self._begin(job, element[job.name], _takes(job, nodes))
                        pending[task], waits[task] = job, Waiting()
                done, _ = self._ray.wait([*pending], timeout=POLL_SECONDS)
                for task in done or [*self._give_up_short(pending, waits)]:
                    yield self._end(task, pending.pop(task), waits.pop(task), progress)
        finally:
            for task in pending:
                self._ray.cancel(task)
            if pending:
                self._ray.wait([*pending], num_returns=len(pending), timeout=STOP_SECONDS)
            self._ray.shutdown()

    def _announce(self, jobs: Sequence[Job], nodes: int, progress: Progress) -> str:
        """Write down what is given to Ray; returns the number by which it is known."""
        directory, number = jobs[0].directory, secrets.token_hex(4)
        make_folder(directory.path.resolve() / LOGS)
        names = tuple(job.name for job in jobs)
        write_submission(
            directory.path, Submission(launcher="ray", job=number, models=names, submitted=time.time())
        )
        progress.note(f"given to Ray: {len(jobs)} models, on {nodes} nodes")
        return number

    def _reserve(self, job: Job, element: str) -> Any:
        """Ask for a placement group, which ends with this command. Its first bundle has room for the task."""
        bundles = [{"CPU": 1, "GPU": 1}, *({"GPU": 1} for _ in range(job.gpus - 1))]
        return self._ray.util.placement_group(bundles, strategy="PACK", name=element)

    def _is_placed(self, waiting: "Waiting") -> bool:
        if waiting.group is None:
            return True
        return bool(self._ray.util.placement_group_table(waiting.group)["state"] == "CREATED")

    def _begin(self, job: Job, element: str, gpus: int, group: Any = None) -> Any:
        """Hand a task to Ray, in a placement group if there is one; returns its reference."""
        log = job.directory.path.resolve() / LOGS / f"ray-{element}.log"
        environment, command = {JOB: element, LOG: str(log)}, self._command(job)
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "max_retries": MAX_LOST}
        if group is not None:
            strategies = self._ray.util.scheduling_strategies
            options["scheduling_strategy"] = strategies.PlacementGroupSchedulingStrategy(group, 0)
            address = self._ray.get_runtime_context().gcs_address
            environment |= {PLACEMENT_GROUP: element, "RAY_ADDRESS": address}
            command.append(f"--gpus={job.gpus}")
        return self._ray.remote(**options)(work).remote(command, environment)

    def _end(self, task: Any, job: Job, waiting: "Waiting", progress: Progress) -> Job:
        """Take in a task that has ended; what came of it is on disk."""
        if waiting.group is not None:
            self._ray.util.remove_placement_group(waiting.group)
        if not job.problems:
            with suppress(self._ray.exceptions.RayError):
                self._ray.get(task)
            job.problems += collect(job.directory, job.name)
        progress.note(f"{job.name}: {'not all of it was measured' if job.problems else 'done'}")
        return job

    def _give_up_short(self, pending: Mapping[Any, Job], waits: "Mapping[Any, Waiting]") -> Iterator[Any]:
        """End tasks that wait for more GPUs than the cluster has had for some time; yields them.

        Ray lets a task wait for ever that no node that lives has room for.
        """
        nodes, now = self._by_node(), time.monotonic()
        for task, waiting in waits.items():
            job = pending[task]
            there = max(nodes, default=0) if waiting.group is None else sum(nodes)
            if job.gpus <= there or not _takes(job, nodes):
                waiting.enough = now
            elif now - waiting.enough > SHORT_SECONDS:
                one, together = "no node that lives has more than", "the nodes that live have"
                who = one if waiting.group is None else together
                job.leave_out(
                    ENGINE_DIED,
                    f"model {job.name}: it takes {job.gpus} GPUs, and {who} {there}; the same command "
                    "resumes when there are enough",
                )
                self._ray.cancel(task)
                yield task

    def _command(self, job: Job) -> list[str]:
        command = [sys.executable, "-m", "harness.cli", "job", str(job.directory.path.resolve()), job.name]
        command.append(f"--digest={configs.digest(job.config)}")
        if job.retry_before:
            command.append(f"--retry-before={job.retry_before!r}")
        if self._lock is not None:
            command.append(f"--lock={self._lock.resolve()}")
        return command


@dataclass
class Waiting:
    """What is known of a task that has not ended."""

    group: Any = None
    """Its placement group; None where it runs on one node."""
    enough: float = field(default_factory=time.monotonic)
    """When the nodes that live had enough GPUs last."""


def _takes(job: Job, nodes: Sequence[int]) -> int:
    """GPUs of a task, none on a cluster without any."""
    return 0 if job.config.engine.kind == "endpoint" or not any(nodes) else job.gpus


def _of_several_nodes(jobs: Sequence[Job], nodes: Sequence[int]) -> list[Job]:
    """Jobs that take more GPUs than any node has; those of copies, which need one node, are left out."""
    wide = [job for job in jobs if not job.is_complete and _takes(job, nodes) > max(nodes)]
    for job in wide:
        args = {**job.config.engine.args, **job.models[0].spec.engine_args}
        if int(args.get("data_parallel_size", 1)) > 1:
            text = f"model {job.name}: data_parallel_size is for one node: set it to 1 in its engine_args"
            job.leave_out("too_few_gpus", text)
    return wide


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
