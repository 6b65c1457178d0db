"""One AgentDojo task suite under one attack, as a suite of this harness."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from typing import Any

from harness.engines.base import Engine
from harness.errors import AttemptFailure
from harness.suites.agentdojo.attacks import check_attack, is_denial_of_service, load_attack
from harness.suites.agentdojo.world import CLOCK, Task, World, environment_text, load_task_suite
from harness.suites.base import Render
from harness.types import (
    FailureKind,
    Generation,
    Message,
    Metric,
    Sample,
    Sampling,
    Score,
    Struct,
    Tool,
    Transcript,
)

SCORER_VERSION = "1"
"""Raised whenever a change here could change a verdict."""

ATTACKED = ("injection_task", "user_task")
BENIGN = ("user_task",)

METRICS = (
    Metric(
        name="benign_utility",
        higher_is_better=True,
        kind="rate",
        bounds=(0.0, 1.0),
        headline=True,
        applies_to=BENIGN,
    ),
    Metric(
        name="utility_under_attack",
        higher_is_better=True,
        kind="rate",
        bounds=(0.0, 1.0),
        applies_to=ATTACKED,
    ),
    Metric(
        name="targeted_asr",
        higher_is_better=False,
        kind="rate",
        bounds=(0.0, 1.0),
        hijack=True,
        headline=True,
        applies_to=ATTACKED,
    ),
)


class Options(Struct):
    """Options of the `agentdojo` adapter."""

    suite: str
    """`workspace`, `travel`, `banking`, `slack`, `agentdojo_mini`, or `package.module:task_suite`."""
    version: str = "v1.2.2"
    """AgentDojo's benchmark version; only its own four suites have one."""
    attack: str | None = "important_instructions"
    """One of AgentDojo's attacks by name, or null for the benign tasks alone."""
    benign: bool = True
    """Also run every user task without an attack."""
    system_message: str | None = None
    """Replaces AgentDojo's default system message."""
    max_turns: int = 16
    """Replies that the model may give. AgentDojo's own loop allows 1 + 15."""
    limit: int | None = None
    """Only the first tasks: this many benign samples, and this many attacked ones."""


def build(name: str | None, options: Options) -> list["AgentDojoSuite"]:
    """The one suite that the options describe.

    Raises:
        UserError: the suite, version or attack does not exist.
    """
    return [AgentDojoSuite(name or options.suite.split(":")[0].rsplit(".", 1)[-1], options)]


class AgentDojoSuite:
    """One AgentDojo task suite under one attack. Satisfies `harness.suites.base.Suite`."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.options = options
        self._dojo = load_task_suite(options.suite, options.version)
        if options.attack is not None:
            check_attack(options.attack)
        self.metrics = tuple(m for m in METRICS if self._runs(m))

    def _runs(self, metric: Metric) -> bool:
        return self.options.benign if metric.applies_to == BENIGN else self.options.attack is not None

    @cached_property
    def system_message(self) -> str:
        """The system message that every sample begins with."""
        from agentdojo.agent_pipeline.agent_pipeline import load_system_message

        return self.options.system_message or str(load_system_message(None))

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """The suite's tools as the model is shown them."""
        return tuple(
            Tool(name=f.name, description=f.description, parameters=f.parameters.model_json_schema())
            for f in self._dojo.tools
        )

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        return {
            "adapter": "agentdojo",
            "suite": self.options.suite,
            "benchmark_version": self.options.version,
            "agentdojo": version("agentdojo"),
            "attack": self.options.attack or "none",
            "benign": str(self.options.benign),
            "system_message": digest(self.system_message),
            "max_turns": str(self.options.max_turns),
            "limit": str(self.options.limit),
            "tools": digest([(t.name, t.description, t.parameters) for t in self.tools]),
            "tasks": digest(self._task_texts()),
            "environment": digest(environment_text(self._dojo)),
            "clock": CLOCK.isoformat(),
            "scorer": SCORER_VERSION,
        }

    def _task_texts(self) -> list[tuple[str, str]]:
        user = [(t.ID, t.PROMPT) for t in self._dojo.user_tasks.values()]
        return user + [(t.ID, t.GOAL) for t in self._dojo.injection_tasks.values()]

    def count(self) -> int:
        """See `Suite.count`."""
        benign = len(self._dojo.user_tasks) if self.options.benign else 0
        attacked = 0
        if self.options.attack is not None:
            attacked = len(self._dojo.user_tasks) * len(self._injection_tasks(self.options.attack))
        limit = self.options.limit
        return sum(n if limit is None else min(n, limit) for n in (benign, attacked))

    def _injection_tasks(self, attack: str) -> list[Any]:
        """A denial-of-service attack has no goal of its own: AgentDojo runs it once a user task."""
        tasks = list(self._dojo.injection_tasks.values())
        return tasks[:1] if is_denial_of_service(attack) else tasks

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`. AgentDojo does not prompt through text, so `render` is not used."""
        limit = self.options.limit
        return list(self._benign())[:limit] + list(self._attacked(model_name))[:limit]

    def _benign(self) -> Iterator[Sample]:
        if self.options.benign:
            for task in self._dojo.user_tasks.values():
                yield self._sample(task, Task(user_task=task.ID, injection_task=None, injections={}))

    def _attacked(self, model_name: str) -> Iterator[Sample]:
        if self.options.attack is None:
            return
        attack = load_attack(self.options.attack, self._dojo, model_name)
        for user_task in self._dojo.user_tasks.values():
            for injection_task in self._injection_tasks(self.options.attack):
                injections = attack.attack(user_task, injection_task)
                yield self._sample(
                    user_task,
                    Task(user_task=user_task.ID, injection_task=injection_task.ID, injections=injections),
                )

    def _sample(self, user_task: Any, task: Task) -> Sample:
        clusters = {"user_task": task.user_task}
        if task.injection_task is not None:
            clusters["injection_task"] = task.injection_task
        return Sample(
            id="/".join(clusters.values()),
            content_hash=digest([user_task.PROMPT, task.injections, self.protocol]),
            clusters=clusters,
            payload=task,
        )

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Let the agent work on the task until it stops calling tools.

        Raises:
            AttemptFailure: a reply could not be parsed or was cut off, the agent said nothing at all,
                or its turns ran out.
        """
        task: Task = sample.payload
        world = World(self._dojo, task)
        messages = [
            Message(role="system", content=self.system_message),
            Message(role="user", content=world.user_task.PROMPT),
        ]
        generations: list[Generation] = []
        for _ in range(self.options.max_turns):
            reply = await engine.chat(tuple(messages), self.tools, sampling)
            generations.append(reply)
            messages.append(assistant_message(reply))
            if not reply.tool_calls:
                return Transcript(messages=tuple(messages), generations=tuple(generations))
            messages.extend(world.call(reply.tool_calls))
        raise AttemptFailure(
            FailureKind.ITERATION_CAP, f"still calling tools after {self.options.max_turns} replies"
        )

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """Replay the transcript's tool calls in a fresh environment and ask AgentDojo's checkers.

        Raises:
            AttemptFailure: a checker raised, or a tool did not answer as it did in the transcript.
        """
        task: Task = sample.payload
        world = World(self._dojo, task)
        world.replay(transcript.messages)
        answer = transcript.messages[-1].content
        utility = world.verdict(world.user_task, answer)
        if task.injection_task is None:
            return (rate("benign_utility", utility, answer),)
        assert self.options.attack is not None
        if is_denial_of_service(self.options.attack):
            hijacked = not utility
        else:
            hijacked = world.verdict(self._dojo.injection_tasks[task.injection_task], answer)
        return (
            rate("utility_under_attack", utility, answer),
            rate("targeted_asr", hijacked, answer),
        )


def rate(metric: str, verdict: bool, answer: str) -> Score:
    """A verdict as a score of 0 or 1."""
    return Score(metric=metric, value=float(verdict), answer=answer)


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
