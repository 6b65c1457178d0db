"""A judge at work: a request and a reply in, a verdict out."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from harness.engines import open_engine
from harness.engines.base import Engine
from harness.errors import AttemptFailure
from harness.judges.spec import CONVERSATION, JudgeSpec
from harness.trust import OWN, trusting
from harness.types import FailureKind, Generation, Message, Sampling, Struct, Usage, Verdict

PLACES = r"\{(request|reply|context)\}"
"""Of a prompt: what is filled in."""


class Exchange(Struct):
    """What is judged."""

    request: str
    reply: str
    context: str = ""
    """What the request is about, where it comes with a text."""

    @property
    def asked(self) -> str:
        """The request, after its context where it has one."""
        return f"{self.context}\n\n---\n\n{self.request}" if self.context else self.request

    @property
    def digest(self) -> str:
        """SHA-256 of what was asked and replied, by which a verdict says what it was about."""
        return hashlib.sha256(msgspec.json.encode({"request": self.asked, "reply": self.reply})).hexdigest()


@dataclass(frozen=True)
class Judge:
    """A judge and the engine that holds its model, which a judge without a model has none of."""

    spec: JudgeSpec
    engine: Engine | None = None

    async def judge(self, exchange: Exchange) -> Verdict:
        """Judge one reply. Raises `EngineDead`; every other failure is a verdict that is missing."""
        if self.engine is None:
            return self._read(exchange.reply, "")
        try:
            reply = await self._ask(self.engine, exchange)
        except AttemptFailure as failure:
            return Verdict(verdict=None, raw="", failure=failure.kind, failure_message=failure.message)
        usage = Usage(
            prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens, requests=1
        )
        verdict = msgspec.structs.replace(self._read(reply.text, reply.raw), usage=usage)
        if verdict.verdict is None and reply.finish_reason == "length":
            message = (
                f"the judge was cut off after max_tokens ({self.spec.max_tokens}) without a verdict: raise it"
            )
            return msgspec.structs.replace(verdict, failure=FailureKind.TRUNCATED, failure_message=message)
        return verdict

    async def _ask(self, engine: Engine, exchange: Exchange) -> Generation:
        sampling = Sampling(max_tokens=self.spec.max_tokens)
        if self.spec.prompt == CONVERSATION:
            messages = [
                Message(role="user", content=exchange.asked),
                Message(role="assistant", content=exchange.reply),
            ]
            return await engine.chat(messages, (), sampling)
        apart = bool(exchange.context and self.spec.prompt_with_context)
        shown = {
            "request": exchange.request if apart else exchange.asked,
            "reply": exchange.reply,
            "context": exchange.context,
        }
        # Not str.format: a reply may hold braces of its own, and may name {request} itself.
        parts = re.split(PLACES, self.spec.prompt_with_context if apart else self.spec.prompt)
        text = "".join(shown[part] if i % 2 else part for i, part in enumerate(parts))
        if self.spec.raw:
            return await engine.complete(text, sampling)
        return await engine.chat([Message(role="user", content=text)], (), sampling)

    def _read(self, text: str, raw: str) -> Verdict:
        verdict = read_verdict(self.spec, text)
        if verdict is None:
            message = f"no verdict of {', '.join(self.spec.classes)} can be read in what the judge wrote"
            return Verdict(verdict=None, raw=raw, failure=FailureKind.SCORER_ERROR, failure_message=message)
        return Verdict(verdict=verdict, raw=raw)


def read_verdict(spec: JudgeSpec, text: str) -> str | None:
    """The class of the first expression that is found in a text; `otherwise` if none is."""
    return next(
        (name for pattern, name in spec.verdicts.items() if re.search(pattern, text, re.IGNORECASE)),
        spec.otherwise,
    )


async def judging(spec: JudgeSpec, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """The verdicts of a judge on many replies, in their order, with its model loaded once.

    Raises:
        UserError: its model cannot be loaded.
        EngineDead: its engine died.
    """
    async with open_judge(spec) as judge:
        return await judge_all(judge, exchanges)


@asynccontextmanager
async def open_judge(spec: JudgeSpec) -> AsyncIterator[Judge]:
    """A judge with its model loaded. Raises UserError if that cannot be loaded."""
    if spec.model is None:
        yield Judge(spec)
        return
    with trusting(OWN):  # whose file the reader has named, as no run directory can
        engine = await open_engine(spec.engine, spec.model)
    try:
        yield Judge(spec, engine)
    finally:
        await engine.close()


async def judge_all(
    judge: Judge,
    exchanges: Sequence[Exchange],
    tell: Callable[[int, Verdict, float], None] = lambda *_: None,
) -> list[Verdict]:
    """The verdicts on many replies, in their order; as many at once as the engine of the judge takes.

    Args:
        judge: who judges.
        exchanges: what.
        tell: told each verdict as it comes: of which exchange, the verdict, when it was asked for (seconds
            since 1970). What it raises ends everything.

    Raises:
        EngineDead: the engine died.
    """
    waiting = iter(enumerate(exchanges))
    verdicts: dict[int, Verdict] = {}

    async def worker() -> None:
        for i, exchange in waiting:
            started = time.time()
            verdicts[i] = await judge.judge(exchange)
            tell(i, verdicts[i], started)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(judge.spec.engine.max_concurrency, len(exchanges))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:  # the first says why; the others follow from it
        raise errors.exceptions[0] from errors
    return [verdicts[i] for i in range(len(exchanges))]
