"""How tokens are got. `open_engine` turns a run's engine spec and a model into a loaded `Engine`."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from harness.config import EngineSpec, ModelSpec, locate
from harness.engines.base import Engine
from harness.errors import UserError
from harness.models import adapter
from harness.trust import load_object, plugins
from harness.types import Variant


def check_engine(spec: EngineSpec, models: Sequence[ModelSpec]) -> None:
    """Check an engine and its arguments as far as that goes without starting it.

    vLLM's own arguments are checked when it starts: to know them takes seconds.

    Raises:
        UserError: there is no such engine, or its arguments are not right.
    """
    adapted = next((model for model in models if model.adapter), None)
    if adapted is not None and spec.kind != "vllm":
        raise UserError(
            f"engine.kind {spec.kind!r} puts no adapter over a model, as {adapted.name} asks: use `vllm`, or "
            "name the adapter as a model of its own where a server has loaded it"
        )
    if spec.kind == "endpoint":
        from harness.engines.endpoint import Arguments

        for model in models:
            try:
                msgspec.convert({**spec.args, **model.engine_args}, Arguments)
            except msgspec.ValidationError as error:
                raise UserError(
                    f"engine.args of `endpoint`: {error}; base_url is http://localhost:8000/v1, say"
                ) from error
    elif spec.kind != "vllm":
        factory = _factory(spec.kind)
        try:
            inspect.signature(factory).bind(models[0], {})
        except (TypeError, ValueError) as error:
            raise UserError(
                f"engine.kind {spec.kind!r} is not a factory of engines: expected an async function "
                "(ModelSpec, dict of arguments) -> Engine"
            ) from error
        asked = next((model for model in models if _is_asked(model.variant)), None)
        if asked is not None and "variant" not in inspect.signature(factory).parameters:
            raise UserError(
                f"engine.kind {spec.kind!r} asks models in one way, and {asked.name} is a variant: give the "
                "factory a parameter `variant`, or measure the model itself"
            )


def _is_asked(variant: Variant) -> bool:
    """Whether a variant changes requests; how replies are drawn any engine is told anyway."""
    return msgspec.structs.replace(variant, mode=None, reasoning_effort=None, sampling={}) != Variant()


def one_load(spec: EngineSpec, models: Iterable[ModelSpec]) -> list[list[ModelSpec]]:
    """Models in the groups that one load of the weights serves.

    Of vLLM, those are the variants of a checkpoint, and the adapters over it.
    """
    groups: dict[Any, list[ModelSpec]] = {}
    for model in models:
        loaded = msgspec.json.encode(
            (
                *(model.path, model.revision, model.trust_remote_code),
                *(model.tool_call_parser, model.reasoning_parser, model.engine_args),
            ),
            order="sorted",
        )
        groups.setdefault(loaded if spec.kind == "vllm" else model.name, []).append(model)
    return list(groups.values())


async def open_variants(
    spec: EngineSpec, models: Sequence[ModelSpec], day: str | None = None
) -> dict[str, Engine | UserError]:
    """Load what several variants share; returns name -> engine, or why one cannot be asked as it says.

    To close one of them is to close all.

    Args:
        spec: as of `open_engine`.
        models: of one group of `one_load`.
        day: as of `open_engine`.

    Raises:
        UserError: as `open_engine`, or none of them can be asked.
    """
    if spec.kind == "vllm":
        return await _open_vllm(spec, models, day)
    return {model.name: await open_engine(spec, model, day) for model in models}


async def _open_vllm(
    spec: EngineSpec, models: Sequence[ModelSpec], day: str | None
) -> dict[str, Engine | UserError]:
    """As `open_variants`, all on one load."""
    from harness.engines.vllm.engine import VllmEngine

    shared = models[0]
    adapters = {model.name: adapter.read(folder) for model in models if (folder := adapter.find(model))}
    loaded = await VllmEngine.start(
        locate(shared.path),
        revision=shared.revision,
        tool_call_parser=shared.tool_call_parser,
        reasoning_parser=shared.reasoning_parser,
        trust_remote_code=shared.trust_remote_code,
        engine_args={**spec.args, **shared.engine_args},
        day=day,
        adapters=list({each.digest: each for each in adapters.values()}.values()),
    )
    opened: dict[str, Engine | UserError] = {}
    try:
        for model in models:
            over = adapters.get(model.name)
            try:
                asked = loaded.as_variant(model.variant)
                opened[model.name] = await asked.with_adapter(over) if over else asked
            except UserError as error:
                opened[model.name] = error
        if all(isinstance(result, UserError) for result in opened.values()):
            raise next(result for result in opened.values() if isinstance(result, UserError))
    except BaseException:
        await loaded.close()
        raise
    return opened


async def open_engine(spec: EngineSpec, model: ModelSpec, day: str | None = None) -> Engine:
    """Load a model.

    Args:
        spec: `kind` is `vllm`, `endpoint`, the name of an entry point of `openweight_harness.engines`, or the
            dotted path of an async factory `(ModelSpec, dict of arguments) -> Engine`, which is also given
            the variant if it has a parameter `variant`.
        model: what to load; its own engine arguments win over the run's.
        day: that chat templates are told which write one, ISO 8601; None for whatever day it is. No server of
            the chat completions API can be told.

    Raises:
        UserError: the engine or its arguments do not exist, or the model cannot be loaded by it.
    """
    if spec.kind == "vllm":
        (opened,) = (await _open_vllm(spec, [model], day)).values()
        assert not isinstance(opened, UserError), "it would have been raised"
        return opened
    args: dict[str, Any] = {**spec.args, **model.engine_args}
    if spec.kind == "endpoint":
        from harness.engines.endpoint import EndpointEngine

        return await EndpointEngine.start(model.path, model.variant, **args)
    factory = _factory(spec.kind)
    keywords = {"variant": model.variant} if "variant" in inspect.signature(factory).parameters else {}
    engine: Engine = await factory(model, args, **keywords)
    return engine


def _factory(kind: str) -> Any:
    """The factory of an engine that an installed package adds, or that is given by its dotted path."""
    return load_object(plugins("engines").get(kind, kind), "engine.kind")
