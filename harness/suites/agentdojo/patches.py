"""All that is changed in AgentDojo, pydantic and Python's own chance, why, and what that relies on.

Each but the last two is a context: a name of a module is another one while inside, in the whole process. So
nothing inside awaits, and one thread at a time is inside, which is checked. They are written for one version
of AgentDojo, whose names they are; `check_version` refuses any other.
"""

import datetime
import importlib.util
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache, partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import get_ident
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from harness.errors import UserError
from harness.suites.agentdojo.diffs import equal_parts
from harness.suites.agentdojo.yaml_text import dump

VERSION = "0.1.35"
"""Of AgentDojo, that the patches are written for."""

CLOCK = datetime.datetime(2024, 5, 15, 12)
"""What time it is in every environment: noon of the day on which AgentDojo's calendars stand. Its mail
and file tools show the agent the machine's clock, so that no run would read as the one before."""


def check_version() -> None:
    """Raises UserError if another version of AgentDojo is installed than the one that is changed here."""
    installed = version("agentdojo")
    if installed != VERSION:
        raise UserError(
            f"agentdojo {installed} is installed, and this harness is written for {VERSION}: "
            f"install agentdojo=={VERSION}"
        )


_THREADS: list[int] = []
"""Which threads are inside of a patch."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Raises RuntimeError if another thread is inside of a patch: one of them would keep what is changed."""
    here = get_ident()
    if _THREADS and _THREADS[-1] != here:
        raise RuntimeError("two threads are in patched parts of AgentDojo: it is run in one at a time")
    _THREADS.append(here)
    try:
        yield
    finally:
        _THREADS.pop()


@contextmanager
def quick_attacks() -> Iterator[None]:
    """Let AgentDojo's attacks find out faster what a user task's own solution shows of the environment."""
    from agentdojo.agent_pipeline import ground_truth_pipeline

    quick = partial(ground_truth_pipeline.tool_result_to_str, dump_fn=dump)
    with _one_thread(), patch.object(ground_truth_pipeline, "tool_result_to_str", quick):
        yield


@contextmanager
def fixed_clock() -> Iterator[None]:
    """Let AgentDojo's tools read `CLOCK` as the current time."""
    from agentdojo.default_suites.v1.tools import cloud_drive_client, email_client

    # now() is all that these two modules want of datetime when their functions run. It is a new object
    # each time, since YAML writes an object that it meets twice as a reference.
    clock = SimpleNamespace(
        datetime=SimpleNamespace(now=CLOCK.replace), date=SimpleNamespace(today=CLOCK.date)
    )
    with _one_thread(), ExitStack() as stack:
        for module in (cloud_drive_client, email_client, *_CLOCKED):
            stack.enter_context(patch.object(module, "datetime", clock))
        yield


class Draws:
    """While it is entered, `random`, `secrets` and `uuid4` draw from a seed; entered again, they go on.

    Nothing in AgentDojo's own suites draws. Environments and tools of other people's suites do (codes,
    passwords, ids), and what was drawn in an attempt has to come out again when its calls are made again.
    """

    def __init__(self, seed: str) -> None:
        self._state = random.Random(seed).getstate()
        self._bytes = random.Random(f"{seed}/bytes").randbytes

    def __enter__(self) -> None:
        with ExitStack() as stack:  # undone here if a limit of time ends it half way
            stack.enter_context(_one_thread())
            stack.callback(random.setstate, random.getstate())
            random.setstate(self._state)
            # `random` has a name of its own for it, by which SystemRandom and `secrets` draw.
            for module, name in ((os, "urandom"), (random, "_urandom")):
                stack.enter_context(patch.object(module, name, self._bytes))
            self._undone = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._state = random.getstate()
        self._undone.close()


@contextmanager
def pruned_diffs() -> Iterator[None]:
    """Let AgentDojo's checkers end the walk at parts that are equal. What they find is the same.

    Walking through all of an environment is most of what scoring costs. The options are those of two partial
    functions.
    """
    from agentdojo.default_suites.v1.travel.task_suite import TravelDeepDiff
    from agentdojo.default_suites.v1.workspace.task_suite import WorkspaceDeepDiff

    # By hand, for `patch.dict` takes longer than to compare two environments that are one.
    options = TravelDeepDiff.keywords, WorkspaceDeepDiff.keywords
    with _one_thread():
        before = [dict(each) for each in options]
        for each in options:
            each["custom_operators"] = [equal_parts()]
        try:
            yield
        finally:
            for each, was in zip(options, before, strict=True):
                each.clear()
                each.update(was)


@contextmanager
def remembered_addresses() -> Iterator[None]:
    """Let pydantic recall which mail addresses are valid: the same ones are in every environment."""
    from pydantic import networks

    with _one_thread(), patch.object(networks, "validate_email", _remembering(networks.validate_email)):
        yield


@cache
def _remembering(check: Callable[[str], tuple[str, str]]) -> Callable[[str], tuple[str, str]]:
    return lru_cache(maxsize=4096)(check)


@contextmanager
def addressed_to(model_name: str) -> Iterator[str]:
    """Let attacks address a model by any name. Yields the name that their target has meanwhile.

    AgentDojo looks the name of the target up in a fixed list, and raises for models that are not in it: its
    entry "local" says the model's own name.
    """
    from agentdojo.models import MODEL_NAMES

    with _one_thread(), patch.dict(MODEL_NAMES, {"local": model_name}):
        yield "local"


_CLOCKED: list[ModuleType] = []
"""Tools of a fork that read the time of day."""
CLOCKED = ("dynamic_email_client", "github_client", "shopping_client")


def modules_of_fork(package: Path) -> None:
    """Let AgentDojo have, for the rest of the process, the suites and tools that a fork adds to it.

    What both have is AgentDojo's own, with one exception: to the types of its tools the fork adds classes.

    Args:
        package: folder of the fork's package `agentdojo`.

    Raises:
        UserError: another fork was put there before.
    """
    from agentdojo.default_suites import v1
    from agentdojo.default_suites.v1 import tools
    from agentdojo.default_suites.v1.tools import types

    name = f"{types.__name__}_of_fork"
    file = package / "default_suites" / "v1" / "tools" / "types.py"
    if name in sys.modules:
        if sys.modules[name].__file__ != str(file):
            raise UserError(
                f"AgentDojo has the modules of {sys.modules[name].__file__} already: use one checkout"
            )
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    added = importlib.util.module_from_spec(spec)
    sys.modules[name] = added  # where pydantic looks up what annotations name
    try:
        spec.loader.exec_module(added)
    except BaseException:
        del sys.modules[name]
        raise
    for key, value in vars(added).items():
        if not hasattr(types, key):
            setattr(types, key, value)
    v1.__path__.append(str(package / "default_suites" / "v1"))
    tools.__path__.append(str(package / "default_suites" / "v1" / "tools"))
    _CLOCKED.extend(
        import_module(f"{tools.__name__}.{module}")
        for module in CLOCKED
        if (file.parent / f"{module}.py").is_file()
    )


def without_providers() -> None:
    """Let parts of AgentDojo be imported, for the rest of the process, without clients of model providers.

    Its package `agent_pipeline` imports all of them, and its tools take a constant from what asks Google's,
    which takes longer than planning a run. Here the code of both runs when another name of theirs is wanted.
    """
    _asleep("agentdojo.agent_pipeline")
    _asleep("agentdojo.agent_pipeline.llms.google_llm", EMPTY_FUNCTION_NAME="<empty-function-name>")


def _asleep(name: str, **known: object) -> None:
    """Let a module be there, with some of its names, whose code runs when another is wanted."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    assert spec and spec.loader
    loader, module = spec.loader, importlib.util.module_from_spec(spec)

    def awake(attribute: str) -> Any:
        if attribute.startswith("_") and attribute != "__all__":  # who looks at every module asks for these
            raise AttributeError(attribute)
        del module.__dict__["__getattr__"]
        loader.exec_module(module)
        return getattr(module, attribute)

    module.__dict__.update(known, __getattr__=awake)
    sys.modules[name] = module
    parent, _, own = name.rpartition(".")
    setattr(sys.modules[parent], own, module)
