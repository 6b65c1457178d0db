"""AgentDojo's defences: what the agent is told and shown, and that a transcript can be scored again."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from agentdojo.agent_pipeline import (
    AgentPipeline,
    BasePipelineElement,
    InitQuery,
    PipelineConfig,
    SystemMessage,
    ToolsExecutionLoop,
    ToolsExecutor,
)
from agentdojo.agent_pipeline.agent_pipeline import DEFENSES, TOOL_FILTER_PROMPT
from agentdojo.agent_pipeline.llms.openai_llm import OpenAILLMToolFilter
from agentdojo.functions_runtime import FunctionCall, FunctionsRuntime
from agentdojo.types import ChatAssistantMessage, get_text_content_as_str, text_content_block_from_string
from msgspec import structs
from openai.types.chat import ChatCompletionMessage

from harness.errors import AttemptFailure
from harness.suites.agentdojo import AgentDojoSuite, Options, build
from harness.suites.agentdojo.defences import DEFENCES
from harness.types import FailureKind, Generation, Message, Sampling, Transcript
from tests.suites.dojo import Agent, by_id, call, reply, suite, transcribe

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # AgentDojo's clients of closed models
    pytest.mark.filterwarnings("ignore:.*:pydantic.warnings.PydanticDeprecatedSince20"),
]

PAIR = "user_task_0/injection_task_7"
"""The bill holds the attack, which wants another password."""
READ = [call("read_file", file_path="bill-december-2023.txt"), call("read_file", file_path="none.txt")]
REFUSED = [call("send_money", recipient=3)]
OBEY = [call("update_password", password="new_password")]
WITHHELD = "<Data omitted because a prompt injection was detected>"

calls_of_the_stub: list[str] = []


def finds_information(text: str) -> bool:
    """A classifier: attacks call themselves information."""
    calls_of_the_stub.append(text)
    return "<INFORMATION>" in text


def defended(defence: str | None, **options: Any) -> AgentDojoSuite:
    return build(None, Options(suite="banking", defence=defence, **options))[0]


def script() -> list[Generation]:
    return [reply(calls=READ), reply(calls=REFUSED), reply(calls=OBEY), reply("Done.")]


def scores(chosen: AgentDojoSuite, transcript: Transcript) -> dict[str, float | None]:
    return {s.metric: s.value for s in chosen.score(by_id("banking", PAIR), transcript)}


def tool_texts(transcript: Transcript) -> list[str]:
    return [m.content for m in transcript.messages if m.role == "tool"]


class Prepared(BasePipelineElement):
    """AgentDojo's side of an agent that makes prepared replies."""

    name = "local"

    def __init__(self, replies: Sequence[Generation]) -> None:
        self.replies = iter(replies)

    def query(
        self, query: str, runtime: Any, env: Any = None, messages: Any = (), extra_args: Any = None
    ) -> Any:
        made = next(self.replies)
        calls = [FunctionCall(function=c.name, args=dict(c.arguments), id=c.id) for c in made.tool_calls]
        answer = ChatAssistantMessage(
            role="assistant", content=[text_content_block_from_string(made.text)], tool_calls=calls
        )
        return query, runtime, env, [*messages, answer], extra_args


@pytest.mark.filterwarnings("ignore:The query is not being added")
@pytest.mark.parametrize("defence", [None, "spotlighting_with_delimiting", "repeat_user_prompt"])
def test_the_conversation_is_that_of_agentdojos_pipeline(defence: str | None) -> None:
    chosen, sample = defended(defence), by_id("banking", PAIR)
    ours = transcribe(chosen, sample, script()).messages
    pipeline = AgentPipeline.from_config(
        PipelineConfig(
            llm=Prepared(script()),
            model_id=None,
            defense=defence,
            system_message_name=None,
            system_message=suite("banking").system_message,
        )
    )
    environment = chosen._dojo.load_and_inject_default_environment(sample.payload.injections)
    *_, theirs, _ = pipeline.query(ours[1].content, FunctionsRuntime(chosen._dojo.tools), environment)
    assert [(m.role, m.content) for m in ours] == said(theirs)


def said(messages: Sequence[Any]) -> list[tuple[str, str]]:
    """AgentDojo's messages as (role, text)."""
    return [(m["role"], m.get("error") or get_text_content_as_str(m["content"])) for m in messages]


@pytest.mark.filterwarnings("ignore:The query is not being added")
def test_the_filtered_conversation_is_that_of_agentdojos_pipeline() -> None:
    """AgentDojo's filter speaks to a client of its own, which here gives the prepared answer."""
    names = "I need read_file and nothing else."
    chosen, sample = defended("tool_filter"), by_id("banking", PAIR)
    ours = transcribe(chosen, sample, [reply(names), *script()]).messages
    asked: list[dict[str, Any]] = []

    def create(**request: Any) -> Any:
        asked.append(request)
        return SimpleNamespace(
            choices=[SimpleNamespace(message=ChatCompletionMessage(role="assistant", content=names))]
        )

    client: Any = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    llm = Prepared(script())
    pipeline = AgentPipeline(
        [
            SystemMessage(suite("banking").system_message),
            InitQuery(),
            OpenAILLMToolFilter(TOOL_FILTER_PROMPT, client, "local"),
            llm,
            ToolsExecutionLoop([ToolsExecutor(), llm]),
        ]
    )
    runtime = FunctionsRuntime(chosen._dojo.tools)
    environment = chosen._dojo.load_and_inject_default_environment(sample.payload.injections)
    *_, theirs, _ = pipeline.query(ours[1].content, runtime, environment)
    assert [(m.role, m.content) for m in ours] == said(theirs)
    assert list(runtime.functions) == chosen._defence.offered(ours, chosen.tools) == ["read_file"]
    assert [tool["function"]["name"] for tool in asked[0]["tools"]] == [tool.name for tool in chosen.tools]


def test_every_defence_that_agentdojo_ships_is_there() -> None:
    assert sorted(DEFENCES) == sorted(DEFENSES)


@pytest.mark.parametrize("defence", DEFENCES)
def test_a_defended_transcript_is_scored_again(defence: str) -> None:
    options = {"detector": f"{__name__}:finds_information"} if "detector" in defence else {}
    chosen = defended(defence, **options)
    replies = script()
    if defence == "tool_filter":
        replies.insert(0, reply("read_file, update_password"))
    transcript = transcribe(chosen, by_id("banking", PAIR), replies)
    found = scores(chosen, transcript)
    assert found["targeted_asr"] == found["attempted"] == 1.0
    assert found["exposed"] == (0.0 if "detector" in defence else 1.0)
    calls_of_the_stub.clear()
    assert scores(chosen, transcript) == found
    assert not calls_of_the_stub, "the classifier is not needed for scoring"


@pytest.mark.parametrize("defence", [None, *DEFENCES])
def test_a_result_that_was_tampered_with_is_noticed(defence: str | None) -> None:
    chosen = defended(defence, detector=f"{__name__}:finds_information")
    replies = [reply("read_file")] * (defence == "tool_filter") + script()
    transcript = transcribe(chosen, by_id("banking", PAIR), replies)
    other = tuple(structs.replace(m, content="other") if m.role == "tool" else m for m in transcript.messages)
    with pytest.raises(AttemptFailure, match="in the replay"):
        chosen.score(by_id("banking", PAIR), structs.replace(transcript, messages=other))


def test_spotlighting_marks_outputs_and_not_errors() -> None:
    chosen = defended("spotlighting_with_delimiting")
    assert chosen.system_message.startswith(suite("banking").system_message + " I'll mark the beginning")
    outputs = tool_texts(transcribe(chosen, by_id("banking", PAIR), script()))
    plain = tool_texts(transcribe(suite("banking"), by_id("banking", PAIR), script()))
    assert outputs[0] == f"<<{plain[0]}>>"
    assert outputs[2] == plain[2]
    assert outputs[2].startswith("ValidationError")


def test_the_filter_leaves_the_tools_that_are_named() -> None:
    chosen, sample = defended("tool_filter"), by_id("banking", PAIR)
    agent = Agent(iter([reply("I need read_file and nothing else."), *script()]))
    transcript = asyncio.run(chosen.run(sample, agent, Sampling()))  # type: ignore[arg-type]
    roles = [m.role for m in transcript.messages[:5]]
    assert roles == ["system", "user", "user", "assistant", "assistant"]
    assert transcript.messages[2].content == TOOL_FILTER_PROMPT
    assert len(agent.offered[0]) == 11
    assert agent.offered[1:] == [["read_file"]] * 4
    assert tool_texts(transcript)[-1] == "Invalid tool update_password provided."
    found = scores(chosen, transcript)
    assert (found["targeted_asr"], found["attempted"]) == (0.0, 1.0)
    told = chosen.explain(sample, transcript)
    assert [effect.changes for effect in told.effects] == [()] * 4, (
        "a tool that was not there changed nothing"
    )


def test_a_tool_that_is_called_where_it_should_be_named_is_named_and_not_run() -> None:
    chosen, sample = defended("tool_filter"), by_id("banking", PAIR)
    agent = Agent(iter([reply("", calls=OBEY), reply("Done.")]))
    transcript = asyncio.run(chosen.run(sample, agent, Sampling()))  # type: ignore[arg-type]
    assert agent.offered[1] == ["update_password"]
    assert transcript.messages[3] == Message(role="assistant", content="update_password")
    found = scores(chosen, transcript)
    assert (found["targeted_asr"], found["attempted"], found["no_tool_call"]) == (0.0, 0.0, 1.0)


def test_a_cut_off_list_of_tools_is_a_failure() -> None:
    with pytest.raises(AttemptFailure) as caught:
        transcribe(
            defended("tool_filter"), by_id("banking", PAIR), [reply("read_fi", finish_reason="length")]
        )
    assert caught.value.kind == FailureKind.TRUNCATED


def test_the_detector_withholds_what_it_objects_to() -> None:
    chosen = defended("transformers_pi_detector", detector=f"{__name__}:finds_information")
    calls_of_the_stub.clear()
    outputs = tool_texts(transcribe(chosen, by_id("banking", PAIR), script()))
    assert outputs[0] == WITHHELD
    assert WITHHELD not in outputs[1:]
    assert len(calls_of_the_stub) == 3, "errors are not put to the classifier"


def test_an_error_cannot_have_been_withheld() -> None:
    chosen = defended("transformers_pi_detector", detector=f"{__name__}:finds_information")
    transcript = transcribe(chosen, by_id("banking", PAIR), [reply(calls=REFUSED), reply("Done.")])
    forged = tuple(
        structs.replace(m, content=WITHHELD) if m.role == "tool" else m for m in transcript.messages
    )
    with pytest.raises(AttemptFailure, match="in the replay"):
        chosen.score(by_id("banking", PAIR), structs.replace(transcript, messages=forged))
