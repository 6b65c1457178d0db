import asyncio

import pytest

from harness.engines.base import Load
from harness.engines.scripted import Reply, ScriptedEngine, sequence
from harness.errors import AttemptFailure, EngineDead
from harness.types import FailureKind, Message, Sampling, ToolCall

HELLO = (Message(role="user", content="Hello there"),)


async def test_echo_counts_words_as_tokens() -> None:
    generation = await ScriptedEngine().chat(HELLO, (), Sampling())
    assert (generation.text, generation.finish_reason) == ("Hello there", "stop")
    assert (generation.prompt_tokens, generation.completion_tokens) == (4, 2)


async def test_budget_cuts_the_reply() -> None:
    generation = await ScriptedEngine().complete("one\ntwo three four", Sampling(max_tokens=2))
    assert (generation.text, generation.finish_reason) == ("two three", "length")


async def test_sequence_follows_the_turns_of_each_conversation() -> None:
    call = ToolCall(id="1", name="read", arguments={"path": "a"})
    engine = ScriptedEngine(sequence([Reply(tool_calls=(call,)), Reply(text="done")]))
    first, other = await asyncio.gather(*(engine.chat(HELLO, (), Sampling()) for _ in range(2)))
    assert first.tool_calls == other.tool_calls == (call,)
    assert first.finish_reason == "tool_calls"
    turn = (*HELLO, Message(role="assistant", content="", tool_calls=(call,)))
    assert (await engine.chat(turn, (), Sampling())).text == "done"
    assert engine.requests == 3


async def test_parse_error_and_raw_are_passed_on() -> None:
    engine = ScriptedEngine(lambda *_: Reply(text="<tool_call>{", parse_error="no JSON"))
    generation = await engine.chat(HELLO, (), Sampling())
    assert (generation.parse_error, generation.raw) == ("no JSON", "<tool_call>{")


async def test_policy_may_raise() -> None:
    def refuse(*_: object) -> Reply:
        raise AttemptFailure(FailureKind.ENGINE_ERROR, "status 500")

    with pytest.raises(AttemptFailure, match="status 500"):
        await ScriptedEngine(refuse).chat(HELLO, (), Sampling())


async def test_score_is_deterministic_and_one_choice_is_greedy() -> None:
    first = await ScriptedEngine().score("The sky is", [" blue", " green", " a door"])
    assert first == await ScriptedEngine().score("The sky is", [" blue", " green", " a door"])
    assert [part.is_greedy for part in first].count(True) == 1
    assert [part.tokens for part in first] == [1, 1, 2]
    assert all(-10 < part.logprob < 0 for part in first)
    assert len({part.logprob for part in first}) == 3


async def test_overflow() -> None:
    with pytest.raises(AttemptFailure) as caught:
        await ScriptedEngine(max_model_len=3).complete("one two three", Sampling())
    assert caught.value.kind is FailureKind.CONTEXT_OVERFLOW


async def test_load_and_cancellation() -> None:
    engine = ScriptedEngine(delay=30, max_num_seqs=2)
    tasks = [asyncio.create_task(engine.chat(HELLO, (), Sampling())) for _ in range(3)]
    await asyncio.sleep(0)
    assert engine.load() == Load(running=2, waiting=1)
    for task in tasks:
        task.cancel()
    assert all(
        isinstance(end, asyncio.CancelledError)
        for end in await asyncio.gather(*tasks, return_exceptions=True)
    )
    assert engine.load() == Load(running=0, waiting=0)
    assert engine.requests == 0


async def test_closed_engine_is_dead() -> None:
    engine = ScriptedEngine()
    await engine.close()
    await engine.close()
    with pytest.raises(EngineDead):
        await engine.complete("x", Sampling())
