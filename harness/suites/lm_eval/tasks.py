"""Finding and building lm-eval's tasks.

Knows lm-eval's loader, and nothing of suites, engines or scores; `data` knows where data come from, and what
is changed in lm-eval stands in `patches`.
"""

import dataclasses
import difflib
import inspect
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from harness.errors import Absent, UserError
from harness.sandbox.programs import check_available, in_place_of_code_eval, is_sandboxed
from harness.suites.lm_eval.code_makers import FINDS_CODE, makes_code
from harness.suites.lm_eval.data import Source, one_line, resolve_data_files
from harness.suites.lm_eval.documents import why_not_built
from harness.suites.lm_eval.patches import (
    check_versions,
    harmless_templates,
    nltk_downloads,
    no_code_of_task_files,
    quiet,
    task_factory,
)
from harness.trust import own_folder, trusts_everything
from harness.warned import gathered

MULTIMODAL_KEYS = ("doc_to_image", "doc_to_audio")


class Loaded(NamedTuple):
    """Tasks of lm-eval's, and the groups that they are in."""

    tasks: dict[str, Any]
    """Name -> `Task`, its data loaded, in the order of the group."""
    groups: dict[str, Any]
    """Name -> `Group`, the one that was asked for first; none for a task or a tag."""
    warned: dict[str, list[str]]
    """Task -> what lm-eval warned of as it built it."""


def load_tasks(name: str, include_path: str | None, data_dir: str | None, source: Source) -> Loaded:
    """Build one task, or all tasks of a group or tag.

    Args:
        name: of a task, group or tag.
        include_path: folder of further task YAMLs, whose names win over lm-eval's own.
        data_dir: folder that relative `data_files` begin at, the folder of their YAML if None.
        source: of data on the hub.

    Raises:
        Absent: its data are not on this machine, and may not be downloaded.
        UserError: there is no such task, it cannot be built, or its data cannot be reached.
    """
    check_versions()
    harmless_templates()
    folder, vouched = (None, True) if include_path is None else own_folder(include_path)
    with (
        quiet(),
        gathered() as warnings,
        seeded(),
        source.in_use(),
        nullcontext() if vouched else no_code_of_task_files(),
    ):
        from lm_eval.tasks import TaskManager

        source.plain = not vouched
        index = KnownTasks(folder)
        if name not in index:
            raise UserError(index.unknown(name))
        absent: list[str] = []
        warned: dict[str, list[str]] = {}
        factory = task_factory(
            partial(_full_config, data_dir, source.downloads), partial(_build_task, absent, warnings, warned)
        )
        try:
            built = factory.build(index[name], registry=index)
            _check_there(name, absent)
            raw = TaskManager(include_defaults=False).load(built)
            of_tasks = {text for texts in warned.values() for text in texts}
            warned.setdefault(next(iter(raw["tasks"])), []).extend(t for t in warnings if t not in of_tasks)
            loaded = Loaded(raw["tasks"], raw["groups"], warned)
        except UserError:
            raise
        except Exception as error:  # whatever a definition can do wrong: it is the user's, or lm-eval's
            raise UserError(_not_built(name, error)) from error
    source.check_revision(f"lm-eval task {name}")
    for key, task in loaded.tasks.items():
        check_supported(key, task)
    return loaded


def _check_there(name: str, absent: Sequence[str]) -> None:
    """Raises Absent, naming all that is not on this machine, if there is any."""
    if absent:
        things = " and ".join(dict.fromkeys(absent))
        raise Absent(
            f"lm-eval task {name} needs {things}, not on this machine: run `harness fetch` with this config "
            "where there is a network, HF_HUB_OFFLINE unset (a gated data set needs its terms accepted on "
            "the hub and HF_TOKEN or `hf auth login` there), or use a task YAML whose data_files are here"
        )


def check_supported(name: str, task: Any) -> None:
    """Raises UserError for a built task that cannot be run or scored here."""
    if getattr(task, "MULTIMODAL", False):
        raise UserError(
            f"lm-eval task {name} shows images or audio, and engines here take text: leave it out"
        )
    if getattr(task, "UNSAFE_CODE", False):
        _check_sandbox(name, task)
    custom = callable(task.config.process_results)
    missing = [k for k, f in getattr(task, "_metric_fn_list", {}).items() if f is None and not custom]
    if missing:
        raise UserError(
            f"lm-eval task {name}: metric {missing[0]} is not one of lm-eval's own and could not be fetched "
            "from the hub: allow access to it, or use another metric"
        )


def _check_sandbox(name: str, task: Any) -> None:
    if not is_sandboxed(task):
        raise UserError(
            f"lm-eval task {name} runs code that the model wrote in a way that no sandbox here can take over "
            "(it does not use the metric code_eval): leave it out"
        )
    check_available()


class KnownTasks(dict[str, Any]):
    """lm-eval's index of tasks (name -> entry), read no further than is asked for.

    Reading all of lm-eval's fourteen thousand task files takes many seconds.
    """

    def __init__(self, folder: Path | None) -> None:
        """Raises UserError if the folder does not exist or one of its files is not YAML."""
        from lm_eval.tasks._index import TaskIndex

        super().__init__()
        self.own: list[str] = []
        if folder is None:
            return
        if not folder.is_dir():
            raise UserError(f"include_path {folder} is not a folder: give a folder of lm-eval task YAMLs")
        _check_readable(folder)
        self.update(TaskIndex.build([folder]))
        self.own = sorted(self)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._find(name))

    def __missing__(self, name: str) -> Any:
        if self._find(name):
            return self[name]
        raise KeyError(name)

    def _find(self, name: str) -> bool:
        """Look for a name in lm-eval's own tasks: first in the files called so, then in all of them."""
        entry = _shipped_entry(name)
        if entry is None and _mentioning(name):
            entry = _shipped_index().get(name)
            for key, value in _shipped_index().items():
                self.setdefault(key, value)
        if entry is not None:
            self.setdefault(name, entry)
        return super().__contains__(name)

    def unknown(self, name: str) -> str:
        """The sentence about a name that does not exist."""
        known = [*self.own, *sorted({path.stem for path in _shipped_files()})]
        close = difflib.get_close_matches(name, known, n=5) or self.own[:5]
        hint = f"did you mean {', '.join(close)}?" if close else "`lm-eval ls tasks` lists its names"
        return f"lm-eval has no task, group or tag {name!r}, nor does include_path: {hint}"


def _shipped_folder() -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


@cache
def _shipped_files() -> tuple[Path, ...]:
    """Every task file of lm-eval; templates have no suffix, but `yaml` in their names."""
    return tuple(sorted(p for p in _shipped_folder().rglob("*yaml") if p.is_file()))


@cache
def _shipped_texts() -> tuple[tuple[Path, bytes], ...]:
    """Every task file of lm-eval with what it says, 20 MB in all."""
    return tuple((path, path.read_bytes()) for path in _shipped_files())


def _mentioning(name: str) -> list[Path]:
    """The task files that the name stands anywhere in, those that are called so first."""
    paths = [path for path, text in _shipped_texts() if name.encode() in text]
    return sorted(paths, key=lambda path: path.stem != name)


def _shipped_entry(name: str) -> Any:
    """The task or group that one of lm-eval's files defines, None if there is none."""
    from lm_eval.tasks._index import TaskIndex

    for path in _mentioning(name):
        if path.suffix == ".yaml" and (entry := TaskIndex.entry_from_path(path)) and entry.name == name:
            return entry
    return None


@cache
def _shipped_index() -> dict[str, Any]:
    """All of lm-eval's tasks, groups and tags."""
    from lm_eval.tasks._index import TaskIndex

    index: dict[str, Any] = TaskIndex.build([_shipped_folder()])
    return index


def _check_readable(folder: Path) -> None:
    """Raises UserError for a file that lm-eval would skip without a word."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for path in sorted(folder.rglob("*.yaml")):
        try:
            load_yaml(path, resolve_func=False)
        except Exception as error:
            raise UserError(f"{path} is not an lm-eval task YAML: {one_line(error)}") from error


# The steps of lm-eval's factory that are done here


def _full_config(
    data_dir: str | None, downloads: bool, original: Any, entry: Any, overrides: Any = None
) -> dict[str, Any]:
    """lm-eval's `TaskFactory._load_full_config`, with the paths of data files made absolute."""
    runs_code = _refuse_unsupported(entry, overrides)
    folder = entry.yaml_path.parent if entry.yaml_path else None
    own = trusts_everything()
    # Its functions ask for the metric that runs programs as soon as they are imported. Others ask for metrics
    # whose code `evaluate` takes from the working directory before all else, which may be a stranger's.
    sandboxed = nullcontext() if own and not runs_code else in_place_of_code_eval()
    with sandboxed, nltk_downloads(entry.name, folder, allowed=downloads):
        config: dict[str, Any] = original(entry, overrides)
    if (how := makes_code(config)) is not None:
        raise UserError(
            f"lm-eval task {entry.name} makes code of texts, such as what the model wrote ({how}), in a way "
            "that no sandbox here can take over: leave it out"
        )
    if not own and (how := makes_code(config, FINDS_CODE)) is not None:
        raise UserError(
            f"lm-eval task {entry.name} finds code by a name as it scores ({how}), and that is not done for "
            "what data name: run it with a config of your own"
        )
    base = data_dir or folder or "."
    resolve_data_files(config, Path(base).resolve(), entry.name)
    return config


def _build_task(
    absent: list[str],
    warnings: list[str],
    warned: dict[str, list[str]],
    original: Any,
    entry: Any,
    overrides: Any,
) -> Any:
    """lm-eval's `TaskFactory._build_task`, with its errors as sentences, and its warnings kept by task.

    Where something is not on this machine it is noted, and the other tasks of the group are looked at.
    """
    before = len(warnings)
    try:
        task = original(entry, overrides)
        warned[getattr(task, "task_name", entry.name)] = warnings[before:]
        return task
    except Absent as error:
        absent.append(str(error))
        return SimpleNamespace(name=entry.name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(_not_built(entry.name, error)) from error


def _not_built(name: str, error: Exception) -> str:
    """Why a task could not be built, and what to do."""
    from datasets.exceptions import DatasetsError

    if (why := why_not_built(error)) is not None:
        return f"lm-eval task {name} cannot be built: {why}"
    if isinstance(error, OSError | DatasetsError):
        return (
            f"the data of lm-eval task {name} cannot be reached ({one_line(error)}): see that there is a "
            "network and that they are not gated, or use a task YAML whose data_files are on this machine"
        )
    return f"lm-eval task {name} cannot be built: {type(error).__name__}: {one_line(error)}"


def _refuse_unsupported(entry: Any, overrides: Any) -> bool:
    """Raises UserError for what cannot be asked here; tells whether the task runs code of the model."""
    from lm_eval.tasks._yaml_loader import load_yaml

    stated = load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else entry.cfg
    name, config = entry.name, {**(stated or {}), **(overrides or {})}
    if any(config.get(key) for key in MULTIMODAL_KEYS):
        raise UserError(
            f"lm-eval task {name} shows images or audio, and engines here take text: leave it out"
        )
    if not config.get("unsafe_code", True):
        raise UserError(
            f"lm-eval task {name} says `unsafe_code: false`, which would hide that it runs what the model "
            "wrote: leave the key out"
        )
    if config.get("unsafe_code"):
        check_available()
    return bool(config.get("unsafe_code"))


RANDOM_SEED, NUMPY_SEED = 0, 1234
"""lm-eval's own where none is stated."""


@contextmanager
def seeded() -> Iterator[None]:
    """Python's and numpy's global generators as lm-eval's `simple_evaluate` seeds them, while inside.

    Some tasks shuffle the choices of their questions with them as they load.
    """
    import numpy as np

    states = random.getstate(), np.random.get_state()
    random.seed(RANDOM_SEED)
    np.random.seed(NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


# Digests


def portable_config(config: Any) -> dict[str, Any]:
    """A task's config without what differs from machine to machine: paths, and addresses of functions."""
    plain: dict[str, Any] = _portable(dataclasses.asdict(config))
    for key, local in (("metadata", "config_source"), ("dataset_kwargs", "data_files")):
        (plain[key] or {}).pop(local, None)
    return plain


def _portable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    if callable(value):
        try:
            return inspect.getsource(value)
        except (TypeError, OSError):  # not written in Python
            return getattr(value, "__qualname__", type(value).__qualname__)
    return value
