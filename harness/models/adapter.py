"""LoRA adapters: what their own files say, and whether they fit the weights that they are put over.

Read are adapter_config.json and the header of adapter_model.safetensors, in the format of PEFT
(https://huggingface.co/docs/peft/developer_guides/checkpoint).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.config import ModelSpec, as_written, hub_id
from harness.errors import UserError
from harness.models import checkpoint
from harness.models.hashes import file_hash
from harness.models.layers import text_config
from harness.models.tensors import Tensor
from harness.types import Struct

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "modules_to_save": (None, []),
    "lora_bias": (False, None),
}
"""Key of adapter_config.json -> the values of a LoRA that is nothing more, which is what vLLM can serve."""

MATRIX = re.compile(
    r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>A|B|embedding_A|embedding_B)(\.weight)?$"
)

FROM_HIDDEN = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
"""Layers of a decoder whose input has the model's hidden size."""

SUFFIX = re.compile(r"(?:^|\.)(layers\.\d+\..+)$")
"""What a layer is called whatever wraps its model: multimodal classes put prefixes before it."""


class Adapter(Struct):
    """A LoRA adapter, by its files."""

    folder: Path
    digest: str
    """SHA-256 over both of its files."""
    rank: int
    """The largest of its ranks."""
    base: str | None
    """The weights that it was trained on, as its config says it: hub id or a path."""
    base_revision: str | None
    targets: tuple[str, ...]
    """Kinds of layers that it changes."""
    sizes: dict[str, tuple[int, int]]
    """Layer -> (out, in) of the matrix that it is added to."""


def find(spec: ModelSpec) -> Path | None:
    """The local folder of a model's adapter; None if it has none, or it is on the hub only."""
    what = f"adapter of model {spec.name}"
    folder = checkpoint.find_folder(spec.adapter, spec.adapter_revision, what) if spec.adapter else None
    if folder is None and spec.adapter:
        raise UserError(
            f"{what}: {spec.adapter} is not on this machine: run `harness fetch` with this config, or "
            f"`hf download {spec.adapter}`"
        )
    return folder


def read(folder: Path) -> Adapter:
    """An adapter by its files.

    Raises:
        UserError: it is none, is of a kind that vLLM cannot serve, or changes nothing.
    """
    config = checkpoint.read_json(folder / CONFIG)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UserError(
            f"{folder / CONFIG}: peft_type is {kind!r}: only LORA can be served; merge it into its base"
        )
    for key, plain in PLAIN.items():
        if key in config and config[key] not in plain:
            raise UserError(
                f"{folder / CONFIG}: {key} is {config[key]!r}, which vLLM does not serve: merge the adapter "
                "into its base, and measure that"
            )
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise UserError(
            f"{folder / CONFIG}: r is {config.get('r')!r}: expected the rank, a whole number above 0"
        )
    if not (folder / WEIGHTS).is_file():
        pickled = folder / "adapter_model.bin"
        why = (
            "its weights are a pickle, which can run any code: convert them to"
            if pickled.is_file()
            else "expected"
        )
        raise UserError(f"{folder} has no {WEIGHTS}: {why} safetensors")
    targets = config.get("target_modules") or []
    return Adapter(
        folder=folder,
        digest=hashlib.sha256(
            "\n".join(file_hash(folder / name) for name in (CONFIG, WEIGHTS)).encode()
        ).hexdigest(),
        rank=max(ranks),
        base=config.get("base_model_name_or_path") or None,
        base_revision=config.get("revision") or None,
        targets=(targets,) if isinstance(targets, str) else tuple(sorted(targets)),
        sizes=_sizes(folder),
    )


def _sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Raises UserError if there is no pair of matrices, or only one of a pair."""
    sides: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor in checkpoint.read_header(folder / WEIGHTS):
        if match := MATRIX.match(tensor.name):
            sides.setdefault(match["module"], {})[match["side"][-1]] = tensor.shape
    if not sides:
        raise UserError(
            f"{folder / WEIGHTS} has no lora_A and lora_B: it changes nothing; save the adapter anew"
        )
    if half := next((name for name, shapes in sides.items() if len(shapes) < 2), None):
        raise UserError(
            f"{folder / WEIGHTS}: {half} has only one of lora_A and lora_B: save the adapter anew"
        )
    return {name: (shapes["B"][0], shapes["A"][-1]) for name, shapes in sides.items()}


def check_base(adapter: Adapter, spec: ModelSpec, folder: Path | None, *, whole: bool) -> None:
    """Refuse an adapter whose base is other weights than the model's.

    What a path on the machine of its trainer was cannot be known; sizes tell then.

    Args:
        adapter: the adapter.
        spec: of the model that it is put over.
        folder: of the model's checkpoint, None if nothing of it is here.
        whole: whether its weights are in the folder, or only its small files.

    Raises:
        UserError: name, commit or sizes tell that it does not fit.
    """
    which = f"the adapter {as_written(spec.adapter or '')}"
    base, named = hub_id(spec.path), hub_id(adapter.base or "")
    known = {name.lower() for name in (base, *spec.origin.base_models) if name}
    if named and base and named.lower() not in known:
        raise UserError(
            f"{which} was trained on {named}, and model {spec.name} is {base}: name "
            f"{named} as its model; if the weights are the same, correct {CONFIG}"
        )
    if named and adapter.base_revision and spec.revision and adapter.base_revision != spec.revision:
        raise UserError(
            f"{which} was trained on commit {adapter.base_revision} of {named}, and model "
            f"{spec.name} is its commit {spec.revision}: set `revision` to the first"
        )
    if folder is None:
        return
    stored = checkpoint.stored_tensors(folder, checkpoint.weight_files(folder)) if whole else []
    for problem in (*_other_depth(adapter, checkpoint.read_config(folder)), *_other_sizes(adapter, stored)):
        raise UserError(f"{which} does not fit model {spec.name}: {problem}")


def _other_depth(adapter: Adapter, config: Mapping[str, Any]) -> Iterable[str]:
    text = text_config(config)
    hidden, depth = text.get("hidden_size"), text.get("num_hidden_layers")
    for name, (_, width) in adapter.sizes.items():
        layer = re.search(r"\blayers\.(\d+)\.", name)
        if layer and depth is not None and int(layer[1]) >= depth:
            yield f"it changes {name}, and the model has {depth} layers"
        if layer and hidden is not None and name.endswith(FROM_HIDDEN) and width != hidden:
            yield f"{name} takes {width} numbers, and the model's hidden size is {hidden}"


def _other_sizes(adapter: Adapter, stored: Iterable[Tensor]) -> Iterable[str]:
    """What stands in the way of adding its matrices to those that are stored; packed ones tell no size."""
    shapes = {
        _bare(t.name.removesuffix(".weight")): t.shape
        for t in stored
        if t.name.endswith(".weight") and t.dtype != "U8"
    }
    for name, size in adapter.sizes.items():
        shape = shapes.get(_bare(name))
        if shape is not None and len(shape) == 2 and shape != size:
            yield f"{name} is {size[0]} x {size[1]} in the adapter and {shape[0]} x {shape[1]} in the model"


def _bare(name: str) -> str:
    match = SUFFIX.search(name)
    return match[1] if match else name
