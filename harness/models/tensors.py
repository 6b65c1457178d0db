"""Counting parameters from the names, shapes and types of stored tensors.

A stored tensor is not always a parameter: scales and zero points of quantised blocks are none, packed
tensors hold several parameters an element, a tied output head is stored twice, layers for multi-token
prediction take no part in evaluation, and towers for images and sound take none in text.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.models.layers import text_config

DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "F4": 4,
}  # fmt: skip
"""Bits an element by safetensors' names; names not listed (8-bit types) have eight."""

SCALES = re.compile(
    r"(_scale_inv|(?<!\.hc_attn)(?<!\.hc_ffn)(?<!hc_head)_scale|\.scale|[._]scales|_scale_\d|_global_scale"
    r"|\.qscale_(act|weight)|_zero_point|\.qzeros|\.g_idx|\.weight_shape|\.weight\.(absmax|quant_map|nested_.*|quant_state.*))$"
)
"""Names of what belongs to a quantised block beside its values, not of scales of hyper-connections."""
TABLE = re.compile(r"\.tid2eid$")
"""Names of tables that say which experts a token goes to: numbers of experts, which nobody trained."""
PACKED = re.compile(r"(_blocks|\.weight_packed|\.qweight)$")
"""Names of tensors of which one element holds several parameters."""
ROUTED = re.compile(r"\.experts\.|\.block_sparse_moe\.(input|output)_linear\.")
"""Names of routed experts; shared ones are called `shared_experts`."""
PREDICTION = re.compile(r"(^|\.)mtp(_layers|_block)?\.")
"""Names of layers for multi-token prediction, where they do not continue the numbering of layers."""
LAYER = re.compile(r"^(?:language_model\.|model\.|backbone\.)*layers\.(\d+)\.")
TOWER = re.compile(
    r"(^|\.)(vision\w*|visual|audio\w*|multi_modal_projector|mm_projector|embed_vision|embed_audio"
    r"|patch_merge\w*)\."
)
"""Names of what turns images and sound into embeddings."""


class Tensor(NamedTuple):
    """A stored tensor, without its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As safetensors calls it."""


@dataclass
class Counted:
    """Numbers of parameters of a checkpoint."""

    total: int = 0
    """Without layers for multi-token prediction."""
    routed: int = 0
    """In routed experts."""
    towers: int = 0
    """In encoders of images and sound."""
    prediction: int = 0
    """In layers for multi-token prediction."""
    bytes: int = 0
    """Stored, all included."""

    def active(self, experts: int, per_token: int) -> int:
        """Parameters used for one token of text."""
        idle = self.routed * (1 - per_token / experts) if experts and per_token else 0
        return round(self.total - self.towers - idle)


def single_tensors(
    where: str, stored: Iterable[tuple[str, Tensor]], homes: Mapping[str, str]
) -> list[Tensor]:
    """The tensors of a checkpoint, each of which lies in one file.

    Args:
        where: folder or repository of the checkpoint.
        stored: (file, tensor in it).
        homes: tensor -> file, as the index says.

    Raises:
        UserError: two files hold a tensor, or one holds a tensor that the index puts into another. vLLM reads
            every tensor of every file (vllm #54230), so that which copy is measured is left to chance.
    """
    owners = dict(homes)
    tensors = []
    for file, tensor in stored:
        if (home := owners.setdefault(tensor.name, file)) != file:
            raise UserError(
                f"{where}: {file} holds the tensor {tensor.name}, which is in {home} too: one copy is "
                "stale, and vLLM reads both; save the checkpoint anew into an empty folder"
            )
        tensors.append(tensor)
    return tensors


def count_tensors(config: Mapping[str, Any], tensors: Iterable[Tensor]) -> Counted:
    """Count the parameters of a checkpoint.

    Args:
        config: of its config.json.
        tensors: every tensor of every weight file.
    """
    text = text_config(config)
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))
    depth = text.get("num_hidden_layers", math.inf)
    counted = Counted()
    for tensor in tensors:
        counted.bytes += math.prod(tensor.shape) * DTYPE_BITS.get(tensor.dtype, 8) // 8
        if (
            SCALES.search(tensor.name)
            or TABLE.search(tensor.name)
            or (tied and tensor.name.endswith("lm_head.weight"))
        ):
            continue
        number = math.prod(tensor.shape) * packing(tensor, config)
        layer = LAYER.match(tensor.name)
        if PREDICTION.search(tensor.name) or (layer and int(layer[1]) >= depth):
            counted.prediction += number
            continue
        counted.total += number
        if TOWER.search(tensor.name):
            counted.towers += number
        elif ROUTED.search(tensor.name):
            counted.routed += number
    return counted


def packing(tensor: Tensor, config: Mapping[str, Any]) -> int:
    """How many parameters one element of a tensor holds."""
    bits = DTYPE_BITS.get(tensor.dtype, 8)
    if PACKED.search(tensor.name):
        return bits // quantized_bits(config)
    # 4-bit floats without a type of their own are stored two to a byte, as NVFP4 and DeepSeek V4 do
    four_bits = tensor.dtype == "U8" or (tensor.dtype == "I8" and config.get("expert_dtype") == "fp4")
    return 2 if four_bits and tensor.name.endswith(".weight") else 1


def quantized_bits(config: Mapping[str, Any]) -> int:
    """Bits of a packed weight by the config's quantisation; four where it does not say."""
    quantization = quantization_config(config)
    if "bits" in quantization:  # GPTQ, AWQ
        return int(quantization["bits"])
    groups = quantization.get("config_groups") or {}  # compressed-tensors
    stated = [group["weights"]["num_bits"] for group in groups.values() if group.get("weights")]
    return int(stated[0]) if stated else 4


def quantization_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The quantisation that a config states, empty if it states none."""
    section: Mapping[str, Any] = (
        config.get("quantization_config") or text_config(config).get("quantization_config") or {}
    )
    return section
