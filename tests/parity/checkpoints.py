"""Planted checkpoints, changed: other tokenizers, other rules."""

import json
import shutil
from itertools import count
from pathlib import Path

from harness.config import registry

PLANTED = registry().parent / "harness" / "models" / "planted"

BOS = "<|endoftext|>"
"""A special token of the planted models, which have no BOS token: they know it as padding."""


def with_bos(model: str, folder: Path, *, in_template: bool = True) -> Path:
    """A planted model whose tokenizer begins every text with a BOS token, as Llama's and Gemma's do.

    Args:
        model: name of the planted model.
        folder: does not exist yet.
        in_template: whether its chat template writes the BOS token, too.
    """
    shutil.copytree(PLANTED / model, folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token": BOS}))
    core = folder / "tokenizer.json"
    tokenizer = json.loads(core.read_text())
    (added,) = (token for token in tokenizer["added_tokens"] if token["content"] == BOS)
    processor = tokenizer["post_processor"]
    processor["single"].insert(0, {"SpecialToken": {"id": BOS, "type_id": 0}})
    processor["special_tokens"] = {BOS: {"id": BOS, "ids": [added["id"]], "tokens": [BOS]}}
    core.write_text(json.dumps(tokenizer))
    if in_template:
        template = folder / "chat_template.jinja"
        template.write_text("{{ bos_token }}" + template.read_text())
    return folder


REPLY = (
    tuple(f"It is so.\nGRADE: {letter}" for letter in "CPI"),
    tuple(f"\nANSWER: {letter}" for letter in "ABCD"),
)
"""What `that_answers` writes: one of the first, then one of the second, as the prompt has it."""


def that_answers(folder: Path) -> Path:
    """A model that grades and answers whatever it is asked, with letters that depend on the whole prompt.

    Each piece of a reply is one token. One layer gives every token of the prompt the same weight, so that
    what comes of it is the mean of their codes. The head's row of a piece is the code of what it follows, and
    a random direction, by which the mean decides between pieces that follow the same.

    Args:
        folder: does not exist yet.
    """
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(PLANTED / "aster-dense", folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    before = [tokenizer["model"]["vocab"]["\u010a"]]  # a line feed ends the template's prompt for a reply
    free = count(
        1 + max(*tokenizer["model"]["vocab"].values(), *(t["id"] for t in tokenizer["added_tokens"]))
    )
    pieces = [[next(free) for _ in texts] for texts in REPLY]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    for ids, texts in zip(pieces, REPLY, strict=True):
        tokenizer["added_tokens"] += [
            {"id": i, "content": t} | plain for i, t in zip(ids, texts, strict=True)
        ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    weights = load_file(folder / "model.safetensors")
    weights = {name: tensor.float() for name, tensor in weights.items() if ".layers.1." not in name}
    for name, tensor in weights.items():
        tensor.fill_(1.0 if "norm" in name else 0.0)
    random = torch.Generator().manual_seed(0)
    rows, size = weights["model.embed_tokens.weight"].shape
    half = size // 2  # codes in the first half, the mean in the second
    codes = torch.nn.functional.normalize(torch.randn(rows, half, generator=random), dim=1)
    weights["model.embed_tokens.weight"][:, :half] = codes
    weights["model.layers.0.self_attn.v_proj.weight"][:, :half] = torch.eye(half)
    mixed = weights["model.layers.0.self_attn.o_proj.weight"]  # two of four heads have the codes' halves
    mixed[half : half + 32, :32] = mixed[half + 32 :, half : half + 32] = torch.eye(32)
    head = torch.zeros(rows, size)
    for ids in [*pieces, [2]]:  # the last ends the reply
        for token in ids:
            head[token, :half] = 100 * codes[before].sum(0)
            head[token, half:] = 5 * torch.randn(half, generator=random)
        before = ids
    save_file({**weights, "lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_hidden_layers": 1, "layer_types": ["full_attention"], "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    return folder
