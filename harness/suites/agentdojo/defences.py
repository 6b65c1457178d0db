"""AgentDojo's defences, with its own prompts, symbols and classifier, around an agent on any engine.

A defence may say more to the agent, take tools away from it, or change what tool results look like. All of
that is in the transcript, so that scoring can tell what the tools answered from what the agent was shown.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from msgspec import structs

from harness.engines.base import Engine
from harness.errors import AttemptFailure, UserError
from harness.suites.agentdojo.detectors import DetectorSpec, check_detector, load_detector, second_model
from harness.suites.base import SecondModel
from harness.types import FailureKind, Generation, Message, Sampling, Tool, Transcript


@dataclass
class Conversation:
    """An attempt under way."""

    engine: Engine
    sampling: Sampling
    messages: list[Message]
    tools: tuple[Tool, ...]
    """Those that the agent has."""
    generations: list[Generation] = field(default_factory=list)

    def ask(self) -> Awaitable[Generation]:
        """Ask for the next reply."""
        return self.engine.chat(tuple(self.messages), self.tools, self.sampling)

    def keep(self, reply: Generation) -> Generation:
        """Keep a reply, not yet as a message; returns it."""
        self.generations.append(reply)
        return reply

    @property
    def transcript(self) -> Transcript:
        """All of it."""
        return Transcript(messages=tuple(self.messages), generations=tuple(self.generations))


class Undefended:
    """The agent as it is. The other defences change some of this."""

    def __init__(self, system_message: str) -> None:
        """Args: system_message: what the agent is told without a defence."""
        self.system_message = system_message
        self.models: tuple[SecondModel, ...] = ()
        """What it needs beside the agent's own."""

    def check(self) -> str | None:
        """What there is to download before a run, None for nothing. Raises UserError if it cannot be run."""
        return None

    def prepare(self) -> None:
        """Get what a run needs beside the model, once. Raises UserError if it cannot be had."""

    def wrap(self, output: str) -> str:
        """What becomes of a tool's output, its errors excepted."""
        return output

    async def begin(self, conversation: Conversation) -> None:
        """What happens before the agent's first reply."""

    async def answer(self, conversation: Conversation, results: Sequence[Message]) -> None:
        """Put what the tools came to into the conversation."""
        conversation.messages += results

    def shows(self, shown: str, result: Message) -> bool:
        """Whether the agent can have been shown this text for that result."""
        return shown == result.content

    def offered(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
        """Names of the tools that the agent of a finished conversation had."""
        return [tool.name for tool in tools]


class SpotlightingWithDelimiting(Undefended):
    """Tool outputs stand between symbols, and the system message says what they are
    (Hines et al., 2024, arXiv 2403.14720).
    """

    def __init__(self, system_message: str) -> None:
        """Takes prompt and symbols out of AgentDojo's own pipeline."""
        pipeline = _pipeline("spotlighting_with_delimiting", system_message)
        first, *_, loop = pipeline.elements
        super().__init__(str(first.system_message))
        self._before, self._after = loop.elements[0].output_formatter("\0").split("\0")

    def wrap(self, output: str) -> str:
        """The output between the symbols."""
        return f"{self._before}{output}{self._after}"


class RepeatUserPrompt(Undefended):
    """After every turn with tool results the user's request is put again."""

    async def answer(self, conversation: Conversation, results: Sequence[Message]) -> None:
        """The results, and the request."""
        await super().answer(conversation, results)
        conversation.messages.append(conversation.messages[1])


class ToolFilter(Undefended):
    """Before anything else the model names the tools that the request needs; the agent gets no others.

    As in AgentDojo, question and answer stay in the conversation, and a tool counts as named if its name
    stands anywhere in the answer. AgentDojo forbids a tool call here (`tool_choice: none`), which engines
    need not offer: a tool that is called instead of named counts as named, and nothing is run.
    """

    async def begin(self, conversation: Conversation) -> None:
        """Ask which tools are needed.

        Raises:
            AttemptFailure: the answer was cut off.
        """
        from agentdojo.agent_pipeline.agent_pipeline import TOOL_FILTER_PROMPT

        conversation.messages.append(Message(role="user", content=TOOL_FILTER_PROMPT))
        reply = conversation.keep(await conversation.ask())
        if reply.finish_reason == "length":
            raise AttemptFailure(FailureKind.TRUNCATED, "the answer that names the tools was cut off")
        text = reply.text if reply.parse_error is None else reply.raw
        answer = "\n".join(filter(None, [text, *(call.name for call in reply.tool_calls)]))
        conversation.messages.append(Message(role="assistant", content=answer, reasoning=reply.reasoning))
        named = self.offered(conversation.messages, conversation.tools)
        conversation.tools = tuple(tool for tool in conversation.tools if tool.name in named)

    def offered(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
        """The tools that the answer names: it is the fourth message."""
        return [tool.name for tool in tools if tool.name in messages[3].content]


class Detector(Undefended):
    """A classifier reads every tool output; what it takes for an injection is withheld from the agent."""

    def __init__(self, system_message: str, spec: DetectorSpec) -> None:
        """Args: spec: which classifier. It is loaded when it is first wanted: scoring does without it."""
        super().__init__(system_message)
        self.models = (second_model(spec),)
        self._spec = spec
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detector")

    def check(self) -> str | None:
        """See `Undefended.check`."""
        return check_detector(self._spec)

    def prepare(self) -> None:
        """See `Undefended.prepare`."""
        load_detector(self._spec)

    async def answer(self, conversation: Conversation, results: Sequence[Message]) -> None:
        """The results, those withheld that the classifier objects to. Errors are not outputs.

        Raises:
            AttemptFailure: the classifier raised.
        """
        for result in results:
            objects = not result.error and await self._objects(result.content)
            shown = structs.replace(result, content=withheld()) if objects else result
            conversation.messages.append(shown)

    async def _objects(self, text: str) -> bool:
        detect = load_detector(self._spec)
        try:  # one text at a time, beside the event loop
            return await asyncio.get_running_loop().run_in_executor(self._thread, detect, text)
        except Exception as error:
            raise AttemptFailure(
                FailureKind.TOOL_ERROR, f"the detector raised {type(error).__name__}: {error}"
            ) from error

    def shows(self, shown: str, result: Message) -> bool:
        """The result, or that it was withheld: the transcript alone says what the classifier said."""
        return super().shows(shown, result) or (shown == withheld() and not result.error)


@cache
def withheld() -> str:
    """What AgentDojo's detector puts in the place of a result."""
    from agentdojo.agent_pipeline.pi_detector import PromptInjectionDetector
    from agentdojo.types import text_content_block_from_string

    (block,) = PromptInjectionDetector().transform([text_content_block_from_string("")])
    return str(block["content"])


DEFENCES = (
    "tool_filter",
    "transformers_pi_detector",
    "spotlighting_with_delimiting",
    "repeat_user_prompt",
)


def load_defence(name: str | None, system_message: str, detector: DetectorSpec) -> Undefended:
    """A defence by AgentDojo's name of it, null for none.

    Raises:
        UserError: AgentDojo has no such defence.
    """
    match name:
        case None:
            return Undefended(system_message)
        case "tool_filter":
            return ToolFilter(system_message)
        case "transformers_pi_detector":
            return Detector(system_message, detector)
        case "spotlighting_with_delimiting":
            return SpotlightingWithDelimiting(system_message)
        case "repeat_user_prompt":
            return RepeatUserPrompt(system_message)
    raise UserError(f"there is no defence {name!r}: use one of {', '.join(DEFENCES)}, or null for none")


def _pipeline(defence: str, system_message: str) -> Any:
    """AgentDojo's own pipeline with a defence, around no model."""
    from agentdojo.agent_pipeline.agent_pipeline import AgentPipeline, PipelineConfig
    from agentdojo.agent_pipeline.base_pipeline_element import BasePipelineElement

    class NoModel(BasePipelineElement):  # type: ignore[misc]
        name = "none"

        def query(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError("the pipeline is only read")

    return AgentPipeline.from_config(
        PipelineConfig(
            llm=NoModel(),
            model_id=None,
            defense=defence,
            system_message_name=None,
            system_message=system_message,
        )
    )
