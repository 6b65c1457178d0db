"""Energy that an engine's GPUs take, from the counters that NVIDIA's driver keeps (NVML)."""

from collections.abc import Callable
from typing import Any

from harness.types import EngineFacts

Meter = Callable[[], float | None]
"""Joules since some moment, None where the counter cannot be read any more."""


def open_meter(facts: EngineFacts) -> Meter | None:
    """The counters of the GPUs that an engine in this process runs on, added up.

    A counter is of a whole board, whatever else runs on it; nothing is said of the rest of the machine.

    Args:
        facts: of the engine.

    Returns:
        None where there is nothing to be read: no GPU, one older than Volta, a part of one (MIG), one of
        another machine, or an engine that does not say where it runs.
    """
    if facts.name != "vllm" or not facts.gpus:
        return None
    try:
        # vLLM's own copy: what else is called pynvml may be another package.
        from vllm.third_party import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        boards = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in _boards(facts.gpus)]
        if any(_divided(pynvml, board) for board in boards):
            return None
    except (pynvml.NVMLError, AttributeError, IndexError, ValueError):  # vLLM promises none of these names
        return None

    def read() -> float | None:
        try:
            return float(sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, boards)) / 1000)
        except pynvml.NVMLError:
            return None

    return read if read() is not None else None


def _boards(gpus: int) -> list[int]:
    """NVML's numbers of the first GPUs that this process may use."""
    from vllm.platforms import current_platform

    return [int(current_platform.device_id_to_physical_device_id(i)) for i in range(gpus)]


def _divided(pynvml: Any, board: Any) -> bool:
    """Whether a board is divided between users (MIG)."""
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(board)[0])
    except pynvml.NVMLError:  # boards that cannot be divided have no such mode
        return False
