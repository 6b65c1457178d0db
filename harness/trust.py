"""Whose code may be run. Data, such as a run directory or a transcript, names things and brings no code.

A name in data stands for what the installed package ships. Code of the reader's own comes from a config that
the reader runs, from folders that the reader names (`--trust-code DIR`), or from a package that the reader
installed and that declares it as an entry point; whatever else a name leads to is refused unread.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.config import as_written, registry
from harness.errors import UserError

PLUGINS = "openweight_harness"
"""Prefix of the groups of entry points by which an installed package adds to the harness. A value is
`package.module` or `package.module:object`, and may be named by data too."""

KINDS = ("suites", "engines", "judges", "launchers", "code")
"""The groups: `openweight_harness.suites` adds adapters by name, and so on. `code` is for what has no name of
its own: task suites, attacks, detectors, aggregations."""


@dataclass(frozen=True)
class Trust:
    """What code may be loaded beside the installed package's own."""

    everything: bool = False
    """Whatever is named: the names stand in a config that its owner runs."""
    folders: tuple[Path, ...] = ()
    """Python files, packages and task folders below these. What a config calls `./x` is looked for there."""


OWN = Trust(everything=True)
"""For a config that the person at the command line runs."""

_TRUSTS = [OWN]
"""The last one holds, in every thread. Where nobody says otherwise a config is that of whoever loads it."""


class Untrusted(UserError):
    """Data name code that nobody at the command line has vouched for."""

    def __init__(self, what: str, path: str) -> None:
        """Args: what: it is said to be. path: as it is named."""
        super().__init__(
            f"{what} {as_written(path)!r} is neither a name that ships with the harness nor code that you "
            "trust, so it was not loaded: read it, then name its folder with --trust-code DIR"
        )


def plugins(kind: str) -> dict[str, str]:
    """Name -> what installed packages add under it, `package.module` or `package.module:object`.

    Args:
        kind: one of `KINDS`.
    """
    return _entry_points(tuple(sys.path)).get(kind, {})


@lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Kind -> what `plugins` says, of the packages on a path: to look at all of them takes a while."""
    points = entry_points()
    return {kind: {p.name: p.value for p in points.select(group=f"{PLUGINS}.{kind}")} for kind in KINDS}


@contextmanager
def trusting(trust: Trust) -> Iterator[None]:
    """Load code from there while inside."""
    _TRUSTS.append(trust)
    try:
        yield
    finally:
        _TRUSTS.pop()


def reading_data() -> AbstractContextManager[None]:
    """While inside, names are those of data that anybody may have made, not of a config of one's own."""
    return trusting(Trust() if trusts_everything() else _TRUSTS[-1])


def trusts_everything() -> bool:
    """Whether the names that are read now are those of a config that its owner runs."""
    return _TRUSTS[-1].everything


def load_object(path: str, what: str, *, in_records: bool = False) -> Any:
    """The object at `package.module:name`, or at `./file.py:name` beside the config.

    Args:
        path: where it is.
        what: what the config says it is, for the sentence of the error.
        in_records: whether the name stands with the records of a run. No config vouches for these: a run may
            be resumed in a folder that somebody else made.

    Raises:
        Untrusted: it is not code that may be run.
        UserError: the module cannot be imported or has no such name.
    """
    module, _, name = path.partition(":")
    free = trusts_everything() and not in_records
    found = None if free else _module_file(module)
    installed = {value for kind in KINDS for value in plugins(kind).values()}
    if not (free or found or {path, module} & installed):
        raise Untrusted(what, path)
    try:
        if module.endswith(".py"):
            loaded = _import_file(found or Path(module), Path(module).stem)
        else:
            loaded = _import_file(found, module) if found else importlib.import_module(module)
        return getattr(loaded, name)
    except Exception as error:  # whatever somebody's module raises
        raise UserError(
            f"{what} {as_written(path)!r} cannot be loaded ({type(error).__name__}: {error}): "
            "expected a known name, or package.module:name"
        ) from error


def own_folder(path: str) -> tuple[Path, bool]:
    """Where a folder lies that a config names, and whether code in it may be run."""
    if trusts_everything():
        return Path(path).resolve(), True
    if (found := _trusted(as_written(path))) is not None:
        return found, True
    folder = Path(path).resolve()
    return folder, any(
        folder.is_relative_to(own.resolve()) for own in (Path(str(files("harness"))), registry())
    )


def _trusted(written: str) -> Path | None:
    """What a path leads to within the trusted folders, None if nothing."""
    folders = [folder.resolve() for folder in _TRUSTS[-1].folders]
    for path in [(folder / written).resolve() for folder in folders]:
        if path.exists() and any(path.is_relative_to(folder) for folder in folders):
            return path
    return None


def _module_file(module: str) -> Path | None:
    """The file of a module in a trusted folder, None if there is none."""
    if module.endswith(".py"):
        return _trusted(as_written(module))
    inside = module.replace(".", "/")
    return _trusted(f"{inside}.py") or _trusted(f"{inside}/__init__.py")


def _import_file(file: Path, name: str) -> ModuleType:
    """A module by its file and name, with the modules that lie beside it.

    Raises:
        ImportError: there is no such file, or another module goes by its name.
    """
    if not file.is_file():
        raise ImportError(f"there is no file {file}")
    package = file.parent if file.name == "__init__.py" else file
    folder = str(package.resolve().parents[name.count(".")])
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.import_module(name)
    if not module.__file__ or not file.samefile(module.__file__):
        raise ImportError(f"another module is called {name}, at {module.__file__}: rename the file")
    return module
