"""A model of a plan: what can be known of it before it is loaded, and what keeps it from being."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from harness.config import EngineSpec, ModelSpec, OptionError, as_written, locate
from harness.errors import UserError
from harness.models import checkpoint, hub
from harness.models.adapter import Adapter, check_base
from harness.models.adapter import find as find_adapter
from harness.models.adapter import read as read_adapter
from harness.models.parsers import class_errors, missing_tokens, parser_errors, quantization_errors
from harness.models.registry import with_stated_bases
from harness.models.tokenizer import check_tokenizer
from harness.types import Architecture


@dataclass(frozen=True)
class PlannedModel:
    """A model of the run, with what its checkpoint says where that is on this machine."""

    spec: ModelSpec
    architecture: Architecture | None
    folder: Path | None = None
    """Of the checkpoint, or of the small files of one on the hub; None where vLLM does not load it."""
    adapter: Adapter | None = None
    """What is put over its weights."""

    @property
    def called(self) -> str:
        """How the model is called in prose."""
        return self.spec.called or self.spec.name


def check_model(spec: ModelSpec, engine: EngineSpec) -> tuple[PlannedModel, list[str]]:
    """A model as far as it can be read without its weights, and why an engine could not load it."""
    read = PlannedModel(spec, None)
    if engine.kind != "vllm":
        return read, []
    engine_args = {**engine.args, **spec.engine_args}
    problems = [f"{spec.where(error.option)}{error}" for error in parser_errors(spec, engine_args)]
    try:
        read = _with_adapter(_read_model(spec, engine_args))
    except OptionError as error:
        problems.append(f"{spec.where(error.option)}{error}")
    else:
        config = checkpoint.read_config(read.folder) if read.folder else {}
        problems += [
            f"{spec.where(error.option)}{error}"
            for refused in (class_errors, quantization_errors)
            for error in refused(spec, config, engine_args)
        ]
    if not problems and read.architecture and (folder := checkpoint.find(spec)):
        problems += [f"{spec.where(error.option)}{error}" for error in missing_tokens(spec, folder)]
    return read, problems


def _read_model(spec: ModelSpec, engine_args: Mapping[str, Any]) -> PlannedModel:
    """Raises OptionError if there is no such model, or it is not whole."""
    try:
        folder = checkpoint.find(spec)
        if folder:
            architecture = checkpoint.inspect(folder)
            check_tokenizer(folder, engine_args)
            return PlannedModel(
                spec if spec.adapter else with_stated_bases(spec, folder), architecture, folder
            )
    except UserError as error:
        raise OptionError(str(error), "path") from error
    try:
        sha = hub.commit(spec.path, spec.revision)
    except UserError as error:
        raise OptionError(str(error), "revision" if spec.revision else "path") from error
    return PlannedModel(spec, None, _small_files(spec.path, sha))


def _with_adapter(read: PlannedModel) -> PlannedModel:
    """A model with what its adapter says. Raises OptionError if it cannot be put over these weights."""
    spec, architecture = read.spec, read.architecture
    try:
        if (folder := find_adapter(spec)) is None:
            return read
        over = read_adapter(folder)
        check_base(over, spec, read.folder, whole=architecture is not None)
    except UserError as error:
        raise OptionError(str(error), "adapter") from error
    if architecture is not None:  # or two models of one base would be taken for the same weights
        both = hashlib.sha256(f"{architecture.weights_hash}\n{over.digest}".encode()).hexdigest()
        architecture = structs.replace(architecture, weights_hash=both)
    return PlannedModel(with_stated_bases(spec, folder), architecture, read.folder, over)


def _small_files(repository: str, sha: str) -> Path | None:
    """A folder with what a repository says of its prompts, so that a download changes no cell."""
    try:
        for name in checkpoint.TEMPLATE_FILES:
            hub.file(repository, name, sha)
        return hub.config_folder(repository, sha)
    except UserError:  # it has no config.json, which vLLM says with more reason
        return None


def weights_identity(model: PlannedModel) -> str:
    """What tells two checkpoints apart: the commit of the hub's, of others the digest of their files.

    An adapter's digest stands behind that of its base.

    A commit does not change as its weights are downloaded, nor from one machine to the next.
    """
    base = _base_identity(model)
    return f"{base}+{model.adapter.digest}" if model.adapter else base


def _base_identity(model: PlannedModel) -> str:
    spec, folder = model.spec, model.folder
    if Path(locate(spec.path)).is_dir() and model.architecture and model.architecture.weights_hash:
        return model.architecture.weights_hash
    if folder is not None and folder.parent.name == "snapshots":
        return folder.name
    return f"{as_written(spec.path)}@{spec.revision}" if spec.revision else as_written(spec.path)
