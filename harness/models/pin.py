"""`harness pin`: the commits of hub repositories, written into the files that name the models."""

import re
from pathlib import Path
from typing import Any

from harness import config as configs
from harness.config import Document, KeyPath, ModelSpec
from harness.disk import replace
from harness.errors import UserError
from harness.models import hub


def pin(target: str) -> list[str]:
    """Pin a model of the registry by name, the model of a YAML file, or every model of a run config.

    A revision that stands there is replaced by the commit that it stands for.

    Returns:
        A line for each model.

    Raises:
        UserError: there is no such model or file, or the hub cannot be asked.
    """
    document = Document(_file(target))
    if not isinstance(document.data, dict):
        raise UserError(f"{document.path}: expected the file of a model or of a run")
    if "models" not in document.data:
        return [_pin_spec(document, document.data, ())]
    return [
        _pin_entry(document, entry, ("models", index))
        for index, entry in enumerate(document.data["models"] or ())
    ]


def _file(target: str) -> Path:
    if target.endswith((".yaml", ".yml")):
        return Path(target)
    configs.load_model(target)  # refuses a name that is not in the registry, with those that are
    return configs.registry() / "models" / f"{target}.yaml"


def _pin_entry(document: Document, entry: Any, at: KeyPath) -> str:
    if isinstance(entry, dict):
        return _pin_spec(Document(document.path), entry, at)
    path = str(document.path.parent / entry) if str(entry).startswith(("./", "../")) else str(entry)
    return pin(path)[0]


def _pin_spec(document: Document, data: dict[str, Any], at: KeyPath) -> str:
    spec = document.convert(data, ModelSpec, at)
    if Path(configs.locate(spec.path)).is_dir():
        return f"{spec.name}: a folder on this machine, known by the hash of its files"
    sha = hub.commit(spec.path, spec.revision)
    _write(document, at, sha)
    return f"{spec.name}: {spec.path}@{sha}"


def _write(document: Document, at: KeyPath, sha: str) -> None:
    """Set the revision in the file itself, so that comments and order stay."""
    lines = document.path.read_text(encoding="utf8").splitlines(keepends=True)
    known = (*at, "revision") in document.lines
    number = document.lines[(*at, "revision" if known else "path")] - 1
    if known:
        lines[number] = re.sub(r"(\brevision:\s*)[^\s,}#]+", rf"\g<1>{sha}", lines[number])
    elif match := re.match(r"(\s*)(- )?path:", lines[number]):
        lines.insert(number + 1, f"{match[1]}{'  ' if match[2] else ''}revision: {sha}\n")
    else:
        raise UserError(f"{document.where(at)}: write `revision: {sha}` yourself: keys share a line here")
    replace(document.path, "".join(lines).encode())
    if sha not in lines[number] + lines[min(number + 1, len(lines) - 1)]:
        raise UserError(f"{document.where(at)}: write `revision: {sha}` yourself: the line is not understood")
