"""Counting from config values agrees with what developers state; caches are what their papers say."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.errors import UserError
from harness.models.layers import Layer, count_parameters, layers
from harness.types import Struct


class Released(Struct):
    """One released checkpoint, as released.yaml describes it."""

    id: str
    source: str
    total: float
    active: float
    with_embedding: bool
    config: dict[str, Any]
    rounded: bool = False


RELEASED = msgspec.yaml.decode((Path(__file__).parent / "released.yaml").read_text(), type=list[Released])
EXACT = [released for released in RELEASED if not released.rounded]
ROUNDED = [released for released in RELEASED if released.rounded]
BY_ID = {released.id: released for released in RELEASED}


def counted(released: Released) -> tuple[float, float]:
    found = count_parameters(released.config)
    active = found.active if released.with_embedding else found.active - found.embedding
    return found.total / 1e9, active / 1e9


@pytest.mark.parametrize("released", EXACT, ids=lambda r: r.id)
def test_stated_sizes_are_counted_within_one_percent(released: Released) -> None:
    total, active = counted(released)
    assert total == pytest.approx(released.total, rel=0.01)
    assert active == pytest.approx(released.active, rel=0.01)


@pytest.mark.parametrize("released", ROUNDED, ids=lambda r: r.id)
def test_roughly_stated_sizes_are_counted_within_their_rounding(released: Released) -> None:
    total, active = counted(released)
    assert total == pytest.approx(released.total, rel=0.03)
    assert round(active) == released.active


def test_enough_families_are_compared() -> None:
    assert len(EXACT) >= 10
    assert len({released.config["model_type"] for released in EXACT}) >= 7


def cached(id_: str) -> list[Layer]:
    return [layer for layer in layers(BY_ID[id_].config) if layer.cache_elements or layer.state_bytes]


def test_grouped_query_attention_caches_keys_and_values_of_its_key_value_heads() -> None:
    llama = cached("meta-llama/Meta-Llama-3.1-8B")
    assert len(llama) == 32
    assert {(layer.cache_elements, layer.kv_heads) for layer in llama} == {(2 * 8 * 128, 8)}


def test_latent_attention_caches_one_latent_and_one_rotary_key() -> None:
    deepseek = cached("deepseek-ai/DeepSeek-V3")
    assert {(layer.cache_elements, layer.kv_heads) for layer in deepseek} == {(512 + 64, 1)}
    assert sum(layer.cache_elements for layer in deepseek) * 2 == 70_272  # 70 KB a token, arXiv 2505.09343


def test_the_indexer_of_sparse_attention_has_a_cache_of_its_own() -> None:
    sparse = BY_ID["deepseek-ai/DeepSeek-V3"].config | {
        "model_type": "deepseek_v32", "index_n_heads": 64, "index_head_dim": 128
    }  # fmt: skip
    assert {layer.cache_bytes for layer in layers(sparse)} == {128 + 4}
    shared = sparse | {"indexer_types": ["full"] + ["shared"] * 60}
    assert [layer.cache_bytes for layer in layers(shared)].count(132) == 1


def test_compressed_attention_caches_an_entry_for_several_tokens() -> None:
    flash = cached("deepseek-ai/DeepSeek-V4-Flash")
    assert [layer.window for layer in flash[:4]] == [128, 128, None, None]
    assert [layer.cache_elements for layer in flash[:4]] == [512, 512, 512 // 4, 512 // 128]
    assert [layer.cache_bytes for layer in flash[:4]] == [0, 0, 33, 0]


def test_sliding_windows_bound_the_cache() -> None:
    alternating = BY_ID["openai/gpt-oss-20b"].config | {
        "layer_types": ["sliding_attention", "full_attention"] * 12
    }
    assert [layer.window for layer in layers(alternating)] == [128, None] * 12


def test_hybrid_models_cache_only_in_attention_and_keep_a_state_elsewhere() -> None:
    nemotron = cached("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
    assert sum(bool(layer.cache_elements) for layer in nemotron) == 6
    assert sum(bool(layer.state_bytes) for layer in nemotron) == 23
    # convolution over 4096 + 2 x 8 x 128 channels in 16 bits, and 64 x 64 x 128 numbers in 32
    assert {layer.state_bytes for layer in nemotron} == {0, 6144 * 3 * 2 + 64 * 64 * 128 * 4}


def test_gated_delta_net_beside_full_attention() -> None:
    hybrid = {
        "model_type": "qwen3_next", "hidden_size": 64, "num_hidden_layers": 4, "full_attention_interval": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 128,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "vocab_size": 100,
        "tie_word_embeddings": True,
    }  # fmt: skip
    found = list(layers(hybrid))
    assert [layer.cache_elements for layer in found] == [0, 0, 0, 2 * 32]
    channels = 2 * 32 + 64
    assert found[0].state_bytes == channels * 3 * 2 + 4 * 16 * 16 * 2
    # the queries of full attention are doubled by their output gate
    assert found[3].params - 3 * 64 * 128 - 2 * 64 == 64 * (2 * 64 + 2 * 32) + 64 * 64


def test_widths_that_differ_by_layer() -> None:
    puzzle = {
        "model_type": "nemotron-nas", "hidden_size": 512, "num_attention_heads": 8, "vocab_size": 100,
        "block_configs": [
            {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 1.5}},
            {"attention": {"no_op": True}, "ffn": {"no_op": True}},
            {"attention": {"replace_with_linear": True, "n_heads_in_group": None}, "ffn": {"ffn_mult": 0.5}},
        ],
    }  # fmt: skip
    first, second, third = layers(puzzle)
    assert (first.kv_heads, first.cache_elements) == (2, 2 * 2 * 64)
    assert first.params == 512 * (512 + 256) + 512 * 512 + 3 * 512 * 512 + 2 * 512
    assert second.params == 2 * 512
    assert third.params == 512 * 512 + 3 * 512 * 256 + 2 * 512


def test_chunked_attention_of_llama_4() -> None:
    maverick = BY_ID["meta-llama/Llama-4-Maverick-17B-128E-Instruct"].config
    windows = [layer.window for layer in layers(maverick)]
    assert windows[:4] == [8192, 8192, 8192, None]
    assert sum(bool(layer.routed) for layer in layers(maverick)) == 24


def test_tied_embeddings_count_once_and_wrapped_configs_are_opened() -> None:
    small = BY_ID["Qwen/Qwen3-0.6B"].config
    untied = count_parameters(small | {"tie_word_embeddings": False})
    assert untied.total - count_parameters(small).total == untied.embedding
    assert count_parameters({"text_config": small}) == count_parameters(small)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(UserError, match=r"model_type 'rwkv7': its layers cannot be told .* qwen3_moe"):
        count_parameters({"model_type": "rwkv7"})
