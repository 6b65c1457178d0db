"""Inspect's evaluation loop, fed with one attempt at a time.

Inspect runs one evaluation at a time in a process. So all tasks that have something to ask share one, each
with a source of samples of its own, to which attempts are added while it runs; the engine below serves all at
once. A task that comes later waits for the next evaluation, which begins when this one has nothing to do.
"""

import asyncio
import contextvars
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from harness.disk import make_folder, replacing
from harness.engines.base import Engine
from harness.errors import AttemptFailure, UserError
from harness.suites.inspect_ai.conversation import of_inspect, output_of, tool_of
from harness.types import FailureKind, Generation, Sampling

GATHER_SECONDS = 0.05
"""For so long an evaluation waits for other tasks before it begins."""
IDLE_SECONDS = 0.5
"""After so long without an attempt a task is over, and the evaluation with the last of them."""
CONNECTIONS = 100_000
"""The engine says how many requests it serves at once. Inspect's own limit is for servers of others."""


@dataclass
class Attempt:
    """One attempt at a sample, on its way through Inspect."""

    sample: Any
    """Inspect's."""
    engine: Engine
    sampling: Sampling
    done: "asyncio.Future[Any]"
    """Its `EvalSample`."""
    replies: list[Generation] = field(default_factory=list)
    state: Any = None
    """The `TaskState` that the solver left."""
    error: Exception | None = None
    """What the engine raised."""


ATTEMPT: ContextVar[Attempt] = ContextVar("attempt")
"""Whose solver or tool runs."""


async def evaluate(task: Callable[[], Any], key: Hashable, attempt: Attempt) -> Any:
    """Have Inspect make one attempt; returns its `EvalSample`, without scores.

    Args:
        task: makes the task, for an evaluation that has none of this key yet.
        key: tells the task from others.
        attempt: what to do.

    Raises:
        UserError: Inspect cannot run the task.
    """
    loop = asyncio.get_running_loop()
    evaluations = _EVALUATIONS.setdefault(loop, _Evaluations())
    return await evaluations.ask(task, key, attempt)


async def end(keep: Path | None = None) -> None:
    """End the evaluation of this event loop, if there is one: no attempt will be added.

    Args:
        keep: the folder where Inspect's logs go; None for nowhere.

    Raises:
        DiskError: the disk does not take a log.
    """
    if evaluation := _EVALUATIONS.get(asyncio.get_running_loop()):
        await evaluation.end()
        evaluation.clear_logs(keep)


class _Evaluations:
    """The evaluations of one event loop."""

    def __init__(self) -> None:
        self._now: dict[Hashable, _Feed] = {}
        self._next: dict[Hashable, _Feed] = {}
        self._running: asyncio.Task[None] | None = None
        self._logs: Path | None = None

    def clear_logs(self, keep: Path | None) -> None:
        """Remove the logs of the evaluations so far, after copying them to a folder if there is one."""
        if self._logs is None:
            return
        if keep is not None:
            make_folder(keep)
            for log in sorted(self._logs.glob("*.eval")):
                with replacing(keep / log.name) as temporary:
                    shutil.copyfile(log, temporary)
        shutil.rmtree(self._logs)
        self._logs = None

    async def ask(self, task: Callable[[], Any], key: Hashable, attempt: Attempt) -> Any:
        feed = self._now.get(key)
        if feed is None or feed.over:
            feed = self._next.get(key) or _Feed(task())
            self._next[key] = feed
        feed.add(attempt)
        if self._running is None or self._running.done():
            # In a context of its own: what one attempt set there is nothing to the others.
            self._running = asyncio.create_task(self._run(), context=contextvars.Context())
        return await attempt.done

    async def end(self) -> None:
        if self._running is None:
            return
        feeds = [*self._now.values(), *self._next.values()]
        for feed in feeds:
            feed.close()
        if any(feed.is_busy for feed in feeds):  # with what nobody waits for any more
            self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    async def _run(self) -> None:
        while self._next:
            await asyncio.sleep(GATHER_SECONDS)
            self._now, self._next = self._next, {}
            failure: Exception | None = None
            try:
                self._logs = self._logs or Path(tempfile.mkdtemp(prefix="inspect-logs-"))
                await _run_tasks([feed.task for feed in self._now.values()], self._logs)
            except Exception as error:  # a task may be anybody's
                failure = UserError(f"Inspect ended its evaluation ({type(error).__name__}: {error})")
            for feed in self._now.values():
                feed.end(failure)
            self._now = {}


_EVALUATIONS: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Evaluations]" = WeakKeyDictionary()


async def _run_tasks(tasks: list[Any], logs_in: Path) -> None:
    """One evaluation of Inspect's, with its logs in a folder."""
    from inspect_ai import eval_async
    from inspect_ai.util._display import init_display_type

    init_display_type("none")
    logs = await eval_async(
        tasks,
        model=local_model(),
        log_dir=str(logs_in),
        log_realtime=False,
        ctl_server=False,
        score=False,
        fail_on_error=False,
        max_samples=CONNECTIONS,
        max_tasks=len(tasks),
    )
    for log in logs:
        if log.status == "error" and log.error is not None:
            raise UserError(f"task {log.eval.task}: {log.error.message}")


class _Feed:
    """The attempts at samples of one task, in one evaluation."""

    def __init__(self, made: Any) -> None:
        """Args: made: a `Task`, whose samples come from here from now on."""
        from inspect_ai import task_with

        self.over = False
        self._waiting: list[tuple[Any, int]] = []
        self._there = asyncio.Event()
        self._context: contextvars.Context | None = None
        self._epochs: Counter[Any] = Counter()
        self._attempts: dict[tuple[Any, int], Attempt] = {}
        self._cleanup = made.cleanup
        setup = made.setup if isinstance(made.setup, list) else [made.setup] if made.setup else []
        self.task = task_with(
            made,
            dataset=_source(self),
            setup=[_bound_to(self), *setup],
            cleanup=self.keep,
            epochs=1,
            model=local_model(),
        )

    def of(self, state: Any) -> Attempt:
        """The attempt that a solver works on."""
        return self._attempts[state.sample_id, state.epoch]

    @property
    def is_busy(self) -> bool:
        """Whether an attempt is under way."""
        return bool(self._attempts)

    def add(self, attempt: Attempt) -> None:
        """Have an attempt made, now if the task runs already."""
        self._epochs[attempt.sample.id] += 1
        epoch = self._epochs[attempt.sample.id]  # no two attempts may have the same
        self._attempts[attempt.sample.id, epoch] = attempt
        self._waiting.append((attempt.sample, epoch))
        self._there.set()
        if self._context is not None:
            self._context.run(self._enqueue)

    def _enqueue(self) -> None:
        from inspect_ai import enqueue_sample

        for sample, epoch in self._waiting:
            enqueue_sample(sample.model_copy(deep=True), epoch=epoch)
        self._waiting.clear()
        self._there.clear()

    async def more(self) -> bool:
        """Whether more was added. Asked while nothing is under way, in the task's own context."""
        self._context = contextvars.copy_context()
        if not self._waiting and not self.over:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._there.wait(), IDLE_SECONDS)
        if not self._waiting:
            self.over = True
            return False
        self._enqueue()
        return True

    async def keep(self, state: Any) -> None:
        """Called when solvers are done with a sample."""
        self.of(state).state = state
        if self._cleanup is not None:
            await self._cleanup(state)

    def finished(self, sample: Any) -> None:
        """Called with the `EvalSample` of an attempt."""
        attempt = self._attempts.pop((sample.id, sample.epoch))
        if not attempt.done.done():  # nobody waits for it where the run was stopped
            attempt.done.set_result(sample)

    def close(self) -> None:
        """Nothing will be added any more."""
        self.over = True
        self._there.set()

    def end(self, failure: Exception | None) -> None:
        """Tell those who still wait that there is no answer."""
        self.over = True
        for attempt in self._attempts.values():
            if not attempt.done.done():
                attempt.done.set_exception(
                    failure or AttemptFailure(FailureKind.ENGINE_ERROR, "Inspect left the sample out")
                )


def _source(feed: _Feed) -> Any:
    """Inspect's side of a feed."""
    from inspect_ai import SampleSource

    async def next_samples() -> list[Any] | None:
        return [] if await feed.more() else None  # they were added with their epochs

    async def sample_complete(sample: Any) -> None:
        feed.finished(sample)

    return SampleSource.from_samples([], next_samples=next_samples, sample_complete=sample_complete)


def _bound_to(feed: _Feed) -> Any:
    """A solver that comes before those of the task, so that what they ask is asked for their attempt."""
    from inspect_ai.solver import solver

    def bound() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            ATTEMPT.set(feed.of(state))
            return state

        return solve

    return solver(bound)()


@cache
def local_model() -> Any:
    """The one model of all evaluations: whose engine it asks depends on whose attempt it is asked for."""
    from inspect_ai.model import ModelAPI, get_model, modelapi

    class Local(ModelAPI):  # type: ignore[misc]
        """Inspect's provider of tokens: the engine of the attempt that asks."""

        async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
            attempt = ATTEMPT.get()
            try:
                reply = await attempt.engine.chat(
                    [of_inspect(message) for message in input],
                    [] if tool_choice == "none" else [tool_of(info) for info in tools],
                    sampling_of(config, tool_choice, attempt.sampling),
                )
                attempt.replies.append(reply)
                if reply.parse_error is not None:
                    raise AttemptFailure(FailureKind.TOOL_PARSE, reply.parse_error)
                if reply.thought_cut:
                    raise AttemptFailure(FailureKind.THOUGHT_CUT, "the reply was cut off in mid-thought")
            except Exception as error:
                attempt.error = error
                raise
            return output_of(self.model_name, reply)

        async def count_text_tokens(self, text: str) -> int:
            return len(text.encode()) // 4  # an estimate, for solvers that shorten; Inspect's is downloaded

        def max_connections(self) -> int:
            return CONNECTIONS

        def emulate_reasoning_history(self) -> bool:
            return False  # the chat template says what becomes of earlier thoughts

    modelapi(name="harness")(Local)
    return get_model("harness/local", memoize=False)


def sampling_of(config: Any, tool_choice: Any, run: Sampling) -> Sampling:
    """How a reply is drawn: as task and solver say, and what they leave open as the run says.

    Raises:
        UserError: they ask for what the engines here cannot give.
    """
    asked = {
        "num_choices": config.num_choices not in (None, 1),
        "logprobs": bool(config.logprobs),
        "response_schema": config.response_schema is not None,
        "tool_choice": tool_choice not in (None, "auto", "none"),
    }
    if wrong := [name for name, said in asked.items() if said]:
        raise UserError(
            f"the task asks for {', '.join(wrong)}, which the engines here do not give: leave it out"
        )
    names = ("temperature", "top_p", "top_k", "max_tokens")
    said = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    if config.stop_seqs:
        said["stop"] = tuple(config.stop_seqs)
    return msgspec.structs.replace(run, **said)
