"""Where things lie: the registry, and the paths that a config names.

`harness:some/path` lies inside the installed package, `configs:some/path` in its registry; `./x` and `../x`
are relative to the file that says so; `${VARIABLE}` is replaced when the path is used; else it is as written.
A relative path is held as `FOLDER/./x`, where FOLDER is that of the run config, and kept as `./x`: neither
digest nor results depend on where a checkout lies.
"""

import difflib
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.config.schemas import RunConfig
from harness.errors import UserError


def registry() -> Path:
    """The folder with the specs that ship with the harness."""
    inside = Path(str(files("harness"))) / "configs"
    return inside if inside.is_dir() else inside.parent.parent / "configs"


def names(kind: str) -> list[str]:
    """Names of the specs in the registry: `models`, `suites` or `runs`."""
    return sorted(path.stem for path in (registry() / kind).glob("*.yaml"))


def bare_name(path: str) -> str:
    """What a checkpoint is called that has no spec: the last part of its folder or hub id."""
    return re.sub(r"[^\w.-]+", "-", Path(path).name or Path.cwd().name).lower()


def spec_of(hub_id: str) -> str | None:
    """The name of the model of the registry whose weights have this id on the hub, None if there is none."""
    stated_path = re.compile(rf"^path:\s*['\"]?{re.escape(hub_id)}['\"]?\s*(#.*)?$", re.MULTILINE)
    files = sorted((registry() / "models").glob("*.yaml"))
    return next((file.stem for file in files if stated_path.search(file.read_text(encoding="utf8"))), None)


def find(kind: str, name: str) -> Path:
    """The file of a spec: a name of the registry's folder `kind`, or a path. Raises UserError."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = registry() / kind / f"{name}.yaml"
    if not path.is_file():
        known = names(kind)
        close = nearest(name, known) or known
        few = ", ".join(close[:FEW]) + (f" and {len(close) - FEW} more" if len(close) > FEW else "")
        raise UserError(
            f"there is no {kind.removesuffix('s')} {name!r} in {registry() / kind}: "
            f"use one of {few}, or the path of a YAML file"
        )
    return path


FEW = 12
"""So many names are told where none is near."""


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """Names that may be meant by a mistyped one: at most three that are spelled alike, else that hold it."""
    low = name.lower()
    return difflib.get_close_matches(low, known, n=3) or [one for one in known if low in one.lower()][:3]


def locate(path: str) -> str:
    """A path of a config as one of this machine; a hub id stays as it is.

    Raises:
        UserError: it names an environment variable that is not set.
    """
    if path.startswith("harness:"):
        return str(Path(str(files("harness"))) / path.removeprefix("harness:"))
    if path.startswith("configs:"):
        return str(registry() / path.removeprefix("configs:"))
    for variable in re.findall(r"\$\{(\w+)\}", path):
        if variable not in os.environ:
            raise UserError(f"{path!r} needs the environment variable {variable}: set it to a folder")
        path = path.replace(f"${{{variable}}}", os.environ[variable])
    return path


def relative_paths(data: dict[str, Any], base: Path, folder: Path) -> dict[str, Any]:
    """The mapping with values that begin with ./ or ../ told from another folder, or from the registry."""
    return {
        key: _relative_path(value, base, folder) if isinstance(value, str) else value
        for key, value in data.items()
    }


def _relative_path(value: str, base: Path, folder: Path) -> str:
    if not value.startswith(("./", "../")):
        return value.replace("/./", "/") if value.startswith("/") else value
    target = Path(os.path.normpath(base.absolute() / value))  # symbolic links stay: they may lead anywhere
    if target.is_relative_to(registry()):
        return f"configs:{target.relative_to(registry())}"
    return f"{folder.absolute()}/./{os.path.relpath(target, folder.absolute())}"


def as_written(path: str) -> str:
    """A path as a run config says it, whatever folder that lies in."""
    _, separator, rest = path.partition("/./")
    if not separator:
        return path
    return rest if rest.startswith("../") else f"./{rest}"


def base_folder(config: RunConfig) -> Path | None:
    """What the relative paths of a config are relative to, None if it has none."""
    options = [value for suite in config.suites for value in (*suite.options.values(), *suite.judge)]
    weights = [path for model in config.models for path in (model.path, model.adapter)]
    for value in (*options, *config.judge, *weights):
        if isinstance(value, str) and value != as_written(value):
            return Path(value.partition("/./")[0])
    return None
