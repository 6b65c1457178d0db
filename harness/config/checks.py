"""What a resolved config must be beside well-typed: one check a function, each with its sentence."""

import re
from collections.abc import Sequence
from pathlib import Path

from harness.config.located_yaml import Document, OptionError
from harness.config.paths import locate
from harness.config.schemas import ENGINES, ModelSpec, RunConfig, hub_id
from harness.config.variants import drawn_by
from harness.errors import UserError


def check(document: Document, config: RunConfig) -> None:
    """Raises UserError with the first thing that is wrong about a config, and where it stands."""
    _check_name(document, config.name)
    _check_engine(document, config.engine.kind)
    _check_countries(document, config.models)
    given = [model.name for model in config.models]
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise UserError(
            f"{document.where(('models',))}: {', '.join(twice)} is listed twice in `models`; give each once, "
            "and variants names of their own by `as`"
        )
    _check_remote_code(document, config.models)
    _check_sampling(document, config)
    if config.published:
        _check_pinned(document, config.models)


def _check_engine(document: Document, kind: str) -> None:
    if kind not in ENGINES and not re.fullmatch(r"[\w.]+:\w+", kind):
        raise UserError(
            f"{document.where(('engine', 'kind'))}: key `engine.kind`: there is no engine {kind!r}: "
            f"use one of {', '.join(ENGINES)}, or package.module:factory of your own"
        )


def _check_name(document: Document, name: str) -> None:
    """Results go to a folder of this name."""
    if not re.fullmatch(r"\w[\w. -]*", name):
        raise UserError(
            f"{document.where(('name',))}: key `name`: {name!r} cannot be the name of a folder: use letters, "
            "digits, spaces, `.`, `_` and `-`, and begin with a letter or digit"
        )


def _check_countries(document: Document, models: Sequence[ModelSpec]) -> None:
    """Two spellings of a country would be two origins."""
    for i, model in enumerate(models):
        if not re.fullmatch(r"[A-Z]{2}", model.origin.country):
            where = model.where("origin.country") or f"{document.where(('models', i))}: "
            raise UserError(
                f"{where}model {model.name}: key "
                f"`origin.country`: expected two capitals of ISO 3166-1, such as CN or US, not "
                f"{model.origin.country!r}"
            )


def _check_remote_code(document: Document, models: Sequence[ModelSpec]) -> None:
    for index, model in enumerate(models):
        if model.trust_remote_code and model.revision is None and not Path(locate(model.path)).is_dir():
            raise UserError(
                f"{document.where(('models', index))}: {model.name} sets trust_remote_code, which runs code "
                "from its repository: pin the `revision` that you have read"
            )


def _check_sampling(document: Document, config: RunConfig) -> None:
    """What a model is to be drawn by is there, and is a sampling."""
    for index, model in enumerate(config.models):
        try:
            drawn_by(config.sampling, model)
        except OptionError as error:
            raise UserError(f"{document.where(('models', index, error.option))}: {error}") from error


def _check_pinned(document: Document, models: Sequence[ModelSpec]) -> None:
    for index, model in enumerate(models):
        loose = model.adapter and model.adapter_revision is None and hub_id(model.adapter)
        if loose:
            raise UserError(
                f"{document.where(('models', index))}: a published run needs the commit of the adapter of "
                f"{model.name}: set `adapter_revision`, or drop `published`"
            )
        if model.revision is None and not Path(locate(model.path)).is_dir():
            raise UserError(
                f"{document.where(('models', index))}: a published run needs the revision of {model.name}: "
                f"run `harness pin {document.path}`, or drop `published`"
            )
