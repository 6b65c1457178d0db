"""What a person writes of a cluster: where jobs go, what they ask for, what is set up before."""

import re
from typing import Annotated, Literal

import msgspec

from harness.config.located_yaml import Document
from harness.config.paths import find
from harness.config.schemas import Count
from harness.errors import UserError
from harness.types import Struct

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY", re.IGNORECASE)
"""In the name of a variable whose value is written to no file."""

TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}")
"""Slurm's ways to write a time: minutes, minutes:seconds, hours:minutes:seconds, and days before these."""


class Container(Struct):
    """What jobs run in."""

    runtime: Literal["pyxis", "apptainer"]
    """Pyxis with Enroot (`srun --container-image`), or Apptainer."""
    image: str
    """A file or an address, as the runtime takes it. It has the harness installed."""
    mounts: tuple[str, ...] = ()
    """Folders that are seen inside, `/outside:/inside` or `/same`. The run directory always is."""


class ClusterSpec(Struct):
    """A cluster whose scheduler is Slurm. What is not written is left to the cluster's own defaults."""

    partition: str | None = None
    """Where jobs are queued."""
    account: str | None = None
    """Who pays."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that nodes must have, such as `h200`."""
    reservation: str | None = None
    """A reservation to run in."""
    time: str | None = None
    """Time limit of a job, in quotes, such as "04:00:00". A job that needs longer goes on in another turn."""
    gpus_per_node: Annotated[int, msgspec.Meta(ge=0)] = 0
    """That a node has. A job asks for those that its model takes. 0: engines run on CPUs."""
    gpu_type: str | None = None
    """Slurm's name of the GPU, where a cluster has several kinds."""
    cpus_per_task: Count | None = None
    """Cores of a job."""
    memory: str | None = None
    """Memory of a job, such as `200G`."""
    at_once: Count | None = None
    """Jobs at once, at most."""
    warn_seconds: Annotated[int, msgspec.Meta(ge=10)] = 300
    """A job is told so long before its time limit, stops cleanly and queues again. Slurm may tell it up to a
    minute earlier."""
    container: Container | None = None
    """What jobs run in; None for the environment that submits."""
    environment: dict[str, str] = {}
    """Variables that are set in jobs, beside those of the shell that submits. Never secrets: set those in the
    shell, Slurm hands them on."""
    setup: tuple[str, ...] = ()
    """Lines of bash that run before, such as `module load cuda`."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, such as `--exclusive`."""
    finish_options: tuple[str, ...] = ()
    """Options of sbatch for the last job, which writes the scorecards, over those above, such as
    `--partition=cpu`. Not used where a judge of the config is a model, which that job loads."""


def load_cluster(name: str) -> ClusterSpec:
    """A cluster of the registry by name, or of a YAML file by path.

    Raises:
        UserError: there is no such file, or something in it is not right; says file, line and valid keys.
    """
    document = Document(find("clusters", name))
    data = {} if document.data is None else document.data
    if isinstance(data, dict) and isinstance(data.get("time"), int):
        raise UserError(
            f'{document.where(("time",))}: key `time`: write it in quotes, such as "12:00:00": '
            "without them YAML reads a number"
        )
    cluster = document.convert(data, ClusterSpec)
    if cluster.time is not None and not TIME.fullmatch(cluster.time):
        raise UserError(
            f"{document.where(('time',))}: key `time`: {cluster.time!r} is no time limit: "
            'expected hours:minutes:seconds, such as "04:00:00"'
        )
    for variable in cluster.environment:
        at = document.where(("environment", variable))
        if not re.fullmatch(r"[A-Za-z_]\w*", variable):
            raise UserError(f"{at}: {variable!r} cannot name a variable: use letters, digits, _")
        if SECRET.search(variable):
            raise UserError(
                f"{at}: key `environment.{variable}`: a secret is not kept in a file: take the line "
                f"out and set {variable} in the shell that submits, which Slurm hands on to its jobs"
            )
    for option in (*cluster.options, *cluster.finish_options):
        if not option.startswith("-") or "\n" in option:
            raise UserError(
                f"{document.where(('options',))}: {option!r} is no option of sbatch: "
                "expected one such as --exclusive"
            )
    return cluster
