"""Conversations between Inspect's types and those of the harness, there and back."""

from collections.abc import Sequence
from typing import Any

from harness.errors import UserError
from harness.types import Generation, Message, Tool, ToolCall

STOPS = {"length": "max_tokens", "tool_calls": "tool_calls", "stop": "stop"}
"""Our reason why a reply ended -> Inspect's."""


def of_inspect(message: Any) -> Message:
    """A message of Inspect's as ours. Raises UserError for one that holds more than text."""
    text, reasoning = _parts(message.content)
    if message.role == "tool":
        error = message.error
        return Message(
            role="tool",
            content=error.message if error else text,
            tool_call_id=message.tool_call_id,
            name=message.function,
            error=error is not None,
        )
    calls = getattr(message, "tool_calls", None) or ()
    return Message(
        role=message.role,
        content=text,
        reasoning=reasoning,
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.function, arguments=dict(call.arguments)) for call in calls
        ),
    )


def _parts(content: Any) -> tuple[str, str | None]:
    """(text, thought) of a message's content."""
    if isinstance(content, str):
        return content, None
    if other := sorted({part.type for part in content} - {"text", "reasoning"}):
        raise UserError(
            f"a prompt of the task has {', '.join(other)} in it, and engines here take text alone"
        )
    text = "\n".join(part.text for part in content if part.type == "text")
    thought = "\n".join(part.reasoning for part in content if part.type == "reasoning")
    return text, thought or None


def of_harness(message: Message) -> Any:
    """A message of ours as Inspect's."""
    from inspect_ai.model import ChatMessageSystem, ChatMessageTool, ChatMessageUser
    from inspect_ai.tool import ToolCallError

    if message.role == "tool":
        return ChatMessageTool(
            content=message.content,
            tool_call_id=message.tool_call_id,
            function=message.name,
            error=ToolCallError("unknown", message.content) if message.error else None,
        )
    if message.role == "assistant":
        return _assistant(message.content, message.reasoning, message.tool_calls)
    return (ChatMessageSystem if message.role == "system" else ChatMessageUser)(content=message.content)


def _assistant(text: str, reasoning: str | None, calls: Sequence[ToolCall]) -> Any:
    from inspect_ai import tool
    from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText

    content = [ContentReasoning(reasoning=reasoning), ContentText(text=text)] if reasoning else text
    made = [tool.ToolCall(id=call.id, function=call.name, arguments=call.arguments) for call in calls]
    return ChatMessageAssistant(content=content, tool_calls=made or None, source="generate")


def output_of(model: str, reply: Generation) -> Any:
    """A reply as Inspect's `ModelOutput`."""
    from inspect_ai.model import ChatCompletionChoice, ModelOutput, ModelUsage

    message = _assistant(reply.text, reply.reasoning, reply.tool_calls)
    read, written = reply.prompt_tokens or 0, reply.completion_tokens or 0
    return ModelOutput(
        model=model,
        choices=[ChatCompletionChoice(message=message, stop_reason=STOPS[reply.finish_reason])],
        usage=ModelUsage(
            input_tokens=read,
            output_tokens=written,
            total_tokens=read + written,
            input_tokens_cache_read=reply.cached_tokens,
            reasoning_tokens=reply.reasoning_tokens,
        ),
    )


def tool_of(info: Any) -> Tool:
    """Inspect's description of a tool as ours."""
    return Tool(
        name=info.name,
        description=info.description,
        parameters=info.parameters.model_dump(exclude_none=True),
    )
