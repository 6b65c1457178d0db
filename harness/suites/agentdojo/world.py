"""AgentDojo's task suites and environments: what an agent acts in, and what its acts are judged by."""

import copy
import datetime
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from harness.config import load_object
from harness.errors import AttemptFailure, UserError
from harness.types import FailureKind, Message, Struct, ToolCall

CLOCK = datetime.datetime(2024, 5, 15, 12)
"""What time it is in every environment: noon of the day on which AgentDojo's calendars stand. Its mail
and file tools show the agent the machine's clock, so that no run would read as the one before."""

OWN_SUITES = {"agentdojo_mini": "harness.suites.agentdojo_mini:task_suite"}
"""Suites that ship with the harness; any other is one of AgentDojo's or a dotted path."""


class Task(Struct):
    """What a sample carries: ids only; the task objects live in the suite."""

    user_task: str
    """Id of the task that is put to the agent as its user's request."""
    injection_task: str | None
    injections: dict[str, str]
    """Injection vector -> text that the attacker put there."""


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
