"""What suites of agents share."""

import hashlib
import json
from typing import Any

from harness.errors import AttemptFailure
from harness.types import FailureKind, Generation, Message


def assistant_message(reply: Generation) -> Message:
    """A reply as a message of the conversation.

    Raises:
        AttemptFailure: the reply is not one that a verdict could rest on.
    """
    if reply.finish_reason == "length":
        raise AttemptFailure(
            FailureKind.TRUNCATED, f"the reply was cut off after {reply.completion_tokens} tokens"
        )
    if reply.parse_error is not None:
        raise AttemptFailure(FailureKind.TOOL_PARSE, reply.parse_error)
    if not reply.tool_calls and not reply.text.strip():
        raise AttemptFailure(FailureKind.EMPTY_ANSWER, "the reply has neither text nor a tool call")
    return Message(
        role="assistant", content=reply.text, reasoning=reply.reasoning, tool_calls=reply.tool_calls
    )


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
