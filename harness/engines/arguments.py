"""Which arguments and facts of an engine say where and how fast it runs, and which what it computes."""

from collections.abc import Mapping
from typing import Any

LAYOUT = frozenset(
    (
        # vLLM: devices, memory, batches
        "all2all_backend", "api_server_count", "block_size", "cpu_offload_gb", "data_parallel_address",
        "data_parallel_backend", "data_parallel_rank", "data_parallel_rpc_port", "data_parallel_size",
        "data_parallel_size_local", "device", "disable_log_stats", "distributed_executor_backend",
        "download_dir", "enable_chunked_prefill", "enable_eplb", "enable_expert_parallel",
        "enable_prefix_caching", "gpu_memory_utilization", "kv_cache_memory_bytes",
        "max_num_batched_tokens", "max_num_partial_prefills", "max_num_seqs",
        "max_parallel_loading_workers", "num_gpu_blocks_override", "pipeline_parallel_size", "swap_space",
        "tensor_parallel_size",
        # an endpoint: how its server is asked
        "api_key_env", "max_retries", "patience_seconds", "timeout_seconds",
    )
)  # fmt: skip
"""What is none of these may change a score: dtype, quantisation, context length, and whatever is not known.
Of an endpoint `base_url` too, since nothing else tells the weights behind it."""


def without_layout(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments or facts of an engine that may change a score."""
    return {name: value for name, value in given.items() if name not in LAYOUT}
