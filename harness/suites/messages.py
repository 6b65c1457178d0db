"""A reply as a message of a conversation, where a verdict can rest on it."""

from harness.errors import AttemptFailure, UserError
from harness.types import FailureKind, Generation, Message


def assistant_message(reply: Generation) -> Message:
    """A reply as a message of the conversation.

    Raises:
        AttemptFailure: the reply is not one that a verdict could rest on.
        UserError: its prompt began with more than one BOS token.
    """
    if (reply.bos_tokens or 0) > 1:
        raise UserError(
            f"the chat template begins prompts with {reply.bos_tokens} BOS tokens, which models were not "
            "trained on: correct the template"
        )
    if reply.finish_reason == "length":
        raise cut_off(reply)
    if reply.parse_error is not None:
        raise AttemptFailure(FailureKind.TOOL_PARSE, reply.parse_error)
    if not reply.tool_calls and not reply.text.strip():
        raise AttemptFailure(FailureKind.EMPTY_ANSWER, "the reply has neither text nor a tool call")
    return Message(
        role="assistant", content=reply.text, reasoning=reply.reasoning, tool_calls=reply.tool_calls
    )


def cut_off(reply: Generation) -> AttemptFailure:
    """Why an attempt fails whose reply its token budget cut off."""
    tokens = reply.completion_tokens
    after = "by its token budget" if tokens is None else f"after {tokens} tokens"
    if reply.thought_cut:
        return AttemptFailure(FailureKind.THOUGHT_CUT, f"the reply was cut off in mid-thought, {after}")
    return AttemptFailure(FailureKind.TRUNCATED, f"the reply was cut off {after}")
