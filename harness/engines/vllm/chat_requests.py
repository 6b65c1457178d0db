"""A conversation as a request to vLLM's server, which is not validated anew at every turn."""

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from harness.engines.rendering import Shown, begun_by
from harness.engines.replies import message_to_openai, tool_to_openai
from harness.types import Message, Tool, Variant


def chat_request(
    messages: Sequence[Message],
    tools: Sequence[Tool],
    variant: Variant,
    *,
    templated: bool = False,
    harmony: bool = False,
) -> Any:
    """VLLM's `ChatCompletionRequest` of a conversation.

    Args:
        messages: the conversation, as a suite has it.
        tools: that the model may call.
        variant: how the model is asked.
        templated: whether a chat template makes the prompt; otherwise code does, which may change the tools.
        harmony: whether the code is gpt-oss's, which takes the reasoning effort as a field of the request.
    """
    request = _empty_request(msgspec.json.encode(tools), templated).model_copy()
    request.messages = [message_to_openai(each) for each in begun_by(messages, variant.system_prompt)]
    if variant.chat_template_kwargs:
        request.chat_template_kwargs = variant.chat_template_kwargs
        if harmony:
            request.reasoning_effort = variant.chat_template_kwargs.get("reasoning_effort")
    return request


@lru_cache(maxsize=64)
def _empty_request(tools: bytes, templated: bool) -> Any:
    """A request with tools, from their JSON, and no messages.

    To write two dozen tools anew takes milliseconds a turn, to validate messages half of what a request does.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    request = ChatCompletionRequest(
        model="",
        messages=[],
        tool_choice="none",
        request_id="",  # vLLM is told another, and to draw one is a system call
    )
    if params := _tool_params(tools, templated):  # set afterwards: they were validated when they were made
        request.tools = params
        request.tool_choice = "auto"
    return request


def _tool_params(tools: bytes, templated: bool) -> list[Any]:
    """Tools as requests hold them, from their JSON."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionToolsParam

    class Param(ChatCompletionToolsParam):  # type: ignore[misc]
        __slots__ = ("written",)  # pydantic takes long to find a private attribute

        def model_dump(self, **options: Any) -> Any:
            if options:
                return super().model_dump(**options)
            # The sandbox lets no template change what it is shown; a renderer in code may.
            return self.written if templated else copy.deepcopy(self.written)

    params = [Param(**tool_to_openai(tool)) for tool in msgspec.json.decode(tools, type=list[Tool])]
    for param in params:
        written = ChatCompletionToolsParam.model_dump(param)
        object.__setattr__(param, "written", Shown(written) if templated else written)
    return params
