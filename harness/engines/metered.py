"""An engine as one attempt sees it: the same engine, with a meter and a record of what was said."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from harness.engines.base import Engine, Load
from harness.engines.energy import Meter
from harness.errors import AttemptFailure
from harness.hostile import without_surrogates
from harness.types import (
    LARGEST_COUNT,
    EngineFacts,
    FailureKind,
    Generation,
    LogLikelihood,
    Message,
    Sampling,
    Tool,
    Transcript,
    Usage,
    total_count,
)

METER_SECONDS = 1.0
"""How often energy is read while requests come and go: a reading takes milliseconds a GPU."""
EDGE_SECONDS = 0.05
"""How soon it is read again where the engine becomes busy or idle. Counters move no faster."""


class Share(NamedTuple):
    """What a request is charged."""

    seconds: float
    joules: float | None
    """None where energy is not measured."""


class BusyClock:
    """Divides the time that an engine is busy, and its energy, between the requests in flight.

    Every instant is shared evenly, so that the shares of all requests add up to the time during which
    at least one was in flight (processor sharing). A reading is what a request in flight since the
    beginning would have been charged.
    """

    def __init__(self, meter: Meter | None = None, idle: Callable[[], float] = float) -> None:
        """Args:
        meter: reads the energy so far in joules.
        idle: seconds so far that the engine was not at work while requests were in flight. What it says may
            reach back: that a server is gone is known when the first request to it fails.
        """
        self._in_flight = 0
        self._seconds = 0.0
        self._since = 0.0
        self._idle, self._idled = idle, idle()
        self._meter = meter
        self._joules = 0.0
        self._counter = 0.0
        self._counted = -METER_SECONDS

    @property
    def nothing(self) -> Share:
        """What is charged for no request."""
        return Share(0.0, 0.0 if self._meter else None)

    def _advance(self, *, edge: bool) -> Share:
        now, idled = time.perf_counter(), self._idle()
        if self._in_flight:
            self._seconds += (now - self._since - (idled - self._idled)) / self._in_flight
        self._since, self._idled = now, idled
        if self._meter and now - self._counted >= (EDGE_SECONDS if edge else METER_SECONDS):
            self._count(self._meter, now)
        return Share(self._seconds, self._joules if self._meter else None)

    def _count(self, meter: Meter, now: float) -> None:
        counter = meter()
        if counter is None or not math.isfinite(counter):  # gone for good: what follows is not measured
            self._meter = None
            return
        if self._in_flight:
            self._joules += (counter - self._counter) / self._in_flight
        self._counter, self._counted = counter, now

    def enter(self) -> Share:
        """A request begins; returns the reading at which it did."""
        reading = self._advance(edge=not self._in_flight)
        self._in_flight += 1
        return reading

    def leave(self, entered: Share) -> Share:
        """A request ends; returns its share."""
        reading = self._advance(edge=self._in_flight == 1)
        self._in_flight -= 1
        joules = None if reading.joules is None or entered.joules is None else reading.joules - entered.joules
        # Of a request that began while the engine was known to be idle, what is taken back is others' time.
        return Share(max(0.0, reading.seconds - entered.seconds), joules)


class MeteredEngine:
    """Satisfies `Engine`. Keeps what a failing attempt leaves behind, and what it cost."""

    def __init__(self, engine: Engine, clock: BusyClock) -> None:
        self._engine = engine
        self._clock = clock
        self._messages: tuple[Message, ...] = ()
        self._generations: list[Generation] = []
        self._loglikelihoods: list[LogLikelihood] = []
        self._cost = clock.nothing
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
            engine_seconds=self._cost.seconds,
            prompt_tokens=_total(answer.prompt_tokens for answer in everything),
            completion_tokens=_total(reply.completion_tokens for reply in self._generations),
            cached_tokens=_total(answer.cached_tokens for answer in everything),
            reasoning_tokens=_total(reply.reasoning_tokens for reply in self._generations),
            requests=self._requests,
            joules=self._cost.joules,
        )

    @contextmanager
    def _metered(self) -> Iterator[None]:
        """While a request is under way."""
        self._requests += 1
        entered = self._clock.enter()
        try:
            yield
        finally:
            share, before = self._clock.leave(entered), self._cost
            joules = None if before.joules is None or share.joules is None else before.joules + share.joules
            self._cost = Share(before.seconds + share.seconds, joules)

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        """See `Engine.chat`."""
        self._messages = tuple(messages)
        with self._metered():
            reply = await self._engine.chat(messages, tools, sampling)
        reply = storable(reply)
        self._generations.append(reply)
        message = Message(
            role="assistant", content=reply.text, reasoning=reply.reasoning, tool_calls=reply.tool_calls
        )
        self._messages = (*self._messages, message)
        return reply

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """See `Engine.complete`."""
        with self._metered():
            reply = await self._engine.complete(prompt, sampling)
        reply = storable(reply)
        self._generations.append(reply)
        return reply

    async def score(self, context: str, continuations: Sequence[str]) -> list[LogLikelihood]:
        """See `Engine.score`."""
        with self._metered():
            scored = await self._engine.score(context, continuations)
        self._loglikelihoods += numbers(scored)
        return scored

    async def score_rolling(self, text: str) -> LogLikelihood:
        """See `Engine.score_rolling`."""
        with self._metered():
            scored = await self._engine.score_rolling(text)
        self._loglikelihoods += numbers([scored])
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


def _total(counts: Iterable[int | None]) -> int | None:
    """The sum of what is known; None if one is not, or if together they are more than anybody counts."""
    total = total_count(counts)
    return None if total is None or total > LARGEST_COUNT else total


def numbers(scored: list[LogLikelihood]) -> list[LogLikelihood]:
    """The same log-likelihoods. Raises AttemptFailure if one is not a number, or infinite."""
    for answer in scored:
        if not math.isfinite(answer.logprob):
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR,
                f"the model gave a log-probability that is not a number ({answer.logprob}): its weights are "
                "damaged, or its dtype is too small for them",
            )
    return scored


def storable(reply: Generation) -> Generation:
    """The reply with what UTF-8 cannot hold (lone surrogates, which JSON can smuggle in) replaced.

    Raises:
        AttemptFailure: the engine took a time that is not a number.
    """
    if not math.isfinite(reply.seconds):
        raise AttemptFailure(
            FailureKind.ENGINE_ERROR, f"the engine says that it took {reply.seconds} seconds"
        )
    try:
        msgspec.json.encode(reply)
    except UnicodeEncodeError:
        return msgspec.convert(without_surrogates(msgspec.to_builtins(reply)), Generation)
    return reply
