"""What a config.json says about each layer: its parameters, and what it keeps for each token and sequence.

Pure functions on config values; nothing is read or loaded. Parameters of vision and audio towers are not
counted, and neither are layers for multi-token prediction, which take no part in evaluation.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.errors import UserError

Config = Mapping[str, Any]

MODEL_TYPES = frozenset(
    {
        "cohere2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "exaone4", "exaone_moe", "gemma3_text",
        "gemma4_text", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt_oss", "granite", "granitemoe",
        "granitemoehybrid", "hy_v3", "kimi_k2", "llama", "llama4_text", "mellum", "minimax_m2",
        "minimax_m3", "minimax_m3_text", "minimax_m3_vl", "minimax_m3_vl_text", "ministral3", "mistral",
        "mixtral", "nemotron-nas", "nemotron_h", "olmo2", "olmo3", "olmoe", "phi", "phi3", "phimoe",
        "qwen2", "qwen3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "seed_oss",
        "smollm3", "stablelm",
    }
)  # fmt: skip
"""Families whose layers are described here."""

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""Names under which released configs state the number of routed experts of a layer."""
EXPERTS_PER_TOKEN = (
    "num_experts_per_tok", "num_experts_per_token", "moe_k", "experts_per_token", "top_k_experts",
    "moe_topk",
)  # fmt: skip

UNGATED = frozenset({"nemotron_h", "phi"})
"""Families whose feed-forward has two matrices: up and down. The others have a gate besides."""
INDEX_BYTES = 4
"""Bytes of the scale that the sparse-attention indexer keeps beside its 8-bit key of a token."""
RATIOS = {"sliding": 0, "compressed_sparse": 4, "heavily_compressed": 128}
"""Tokens of an entry of compressed attention, by the layer types of DeepSeek V4 in transformers."""
COMPRESSED_ROTARY, COMPRESSED_SCALES = 64, 8
"""Numbers of an entry of compressed attention that stay in 16 bits, and bytes of scales of the others."""


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
    """Bytes that are cached for a token whatever the type of the cache, on every GPU of the layer."""
    kv_heads: int = 1
    """Into how many parts the cached numbers can be split over GPUs."""
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
    # some say what they are on the outside only
    return inner if inner.get("model_type") else {**inner, "model_type": config.get("model_type", "")}


def count_parameters(config: Config) -> Parameters:
    """Parameters of the language model that a config.json describes.

    Raises:
        UserError: as `layers`.
    """
    text = text_config(config)
    stack = layers(config)
    embedding = _stated(text, "vocab_size") * text["hidden_size"]
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))
    rest = embedding * (1 if tied else 2) + text["hidden_size"] + sum(layer.params for layer in stack)
    rest += _joined_streams(text)
    return Parameters(
        total=rest + sum(layer.routed for layer in stack),
        active=rest + sum(layer.routed_active for layer in stack),
        embedding=embedding,
    )


def layers(config: Config) -> list[Layer]:
    """Every layer of the language model, in order.

    Raises:
        UserError: the family is not one of `MODEL_TYPES`, a layer is of a type that is not described, or a
            value is not stated.
    """
    text = text_config(config)
    family = text["model_type"]
    if family not in MODEL_TYPES:
        raise UserError(
            f"model_type {family!r}: its layers are not described; those of "
            f"{', '.join(sorted(MODEL_TYPES))} are, others are counted from their safetensors headers alone"
        )
    try:
        return list(_layers(text))
    except KeyError as error:
        raise UserError(f"config.json does not state {error}, which a {family} has") from error


def _stated(text: Config, key: str) -> Any:
    if text.get(key) is None:
        raise UserError(f"config.json does not state {key!r}")
    return text[key]


def _layers(text: Config) -> Iterator[Layer]:
    family = text["model_type"]
    if "block_configs" in text:
        yield from (_deci_layer(text, block) for block in text["block_configs"])
    elif family == "nemotron_h":
        yield from (_nemotron_layer(text, kind) for kind in _nemotron_pattern(text))
    elif family == "gemma4_text":
        yield from (_gemma4_layer(text, index, kind) for index, kind in enumerate(_mixers(text)))
    else:
        for index, kind in enumerate(_mixers(text)):
            yield _joined(_mixer(text, kind, index), _feed_forward(text, index), 2 * text["hidden_size"])


def experts(text: Config) -> tuple[int, int]:
    """(routed experts of a layer, experts a token is routed to); zeros for a dense model."""
    return _first(text, EXPERT_COUNTS), _first(text, EXPERTS_PER_TOKEN)


def _first(config: Config, keys: tuple[str, ...]) -> int:
    value = next((config[key] for key in keys if config.get(key)), 0)
    # some families give one number a layer
    return max(value) if isinstance(value, list) else int(value)


def _joined(mixer: Layer, feed_forward: Layer, norms: int) -> Layer:
    return replace(
        mixer,
        params=mixer.params + feed_forward.params + norms,
        routed=feed_forward.routed,
        routed_active=feed_forward.routed_active,
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
    if text["model_type"].startswith("minimax_m3"):
        return _block_sparse_attention(text, index, kind)
    if text["model_type"] == "deepseek_v4":
        ratios = text.get("compress_ratios")
        return _compressed_attention(text, ratios[index] if ratios else RATIOS[_known(kind, RATIOS)])
    if kind == "mamba" or (kind == "linear" and "mamba_n_heads" in text):  # as transformers 5 writes it
        return _mamba(text)
    if kind == "linear":
        return _delta_net(text)
    if text.get("kv_lora_rank"):
        return _latent_attention(text, index)
    windows = {
        "full": None,
        "sliding": text.get("sliding_window"),
        "chunked": text.get("attention_chunk_size"),
    }
    return _attention(text, _kv_heads(text), windows[_known(kind, windows)])


def _known(kind: str, kinds: Collection[str]) -> str:
    if kind not in kinds:
        raise UserError(f"layers of type {kind!r} are not described; those of {', '.join(kinds)} are")
    return kind


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


def _block_sparse_attention(text: Config, index: int, kind: str) -> Layer:
    """Attention of MiniMax M3: grouped queries, of which an indexer chooses the blocks of keys they see.

    The shapes are those of its implementation in transformers, the cache that of vLLM, which keeps the
    indexer's one key of a token in 16 bits.
    """
    attention = _attention(text, _kv_heads(text), None)
    indexer: Config = text.get("sparse_attention_config") or {}
    chosen = indexer.get("sparse_attention_freq")
    if not (chosen[index] if chosen else _known(kind, ("full", "minimax_m3_sparse")) != "full"):
        return attention
    heads = indexer.get("sparse_num_index_heads") or text["index_n_heads"]
    width = indexer.get("sparse_index_dim") or text["index_head_dim"]
    params = attention.params + text["hidden_size"] * (heads + 1) * width + 2 * width
    return replace(attention, params=params, cache_bytes=2 * width)


def _compressed_attention(text: Config, ratio: int) -> Layer:
    """Attention of DeepSeek V4: a window, and beside it one entry for every `ratio` tokens (0: none).

    The shapes are those of its implementation in transformers. The cache is that of vLLM: an entry has its
    rotary part in 16 bits and scales for the rest, and what is being compressed is kept in 32 bits.
    """
    hidden, rank, width = text["hidden_size"], text["q_lora_rank"], text["head_dim"]
    queries, grouped = text["num_attention_heads"] * width, text["o_lora_rank"]
    params = (hidden + queries) * rank + hidden * width + queries * grouped + rank + width
    params += text["o_groups"] * grouped * hidden + text["num_attention_heads"]
    mixed = (text["hc_mult"] + 2) * text["hc_mult"]  # of the streams of the residual, in each half of a layer
    params += 2 * (mixed * text["hc_mult"] * hidden + mixed + 3)
    plain, fixed = width - COMPRESSED_ROTARY, 2 * COMPRESSED_ROTARY + COMPRESSED_SCALES
    window = text["sliding_window"]
    if not ratio:
        return Layer(params, cache_elements=plain, cache_bytes=fixed, window=window)
    overlaps = 2 if ratio == RATIOS["compressed_sparse"] else 1
    params += _compressor(hidden, width, ratio, overlaps)
    state = window * (2 * plain + fixed) + _compressor_state(width, ratio, overlaps)
    entry = fixed
    if overlaps == 2:  # only entries of few tokens are so many that an indexer has to choose
        index, heads = text["index_head_dim"], text["index_n_heads"]
        params += _compressor(hidden, index, ratio, overlaps) + rank * heads * index + hidden * heads
        state += _compressor_state(index, ratio, overlaps)
        entry += index + INDEX_BYTES
    return Layer(params, cache_elements=plain // ratio, cache_bytes=-(-entry // ratio), state_bytes=state)


def _compressor(hidden: int, width: int, ratio: int, overlaps: int) -> int:
    """Parameters of what makes one entry of several tokens: values, weights, their places, and a norm."""
    return 2 * overlaps * hidden * width + ratio * overlaps * width + width


def _compressor_state(width: int, ratio: int, overlaps: int) -> int:
    """Bytes of the tokens that are not compressed yet."""
    return overlaps * ratio * 2 * overlaps * width * 4


def _joined_streams(text: Config) -> int:
    """Parameters by which the streams of DeepSeek V4's residual become one, behind the last layer."""
    streams = text["hc_mult"] if text["model_type"] == "deepseek_v4" else 0
    return streams * streams * text["hidden_size"] + streams + 1 if streams else 0


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
        keys: tuple[str, ...] = ("dense_intermediate_size", "intermediate_size_mlp", "intermediate_size")
        if text["model_type"] == "granitemoehybrid":
            keys = ("shared_intermediate_size",)
        width = _first(text, keys) or text["intermediate_size"]
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
    if text.get("mlp_layer_types"):
        return bool(text["mlp_layer_types"][index] != "dense")
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
    if text["model_type"].startswith(("granitemoehybrid", "minimax_m3")):
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


def _gemma4_layer(text: Config, index: int, kind: str) -> Layer:
    """A layer of Gemma 4: full attention has wider heads, and may read its values off its keys.

    The shapes are those of its implementation in transformers; vLLM caches keys and values alike.
    """
    hidden, own = text["hidden_size"], (text.get("per_layer_config") or {}).get(str(index), {})
    full, shared = _known(kind, ("full", "sliding")) == "full", _reads_earlier_cache(text, index)
    width = own.get("head_dim") or (text.get("global_head_dim", 512) if full else text["head_dim"])
    one = full and text.get("attention_k_eq_v")
    kv_heads = (
        own.get("num_key_value_heads") or (one and text.get("num_global_key_value_heads")) or _kv_heads(text)
    )
    keys = kv_heads * width
    params = 2 * hidden * text["num_attention_heads"] * width + width + 4 * hidden + 1
    if not shared:
        params += hidden * keys * (1 if one else 2) + width
    params += (
        3 * hidden * text["intermediate_size"] * (2 if shared and text.get("use_double_wide_mlp") else 1)
    )
    if narrow := text.get("hidden_size_per_layer_input"):  # an embedding of its own for every layer
        params += narrow * (text["vocab_size_per_layer_input"] + 3 * hidden) + hidden
    count, chosen = experts(text) if text.get("enable_moe_block") else (0, 0)
    expert = 3 * hidden * (text.get("moe_intermediate_size") or 0)
    return Layer(
        params + (hidden * count + 4 * hidden + count if count else 0),
        routed=expert * count,
        routed_active=expert * chosen,
        cache_elements=0 if shared else 2 * keys,
        kv_heads=kv_heads,
        window=None if full else text["sliding_window"],
    )


def _reads_earlier_cache(text: Config, index: int) -> bool:
    """Whether a layer of Gemma 4 has no keys and values of its own."""
    first = text["num_hidden_layers"] - (text.get("num_kv_shared_layers") or 0)
    return bool(index >= first)


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
