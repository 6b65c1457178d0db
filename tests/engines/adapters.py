"""LoRA adapters in PEFT's format over the parrots of this folder."""

import json
from pathlib import Path

from tests.engines.parrot import WIDTH


def build_adapter(
    folder: Path, base: Path, *, skips: str | None, prefix: str = "model", **config: object
) -> Path:
    """An adapter with which a parrot skips what it would say after a piece. None: it changes nothing.

    The piece's own dimension opens a gate of the feed-forward layer, which is zero without the adapter, and
    that adds to the residual stream the dimension of the piece that is skipped.

    Args:
        folder: where it is written.
        base: of the parrot.
        skips: the piece after which another one is skipped.
        prefix: what its layers are called before `layers`; the model calls them `model`.
        config: of adapter_config.json, over what it would say.
    """
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    embedding = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    head = load_file(base / "model.safetensors")["lm_head.weight"]
    inward, outward = torch.zeros(2, WIDTH), torch.zeros(WIDTH, 2)
    inward[1, 0] = 1.0  # any token that nothing is said to follow
    if skips is not None:
        piece = AutoTokenizer.from_pretrained(base).convert_tokens_to_ids(skips)
        skipped = int(head[:, int(embedding[piece].argmax())].argmax())
        inward[0, int(embedding[piece].argmax())] = 1.0
        outward[int(embedding[skipped].argmax()), 0] = 1.0
        outward[WIDTH - 1, 1] = 0.1
    matrices = {"gate_proj": (inward, torch.eye(WIDTH, 2)), "up_proj": (inward, torch.eye(WIDTH, 2))}
    matrices["down_proj"] = (torch.eye(2, WIDTH), outward)
    tensors = {}
    for name, (a, b) in matrices.items():
        for side, matrix in (("A", a), ("B", b)):
            key = f"base_model.model.{prefix}.layers.0.mlp.{name}.lora_{side}.weight"
            tensors[key] = matrix.clone().contiguous()
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    stated = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 2,
        "target_modules": [*matrices],
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(stated | config))
    return folder
