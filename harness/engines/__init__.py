"""How tokens are got. `open_engine` turns a run's engine spec and a model into a loaded `Engine`."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from harness.config import EngineSpec, ModelSpec, locate
from harness.engines.base import Engine
from harness.errors import UserError
from harness.trust import load_object, plugins


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


async def open_engine(spec: EngineSpec, model: ModelSpec, day: str | None = None) -> Engine:
    """Load a model.

    Args:
        spec: `kind` is `vllm`, `endpoint`, the name of an entry point of `openweight_harness.engines`, or the
            dotted path of an async factory `(ModelSpec, dict of arguments) -> Engine`.
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
        )
    if spec.kind == "endpoint":
        from harness.engines.endpoint import EndpointEngine

        return await EndpointEngine.start(model.path, **args)
    engine: Engine = await _factory(spec.kind)(model, args)
    return engine


def _factory(kind: str) -> Any:
    """The factory of an engine that an installed package adds, or that is given by its dotted path."""
    return load_object(plugins("engines").get(kind, kind), "engine.kind")
