"""Launchers: where jobs are run, how many at once, and on what."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from harness.config.clusters import ClusterSpec
from harness.errors import UserError
from harness.run.attempts import Progress
from harness.run.jobs import Job
from harness.run.launchers.in_process import InProcess
from harness.run.launchers.processes import Processes
from harness.run.launchers.ray import Ray
from harness.run.launchers.slurm import Slurm
from harness.trust import load_object, plugins


class Launcher(Protocol):
    """Takes jobs, runs them, and tells what came of them."""

    def run(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Job]:
        """Run jobs until none owes anything; yields each as it ends, with its problems.

        One that hands jobs to a scheduler and does not wait for them ends, and does not yield those.

        Raises:
            DiskError: what was to be kept could not be.
        """
        ...


def open_launcher(
    name: str | None,
    workers: int | None,
    gpus: Sequence[str],
    *,
    cluster: ClusterSpec | None = None,
    wait: bool = False,
    lock: Path | None = None,
    finish: Sequence[str] = (),
    address: str | None = None,
) -> Launcher:
    """A launcher.

    Args:
        name: `slurm`, `ray`, that of an entry point of `openweight_harness.launchers`, or the dotted path
            of a function `(workers, gpus) -> Launcher`; None for this machine.
        workers: jobs at once, each in a process of its own. If not given: as many as there are GPUs; where
            there is none one job after the other, in this process.
        gpus: of this machine, as `CUDA_VISIBLE_DEVICES` may name them.
        cluster: what Slurm is asked for.
        wait: whether to wait for what Slurm was given.
        lock: the config beside which a lock lies, for jobs that begin elsewhere.
        finish: arguments of the command that ends a run elsewhere.
        address: of the Ray cluster.

    Raises:
        UserError: there is no such launcher, or workers are fewer than one.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: expected how many models are to run at once, 1 or more")
    if name is None:
        return Processes(workers or len(gpus), gpus) if workers or gpus else InProcess()
    if name == "slurm":
        return Slurm(cluster or ClusterSpec(), wait=wait, lock=lock, finish=finish)
    if name == "ray":
        return Ray(address or "auto", lock=lock)
    known = plugins("launchers")
    if name not in known and ":" not in name:
        others = f"those of installed packages are {', '.join(known)}" if known else "no package has any"
        raise UserError(
            f"--on {name!r}: there is no such launcher ({others}): leave it out for this machine, or give "
            "slurm, ray, or package.module:function of your own"
        )
    launcher: Launcher = load_object(known.get(name, name), "--on")(workers, gpus)
    return launcher
