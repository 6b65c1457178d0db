"""VllmEngine on a tiny random model. A random model writes no tool calls, so known replies are put
through the same parsing as generated ones."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from jinja2.exceptions import SecurityError

from harness import bounded
from harness.engines.base import Load
from harness.engines.replies import message_to_openai, tool_to_openai
from harness.engines.vllm import start
from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.engine import VllmEngine
from harness.engines.vllm.loglikelihoods import Scorer
from harness.engines.vllm.pieces import CHECKED
from harness.engines.vllm.tokens import Encoder, Tokens
from harness.errors import AttemptFailure, EngineDead, UserError
from harness.types import FailureKind, Generation, Message, Sampling, Tool, ToolCall, Variant
from tests.engines import tiny

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    # torch deprecates names that vLLM's import touches.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ARGS = {"max_model_len": 256, "kv_cache_memory_bytes": 64 << 20, "max_num_seqs": 16, "block_size": 32}
WEATHER = Tool(
    name="get_weather",
    description="Weather of a city",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
QUESTION = (Message(role="user", content="Weather in Paris?"),)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_qwen3(tmp_path_factory.mktemp("tiny") / "qwen3")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(checkpoint: Path) -> AsyncIterator[VllmEngine]:
    started = await VllmEngine.start(
        str(checkpoint), tool_call_parser="hermes", reasoning_parser="deepseek_r1", engine_args=ARGS
    )
    yield started
    await started.close()
    await started.close()
    with pytest.raises(EngineDead, match="closed"):
        await started.complete("x", Sampling(max_tokens=1))


async def say(engine: VllmEngine, written: str, *, reason: str = "stop") -> Generation:
    """The generation that the engine makes of a reply, as if the model had written it."""
    request = chat_request(QUESTION, [WEATHER], Variant())
    inputs = await engine._render_chat(request)
    tokens = engine._encoder.encode_bare(written)
    # The EOS token that ended a reply is among its tokens, but not in its text.
    text = written.removesuffix("<|im_end|>")
    completion = SimpleNamespace(text=text, token_ids=tokens, finish_reason=reason, stop_reason=None)
    output = SimpleNamespace(
        outputs=[completion], prompt_token_ids=inputs["prompt_token_ids"], num_cached_tokens=0
    )
    reply = engine._reader.read(request, output.prompt_token_ids, completion, QUESTION, [WEATHER])
    return engine._generation(output, reply, started=0.0)


def call(city: str) -> str:
    return f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


async def test_two_calls_in_one_turn(engine: VllmEngine) -> None:
    written = f"<think>two cities</think>Let me see.{call('Paris')}\n{call('Rome')}"
    generation = await say(engine, written)
    assert generation.tool_calls == (
        ToolCall(id="call00000", name="get_weather", arguments={"city": "Paris"}),
        ToolCall(id="call00001", name="get_weather", arguments={"city": "Rome"}),
    )
    assert generation.finish_reason == "tool_calls"
    assert generation.reasoning == "two cities"
    assert generation.text == "Let me see."
    assert generation.raw == written
    assert generation.parse_error is None


async def test_prompts_in_pieces_are_those_of_the_whole_text(engine: VllmEngine) -> None:
    """More prompts than are tokenised both ways."""
    for city in map(str, range(2 * CHECKED)):
        question = Message(role="user", content=f"Weather in {city}?")
        inputs = await engine._render_chat(chat_request((question,), [WEATHER], Variant()))
        text = engine._tokenizer.apply_chat_template(
            [message_to_openai(question)],
            tools=[tool_to_openai(WEATHER)],
            tokenize=False,
            add_generation_prompt=True,
        )
        assert inputs["prompt_token_ids"] == engine._tokenizer(text, add_special_tokens=False)["input_ids"]


async def test_a_later_turn_finds_the_earlier_ones_in_the_prefix_cache(engine: VllmEngine) -> None:
    block = int(engine.facts.details["block_size"])
    question = Message(role="user", content="Weather in Paris? " * 6)
    first = await engine.chat((question,), (), Sampling(max_tokens=4))
    later = (question, Message(role="assistant", content="Rain."), *QUESTION)
    second = await engine.chat(later, (), Sampling(max_tokens=4))
    # All that both prompts begin with, but for a block that was not full.
    assert first.prompt_tokens > 2 * block
    assert first.prompt_tokens - block < second.cached_tokens < second.prompt_tokens


async def test_remembered_tools_are_shown_as_vllm_shows_them(engine: VllmEngine) -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionToolsParam

    for _ in range(2):
        [shown] = chat_request(QUESTION, [WEATHER], Variant()).tools
        written = shown.model_dump()
        assert written == ChatCompletionToolsParam(**tool_to_openai(WEATHER)).model_dump()
        written["function"]["name"] = "changed"  # by whom it was shown to


async def test_a_template_cannot_change_the_tools_that_others_are_shown(engine: VllmEngine) -> None:
    tools = [tool.model_dump() for tool in chat_request(QUESTION, [WEATHER], Variant(), templated=True).tools]
    for change in ("tools[0].pop('function')", "tools[0].function.update(name='x')", "tools.append(1)"):
        with pytest.raises(SecurityError):
            engine._tokenizer.apply_chat_template([{}], tools=tools, chat_template=f"{{{{ {change} }}}}")


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ('<tool_call>\n{"name": "get_weather", "arg', "a tool call cannot be read: JSON"),
        ("<tool_call>\nget_weather(Paris)\n</tool_call>", "not 'get_weather(Paris)"),
        (call("Paris") + '\n<tool_call>\n{"name": "get_w</tool_call>', "cannot be read"),
        ('<tool_call>{"name": "", "arguments": {}}</tool_call>', "an object with a name"),
        ('<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>', "arguments and nothing else"),
        ('<tool_call>{"name": "get_weather", "arguments": {"city": NaN}}</tool_call>', "NaN is not JSON"),
        ('[TOOL_CALLS][{"name": "get_weather"}]', "that the parser does not read"),
        ('{"name": "get_weather", "arguments": {"city": "Paris"}}', "spells a call of 'get_weather'"),
    ],
)
async def test_unread_calls_are_parse_errors(engine: VllmEngine, written: str, why: str) -> None:
    generation = await say(engine, f"<think>hm</think>{written}")
    assert generation.parse_error is not None
    assert why in generation.parse_error
    assert generation.raw.endswith(written)


async def test_plain_replies_and_thoughts_about_calls_are_no_parse_errors(engine: VllmEngine) -> None:
    generation = await say(engine, "<think>shall I write <tool_call>?</think>It rains.<|im_end|>")
    assert generation.parse_error is None
    assert (generation.text, generation.finish_reason) == ("It rains.", "stop")
    assert generation.raw.endswith("It rains.<|im_end|>")


async def test_chat_renders_the_template_and_counts_tokens(engine: VllmEngine) -> None:
    generation = await engine.chat(QUESTION, [WEATHER], Sampling(max_tokens=5))
    assert generation.completion_tokens == 5
    assert generation.finish_reason == "length"
    bare = await engine.chat(QUESTION, (), Sampling(max_tokens=5))
    assert bare.prompt_tokens == len(engine._encoder.encode(engine.render(QUESTION)))
    assert generation.prompt_tokens > bare.prompt_tokens


async def test_bos_tokens_are_counted_in_what_is_sent(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By complete, chat and score; here of a token that the chat template begins with."""
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    monkeypatch.setattr(engine, "_encoder", Encoder(tokenizer))
    monkeypatch.setattr(engine, "_scorer", engine._new_scorer())
    short, bos = Sampling(max_tokens=1), "<|im_start|>"
    assert (await engine.chat(QUESTION, (), short)).bos_tokens == 1
    completed = [await engine.complete(prompt, short) for prompt in ("x", bos + "x", bos + bos + "x")]
    assert [reply.bos_tokens for reply in completed] == [0, 1, 2]
    for context, count in (("x", 0), (bos + "x", 1), (bos + bos + "x", 2), ("", 1)):
        assert [part.bos_tokens for part in await engine.score(context, [" y", " y z"])] == [count] * 2
    assert [(await engine.score_rolling(text)).bos_tokens for text in ("x", bos + "x")] == [1, 2]


async def test_render_shows_calls_and_results(engine: VllmEngine) -> None:
    made = ToolCall(id="call00000", name="get_weather", arguments={"city": "Paris"})
    messages = (
        *QUESTION,
        Message(role="assistant", content="", tool_calls=(made,)),
        Message(role="tool", content="rain", tool_call_id="call00000", name="get_weather"),
    )
    text = engine.render(messages)
    assert call("Paris") in text
    assert "<tool_response>rain</tool_response>" in text
    assert text.endswith("<|im_start|>assistant\n")
    assert not engine.render(messages, add_generation_prompt=False).endswith("assistant\n")


async def test_seeds_repeat_and_differ_at_any_load(engine: VllmEngine) -> None:
    def ask(seed: int) -> asyncio.Task[Generation]:
        sampling = Sampling(temperature=1.0, seed=seed, max_tokens=12)
        return asyncio.create_task(engine.complete("The weather " * 12, sampling))

    alone = await ask(7)
    many = await asyncio.gather(*(ask(seed) for seed in range(40)))
    assert many[7].raw == alone.raw
    assert len({generation.raw for generation in many}) == 40


async def test_stop_strings_and_budget(engine: VllmEngine) -> None:
    whole = await engine.complete("Weather", Sampling(temperature=1.0, seed=1, max_tokens=20))
    stop = whole.raw[6:8]
    cut = await engine.complete("Weather", Sampling(temperature=1.0, seed=1, max_tokens=20, stop=(stop,)))
    assert cut.finish_reason == "stop"
    assert stop not in cut.text
    assert whole.raw.startswith(cut.text + stop)


def reply_with(engine: VllmEngine, text: str) -> Any:
    """In place of vLLM's `generate`: the model writes this, whatever vLLM would be told."""

    async def generate(inputs: Any, params: Any, request_id: str, lora_request: Any = None) -> Any:
        told.append(params)
        ids = engine._encoder.encode_bare(text)
        completion = SimpleNamespace(text=text, token_ids=ids, finish_reason="length", stop_reason=None)
        tokens = inputs["prompt_token_ids"]
        yield SimpleNamespace(outputs=[completion], prompt_token_ids=tokens, num_cached_tokens=0)

    told: list[Any] = []
    generate.told = told  # type: ignore[attr-defined]
    return generate


async def test_stop_strings_are_for_the_answer_not_for_the_reasoning(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = reply_with(engine, "<think>first\n\nthen Q: no</think>The answer is 4\n\nQ: more")
    monkeypatch.setattr(engine._llm, "generate", generate)
    prompt = engine.render(QUESTION)
    generation = await engine.complete(prompt, Sampling(stop=("\n\n", "Q:")))
    assert list(generate.told[0].stop) == []
    assert generation.reasoning == "first\n\nthen Q: no"
    assert (generation.text, generation.finish_reason) == ("The answer is 4", "stop")
    assert generation.raw.endswith("Q: more")
    whole = await engine.complete(prompt, Sampling(stop=("never",)))
    assert (whole.text, whole.finish_reason) == ("The answer is 4\n\nQ: more", "length")
    # A model may think without a chat template too.
    bare = await engine.complete("2 + 2 =", Sampling(stop=("\n\n",)))
    assert list(generate.told[-1].stop) == []
    assert bare.text == "The answer is 4"


async def test_reasoning_that_the_budget_cut_off_is_no_answer(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._llm, "generate", reply_with(engine, "<think>let me see, 4 or 5"))
    generation = await engine.complete(engine.render(QUESTION), Sampling())
    assert (generation.text, generation.finish_reason) == ("", "length")
    assert generation.reasoning == "let me see, 4 or 5"


async def test_overflow_is_told_before_sending_and_budgets_are_clipped(engine: VllmEngine) -> None:
    # Few enough characters for vLLM to tokenise, and so many that it does not even do that.
    for length in (1000, 20_000):
        long = (Message(role="user", content="é" * length),)
        with pytest.raises(AttemptFailure) as caught:
            await engine.chat(long, [WEATHER], Sampling())
        assert caught.value.kind is FailureKind.CONTEXT_OVERFLOW
        with pytest.raises(AttemptFailure) as caught:
            await engine.complete("é" * length, Sampling())
        assert caught.value.kind is FailureKind.CONTEXT_OVERFLOW
    prompt = "é" * 120
    generation = await engine.complete(prompt, Sampling(max_tokens=10_000, temperature=1.0, seed=3))
    assert generation.prompt_tokens == 240
    assert generation.completion_tokens <= 16


async def test_a_context_that_does_not_fit_says_how_much_it_lost(engine: VllmEngine) -> None:
    whole, cut = [await engine.score("é" * length, ["a", "ab"]) for length in (20, 200)]
    assert [answer.lost_tokens for answer in whole] == [0, 0]
    # Room is 255 tokens: one of the 256 has to be left for vLLM to generate.
    assert [answer.lost_tokens for answer in cut] == [
        len(engine._encoder.encode("é" * 200)) + answer.tokens - 255 for answer in cut
    ]
    assert [answer.tokens for answer in cut] == [answer.tokens for answer in whole]


async def test_bad_sampling_is_the_users_error(engine: VllmEngine) -> None:
    # Of what `Sampling` itself does not refuse: vLLM's own rule.
    with pytest.raises(UserError, match="min_p must be in"):
        await engine.complete("x", Sampling(temperature=1.0, min_p=3.0))


async def score_alone(engine: VllmEngine, context: Tokens, rest: Tokens) -> tuple[float, bool]:
    (part,) = await scorer(engine, None).continuation(context, rest)
    return part.logprob, part.is_greedy


def scorer(engine: VllmEngine, block_size: int | None = 16) -> Scorer:
    """One that remembers nothing; without a size of blocks it does not read the prefix cache."""
    return Scorer(engine._ask, engine._encoder, engine._max_model_len, block_size, 8)


NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}CONTENT{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("content", "said"), [("", r"took longer than 0\.3 s"), ("{{ messages }}" * 9, "needs more than 64 MiB")]
)
async def test_a_template_that_writes_without_an_end_costs_one_attempt(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch, content: str, said: str
) -> None:
    monkeypatch.setattr(start, "TEMPLATE_MEMORY", 64 << 20)
    monkeypatch.setattr(bounded, "LIMIT_SECONDS", 20.0 if content else 0.3)
    monkeypatch.setattr(bounded, "TICK_SECONDS", 0.1)
    template = engine._tokenizer.chat_template
    engine._tokenizer.chat_template = NESTED.replace("CONTENT", content)
    try:
        with pytest.raises(AttemptFailure, match=f"rendering the chat template {said}"):
            await engine.chat(QUESTION, (), Sampling())
    finally:
        engine._tokenizer.chat_template = template
    assert (await engine.chat(QUESTION, (), Sampling(max_tokens=2))).completion_tokens


async def continued(engine: VllmEngine, context: Tokens, tokens: int) -> Any:
    """What vLLM writes after a context, greedily."""
    from vllm.inputs import tokens_input

    params = engine._sampling_params(Sampling(max_tokens=tokens), len(context))
    return [part async for part in engine._llm.generate(tokens_input(context), params, "continued")][-1]


async def test_single_tokens_score_as_prompt_logprobs_do(engine: VllmEngine) -> None:
    context = engine._encoder.encode("Question: what is the weather?\nAnswer:")
    # Of every token of the vocabulary: more than one request may ask for.
    tokens = list(range(300))
    together = await engine._scorer.next_tokens(context, tokens)
    for token in (0, 5, 150, 299):
        part = together[token]
        assert (part.logprob, part.is_greedy) == await score_alone(engine, context, [token])
    greedy = max(range(300), key=lambda token: together[token].logprob)
    written = await continued(engine, context, 1)
    next_token = written.outputs[0].token_ids[0]
    if next_token < 300:
        assert next_token == greedy
        assert together[greedy].is_greedy
    assert sum(part.is_greedy for part in together) <= 1


async def test_longer_continuations_are_sums_over_their_tokens(engine: VllmEngine) -> None:
    parts = await engine.score("The weather in Paris ", ["is fine", "rain"])
    for part, continuation in zip(parts, ["is fine", "rain"], strict=True):
        context, rest = engine._encoder.pair("The weather in Paris ", continuation)
        steps = [
            (await score_alone(engine, context + rest[:index], rest[index : index + 1]))[0]
            for index in range(len(rest))
        ]
        assert part.tokens == len(rest) > 1
        assert part.logprob == pytest.approx(sum(steps), abs=1e-4)
    assert await engine.score("x", [""]) == [
        parts[0].__class__(logprob=0.0, is_greedy=True, tokens=0, bos_tokens=0)
    ]


def words(seed: int, count: int) -> Tokens:
    return [3 + (seed * 7919 + index * 104729) % 380 for index in range(count)]


@pytest.mark.parametrize("length", [3, 127, 128, 129, 200])
async def test_scores_after_a_cached_prefix_are_bit_for_bit_those_without(
    engine: VllmEngine, length: int
) -> None:
    """Contexts of whole blocks too, and continuations that were scored before: nothing is left to compute."""
    context = words(length, length)
    rests = [words(length, length + 20)[length:], words(1, 9), words(2, 30), words(1, 9)[:4]]
    expected = [await scorer(engine, None).continuation(context, rest) for rest in rests]
    # At once, one after the other, and again by one scorer.
    found = await asyncio.gather(*(scorer(engine).continuation(context, rest) for rest in rests))
    again = [await scorer(engine).continuation(context, rest) for rest in rests]
    scored = await scorer(engine).score([(context, rest) for rest in rests])
    for (one,), (two,), three, (plain,) in zip(found, again, scored, expected, strict=True):
        assert one.logprob == two.logprob == three.logprob == plain.logprob
        assert one.is_greedy == two.is_greedy == three.is_greedy == plain.is_greedy
    if length >= 128:
        assert sum(answer.cached_tokens for (answer,) in again) >= 4 * 128


async def test_equal_questions_are_computed_once(engine: VllmEngine) -> None:
    first = await engine.score("How is it in Rome? It ", ["rains", "is fine"])
    second = await engine.score("How is it in Rome? It ", ["is fine", "snows", "rains"])
    assert [second[2].logprob, second[0].logprob] == [answer.logprob for answer in first]
    assert [answer.prompt_tokens > 0 for answer in first + second] == [True, True, False, True, False]


async def test_greedy_continuation_is_greedy(engine: VllmEngine) -> None:
    context = engine._encoder.encode("The weather")
    written = await continued(engine, context, 6)
    tokens = list(written.outputs[0].token_ids)
    assert (await score_alone(engine, context, tokens))[1]
    tokens[3] = tokens[3] + 1
    assert not (await score_alone(engine, context, tokens))[1]


async def test_rolling_score_covers_texts_longer_than_the_context(engine: VllmEngine) -> None:
    text = "The weather in Paris is fine. " * 60
    tokens = len(engine._encoder.encode(text))
    assert tokens > 2 * 256
    part = await engine.score_rolling(text)
    assert part.tokens == tokens
    assert part.logprob < -tokens
    short = await engine.score_rolling("fine")
    assert short.logprob == (await engine.score("", ["fine"]))[0].logprob


async def test_cancelled_requests_are_aborted(engine: VllmEngine) -> None:
    task = asyncio.create_task(engine.complete("x", Sampling(temperature=1.0, max_tokens=200)))
    await asyncio.sleep(0.05)
    assert engine.load() == Load(running=1, waiting=0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.load() == Load(running=0, waiting=0)
    assert engine._llm.output_processor.get_num_unfinished_requests() == 0


async def test_facts_are_those_of_the_live_engine(engine: VllmEngine) -> None:
    details = engine.facts.details
    assert engine.facts.name == "vllm"
    assert details["max_model_len"] == "256"
    assert details["max_num_seqs"] == "16"
    assert details["dtype"] == "bfloat16"
    assert details["tool_call_parser"] == "hermes"
    assert (details["bos_tokens"], details["bos_tokens_in_chat"]) == ("0", "0")
    assert len(details["chat_template_hash"]) == 16


async def test_tools_need_a_parser_and_a_template(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._chat, "parser", None)
    with pytest.raises(UserError, match="no tool_call_parser"):
        await engine.chat(QUESTION, [WEATHER], Sampling(max_tokens=1))
    monkeypatch.setattr(engine._tokenizer, "chat_template", "{{ messages }}")
    with pytest.raises(UserError, match="does not show tools"):
        await engine.chat(QUESTION, [WEATHER], Sampling(max_tokens=1))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"tool_call_parser": "herms"}, "tool_call_parser: vLLM has no 'herms'; it has .*hermes"),
        ({"reasoning_parser": "qwen"}, "reasoning_parser: vLLM has no 'qwen'; it has .*qwen3"),
        ({"engine_args": {"max_model_length": 5}}, "'max_model_length'; did you mean max_model_len"),
        ({"engine_args": {"revision": "x"}}, "revision is given by the model's own spec"),
        ({"engine_args": {"max_model_len": 10**9}}, "vLLM cannot load .*max_model_len"),
    ],
)
async def test_bad_arguments_are_refused_before_loading(
    checkpoint: Path, arguments: dict[str, object], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        await VllmEngine.start(str(checkpoint), **arguments)


def core_pid(engine: VllmEngine) -> int:
    (process,) = engine._llm.engine_core.resources.engine_manager.processes
    return process.pid


# These two end the engine of the module and come last.


async def test_the_core_does_not_hear_ctrl_c(engine: VllmEngine) -> None:
    os.kill(core_pid(engine), signal.SIGINT)
    await asyncio.sleep(0.2)
    generation = await engine.complete("x", Sampling(max_tokens=3))
    assert generation.completion_tokens == 3


async def test_a_killed_core_is_a_dead_engine(engine: VllmEngine) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=200)
    tasks = [asyncio.create_task(engine.complete("x", sampling)) for _ in range(3)]
    await asyncio.sleep(0.1)
    os.kill(core_pid(engine), signal.SIGKILL)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [EngineDead] * 3
    with pytest.raises(EngineDead):
        await engine.chat(QUESTION, (), Sampling(max_tokens=1))
