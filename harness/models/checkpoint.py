"""Reading a checkpoint's own files: what it is, how large, and whether it can be loaded safely.

Only config.json, tokenizer files and the headers of safetensors files are read for the facts; weights
are read once more to fingerprint them. Knows nothing about vLLM, and nothing about the hub.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.config import ModelSpec, locate
from harness.errors import UserError
from harness.models.hashes import file_hash
from harness.models.layers import EXPERTS_PER_TOKEN, experts, text_config
from harness.models.mistral import as_config
from harness.models.tensors import Tensor, count_tensors, single_tensors
from harness.types import Architecture

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Suffixes of weight files that run code when they are loaded."""

COMPUTED_WITH = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
"""Suffixes of weights, configs, tokenizers, templates, and code that comes with a checkpoint."""


def find(spec: ModelSpec) -> Path | None:
    """The local folder of a model's checkpoint; see `find_folder`."""
    return find_folder(spec.path, spec.revision, f"model {spec.name}")


def find_folder(path: str, revision: str | None, what: str) -> Path | None:
    """The local folder of a checkpoint: the one given, or the hub's cache. None if it is not here.

    Args:
        path: a folder, or a hub id.
        revision: of the hub's repository, None for its main branch.
        what: whose it is, for the sentence of the error.

    Raises:
        UserError: a folder is given that does not exist, or what is neither a folder nor a hub id.
    """
    path = locate(path)
    if Path(path).is_dir():
        return Path(path)
    if path.startswith(("/", ".", "~")) or path.count("/") != 1:
        raise UserError(
            f"{what}: there is no folder {path}: give a folder with config.json and "
            "safetensors files, or a hub id such as Qwen/Qwen3-0.6B"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(path, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise UserError(f"{what}: {path!r} is not a hub id: {str(error).split(':')[0]}") from error
    # the cache may hold its small files alone
    return folder if any(f.suffix in (".safetensors", *PICKLED) for f in folder.iterdir()) else None


def inspect(folder: Path) -> Architecture:
    """What a checkpoint says about itself.

    Raises:
        UserError: the folder is no checkpoint, is damaged, or holds pickled weights only.
    """
    config = read_config(folder)
    files = weight_files(folder)
    tensors = stored_tensors(folder, files)
    template = next(iter(chat_templates(folder)), None)
    return describe(config, tensors, template, fingerprint(folder, files))


def describe(
    config: dict[str, Any], tensors: Iterable[Tensor], template: str | None, weights_hash: str | None
) -> Architecture:
    """The same, from what was read.

    Args:
        config: of config.json.
        tensors: of all weight files.
        template: source of the chat template.
        weights_hash: identity of the weights, None if they are not local.

    Raises:
        UserError: there are experts, and the config does not say how many a token is routed to.
    """
    text = text_config(config)
    count, chosen = experts(text)
    counted = count_tensors(config, tensors)
    if counted.routed and not (count and chosen):
        raise UserError(
            f"{counted.routed:,} parameters are in experts, and config.json does not say how many of them a "
            f"token is routed to: add the number of experts and one of {', '.join(EXPERTS_PER_TOKEN)}"
        )
    moe = bool(counted.routed)
    return Architecture(
        model_class=(config.get("architectures") or ["unknown"])[0],
        model_type=config.get("model_type", "unknown"),
        dense=not moe,
        total_params=counted.total,
        active_params=counted.active(count, chosen),
        experts=count if moe else None,
        experts_per_token=chosen if moe else None,
        weight_bytes=counted.bytes,
        context_length=text.get("max_position_embeddings"),
        chat_template_hash=template_hash(template),
        weights_hash=weights_hash,
    )


def template_hash(template: str | None) -> str | None:
    """The first 16 hex digits of the SHA-256 of a chat template."""
    return hashlib.sha256(template.encode()).hexdigest()[:16] if template else None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, sorted by name.

    Where the same weights are there twice, in Mistral's own format too, they are those of one format only.

    Raises:
        UserError: there are none, or an index names files that are not there.
    """
    files = sorted(folder.glob("*.safetensors"))
    plain = [file for file in files if not file.name.startswith("consolidated")]
    index = _index(folder)
    if index.is_file():
        wanted = set(read_json(index).get("weight_map", {}).values())
        absent = sorted(name for name in wanted if not (folder / name).is_file())
        if absent:
            raise UserError(
                f"{folder}: {absent[0]} is named by {index.name} but not there: download it again"
            )
        return sorted(folder / name for name in wanted)
    if files:
        return plain or files
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLED)
    if pickled:
        raise UserError(
            f"{folder} has its weights only in {pickled[0]}, a pickle, which can run any code when loaded: "
            "convert it to safetensors"
        )
    raise UserError(f"{folder} has no *.safetensors files: {_meant(folder)}")


def _meant(folder: Path) -> str:
    """What may be given instead of a folder that is no checkpoint, by what lies in it."""
    if (folder / "adapter_config.json").is_file():
        return "it is an adapter: name it as `adapter` of its base, `{model: BASE, adapter: FOLDER}`"
    if gguf := sorted(file.name for file in folder.glob("*.gguf")):
        return f"{gguf[0]} is not read; give the checkpoint that it was made of"
    if inside := sorted(file.parent.name for file in folder.glob("*/config.json")):
        return f"give the folder of one of the checkpoints in it, such as {inside[-1]}"
    return "give the folder of a whole checkpoint"


def stored_tensors(folder: Path, files: Sequence[Path]) -> list[Tensor]:
    """Every tensor of a checkpoint, once.

    Args:
        folder: of the checkpoint.
        files: its weight files, as from `weight_files`.

    Raises:
        UserError: two files hold a tensor, or one holds a tensor that the index puts into another.
    """
    index = _index(folder)
    homes = read_json(index).get("weight_map", {}) if index.is_file() else {}
    stored = ((file.name, tensor) for file in files for tensor in read_header(file))
    return single_tensors(str(folder), stored, homes)


def _index(folder: Path) -> Path:
    """Where the index of the weight files would be: Mistral's own if there are no others."""
    names = [file.name for file in folder.glob("*.safetensors")]
    own = bool(names) and all(name.startswith("consolidated") for name in names)
    return folder / f"{'consolidated' if own else 'model'}.safetensors.index.json"


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json says, or in Mistral's own format params.json.

    Raises:
        UserError: neither is there, or it cannot be read.
    """
    if not (folder / "config.json").is_file() and (folder / "params.json").is_file():
        return as_config(read_json(folder / "params.json"))
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder / 'config.json'} is missing: {_meant(folder)}")
    return read_json(folder / "config.json")


def files(folder: Path) -> list[Path]:
    """Every file that a checkpoint computes with, sorted by name."""
    return sorted(file for file in folder.iterdir() if file.suffix in COMPUTED_WITH)


def read_header(file: Path) -> Iterator[Tensor]:
    """Name, shape and dtype of every tensor of a safetensors file, by its header alone.

    Format: https://huggingface.co/docs/safetensors/index#format

    Raises:
        UserError: the file is truncated or not safetensors.
    """
    size = file.stat().st_size
    broken = UserError(f"{file} is damaged or cut short ({size} bytes): download it again")
    with file.open("rb") as stream:
        prefix = stream.read(8)
        if prefix == b"version ":
            raise UserError(f"{file} is a pointer of Git LFS, not the file: run `git lfs pull` in its folder")
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise broken
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise broken from error
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if 8 + length + end != size:
        raise broken
    for name, entry in header.items():
        yield Tensor(name, tuple(entry["shape"]), entry["dtype"])


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: the file is absent or not a JSON object.
    """
    try:
        data = json.loads(file.read_text(encoding="utf8"))
    except OSError as error:
        raise UserError(f"{file} is missing: give the folder of a whole checkpoint") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}): download it again") from error
    if not isinstance(data, dict):
        raise UserError(f"{file}: expected a JSON object")
    return data


TEMPLATE_FILES = (
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "chat_template.json",
    "tokenizer_config.json",
)
"""Where chat templates stand, and the special tokens that they write."""


def chat_template(folder: Path, *, tools: bool = False) -> str | None:
    """The source of the chat template that a tokenizer uses, None if it has none.

    Args:
        folder: of the checkpoint.
        tools: whether tools are shown: of several named templates `tool_use` is then taken before `default`.
    """
    templates = tokenizer_templates(folder)
    return templates.get("tool_use", templates.get("default")) if tools else templates.get("default")


def chat_templates(folder: Path) -> list[str]:
    """Every chat template of a checkpoint: of its tokenizer, and of a processor (chat_template.json).

    vLLM takes that of a processor where it shows no tools.
    """
    file = folder / "chat_template.json"
    template = read_json(file).get("chat_template") if file.is_file() else None
    of_processor = template.values() if isinstance(template, dict) else [template]
    return [*tokenizer_templates(folder).values(), *(t for t in of_processor if isinstance(t, str))]


def tokenizer_templates(folder: Path) -> dict[str, str]:
    """Name -> source of a tokenizer's chat templates. Files of their own come before its config."""
    files = [("default", folder / "chat_template.jinja")]
    files += [(file.stem, file) for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))]
    templates = {name: file.read_text(encoding="utf8") for name, file in files if file.is_file()}
    if templates or not (folder / "tokenizer_config.json").is_file():
        return templates
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        return {named["name"]: named["template"] for named in template}
    return {} if template is None else {"default": template}


def fingerprint(folder: Path, weights: list[Path]) -> str:
    """SHA-256 over everything that the checkpoint computes with: weights, config and tokenizer."""
    total = hashlib.sha256()
    others = [f for f in folder.iterdir() if f.suffix in (".json", ".jinja", ".model", ".txt")]
    for file in sorted({*weights, *others}):
        total.update(f"{file.name}\0{file_hash(file)}\n".encode())
    return total.hexdigest()


def summary(architecture: Architecture) -> str:
    """One line about a checkpoint, for lists."""
    total, active = (millions(n) for n in (architecture.total_params, architecture.active_params))
    if architecture.dense:
        return f"{architecture.model_class}, dense, {total} parameters"
    return f"{architecture.model_class}, MoE, {total} parameters, {active} active"


def millions(parameters: int) -> str:
    """A number of parameters as people write it: 0.73M, 7.6B, 1.0T."""
    for unit, size in (("T", 1e12), ("B", 1e9)):
        if parameters >= size:
            return f"{parameters / size:.1f}{unit}"
    return f"{parameters / 1e6:.2f}M"
