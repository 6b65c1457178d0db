"""How tokens are got. `open_engine` turns a run's engine spec and a model into a loaded `Engine`."""

from typing import Any

from harness.config import EngineSpec, ModelSpec, load_object, locate
from harness.engines.base import Engine


async def open_engine(spec: EngineSpec, model: ModelSpec) -> Engine:
    """Load a model.

    Args:
        spec: `kind` is `vllm`, `endpoint`, or the dotted path of an async factory
            `(ModelSpec, dict of arguments) -> Engine`.
        model: what to load; its own engine arguments win over the run's.

    Raises:
        UserError: the engine or its arguments do not exist, or the model cannot be loaded by it.
    """
    args: dict[str, Any] = {**spec.args, **model.engine_args}
    if spec.kind == "vllm":
        from harness.engines.vllm import VllmEngine

        return await VllmEngine.start(
            locate(model.path),
            revision=model.revision,
            tool_call_parser=model.tool_call_parser,
            reasoning_parser=model.reasoning_parser,
            trust_remote_code=model.trust_remote_code,
            engine_args=args,
        )
    if spec.kind == "endpoint":
        from harness.engines.endpoint import EndpointEngine

        return await EndpointEngine.start(model.path, **args)
    factory = load_object(spec.kind, "engine.kind")
    engine: Engine = await factory(model, args)
    return engine
