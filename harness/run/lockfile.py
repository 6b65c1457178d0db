"""The lock beside a config: what was fetched for it, which runs are held to.

`<name>.lock.json`: the commit of each model and the hash of every file that it computes with, the commit of
each data set, and what each suite's protocol says of its samples.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from harness.config import ModelSpec, as_written, changed_keys
from harness.disk import replace
from harness.errors import UserError
from harness.models import checkpoint
from harness.models.hashes import file_hash
from harness.types import Struct


class LockedModel(Struct):
    """A checkpoint as it was fetched."""

    path: str
    asked: str | None
    """The revision that the config names."""
    revision: str | None
    """The commit that this stood for on the hub, None for a folder."""
    files: dict[str, str]
    """Name -> hash; see `harness.models.hashes`."""


class Lock(Struct):
    """What a config was fetched as."""

    models: dict[str, LockedModel]
    datasets: dict[str, str]
    """`repository` or `repository@revision`, as suites asked for it -> the commit that was fetched."""
    suites: dict[str, dict[str, str]]
    """Suite -> field -> value of what its protocol says of its samples."""
    schema_version: int = 2


def lock_path(config: Path) -> Path:
    """Where the lock of a config lies."""
    return config.with_name(f"{config.stem}.lock.json")


def read_lock(config: Path | None) -> Lock | None:
    """The lock beside a config, None if there is none, as where no file has the config.

    Raises:
        UserError: it cannot be read.
    """
    path = lock_path(config) if config else None
    if path is None or not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lock)
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is not a lock ({error}): remove it, or fetch again") from error


def write_lock(config: Path, lock: Lock) -> Path:
    """Put a lock beside its config; returns where."""
    path = lock_path(config)
    text = msgspec.json.format(msgspec.json.encode(lock, order="sorted"), indent=2)
    replace(path, text + b"\n")
    return path


def hold(spec: ModelSpec, lock: Lock | None) -> ModelSpec:
    """A model at the commit that it was locked at, as it is if it was not locked."""
    locked = lock.models.get(spec.name) if lock else None
    if locked is None or locked.revision is None or not same_model(spec, locked):
        return spec
    return msgspec.structs.replace(spec, revision=locked.revision)


def same_model(spec: ModelSpec, locked: LockedModel) -> bool:
    """Whether a spec asks for what was fetched. One that was held names the commit."""
    return locked.path == as_written(spec.path) and spec.revision in (locked.asked, locked.revision)


def file_hashes(folder: Path) -> dict[str, str]:
    """Name -> hash of every file that a checkpoint computes with."""
    return {file.name: file_hash(file) for file in checkpoint.files(folder)}


def differences(
    lock: Lock, specs: Mapping[str, ModelSpec], suites: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """What would be run and is not what was fetched, a sentence each.

    Args:
        lock: what was fetched.
        specs: models by name, at the commits that they would be run at.
        suites: suites by name, with what their protocols say of their samples.
    """
    for name, content in suites.items():
        if (locked := lock.suites.get(name)) is None:
            yield f"suite {name} is not in the lock"
        elif changed := changed_keys(locked, content):
            yield f"suite {name} is not the one that was fetched ({', '.join(changed)} changed)"
    for name, spec in specs.items():
        if (model := lock.models.get(name)) is None:
            yield f"model {name} is not in the lock"
        elif not same_model(spec, model):
            yield f"model {name} is not the one that was fetched (path or revision changed)"
        elif (folder := checkpoint.find(spec)) and (
            changed := changed_keys(model.files, file_hashes(folder))
        ):
            yield f"model {name} is not the one that was fetched ({', '.join(changed)} in {folder} changed)"
