"""What an agent acts in and what its acts are judged by: AgentDojo's environments, tools and checkers."""

import copy
import io
import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from functools import cached_property
from importlib import import_module
from typing import Any

from harness.bounded import bounded
from harness.errors import AttemptFailure, UserError
from harness.suites.agentdojo.agentdyn import load_agentdyn
from harness.suites.agentdojo.environments import Template
from harness.suites.agentdojo.own_suites import load_own
from harness.suites.agentdojo.patches import (
    Draws,
    check_version,
    fixed_clock,
    pruned_diffs,
    without_providers,
)
from harness.suites.agentdojo.yaml_text import dump
from harness.types import FailureKind, Message, Struct, ToolCall

SHIPPED_SUITES = {"agentdojo_mini": "harness.suites.agentdojo_mini"}
"""Suites that ship with the harness -> module; any other is one of AgentDojo's or a dotted path."""


class Task(Struct):
    """What a sample carries: ids only; the task objects live in the suite."""

    user_task: str | None
    """Id of the task that is put to the agent as its user's request. None: the injection task is."""
    injection_task: str | None
    injections: dict[str, str]
    """Injection vector -> text that the attacker put there."""


Checker = Callable[[Any, str, Any, Any, Sequence[Any]], bool]
"""(task, answer, environment before, environment after, calls) -> whether the task was done."""


class World:
    """One attempt's own copy of a suite's environment, with the tools that act on it."""

    def __init__(self, dojo: Any, task: Task, wrap: Callable[[str], str] = str, seed: int = 0) -> None:
        """A world as no agent has touched it.

        Args:
            dojo: an AgentDojo task suite, as `load_task_suite` returns it.
            task: what is asked, and what the attacker has put where.
            wrap: what is done to the text of a tool's result, its errors excepted.
            seed: of what the environment and the tools of a suite of one's own draw at random.
        """
        from agentdojo.agent_pipeline.tool_execution import ToolsExecutor
        from agentdojo.functions_runtime import FunctionsRuntime

        self._dojo, self._task = dojo, task
        self.task = asked_task(dojo, task)
        self._runtime = FunctionsRuntime(dojo.tools)
        self._executor = ToolsExecutor(lambda result: wrap(result_text(result)))
        self._trace: list[Any] = []
        self._seed = seed
        self._draws = Draws(f"{seed}/tools") if dojo.draws else nullcontext()

    def _fresh(self) -> Any:
        with Draws(str(self._seed)) if self._dojo.draws else nullcontext():
            environment = self._dojo.load_and_inject_default_environment(self._task.injections)
            return self.task.init_environment(environment) if is_user_task(self.task) else environment

    # Made when they are first wanted: most of what an agent without tool calls costs is its world.

    @cached_property
    def _environment(self) -> Any:
        return self._fresh()

    @cached_property
    def _before(self) -> Any:
        return self._fresh()

    def _judged(self) -> tuple[Any, Any]:
        """The environment before and after the calls, for a checker. Without a call they are one."""
        if self._trace or self._dojo.look is None:
            return self._before, self._environment
        seen = self._dojo.look(self._task.injections)
        return seen, seen

    @property
    def untouched(self) -> Any:
        """The environment before the calls."""
        return self._before

    @property
    def changed(self) -> bool:
        """Whether the calls left something in the environment that was not so before."""
        return bool(self._environment != self._before)

    @property
    def request(self) -> str:
        """What is put to the agent as its user's words."""
        return str(self.task.PROMPT if is_user_task(self.task) else self.task.GOAL)

    def offer(self, tools: Collection[str]) -> None:
        """Leave the agent no tools but these."""
        self._runtime.update_functions({t.name: t for t in self._dojo.tools if t.name in tools})

    def call(self, calls: Sequence[ToolCall]) -> list[Message]:
        """Run the calls in order.

        Returns:
            A tool message for each, as the agent is shown it.

        Raises:
            AttemptFailure: a tool raised something that AgentDojo does not answer the agent with, or one of
                them, or what is done to their results, took too long.
        """
        names = ", ".join(c.name for c in calls)
        parsed = function_calls(calls)
        turn = {"role": "assistant", "content": None, "tool_calls": parsed}
        try:
            with bounded(names, FailureKind.TOOL_ERROR), fixed_clock(), self._draws:
                *_, answered, _ = self._executor.query("", self._runtime, self._environment, [turn])
        except AttemptFailure:
            raise
        except Exception as error:
            raise AttemptFailure(
                FailureKind.TOOL_ERROR, f"{names} raised {type(error).__name__}: {error}"
            ) from error
        self._trace += parsed
        return [tool_message(result) for result in answered[1:]]

    def call_again(self, call: ToolCall, recorded: Message) -> Message:
        """Run a call of a transcript, and let it come to what the transcript says that it came to.

        A call that was refused then and is not now, as by a defence, changed nothing. One that fails now too
        may have changed something before it failed.

        Args:
            call: to make.
            recorded: its result in the transcript.

        Raises:
            AttemptFailure: as `call` does.
        """
        refused = recorded.error and call.name in self._runtime.functions
        before = pickle.dumps(self._environment) if refused else None
        (result,) = self.call([call])
        if before is not None and not result.error:
            self._environment = pickle.loads(before)
        return result

    def replay(
        self,
        messages: Sequence[Message],
        shows: Callable[[str, Message], bool] = lambda shown, result: shown == result.content,
    ) -> None:
        """Run every tool call of a conversation again.

        Those of its last message, if there are any, were asked for and never made, for the agent was stopped.
        AgentDojo's checkers are shown them all the same.

        Args:
            messages: the conversation.
            shows: whether a text that the agent was shown is what a result looks like.

        Raises:
            AttemptFailure: a result is not the one in the conversation.
        """
        recorded = iter(m.content for m in messages if m.role == "tool")
        for message in messages[:-1]:
            for result in self.call(message.tool_calls) if message.tool_calls else ():
                was = next(recorded, None)
                if was is None or not shows(was, result):
                    raise AttemptFailure(FailureKind.SCORER_ERROR, _difference(was, result))
        self._trace += function_calls(messages[-1].tool_calls)

    def verdict(self, task: Any, answer: str, checker: Checker | None = None) -> bool:
        """What a checker says of the environment and the answer.

        Args:
            task: a user or injection task.
            answer: the agent's last words.
            checker: None for the task's own.

        Raises:
            AttemptFailure: the checker raised.
        """
        try:
            with pruned_diffs(), redirect_stdout(io.StringIO()):  # some checkers print
                ask = checker or upstream_verdict
                return ask(task, answer, *self._judged(), self._trace)
        except Exception as error:
            raise AttemptFailure(
                FailureKind.SCORER_ERROR,
                f"the checker of {task.ID} raised {type(error).__name__}: {error}",
            ) from error


def upstream_verdict(task: Any, answer: str, before: Any, after: Any, trace: Sequence[Any]) -> bool:
    """What a task's own checker says, asked as AgentDojo asks it: by the calls, else by the environment."""
    kind = "utility" if is_user_task(task) else "security"
    from_trace = getattr(task, f"{kind}_from_traces")(answer, before, after, trace)
    return bool(getattr(task, kind)(answer, before, after) if from_trace is None else from_trace)


def function_calls(calls: Sequence[ToolCall]) -> list[Any]:
    """Calls as AgentDojo's."""
    from agentdojo.functions_runtime import FunctionCall

    return [FunctionCall(function=c.name, args=dict(c.arguments), id=c.id) for c in calls]


def turns(messages: Sequence[Message]) -> Iterator[tuple[tuple[ToolCall, ...], list[Message]]]:
    """(calls, their results) of every turn with calls; no results where the run ended before them."""
    for position, message in enumerate(messages):
        if message.tool_calls:
            after = messages[position + 1 : position + 1 + len(message.tool_calls)]
            yield message.tool_calls, [m for m in after if m.role == "tool"]


def _difference(was: str | None, now: Message) -> str:
    if was is None:
        return f"the result of {now.name} is not in the transcript"
    return f"{now.name} answered {now.content[:80]!r} in the replay and {was[:80]!r} in the run"


def is_user_task(task: Any) -> bool:
    """Whether a task of AgentDojo's is a user's; else it is an attacker's."""
    return hasattr(task, "PROMPT")


def asked_task(dojo: Any, task: Task) -> Any:
    """The task that is put to the agent as its user's request."""
    if task.user_task is not None:
        return dojo.user_tasks[task.user_task]
    return dojo.injection_tasks[task.injection_task]


def tool_message(result: Any) -> Message:
    """AgentDojo's tool result as the agent is shown it: the error if there is one, else the output."""
    from agentdojo.types import get_text_content_as_str

    return Message(
        role="tool",
        content=result["error"] or get_text_content_as_str(result["content"]),
        tool_call_id=result["tool_call_id"],
        name=result["tool_call"].function,
        error=bool(result["error"]),
    )


def result_text(result: Any) -> str:
    """A tool's result as AgentDojo's text of it, its YAML remembered item by item.

    Writing YAML is the dearest part of a turn, and most of what agents read is the same in every attempt.
    """
    from agentdojo.agent_pipeline.tool_execution import tool_result_to_str

    return str(tool_result_to_str(result, dump_fn=dump))


def load_task_suite(name: str, benchmark_version: str, agentdyn: str | None = None) -> Any:
    """A task suite by name or dotted path, made to load its environments fast.

    Args:
        name: of the suite.
        benchmark_version: of AgentDojo's own.
        agentdyn: the checkout of AgentDyn that it is of.

    Raises:
        UserError: there is no such suite or version, or another AgentDojo is installed than is known here.
    """
    check_version()
    without_providers()
    from agentdojo.task_suite.load_suites import _SUITES, get_suites

    if agentdyn is not None:
        return made_fast(load_agentdyn(name, agentdyn), own=True, draws=True)
    if name in SHIPPED_SUITES:
        return made_fast(import_module(SHIPPED_SUITES[name]).task_suite, own=True)
    if ":" in name:
        return made_fast(load_own(name), own=True, draws=True)
    # get_suites makes an empty entry for an unknown version, so the version is looked for first.
    if benchmark_version not in _SUITES:
        known = ", ".join(sorted(_SUITES))
        raise UserError(f"AgentDojo has no benchmark version {benchmark_version!r}: use one of {known}")
    suites = get_suites(benchmark_version)
    if name not in suites:
        known = ", ".join([*suites, *SHIPPED_SUITES])
        raise UserError(
            f"AgentDojo {benchmark_version} has no suite {name!r}: use one of {known}, "
            "or your own as package.module:task_suite or ./file.py:task_suite"
        )
    return made_fast(suites[name], own=False)


def made_fast(suite: Any, *, own: bool, draws: bool = False) -> Any:
    """The suite with a faster way to its environments.

    Args:
        suite: an AgentDojo task suite.
        own: whether it is none of AgentDojo's.
        draws: whether it may draw at random, which nobody knows of a suite of one's own.
    """
    fast = copy.copy(suite)  # the suites are AgentDojo's own globals
    template = Template(suite, draws=draws)
    fast.draws = draws
    fast.load_and_inject_default_environment = template.load
    # Of AgentDojo's own checkers it is known, by a test, that they change nothing of what they judge.
    fast.look = None if own else template.look
    fast.__class__ = _remembers_tasks(type(suite))
    return fast


def _remembers_tasks(kind: type[Any]) -> type[Any]:
    """A class of suites that looks its tasks up once. AgentDojo sorts all versions of all tasks each time."""
    names = ("user_tasks", "injection_tasks")
    return type(kind.__name__, (kind,), {name: cached_property(getattr(kind, name).fget) for name in names})
