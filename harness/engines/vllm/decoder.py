"""Texts of replies, decoded when they are whole.

vLLM decodes token by token beside the engine, and begins with the prompt, which it decodes whole so as to
know how the reply goes on from it: milliseconds a request with a long one. Where no stop string has to be
looked for, the reply is decoded here once, after the last tokens of its prompt. The text is the same.
"""

from collections.abc import Iterator
from typing import Any

from harness.engines.vllm.tokens import Tokens

PRIMED = 16
"""Tokens of the prompt that a reply is decoded after: spaces and characters may depend on what is before."""

UNFINISHED = "\ufffd"
"""What stands for bytes that are no character, or not yet one."""


class Decoder:
    """A tokenizer's way from tokens to text, as in vLLM's `FastIncrementalDetokenizer`."""

    def __init__(self, tokenizer: Any) -> None:
        """Args: tokenizer: a Hugging Face tokenizer; one that is not fast cannot be asked."""
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "_tokenizer", None)
        self._backend: Any = backend if isinstance(backend, Tokenizer) else None
        self.special = not getattr(tokenizer, "is_tekken", False)
        """Whether vLLM can show special tokens. With Mistral's Tekken tokenizers it would lose every
        character of several tokens (vllm #8627, #20910); marks of calls are shown all the same."""

    @property
    def able(self) -> bool:
        """Whether it can decode."""
        return self._backend is not None

    def decode(self, prompt: Tokens, reply: Tokens) -> str:
        """The text that the reply adds to the prompt's, special tokens included.

        A character that the reply does not finish is left out.
        """
        tail = list(prompt[-PRIMED:])
        before = self._text(tail)
        if UNFINISHED in before:  # it may begin within a character
            tail = list(prompt)
            before = self._text(tail)
        whole = self._text([*tail, *reply])
        if UNFINISHED not in whole and whole.startswith(before):
            return whole[len(before) :]
        return "".join(self._parts(tail, reply))

    def _text(self, tokens: Tokens) -> str:
        return str(self._backend.decode(tokens, skip_special_tokens=False))

    def _parts(self, tail: Tokens, reply: Tokens) -> Iterator[str]:
        """Token by token, as vLLM goes about it: where bytes are no text, it matters how they come."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(ids=tail, skip_special_tokens=False)
        for token in reply:
            try:
                part = stream.step(self._backend, token)
            except Exception as error:  # tokenizers has no class for it
                if not str(error).startswith("Invalid prefix"):
                    raise
                # Bytes that are no text can make what was decoded before another text, with which a stream
                # cannot go on. vLLM begins a new one.
                stream = DecodeStream(skip_special_tokens=False)
                part = stream.step(self._backend, token)
            yield part or ""
