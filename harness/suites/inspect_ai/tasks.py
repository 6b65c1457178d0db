"""Inspect's tasks: loaded by name or file, and held to what can be measured here."""

import inspect
import io
import os
import random
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib.metadata import entry_points
from typing import Any
from unittest import mock

from harness.config import OptionError, as_written
from harness.errors import Absent, UserError, pip_install
from harness.suites.access import Access, is_offline, nothing_downloaded
from harness.suites.digests import digest
from harness.trust import load_object

SEED = 0
"""Of what a task draws without a seed of its own, such as the order of its choices."""


def check_installed() -> None:
    """Raises UserError where Inspect is not."""
    try:
        import inspect_ai  # noqa: F401
    except ImportError as error:
        raise UserError(f"adapter inspect needs inspect_ai ({error}): {pip_install('inspect')}") from error


def task_function(name: str) -> Callable[..., Any]:
    """The function behind `package/task` or `file.py@task`.

    Raises:
        Untrusted: it is not code that may be run.
        UserError: there is none.
    """
    if "@" in name:
        path, _, function = name.rpartition("@")
        loaded = load_object(f"{path}:{function}", "task")
    elif "/" in name:
        package, _, function = name.rpartition("/")
        declared = {point.name: point.value for point in entry_points(group="inspect_ai")}
        if package not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise OptionError(
                f"no installed package {package!r} declares tasks of Inspect's (there is {known}): install "
                "it, or name a file as ./file.py@task",
                "task",
            )
        loaded = load_object(f"{declared[package]}:{function}", "task")
    else:
        raise OptionError(f"{as_written(name)!r} is no task: write package/task, or ./file.py@task", "task")
    if not callable(loaded):
        raise OptionError(
            f"{as_written(name)} is a {type(loaded).__name__}, not a function with @task", "task"
        )
    task: Callable[..., Any] = loaded
    return task


def make_task(name: str, args: dict[str, Any], access: Access) -> Any:
    """An Inspect `Task` with its data.

    Raises:
        Absent: its data are not on this machine, and may not be downloaded.
        UserError: it cannot be made, or not be measured here.
    """
    from inspect_ai import Task

    function, said = task_function(name), as_written(name)
    offline = is_offline() or not access.download
    quiet = redirect_stdout(io.StringIO())  # Inspect prints what it loads
    with nothing_downloaded() if offline else nullcontext(), no_services(), same_draws(), quiet:
        try:
            task = function(**args)
        except Absent as error:
            tried = " ".join(str(error.__context__ or "").split())[:300]
            raise Absent(f"task {said}: {error}{f' ({tried})' if tried else ''}") from error
        except UserError:
            raise
        except Exception as error:  # the task may be anybody's
            text = (
                f"task {said} cannot be made ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
            )
            if why := lacking(error, SCORER):
                raise UserError(f"{text}: {why}") from error
            if any(isinstance(one, OSError) or "offline" in str(one).lower() for one in causes(error)):
                raise Absent(f"{text}: its data are not on this machine") from error
            raise UserError(f"{text}: see its parameters for `args`") from error
    if not isinstance(task, Task):
        raise OptionError(f"{said} made a {type(task).__name__}: expected a Task of Inspect's", "task")
    _check(said, task)
    return task


def _check(said: str, task: Any) -> None:
    """Raises UserError for a task that cannot be run or scored here."""
    if task.sample_source is not None:
        raise UserError(f"task {said} makes its samples as it goes, so that no two models are asked the same")
    sandboxes = {task.sandbox.type} if task.sandbox else set()
    sandboxes |= {s.sandbox.type for s in task.dataset if s.sandbox is not None}
    if "local" in sandboxes:
        raise UserError(
            f"task {said} runs programs in the sandbox `local`, which is this machine itself: it is refused"
        )
    if sandboxes:
        raise UserError(f"task {said} needs the sandbox {', '.join(sorted(sandboxes))}: {ELSEWHERE}")
    if not task.scorer:
        raise UserError(f"task {said} has no scorer, so that nothing would be measured")
    if any(not isinstance(s.input, str) and _has_media(s.input) for s in task.dataset):
        raise UserError(f"task {said} shows images, audio or files, and engines here take text alone")


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came of: libraries that try several times raise one of their own."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


@contextmanager
def same_draws() -> Iterator[None]:
    """While inside, what is drawn without a seed is drawn as the last time: every model is asked the same."""
    import numpy as np

    class Seeded(random.Random):
        def seed(self, a: Any = None, version: int = 2) -> None:
            super().seed(SEED if a is None else a, version)

    state, of_arrays = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(SEED)  # `datasets` shuffles by it
    try:
        with mock.patch.object(random, "Random", Seeded):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(of_arrays)


@contextmanager
def no_services() -> Iterator[None]:
    """While inside, there is no key for a service, so that code of a task asks no model of one."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    with mock.patch.dict(os.environ, kept, clear=True):
        yield


SCORER, SOLVER = "its scorer", "its solver"
ELSEWHERE = (
    "run it with Inspect against a server of the model, and take its log in with `harness replay LOG.eval`"
)
TO_A_JUDGE = (
    "have it ask the role `grader` (where an argument names its model, that is null), name the scorer in "
    "`graded`, and a judge reads what it asks; or put its requests to a judge with the adapter `requests`"
)


def lacking(error: BaseException, whose: str) -> str | None:
    """What code of a task wants that is not here, by what Inspect raises then; None where that tells nothing.

    Args:
        error: what was raised.
        whose: code it was.
    """
    said = "".join(traceback.format_exception(error))
    if re.search(r"PrerequisiteError|No model specified", said):
        instead = TO_A_JUDGE if whose == SCORER else ELSEWHERE
        return f"{whose} asks a model of its own, which nobody has measured: {instead}"
    if "No sandbox environment" in said:
        return f"{whose} runs programs, and has no sandbox here: {ELSEWHERE}"
    return None


def _has_media(messages: Any) -> bool:
    return any(
        part.type not in ("text", "reasoning")
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
    )


def registered(thing: Any) -> str:
    """The name by which Inspect knows a solver, scorer or metric."""
    from inspect_ai._util.registry import is_registry_object, registry_info

    return str(registry_info(thing).name) if is_registry_object(thing) else type(thing).__name__


def described(thing: Any) -> list[Any]:
    """What a solver, a scorer or a list of them is, by the names and arguments that Inspect knows."""
    from inspect_ai._util.registry import has_registry_params, registry_params

    if isinstance(thing, list | tuple):
        return [described(one) for one in thing]
    steps = getattr(thing, "steps", None) or getattr(thing, "_solvers", None)
    if steps:  # a plan, or a chain
        return [described(one) for one in steps]
    params = registry_params(thing) if has_registry_params(thing) else {}
    return [registered(thing), params]


def source_of(function: Callable[..., Any]) -> str:
    """12 hex digits for the source of the module that a task is in."""
    return digest(inspect.getsource(sys.modules[inspect.unwrap(function).__module__]))[:12]


def names_in(described: list[Any]) -> Iterator[str]:
    """Every name in what `described` gives."""
    for part in described:
        if isinstance(part, str):
            yield part
        elif isinstance(part, list):
            yield from names_in(part)
