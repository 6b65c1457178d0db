"""Layouts agree with what developers recommend; schedules are near what no schedule can beat."""

import itertools
import random
from typing import Any

import pytest

from harness.errors import UserError
from harness.models import cache, fit
from harness.models.fit import GIB, GPUS, Footprint, Job, Layout, Work, footprint, parse_gpus, smallest_fit
from harness.models.layers import Layer
from tests.models.test_layers import BY_ID

FP8 = {"quantization_config": {"quant_method": "fp8"}}
H100, H200 = GPUS["h100"], GPUS["h200"]


def model(id_: str, gigabytes: float, context: int = 32768, **config: Any) -> Footprint:
    return footprint(id_, BY_ID[id_].config | config, int(gigabytes * 1e9), context=context)


DEEPSEEK = model("deepseek-ai/DeepSeek-V3", 688, **FP8)
LLAMA_8B = model("meta-llama/Meta-Llama-3.1-8B", 16.1)
LLAMA_405B = model("meta-llama/Meta-Llama-3.1-405B", 812)
QWEN = model("Qwen/Qwen3-235B-A22B", 470)
GPT_OSS = model("openai/gpt-oss-120b", 65.3, quantization_config={"quant_method": "mxfp4"})


@pytest.mark.parametrize(
    ("what", "gpus", "layout", "quantization"),
    [
        (DEEPSEEK, "8xH200", "TP8", "as stored"),  # as its recipe for vLLM says
        (GPT_OSS, "1xH100", "TP1", "as stored"),  # as its developer says
        (QWEN, "8xH200", "TP4", "as stored"),  # as its recipe for vLLM says
        (LLAMA_8B, "8xH100", "TP1", "as stored"),
        (LLAMA_8B, "1xL4", "TP1", "fp8"),
        (LLAMA_405B, "8xH100", "TP8", "fp8"),
        (LLAMA_405B, "16xH100", "TP8 PP2", "as stored"),
    ],
)
def test_smallest_layouts(what: Footprint, gpus: str, layout: str, quantization: str) -> None:
    count, gpu = parse_gpus(gpus)
    found = smallest_fit(what, gpu, count)
    assert found is not None
    assert (str(found.layout), found.quantization) == (layout, quantization)
    assert found.concurrency >= 1
    whole = found.weights + found.activation + found.cache + found.margin
    assert whole == pytest.approx(gpu.memory * GIB)


def test_what_does_not_fit_says_what_would() -> None:
    assert smallest_fit(DEEPSEEK, H100, 8) is None
    said = fit.what_would(DEEPSEEK, H100, 8)
    assert said.startswith("16xH100 or 8xH200")
    narrow = model("meta-llama/Meta-Llama-3.1-8B", 16.1, context=131072, **FP8)
    assert smallest_fit(narrow, GPUS["l4"], 1) is None
    assert "max_model_len=16384" in fit.what_would(narrow, GPUS["l4"], 1)


def test_a_quantised_checkpoint_is_not_quantised_again() -> None:
    assert smallest_fit(model("Qwen/Qwen3-32B", 65.5, 8192, **FP8), GPUS["l40s"], 1) is None
    plain = smallest_fit(model("Qwen/Qwen3-32B", 65.5, 8192), GPUS["l40s"], 1)
    assert plain is not None
    assert plain.quantization == "fp8"


def test_heads_bound_tensor_parallelism_and_nodes_do_too() -> None:
    odd = model("Qwen/Qwen3-32B", 65.5, num_attention_heads=28)
    assert [str(layout) for layout in fit.layouts(odd, 8)] == [
        "TP1", "TP2", "TP1 PP2", "TP4", "TP2 PP2", "TP1 PP4", "TP4 PP2", "TP2 PP4", "TP1 PP8"
    ]  # fmt: skip
    assert max(layout.tensor_parallel_size for layout in fit.layouts(QWEN, 64)) == fit.NODE


def test_experts_are_spread_whole_where_splitting_would_cut_their_blocks() -> None:
    quantized = model("Qwen/Qwen3-235B-A22B", 237, **FP8)
    assert [str(layout) for layout in fit.layouts(quantized, 8) if layout.pipeline_parallel_size == 1] == [
        "TP1", "TP2", "TP4", "TP8 EP"
    ]  # fmt: skip


def test_caches_split_by_heads_and_stop_at_windows() -> None:
    grouped = [Layer(cache_elements=2048, kv_heads=8)] * 2
    assert cache.sequence_bytes(grouped, 100) == 2 * 100 * 4096
    assert cache.sequence_bytes(grouped, 100, tensor_parallel=4) == 2 * 100 * 1024
    assert cache.sequence_bytes(grouped, 100, tensor_parallel=16) == 2 * 100 * 512
    assert cache.sequence_bytes(grouped, 100, element_bytes=1) == 2 * 100 * 2048
    latent = [Layer(cache_elements=576)]
    assert cache.sequence_bytes(latent, 100, tensor_parallel=8) == cache.sequence_bytes(latent, 100)
    window = [Layer(cache_elements=10, window=64)]
    assert cache.sequence_bytes(window, 1000) == cache.sequence_bytes(window, 64)
    state = [Layer(state_bytes=999)]
    assert cache.sequence_bytes(state, 10) == cache.sequence_bytes(state, 10**6) == 999
    assert (cache.bytes_per_token(grouped), cache.state_bytes(state)) == (8192, 999)


def test_more_memory_never_fits_less() -> None:
    for what in (DEEPSEEK, LLAMA_8B, LLAMA_405B, QWEN, GPT_OSS):
        sizes = []
        for gpu in (GPUS["a100-80gb"], H200, GPUS["b200"]):
            found = smallest_fit(what, gpu, 64)
            assert found is not None
            sizes.append(found.layout.gpus)
        assert sizes == sorted(sizes, reverse=True)


def test_time_grows_with_work_and_shrinks_with_speed() -> None:
    found = {gpu.name: smallest_fit(LLAMA_8B, gpu, 1) for gpu in (GPUS["a100-80gb"], H100, H200)}
    seconds = [
        fit.assumed_seconds(LLAMA_8B, GPUS[name.lower()], place, Work(1000, 1000, 512))
        for name, place in found.items()
        if place
    ]
    assert len(seconds) == 3
    assert seconds == sorted(seconds, reverse=True)
    place = fit.place(LLAMA_8B, H100, Layout(1))
    once, twice = (fit.assumed_seconds(LLAMA_8B, H100, place, Work(n, 1000, 512)) for n in (4096, 8192))
    assert twice == pytest.approx(2 * once)


@pytest.mark.parametrize(
    ("text", "count", "name", "memory"),
    [("8xH200", 8, "H200", 139.8), ("h100", 1, "H100", 79.1), ("4 x A100", 4, "A100-80GB", 79.1),
     ("2xRTX6000:95.5", 2, "RTX6000", 95.5)],
)  # fmt: skip
def test_gpus_are_read(text: str, count: int, name: str, memory: float) -> None:
    found, gpu = parse_gpus(text)
    assert (found, gpu.name, gpu.memory) == (count, name, memory)


@pytest.mark.parametrize(
    ("text", "says"),
    [("8xTPU", r"not in the table \(L4, .*as 8xTPU:96"), ("", "such as 8xH200"), ("0xH100", "such as 8xH200"),
     ("8 H100", "such as 8xH200")],
)  # fmt: skip
def test_bad_gpus(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_gpus(text)


def test_schedules_are_sound_and_near_the_bound() -> None:
    random.seed(0)
    worst = 1.0
    for _ in range(200):
        jobs = [
            Job(str(i), random.choice([1, 1, 2, 4, 8]), random.uniform(10, 1000))
            for i in range(random.randrange(1, 30))
        ]
        slots = fit.pack(jobs, 8)
        assert sorted(slot.job.name for slot in slots) == sorted(job.name for job in jobs)
        for a, b in itertools.combinations(slots, 2):
            apart = a.start + a.job.seconds <= b.start + 1e-6 or b.start + b.job.seconds <= a.start + 1e-6
            assert apart or not set(a.gpus) & set(b.gpus)
        assert all(len(slot.gpus) == slot.job.gpus for slot in slots)
        worst = max(worst, fit.makespan(slots) / fit.lower_bound(jobs, 8))
    assert worst < 2  # what list scheduling guarantees


def test_an_easy_schedule_is_the_best_one() -> None:
    jobs = [Job("a", 8, 10), Job("b", 4, 5), Job("c", 4, 5), Job("d", 2, 2)]
    slots = fit.pack(jobs, 8)
    assert fit.makespan(slots) == 17
    assert fit.lower_bound(jobs, 8) == pytest.approx(15.5)
    assert (fit.pack([], 8), fit.makespan([]), fit.lower_bound([], 8)) == ([], 0.0, 0.0)
