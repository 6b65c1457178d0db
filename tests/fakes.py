"""A suite and an engine for tests of what lies around them, reachable by their dotted paths."""

import asyncio
import os
import signal
from typing import Any

from harness.config import ModelSpec
from harness.engines.base import Engine
from harness.engines.scripted import Reply, ScriptedEngine
from harness.errors import AttemptFailure, EngineDead, UserError
from harness.suites.base import Render, Suite
from harness.types import (
    FailureKind,
    Message,
    Metric,
    Sample,
    Sampling,
    Score,
    Struct,
    Tool,
    Transcript,
)


class Options(Struct):
    """Options of the suite."""

    samples: int = 20
    limit: int | None = None
    scorer: str = "1"


def build(name: str | None, options: Options) -> list["DigitSuite"]:
    """The suite."""
    return [DigitSuite(name or "digits", options)]


class DigitSuite(Suite):
    """Asks for the last digit of a number; a reply that is not one digit is wrong."""

    metrics = (Metric(name="acc", higher_is_better=True, kind="rate", bounds=(0, 1), headline=True),)

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.options = name, options
        self.protocol = {"adapter": "digits", "scorer": options.scorer, "n": str(self.count())}

    def count(self) -> int:
        return min(self.options.samples, self.options.limit or self.options.samples)

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        return [Sample(id=f"{i:03d}", content_hash=str(i), payload=i) for i in range(self.count())]

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        question = (Message(role="user", content=str(sample.payload)),)
        reply = await engine.chat(question, (), sampling)
        if reply.parse_error:
            raise AttemptFailure(FailureKind.TOOL_PARSE, reply.parse_error)
        return Transcript(messages=question, generations=(reply,))

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        text = transcript.generations[0].text
        if text == "unscorable":
            raise ValueError("this cannot be scored")
        return (Score(metric="acc", value=float(text == str(sample.payload % 10)), answer=text),)


def last_digit(messages: tuple[Message, ...], tools: tuple[Tool, ...], sampling: Sampling) -> Reply:
    """Right but for every seventh number, where the reply depends on the seed."""
    number = int(messages[-1].content)
    return Reply(text=str(sampling.seed % 10) if number % 7 == 0 else str(number % 10))


STARTED: list[str] = []
"""Models that `start` was asked for, in this process."""


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    """An engine by `args`: `delay` seconds a request; `die_after` requests, as often as `deaths` says."""
    STARTED.append(model.name)
    policy = last_digit
    if args.get("unloadable"):
        raise EngineDead("out of memory")
    if args.get("fail"):
        policy = FAILING[args["fail"]]
    engine = ScriptedEngine(policy, delay=args.get("delay", 0.0))
    if STARTED.count(model.name) <= args.get("deaths", 0):
        return Mortal(policy, args["die_after"])
    if args.get("poison"):
        return Poisoned(policy, args["poison"], args["late"], args["delay"])
    return engine


FLAKY = {"left": 0}
"""How many more requests `flaky` refuses."""


def _flaky(messages: tuple[Message, ...], tools: tuple[Tool, ...], sampling: Sampling) -> Reply:
    if FLAKY["left"] > 0:
        FLAKY["left"] -= 1
        raise RuntimeError("the engine hiccuped")
    return last_digit(messages, tools, sampling)


class Mortal(ScriptedEngine):
    """Dies after a number of requests."""

    def __init__(self, policy: Any, die_after: int) -> None:
        super().__init__(policy)
        self.left = die_after

    async def chat(self, *args: Any) -> Any:
        self.left -= 1
        await asyncio.sleep(0)
        if self.left < 0:
            raise EngineDead("killed by the test")
        return await super().chat(*args)


class Poisoned(ScriptedEngine):
    """Dies of some numbers: of the request itself, or some seconds after it was answered."""

    def __init__(self, policy: Any, numbers: list[int], late: float, delay: float) -> None:
        super().__init__(policy, delay=delay)
        self.numbers, self.late, self.ends = numbers, late, float("inf")

    async def chat(self, messages: Any, *args: Any) -> Any:
        now = asyncio.get_running_loop().time()
        if int(messages[-1].content) in self.numbers:
            self.ends = min(self.ends, now + self.late)
        if self.late == 0.0 or self.ends > now:
            reply = await super().chat(messages, *args)
        if self.ends <= asyncio.get_running_loop().time():
            raise EngineDead("poison")
        return reply


def _raise(error: Exception) -> Any:
    def policy(messages: tuple[Message, ...], tools: tuple[Tool, ...], sampling: Sampling) -> Reply:
        if messages[-1].content == "3":
            raise error
        return last_digit(messages, tools, sampling)

    return policy


def _say(reply: Reply) -> Any:
    def policy(messages: tuple[Message, ...], tools: tuple[Tool, ...], sampling: Sampling) -> Reply:
        return reply if messages[-1].content == "3" else last_digit(messages, tools, sampling)

    return policy


def _interrupt(messages: tuple[Message, ...], tools: tuple[Tool, ...], sampling: Sampling) -> Reply:
    if messages[-1].content == "9":
        os.kill(os.getpid(), signal.SIGINT)
    return last_digit(messages, tools, sampling)


FAILING = {
    "engine_error": _raise(RuntimeError("the engine hiccuped")),
    "user_error": _raise(UserError("the detector is missing; name another")),
    "context_overflow": _raise(AttemptFailure(FailureKind.CONTEXT_OVERFLOW, "too long")),
    "tool_parse": _say(Reply(text="{", parse_error="no JSON")),
    "scorer_error": _say(Reply(text="unscorable")),
    "surrogate": _say(Reply(text="\ud800")),
    "interrupt": _interrupt,
    "flaky": _flaky,
}
"""What happens to the sample with the number 3 (or, for `interrupt`, to the process at number 9)."""
