"""An engine as one attempt sees it: the same engine, with a meter and a record of what was said."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec

from harness.engines.base import Engine, Load
from harness.types import (
    EngineFacts,
    Generation,
    LogLikelihood,
    Message,
    Sampling,
    Tool,
    Transcript,
    Usage,
)

T = TypeVar("T")


class BusyClock:
    """Divides the time that an engine is busy between the requests in flight.

    Every instant is shared evenly, so that the shares of all requests add up to the time during which
    at least one was in flight (processor sharing). `reading` is what a request in flight since the
    beginning would have been charged.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._reading = 0.0
        self._since = 0.0

    def _advance(self) -> float:
        now = time.perf_counter()
        if self._in_flight:
            self._reading += (now - self._since) / self._in_flight
        self._since = now
        return self._reading

    def enter(self) -> float:
        """A request begins; returns the reading at which it did."""
        reading = self._advance()
        self._in_flight += 1
        return reading

    def leave(self, entered: float) -> float:
        """A request ends; returns its share in seconds."""
        share = self._advance() - entered
        self._in_flight -= 1
        return share


class MeteredEngine:
    """Satisfies `Engine`. Keeps what a failing attempt leaves behind, and what it cost."""

    def __init__(self, engine: Engine, clock: BusyClock) -> None:
        self._engine = engine
        self._clock = clock
        self._messages: tuple[Message, ...] = ()
        self._generations: list[Generation] = []
        self._loglikelihoods: list[LogLikelihood] = []
        self._seconds = 0.0
        self._requests = 0

    @property
    def facts(self) -> EngineFacts:
        """Those of the engine."""
        return self._engine.facts

    @property
    def transcript(self) -> Transcript:
        """What was said so far, for attempts that fail before they have a transcript."""
        return Transcript(
            messages=self._messages,
            generations=tuple(self._generations),
            loglikelihoods=tuple(self._loglikelihoods),
        )

    @property
    def usage(self) -> Usage:
        """What the attempt cost so far."""
        everything: list[Generation | LogLikelihood] = [*self._generations, *self._loglikelihoods]
        return Usage(
            engine_seconds=self._seconds,
            prompt_tokens=sum(answer.prompt_tokens for answer in everything),
            completion_tokens=sum(reply.completion_tokens for reply in self._generations),
            cached_tokens=sum(answer.cached_tokens for answer in everything),
            requests=self._requests,
        )

    async def _metered(self, request: Awaitable[T]) -> T:
        self._requests += 1
        entered = self._clock.enter()
        try:
            return await request
        finally:
            self._seconds += self._clock.leave(entered)

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        """See `Engine.chat`."""
        self._messages = tuple(messages)
        reply = storable(await self._metered(self._engine.chat(messages, tools, sampling)))
        self._generations.append(reply)
        said = Message(
            role="assistant", content=reply.text, reasoning=reply.reasoning, tool_calls=reply.tool_calls
        )
        self._messages = (*self._messages, said)
        return reply

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """See `Engine.complete`."""
        reply = storable(await self._metered(self._engine.complete(prompt, sampling)))
        self._generations.append(reply)
        return reply

    async def score(self, context: str, continuations: Sequence[str]) -> list[LogLikelihood]:
        """See `Engine.score`."""
        scored = await self._metered(self._engine.score(context, continuations))
        self._loglikelihoods += scored
        return scored

    async def score_rolling(self, text: str) -> LogLikelihood:
        """See `Engine.score_rolling`."""
        scored = await self._metered(self._engine.score_rolling(text))
        self._loglikelihoods.append(scored)
        return scored

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """See `Engine.render`."""
        return self._engine.render(messages, add_generation_prompt=add_generation_prompt)

    def load(self) -> Load:
        """See `Engine.load`."""
        return self._engine.load()

    async def close(self) -> None:
        """An attempt does not own its engine."""
        await asyncio.sleep(0)


def storable(reply: Generation) -> Generation:
    """The reply with what UTF-8 cannot hold (lone surrogates, which JSON can smuggle in) replaced."""
    try:
        msgspec.json.encode(reply)
    except UnicodeEncodeError:
        return msgspec.convert(_scrub(msgspec.to_builtins(reply)), Generation)
    return reply


def _scrub(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_scrub(k): _scrub(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_scrub(item) for item in value]
    return value
