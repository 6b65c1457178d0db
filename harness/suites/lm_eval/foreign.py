"""Task files that nobody vouches for, such as those of a received run: read as data, or refused.

A task file may name functions beside it, metrics that are fetched with their code, and data sets in formats
that run code. What is left is a template, which runs in a sandbox, over plain files.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from harness.suites.lm_eval.data import Source
from harness.trust import Untrusted, own_folder


@contextmanager
def as_data(source: Source) -> Iterator[None]:
    """While inside, lm-eval builds tasks without any code but the installed packages' own.

    Args:
        source: of the tasks' data; it reads plain files alone from now on.

    Raises:
        Untrusted: a task names a function of its own, or a metric that lm-eval does not have.
    """
    import lm_eval.api.metrics  # fills the registry
    import lm_eval.api.task
    import lm_eval.tasks
    from lm_eval.api.registry import METRIC_REGISTRY
    from lm_eval.tasks import _yaml_loader

    import_function, get_metric = _yaml_loader._import_func_in_yml, lm_eval.api.task.get_metric
    shipped = Path(lm_eval.tasks.__file__).resolve().parent

    def function(name: str, folder: Path) -> Any:
        if not (folder.resolve().is_relative_to(shipped) or own_folder(str(folder))[1]):
            raise Untrusted("the function of a task file", f"{folder}/{name}")
        return import_function(name, folder)

    def metric(name: str, from_hub: bool = False) -> Any:
        if from_hub or name not in METRIC_REGISTRY:
            raise Untrusted("the metric of a task file", name)
        return get_metric(name)

    source.plain = True
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(_yaml_loader, "_import_func_in_yml", function))
        stack.enter_context(mock.patch.object(lm_eval.api.task, "get_metric", metric))
        yield
