"""Made-up samples and an engine that answers at once, for runs of any size; see make_records.py."""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from harness.config import ModelSpec
from harness.engines.base import Engine
from harness.engines.scripted import Reply, ScriptedEngine
from harness.suites.base import Render, Suite
from harness.types import Message, Metric, Sample, Sampling, Score, Struct, Tool, Transcript

INJECTION_TASKS = 25
HARMS = ("exfiltration", "financial", "malware")
UNIT = (0.0, 1.0)
ATTACKED = ("injection_task", "user_task")
QUESTIONS = (Metric(name="accuracy", higher_is_better=True, kind="rate", bounds=UNIT, headline=True),)
AGENT = (
    Metric(
        name="targeted_asr",
        higher_is_better=False,
        kind="rate",
        bounds=UNIT,
        hijack=True,
        headline=True,
        applies_to=ATTACKED,
    ),
    Metric(name="utility_under_attack", higher_is_better=True, kind="rate", bounds=UNIT, applies_to=ATTACKED),
)


class Options(Struct):
    """Options of the suite."""

    samples: int
    attacked: bool = False
    """Attacks on an agent, user tasks crossed with injection tasks; else questions."""


def build(name: str | None, options: Options) -> list[Suite]:
    """The suite."""
    return [MadeUp(name or ("agent" if options.attacked else "questions"), options)]


class MadeUp(Suite):
    """So many samples, whose names tell everything of them."""

    def __init__(self, name: str, options: Options) -> None:
        self.name, self._options = name, options

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """See `Suite.metrics`."""
        return AGENT if self._options.attacked else QUESTIONS

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        return {"adapter": "made_up", "name": self.name, "suite_version": "1"}

    def count(self) -> int:
        """See `Suite.count`."""
        return self._options.samples

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`."""
        return [self._sample(number) for number in range(self.count())]

    def _sample(self, number: int) -> Sample:
        if not self._options.attacked:
            name = f"question_{number:08}"
            return Sample(id=name, content_hash=name)
        user, task = divmod(number, INJECTION_TASKS)
        clusters = {"injection_task": f"injection_task_{task:02}", "user_task": f"user_task_{user:06}"}
        name = f"{clusters['user_task']}/{clusters['injection_task']}"
        return Sample(
            id=name, content_hash=name, clusters=clusters, labels={"harm": HARMS[task % len(HARMS)]}
        )

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """See `Suite.run`."""
        asked = Message(role="user", content=sample.id)
        reply = await engine.chat((asked,), (), sampling)
        return Transcript(
            messages=(asked, Message(role="assistant", content=reply.text)), generations=(reply,)
        )

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """See `Suite.score`."""
        return tuple(
            Score(metric=metric.name, value=1.0, answer=transcript.generations[-1].text)
            for metric in self.metrics
        )


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    """The engine. With MADE_UP_EXIT set its process ends at the first request, as if it had been killed."""

    def answer(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        if os.environ.get("MADE_UP_EXIT"):
            os._exit(0)
        return Reply(text="yes")

    return ScriptedEngine(answer)
