"""Whether a checkpoint has a tokenizer that can be read, before any model is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.models.checkpoint import read_json

FILES = (
    "tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model",
    "tiktoken.model", "*.tiktoken",
)  # fmt: skip
"""Files of which a tokenizer is made: any one of them makes one."""
MISTRAL_FILES = ("tekken.json", "tokenizer.model", "tokenizer.model.v*")
"""The same for Mistral's own tokenizers."""
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "tekken.json")
"""Files of JSON that belong to a tokenizer where they are."""
ELSEWHERE = ("tokenizer", "skip_tokenizer_init")
"""Engine arguments by which the checkpoint's own tokenizer is not used."""


def check_tokenizer(folder: Path, engine_args: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose tokenizer is absent or cannot be read.

    Args:
        folder: of the checkpoint.
        engine_args: vLLM's arguments, which may name another kind of tokenizer.

    Raises:
        UserError: with the file.
    """
    if any(engine_args.get(key) for key in ELSEWHERE):
        return
    mistral = engine_args.get("tokenizer_mode") == "mistral"
    wanted = MISTRAL_FILES if mistral else FILES
    if not any(file.is_file() for name in wanted for file in folder.glob(name)):
        raise UserError(
            f"{folder} has no tokenizer ({', '.join(wanted)}): give the folder of a whole checkpoint"
        )
    for name in SETTINGS:
        if (folder / name).is_file():
            read_json(folder / name)
    if not mistral and (folder / "tokenizer.json").is_file():
        _read(folder / "tokenizer.json")


def _read(file: Path) -> None:
    from tokenizers import Tokenizer

    read_json(file)
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more specific
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{file} is not a tokenizer ({reason}): download it again") from error
