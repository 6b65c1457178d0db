"""Does a model fit on some GPUs: the smallest parallel layout, what takes the memory, how fast it might be.

Pure arithmetic on what config.json and the tensor headers say. What is assumed has a name in capitals here.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError
from harness.models import cache
from harness.models.layers import Layer, count_parameters, experts, layers, text_config
from harness.models.tensors import quantization_config

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    name: str
    memory: float
    """GiB that CUDA reports, which is less than what is advertised in GB."""
    bandwidth: float
    """Of its memory, GB/s."""
    tflops: float
    """Of dense bfloat16 arithmetic."""
    source: str


TABLE = "https://llmbook.apartsin.com/appendices/appendix-g-hardware-compute/section-g.1.html"
GPUS = {
    gpu.name.lower(): gpu
    for gpu in (
        Gpu("L4", 22.0, 300, 121, "https://www.nvidia.com/en-us/data-center/l4/"),
        Gpu("L40S", 44.4, 864, 362, TABLE),
        Gpu("A100-40GB", 39.4, 1555, 312, "https://www.nvidia.com/en-us/data-center/a100/"),
        Gpu("A100-80GB", 79.1, 2000, 312, TABLE),
        Gpu("H100", 79.1, 3350, 990, TABLE),
        Gpu("H200", 139.8, 4800, 990, TABLE),
        Gpu("B200", 178.3, 8000, 2250, TABLE),
    )
}
"""Bandwidth and arithmetic by the source; memory as CUDA's own reports of it give it."""

UTILIZATION = 0.92
"""Share of the memory that vLLM uses, by the default of 0.32."""
NODE = 8
"""GPUs that are joined closely enough for tensor parallelism."""
BATCHED_TOKENS = 8192
"""Tokens of one step of a profiling run, which decides the activation memory."""
SEQUENCES = 256
"""Sequences of one step."""
LIVE_BUFFERS = 4
"""Tensors of the hidden width that are alive at once."""
OVERHEAD = 1.5 * GIB
"""Of the CUDA context, communication buffers and captured graphs on each GPU."""
BANDWIDTH_SHARE = 0.6
"""Of a GPU's bandwidth that decoding reaches."""
TFLOPS_SHARE = 0.4
"""Of a GPU's arithmetic that prefill reaches."""
FP8_BLOCK = 128
"""Width of the blocks of 8-bit checkpoints, which tensor parallelism must not cut."""


@dataclass(frozen=True)
class Footprint:
    """What takes memory and time in a model."""

    name: str
    weight_bytes: int
    embedding_bytes: int
    """Part of the weights that quantisation leaves alone."""
    active_params: int
    routed_share: float
    """Part of the weights that is in routed experts."""
    expert_share: float
    """Part of the routed experts that one token passes through; 1 for a dense model."""
    layers: tuple[Layer, ...]
    heads: int
    hidden: int
    width: int
    """Of the widest feed-forward that is not in a routed expert."""
    expert_width: int
    vocabulary: int
    context: int
    quantized: str | None
    """Method by which the checkpoint is quantised."""
    element_bytes: int = 2
    """Of a cached number."""


@dataclass(frozen=True)
class Layout:
    """How a model lies on GPUs."""

    tensor_parallel_size: int
    pipeline_parallel_size: int = 1
    enable_expert_parallel: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of one copy of the model."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def __str__(self) -> str:
        """As people write it: TP8, TP8 PP2, TP8 EP."""
        parts = [f"TP{self.tensor_parallel_size}"]
        parts += [f"PP{self.pipeline_parallel_size}"] * (self.pipeline_parallel_size > 1)
        return " ".join(parts + ["EP"] * self.enable_expert_parallel)

    def arguments(self) -> str:
        """As the engine arguments that ask for it."""
        stated = {key: value for key, value in dataclasses.asdict(self).items() if value != ALONE[key]}
        return ", ".join(f"{key}: {str(value).lower()}" for key, value in stated.items())


ALONE = {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "enable_expert_parallel": False}
"""The layout of a model on one GPU, which is that of an engine that is not told another."""


def asked_layout(engine_args: Mapping[str, Any]) -> Layout | None:
    """The layout that vLLM's arguments ask for, None if they ask for none."""
    stated = {key: engine_args[key] for key in ALONE if engine_args.get(key)}
    return Layout(**(ALONE | stated)) if stated else None


@dataclass(frozen=True)
class Fit:
    """A model on GPUs. Bytes are of one GPU, the fullest."""

    layout: Layout
    quantization: str
    """`as stored`, or what vLLM quantises it to while loading."""
    weights: float
    activation: float
    """With the overhead of the runtime."""
    cache: float
    """Left for keys and values."""
    margin: float
    """Left alone."""
    concurrency: int
    """Sequences of the whole context length whose cache fits at once."""


def footprint(
    name: str,
    config: Mapping[str, Any],
    weight_bytes: int,
    *,
    context: int | None = None,
    cache_dtype: str = "auto",
) -> Footprint:
    """What a model needs, by its config.

    Args:
        name: of the model.
        config: of its config.json.
        weight_bytes: stored, as the tensor headers say.
        context: tokens of the longest sequence; by default what the model can take.
        cache_dtype: type of the cache, as vLLM names it.

    Raises:
        UserError: the layers of its family are not known.
    """
    text = text_config(config)
    known = tuple(layers(config))
    counted = count_parameters(config)
    count, chosen = experts(text)
    routed = sum(layer.routed for layer in known)
    tables = 1 if text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)) else 2
    expert = text.get("moe_intermediate_size") or text.get("intermediate_size") or 0
    return Footprint(
        name=name,
        weight_bytes=weight_bytes,
        embedding_bytes=2 * counted.embedding * tables,
        active_params=counted.active,
        routed_share=routed / counted.total,
        expert_share=chosen / count if routed else 1.0,
        layers=known,
        heads=text["num_attention_heads"],
        hidden=text["hidden_size"],
        width=text.get("intermediate_size") or expert,
        expert_width=expert if routed else 0,
        vocabulary=text["vocab_size"],
        context=context or text.get("max_position_embeddings") or 4096,
        quantized=quantization_config(config).get("quant_method"),
        element_bytes=cache.ELEMENT_BYTES.get(cache_dtype, 2),
    )


def parse_gpus(text: str) -> tuple[int, Gpu]:
    """`8xH200` as (8, the GPU); a GPU that is not in the table is given with its GiB, as `4xOther:96`.

    Raises:
        UserError: it is not of that form, or the GPU is not known.
    """
    match = re.fullmatch(r"(?:(\d+)\s*[xX*]\s*)?([\w-]+)(?::(\d+(?:\.\d+)?))?", text.strip())
    count = int(match[1] or 1) if match else 0
    if not match or count < 1:
        raise UserError(f"--gpus {text!r}: expected a number and a GPU, such as 8xH200")
    if match[3]:
        return count, Gpu(match[2], float(match[3]), 0, 0, "as given")
    gpu = GPUS.get(match[2].lower()) or GPUS.get(f"{match[2].lower()}-80gb")
    if gpu is None:
        known = ", ".join(g.name for g in GPUS.values())
        raise UserError(
            f"--gpus {text!r}: {match[2]} is not in the table ({known}): give its GiB, "
            f"as {count}x{match[2]}:96"
        )
    return count, gpu


def smallest_fit(model: Footprint, gpu: Gpu, count: int, utilization: float = UTILIZATION) -> Fit | None:
    """The fewest GPUs that hold the model and one sequence of the whole context, None if they do not.

    The checkpoint is taken as it is stored; only where that fits on no number of these GPUs, and it is not
    quantised already, it is quantised to 8 bits, which can move scores.
    """
    for quantization in ("as stored", "fp8"):
        if quantization == "fp8" and model.quantized:
            break
        for layout in layouts(model, count):
            fit = place(model, gpu, layout, quantization, utilization)
            if fit.concurrency >= 1:
                return fit
    return None


def layouts(model: Footprint, count: int) -> Iterator[Layout]:
    """Layouts on at most `count` GPUs, fewest GPUs first, tensor before pipeline parallelism."""
    sizes = [n for n in itertools.takewhile(lambda n: n <= count, (2**i for i in range(12)))]
    for gpus in sizes:
        for tensor in reversed([n for n in sizes if n <= min(gpus, NODE)]):
            pipeline = gpus // tensor
            if model.heads % tensor == 0 and pipeline <= len(model.layers):
                yield Layout(tensor, pipeline, _cuts_blocks(model, tensor))


def _cuts_blocks(model: Footprint, tensor: int) -> bool:
    """Whether splitting every expert would cut its 8-bit blocks, so that whole experts are spread instead."""
    return (
        model.quantized == "fp8"
        and bool(model.expert_width)
        and model.expert_width % (tensor * FP8_BLOCK) > 0
    )


def place(
    model: Footprint,
    gpu: Gpu,
    layout: Layout,
    quantization: str = "as stored",
    utilization: float = UTILIZATION,
) -> Fit:
    """A model on GPUs by a layout, whether it fits or not (then the concurrency is 0)."""
    tensor, stages = layout.tensor_parallel_size, layout.pipeline_parallel_size
    per_stage = -(-len(model.layers) // stages)
    weights = _weight_bytes(model, quantization) * per_stage / len(model.layers) / tensor
    activation = _activation_bytes(model, tensor)
    total = gpu.memory * GIB
    left = total * utilization - weights - activation
    sequence = max(
        cache.sequence_bytes(model.layers[i : i + per_stage], model.context, model.element_bytes, tensor)
        for i in range(0, len(model.layers), per_stage)
    )
    return Fit(
        layout=layout,
        quantization=quantization,
        weights=weights,
        activation=activation,
        cache=left,
        margin=total * (1 - utilization),
        concurrency=max(0, int(left // sequence)) if sequence else int(left > 0),
    )


def _weight_bytes(model: Footprint, quantization: str) -> float:
    if quantization == "as stored":
        return model.weight_bytes
    return model.embedding_bytes + max(0, model.weight_bytes - model.embedding_bytes) / 2


def _activation_bytes(model: Footprint, tensor: int) -> float:
    width = LIVE_BUFFERS * model.hidden + 2 * -(-model.width // tensor)
    return BATCHED_TOKENS * 2 * width + SEQUENCES * 4 * 2 * model.vocabulary / tensor + OVERHEAD


def what_would(model: Footprint, gpu: Gpu, count: int) -> str:
    """What a model that does not fit would need, in words."""
    ways = []
    for kind in dict.fromkeys((gpu, *GPUS.values())):
        fit = smallest_fit(model, kind, 64)
        if fit and (kind is gpu or (fit.layout.gpus <= NODE and kind.memory > gpu.memory)):
            ways.append(f"{fit.layout.gpus}x{kind.name}{_note(fit)}")
    for tokens in (1 << power for power in range(20, 9, -1)):
        fit = smallest_fit(dataclasses.replace(model, context=tokens), gpu, count)
        if tokens < model.context and fit:
            ways.append(f"max_model_len={tokens}{_note(fit)}")
            break
    return " or ".join(ways) or "more than 64 of any GPU in the table"


def _note(fit: Fit) -> str:
    return "" if fit.quantization == "as stored" else f" quantised to {fit.quantization}"


@dataclass(frozen=True)
class Work:
    """Attempts of one model on one suite."""

    attempts: int
    prompt_tokens: int
    completion_tokens: int


def assumed_seconds(model: Footprint, gpu: Gpu, fit: Fit, work: Work) -> float:
    """Wall seconds of some attempts, if memory bandwidth bounds decoding and arithmetic bounds prefill.

    A roofline (Williams et al., 2009) with the shares named at the head of this file; not a measurement.
    """
    gpus = fit.layout.gpus
    length = min(work.prompt_tokens + work.completion_tokens, model.context)
    sequence = max(1, cache.sequence_bytes(model.layers, length, model.element_bytes))
    batch = max(1, min(SEQUENCES, work.attempts, int(fit.cache * gpus // sequence)))
    touched = 1 - (1 - model.expert_share) ** batch
    weights = _weight_bytes(model, fit.quantization) * (1 - model.routed_share * (1 - touched))
    flops = gpus * gpu.tflops * 1e12 * TFLOPS_SHARE
    step = max(
        (weights + batch * sequence) / (gpus * gpu.bandwidth * 1e9 * BANDWIDTH_SHARE),
        2 * model.active_params * batch / flops,
    )
    prefill = work.attempts * work.prompt_tokens * 2 * model.active_params / flops
    return prefill + work.attempts * work.completion_tokens / batch * step


@dataclass(frozen=True)
class Job:
    """A model to run, once it is known what it takes."""

    name: str
    gpus: int
    seconds: float


@dataclass(frozen=True)
class Slot:
    """A job on GPUs."""

    job: Job
    start: float
    gpus: tuple[int, ...]


def pack(jobs: Sequence[Job], count: int) -> list[Slot]:
    """Put jobs on GPUs: whenever some are free, the longest job that finds room, and of those the widest.

    List scheduling of rigid jobs (Garey and Graham, 1975). None may be wider than there are GPUs.
    """
    owed = sorted(jobs, key=lambda j: (-j.seconds, -j.gpus, j.name))
    free, now = list(range(count)), 0.0
    slots: list[Slot] = []
    running: list[Slot] = []
    while owed:
        for job in [*owed]:
            if job.gpus <= len(free):
                owed.remove(job)
                running.append(Slot(job, now, tuple(sorted(free[: job.gpus]))))
                del free[: job.gpus]
                slots.append(running[-1])
        ended = min(running, key=lambda slot: slot.start + slot.job.seconds)
        running.remove(ended)
        now = ended.start + ended.job.seconds
        free += ended.gpus
    return slots


def makespan(slots: Sequence[Slot]) -> float:
    """Seconds until the last job ends."""
    return max((slot.start + slot.job.seconds for slot in slots), default=0.0)


def lower_bound(jobs: Sequence[Job], count: int) -> float:
    """Seconds that no schedule can beat: all GPUs always busy, or the longest job alone."""
    area = sum(job.gpus * job.seconds for job in jobs) / count
    return max([area, *(job.seconds for job in jobs)], default=0.0)
