"""Random-weight checkpoints of the architecture classes in the registry, under a million parameters each.

`architectures` and `model_type` are those of the released checkpoints, so that vLLM takes the same way
through its code; only the sizes are small.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import Version

from harness.config import ModelSpec, load_model
from tests.models.formats import FORMATS, Format

VOCABULARY = 2048
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048,
    "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
HEADS = {"head_dim": 32}
EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
SHARED = {**EXPERTS, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1,
          "n_group": 1, "topk_group": 1}  # fmt: skip
# vLLM's kernel for a CPU is compiled for this latent and this rotary width alone
LATENT = {"num_key_value_heads": 2, "q_lora_rank": 64, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
          "qk_nope_head_dim": 64, "v_head_dim": 64}  # fmt: skip
# and that of gated delta nets for heads of 64 or 128
DELTA = {"linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 64,
         "linear_value_head_dim": 64, "head_dim": 128,
         "layer_types": ["linear_attention", "full_attention"]}  # fmt: skip
MAMBA = {"mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 32, "n_groups": 1, "chunk_size": 32,
         "layers_block_type": None}  # fmt: skip
ROUTING = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1,
           "num_nextn_predict_layers": 0}  # fmt: skip
YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 512, "beta_fast": 32,
        "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}  # fmt: skip


VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 14}  # fmt: skip
ROPE_QWEN = {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25,
             "mrope_interleaved": True, "mrope_section": [6, 5, 5]}  # fmt: skip
CONFIGURATION_DECILM = """
from transformers import LlamaConfig


class Block(dict):
    def __init__(self, values):
        super().__init__({k: Block(v) if isinstance(v, dict) else v for k, v in values.items()})

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class DeciLMConfig(LlamaConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=(), **more):
        self.block_configs = [Block(block) for block in block_configs]
        super().__init__(**more)
        self.num_key_value_heads = None
"""


MISTRAL_PARAMS = {
    "dim": 64, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "hidden_dim": 128, "norm_eps": 1e-6,
    "vocab_size": VOCABULARY, "rope_theta": 10000.0, "max_position_embeddings": 2048, "head_dim": 128,
    "tied_embeddings": False, **LATENT,
    "llama_4_scaling": {"original_max_position_embeddings": 8192, "beta": 0.1},
    "yarn": {"original_max_position_embeddings": 8192, "factor": 16, "apply_scale": False, "beta": 32,
             "alpha": 1},
    "moe": {"expert_parallel": 1, "expert_model_parallel": 1, "route_every_n": 1, "first_k_dense_replace": 1,
            "num_experts": 8, "num_experts_per_tok": 2, "num_expert_groups": 1,
            "num_expert_groups_per_tok": 1, "routed_scale": 1.0, "expert_hidden_dim": 32,
            "num_shared_experts": 1},
}  # fmt: skip
MISTRAL_TOKENS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                  "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
                  "[ARGS]", "[CALL_ID]", "<pad>", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
                  "[SUFFIX]", "[THINK]", "[/THINK]", "[TOOL_CONTENT]")  # fmt: skip
MISTRAL_NAMES = {
    "model.embed_tokens": "tok_embeddings", "lm_head": "output", "model.": "",
    "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm", "q_a_proj": "wq_a",
    "q_b_proj": "wq_b", "q_a_layernorm": "q_a_norm", "kv_a_proj_with_mqa": "wkv_a_with_mqa",
    "kv_a_layernorm": "kv_a_norm", "kv_b_proj": "wkv_b", "o_proj": "wo", "self_attn": "attention",
    "gate_proj": "w1", "down_proj": "w2", "up_proj": "w3", "mlp.shared_experts": "shared_experts",
    "mlp.experts": "experts", "mlp.gate.weight": "gate.weight", "mlp": "feed_forward",
}  # fmt: skip


def _mistral_large_3(tensor: str) -> str | None:
    for old, new in MISTRAL_NAMES.items():
        tensor = tensor.replace(old, new)
    return None if "e_score" in tensor else tensor


def write_mistral_files(folder: Path) -> None:
    """The files that Mistral's own format has: parameters, weights, and a tokenizer of bytes."""
    import mistral_common

    (folder / "params.json").write_text(json.dumps(MISTRAL_PARAMS))
    if (folder / "model.safetensors").is_file():
        (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    shipped = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    tekken = json.loads(shipped.read_text(encoding="utf8"))
    size, special = (
        1000,
        [{"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(MISTRAL_TOKENS)],
    )
    config = tekken["config"] | {
        "version": "v13", "num_vocab_tokens": size, "default_num_special_tokens": len(special),
        "default_vocab_size": size + len(special),
    }  # fmt: skip
    written = {"config": config, "vocab": tekken["vocab"][:size], "special_tokens": special}
    (folder / "tekken.json").write_text(json.dumps(written))


def _block(heads_in_group: int | None) -> dict[str, Any]:
    attention = {"n_heads_in_group": heads_in_group, "no_op": heads_in_group is None}
    return {
        "attention": attention | {"replace_with_linear": False},
        "ffn": {"ffn_mult": 2.0, "no_op": False, "replace_with_linear": False},
    }


def _without_attention(tensor: str) -> str | None:
    """The second layer of the tiny Llama-Nemotron has no attention."""
    return None if re.search(r"layers\.1\.(self_attn|input_layernorm)", tensor) else tensor


def _kimi_k25(tensor: str) -> str:
    return tensor.replace("language_model.model.blocks", "language_model.model.layers").replace(
        "model.mm_projector", "mm_projector"
    )


def _deepseek_v4(tensor: str) -> str:
    tensor = tensor.removeprefix("model.").replace("embed_tokens", "embed")
    return tensor.replace("hc_head.hc_", "hc_head_").replace(".attn.norm.", ".attn.kv_norm.")


@dataclass(frozen=True)
class Family:
    """One architecture class."""

    spec: str
    """Name of a model of that class in the registry."""
    model: str
    """Class of transformers, without what it is for."""
    sizes: Mapping[str, Any]
    patch: Mapping[str, Any] = field(default_factory=dict)
    """What the released config.json has and transformers does not write; None removes a key."""
    text_patch: Mapping[str, Any] = field(default_factory=dict)
    """The same inside of `text_config`."""
    architecture: str | None = None
    """As released, where it is not the name of the class of transformers."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Engine arguments that a CPU or a tiny model needs; None takes one of the spec's away."""
    refused: str | None = None
    """What vLLM says where by itself it cannot load the class on a CPU."""
    stand_in: str | None = None
    """The plugin of stand_ins/vllm_cpu with which vLLM does load a class that by itself it refuses."""
    mute: str | None = None
    """What vLLM says where it can load the class, but shows it no tools."""
    format: str | None = None
    """Of its tool calls, where it is not the one named by the spec's parser."""
    also: tuple[str, ...] = ()
    """The other models of the registry that are of this class."""
    head: str = "ForCausalLM"
    """What the class of transformers is for."""
    rename: Callable[[str], str | None] | None = None
    """A tensor as released -> by the name that transformers gives it; None leaves it out."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files of the checkpoint."""
    finish: Callable[[Path], None] | None = None
    """What else makes a folder one of the released ones."""
    needs_torchvision: bool = False
    """Its processors of images are imported even where only text is served."""

    def written(self, spec: ModelSpec) -> Format:
        """How one of its models writes, that of most models where nothing is said of it."""
        if named := self.format or spec.tool_call_parser:
            return FORMATS[named]
        return FORMATS.get(spec.reasoning_parser or "", FORMATS["hermes"])


def _family(spec: str, model: str, *sizes: Mapping[str, Any], **more: Any) -> Family:
    merged = dict(SIZES)
    for part in sizes:
        merged |= part
    return Family(spec, model, merged, **more)


def _text(*sizes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Sizes of the language model inside of a model that also sees."""
    merged: dict[str, Any] = {key: value for key, value in SIZES.items() if key != "pad_token_id"}
    for part in sizes:
        merged |= part
    return merged | more


# vLLM 0.32 and 0.33 call a function of mistral_common as it was before 1.13
SILENCED = (
    "get_lark_from_jinja() missing 1 required positional argument: 'force_tool_names'"
    if Version(version("mistral_common")) >= Version("1.13")
    else None
)
NO_CACHE = {"enable_prefix_caching": False}
TEXT_ONLY = {"language_model_only": True}
DENSE_WIDTH = {"intermediate_size": 32}
SPARSE = {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 2}
SLIDING = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
LLAMA4 = {"intermediate_size_mlp": 128, "num_local_experts": 4, "num_experts_per_tok": 1,
          "interleave_moe_layer_step": 1, "attention_chunk_size": 1024, "no_rope_layers": [1, 0]}  # fmt: skip
FAMILIES = {
    "qwen2": _family(
        "qwen2.5-7b-instruct", "Qwen2", also=("qwen2.5-72b-instruct", "deepseek-r1-distill-qwen-32b")
    ),
    "qwen3": _family(
        "qwen3-8b", "Qwen3", HEADS,
        also=("qwen3-32b", "qwen3-4b", "qwen3-4b-instruct-2507", "qwen3-1.7b", "aster-dense", "borea-dense"),
    ),
    "qwen3_moe": _family(
        "qwen3-30b-a3b", "Qwen3Moe", HEADS, EXPERTS, {"num_experts": 8},
        also=("qwen3-235b-a22b-instruct-2507", "qwen3-235b-a22b-thinking-2507", "qwen3-30b-a3b-instruct-2507",
              "qwen3-coder-480b-a35b-instruct", "qwen3-coder-30b-a3b-instruct", "llm-jp-4-32b-a3b-thinking",
              "aster-moe", "borea-moe"),
    ),
    "qwen3_next": _family(
        "qwen3-next-80b-a3b-instruct", "Qwen3Next", EXPERTS, DELTA,
        {"num_experts": 8, "shared_expert_intermediate_size": 32},
        args=NO_CACHE, also=("qwen3-next-80b-a3b-thinking",),
    ),
    "qwen3_5_moe": _family(
        "qwen3.5-35b-a3b", "Qwen3_5Moe",
        {"text_config": _text(EXPERTS, DELTA, {"num_experts": 8, "shared_expert_intermediate_size": 32,
                                               "rope_parameters": ROPE_QWEN}),
         "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
                           "out_hidden_size": 64, "num_position_embeddings": 16},
         "image_token_id": 10, "video_token_id": 11, "vision_start_token_id": 12, "vision_end_token_id": 13},
        text_patch={"attn_output_gate": True}, head="ForConditionalGeneration", args=NO_CACHE,
        needs_torchvision=True, also=("qwen3.5-397b-a17b", "qwen3.5-122b-a10b", "qwen3.6-35b-a3b"),
    ),
    "deepseek_v3": _family(
        "deepseek-r1", "DeepseekV3", SHARED, LATENT, {"n_group": 2, "rope_scaling": YARN}, patch=ROUTING,
        also=("deepseek-r1-0528", "deepseek-v3", "deepseek-v3.1", "deepseek-v3.1-nvfp4", "rakuten-ai-3.0"),
    ),
    "deepseek_v32": _family(
        "deepseek-v3.2", "DeepseekV32", SHARED, LATENT, SPARSE, {"rope_scaling": YARN},
        # its renderer writes more of tools than 1024 tokens of a tiny vocabulary
        args={"max_model_len": 2048, "max_num_batched_tokens": 2048},
        patch=ROUTING, refused="Sparse Attention is not supported on CPU", stand_in="sparse_attention",
        also=("deepseek-v3.2-exp",),
    ),
    "deepseek_v4": _family(
        "deepseek-v4-flash", "DeepseekV4", EXPERTS,
        {"n_routed_experts": 8, "n_shared_experts": 1, "head_dim": 512, "q_lora_rank": 64, "o_groups": 2,
         "o_lora_rank": 32, "index_n_heads": 2, "index_head_dim": 128, "index_topk": 64,
         "layer_types": ["heavily_compressed_attention", "compressed_sparse_attention"],
         "mlp_layer_types": ["hash_moe", "moe"]},
        patch={"layer_types": None, "mlp_layer_types": None, "compress_rates": None, "num_hash_layers": 1,
               "compress_ratios": [128, 4], "qk_rope_head_dim": 64, "rope_parameters": None,
               "rope_theta": 10000.0, "rope_scaling": YARN, "topk_method": "noaux_tc",
               "expert_dtype": "bf16"},
        args={"kv_cache_dtype": None, "block_size": None}, rename=_deepseek_v4,
        refused="is not subscriptable", also=("deepseek-v4-pro",),
    ),
    "kimi_k2": _family(
        "kimi-k2-thinking", "DeepseekV3", SHARED, LATENT, {"rope_scaling": YARN},
        patch={**ROUTING, "model_type": "kimi_k2"}, also=("kimi-k2-instruct",),
    ),
    "kimi_k25": _family(
        "kimi-k2.5", "Kimi_K25",
        {"text_config": _text(SHARED, LATENT, {"rope_scaling": YARN, "model_type": "deepseek_v3"}),
         "vision_config": VISION, "projection_hidden_size": 32, "image_token_id": 10, "video_token_id": 11,
         "vision_start_token_id": 12, "vision_end_token_id": 13, "tie_word_embeddings": False},
        text_patch={**ROUTING, "model_type": "kimi_k2"},
        architecture="KimiK25ForConditionalGeneration", head="ForConditionalGeneration", rename=_kimi_k25,
        files={"preprocessor_config.json": json.dumps({"media_proc_cfg": {
            "patch_size": 14, "merge_kernel_size": 2, "temporal_merge_kernel_size": 4,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "in_patch_limit": 1024,
            "in_patch_limit_each_frame": 256, "in_patch_limit_video": 1024, "patch_limit_on_one_side": 512,
            "fixed_output_tokens": None}})},
        needs_torchvision=True, also=("kimi-k2.6", "kimi-k2.7-code"),
    ),
    "glm4_moe": _family(
        "glm-4.5", "Glm4Moe", HEADS, SHARED, {"use_qk_norm": True, "attention_bias": True},
        patch={"num_nextn_predict_layers": 0}, also=("glm-4.5-air", "glm-4.6", "glm-4.7"),
    ),
    "glm_moe_dsa": _family(
        "glm-5", "GlmMoeDsa", SHARED, LATENT, SPARSE,
        # the kernel for a CPU takes queries for contiguous, and those of latent attention are not
        args={"compilation_config": {"custom_ops": ["-rotary_embedding"]}},
        patch=ROUTING, refused="Sparse Attention is not supported on CPU", stand_in="sparse_attention",
        also=("glm-5.1", "glm-5.2", "macaron-v1-coding-venti"),
    ),
    "minimax_m2": _family(
        "minimax-m2", "MiniMaxM2", HEADS, DENSE_WIDTH,
        {"num_local_experts": 8, "num_experts_per_tok": 2, "rotary_dim": 16},
        patch={"rotary_dim": 16, "scoring_func": "sigmoid", "use_routing_bias": True, "use_qk_norm": True,
               "qk_norm_type": "per_layer"},
        refused="scoring_func", stand_in="sigmoid_routing",
        also=("minimax-m2.1", "minimax-m2.5", "minimax-m2.7"),
    ),
    "minimax_m3": _family(
        "minimax-m3", "MiniMaxM3Sparse",
        {"text_config": _text(HEADS, DENSE_WIDTH, {
            "num_local_experts": 8, "num_experts_per_tok": 2, "rotary_dim": 16,
            "dense_intermediate_size": 128, "shared_intermediate_size": 32, "index_n_heads": 1,
            "layer_types": ["full_attention", "minimax_m3_sparse"], "mlp_layer_types": ["dense", "sparse"]}),
         "vision_config": {**VISION, "image_size": 28}, "projector_hidden_size": 64,
         "image_token_index": 10, "video_token_index": 11},
        text_patch={
            "moe_layer_freq": [0, 1], "n_shared_experts": 1, "scoring_func": "sigmoid",
            "hidden_act": "swigluoai",
            "use_routing_bias": True, "use_gemma_norm": True, "use_qk_norm": True,
            "qk_norm_type": "per_head", "rope_theta": 5e6, "partial_rotary_factor": 0.5, "swiglu_beta": 1.0,
            "sparse_attention_config": {
                "use_sparse_attention": True, "sparse_index_dim": 128, "sparse_num_index_heads": 1,
                "sparse_topk_blocks": 16, "sparse_block_size": 128, "sparse_disable_index_value": [0, 1],
                "sparse_score_type": "max", "sparse_init_block": 0, "sparse_local_block": 1,
                "sparse_attention_freq": [0, 1]},
        },
        patch={"vision_config": {**VISION, "num_channels": 3, "layer_norm_eps": 1e-5,
                                 "img_token_compression_config": {}}},
        head="ForConditionalGeneration", needs_torchvision=True, refused="No Unquantized MoE backend",
    ),
    "llama3": _family(
        "llama-3.1-8b-instruct", "Llama", HEADS,
        also=("llama-3.1-70b-instruct", "llama-3.2-1b-instruct", "llama-3.2-3b-instruct",
              "llama-3.3-70b-instruct", "deepseek-r1-distill-llama-70b", "minicpm5-1b",
              "smollm2-1.7b-instruct", "falcon3-10b-instruct", "llm-jp-4-33b-thinking",
              "llm-jp-4-8b-thinking", "teuken-7b-instruct"),
    ),
    "llama4": _family(
        "llama-4-scout", "Llama4",
        {"text_config": _text(HEADS, LLAMA4),
         "vision_config": {**VISION, "vision_output_dim": 32, "projector_input_dim": 32,
                           "projector_output_dim": 32},
         "boi_token_index": 10, "eoi_token_index": 11, "image_token_index": 12},
        head="ForConditionalGeneration", args=TEXT_ONLY, needs_torchvision=True, also=("llama-4-maverick",),
    ),
    "nemotron_nas": _family(
        "llama-3.3-nemotron-super-49b-v1.5", "Llama", {"intermediate_size": 256},
        patch={"model_type": "nemotron-nas", "block_configs": [_block(2), _block(None)],
               "num_key_value_heads": None, "auto_map": {"AutoConfig": "configuration_decilm.DeciLMConfig"}},
        architecture="DeciLMForCausalLM", rename=_without_attention,
        files={"configuration_decilm.py": CONFIGURATION_DECILM},
    ),
    "nemotron_h": _family(
        "nemotron-nano-9b-v2", "NemotronH", HEADS, MAMBA, {"hybrid_override_pattern": "M-*-"},
        patch={"hybrid_override_pattern": "M-*-", "num_hidden_layers": 4, "layers_block_type": None},
        args=NO_CACHE, also=("nemotron-3-nano-4b",),
    ),
    "nemotron_h_moe": _family(
        "nemotron-3-nano-30b-a3b", "NemotronH", HEADS, MAMBA, EXPERTS,
        {"hybrid_override_pattern": "ME*E", "n_routed_experts": 8, "n_shared_experts": 1,
         "moe_shared_expert_intermediate_size": 64},
        patch={"hybrid_override_pattern": "ME*E", "num_hidden_layers": 4, "layers_block_type": None},
        args=NO_CACHE, refused="is_act_and_mul", stand_in="ungated_experts",
        also=("nemotron-3.5-lightning-30b-a3b",),
    ),
    "nemotron_h_latent": _family(
        "nemotron-3-super-120b-a12b", "NemotronH", HEADS, MAMBA, EXPERTS,
        {"hybrid_override_pattern": "ME*E", "n_routed_experts": 8, "n_shared_experts": 1,
         "moe_latent_size": 32, "moe_shared_expert_intermediate_size": 64},
        patch={"hybrid_override_pattern": "ME*E", "num_hidden_layers": 4, "layers_block_type": None},
        args=NO_CACHE, refused="is_act_and_mul", stand_in="ungated_experts",
        also=("nemotron-3-ultra-550b-a55b",),
    ),
    "gpt_oss": _family(
        "gpt-oss-20b", "GptOss", HEADS,
        # conversations are written in the token ids of the real vocabulary
        {"intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 128,
         "vocab_size": 201088},
        also=("gpt-oss-120b",),
    ),
    "mistral": _family("mistral-7b-instruct-v0.3", "Mistral", HEADS, {"sliding_window": None}),
    "mistral3": _family(
        "mistral-small-3.2-24b-instruct", "Mistral3",
        {"text_config": _text(HEADS, {"sliding_window": None}, model_type="mistral"),
         "vision_config": {**VISION, "model_type": "pixtral", "head_dim": 16},
         "image_token_index": 10, "tie_word_embeddings": False},
        head="ForConditionalGeneration", args=TEXT_ONLY, needs_torchvision=True, format="mistral_v11",
    ),
    "mistral_large_3": _family(
        "mistral-large-3", "DeepseekV3", SHARED, LATENT, patch=ROUTING,
        architecture="MistralLarge3ForCausalLM", rename=_mistral_large_3, finish=write_mistral_files,
        format="mistral_v11", mute=SILENCED,
    ),
    "mixtral": _family(
        "mixtral-8x7b-instruct", "Mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    "gemma3": _family(
        "gemma-3-27b-it", "Gemma3",
        {"text_config": _text(HEADS, SLIDING, {"query_pre_attn_scalar": 32}),
         "vision_config": {**VISION, "vision_use_head": False},
         "mm_tokens_per_image": 4, "boi_token_index": 10, "eoi_token_index": 11, "image_token_index": 12},
        head="ForConditionalGeneration", args=TEXT_ONLY, needs_torchvision=True,
        also=("gemma-sea-lion-v4-27b-it",),
    ),
    "gemma4": _family(
        "gemma-4-31b-it", "Gemma4",
        {"text_config": _text(HEADS, SLIDING, {
            "global_head_dim": 64, "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": VOCABULARY}),
         "vision_config": {**VISION, "head_dim": 16}, "audio_config": None},
        head="ForConditionalGeneration", needs_torchvision=True,
        also=("gemma-4-26b-a4b-it", "gemma-4-e4b-it", "gemma-4-e2b-it"),
    ),
    "phi3": _family(
        "phi-4-mini-instruct", "Phi3", {"original_max_position_embeddings": 2048},
        also=("phi-4", "phi-4-reasoning"),
    ),
    "olmo3": _family("olmo-3-32b-think", "Olmo3", SLIDING, also=("olmo-3-7b-instruct",)),
    "granite": _family("granite-3.3-8b-instruct", "Granite", also=("granite-3.2-2b-instruct",)),
    "granitemoehybrid": _family(
        "granite-4.0-h-small", "GraniteMoeHybrid", DENSE_WIDTH,
        {"shared_intermediate_size": 64, "num_local_experts": 8, "num_experts_per_tok": 2,
         "layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 32,
         "mamba_n_groups": 1, "mamba_chunk_size": 32, "position_embedding_type": "nope"},
        args=NO_CACHE,
    ),
    "qwen3_5": _family(
        "qwen3.5-9b", "Qwen3_5",
        {"text_config": _text(DELTA, {"rope_parameters": ROPE_QWEN}),
         "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
                           "out_hidden_size": 64, "num_position_embeddings": 16},
         "image_token_id": 10, "video_token_id": 11, "vision_start_token_id": 12, "vision_end_token_id": 13},
        text_patch={"attn_output_gate": True}, head="ForConditionalGeneration", args=NO_CACHE,
        needs_torchvision=True,
        also=("qwen3.5-27b", "qwen3.5-4b", "qwen3.5-2b", "qwen3.6-27b", "qwen3.8-27b"),
    ),
    "glm4_moe_lite": _family(
        "glm-4.7-flash", "Glm4MoeLite", SHARED, LATENT,
        # the kernel for a CPU takes queries for contiguous, and those of latent attention are not
        args={"compilation_config": {"custom_ops": ["-rotary_embedding"]}},
        patch={"num_nextn_predict_layers": 0},
    ),
    "seed_oss": _family("seed-oss-36b-instruct", "SeedOss", HEADS),
    "smollm3": _family("smollm3-3b", "SmolLM3"),
    "apertus": _family(
        "apertus-8b-instruct-2509", "Apertus", also=("apertus-70b-instruct-2509", "apertus-v1.5-70b")
    ),
    "exaone4": _family("exaone-4.0-32b", "Exaone4", HEADS, SLIDING),
    "exaone_moe": _family("k-exaone-236b-a23b", "ExaoneMoe", HEADS, SLIDING, SHARED,
                          {"num_experts": 8, "num_shared_experts": 1}),
    "falcon_h1": _family(
        "falcon-h1-34b-instruct", "FalconH1", HEADS,
        {"mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_n_groups": 1, "mamba_d_state": 32,
         "mamba_chunk_size": 32},
        args=NO_CACHE,
    ),
    "jamba": _family(
        "jamba-1.5-mini", "Jamba",
        {"num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
         "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 16, "use_mamba_kernels": False},
        # in bfloat16 some CPUs fail before: vLLM packs a convolution, which the first Mamba then cannot read
        args={**NO_CACHE, "dtype": "float32"}, refused="selective_scan_fwd", also=("jamba-1.5-large",),
    ),
    "lfm2": _family(
        "lfm2.5-1.2b-instruct", "Lfm2", {"layer_types": ["conv", "full_attention"], "block_ff_dim": 128,
                                         "block_auto_adjust_ff_dim": False},
        patch={"conv_dim": 64, "block_dim": 64}, args=NO_CACHE,
        also=("lfm2.5-1.2b-jp", "lfm2.5-1.2b-jp-202606", "lfm2.5-1.2b-thinking"),
    ),
    "cohere2": _family("command-a-03-2025", "Cohere2", HEADS, SLIDING),
    "stablelm": _family("stablelm-2-12b-chat", "StableLm"),
    "ernie4_5_moe": _family(
        "ernie-4.5-21b-a3b", "Ernie4_5_Moe", HEADS,
        {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 32, "moe_num_shared_experts": 1,
         "moe_layer_start_index": 1, "moe_layer_end_index": 1},
    ),
    "hunyuan_v1_moe": _family(
        "hunyuan-a13b-instruct", "HunYuanMoEV1", HEADS,
        DENSE_WIDTH,
        {"num_experts": 8, "moe_topk": 2, "moe_intermediate_size": 32, "num_shared_expert": 1,
         "use_mixed_mlp_moe": True},
    ),
    "afmoe": _family(
        "trinity-large-thinking", "Afmoe", HEADS, EXPERTS,
        {"num_experts": 8, "num_shared_experts": 1, "num_dense_layers": 1, "sliding_window": 64,
         "layer_types": ["sliding_attention", "full_attention"]},
        patch={"score_func": "sigmoid", "route_norm": True, "n_group": 1, "topk_group": 1},
    ),
    "hy_v3": _family(
        "hy3", "HYV3", HEADS, SHARED, {"num_experts": 8},
        patch={"expert_hidden_dim": 32, "route_norm": True, "qk_norm": True}, also=("hy3-preview",),
    ),
    "laguna": _family(
        "laguna-xs.2", "Laguna", HEADS, EXPERTS, SLIDING, {"num_experts": 8},
        refused="scoring_func", stand_in="sigmoid_routing",
        also=("laguna-m.1", "laguna-xs-2.1", "laguna-s-2.1"),
    ),
    "mellum": _family(
        "mellum2-12b-a2.5b-instruct", "Mellum", HEADS, EXPERTS, SLIDING, {"num_experts": 8},
        also=("mellum2-12b-a2.5b-thinking",),
    ),
    "solar_open": _family("solar-open-100b", "SolarOpen", HEADS, SHARED),
}  # fmt: skip
UNTRIED = {
    "a class of its own of vLLM's, which transformers does not have to write a checkpoint with": (
        "dots3-note-prev", "iquest-coder-v1-40b-instruct", "kimi-k3", "ling-2.6-1t", "ling-2.6-flash",
        "ling-3.0-flash", "mimo-v2.5", "mimo-v2.5-pro", "ring-1t-fp8", "ring-2.6-1t", "sarvam-105b",
        "sarvam-30b", "solar-pro-preview-instruct", "step-3.5-flash", "telechat3-36b-thinking",
    ),
    "a class that imports code for CUDA": ("kimi-linear-48b-a3b-instruct",),
    "a class that vLLM 0.32 does not have": ("solar-open2-250b",),
    "a wrapper around images, of a language model that is tried": (
        "ernie-4.5-vl-28b-a3b", "gemma-4-12b-it", "glm-4.5v", "glm-4.6v", "glyph", "intern-s1",
        "intern-s2-preview", "internvl3.5-8b", "lfm2.5-vl-1.6b", "minicpm-v-4.6", "nemotron-nano-12b-v2-vl",
        "phi-4-multimodal-instruct", "qwen2.5-vl-72b-instruct", "qwen2.5-vl-7b-instruct",
        "qwen3-vl-235b-a22b-instruct", "step-3.7-flash",
    ),
    "a class that no source at hand names: the config.json of its repository does": (
        "bielik-11b-v3.0-instruct", "command-a-plus-05-2026", "hyperclova-x-seed-think-14b", "inkling",
        "inkling-nvfp4", "inkling-small-nvfp4", "lfm2.5-8b-a1b", "longcat-flash-chat", "mimo-v2-flash",
        "ministral-3-14b-instruct", "ministral-3-8b-reasoning", "mistral-medium-3.5", "mistral-small-4",
        "muse-glimmer-30b", "north-mini-code", "qwen3.8-2.4t-a95b",
    ),
}  # fmt: skip
"""Models of no family here, by why."""


def build(name: str, folder: Path) -> Path:
    """Write the checkpoint of a family, always the same."""
    import torch
    import transformers

    family = FAMILIES[name]
    torch.manual_seed(0)
    model_class: Callable[..., Any] = getattr(transformers, family.model + family.head)
    with released_type(model_class.config_class):
        write_model(model_class(model_class.config_class(**family.sizes)), folder)
    if family.rename:
        _rename(folder / "model.safetensors", family.rename)
    tokenizer(family.written(load_model(family.spec))).save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text()) | family.patch
    if family.architecture:
        config["architectures"] = [family.architecture]
    if family.text_patch:
        config["text_config"] |= family.text_patch
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in family.patch or v is not None}))
    for path, text in family.files.items():
        (folder / path).write_text(text)
    if family.finish:
        family.finish(folder)
    return folder


@contextmanager
def released_type(config_class: Any) -> Iterator[None]:
    """The type of a config's models as transformers has it.

    vLLM gives some classes a second name (Kimi K2's to DeepSeek V3's) by overwriting the first: after its
    import the same class would write another config.json and other names of tensors.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    types = [kind for kind, name in CONFIG_MAPPING_NAMES.items() if name == config_class.__name__]
    kept = config_class.model_type
    config_class.model_type = kept if kept in types or not types else types[0]
    try:
        yield
    finally:
        config_class.model_type = kept


def write_model(model: Any, folder: Path) -> None:
    """Weights drawn wider than is usual, so that the next token is not almost uniform."""
    import torch

    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter.data, std=0.1)
    model.to(torch.bfloat16).eval().save_pretrained(folder)


def build_speaker(written: Format, folder: Path) -> Path:
    """Write the tokenizer and the chat template of a format, and the config of a class that vLLM has."""
    import transformers

    # gpt-oss is known by its class to have conversations of its own
    kind = "GptOss" if written is FORMATS["openai"] else "Qwen3"
    config_class = getattr(transformers, f"{kind}Config")
    config_class(**{**SIZES, **HEADS}, architectures=[f"{kind}ForCausalLM"]).save_pretrained(folder)
    tokenizer(written).save_pretrained(folder)
    return folder


def _rename(file: Path, rename: Callable[[str], str | None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {new: tensor for old, tensor in load_file(file).items() if (new := rename(old))}
    save_file(tensors, file, metadata={"format": "pt"})


def tokenizer(written: Format) -> Any:
    """Byte-level BPE with the tokens that parsers look up, and a template that writes calls as given."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AddedToken, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # OLMo's parser of reasoning looks for the words of its vocabulary that make the mark
    text = [Path(__file__).read_text(encoding="utf8"), " </think></think>" * 1000]
    core.train_from_iterator(text, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.add_tokens([AddedToken(text, special=False, normalized=False) for text in written.added()])
    wrapped.chat_template = written.template()
    return wrapped
