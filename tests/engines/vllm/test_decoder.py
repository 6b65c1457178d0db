"""The text of a reply is the one that vLLM decodes beside the engine, token by token."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from harness.engines.vllm.decoder import PRIMED, UNFINISHED, Decoder
from harness.engines.vllm.engine import VllmEngine
from harness.types import Sampling
from tests.engines import tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def with_bytes() -> PreTrainedTokenizerFast:
    """As Llama 2's and Mistral's: words begin with a space of their own, what is unknown is bytes."""
    words = [
        "<unk>",
        "<s>",
        *(f"<0x{n:02X}>" for n in range(256)),
        "▁",
        "▁the",
        "▁a",
        "cat",
        "s",
        ".",
        "▁▁",
        "é",
    ]
    core = Tokenizer(
        models.BPE(
            vocab={w: i for i, w in enumerate(words)}, merges=[], unk_token="<unk>", byte_fallback=True
        )
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=core)


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bytes": tiny.tokenizer,
    "byte fallback": with_bytes,
}


READ = ("the ", "cat", " a", "\n", "漢字", "é", "🙂", " ", ".", "<|im_end|>", "<|end|>")
"""Prompts are made of these; replies are any tokens at all."""


def vllm_text(tokenizer: Any, prompt: list[int], reply: list[int]) -> str:
    """What vLLM's own detokenizer makes of a reply that comes token by token."""
    from vllm import SamplingParams
    from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

    params = SamplingParams(skip_special_tokens=False)
    request: Any = SimpleNamespace(sampling_params=params, prompt_token_ids=prompt, request_id="r")
    streamed = FastIncrementalDetokenizer(tokenizer, request)
    for token in reply:
        streamed.update([token], False)
    return str(streamed.get_next_output_text(finished=True, delta=False))


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_vllms(kind: str) -> None:
    tokenizer = KINDS[kind]()
    decoder, draw, unfinished, whole, cut = Decoder(tokenizer), random.Random(0), 0, 0, 0
    for number in range(800):
        prompt = tokenizer.encode("".join(draw.choices(READ, k=draw.randrange(1, 40))))
        reply = draw.choices(range(len(tokenizer)), k=draw.randrange(12))
        if number % 2:
            reply = tokenizer.encode("".join(draw.choices(READ, k=draw.randrange(40))))
        text = decoder.decode(prompt, reply)
        assert text == vllm_text(tokenizer, prompt, reply), (prompt, reply)
        assert text == "".join(decoder._parts(prompt, reply))
        unfinished += text != tokenizer.decode(prompt + reply)[-len(text) :]
        whole += UNFINISHED not in tokenizer.decode(prompt[-PRIMED:] + reply)
        cut += UNFINISHED in tokenizer.decode(prompt[-PRIMED:]) and UNFINISHED not in tokenizer.decode(prompt)
    assert unfinished  # characters that break off came up
    assert whole > 100  # and texts that are decoded in one go
    assert cut  # and prompts whose last tokens begin within a character


def test_spaces_and_special_tokens_stay() -> None:
    tokenizer = with_bytes()
    end, the, cat = tokenizer.convert_tokens_to_ids(["<|end|>", "▁the", "cat"])
    assert Decoder(tokenizer).decode([cat], [the, cat, end]) == " thecat<|end|>"
    assert Decoder(tokenizer).decode([], [the]) == "the"  # nothing is before it


def test_a_tokenizer_that_is_not_fast_is_left_to_vllm() -> None:
    assert Decoder(tiny.tokenizer()).able
    assert not Decoder(SimpleNamespace(is_fast=True)).able


MISTRALS = (
    "Zoë 🐢 comes.",
    "漢字",
    "done ✓",
    "a\u2028b",
    '[TOOL_CALLS][{"name": "f", "arguments": {"x": "✓"}}]',
)


@pytest.mark.parametrize("text", MISTRALS)
def test_mistrals_own_tokenizer_loses_no_character(text: str, tmp_path: Path) -> None:
    import mistral_common
    from vllm.tokenizers.mistral import MistralTokenizer
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    shipped = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    (tmp_path / "tekken.json").symlink_to(shipped)
    tokenizer = MistralTokenizer.from_pretrained(tmp_path)
    engine = object.__new__(VllmEngine)
    engine._max_model_len, engine._decoder = 4096, Decoder(tokenizer)
    params = engine._sampling_params(Sampling(max_tokens=100), 10)
    assert params.detokenize  # the harness cannot decode them
    mark = "[TOOL_CALLS]" if text.startswith("[TOOL_CALLS]") else ""
    tokens = [tokenizer.get_vocab()[mark]] if mark else []
    tokens += tokenizer.encode(text.removeprefix(mark), add_special_tokens=False)
    request: Any = SimpleNamespace(
        sampling_params=params, prompt_token_ids=tokenizer.encode("Hello"), request_id="r", prompt_embeds=None
    )
    detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, request)
    detokenizer.update(tokens, False)
    assert detokenizer.output_text == text
