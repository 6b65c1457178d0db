"""From files to a resolved config: names looked up, overrides set, paths told, everything checked."""

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.config.checks import check
from harness.config.located_yaml import (
    Document,
    KeyPath,
    NoDocument,
    OptionError,
    dotted,
    explain,
    fields,
    unknown_key,
)
from harness.config.paths import bare_name, find, locate, names, relative_paths, spec_of
from harness.config.schemas import ModelSpec, RunConfig, hub_id
from harness.config.variants import VariantEntry, named, pass_on, split_name, sweep, vary
from harness.errors import UserError

T = TypeVar("T")


def load_options(options: Mapping[str, Any], kind: type[T], what: str) -> T:
    """Options as an adapter's own struct, with their paths as this machine's.

    Raises:
        OptionError: a key is unknown or missing, or a value has the wrong type.
    """
    located = {}
    for key, value in options.items():
        try:
            located[key] = locate(value) if isinstance(value, str) else value
        except UserError as error:
            raise OptionError(f"{what}: {error}", key) from error
    try:
        return msgspec.convert(located, kind, strict=True)
    except msgspec.ValidationError as error:
        message, at = explain(error, kind)
        raise OptionError(f"{what}: {message}", str(at[0]) if at else "") from error


def load_model(name: str, folder: Path | None = None) -> ModelSpec:
    """A model of the registry by name, or of a YAML file by path.

    Args:
        name: which.
        folder: from which relative paths are told; that of the file if not given.

    Raises:
        UserError: there is no such model, or its file is not right.
    """
    document = Document(find("models", name))
    data, base = document.data, document.path.parent
    if isinstance(data, dict):
        data = _relative_model(document, data, (), base, folder or base)
    return document.convert(data, ModelSpec)


def load_config(path: Path | None, overrides: Sequence[str] = (), folder: Path | None = None) -> RunConfig:
    """Read, override, check and resolve a run config.

    Args:
        path: the YAML file, or the name of one that ships with the harness; None where overrides say it all.
        overrides: `key=value`, keys dotted (`sampling.max_tokens=64`, `suites.0.limit=10`), values YAML.
        folder: what ./ and ../ of the file are relative to; its own folder if not given (without a file, the
            working directory).

    Raises:
        UserError: anything about it is wrong; the sentence says where and what to do.
    """
    if path and not path.exists() and re.fullmatch(r"[\w-]+", str(path)):
        path = find("runs", str(path))
    document = Document(path) if path else NoDocument()
    if not isinstance(document.data, dict):
        raise UserError(f"{path}: expected a mapping with the keys {', '.join(fields(RunConfig))}")
    data = dict(document.data)
    for override in overrides:
        document.overrides[_override(data, override)] = override
    folder = folder or (path.parent if path else Path())
    for key, resolve in (("models", _resolve_model), ("suites", _resolve_suite)):
        entries = data.get(key)
        if not isinstance(entries, list) or not entries:
            raise UserError(f"{document.where((key,))}: key `{key}`: expected a list of at least one")
        data[key] = [resolve(document, entry, (key, i), folder) for i, entry in enumerate(entries)]
    if "judge" in data:
        data["judge"] = _judges(data["judge"], folder, folder)
    if "sweep" in data:
        data["models"] = _sweep(document, data["models"], data.pop("sweep"))
    if "sampling" in data:
        data["sampling"] = pass_on(data["sampling"], data["models"])
    if isinstance(data.get("date"), datetime.date):  # YAML reads a day as one
        data["date"] = data["date"].isoformat()
    config = document.convert(data, RunConfig)
    check(document, config)
    return config


def _override(data: dict[str, Any], text: str) -> KeyPath:
    """Set what an override says, and return its key."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r} is not an override: expected key=value, such as sampling.max_tokens=64")
    *parents, last = key.split(".")
    target: Any = data
    for part in parents:
        target = _step(target, part, text)
    if isinstance(target, str):
        raise UserError(f"override {text!r}: {'.'.join(parents)} is a name; override a mapping's key instead")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"override {text!r}: the value is not YAML; put quotes around it") from error
    if isinstance(target, list):
        _step(target, last, text)
        target[int(last)] = parsed
    else:
        target[last] = parsed
    return tuple(int(part) if part.isdigit() else part for part in (*parents, last))


def _step(target: Any, part: str, override: str) -> Any:
    if isinstance(target, dict):
        return target.setdefault(part, {})
    if isinstance(target, list) and part.isdigit() and int(part) < len(target):
        return target[int(part)]
    raise UserError(f"override {override!r}: there is nothing at {part!r} to set")


def _resolve_model(document: Document, entry: Any, at: KeyPath, folder: Path) -> Any:
    if isinstance(entry, dict) and "model" in entry:
        of = document.convert(_resolve_model(document, entry["model"], (*at, "model"), folder), ModelSpec)
        entry |= relative_paths({key: entry[key] for key in ("adapter",) if key in entry}, folder, folder)
        return _vary(document, of, document.convert(entry, VariantEntry, at), at)
    if isinstance(entry, dict):
        return _relative_model(document, entry, at, folder, folder)
    if not isinstance(entry, str):
        raise UserError(
            f"{document.where(at)}: expected the name of a model, a folder, a hub id, or a mapping with facts"
        )
    model, variant = split_name(entry)
    if variant and not (folder / entry).is_dir():
        return _vary(
            document, document.convert(_resolve_model(document, model, at, folder), ModelSpec), variant, at
        )
    if "/" in entry and not entry.endswith((".yaml", ".yml")):
        if hub_id(entry) and not (folder / entry).is_dir() and (spec := spec_of(entry)):
            return msgspec.to_builtins(load_model(spec, folder))
        bare = {"name": bare_name(entry), "path": entry}
        return _relative_model(document, bare, at, folder, folder)
    if entry.startswith(("./", "../")):
        entry = str(folder / entry)
    try:
        return msgspec.to_builtins(load_model(entry, folder))
    except UserError as error:
        raise UserError(f"{document.where(at)}: {error}") from error


def _sweep(document: Document, models: list[Any], over: Any) -> list[Any]:
    """Every model in every combination of the values of a sweep. Raises UserError."""
    if not isinstance(over, dict) or not all(isinstance(values, list) and values for values in over.values()):
        raise UserError(
            f"{document.where(('sweep',))}: key `sweep`: expected keys of a variant, each with a list of "
            "values, such as {mode: [thinking, instruct], sampling.temperature: [0, 0.7]}"
        )
    specs = [document.convert(model, ModelSpec, ("models", place)) for place, model in enumerate(models)]
    try:
        return [msgspec.to_builtins(variant) for spec in specs for variant in sweep(spec, over)]
    except OptionError as error:
        raise UserError(f"{document.where(('sweep',))}: key `sweep`: {error}") from error


def _vary(document: Document, spec: ModelSpec, variant: VariantEntry | str, at: KeyPath) -> Any:
    """A model with a variant of it, which is named, or written out."""
    try:
        return msgspec.to_builtins(vary(spec, named(spec, variant) if isinstance(variant, str) else variant))
    except OptionError as error:
        where = document.where((*at, error.option) if error.option else at)
        raise UserError(f"{where}: {error}") from error


def _relative_model(
    document: Document, entry: dict[str, Any], at: KeyPath, base: Path, folder: Path
) -> dict[str, Any]:
    if "lines" in entry:
        message = unknown_key("lines", fields(ModelSpec))
        raise UserError(f"{document.where((*at, 'lines'))}: {message}")
    path = {key: value for key, value in entry.items() if key in ("path", "adapter")}
    inside = {dotted(key[len(at) :]): document.where(key) for key in document.inside(at)}
    return {**entry, **relative_paths(path, base, folder), "lines": {"": document.where(at)} | inside}


def _resolve_suite(document: Document, entry: Any, at: KeyPath, folder: Path) -> dict[str, Any]:
    if isinstance(entry, str):
        try:
            named = Document(find("suites", entry))
        except UserError as error:
            raise UserError(f"{document.where(at)}: {error}") from error
        name = Path(entry).stem if entry.endswith((".yaml", ".yml")) else entry
        return {"name": name, **_resolve_suite(named, named.data, (), folder)}
    if not isinstance(entry, dict) or not isinstance(entry.get("adapter"), str):
        raise UserError(
            f"{document.where(at)}: expected the name of a suite ({', '.join(names('suites'))}), "
            "or a mapping with the key `adapter` and its options"
        )
    options = {k: v for k, v in entry.items() if k not in ("adapter", "name", "judge")}
    base = folder if at else document.path.parent
    resolved = {
        "adapter": entry["adapter"],
        "judge": _judges(entry.get("judge", []), base, folder),
        "options": relative_paths(options, base, folder),
        "lines": {"": document.where(at), **{str(k): document.where((*at, k)) for k in options}},
    }
    return resolved | ({"name": entry["name"]} if "name" in entry else {})


def _judges(value: Any, base: Path, folder: Path) -> Any:
    """One judge or several as a list, files among them told from the run config's folder."""
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list):
        return named  # which the schema refuses
    return [relative_paths({"": one}, base, folder)[""] for one in named]
