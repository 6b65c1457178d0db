"""The model that Inspect's scorers ask: nobody, who keeps what is asked for a judge of ours to read later."""

from contextvars import ContextVar
from functools import cache
from typing import Any

from harness.errors import AttemptFailure
from harness.types import FailureKind

ROLE = "grader"
"""Of Inspect's roles of models."""

ASKED: ContextVar[list[str]] = ContextVar("asked")
"""What scorers of the reply at hand have asked."""


@cache
def grader() -> Any:
    """A model of Inspect's that says nothing."""
    from inspect_ai.model import ModelAPI, ModelOutput, get_model, modelapi

    class Grader(ModelAPI):  # type: ignore[misc]
        """Inspect's provider of tokens."""

        async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
            (message, *more) = input
            if more or tools or message.role != "user":
                raise AttemptFailure(
                    FailureKind.SCORER_ERROR, "a scorer asks its grader in more than one message of text"
                )
            ASKED.get().append(message.text)
            return ModelOutput.from_content(self.model_name, "")

        async def count_text_tokens(self, text: str) -> int:
            return len(text.encode()) // 4  # an estimate; Inspect's is downloaded

    modelapi(name="harness_grader")(Grader)
    return get_model("harness_grader/none", memoize=False)
