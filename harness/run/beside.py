"""Whether the next engine finds room where another one still computes, so that it may load meanwhile."""

from typing import Any

from harness.engines.vllm.start import CPU_KV_CACHE_BYTES
from harness.memory import free_bytes
from harness.models.fit import UTILIZATION
from harness.run.jobs import Job
from harness.run.read_ahead import SHARE, weights

BOTH = 0.95
"""Of the memory of a GPU, which two engines may take together: each has some beside what it is given."""

PROCESS_BYTES = 3 << 30
"""That an engine on the CPU takes beside its weights and its cache."""


def fits_beside(job: Job, other: Job, *, on_gpus: bool) -> bool:
    """Whether an engine has room beside that of another job; False where that is not known.

    On GPUs each takes the share that `gpu_memory_utilization` says, whatever its model is. On the CPU an
    engine may take half of the memory that is free: the rest is for what runs.

    Args:
        job: whose engine is to start.
        other: whose engine runs.
        on_gpus: whether they run on the same GPUs.
    """
    if job.config.engine.kind != "vllm":
        return False
    if on_gpus:
        return (
            sum(float(_args(one).get("gpu_memory_utilization", UTILIZATION)) for one in (job, other)) <= BOTH
        )
    cache = _args(job).get("kv_cache_memory_bytes", CPU_KV_CACHE_BYTES)
    files = weights(job)
    taken = sum(file.stat().st_size for file in files) + int(cache) + PROCESS_BYTES
    return bool(files) and taken <= SHARE * free_bytes()


def _args(job: Job) -> dict[str, Any]:
    return {**job.config.engine.args, **job.models[0].spec.engine_args}
