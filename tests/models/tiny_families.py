"""Random-weight checkpoints of the architecture classes in the registry, under a million parameters each.

`architectures` and `model_type` are those of the released checkpoints, so that vLLM takes the same way
through its code; only the sizes are small.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.models.formats import ADDED, FORMATS, Format

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


@dataclass(frozen=True)
class Family:
    """One architecture class."""

    spec: str
    """Name of a model of that class in the registry."""
    model: str
    """Class of transformers."""
    sizes: Mapping[str, Any]
    patch: Mapping[str, Any] = field(default_factory=dict)
    """What the released config.json has and transformers does not write; None removes a key."""
    architecture: str | None = None
    """As released, where it is not the name of the class of transformers."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Engine arguments that a CPU or a tiny model needs; None takes one of the spec's away."""
    refused: str | None = None
    """What vLLM says where it cannot load the class on a CPU."""
    format: str | None = None
    """Of its tool calls, where it is not the one named by the spec's parser."""

    @property
    def written(self) -> Format | None:
        """How it writes tool calls."""
        from harness.config import load_model

        return FORMATS.get(self.format or load_model(self.spec).tool_call_parser or "")


def _family(spec: str, model: str, *sizes: Mapping[str, Any], **more: Any) -> Family:
    merged = dict(SIZES)
    for part in sizes:
        merged |= part
    return Family(spec, model, merged, **more)


NO_CACHE = {"enable_prefix_caching": False}
DENSE_WIDTH = {"intermediate_size": 32}
FAMILIES = {
    "qwen2": _family("qwen2.5-7b-instruct", "Qwen2"),
    "qwen3": _family("qwen3-8b", "Qwen3", HEADS),
    "qwen3_moe": _family("qwen3-30b-a3b", "Qwen3Moe", HEADS, EXPERTS, {"num_experts": 8}),
    "qwen3_next": _family(
        "qwen3-next-80b-a3b-instruct", "Qwen3Next", EXPERTS, DELTA,
        {"num_experts": 8, "shared_expert_intermediate_size": 32},
        args=NO_CACHE,
    ),
    "deepseek_v3": _family(
        "deepseek-r1", "DeepseekV3", SHARED, LATENT, {"n_group": 2, "rope_scaling": YARN}, patch=ROUTING
    ),
    "deepseek_v31": _family(
        "deepseek-v3.1", "DeepseekV3", SHARED, LATENT, {"n_group": 2, "rope_scaling": YARN}, patch=ROUTING
    ),
    "deepseek_v32": _family(
        "deepseek-v3.2", "DeepseekV32", SHARED, LATENT,
        {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 2},
        patch=ROUTING, args={"tokenizer_mode": None}, refused="Sparse Attention is not supported on CPU",
    ),
    "kimi_k2": _family(
        "kimi-k2-thinking", "DeepseekV3", SHARED, LATENT, {"rope_scaling": YARN},
        patch={**ROUTING, "model_type": "kimi_k2"},
    ),
    "glm4_moe": _family(
        "glm-4.5", "Glm4Moe", HEADS, SHARED, {"use_qk_norm": True, "attention_bias": True},
        patch={"num_nextn_predict_layers": 0},
    ),
    "glm_moe_dsa": _family(
        "glm-5", "GlmMoeDsa", SHARED, LATENT,
        {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 2},
        patch=ROUTING, refused="Sparse Attention is not supported on CPU",
    ),
    "minimax_m2": _family(
        "minimax-m2", "MiniMaxM2", HEADS, DENSE_WIDTH,
        {"num_local_experts": 8, "num_experts_per_tok": 2, "rotary_dim": 16},
        patch={"rotary_dim": 16, "scoring_func": "sigmoid", "use_routing_bias": True, "use_qk_norm": True,
               "qk_norm_type": "per_layer"},
        refused="scoring_func",
    ),
    "llama3": _family("llama-3.1-8b-instruct", "Llama", HEADS),
    "llama4_text": _family(
        "llama-4-scout", "Llama4", HEADS,
        {"intermediate_size_mlp": 128, "num_local_experts": 4, "num_experts_per_tok": 1,
         "interleave_moe_layer_step": 1, "attention_chunk_size": 1024, "no_rope_layers": [1, 0]},
    ),
    "nemotron_h": _family(
        "nemotron-nano-9b-v2", "NemotronH", HEADS, MAMBA, {"hybrid_override_pattern": "M-*-"},
        patch={"hybrid_override_pattern": "M-*-", "num_hidden_layers": 4, "layers_block_type": None},
        args=NO_CACHE,
    ),
    "nemotron_h_moe": _family(
        "nemotron-3-nano-30b-a3b", "NemotronH", HEADS, MAMBA, EXPERTS,
        {"hybrid_override_pattern": "ME*E", "n_routed_experts": 8, "n_shared_experts": 1,
         "moe_shared_expert_intermediate_size": 64},
        patch={"hybrid_override_pattern": "ME*E", "num_hidden_layers": 4, "layers_block_type": None},
        args=NO_CACHE, refused="is_act_and_mul",
    ),
    "gpt_oss": _family(
        "gpt-oss-20b", "GptOss", HEADS,
        {"intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 128},
    ),
    "mistral": _family("mistral-7b-instruct-v0.3", "Mistral", HEADS, {"sliding_window": None}),
    "mixtral": _family(
        "mixtral-8x7b-instruct", "Mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    "gemma3_text": _family(
        "gemma-3-27b-it", "Gemma3", HEADS,
        {"query_pre_attn_scalar": 32, "sliding_window": 64,
         "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "phi3": _family("phi-4-mini-instruct", "Phi3", {"original_max_position_embeddings": 2048}),
    "olmo3": _family(
        "olmo-3-7b-instruct", "Olmo3",
        {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "granite": _family("granite-3.3-8b-instruct", "Granite"),
    "granitemoehybrid": _family(
        "granite-4.0-h-small", "GraniteMoeHybrid", DENSE_WIDTH,
        {"shared_intermediate_size": 64, "num_local_experts": 8, "num_experts_per_tok": 2,
         "layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 32,
         "mamba_n_groups": 1, "mamba_chunk_size": 32, "position_embedding_type": "nope"},
        args=NO_CACHE,
    ),
}  # fmt: skip


def build(name: str, folder: Path) -> Path:
    """Write the checkpoint of a family, always the same."""
    import torch
    import transformers

    family = FAMILIES[name]
    torch.manual_seed(0)
    model_class: Callable[..., Any] = getattr(transformers, f"{family.model}ForCausalLM")
    model = model_class(model_class.config_class(**family.sizes))
    for parameter in model.parameters():
        # Wider than the default, so that the next token is not almost uniform.
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter.data, std=0.1)
    model.to(torch.bfloat16).eval().save_pretrained(folder)
    tokenizer(family.written).save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text()) | family.patch
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in family.patch or v is not None}))
    return folder


def tokenizer(written: Format | None) -> Any:
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
    core.train([__file__], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.add_tokens([AddedToken(text, special=False, normalized=False) for text in ADDED])
    wrapped.chat_template = (written or FORMATS["hermes"]).template()
    return wrapped
