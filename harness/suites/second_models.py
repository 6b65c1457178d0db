"""A second model beside the measured one, on an engine of its own: an attacker, an operator.

It is loaded when it is first asked, and released when the engine of the measured model is: `Suite.close`.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from harness.config import EngineSpec, ModelSpec, as_written, bare_name, load_model, locate, names
from harness.engines import check_engine, open_engine
from harness.engines.base import Engine
from harness.errors import AttemptFailure, EngineDead, UserError
from harness.models.checkpoint import find_folder, weight_files
from harness.suites.base import ModelRole, SecondModel
from harness.suites.digests import digest
from harness.types import FailureKind, Generation, Message, Sampling, Struct


class SecondSpec(Struct):
    """Which model, and what computes it."""

    model: str
    """A model of the registry by name, a folder, or a hub id."""
    engine: EngineSpec = EngineSpec()
    temperature: float = 0.0
    max_tokens: int = 1024


class SecondEngine:
    """A second model, ready to be asked."""

    def __init__(self, role: ModelRole, spec: SecondSpec) -> None:
        """Args: role: what it is for. spec: which it is."""
        self._role, self._spec = role, spec
        self._opening: asyncio.Task[Engine] | None = None

    @property
    def _model(self) -> ModelSpec:
        path = self._spec.model
        if path in names("models"):
            return load_model(path, Path())
        return ModelSpec(name=bare_name(path), path=path)

    @property
    def needs(self) -> SecondModel:
        """Of the machine. The model of a server is on none of its GPUs."""
        model = self._model
        folder = None if self._spec.engine.kind != "vllm" else _folder(model)
        return SecondModel(
            role=self._role,
            path=self._spec.model,
            revision=model.revision,
            device="cuda" if self._spec.engine.kind == "vllm" else "cpu",
            weight_bytes=sum(path.stat().st_size for path in weight_files(folder)) if folder else None,
        )

    @property
    def identity(self) -> str:
        """What tells it from others, for a protocol: its name, and a digest of all that is said of it."""
        spec = self._spec
        parts = [
            as_written(spec.model),
            spec.engine.kind,
            spec.engine.args,
            spec.temperature,
            spec.max_tokens,
        ]
        return f"{self._model.name} {digest(parts)[:12]}"

    def check(self) -> None:
        """Raises UserError if its engine cannot be had."""
        check_engine(self._spec.engine, [self._model])

    async def ask(self, messages: Sequence[Message], seed: int) -> Generation:
        """Its reply to a conversation.

        Raises:
            AttemptFailure: it did not answer. That is no failure of the measured model's.
            UserError: it cannot be loaded.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(open_engine(self._spec.engine, self._model))
        sampling = Sampling(temperature=self._spec.temperature, max_tokens=self._spec.max_tokens, seed=seed)
        try:
            return await (await self._opening).chat(tuple(messages), (), sampling)
        except (AttemptFailure, EngineDead) as error:
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR, f"the {self._role} {self._spec.model} did not answer: {error}"
            ) from error

    async def close(self) -> None:
        """Release it."""
        opening, self._opening = self._opening, None
        if opening is not None and opening.done() and not opening.cancelled() and not opening.exception():
            await opening.result().close()


def _folder(model: ModelSpec) -> Path | None:
    try:
        return find_folder(locate(model.path), model.revision, "model")
    except UserError:  # whoever loads it says why
        return None
