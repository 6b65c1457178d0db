"""The scorer against an imitation of vLLM's answers, the rows that it never computed included."""

import asyncio
import functools
import hashlib
import random
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engines.vllm import loglikelihoods
from harness.engines.vllm.loglikelihoods import MOST_STEPS, WORTH_A_REQUEST, Scorer
from harness.engines.vllm.start import _check_log_probabilities
from harness.engines.vllm.tokens import Tokens
from harness.errors import AttemptFailure, UserError
from harness.types import LogLikelihood

BLOCK = 4
VOCABULARY = 40


@functools.cache
def distribution(prefix: tuple[int, ...]) -> list[float]:
    """Log-probabilities of the next token; few different ones, so that there are ties."""
    noise = hashlib.shake_128(bytes(prefix)).digest(VOCABULARY)
    return [-1.0 - byte % 16 for byte in noise]


def chance(prefix: Tokens, token: int) -> float:
    return distribution(tuple(prefix))[token]


def best(prefix: Tokens) -> tuple[float, int]:
    chances = distribution(tuple(prefix))
    return max(chances), -chances.index(max(chances))


class Flat(SimpleNamespace):
    """vLLM's `FlatLogprobs`, as far as it is read."""

    def __len__(self) -> int:
        return len(self.start_indices)


def flat(rows: list[list[tuple[int, float]]]) -> Flat:
    starts, ends, ids, values = [0], [0], [], []
    for row in rows:
        starts.append(len(ids))
        ids += [token for token, _ in row]
        values += [value for _, value in row]
        ends.append(len(ids))
    return Flat(start_indices=starts, end_indices=ends, token_ids=ids, logprobs=values)


class Vllm:
    """Answers requests as vLLM does; `runner` says how rows of cached tokens look."""

    def __init__(self, runner: int, caching: bool = True, hides: int = 0) -> None:
        self.runner, self.caching, self.hides = runner, caching, hides
        self.blocks: set[tuple[int, ...]] = set()
        self.asked: list[tuple[int, dict[str, Any]]] = []
        self.previous: list[list[tuple[int, float]]] = []

    def cached(self, tokens: Tokens) -> int:
        """Whole blocks known from the beginning, never all of the prompt."""
        length = 0
        while length + BLOCK < len(tokens) and tuple(tokens[: length + BLOCK]) in self.blocks:
            length += BLOCK
        return length

    def remember(self, tokens: Tokens) -> None:
        if self.caching:
            whole = range(BLOCK, len(tokens) + 1, BLOCK)
            self.blocks |= {tuple(tokens[:end]) for end in whole}

    async def ask(self, tokens: Tokens, arguments: dict[str, Any]) -> Any:
        self.asked.append((len(tokens), arguments))
        skip = arguments.get("skip_reading_prefix_cache", "prompt_logprobs" in arguments)
        cached = 0 if skip else self.cached(tokens)
        await asyncio.sleep(0)
        self.remember(tokens)
        top, token = best(tokens)
        named = {
            t: SimpleNamespace(logprob=chance(tokens, t)) for t in arguments.get("logprob_token_ids", ())
        }
        completion = SimpleNamespace(
            token_ids=[-token], logprobs=[{-token: SimpleNamespace(logprob=top), **named}]
        )
        rows = self.rows(tokens, cached) if "prompt_logprobs" in arguments else []
        return SimpleNamespace(
            prompt_token_ids=tokens,
            num_cached_tokens=max(0, cached - self.hides),
            prompt_logprobs=flat(rows),
            outputs=[completion],
        )

    def rows(self, tokens: Tokens, cached: int) -> list[list[tuple[int, float]]]:
        computed = [
            [(tokens[i], chance(tokens[:i], tokens[i])), (-best(tokens[:i])[1], best(tokens[:i])[0])]
            for i in range(cached + 1, len(tokens))
        ]
        if self.runner == 2:
            return computed
        # Memory that an earlier, longer answer may have left behind.
        garbage = (self.previous + [[(2**31, float("nan")), (0, 1e30)]] * len(tokens))[:cached]
        self.previous = garbage + computed
        return self.previous


def expected(context: Tokens, rest: Tokens) -> tuple[float, bool]:
    whole = context + rest
    steps = [(chance(whole[:i], whole[i]), best(whole[:i])[0]) for i in range(len(context), len(whole))]
    return sum(value for value, _ in steps), all(value == top for value, top in steps)


def scorer(vllm: Vllm) -> Scorer:
    encoder: Any = SimpleNamespace(leading_bos=lambda tokens: 0)
    return Scorer(vllm.ask, encoder, 1000, BLOCK if vllm.caching else None, candidates=8)


def values(answers: list[Any]) -> list[tuple[float, bool]]:
    return [(answer.logprob, answer.is_greedy) for answer in answers]


def random_pairs(seed: int) -> list[tuple[Tokens, Tokens]]:
    """Contexts that share beginnings and are often whole blocks, continuations that share theirs."""
    draw = random.Random(seed)
    start = [draw.randrange(VOCABULARY) for _ in range(12)]
    pairs = []
    for _ in range(6):
        context = start + [draw.randrange(3) for _ in range(draw.randrange(9))]
        shared = [draw.randrange(VOCABULARY) for _ in range(draw.randrange(6))]
        for _ in range(draw.randrange(1, 5)):
            rest = shared + [draw.randrange(VOCABULARY) for _ in range(draw.randrange(12))]
            pairs.append((context, rest))
    return pairs


@pytest.mark.parametrize("runner", [1, 2])
@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("ahead", [1, 1000])
def test_every_value_is_that_of_the_model(
    runner: int, caching: bool, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loglikelihoods, "WORTH_A_REQUEST", ahead)
    found = []
    for seed in range(15):
        vllm = Vllm(runner, caching)
        ours = scorer(vllm)
        pairs = random_pairs(seed)
        for _ in range(2):  # a second time from a fresh memory: all of it is in the cache by then
            assert values(asyncio.run(ours.score(pairs))) == [expected(c, r) for c, r in pairs]
            ours = scorer(vllm)
        found += [greedy for pair in pairs for greedy in [expected(*pair)[1]] if pair[1]]
    assert set(found) == {True, False}


@pytest.mark.parametrize("runner", [1, 2])
def test_rows_that_vllm_did_not_compute_are_never_read(runner: int) -> None:
    """Also where the number of cached tokens is wrong, as after a request that was preempted."""
    context, rest = list(range(8)), list(range(10, 26))
    vllm = Vllm(runner, hides=8)
    ours = scorer(vllm)
    asyncio.run(vllm.ask(context + rest[:12], {}))
    assert values(asyncio.run(ours.continuation(context, rest))) == [expected(context, rest)]
    assert vllm.asked[-1][1].get("skip_reading_prefix_cache") is None  # asked again, without the cache


@pytest.mark.parametrize(
    ("warm", "steps", "plain"), [(7, 0, 0), (8, 1, 0), (8 + BLOCK, 0, 1)], ids=["part", "whole", "beyond"]
)
def test_what_the_cache_swallowed_is_asked_for(warm: int, steps: int, plain: int) -> None:
    context, rest = list(range(8)), list(range(10, 26))
    vllm = Vllm(1)
    asyncio.run(vllm.ask((context + rest)[:warm], {}))
    asked = len(vllm.asked)
    answers = asyncio.run(scorer(vllm).continuation(context, rest))
    assert values(answers) == [expected(context, rest)]
    later = [arguments for _, arguments in vllm.asked[asked + 1 :]]
    assert sum("logprob_token_ids" in arguments for arguments in later) == steps <= MOST_STEPS
    assert sum("prompt_logprobs" in arguments for arguments in later) == plain
    told = sum(answer.prompt_tokens for answer in answers)
    assert told == sum(length for length, _ in vllm.asked[asked:]), "also what was asked in vain"


def test_a_long_context_is_sent_ahead_once() -> None:
    vllm = Vllm(1)
    ours = scorer(vllm)
    context = [*range(WORTH_A_REQUEST)]
    pairs = [(context, [5, 6]), (context, [7, 8, 9])]
    answers = asyncio.run(ours.score(pairs))
    assert values(answers) == [expected(*pair) for pair in pairs]
    ahead, *rest = vllm.asked
    assert ahead == (len(context), {})
    assert all("prompt_logprobs" in arguments or "logprob_token_ids" in arguments for _, arguments in rest)
    assert sum(answer.prompt_tokens for answer in answers) == sum(length for length, _ in vllm.asked)
    asyncio.run(ours.score(pairs))
    assert len(vllm.asked) == 1 + len(rest), "nothing is sent ahead of what is known"


@pytest.mark.parametrize("equal", [True, False])
def test_a_long_context_of_several_questions_at_once_is_sent_ahead_once(equal: bool) -> None:
    vllm = Vllm(1)
    ours = scorer(vllm)
    # Not whole blocks, of which the cache would swallow a row.
    context = [token % VOCABULARY for token in range(WORTH_A_REQUEST + 1)]
    questions = [[(context, [5, 6]), (context, [7, 8])], [(context, [5, 6] if equal else [9, 8, 7])]]

    async def at_once() -> Any:
        return await asyncio.gather(*(ours.score(pairs) for pairs in questions))

    answers = asyncio.run(at_once())
    assert [values(group) for group in answers] == [[expected(*pair) for pair in q] for q in questions]
    assert [length for length, arguments in vllm.asked if not arguments] == [len(context)]
    assert len(vllm.asked) == 1 + (2 if equal else 3)
    told = sum(answer.prompt_tokens for group in answers for answer in group)
    assert told == sum(length for length, _ in vllm.asked)
    asyncio.run(ours.score([(context, [1, 2, 3, 4])]))
    assert sum(not arguments for _, arguments in vllm.asked) == 1, "it was sent before"


def test_tokens_of_one_context_are_one_request() -> None:
    vllm = Vllm(1)
    pairs = [([1, 2, 3], [token]) for token in (5, 6, 7, 5)]
    answers = asyncio.run(scorer(vllm).score(pairs))
    assert values(answers) == [expected(*pair) for pair in pairs]
    assert [length for length, _ in vllm.asked] == [3]
    assert [answer.prompt_tokens for answer in answers] == [3, 0, 0, 0]


def test_more_candidates_than_a_request_may_name() -> None:
    vllm = Vllm(1)
    pairs = [([1, 2], [token]) for token in range(20)]
    answers = asyncio.run(scorer(vllm).score(pairs))
    assert values(answers) == [expected(*pair) for pair in pairs]
    assert len(vllm.asked) == 3
    assert answers[0].prompt_tokens == 6


def test_numbers_that_are_no_log_probabilities_are_refused() -> None:
    _check_log_probabilities({"logprobs_mode": "raw_logprobs"})
    _check_log_probabilities({})
    with pytest.raises(UserError, match="logprobs_mode 'raw_logits' would be taken"):
        _check_log_probabilities({"logprobs_mode": "raw_logits"})


def test_equal_questions_are_asked_once_also_at_the_same_time() -> None:
    vllm = Vllm(1)
    ours = scorer(vllm)
    pairs = [([1, 2, 3], [4, 5]), ([1, 2, 3], [4, 5]), ([1, 2, 3], [6]), ([], [])]

    async def twice() -> Any:
        first = await asyncio.gather(ours.score(pairs), ours.score(pairs))
        return [*first, await ours.score(pairs)]

    answers = asyncio.run(twice())
    assert len(vllm.asked) == 2
    assert values(answers[0]) == values(answers[1]) == values(answers[2])
    assert [sum(a.prompt_tokens for a in group) for group in answers] == [5 + 3, 0, 0]
    assert answers[0][3] == LogLikelihood(logprob=0.0, is_greedy=True, tokens=0, bos_tokens=0)


def test_who_waits_for_a_question_that_is_given_up_asks_it_himself() -> None:
    vllm = Vllm(1)
    ours = scorer(vllm)

    async def give_up() -> Any:
        first = asyncio.create_task(ours.score([([1, 2], [3, 4])]))
        second = asyncio.create_task(ours.score([([1, 2], [3, 4])]))
        for _ in range(10):
            if not vllm.asked:
                await asyncio.sleep(0)
        first.cancel()
        return await second

    assert values(asyncio.run(give_up())) == [expected([1, 2], [3, 4])]
    assert len(vllm.asked) == 2


def test_a_context_that_is_too_long_loses_its_first_tokens() -> None:
    vllm = Vllm(1)
    ours = scorer(vllm)
    ours._max_model_len = 9  # one of them is generated
    pairs = [([1, 2, 3, 4, 5, 6, 7, 8, 9], [token]) for token in (3, 4)] + [([9, 8, 7, 6], [5, 4, 3, 2, 1])]
    answers = asyncio.run(ours.score(pairs))
    assert values(answers) == [expected(context[-(8 - len(rest)) :], rest) for context, rest in pairs]
    assert [answer.lost_tokens for answer in answers] == [2, 2, 1]
    with pytest.raises(AttemptFailure, match="a continuation of 8 tokens leaves no room for context in 8"):
        asyncio.run(ours.score([([1], [*range(8)])]))


@pytest.mark.parametrize("runner", [1, 2])
def test_no_value_depends_on_the_order_of_the_questions(runner: int) -> None:
    pairs = random_pairs(3)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    first, second = (
        dict(zip(map(str, asked), scored(asked, runner), strict=True)) for asked in (pairs, shuffled)
    )
    assert first == second


def scored(pairs: list[tuple[Tokens, Tokens]], runner: int) -> list[tuple[float, bool]]:
    """One question after the other, by an engine that has seen nothing before."""
    ours = scorer(Vllm(runner))

    async def one_by_one() -> list[Any]:
        return [(await ours.score([pair]))[0] for pair in pairs]

    return values(asyncio.run(one_by_one()))


@pytest.mark.parametrize("caching", [True, False])
def test_rows_that_are_not_there_are_no_score(caching: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that leaves the log-probabilities of prompts out gives one entry without any."""
    vllm = Vllm(1, caching)
    monkeypatch.setattr(vllm, "rows", lambda *_: [[]])
    with pytest.raises(RuntimeError, match="name other tokens than the prompt's"):
        asyncio.run(scorer(vllm).score([([1, 2, 3], [4, 5])]))
