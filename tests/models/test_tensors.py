"""What is stored is not always a parameter."""

from typing import Any

import pytest

from harness.models.tensors import Tensor, count_tensors

EMBEDDING = Tensor("model.embed_tokens.weight", (100, 8), "BF16")
HEAD = Tensor("lm_head.weight", (100, 8), "BF16")


def total(*tensors: Tensor, **config: Any) -> int:
    return count_tensors(config, tensors).total


def test_a_tied_head_that_is_stored_is_counted_once() -> None:
    assert total(EMBEDDING, HEAD) == 1600
    assert total(EMBEDDING, HEAD, tie_word_embeddings=True) == 800
    assert count_tensors({"tie_word_embeddings": True}, [EMBEDDING, HEAD]).bytes == 3200


@pytest.mark.parametrize(
    "name",
    ["model.layers.2.mlp.up_proj.weight", "mtp.layers.0.mlp.up_proj.weight", "model.mtp_block.0.up.weight"],
)
def test_layers_for_multi_token_prediction_are_left_out(name: str) -> None:
    counted = count_tensors({"num_hidden_layers": 2}, [EMBEDDING, Tensor(name, (16, 8), "BF16")])
    assert (counted.total, counted.prediction) == (800, 128)


def test_towers_are_not_active_in_text_and_their_layers_are_their_own() -> None:
    tower = Tensor("vision_tower.encoder.layers.9.mlp.weight", (4, 4), "BF16")
    counted = count_tensors({"text_config": {"num_hidden_layers": 2}}, [EMBEDDING, tower])
    assert (counted.total, counted.active(0, 0)) == (816, 800)


@pytest.mark.parametrize(
    ("stored", "quantization"),
    [
        # blocks of 8-bit floats with scales, as DeepSeek V3 has them
        ([("up.weight", (128, 128), "F8_E4M3"), ("up.weight_scale_inv", (1, 1), "F32")], {}),
        # MXFP4, as gpt-oss has it: 32 values a block of 16 bytes
        ([("up_proj_blocks", (128, 4, 16), "U8"), ("up_proj_scales", (128, 4), "U8")], {}),
        # NVFP4, as NVIDIA's Model Optimizer writes it
        (
            [
                ("up.weight", (128, 64), "U8"), ("up.weight_scale", (128, 8), "F8_E4M3"),
                ("up.weight_scale_2", (), "F32"), ("up.input_scale", (), "F32"),
            ],
            {},
        ),
        # 4-bit integers of compressed-tensors, as Kimi K2 Thinking has them
        (
            [
                ("up.weight_packed", (128, 16), "I32"), ("up.weight_scale", (128, 4), "BF16"),
                ("up.weight_shape", (2,), "I32"),
            ],
            {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
        ),
        # GPTQ with 8 bits
        (
            [
                ("up.qweight", (32, 128), "I32"), ("up.qzeros", (1, 32), "I32"),
                ("up.scales", (1, 128), "F16"), ("up.g_idx", (128,), "I32"),
            ],
            {"bits": 8},
        ),
        # bitsandbytes
        (
            [
                ("up.weight", (128 * 64, 1), "U8"), ("up.weight.absmax", (256,), "U8"),
                ("up.weight.quant_state.bitsandbytes__nf4", (90,), "U8"),
            ],
            {},
        ),
    ],
)  # fmt: skip
def test_quantised_blocks_count_as_what_they_hold(stored: list[Any], quantization: dict[str, Any]) -> None:
    assert total(*(Tensor(*t) for t in stored), quantization_config=quantization) == 128 * 128


def test_packed_4_bit_floats_of_deepseek_v4() -> None:
    expert = Tensor("layers.0.ffn.experts.0.w1.weight", (64, 32), "I8")
    scale = Tensor("layers.0.ffn.experts.0.w1.scale", (64, 2), "F8_E8M0")
    assert total(expert, scale, expert_dtype="fp4", num_hidden_layers=1) == 64 * 64
    assert total(expert, num_hidden_layers=1) == 64 * 32


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.experts.3.up_proj.weight", "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.block_sparse_moe.input_linear.weight",
        "backbone.layers.0.mixer.experts.1.up_proj.weight",
    ],
)  # fmt: skip
def test_routed_experts_are_found_whatever_they_are_called(name: str) -> None:
    shared = Tensor("model.layers.0.mlp.shared_experts.up_proj.weight", (8, 8), "BF16")
    counted = count_tensors({}, [shared, Tensor(name, (16, 8), "BF16")])
    assert counted.routed == 128
    assert counted.active(8, 2) == 64 + 32


def test_bytes_are_those_stored() -> None:
    stored = [Tensor("a", (10,), "F32"), Tensor("b", (10,), "F8_E4M3"), Tensor("c", (10,), "F4")]
    assert count_tensors({}, stored).bytes == 40 + 10 + 5
