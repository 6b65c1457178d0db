"""Tokens of prompts, remembered piece by piece.

Each turn of a conversation sends all of it again, and to tokenise all of it again would be most of what a
turn costs outside of the engine. Tokenizers cut a text at its special tokens before they do anything else,
so a special token and what follows it up to the next have the same tokens wherever they stand.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any

from harness.engines.vllm.tokens import Tokens

MAX_PIECES = 8192
"""Pieces that are remembered."""

CHECKED = 8
"""Prompts at the beginning that are tokenised as a whole too."""


class Pieces:
    """A tokenizer that remembers. What it returns is what the tokenizer returns."""

    def __init__(self, tokenizer: Any) -> None:
        """Args: tokenizer: a Hugging Face tokenizer; one that is not fast is asked for whole texts."""
        self._tokenizer = tokenizer
        fast = getattr(tokenizer, "is_fast", False)
        self._cuts = Cuts(tokenizer.added_tokens_decoder.values() if fast else ())
        self._remembered = lru_cache(maxsize=MAX_PIECES)(self._encode)
        self._checked = 0

    def encode(self, text: str) -> Tokens:
        """Tokens of a text as a chat template wrote it: none is added."""
        tokens: Tokens = []
        for piece in self._cuts.pieces(text):
            tokens += self._remembered(piece)
        return tokens if self._checked >= CHECKED else self._check(text, tokens)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _check(self, text: str, tokens: Tokens) -> Tokens:
        """Pieces are given up where a tokenizer breaks the rule."""
        self._checked += 1
        whole = list(self._encode(text))
        if whole != tokens:
            self._cuts = Cuts(())
        return whole


class Cuts:
    """Where a text may be cut: before every special token."""

    def __init__(self, added: Iterable[Any]) -> None:
        """Args: added: the added tokens of a tokenizer, with the attributes of `tokenizers.AddedToken`.

        One that eats the spaces around it, or that stands only for a whole word, is found and not cut at:
        a tokenizer takes the longest token that begins first, and looks for no other in it.
        """
        tokens = sorted((t for t in added if not t.normalized), key=lambda t: len(t.content), reverse=True)
        self._plain = {t.content for t in tokens if not (t.lstrip or t.rstrip or t.single_word)}
        self._pattern = re.compile("|".join(re.escape(t.content) for t in tokens)) if self._plain else None

    def pieces(self, text: str) -> list[str]:
        """The text in pieces; together they are the text."""
        if self._pattern is None:
            return [text]
        starts = [m.start() for m in self._pattern.finditer(text) if m.group() in self._plain]
        bounds = [0, *(start for start in starts if start), len(text)]
        return [text[start:end] for start, end in pairwise(bounds)]
