"""A tokenizer that is absent or cannot be read is refused before any model is loaded."""

import shutil
from pathlib import Path

import pytest

from harness.config import locate
from harness.errors import UserError
from harness.models.tokenizer import check_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(locate("harness:models/planted/aster-dense"), tmp_path / "m"))


def test_a_whole_checkpoint_is_not_refused(folder: Path) -> None:
    check_tokenizer(folder, {})


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("tokenizer.json", '{"model": ', r"tokenizer\.json is not JSON"),
        (
            "tokenizer.json",
            '{"model": {"type": "Unheard"}}',
            r"tokenizer\.json is not a tokenizer \(.*\): download",
        ),
        ("tokenizer_config.json", "[]", r"tokenizer_config\.json: expected a JSON object"),
        ("special_tokens_map.json", "{", r"special_tokens_map\.json is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(folder: Path, file: str, text: str, says: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=says):
        check_tokenizer(folder, {})


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer \(tokenizer\.json, .*give the folder of a whole"):
        check_tokenizer(folder, {})
    check_tokenizer(folder, {"tokenizer": "Qwen/Qwen3-8B"})
    check_tokenizer(folder, {"skip_tokenizer_init": True})
    (folder / "qwen.tiktoken").write_text("IQ== 0")
    check_tokenizer(folder, {})


def test_mistrals_own_tokenizer_is_another_file(folder: Path) -> None:
    with pytest.raises(UserError, match=r"has no tokenizer \(tekken\.json"):
        check_tokenizer(folder, {"tokenizer_mode": "mistral"})
    (folder / "tekken.json").write_text("{}")
    check_tokenizer(folder, {"tokenizer_mode": "mistral"})
