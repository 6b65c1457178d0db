"""Which models of a run fit on some GPUs, how long they take there, and when each of them runs."""

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.config import ModelSpec
from harness.errors import UserError
from harness.models import checkpoint, fit, hub
from harness.models.fit import GIB, Fit, Footprint, Gpu, Job, Layout, Work
from harness.models.tensors import count_tensors

PROMPT_TOKENS = 1000
"""Of an attempt that was not measured; its completion is taken to fill its budget."""
START_SECONDS = 120
"""From the start of an engine to its first request, loading of the weights left out."""
LOADING = 1e9
"""Bytes of weights that are read in a second."""


@dataclass(frozen=True)
class Task:
    """One suite for a model."""

    suite: str
    attempts: int
    completion_tokens: int
    measured: float | None = None
    """Engine seconds of an attempt in an earlier run, None if there was none."""


@dataclass(frozen=True)
class Request:
    """One model and what it is to do."""

    spec: ModelSpec
    engine_args: dict[str, Any]
    tasks: tuple[Task, ...]
    beside: int = 0
    """Bytes of weights of second models, such as detectors, that are on the same GPU while it runs."""


@dataclass
class Forecast:
    """What is foreseen for all models of a run."""

    gpu: Gpu
    count: int
    price: float | None = None
    """Of an hour of one GPU, in the currency of who asks."""
    lines: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    assumed: bool = False
    unfit: list[str] = field(default_factory=list)
    """Names of the models that do not fit."""


def forecast(requests: Sequence[Request], gpus: str, price: float | None = None) -> Forecast:
    """Place every model on the GPUs and add up its time.

    Args:
        requests: what is to run.
        gpus: such as `8xH200`.
        price: of an hour of one GPU.

    Raises:
        UserError: the GPUs are not known.
    """
    count, gpu = fit.parse_gpus(gpus)
    forecast = Forecast(gpu, count, price)
    forecast.lines.append(f"on {count}x{gpu.name}, {gpu.memory:.1f} GiB each:")
    for request in requests:
        forecast.lines += _model(forecast, request)
    forecast.lines += _schedule(forecast)
    if forecast.assumed:
        forecast.lines.append(
            f"assumed: {PROMPT_TOKENS} prompt tokens an attempt and as many completion tokens as its budget, "
            f"{fit.BANDWIDTH_SHARE:.0%} of the memory bandwidth, {fit.TFLOPS_SHARE:.0%} of the arithmetic"
        )
    return forecast


def _model(forecast: Forecast, request: Request) -> Iterator[str]:
    name = request.spec.name
    try:
        model = read_footprint(request.spec, request.engine_args)
    except UserError as error:
        yield f"  {name}: not known: {error}"
        return
    share = request.engine_args.get("gpu_memory_utilization", fit.UTILIZATION)
    if (left := 1 - request.beside / (forecast.gpu.memory * fit.GIB)) < share:
        share = math.floor(max(0.0, left) * 100) / 100
        yield (
            f"  {name}: second models take {request.beside / fit.GIB:.1f} GiB next to it: set "
            f"gpu_memory_utilization={share} in its engine_args, as this plan assumes"
        )
    best = fit.smallest_fit(model, forecast.gpu, forecast.count, share)
    asked = fit.asked_layout(request.engine_args)
    if best is None:
        forecast.unfit.append(name)
        yield f"  {name}: does not fit: needs {fit.what_would(model, forecast.gpu, forecast.count)}"
        return
    if asked is not None:
        yield from _as_asked(forecast, request, model, best, asked, share)
        return
    yield f"  {name}: {describe(model, best)}"
    if best.layout.gpus > 1:
        yield f"    to run it so, set in its engine_args: {best.layout.arguments()}"
    yield from _time(forecast, request, model, best)


def _as_asked(
    forecast: Forecast, request: Request, model: Footprint, best: Fit, asked: Layout, share: float
) -> Iterator[str]:
    name = f"  {request.spec.name}"
    placed = fit.place(model, forecast.gpu, asked, best.quantization, share)
    smallest = "" if asked == best.layout else f"; the smallest that fits is {best.layout}"
    if asked.gpus > forecast.count or not placed.concurrency:
        forecast.unfit.append(request.spec.name)
        yield f"{name}: does not fit as its engine_args ask, {asked}{smallest}"
        return
    yield f"{name}: as its engine_args ask, {describe(model, placed)}{smallest}"
    yield from _time(forecast, request, model, placed)


def describe(model: Footprint, best: Fit) -> str:
    """A fit in one line, GiB of one GPU."""
    weights, activation, kept, margin = (
        f"{b / GIB:.1f}" for b in (best.weights, best.activation, best.cache, best.margin)
    )
    return (
        f"{best.layout}, {best.quantization}; GiB a GPU: weights {weights}, activation {activation}, "
        f"KV cache {kept}, margin {margin}; {best.concurrency} sequences of {model.context:,} tokens"
    )


def _time(forecast: Forecast, request: Request, model: Footprint, best: Fit) -> Iterator[str]:
    unmeasured = [task for task in request.tasks if task.measured is None]
    if unmeasured and not forecast.gpu.tflops:
        yield "    time: not known, the speed of this GPU is not in the table"
        return
    seconds = START_SECONDS + model.weight_bytes / LOADING
    for task in request.tasks:
        if task.measured is not None:
            seconds += task.attempts * task.measured
        else:
            work = Work(task.attempts, PROMPT_TOKENS, task.completion_tokens)
            seconds += fit.assumed_seconds(model, forecast.gpu, best, work)
    forecast.assumed |= bool(unmeasured)
    forecast.jobs.append(Job(request.spec.name, best.layout.gpus, seconds))
    hours = best.layout.gpus * seconds / 3600
    cost = f", cost {hours * forecast.price:.2f}" if forecast.price is not None else ""
    measured = len(request.tasks) - len(unmeasured)
    basis = "assumed throughput" if not measured else "measured throughput"
    if measured and unmeasured:
        basis += f" on {measured} of {len(request.tasks)} suites, assumed on the others"
    yield f"    time: {_hours(seconds)} h, {_hours(hours * 3600)} GPU-hours{cost}; {basis}"


def _schedule(forecast: Forecast) -> Iterator[str]:
    if not forecast.jobs:
        return
    slots = fit.pack(forecast.jobs, forecast.count)
    end, bound = fit.makespan(slots), fit.lower_bound(forecast.jobs, forecast.count)
    total = sum(job.gpus * job.seconds for job in forecast.jobs)
    cost = f", cost {total / 3600 * forecast.price:.2f}" if forecast.price is not None else ""
    yield (
        f"all models: {_hours(total)} GPU-hours{cost}; "
        f"makespan {_hours(end)} h, lower bound {_hours(bound)} h"
    )
    for slot in sorted(slots, key=lambda s: (s.start, s.gpus)):
        where = ",".join(map(str, slot.gpus))
        yield f"  from {_hours(slot.start)} h: {slot.job.name} on GPU {where}"


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.1f}" if hours >= 1 or not hours else f"{hours:.{1 - math.floor(math.log10(hours))}f}"


def read_footprint(spec: ModelSpec, engine_args: dict[str, Any]) -> Footprint:
    """What a model needs, read from its folder, the hub's cache, or the hub.

    Raises:
        UserError: it is nowhere to be read, or its family is not known.
    """
    folder = checkpoint.find(spec)
    if folder is not None:
        tensors = checkpoint.stored_tensors(folder, checkpoint.weight_files(folder))
        config = checkpoint.read_config(folder)
    else:
        config = checkpoint.read_config(hub.config_folder(spec.path, spec.revision))
        tensors = hub.tensors(spec.path, spec.revision)
    return fit.footprint(
        spec.name,
        config,
        count_tensors(config, tensors).bytes,
        context=engine_args.get("max_model_len"),
        cache_dtype=engine_args.get("kv_cache_dtype", "auto"),
    )


class MachineGpu(NamedTuple):
    """A GPU, or a MIG instance of one, of this machine."""

    name: str
    memory: float
    """GiB."""
    uuid: str
    """As `CUDA_VISIBLE_DEVICES` may name it."""
    number: str = ""
    """The driver's number of it; a MIG instance has none."""

    @property
    def sized(self) -> Gpu:
        """What is known of how much it holds."""
        return Gpu(self.name, self.memory, 0, 0, "the driver")


def machine_gpus() -> list[MachineGpu]:
    """Every GPU that this process may use, as the driver reports them.

    A GPU that is divided (MIG) stands there by its instances. `CUDA_VISIBLE_DEVICES` restricts them as it
    restricts CUDA: indices or UUIDs, those of instances too; what comes after the first that is not there
    does not count, and the index of a divided GPU is its first instance.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    rows = [line.split(", ") for line in answer.stdout.splitlines() if answer.returncode == 0]
    whole = {index: MachineGpu(name, _gib(memory), uuid, index) for index, uuid, name, memory in rows}
    divided = _instances(command) if whole else {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [one for gpu in whole.values() for one in divided.get(gpu.uuid, [gpu])]
    instances = [one for parts in divided.values() for one in parts]
    boards: list[MachineGpu] = []
    for wanted in filter(None, visible.replace(" ", "").split(",")):
        gpus = [gpu for index, gpu in whole.items() if wanted == index or gpu.uuid.startswith(wanted)]
        gpus = [divided.get(gpu.uuid, [gpu])[0] for gpu in gpus]
        if wanted.startswith("MIG-"):
            gpus = [gpu for gpu in instances if gpu.uuid.startswith(wanted)]
        if len(gpus) != 1:
            break
        boards += gpus
    return boards


def _gib(mebibytes: str) -> float:
    """GiB of a GPU, as the driver tells them in MiB; one that shares the machine's memory has no number."""
    if mebibytes != "[N/A]":
        return float(mebibytes) / 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def chosen_gpus(there: Sequence[MachineGpu], wanted: str) -> list[MachineGpu]:
    """Those of some GPUs that are named, by index or by the beginning of a UUID, in the order of the names.

    Raises:
        UserError: one is not there, or named twice.
    """
    chosen: list[MachineGpu] = []
    for name in wanted.replace(" ", "").split(","):
        named = [gpu for gpu in there if name and (name == gpu.number or gpu.uuid.startswith(name))]
        if len(named) != 1 or named[0] in chosen:
            known = ", ".join(gpu.number or gpu.uuid for gpu in there) or "none"
            raise UserError(
                f"--gpus {wanted!r}: {name!r} is {'named twice' if named else 'not there'}: expected "
                f"GPUs that this process may use ({known}), such as 0,1"
            )
        chosen += named
    return chosen


BOARD = re.compile(r"GPU \d+: .*\(UUID: (?P<uuid>GPU-[^)]+)\)")
"""A line of `nvidia-smi -L`: `GPU 0: NVIDIA H200 (UUID: GPU-...)`; those of its instances follow."""

INSTANCE = re.compile(r"\s*MIG (?P<profile>\S*?(?P<memory>\d+)gb\S*) .*\(UUID: (?P<uuid>MIG-[^)]+)\)")
"""`  MIG 1g.10gb     Device  0: (UUID: MIG-...)`."""


def _instances(command: str) -> dict[str, list[MachineGpu]]:
    """UUID of each divided GPU -> its MIG instances."""
    answer = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    instances: dict[str, list[MachineGpu]] = {}
    board = ""
    for line in answer.stdout.splitlines():
        if match := BOARD.match(line):
            board = match["uuid"]
        elif match := INSTANCE.match(line):
            instance = MachineGpu(f"{MIG}{match['profile']}", float(match["memory"]), match["uuid"])
            instances.setdefault(board, []).append(instance)
    return instances


MIG = "MIG-"
"""How the name of a MIG instance begins."""


def for_one_engine(there: Sequence[Gpu]) -> Sequence[Gpu]:
    """The GPUs over which one model may be spread: CUDA gives a process no more than one MIG instance."""
    return there[:1] if any(gpu.name.startswith(MIG) for gpu in there) else there


def written(gpus: Sequence[MachineGpu]) -> str | None:
    """GPUs as `--gpus` takes them, None if there are none."""
    if not gpus:
        return None
    name, memory, *_ = min(gpus, key=lambda gpu: gpu.memory)
    known = next((gpu for gpu in fit.GPUS.values() if _same(gpu, name, memory)), None)
    kind = known.name if known else f"{''.join(c for c in name if c.isalnum())}:{memory:.1f}"
    return f"{len(gpus)}x{kind}"


def _same(gpu: Gpu, name: str, memory: float) -> bool:
    return gpu.name.split("-")[0] in name.replace(" ", "-").split("-") and abs(gpu.memory - memory) < 2


def gpus_wanted(engine_args: Mapping[str, Any]) -> int:
    """GPUs that an engine takes with these arguments, where it runs on GPUs."""
    kinds = ("tensor", "pipeline", "data")
    return math.prod(int(engine_args.get(f"{kind}_parallel_size", 1)) for kind in kinds)


def stated_layout(spec: ModelSpec, engine_args: dict[str, Any], there: Sequence[Gpu]) -> dict[str, Any]:
    """The arguments of the layout by which a model is spread over several GPUs; empty where one is enough.

    It is the one of the spec's `layouts` that takes fewest GPUs and holds the model, as far as its size is
    known on this machine. What `engine_args` ask for themselves is left as it is.

    Args:
        spec: of the model.
        engine_args: of the run and the model.
        there: the GPUs, of memory 0 where that is not known.
    """
    if fit.asked_layout(engine_args) is not None:
        return {}
    stated = {gpus: args for gpus, args in sorted(spec.layouts.items()) if gpus <= len(there)}
    for gpus, args in stated.items():
        if gpus == gpus_wanted(args) and _holds(spec, engine_args, args, there[0]):
            return args if gpus > 1 else {}
    return {}


def _holds(spec: ModelSpec, engine_args: dict[str, Any], layout: Mapping[str, Any], gpu: Gpu) -> bool:
    """Whether GPUs hold a model in a layout; True where its size or theirs is not known here."""
    asked = fit.asked_layout(layout)
    if not gpu.memory or asked is None or checkpoint.find(spec) is None:
        return True
    try:
        return fit.place(read_footprint(spec, engine_args), gpu, asked).concurrency > 0
    except UserError:  # of a family that is not known
        return True


def gpu_problems(requests: Sequence[Request], there: int) -> Iterator[tuple[str, str]]:
    """(model, sentence) for each model whose layout needs more GPUs than there are.

    Args:
        requests: the models, with their arguments of the engine.
        there: GPUs. None at all is taken for a CPU, which counts as one.
    """
    for request in requests:
        wanted = gpus_wanted(request.engine_args)
        if wanted > max(there, 1):
            own = [kind for kind in ("layouts", "engine_args") if kind in request.spec.lines]
            where = request.spec.where(own[0]) if own else ""  # else the run's own arguments of its engine
            are = "is" if there == 1 else "are"
            yield (
                request.spec.name,
                f"{where}model {request.spec.name} asks for {wanted} GPUs, and there {are} {there}: lower "
                "tensor_parallel_size, pipeline_parallel_size or data_parallel_size, or plan for other GPUs "
                "with --gpus",
            )
