import random
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from harness.engines.vllm import pieces
from harness.engines.vllm.pieces import Cuts, Pieces

TURN, END = "<|turn|>", "<|end|>"


def tokenizer(*added: AddedToken, **parts: Any) -> PreTrainedTokenizerFast:
    """A fast tokenizer of characters with added tokens."""
    known = {char: i for i, char in enumerate(" abcdeABCDE<|>turnedx_▁\n")}
    core = Tokenizer(
        models.BPE(vocab={**known, "?": 99}, merges=[("a", "b")] if "ab" in known else [], unk_token="?")
    )
    for name, part in parts.items():
        setattr(core, name, part)
    core.add_special_tokens([AddedToken(TURN, special=True), AddedToken(END, special=True), *added])
    return PreTrainedTokenizerFast(tokenizer_object=core)


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "plain": tokenizer,
    "lower case": lambda: tokenizer(normalizer=normalizers.Lowercase()),
    "space in front of every text": lambda: tokenizer(
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first")
    ),
    "space in front of every piece": lambda: tokenizer(pre_tokenizer=pre_tokenizers.Metaspace()),
    "one that eats spaces": lambda: tokenizer(AddedToken("<x>", lstrip=True, rstrip=True, special=True)),
    "one that holds another": lambda: tokenizer(AddedToken(f"a{TURN}b", special=True)),
    "one that is normalised": lambda: tokenizer(
        AddedToken("ab", normalized=True), normalizer=normalizers.Lowercase()
    ),
    "one for whole words": lambda: tokenizer(AddedToken("de", single_word=True, special=True)),
}
PARTS = (TURN, END, "<x>", "ab", "de", "AB", " ", "\n", "c", "é", "<|", "turn|>")


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_have_the_tokens_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "CHECKED", 0)
    whole = KINDS[kind]()
    remembering = Pieces(whole)
    assert len(remembering._cuts.pieces(f"a{END}b")) == 2

    draw = random.Random(0)
    for _ in range(500):
        text = "".join(draw.choices(PARTS, k=draw.randrange(12)))
        assert remembering.encode(text) == whole.encode(text, add_special_tokens=False), text


def test_a_piece_is_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "CHECKED", 0)
    asked: list[str] = []
    real = tokenizer()

    class Counting:
        is_fast, added_tokens_decoder = True, real.added_tokens_decoder

        def __call__(self, text: str, **options: Any) -> Any:
            asked.append(text)
            return real(text, **options)

    remembering = Pieces(Counting())
    for text in (f"{TURN}a{END}", f"{TURN}a{END}{TURN}b{END}"):
        remembering.encode(text)
    assert asked == [f"{TURN}a", END, f"{TURN}b"]


def test_a_tokenizer_that_looks_past_special_tokens_is_asked_for_whole_texts() -> None:
    class Odd:
        is_fast, added_tokens_decoder = True, tokenizer().added_tokens_decoder

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [len(text)]}

    remembering = Pieces(Odd())
    text = f"{TURN}a{END}b"
    assert [remembering.encode(text) for _ in range(3)] == [[len(text)]] * 3


def test_a_slow_tokenizer_is_asked_for_whole_texts() -> None:
    class Slow:
        is_fast = False

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [len(text)]}

    assert Pieces(Slow()).encode(f"{TURN}a{END}b") == [17]


def test_nothing_is_lost_between_pieces() -> None:
    cuts = Cuts([AddedToken(token, normalized=False) for token in (TURN, END)])
    text = f"a{TURN}b{TURN}{END}c"
    assert cuts.pieces(text) == ["a", f"{TURN}b", TURN, f"{END}c"]
    assert cuts.pieces("") == [""]
    assert Cuts([]).pieces(text) == [text]
