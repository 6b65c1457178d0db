"""Longer conversations: other tasks stand before the one that is measured, and change no verdict."""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest

from harness.engines.scripted import Reply, ScriptedEngine
from harness.errors import UserError
from harness.suites.agentdojo.searched import Options, build
from harness.types import Message, Sample, Sampling, Tool, ToolCall, Transcript
from tests.suites.dojo import suite

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:DeprecationWarning"
)  # AgentDojo's clients of closed models


def solver(dojo: Any, sample: Sample) -> ScriptedEngine:
    """Solves the task that was put last, after so many replies of its own."""
    task = sample.payload
    asked = dojo.user_tasks[task.user_task] if task.user_task else dojo.injection_tasks[task.injection_task]
    environment = dojo.load_and_inject_default_environment({})
    calls = [
        ToolCall(id=f"own{i:06}", name=c.function, arguments=dict(c.args))
        for i, c in enumerate(asked.ground_truth(environment))
    ]

    def policy(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        last = max(i for i, message in enumerate(messages) if message.role == "user")
        said = sum(message.role == "assistant" for message in messages[last:])
        return (
            Reply(tool_calls=(calls[said],))
            if said < len(calls)
            else Reply(text=asked.GROUND_TRUTH_OUTPUT or "Done.")
        )

    return ScriptedEngine(policy)


def talk(made: Any, sample: Sample) -> Transcript:
    return asyncio.run(made.run(sample, solver(made._dojo, sample), Sampling()))


@pytest.mark.parametrize(("name", "earlier"), [("agentdojo_mini", 1), ("banking", 3), ("workspace", 10)])
def test_verdicts_are_as_in_a_short_conversation(name: str, earlier: int) -> None:
    short, long = suite(name), suite(name, earlier=earlier)
    pairs = list(zip(short.samples("Testra", None), long.samples("Testra", None), strict=True))
    for kind, group in groupby(pairs, key=lambda pair: tuple(pair[0].clusters)):
        for one, other in list(group)[:6]:
            assert one.id == other.id and one.content_hash != other.content_hash
            before, after = talk(short, one), talk(long, other)
            assert [m.role for m in after.messages].count("user") == earlier + 1, kind
            assert after.messages[-len(before.messages) + 1 :] == before.messages[1:]
            assert len(after.generations) == len(before.generations)
            assert short.score(one, before) == long.score(other, after)
            assert short.explain(one, before).effects == long.explain(other, after).effects


def test_what_stands_before_is_done_without_an_error_and_was_not_injected() -> None:
    long = suite("workspace", earlier=10)
    for sample in long.samples("Testra", None)[:60:7]:
        messages = long._earlier.before(sample.payload.user_task)
        ids = [call.id for message in messages for call in message.tool_calls]
        assert ids == [m.tool_call_id for m in messages if m.role == "tool"] and len(set(ids)) == len(ids) > 9
        assert not any(m.error or "INFORMATION" in m.content for m in messages)
        own = long._dojo.user_tasks[sample.payload.user_task].PROMPT
        assert own not in [m.content for m in messages]


def test_it_is_in_the_protocol_and_no_part_of_agentdojos_numbers() -> None:
    long = suite("banking", earlier=1)
    assert "earlier" not in suite("banking").protocol and long.protocol["earlier"] == "1"
    assert long.declared.pooling is None


def test_what_cannot_be_is_one_sentence() -> None:
    with pytest.raises(UserError, match="earlier: 99 tasks cannot stand before user_task_0: the suite has"):
        suite("banking", earlier=99)._earlier.before("user_task_0")
    with pytest.raises(UserError, match="earlier: what a defence would have made"):
        suite("banking", earlier=1, defence="tool_filter")
    with pytest.raises(UserError, match="earlier: an attacker who searches"):
        build(None, Options(suite="banking", earlier=1))
