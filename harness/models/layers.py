"""What a config.json says about each layer: its parameters, and what it keeps for each token and sequence.

Pure functions on config values; nothing is read or loaded. Parameters of vision and audio towers are not
counted, and neither are layers for multi-token prediction, which take no part in evaluation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.errors import UserError

Config = Mapping[str, Any]

MODEL_TYPES = frozenset(
    {
        "deepseek_v3", "deepseek_v32", "deepseek_v4", "gemma3_text", "glm4_moe", "glm4_moe_lite",
        "glm_moe_dsa", "gpt_oss", "granite", "granitemoe", "granitemoehybrid", "kimi_k2", "llama",
        "llama4_text", "minimax_m2", "ministral3", "mistral", "mixtral", "nemotron-nas",
        "nemotron_h", "olmo2", "olmo3", "olmoe", "phi", "phi3", "phimoe", "qwen2", "qwen3",
        "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next",
    }
)  # fmt: skip
"""Families whose layers are described here."""

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""Names under which released configs state the number of routed experts of a layer."""
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "experts_per_token")

UNGATED = frozenset({"nemotron_h", "phi"})
"""Families whose feed-forward has two matrices: up and down. The others have a gate besides."""
INDEX_BYTES = 4
"""Bytes of the scale that the sparse-attention indexer keeps beside its 8-bit key of a token."""


@dataclass(frozen=True)
class Layer:
    """One layer. Parameters are numbers of weights, not bytes."""

    params: int = 0
    """All but the routed experts."""
    routed: int = 0
    """All routed experts together."""
    routed_active: int = 0
    """Those of the routed experts that one token passes through."""
    cache_elements: int = 0
    """Numbers that are cached for a token, in the type of the cache."""
    cache_bytes: int = 0
    """Bytes that are cached for a token whatever the type of the cache."""
    kv_heads: int = 1
    """Into how many parts the cache can be split over GPUs."""
    window: int | None = None
    """How many of the last tokens are cached, None for all."""
    state_bytes: int = 0
    """Bytes of recurrent state of a sequence, however long it is."""


class Parameters(NamedTuple):
    """Numbers of parameters."""

    total: int
    active: int
    """Used for one token: of the routed experts only those that it is routed to. With input embeddings."""
    embedding: int
    """The input embeddings, which some developers leave out of the active parameters they state."""


def text_config(config: Config) -> Config:
    """The part of a config that describes the language model."""
    inner: Config = config.get("text_config") or config.get("llm_config") or config
    return inner


def count_parameters(config: Config) -> Parameters:
    """Parameters of the language model that a config.json describes.

    Raises:
        UserError: the family is not one of `MODEL_TYPES`.
    """
    text = text_config(config)
    found = list(layers(config))
    embedding = text["vocab_size"] * text["hidden_size"]
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))
    rest = embedding * (1 if tied else 2) + text["hidden_size"] + sum(layer.params for layer in found)
    return Parameters(
        total=rest + sum(layer.routed for layer in found),
        active=rest + sum(layer.routed_active for layer in found),
        embedding=embedding,
    )


def layers(config: Config) -> Iterator[Layer]:
    """Every layer of the language model, in order.

    Raises:
        UserError: the family is not one of `MODEL_TYPES`.
    """
    text = text_config(config)
    family = text.get("model_type", "")
    if family not in MODEL_TYPES:
        raise UserError(
            f"model_type {family!r}: its layers cannot be told from config.json; known are "
            f"{', '.join(sorted(MODEL_TYPES))}, others are counted from their safetensors headers"
        )
    if "block_configs" in text:
        yield from (_deci_layer(text, block) for block in text["block_configs"])
    elif family == "nemotron_h":
        yield from (_nemotron_layer(text, kind) for kind in _nemotron_pattern(text))
    else:
        for index, kind in enumerate(_mixers(text)):
            yield _joined(_mixer(text, kind, index), _feed_forward(text, index), 2 * text["hidden_size"])


def experts(text: Config) -> tuple[int, int]:
    """(routed experts of a layer, experts a token is routed to); zeros for a dense model."""
    return _first(text, EXPERT_COUNTS), _first(text, EXPERTS_PER_TOKEN)


def _first(config: Config, keys: tuple[str, ...]) -> int:
    found = next((config[key] for key in keys if config.get(key)), 0)
    # some families give one number a layer
    return max(found) if isinstance(found, list) else int(found)


def _joined(mixer: Layer, feed_forward: Layer, norms: int) -> Layer:
    return Layer(
        params=mixer.params + feed_forward.params + norms,
        routed=feed_forward.routed,
        routed_active=feed_forward.routed_active,
        cache_elements=mixer.cache_elements,
        cache_bytes=mixer.cache_bytes,
        kv_heads=mixer.kv_heads,
        window=mixer.window,
        state_bytes=mixer.state_bytes,
    )


def _mixers(text: Config) -> list[str]:
    """What mixes the tokens in each layer: `full`, `sliding`, `chunked`, `linear` or `mamba`."""
    count = text["num_hidden_layers"]
    if text.get("layer_types"):
        return [kind.removesuffix("_attention").replace("attention", "full") for kind in text["layer_types"]]
    if interval := text.get("full_attention_interval"):
        return ["linear" if (i + 1) % interval else "full" for i in range(count)]
    if text["model_type"] == "llama4_text":  # every fourth layer has no rotary embedding and sees everything
        return ["chunked" if (i + 1) % 4 else "full" for i in range(count)]
    if pattern := text.get("sliding_window_pattern"):
        return ["sliding" if (i + 1) % pattern else "full" for i in range(count)]
    sliding = text.get("sliding_window") and text.get("use_sliding_window", True)
    return ["sliding" if sliding else "full"] * count


def _mixer(text: Config, kind: str, index: int) -> Layer:
    if kind == "mamba" or (kind == "linear" and "mamba_n_heads" in text):  # as transformers 5 writes it
        return _mamba(text)
    if kind == "linear":
        return _delta_net(text)
    if text.get("kv_lora_rank"):
        return _latent_attention(text, index)
    if text.get("compress_ratios"):
        return _compressed_attention(text, text["compress_ratios"][index])
    window = {"sliding": text.get("sliding_window"), "chunked": text.get("attention_chunk_size")}.get(kind)
    return _attention(text, _kv_heads(text), window)


def _kv_heads(text: Config) -> int:
    return int(text.get("num_key_value_heads") or text["num_attention_heads"])


def _head_dim(text: Config) -> int:
    stated = text.get("head_dim") or text.get("attention_head_dim")
    return int(stated or text["hidden_size"] // text["num_attention_heads"])


def _attention(text: Config, kv_heads: int, window: int | None) -> Layer:
    """Grouped-query attention (arXiv 2305.13245)."""
    hidden, heads, width = text["hidden_size"], text["num_attention_heads"], _head_dim(text)
    gated = text.get("attn_output_gate") or text["model_type"] == "qwen3_next"
    queries, values = heads * width * (2 if gated else 1), 2 * kv_heads * width
    params = hidden * (queries + values) + heads * width * hidden
    if text.get("attention_bias") or text["model_type"] == "qwen2":
        params += queries + values
    return Layer(params, cache_elements=values, kv_heads=kv_heads, window=window)


def _latent_attention(text: Config, index: int) -> Layer:
    """Multi-head latent attention (arXiv 2405.04434), with an indexer of DeepSeek V3.2 if stated."""
    hidden, heads, latent = text["hidden_size"], text["num_attention_heads"], text["kv_lora_rank"]
    nope, rope, value = text["qk_nope_head_dim"], text["qk_rope_head_dim"], text["v_head_dim"]
    rank = text.get("q_lora_rank")
    queries = heads * (nope + rope)
    params = (hidden + queries) * rank if rank else hidden * queries
    params += hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden
    kinds = text.get("indexer_types")
    if not text.get("index_n_heads") or (kinds and kinds[index] != "full"):
        return Layer(params, cache_elements=latent + rope)
    width, number = text["index_head_dim"], text["index_n_heads"]
    params += (rank or hidden) * number * width + hidden * (width + number)
    return Layer(params, cache_elements=latent + rope, cache_bytes=width + INDEX_BYTES)


def _compressed_attention(text: Config, ratio: int) -> Layer:
    """Attention of DeepSeek V4: a window, and beside it one entry for every `ratio` tokens (0: none).

    The shapes are those of its implementation in transformers.
    """
    hidden, rank, width, window = (
        text["hidden_size"],
        text["q_lora_rank"],
        text["head_dim"],
        text["sliding_window"],
    )
    queries, grouped = text["num_attention_heads"] * width, text["o_lora_rank"]
    params = (hidden + queries) * rank + hidden * width + queries * grouped
    params += text["o_groups"] * grouped * hidden
    streams = text["hc_mult"]  # of the residual, which each half of a layer mixes
    params += 2 * (streams + 2) * streams * streams * hidden
    if not ratio:
        return Layer(params, cache_elements=width, window=window)
    entries = 2 if text.get("index_topk") and ratio < window else 1  # overlapping ones where they are sparse
    params += 2 * entries * hidden * width
    cached = 0
    if entries == 2:
        index, heads = text["index_head_dim"], text["index_n_heads"]
        params += 4 * hidden * index + rank * heads * index + hidden * heads
        cached = (index + INDEX_BYTES) // ratio
    return Layer(params, cache_elements=width // ratio, cache_bytes=cached, state_bytes=2 * window * width)


def _delta_net(text: Config) -> Layer:
    """Gated delta net (arXiv 2412.06464), as Qwen3-Next has it."""
    hidden, kernel = text["hidden_size"], text["linear_conv_kernel_dim"]
    heads, width = text["linear_num_value_heads"], text["linear_value_head_dim"]
    keys, values = text["linear_num_key_heads"] * text["linear_key_head_dim"], heads * width
    mixed = 2 * keys + values
    params = hidden * (mixed + values + 2 * heads) + mixed * kernel + values * hidden
    numbers = 4 if text.get("mamba_ssm_dtype") == "float32" else 2
    state = mixed * (kernel - 1) * 2 + heads * width * text["linear_key_head_dim"] * numbers
    return Layer(params, kv_heads=text["linear_num_key_heads"], state_bytes=state)


def _mamba(text: Config) -> Layer:
    """Mamba-2 (arXiv 2405.21060), by the key names of Nemotron-H or of Granite."""
    hidden = text["hidden_size"]
    heads = text.get("mamba_num_heads") or text["mamba_n_heads"]
    width = text.get("mamba_head_dim") or text["mamba_d_head"]
    groups = text.get("n_groups") or text["mamba_n_groups"]
    state = text.get("ssm_state_size") or text["mamba_d_state"]
    kernel = text.get("conv_kernel") or text["mamba_d_conv"]
    inner, mixed = heads * width, heads * width + 2 * groups * state
    params = hidden * (inner + mixed + heads) + mixed * (kernel + 1) + 3 * heads + inner + inner * hidden
    numbers = 4 if text.get("mamba_ssm_cache_dtype") == "float32" else 2
    return Layer(
        params, kv_heads=groups, state_bytes=mixed * (kernel - 1) * 2 + heads * width * state * numbers
    )


def _feed_forward(text: Config, index: int) -> Layer:
    count, chosen = experts(text)
    if not count or not _has_experts(text, index):
        width = text.get("intermediate_size_mlp") or text.get("intermediate_size")
        if text["model_type"] == "granitemoehybrid":
            width = text["shared_intermediate_size"]
        return Layer(_matrices(text) * text["hidden_size"] * width)
    hidden = text["hidden_size"]
    width = text.get("moe_intermediate_size") or text["intermediate_size"]
    expert = _matrices(text) * hidden * width
    if text["model_type"] == "gpt_oss":
        expert += 2 * width + hidden
    shared = _matrices(text) * hidden * _shared_width(text, width)
    return Layer(hidden * count + shared, routed=expert * count, routed_active=expert * min(chosen, count))


def _matrices(text: Config) -> int:
    return 2 if text["model_type"] in UNGATED else 3


def _has_experts(text: Config, index: int) -> bool:
    if index in (text.get("mlp_only_layers") or ()):
        return False
    frequency = text.get("moe_layer_freq", 1)
    if isinstance(frequency, list):
        return bool(frequency[index])
    step = text.get("interleave_moe_layer_step") or text.get("decoder_sparse_step") or 1
    return index >= text.get("first_k_dense_replace", 0) and (index + 1) % step == 0


def _shared_width(text: Config, expert: int) -> int:
    """Width of the experts that every token passes through, together."""
    if text["model_type"] == "llama4_text":
        return expert
    stated = text.get("moe_shared_expert_intermediate_size") or text.get("shared_expert_intermediate_size")
    if stated:
        return int(stated)
    if text["model_type"] == "granitemoehybrid":
        return int(text.get("shared_intermediate_size") or 0)
    return int(text.get("n_shared_experts") or 0) * expert


def _nemotron_pattern(text: Config) -> list[str]:
    """The one block of each layer of Nemotron-H."""
    if text.get("layers_block_type"):
        return list(text["layers_block_type"])
    names = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    return [names[letter] for letter in text["hybrid_override_pattern"]]


def _nemotron_layer(text: Config, kind: str) -> Layer:
    hidden = text["hidden_size"]
    if kind == "mamba":
        return _joined(_mamba(text), Layer(), hidden)
    if kind == "attention":
        return _joined(_attention(text, _kv_heads(text), None), Layer(), hidden)
    if kind == "mlp":
        return Layer(2 * hidden * text["intermediate_size"] + hidden)
    count, chosen = experts(text)
    # experts may work on a narrower vector, with a projection into and out of it
    latent = text.get("moe_latent_size") or hidden
    expert = 2 * latent * text["moe_intermediate_size"]
    shared = 2 * hidden * text.get("n_shared_experts", 0) * text["moe_shared_expert_intermediate_size"]
    projections = 2 * hidden * latent if latent != hidden else 0
    return Layer(
        hidden * count + hidden + shared + projections, routed=expert * count, routed_active=expert * chosen
    )


def _deci_layer(text: Config, block: Config) -> Layer:
    """A layer of a model of NVIDIA's Puzzle (arXiv 2411.19146): each has a width of its own, or none."""
    hidden, attention, feed_forward = text["hidden_size"], block["attention"], block["ffn"]
    mixer, params = Layer(), 0
    if attention.get("replace_with_linear"):
        mixer = Layer(hidden * hidden)
    elif not attention.get("no_op"):
        mixer = _attention(text, text["num_attention_heads"] // attention["n_heads_in_group"], None)
    if feed_forward.get("replace_with_linear"):
        params = hidden * hidden
    elif not feed_forward.get("no_op"):
        width = int(2 * feed_forward["ffn_mult"] * hidden / 3)
        params = 3 * hidden * -(-width // 256) * 256
    return _joined(mixer, Layer(params), 2 * hidden)
