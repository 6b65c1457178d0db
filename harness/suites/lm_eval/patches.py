"""All that is changed in lm-eval, `datasets` and what they load, why, and what that relies on.

Most of it holds while a context is entered, in the whole process: tasks are built in one thread at a time,
and nothing inside awaits. Sandboxed templates hold from the first task on, for prompts are made later. The
names are those of one version of lm-eval and of two of `datasets`; `check_versions` refuses any other.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from harness.errors import Absent, UserError
from harness.trust import Untrusted, own_folder

LM_EVAL = "0.4.13"
"""Version of lm-eval that the patches are written for; its task factory is not a public interface."""

DATASETS = ("4", "5")
"""Major versions of `datasets` that they are written for: offline these take the newest copy in their cache,
of whatever commit."""

CENTURY = 100 * 365 * 86400.0
"""Seconds."""

NOISY_LOGGERS = ("datasets", "huggingface_hub")

LARGEST_PRODUCT, MAX_EXPONENT = 10_000_000, 1000
"""Of what a template multiplies: characters or elements, the base of a power; and of its exponent."""

Loader = Callable[..., Any]
"""As `datasets.load_dataset`."""


def check_versions() -> None:
    """Raises UserError if lm-eval or `datasets` is of a version that is not known here."""
    for package, known in (("lm-eval", (LM_EVAL,)), ("datasets", DATASETS)):
        installed = version(package)
        if installed not in known and installed.partition(".")[0] not in known:
            raise UserError(
                f"{package} {installed} is installed, and this harness is written for {' and '.join(known)}: "
                f"install {package}=={known[-1]}{'.*' if package == 'datasets' else ''}"
            )


# Building tasks


def task_factory(full_config: Callable[..., Any], build_task: Callable[..., Any]) -> Any:
    """lm-eval's factory of tasks, with two of its steps in other hands.

    Args:
        full_config: (lm-eval's own step, entry, overrides) -> the config of a task.
        build_task: (lm-eval's own step, entry, overrides) -> the task.
    """
    from lm_eval.tasks._factory import TaskFactory

    factory = TaskFactory()
    factory._load_full_config = partial(full_config, factory._load_full_config)
    factory._build_task = partial(build_task, factory._build_task)
    return factory


@contextmanager
def no_code_of_task_files() -> Iterator[None]:
    """While inside, lm-eval builds tasks without any code but that of installed packages.

    A task file may name functions beside it, and metrics that are fetched with their code. What is left is a
    template, which runs in a sandbox, over plain files.

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

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(_yaml_loader, "_import_func_in_yml", function))
        stack.enter_context(mock.patch.object(lm_eval.api.task, "get_metric", metric))
        yield


@cache
def harmless_templates() -> None:
    """Let lm-eval render the templates of task files in Jinja's sandbox, and keep them compiled.

    In its own environment a template can run any code: task files would be programs. And it compiles them for
    every document, which is nine tenths of the time that prompts take.
    """
    import lm_eval.utils
    from jinja2.sandbox import SandboxedEnvironment

    class Bounded(SandboxedEnvironment):
        """Neither powers nor products that a machine cannot hold."""

        intercepted_binops = frozenset(["*", "**"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """Raises OverflowError for a text or list of more than `LARGEST_PRODUCT`, and such powers."""
            sizes = [len(x) if hasattr(x, "__len__") else x for x in (left, right)]
            repeats = operator == "*" and sizes != [left, right] and sizes[0] * sizes[1] > LARGEST_PRODUCT
            if repeats or (operator == "**" and (abs(left) > LARGEST_PRODUCT or right > MAX_EXPONENT)):
                raise OverflowError(f"{left!r:.40} {operator} {right!r:.40}")
            return super().call_binop(context, operator, left, right)

    env = lm_eval.utils.env
    lm_eval.utils.env = Bounded(
        loader=env.loader,
        undefined=env.undefined,
        keep_trailing_newline=env.keep_trailing_newline,
    )
    lm_eval.utils.env.filters.update(env.filters)
    lm_eval.utils.env.from_string = lru_cache(maxsize=4096)(lm_eval.utils.env.from_string)


class _Errors(logging.Handler):
    """Hands on what is an error, and nothing below."""

    def emit(self, record: logging.LogRecord) -> None:
        """As the root logger would."""
        logging.getLogger().callHandlers(record)


_ERRORS = _Errors(logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep log lines and progress bars about data off the terminal while inside.

    Levels are left alone: to set one empties the caches of all loggers of the process, which costs a run as
    much as scoring a document does.
    """
    import datasets

    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    ways = [(logger.handlers, logger.propagate) for logger in loggers]
    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.handlers, logger.propagate = [_ERRORS], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, ways, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        if bars:
            datasets.enable_progress_bars()


# Loading data


_LOADERS: list[Loader] = []
"""In whose hands the loading of data is; the last one counts."""


def hub_loader() -> Loader:
    """`datasets.load_dataset`."""
    import datasets

    loader: Loader = datasets.load_dataset
    return loader


def _load_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
    """In place of `datasets.load_dataset`. Modules of tasks may keep it, so it looks when it is called."""
    return (_LOADERS[-1] if _LOADERS else hub_loader())(path, *args, **kwargs)


@contextmanager
def data_loaded_by(load: Loader) -> Iterator[None]:
    """While inside, tasks load their data by another function: `datasets` would take whatever it has."""
    import datasets

    _LOADERS.append(load)
    try:
        with mock.patch.object(datasets, "load_dataset", _load_dataset):
            yield
    finally:
        _LOADERS.pop()


@contextmanager
def preferred_in_cache(commit: str | None) -> Iterator[None]:
    """While inside, `datasets` takes this commit from its cache where it is there, not the newest copy."""
    from datasets.packaged_modules.cache import cache

    changed = cache._get_modification_time

    def rank(folder: str) -> float:
        time: float = changed(folder)
        return time + CENTURY if Path(folder).name == commit else time

    with mock.patch.object(cache, "_get_modification_time", rank):
        yield


@contextmanager
def nltk_downloads(task: str, folder: Path | None, *, allowed: bool) -> Iterator[None]:
    """While inside, see to what the functions of some tasks fetch when they are imported.

    Args:
        task: whose functions they are.
        folder: where its code lies.
        allowed: whether anything may be downloaded.
    """
    beside = folder.glob("*.py") if folder else ()
    if not any(b"nltk.download" in path.read_bytes() for path in beside):
        yield
        return
    import nltk

    original = nltk.download

    def download(resource: str, *_: Any, **__: Any) -> bool:
        if not allowed:
            raise Absent(f"{resource} of nltk (`python -m nltk.downloader {resource}`)")
        if not original(resource, quiet=True):  # it says so and goes on; attempts would fail one by one
            raise UserError(
                f"lm-eval task {task} needs {resource} of nltk, which could not be downloaded: run "
                f"`python -m nltk.downloader {resource}` to see why"
            )
        return True

    with mock.patch.object(nltk, "download", download):
        yield
