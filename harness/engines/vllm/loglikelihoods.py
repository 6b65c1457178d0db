"""Log-likelihoods out of vLLM, by the cheapest requests that are exact.

Knows vLLM's answers, not how requests reach it: `Ask` does that. lm-evaluation-harness sends a request for
each continuation and asks for the log-probabilities of all of its tokens, for which vLLM turns the prefix
cache off and projects every prompt token onto the vocabulary. Here

- continuations of one token that share a context are one request: vLLM names the log-probability of chosen
  tokens at the next position (`logprob_token_ids`);
- a longer continuation is one request that may read the context from the prefix cache (`prompt_logprobs` with
  `skip_reading_prefix_cache=False`), where the model has a cache. A long context is sent ahead by itself: its
  own tokens are then projected for none of its continuations;
- what was asked before is not asked again.

What vLLM returns for prompt tokens that came from the cache was never computed. Its first model runner leaves
those rows in memory that it did not initialise, its second leaves them out. So rows are counted from the end,
none is read at or before the cached part, and each must name the token that it is read for. The few that the
cache swallowed (a context of whole blocks, a continuation that begins as another one did) are asked for one
by one; where they are more, or anything is not as it should be, the question is put again without the cache.
"""

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from harness.engines.vllm.tokens import Encoder, TokenPair, Tokens, fit
from harness.types import LogLikelihood

Ask = Callable[[Tokens, dict[str, Any]], Awaitable[Any]]
"""(prompt, arguments of vLLM's `SamplingParams`) -> its finished `RequestOutput`."""

MOST_STEPS = 4
"""Rows lost to the cache that are asked for one by one, before the whole question is put again."""

WORTH_A_REQUEST = 64
"""Tokens of context that are sent ahead; to project fewer is cheaper than another request."""

KEPT_ANSWERS = 65_536
"""Answers that are kept for questions to come, about 300 bytes each."""

NOTHING = LogLikelihood(logprob=0.0, is_greedy=True, tokens=0)
"""Of an empty continuation."""


class Row(NamedTuple):
    """What vLLM says of one token of a prompt."""

    logprob: float
    best: float
    """Log-probability of the most likely token at this position."""


class Scorer:
    """Scores continuations of contexts, both as tokens."""

    def __init__(
        self, ask: Ask, encoder: Encoder, max_model_len: int, block_size: int | None, candidates: int
    ) -> None:
        """Args:
        ask: how a request reaches vLLM.
        encoder: of the model's tokens.
        max_model_len: tokens of the model's context.
        block_size: tokens that the prefix cache keeps or forgets together; None if there is none to be read.
        candidates: most tokens that one request may name.
        """
        self._ask = ask
        self._encoder = encoder
        self._max_model_len = max_model_len
        self._block_size = block_size
        self._candidates = candidates
        self._kept: OrderedDict[bytes, list[LogLikelihood]] = OrderedDict()
        self._running: dict[bytes, asyncio.Event] = {}

    async def score(self, pairs: Sequence[TokenPair]) -> list[LogLikelihood]:
        """Log-likelihoods of (context, continuation) pairs.

        A context that is too long loses its first tokens, as in lm-evaluation-harness. Tokens that were sent
        for several pairs are counted for the first of them.

        Raises:
            AttemptFailure: a continuation is too long, or vLLM refused a request.
            EngineDead: vLLM's core process is gone.
        """
        limit = self._max_model_len - 1  # vLLM must be allowed to generate one token
        fitted = [(tuple(fit(context, rest, limit)), tuple(rest)) for context, rest in pairs]
        single: dict[tuple[int, ...], dict[int, None]] = {}
        for context, rest in fitted:
            if len(rest) == 1:
                single.setdefault(context, {})[rest[0]] = None
        longer = dict.fromkeys((context, rest) for context, rest in fitted if len(rest) > 1)
        answered = await asyncio.gather(
            *(self.next_tokens(list(context), list(tokens)) for context, tokens in single.items()),
            *(self.continuation(list(context), list(rest)) for context, rest in longer),
        )
        asked = [*((context, (token,)) for context, tokens in single.items() for token in tokens), *longer]
        by_pair = dict(zip(asked, chain.from_iterable(answered), strict=True))
        answers = []
        for (context, rest), (whole, _) in zip(fitted, pairs, strict=True):
            answer = by_pair.get((context, rest), NOTHING)
            bos_tokens = self._encoder.leading_bos([*context, *rest])
            lost_tokens = len(whole) - len(context)
            answers.append(msgspec.structs.replace(answer, bos_tokens=bos_tokens, lost_tokens=lost_tokens))
            by_pair[context, rest] = _free(answer)
        return answers

    async def next_tokens(self, context: Tokens, tokens: Tokens) -> list[LogLikelihood]:
        """Different candidates for the token after a context, a hundred-odd of them a request."""
        async with self._once(_key(context, tokens)) as answers:
            if not answers:
                chunks = [tokens[i : i + self._candidates] for i in range(0, len(tokens), self._candidates)]
                outputs = await asyncio.gather(*(self._ask(context, _named(chunk)) for chunk in chunks))
                chances = {
                    token: entry.logprob
                    for out in outputs
                    for token, entry in out.outputs[0].logprobs[0].items()
                }
                best = max(chances[out.outputs[0].token_ids[0]] for out in outputs)
                answers += [
                    LogLikelihood(logprob=chances[token], is_greedy=chances[token] >= best, tokens=1)
                    for token in tokens
                ]
                answers[0] = _costing(answers[0], outputs)
        return answers

    async def continuation(self, context: Tokens, rest: Tokens) -> list[LogLikelihood]:
        """One continuation of several tokens, which has one answer."""
        whole = context + rest
        async with self._once(_key(context, [-1, *rest])) as answers:
            if answers:
                return answers
            outputs: list[Any] = []
            rows: list[Row | None] = [None]
            if self._block_size is not None:
                if len(context) >= max(self._block_size, WORTH_A_REQUEST):
                    async with self._once(_key(context, [])) as sent:
                        if not sent:
                            outputs.append(await self._ask(context, {}))
                            sent.append(NOTHING)
                output = await self._ask(whole, _prompt_logprobs(skip_reading_prefix_cache=False))
                # The first token of the continuation whose row was computed: not a cached one, nor the one
                # after those, since a token's row comes from the token before it.
                first = max(len(context), (output.num_cached_tokens or 0) + 1)
                lost = range(len(context), first)
                if len(lost) <= MOST_STEPS:
                    rows = [_row(output, position, whole) for position in range(first, len(whole))]
                if None not in rows:
                    steps = await asyncio.gather(*(self._ask(whole[:i], _named([whole[i]])) for i in lost))
                    rows = [*(_step(step, whole[i]) for step, i in zip(steps, lost, strict=True)), *rows]
                    outputs += steps
                outputs.append(output)
            if None in rows:
                output = await self._ask(whole, _prompt_logprobs())
                rows = [_row(output, position, whole) for position in range(len(context), len(whole))]
                outputs.append(output)
            if None in rows:
                raise RuntimeError("vLLM's prompt_logprobs name other tokens than the prompt's")
            answers.append(_sum([row for row in rows if row], outputs))
        return answers

    @asynccontextmanager
    async def _once(self, key: bytes) -> AsyncIterator[list[LogLikelihood]]:
        """What is known of a question, free of cost; empty for the one that is to find it out.

        What that one appends is kept. Who asks the same meanwhile waits for it.
        """
        while (running := self._running.get(key)) is not None:
            await running.wait()
        if key in self._kept:
            self._kept.move_to_end(key)
            yield [_free(answer) for answer in self._kept[key]]
            return
        self._running[key] = finished = asyncio.Event()
        answers: list[LogLikelihood] = []
        try:
            yield answers
            self._kept[key] = answers
        finally:
            del self._running[key]
            finished.set()
        if len(self._kept) > KEPT_ANSWERS:
            self._kept.popitem(last=False)


def readable_block_size(config: Any) -> int | None:
    """Tokens in a block of the prefix cache, None where rows after a cached prefix cannot be had.

    Args:
        config: vLLM's configuration. Models that keep a state instead of keys and values (Mamba, hybrids)
            restore it at places of their own choosing: they are asked without the cache.
    """
    model, cache = config.model_config, config.cache_config
    if not cache.enable_prefix_caching or model.is_hybrid or model.is_attention_free:
        return None
    return int(cache.block_size)


def _named(candidates: Tokens) -> dict[str, Any]:
    return {"logprob_token_ids": candidates}


def _prompt_logprobs(**more: Any) -> dict[str, Any]:
    # The most likely token beside each one, for is_greedy: ranks do not tell a tie from a defeat.
    return {"prompt_logprobs": 1, "flat_logprobs": True, **more}


def _row(output: Any, position: int, whole: Tokens) -> Row | None:
    """The row of a token of the prompt, None if it is not that token's."""
    flat = output.prompt_logprobs
    index = len(flat) - (len(whole) - position)
    if index < 1:
        return None
    start, end = flat.start_indices[index], flat.end_indices[index]
    if end - start < 1 or flat.token_ids[start] != whole[position]:
        return None
    return Row(flat.logprobs[start], max(flat.logprobs[start:end]))


def _step(output: Any, token: int) -> Row:
    (entries,) = output.outputs[0].logprobs
    return Row(entries[token].logprob, entries[output.outputs[0].token_ids[0]].logprob)


def _sum(rows: Sequence[Row], outputs: Sequence[Any]) -> LogLikelihood:
    answer = LogLikelihood(
        logprob=sum(row.logprob for row in rows),
        # Of two equally likely tokens either is greedy.
        is_greedy=all(row.logprob >= row.best for row in rows),
        tokens=len(rows),
    )
    return _costing(answer, outputs)


def _costing(answer: LogLikelihood, outputs: Sequence[Any]) -> LogLikelihood:
    return msgspec.structs.replace(
        answer,
        prompt_tokens=answer.prompt_tokens + sum(len(output.prompt_token_ids) for output in outputs),
        cached_tokens=answer.cached_tokens + sum(output.num_cached_tokens or 0 for output in outputs),
    )


def _free(answer: LogLikelihood) -> LogLikelihood:
    return msgspec.structs.replace(answer, prompt_tokens=0, cached_tokens=0)


def _key(context: Tokens, rest: Tokens) -> bytes:
    return blake2b(array("q", [*context, -2, *rest]).tobytes(), digest_size=16).digest()
