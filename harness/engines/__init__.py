"""How tokens are got. `open_engine` turns a run's engine spec and a model into a loaded `Engine`."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from harness.config import EngineSpec, ModelSpec, locate
from harness.engines.base import Engine
from harness.errors import UserError
from harness.trust import load_object, plugins
from harness.types import Variant


def check_engine(spec: EngineSpec, models: Sequence[ModelSpec]) -> None:
    """Check an engine and its arguments as far as that goes without starting it.

    vLLM's own arguments are checked when it starts: to know them takes seconds.

    Raises:
        UserError: there is no such engine, or its arguments are not right.
    """
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
    """Models in the groups that one load of the weights serves: of vLLM, the variants of a checkpoint."""
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
) -> dict[str, Engine]:
    """Load what several variants share; returns name -> engine. To close one of them is to close all.

    Args:
        spec: as of `open_engine`.
        models: of one group of `one_load`.
        day: as of `open_engine`.

    Raises:
        UserError: as `open_engine`, or the loaded model cannot be asked as one of them says.
    """
    if len(models) == 1:
        return {models[0].name: await open_engine(spec, models[0], day)}
    from harness.engines.vllm.engine import VllmEngine

    loaded = await open_engine(spec, msgspec.structs.replace(models[0], variant=Variant()), day)
    assert isinstance(loaded, VllmEngine)
    try:
        return {model.name: loaded.as_variant(model.variant) for model in models}
    except UserError:
        await loaded.close()
        raise


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
    args: dict[str, Any] = {**spec.args, **model.engine_args}
    if spec.kind == "vllm":
        from harness.engines.vllm.engine import VllmEngine

        return await VllmEngine.start(
            locate(model.path),
            revision=model.revision,
            tool_call_parser=model.tool_call_parser,
            reasoning_parser=model.reasoning_parser,
            trust_remote_code=model.trust_remote_code,
            engine_args=args,
            day=day,
            variant=model.variant,
        )
    if spec.kind == "endpoint":
        from harness.engines.endpoint import EndpointEngine

        return await EndpointEngine.start(model.path, model.variant, **args)
    factory = _factory(spec.kind)
    told = {"variant": model.variant} if "variant" in inspect.signature(factory).parameters else {}
    engine: Engine = await factory(model, args, **told)
    return engine


def _factory(kind: str) -> Any:
    """The factory of an engine that an installed package adds, or that is given by its dotted path."""
    return load_object(plugins("engines").get(kind, kind), "engine.kind")
