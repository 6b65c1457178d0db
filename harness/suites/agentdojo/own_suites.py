"""Suites of one's own, written with AgentDojo's classes: loaded, and known by their code."""

import inspect
import sys
from typing import Any

from harness.config import as_written
from harness.errors import UserError
from harness.suites.digests import digest
from harness.trust import load_object


def load_own(path: str) -> Any:
    """The task suite at `package.module:name` or `./file.py:name`.

    Raises:
        UserError: there is none, or it lacks what every suite has.
    """
    from agentdojo.task_suite.task_suite import TaskSuite

    suite = load_object(path, "suite")
    written = as_written(path)
    if not isinstance(suite, TaskSuite):
        raise UserError(f"suite {written} is a {type(suite).__name__}: expected a TaskSuite of AgentDojo's")
    if not suite.user_tasks:
        raise UserError(f"suite {written} has no user task: register one with @task_suite.register_user_task")
    try:
        suite.load_and_inject_default_environment({})
    except Exception as error:  # whatever its own environment and validators raise
        raise UserError(
            f"suite {written} has no environment that can be read "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}): expected environment.yaml and "
            f"injection_vectors.yaml in {suite.data_path or 'its data_path'}"
        ) from error
    return suite


def own_identity(path: str, suite: Any) -> str:
    """What tells one suite of one's own from another: where it is, and the source of its tasks."""
    tasks = [*suite.user_tasks.values(), *suite.injection_tasks.values()]
    return f"{as_written(path)} {source_digest([type(task) for task in tasks])}"


def source_digest(classes: list[type]) -> str:
    """12 hex digits for the source of the modules that classes are in."""
    modules = sorted({kind.__module__ for kind in classes})
    return digest([inspect.getsource(sys.modules[module]) for module in modules])[:12]
