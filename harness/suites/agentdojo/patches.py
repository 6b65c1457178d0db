"""All that is changed in AgentDojo and pydantic, why, and what that relies on.

Each is a context: a name of a module is another one while inside, in the whole process. So nothing inside
awaits, and one thread at a time is inside, which is checked. They are written for one version of AgentDojo,
whose names they are; `check_version` refuses any other.
"""

import datetime
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache, partial
from importlib.metadata import version
from threading import get_ident
from types import SimpleNamespace
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
    clock = SimpleNamespace(datetime=SimpleNamespace(now=CLOCK.replace))
    with _one_thread(), ExitStack() as stack:
        for module in (cloud_drive_client, email_client):
            stack.enter_context(patch.object(module, "datetime", clock))
        yield


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
