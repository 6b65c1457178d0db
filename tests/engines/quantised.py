"""A checkpoint quantised as it is published: GPTQ with 4 bits, and compressed-tensors with 8-bit integers.

Rounded to nearest, without calibration: what is tested is the way from a quantised checkpoint to a table.
"""

import json
import shutil
from pathlib import Path
from typing import Any

GROUP = 32
"""Inputs that share a scale in GPTQ's format."""


def build_gptq(folder: Path, base: Path) -> Path:
    """The same model with every linear layer in 4 bits, symmetric. Layout: AutoGPTQ's, first version."""
    import torch

    weights = torch.arange(8, dtype=torch.int64) * 4

    def pack(values: Any) -> Any:
        """Eight values of 4 bits along the first axis, the first lowest."""
        eights = values.reshape(values.shape[0] // 8, 8, *values.shape[1:])
        words = (eights << weights.view(1, 8, *[1] * (values.dim() - 1))).sum(1)
        return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)

    def quantised(weight: Any) -> dict[str, Any]:
        out, inner = weight.shape
        groups = weight.float().T.reshape(inner // GROUP, GROUP, out)
        scales = (groups.abs().amax(1) / 7).clamp(min=1e-8).half()
        values = (groups / scales.float()[:, None]).round().clamp(-8, 7).reshape(inner, out).to(
            torch.int64
        ) + 8
        return {
            "qweight": pack(values),
            "qzeros": torch.full((inner // GROUP, out // 8), 0x77777777, dtype=torch.int32),  # 8, less one
            "scales": scales,
            "g_idx": torch.arange(inner, dtype=torch.int32) // GROUP,
        }

    config = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}
    return _build(folder, base, quantised, config | {"lm_head": False, "checkpoint_format": "gptq"})


def build_int8(folder: Path, base: Path) -> Path:
    """The same model with weights and activations in 8 bits: a scale for each output, one for each token."""
    import torch

    def quantised(weight: Any) -> dict[str, Any]:
        scale = (weight.float().abs().amax(1, keepdim=True) / 127).clamp(min=1e-8)
        values = (weight.float() / scale).round().clamp(-128, 127).to(torch.int8)
        return {"weight": values, "weight_scale": scale.to(torch.bfloat16)}

    eight = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**eight, "strategy": "channel", "dynamic": False},
        "input_activations": {**eight, "strategy": "token", "dynamic": True},
    }
    config = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    return _build(folder, base, quantised, config)


def _build(folder: Path, base: Path, quantised: Any, config: dict[str, Any]) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    tensors: dict[str, Any] = {}
    for name, tensor in load_file(base / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            layer = name.removesuffix(".weight")
            tensors |= {f"{layer}.{key}": value.contiguous() for key, value in quantised(tensor).items()}
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    stated = json.loads((base / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stated | {"quantization_config": config}))
    return folder
