"""GPUs of several nodes that a launcher reserved for one engine: a placement group of Ray."""

import os
from typing import Any

PLACEMENT_GROUP = "HARNESS_PLACEMENT_GROUP"
"""Variable of the environment: the name of the group whose GPUs the engine takes."""
NAMESPACE = "harness"
"""Of Ray: a group is found by its name from other processes of the same namespace alone."""


def reserved_group() -> Any | None:
    """The placement group that was reserved for this process's engine, None where none was.

    It has a bundle for each GPU, and this node has the first.

    Raises:
        ValueError: there is no such group any more.
        ConnectionError: the cluster of `RAY_ADDRESS` does not answer.
    """
    name = os.environ.get(PLACEMENT_GROUP)
    if name is None:
        return None
    import ray

    # vLLM's core process connects by itself: forked, it would take this connection for its own.
    os.environ.setdefault("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")
    ray.init(address="auto", namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
    try:
        return ray.util.get_placement_group(name)
    finally:
        ray.shutdown()
