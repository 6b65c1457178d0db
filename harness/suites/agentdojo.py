"""Agent hijacking with AgentDojo's environments, tools, attacks and checkers.

AgentDojo (Debenedetti et al., 2024, arXiv 2406.13352) gives an agent a user task and tools whose
results carry an attacker's instructions. Its benchmark loop and its model classes are not used here:
they run one agent at a time and book engine failures as successful attacks. A transcript is scored by
replaying its tool calls in a fresh environment, so that a verdict needs nothing but the transcript.
"""

import copy
import datetime
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, lru_cache
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from harness.config import load_object
from harness.engines.base import Engine
from harness.errors import AttemptFailure, UserError
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
    ToolCall,
    Transcript,
)

SCORER_VERSION = "1"
"""Raised whenever a change here could change a verdict."""

CLOCK = datetime.datetime(2024, 5, 15, 12)
"""What time it is in every environment: noon of the day on which AgentDojo's calendars stand. Its mail
and file tools show the agent the machine's clock, so that no run would read as the one before."""

OWN_SUITES = {"agentdojo_mini": "harness.suites.agentdojo_mini:task_suite"}
"""Suites that ship with the harness; any other is one of AgentDojo's or a dotted path."""

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


class Task(Struct):
    """What a sample carries: ids only; the task objects live in the suite."""

    user_task: str
    """Id of the task that is put to the agent as its user's request."""
    injection_task: str | None
    injections: dict[str, str]
    """Injection vector -> text that the attacker put there."""


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


class World:
    """One attempt's own copy of a suite's environment, with the tools that act on it."""

    def __init__(self, dojo: Any, task: Task) -> None:
        from agentdojo.agent_pipeline.tool_execution import ToolsExecutor
        from agentdojo.functions_runtime import FunctionsRuntime

        self.user_task = dojo.user_tasks[task.user_task]
        self._environment = self.user_task.init_environment(
            dojo.load_and_inject_default_environment(task.injections)
        )
        self._before = self._environment.model_copy(deep=True)
        self._runtime = FunctionsRuntime(dojo.tools)
        self._executor = ToolsExecutor()
        self._trace: list[Any] = []

    def call(self, calls: Sequence[ToolCall]) -> list[Message]:
        """Run the calls in order and return a tool message for each.

        Raises:
            AttemptFailure: a tool raised something that AgentDojo does not answer the agent with.
        """
        from agentdojo.functions_runtime import FunctionCall

        parsed = [FunctionCall(function=c.name, args=dict(c.arguments), id=c.id) for c in calls]
        turn = {"role": "assistant", "content": None, "tool_calls": parsed}
        try:
            with fixed_clock():
                *_, answered, _ = self._executor.query("", self._runtime, self._environment, [turn])
        except Exception as error:
            names = ", ".join(c.name for c in calls)
            raise AttemptFailure(
                FailureKind.TOOL_ERROR, f"{names} raised {type(error).__name__}: {error}"
            ) from error
        self._trace += parsed
        return [tool_message(result) for result in answered[1:]]

    def replay(self, messages: Sequence[Message]) -> None:
        """Run every tool call of a conversation again.

        Raises:
            AttemptFailure: a result differs from the one in the conversation.
        """
        recorded = iter(m for m in messages if m.role == "tool")
        for message in messages:
            for result in self.call(message.tool_calls) if message.tool_calls else ():
                was = next(recorded, None)
                if was is None or was.content != result.content:
                    raise AttemptFailure(
                        FailureKind.SCORER_ERROR,
                        f"{result.name} answered {result.content[:80]!r} in the replay and "
                        f"{was.content[:80]!r} in the run"
                        if was is not None
                        else f"the result of {result.name} is not in the transcript",
                    )

    def verdict(self, task: Any, answer: str) -> bool:
        """What a user or injection task's own checker says of the environment and the answer."""
        kind = "utility" if hasattr(task, "PROMPT") else "security"
        state = (answer, self._before, self._environment)
        try:
            from_trace = getattr(task, f"{kind}_from_traces")(*state, self._trace)
            return bool(getattr(task, kind)(*state) if from_trace is None else from_trace)
        except Exception as error:
            raise AttemptFailure(
                FailureKind.SCORER_ERROR, f"{kind} of {task.ID} raised {type(error).__name__}: {error}"
            ) from error


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


def tool_message(result: Any) -> Message:
    """AgentDojo's tool result as a message: the error if there is one, else the output."""
    from agentdojo.types import get_text_content_as_str

    return Message(
        role="tool",
        content=result["error"] or get_text_content_as_str(result["content"]),
        tool_call_id=result["tool_call_id"],
        name=result["tool_call"].function,
    )


@contextmanager
def fixed_clock() -> Iterator[None]:
    """Let AgentDojo's tools read `CLOCK` as the current time."""
    from agentdojo.default_suites.v1.tools import cloud_drive_client, email_client

    # now() is all that these two modules want of datetime when their functions run
    clock = SimpleNamespace(datetime=SimpleNamespace(now=lambda: CLOCK))
    with ExitStack() as stack:
        for module in (cloud_drive_client, email_client):
            stack.enter_context(patch.object(module, "datetime", clock))
        yield


def load_task_suite(name: str, benchmark_version: str) -> Any:
    """A task suite by name or dotted path, made to load its environments fast.

    Raises:
        UserError: there is no such suite or version.
    """
    from agentdojo.task_suite.load_suites import _SUITES, get_suites

    path = OWN_SUITES.get(name, name)
    if ":" in path:
        return _with_fast_environments(load_object(path, "suite"))
    # get_suites makes an empty entry for an unknown version, so the version is looked for first.
    if benchmark_version not in _SUITES:
        known = ", ".join(sorted(_SUITES))
        raise UserError(f"AgentDojo has no benchmark version {benchmark_version!r}: use one of {known}")
    suites = get_suites(benchmark_version)
    if name not in suites:
        known = ", ".join([*suites, *OWN_SUITES])
        raise UserError(
            f"AgentDojo {benchmark_version} has no suite {name!r}: use one of {known}, "
            "or the path of your own as package.module:task_suite"
        )
    return _with_fast_environments(suites[name])


def _with_fast_environments(suite: Any) -> Any:
    fast = copy.copy(suite)  # the suites are AgentDojo's own globals
    fast.load_and_inject_default_environment = lambda injections: load_environment(fast, injections)
    return fast


def check_attack(name: str) -> None:
    """Raises UserError unless AgentDojo ships the attack and it can run unattended."""
    import agentdojo.attacks.baseline_attacks
    import agentdojo.attacks.dos_attacks
    import agentdojo.attacks.important_instructions_attacks  # noqa: F401  (each registers its attacks)
    from agentdojo.attacks.attack_registry import ATTACKS

    usable = sorted(set(ATTACKS) - {"manual"})  # `manual` asks for keyboard input
    if name not in usable:
        raise UserError(f"there is no attack {name!r}: use one of {', '.join(usable)}, or null for none")


def is_denial_of_service(attack: str) -> bool:
    """Whether the attack only wants the user's task to fail, which is then its success."""
    from agentdojo.attacks.attack_registry import ATTACKS

    return bool(ATTACKS[attack].is_dos_attack)


def load_attack(name: str, dojo: Any, model_name: str) -> Any:
    """An attack that addresses the model by the name given.

    AgentDojo takes the name from a fixed list by the pipeline's name, and raises for models that are
    not in it. The attack is made for its entry "local", whose name is then replaced.
    """
    from agentdojo.agent_pipeline.base_pipeline_element import BasePipelineElement
    from agentdojo.attacks.attack_registry import ATTACKS
    from agentdojo.models import MODEL_NAMES

    class Target(BasePipelineElement):  # type: ignore[misc]
        name = "local"

        def query(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError("attacks only read the name of their target")

    attack = ATTACKS[name](dojo, Target())
    if getattr(attack, "model_name", None) == MODEL_NAMES["local"]:
        attack.model_name = model_name
    return attack


def environment_text(dojo: Any) -> str:
    """The suite's environment as YAML, with a {placeholder} for each injection vector."""
    from agentdojo.task_suite.task_suite import read_suite_file

    return str(read_suite_file(dojo.name, "environment.yaml", dojo.data_path))


def load_environment(dojo: Any, injections: dict[str, str]) -> Any:
    """A fresh environment with the injections in place, equal to AgentDojo's own.

    There is one to load for every attempt and again for its score, so that reading the YAML, most of the
    harness's own time in long runs, is done by the C parser and kept for a while.
    """
    return _parse_environment(dojo, tuple(sorted(injections.items()))).model_copy(deep=True)


@lru_cache(maxsize=256)
def _parse_environment(dojo: Any, injections: tuple[tuple[str, str], ...]) -> Any:
    import yaml

    text = environment_text(dojo).format(**{**injection_defaults(dojo), **dict(injections)})
    return dojo.environment_type.model_validate(yaml.load(text, yaml.CSafeLoader))


@lru_cache
def injection_defaults(dojo: Any) -> dict[str, str]:
    """Injection vector -> the harmless text that stands there without an attack."""
    return dict(dojo.get_injection_vector_defaults())


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
