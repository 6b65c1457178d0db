"""Tokenisation of scored texts. Pure functions; no engine in here.

Contexts and continuations are cut the way lm-evaluation-harness 0.4.13 cuts them (`TemplateLM` in
lm_eval/api/model.py, `VLLM` in lm_eval/models/vllm_causallms.py), so that both score the same tokens.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import takewhile
from typing import Any

from harness.errors import AttemptFailure
from harness.types import FailureKind

Tokens = list[int]
TokenPair = tuple[Tokens, Tokens]
"""(context, continuation)."""
Encode = Callable[[str], Tokens]


class Encoder:
    """A tokenizer with the conventions of scoring on top."""

    def __init__(self, tokenizer: Any, *, head: str = "", appended: int = 0) -> None:
        """Without head and appended, tokens are lm-eval's, whatever the tokenizer does.

        Args:
            tokenizer: a Hugging Face tokenizer, or anything that looks like one.
            head: special token that conversations begin with, as the model's chat template writes them: a
                text that begins with it has all the special tokens that the model was trained on.
            appended: special tokens that the tokenizer puts at the end of texts, which are taken off.
        """
        self._tokenizer = tokenizer
        self._head_text, self._appended = head, appended
        bos = tokenizer.bos_token_id
        self.prefix: int | None = bos if bos is not None else tokenizer.eos_token_id
        """What an empty context is replaced by: the BOS token, else the EOS token."""
        self._prefix_text = tokenizer.decode([self.prefix]) if self.prefix is not None else ""
        # The choices of a question share a context, which may be long.
        self._head = lru_cache(maxsize=64)(self.encode)

    def encode(self, text: str) -> Tokens:
        """Tokens of a text, with the tokenizer's own special tokens before it unless it begins with them."""
        if not text:
            return []
        if text.startswith(tuple(filter(None, (self._prefix_text, self._head_text)))):
            return self.encode_bare(text)
        tokens = list(self._tokenizer.encode(text))
        return tokens[: len(tokens) - self._appended]

    def encode_bare(self, text: str) -> Tokens:
        """Tokens of a text and nothing else."""
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []

    def leading_bos(self, tokens: Tokens) -> int:
        """How many BOS tokens a prompt begins with."""
        bos = self._tokenizer.bos_token_id
        return next((i for i, token in enumerate(tokens) if token != bos), len(tokens))

    def pair(self, context: str, continuation: str) -> TokenPair:
        """Tokens of the context and of the continuation. The context has at least one."""
        if not context.strip():
            return empty_context(self._require_prefix(), self.encode_bare(context + continuation))
        before, rest = encode_pair(self.encode, context, continuation, self._head)
        # Of one that is one token with the end of the context (`assis` + `tant`) none is left: it is then
        # encoded by itself, as in lm-evaluation-harness #4055.
        return before, rest or self.encode_bare(continuation)

    def windows(self, text: str, max_tokens: int) -> list[TokenPair]:
        """(context, continuation) pairs that together score every token of the text once.

        As in lm-evaluation-harness, a tokenizer that begins texts with a BOS token has it scored too.
        """
        return list(rolling_windows(self.encode(text), self._require_prefix(), max_tokens))

    def _require_prefix(self) -> int:
        if self.prefix is None:
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR,
                "the tokenizer has neither a BOS nor an EOS token to put in place of an empty context",
            )
        return self.prefix


def appended_tokens(tokenizer: Any) -> int:
    """How many special tokens a tokenizer puts at the end of every text, as training leaves some of them."""
    special = frozenset(tokenizer.all_special_ids)
    written = reversed(tokenizer.encode("x"))
    return sum(1 for _ in takewhile(special.__contains__, written))


def encode_pair(
    encode: Encode, context: str, continuation: str, encode_context: Encode | None = None
) -> TokenPair:
    """Cut `context + continuation` at the boundary. Trailing spaces of the context go to the
    continuation, since tokenizers write a space together with the word that follows it.

    Args:
        encode: the tokenizer.
        context: what comes before.
        continuation: what is scored.
        encode_context: the same tokenizer, for contexts that come several times.
    """
    head = context.rstrip()
    whole = encode(context + continuation)
    context_tokens = (encode_context or encode)(head)
    return context_tokens, whole[len(context_tokens) :]


def empty_context(prefix: int, continuation: Tokens) -> TokenPair:
    """Put the prefix token where there is no context, unless the continuation brings it along."""
    if continuation and continuation[0] == prefix:
        return continuation[:1], continuation[1:]
    return [prefix], continuation


def rolling_windows(tokens: Tokens, prefix: int, max_tokens: int) -> Iterator[TokenPair]:
    """Disjoint windows of at most `max_tokens` predicted tokens; each later one is shown as much of
    the text before it as fits (lm_eval.utils.get_rolling_token_windows with context_len=1, and
    make_disjoint_window).
    """
    for start in range(0, len(tokens), max_tokens):
        end = min(start + max_tokens, len(tokens))
        if start == 0:
            yield [prefix], tokens[:end]
        else:
            yield tokens[end - max_tokens - 1 : start], tokens[start:end]


def first_place(tokens: Tokens, mark: Tokens) -> int | None:
    """Where some tokens first stand within others, None if nowhere, or if there are none."""
    places = range(len(tokens) - len(mark) + 1) if mark else ()
    return next((at for at in places if tokens[at : at + len(mark)] == mark), None)


def fit(context: Tokens, continuation: Tokens, max_tokens: int) -> Tokens:
    """The context without as many of its first tokens as are too many beside the continuation.

    Raises:
        AttemptFailure: not even one token of context would be left.
    """
    room = max_tokens - len(continuation)
    if room < 1:
        raise AttemptFailure(
            FailureKind.CONTEXT_OVERFLOW,
            f"a continuation of {len(continuation)} tokens leaves no room for context in {max_tokens}",
        )
    return context[-room:]
