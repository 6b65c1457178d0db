"""Tokens that parsers look for, as vLLM's own classes look for them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.config import ModelSpec
from harness.models.parsers import (
    REQUIRED,
    class_errors,
    installed,
    missing_tokens,
    older,
    parser_errors,
    quantization_errors,
    registered,
)
from harness.types import Origin

PARSERS = [(key, name) for key, parsers in REQUIRED.items() for name in parsers]


def spec(parsers: dict[str, str]) -> ModelSpec:
    some = ModelSpec(name="some", path="some", origin=Origin(developer="A", country="XA"))
    return msgspec.structs.replace(some, **parsers)


def with_words(words: Iterable[str]) -> Any:
    """A tokenizer of single bytes that has some words beside them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = (*sorted(pre_tokenizers.ByteLevel.alphabet()), "<eos>")
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys((*characters, *words)))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")


def write_tokenizer(folder: Path, *words: str) -> Path:
    vocabulary = {word: number for number, word in enumerate(("a", *words))}
    told = {"model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}}
    (folder / "tokenizer.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize(("key", "name"), PARSERS)
def test_absent_tokens_are_named_with_model_and_parser(tmp_path: Path, key: str, name: str) -> None:
    wanted = REQUIRED[key][name]
    asked = spec({key: name})
    (error,) = missing_tokens(asked, write_tokenizer(tmp_path))
    for word in ("model some", key, name, *wanted):
        assert word in str(error)
    assert error.option == key
    (error,) = missing_tokens(asked, write_tokenizer(tmp_path, *wanted[1:]))
    assert f" {wanted[0]}, " in str(error)
    assert list(missing_tokens(asked, write_tokenizer(tmp_path, *wanted))) == []


def test_parsers_that_need_no_token_need_no_tokenizer(tmp_path: Path) -> None:
    asked = spec({"tool_call_parser": "hermes", "reasoning_parser": "qwen3"})
    assert list(missing_tokens(asked, tmp_path)) == []


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, None),
        # vLLM has no class of its own for it, and serves it through transformers.
        ({"architectures": ["SolarOpenForCausalLM"], "model_type": "solar_open"}, None),
        ({}, None),
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, None),
        ({"architectures": ["InternVLChatModel"], "model_type": "internvl_chat"}, None),
        ({"architectures": ["OwnForCausalLM"], "model_type": "own"}, "a later one may have it"),
        ({"architectures": ["QWenLMHeadModel"], "model_type": "qwen"}, "vLLM had it up to 0.23.0"),
    ],
)
def test_a_class_that_nothing_installed_has_is_said(config: dict[str, Any], said: str | None) -> None:
    errors = [str(error) for error in class_errors(spec({}), config, {})]
    if said is None:
        assert errors == []
    else:
        [error] = errors
        assert f"model some: vLLM has no class {config['architectures'][0]}; {said}" in error
        assert list(class_errors(spec({}), config, {"hf_overrides": {"architectures": ["A"]}})) == []


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
@pytest.mark.parametrize("classes", [{}, {"architectures": None}, {"architectures": []}])
def test_a_config_without_a_class_is_refused(classes: dict[str, Any]) -> None:
    config = {"model_type": "qwen3", **classes}
    [error] = class_errors(spec({}), config, {})
    assert "its config.json names no class: add `architectures`" in str(error)
    assert not list(class_errors(spec({}), config, {"hf_overrides": {"architectures": ["A"]}}))


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
def test_code_of_a_checkpoint_is_to_be_trusted_first() -> None:
    own = {"architectures": ["OwnForCausalLM"], "model_type": "own", "auto_map": {"AutoModel": "x.Own"}}
    [error] = class_errors(spec({}), own, {})
    assert "OwnForCausalLM comes with code of its own: read it, then set trust_remote_code" in str(error)
    assert not list(class_errors(msgspec.structs.replace(spec({}), trust_remote_code=True), own, {}))


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
@pytest.mark.parametrize(
    ("method", "read"),
    [
        *dict.fromkeys(
            [("awq", True), ("gptq", True), ("fp8", True), ("compressed-tensors", True), ("modelopt", True),
             ("compressed_tensors", True), ("auto-round", True), ("mxfp4", True), (None, True),
             ("bitsandbytes", False), ("hqq", False), ("aqlm", False)]
        ),
    ],
)  # fmt: skip
def test_a_quantisation_that_vllm_does_not_read_is_said(method: str | None, read: bool) -> None:
    config = {"quantization_config": {"quant_method": method}}
    errors = list(quantization_errors(spec({}), config, {}))
    assert bool(errors) == (not read)
    assert all(f"quantised by {method}, which vLLM {installed()} does not read" in str(e) for e in errors)


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
@pytest.mark.parametrize(
    "name",
    ["Qwen3ForSequenceClassification", "Qwen3Model", "LlamaForTokenClassification", "Qwen2ForRewardModel"],
)
def test_a_class_that_writes_no_text_is_refused(name: str) -> None:
    config = {"architectures": [name], "model_type": "qwen3"}
    [error] = class_errors(spec({}), config, {})
    assert f"its class {name} writes no text" in str(error)


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
def test_the_version_that_has_what_the_installed_one_lacks_is_said() -> None:
    asked = msgspec.structs.replace(spec({"tool_call_parser": "of_tomorrow"}), min_vllm="99.1.0")
    config = {"architectures": ["OwnForCausalLM"], "model_type": "own"}
    for error in (*parser_errors(asked, {}), *class_errors(asked, config, {})):
        assert f"the model needs vLLM 99.1.0 or later, and {installed()} is installed" in str(error)
    old = msgspec.structs.replace(asked, min_vllm="0.1.0")
    assert "0.1.0" not in str(next(parser_errors(old, {})))


def test_a_build_of_a_version_is_that_version() -> None:
    assert older("0.30.1+cpu", "0.31.0")
    assert not older("0.32.0+cpu", "0.32.0")
    assert not older("0.32.0rc1", "0.32.0")
    assert not older(None, "0.32.0")


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("key", list(REQUIRED))
def test_they_are_those_without_which_vllm_does_not_start(key: str) -> None:
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    manager, kind = {
        "reasoning_parser": (ReasoningParserManager, ReasoningParserManager.get_reasoning_parser),
        "tool_call_parser": (ToolParserManager, ToolParserManager.get_tool_parser),
    }[key]
    refused = set()
    for name in manager.list_registered():
        for words, starts in ((REQUIRED[key].get(name, ()), True), ((), False)):
            try:
                kind(name)(with_words(words))
            except (RuntimeError, ValueError, KeyError):
                assert not starts or name in NOT_TOLD[key], (name, words)
                refused.add(name)
    assert refused == REQUIRED[key].keys() | NOT_TOLD[key]


NOT_TOLD = {
    # Another file is wanted, or tokens whose names only the checkpoint knows.
    "reasoning_parser": {"hf", "hy_v4"},
    "tool_call_parser": {"hy_v4"},
}
