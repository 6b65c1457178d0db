"""What is claimed of each model: capability, ability, size, and what a solved task costs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness import stats
from harness.analysis.claims.evidence import Evidence, Measured, key_of
from harness.analysis.claims.hardware import smallest_gpu
from harness.types import Estimate, Struct


class ModelClaim(Struct):
    """What is claimed of a model."""

    model: str
    origin: str
    """Key of its group: the developer's country, unless models are grouped by something else."""
    release_date: str | None
    active_params: int | None
    weight_bytes: int | None
    gpu: str
    suites: tuple[str, ...]
    """Metrics that its capability is made of, `<suite>/<metric>`."""
    capability: Estimate
    """Mean of those headline rates, each suite counting the same."""
    ability: float
    """Rasch ability over the questions of those suites, each suite counting the same, in logits."""
    ability_error: float
    finite: bool
    """Whether there is such an ability. Who solves all or nothing has none, and nobody has one where models
    solve the same questions as every weaker one and more: then `ability` ranks, and says nothing else."""
    solved: float
    """Attempts of those suites that succeeded."""
    gpus: int | None
    """That it ran on; None where the engine does not say, or on a CPU."""
    seconds_per_solved: float | None
    """Engine seconds of those suites, failed attempts included, over what was solved."""
    tokens_per_solved: float | None
    joules_per_solved: float | None
    """None where energy was not measured."""
    cost_per_solved: float | None
    """Engine hours x GPUs x price of an hour of one GPU, over what was solved."""


def model_claims(evidence: Evidence) -> tuple[ModelClaim, ...]:
    """One a model that has a capability."""
    return tuple(_claim(model, evidence.asked.price) for model in evidence.models)


def _claim(model: Measured, price: float | None) -> ModelClaim:
    entry, suites = model.card.model, sorted({result.suite for result in model.results})
    architecture = entry.architecture
    usages = [entry.known(model.card.suites[suite].usage) for suite in suites]
    solved = math.fsum(float(np.sum(np.asarray(r.observations.values))) for r in model.results)
    gpus = entry.engine.gpus if entry.engine else None
    each = _per_solved(usages, ("engine_seconds",), solved)
    return ModelClaim(
        model=model.name,
        origin=model.origin,
        release_date=entry.origin.release_date,
        active_params=architecture.active_params if architecture else None,
        weight_bytes=architecture.weight_bytes if architecture else None,
        gpu=smallest_gpu(architecture.weight_bytes if architecture else 0),
        suites=tuple(map(key_of, model.results)),
        capability=stats.average([result.estimate for result in model.results]),
        ability=model.ability,
        ability_error=model.ability_error,
        finite=model.finite,
        solved=solved,
        gpus=gpus,
        seconds_per_solved=each,
        tokens_per_solved=_per_solved(usages, ("prompt_tokens", "completion_tokens"), solved),
        joules_per_solved=_per_solved(usages, ("joules",), solved),
        cost_per_solved=None if each is None or price is None else each / 3600 * (gpus or 1) * price,
    )


def _per_solved(
    usages: Sequence[Mapping[str, float | None]], names: Sequence[str], solved: float
) -> float | None:
    """What all suites took over the attempts that were solved; None where it is not known, or none was."""
    spent = [usage[name] for usage in usages for name in names]
    known = [value for value in spent if value is not None]
    return math.fsum(known) / solved if solved and len(known) == len(spent) else None
