"""The protocol of an engine: how tokens are got.

Suites see only this. An engine knows nothing about suites, samples or scores.
"""

from collections.abc import Sequence
from typing import Protocol

from harness.types import EngineFacts, Generation, LogLikelihood, Message, Sampling, Struct, Tool


class Load(Struct):
    """What an engine is doing right now."""

    running: int
    waiting: int
    idle_seconds: float = 0.0
    """For how long so far it had requests and nothing to serve them with: a server that answered nobody."""


class Engine(Protocol):
    """One loaded model. All calls may be made concurrently.

    Calls raise `AttemptFailure` where the request cannot be served (the prompt is too long, the
    server refused it) and `EngineDead` where no further request can be.
    """

    @property
    def facts(self) -> EngineFacts:
        """What computes the tokens."""
        ...

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        """Reply to a conversation through the model's own chat template and parsers.

        A reply whose tool calls cannot be parsed is returned with `parse_error` set.
        """
        ...

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """Continue a text. Nothing is added to it but the tokenizer's own special tokens, unless
        the text already begins with them.
        """
        ...

    async def score(self, context: str, continuations: Sequence[str]) -> list[LogLikelihood]:
        """Log-likelihood of each continuation after the context."""
        ...

    async def score_rolling(self, text: str) -> LogLikelihood:
        """Log-likelihood of a whole text, in windows of the model's context length."""
        ...

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the text that the model's chat template makes of it."""
        ...

    def load(self) -> Load:
        """Requests running and waiting now."""
        ...

    async def close(self) -> None:
        """Release the model. Safe to call twice."""
        ...
