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
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from harness.engines.vllm.tokens import Tokens
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

    def __init__(self, ask: Ask, block_size: int | None, candidates: int) -> None:
        """Args:
        ask: how a request reaches vLLM.
        block_size: tokens that the prefix cache keeps or forgets together; None if there is none to be read.
        candidates: most tokens that one request may name.
        """
        self._ask = ask
        self._block_size = block_size
        self._candidates = candidates
        self._kept: OrderedDict[bytes, list[LogLikelihood]] = OrderedDict()
        self._running: dict[bytes, asyncio.Event] = {}

    async def score(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[LogLikelihood]:
        """Log-likelihoods of (context, continuation) pairs that fit into the model's context.

        Tokens that were sent for several pairs are counted for the first of them.
        """
        by_context: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        for context, rest in pairs:
            by_context.setdefault(tuple(context), {})[tuple(rest)] = None
        calls = [self._of_context(list(context), list(rests)) for context, rests in by_context.items()]
        found: dict[Any, LogLikelihood] = {}
        for key, answers in zip(by_context, await asyncio.gather(*calls), strict=True):
            found |= {(key, rest): answer for rest, answer in answers.items()}
        return _spread(found, [(tuple(context), tuple(rest)) for context, rest in pairs])

    async def _of_context(
        self, context: Tokens, rests: Sequence[tuple[int, ...]]
    ) -> dict[tuple[int, ...], LogLikelihood]:
        """Single tokens in one request, each longer continuation in its own."""
        single = [rest for rest in rests if len(rest) == 1]
        long = [rest for rest in rests if len(rest) != 1]
        found: dict[tuple[int, ...], LogLikelihood] = {}
        if single:
            tokens = [token for (token,) in single]
            answers = await self._once(_key(context, tokens), lambda: self.next_tokens(context, tokens))
            found |= zip(single, answers, strict=True)
        ahead = await self._go_ahead(context, long)
        answers = await asyncio.gather(*(self._long(context, list(rest)) for rest in long))
        found |= zip(long, answers, strict=True)
        return found | {rest: _adding(found[rest], ahead) for rest in long[:1]}

    async def _go_ahead(self, context: Tokens, rests: Sequence[tuple[int, ...]]) -> LogLikelihood:
        """Put a context into the prefix cache without projecting its tokens onto the vocabulary.

        Returns what that cost. Who comes with the same context meanwhile waits for it.
        """
        if self._block_size is None or len(context) < max(self._block_size, WORTH_A_REQUEST):
            return NOTHING
        if all(_long_key(context, rest) in self._kept for rest in rests if rest):
            return NOTHING

        async def compute() -> list[LogLikelihood]:
            return [_costing(NOTHING, [await self._ask(context, {})])]

        return (await self._once(_key(context, []), compute))[0]

    async def _long(self, context: Tokens, rest: Tokens) -> LogLikelihood:
        if not rest:
            return NOTHING
        way = self.plain if self._block_size is None else self.after_cache

        async def compute() -> list[LogLikelihood]:
            return [await way(context, rest)]

        return (await self._once(_long_key(context, rest), compute))[0]

    async def _once(
        self, key: bytes, compute: Callable[[], Awaitable[list[LogLikelihood]]]
    ) -> list[LogLikelihood]:
        """What `compute` answers, computed by one caller at a time and kept for the others."""
        while (running := self._running.get(key)) is not None:
            await running.wait()
        if key in self._kept:
            self._kept.move_to_end(key)
            return [_free(answer) for answer in self._kept[key]]
        self._running[key] = finished = asyncio.Event()
        try:
            answers = self._kept[key] = await compute()
        finally:
            del self._running[key]
            finished.set()
        if len(self._kept) > KEPT_ANSWERS:
            self._kept.popitem(last=False)
        return answers

    async def next_tokens(self, context: Tokens, tokens: Tokens) -> list[LogLikelihood]:
        """Different candidates for the token after a context, a hundred-odd of them a request."""
        chunks = [tokens[i : i + self._candidates] for i in range(0, len(tokens), self._candidates)]
        outputs = await asyncio.gather(*(self._ask(context, _named(chunk)) for chunk in chunks))
        chances = {
            token: entry.logprob for out in outputs for token, entry in out.outputs[0].logprobs[0].items()
        }
        best = max(chances[out.outputs[0].token_ids[0]] for out in outputs)
        answers = [
            LogLikelihood(logprob=chances[token], is_greedy=chances[token] >= best, tokens=1)
            for token in tokens
        ]
        return [_costing(answers[0], outputs), *answers[1:]]

    async def after_cache(self, context: Tokens, rest: Tokens) -> LogLikelihood:
        """One continuation, the context read from the prefix cache as far as it is there."""
        whole = context + rest
        output = await self._ask(whole, _prompt_logprobs(skip_reading_prefix_cache=False))
        # The first token of the continuation whose row was computed: not a cached one, nor the one after
        # those, since a token's row comes from the token before it.
        first = max(len(context), (output.num_cached_tokens or 0) + 1)
        rows = [_row(output, position, whole) for position in range(first, len(whole))]
        if first - len(context) > MOST_STEPS or None in rows:
            return await self.plain(context, rest)
        lost = range(len(context), first)
        steps = await asyncio.gather(*(self._ask(whole[:i], _named([whole[i]])) for i in lost))
        found = [_step(step, whole[i]) for step, i in zip(steps, lost, strict=True)]
        return _sum([*found, *(row for row in rows if row)], [output, *steps])

    async def plain(self, context: Tokens, rest: Tokens) -> LogLikelihood:
        """One continuation, everything computed anew."""
        whole = context + rest
        output = await self._ask(whole, _prompt_logprobs())
        rows = [_row(output, position, whole) for position in range(len(context), len(whole))]
        if None in rows:
            raise RuntimeError("vLLM's prompt_logprobs name other tokens than the prompt's")
        return _sum([row for row in rows if row], [output])


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


def _adding(answer: LogLikelihood, more: LogLikelihood) -> LogLikelihood:
    """The answer at the cost of both."""
    return msgspec.structs.replace(
        answer,
        prompt_tokens=answer.prompt_tokens + more.prompt_tokens,
        cached_tokens=answer.cached_tokens + more.cached_tokens,
    )


def _free(answer: LogLikelihood) -> LogLikelihood:
    return msgspec.structs.replace(answer, prompt_tokens=0, cached_tokens=0)


def _spread(found: dict[Any, LogLikelihood], pairs: Sequence[Any]) -> list[LogLikelihood]:
    """The answer of each pair, a second one for the same pair free of cost."""
    seen: set[Any] = set()
    answers = []
    for pair in pairs:
        answers.append(_free(found[pair]) if pair in seen else found[pair])
        seen.add(pair)
    return answers


def _long_key(context: Tokens, rest: Sequence[int]) -> bytes:
    return _key(context, [-1, *rest])


def _key(context: Tokens, rest: Tokens) -> bytes:
    return blake2b(array("q", [*context, -2, *rest]).tobytes(), digest_size=16).digest()
