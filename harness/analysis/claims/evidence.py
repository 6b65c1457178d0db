"""What every claim is made from: who was measured how well, and how sure that is.

Capability is what suites without attacks measure: their headline rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.claims.snapshot import Snapshot
from harness.analysis.compare import shared_clusters
from harness.analysis.missing import misses_much
from harness.analysis.origins import GROUPINGS, OriginScorecard, build_origins, pairs
from harness.analysis.summary import attacked_suites, is_capability
from harness.errors import UserError
from harness.stats.clusters import Floats
from harness.stats.irt import LIMIT, Abilities, linked, rasch
from harness.stats.trends import draws
from harness.types import Struct

CostMethod = Literal["curve", "both-solved"]


class Asked(Struct):
    """What is asked of a run."""

    by: str = "country"
    """What makes an origin, a name of `GROUPINGS`."""
    price: float | None = None
    """Of an hour of one GPU, in any currency."""
    allow: tuple[str, ...] = ()
    """Protocol fields that may differ."""
    cost: CostMethod | None = None
    snapshot: Snapshot | None = None
    paths: dict[str, str] = {}
    """Model -> hub id, by which the snapshot may name it."""


@dataclass(frozen=True)
class Measured:
    """A model that has a capability."""

    card: ModelScorecard
    origin: str
    results: tuple[MetricResult, ...]
    """Headline rates of benchmarks without attacks, those left out that miss too much."""
    ability: float
    ability_error: float
    finite: bool
    """Whether there is such an ability. Who solves all or nothing has none, and nobody has one where models
    solve the same questions as every weaker one and more: then `ability` ranks, and says nothing else."""

    @property
    def name(self) -> str:
        """Of the model."""
        return self.card.model.name


@dataclass(frozen=True)
class Evidence:
    """What claims are made from."""

    asked: Asked
    origins: Sequence[OriginScorecard]
    cards: Mapping[str, ModelScorecard]
    """By name, of every model of the run."""
    keys: Mapping[str, str]
    """Model -> its origin, of every model of the run."""
    models: tuple[Measured, ...]
    abilities: Abilities
    """Of these models, in their order."""
    questions: int
    """That abilities rest on."""
    drawn: Floats | None
    """Shape (draws, models): abilities drawn around the measured ones; None where one is not finite."""

    @property
    def finite(self) -> bool:
        """Whether every model has a finite ability; without, there are no lines through them."""
        return all(model.finite for model in self.models)

    def members(self) -> dict[str, list[int]]:
        """Origin -> its models, as indices."""
        members: dict[str, list[int]] = {}
        for i, model in enumerate(self.models):
            members.setdefault(model.origin, []).append(i)
        return dict(sorted(members.items()))

    def best(self) -> dict[str, int]:
        """Origin -> its model of the highest ability; of equals, the first."""
        return {
            origin: max(own, key=lambda i: self.models[i].ability) for origin, own in self.members().items()
        }

    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of origins whose best models are compared."""
        best = self.best()
        if not best:
            return []
        return pairs(list(best), max(best, key=lambda origin: self.models[best[origin]].ability))


class Claim(Protocol):
    """One kind of claim: a function of the evidence, in a module of its own."""

    def __call__(self, evidence: Evidence, /) -> tuple[Struct, ...]:
        """Nothing where the evidence does not support it.

        Raises:
            UserError: what was asked for cannot be claimed of this run.
        """
        ...


def gather(
    cards: Sequence[ModelScorecard], asked: Asked, origins: Sequence[OriginScorecard] | None = None
) -> Evidence:
    """The evidence of a run.

    Args:
        cards: of the models.
        asked: what is asked.
        origins: those of `build_origins` for it, where they are there already.

    Raises:
        UserError: nothing was measured that a claim is made of, no suite links all models that have a
            capability, protocols differ, or models cannot be grouped as asked.
    """
    origins = build_origins(cards, asked.by, asked.allow) if origins is None else origins
    attacked = attacked_suites(cards)
    results = {card.model.name: _capability(card, attacked) for card in cards}
    measured = [card for card in cards if results[card.model.name]]
    every = (result.models for origin in origins for result in origin.metrics.values())
    if not measured and not any(every):
        raise UserError("there is nothing to claim: no headline was measured")
    abilities, rates, questions = _abilities([results[card.model.name] for card in measured])
    known = _finite(abilities, rates)
    entries = {card.model.name: card.model for card in cards}
    keys = {name: GROUPINGS[asked.by](entry, entries) for name, entry in entries.items()}
    models = tuple(
        Measured(
            card=card,
            origin=keys[card.model.name],
            results=results[card.model.name],
            ability=abilities.ability[i],
            ability_error=abilities.standard_error[i],
            finite=known[i],
        )
        for i, card in enumerate(measured)
    )
    certain = not all(known) or max(abilities.standard_error, default=0.0) < 1e-9
    return Evidence(
        asked=asked,
        origins=origins,
        cards={card.model.name: card for card in cards},
        keys=keys,
        models=models,
        abilities=abilities,
        questions=questions,
        drawn=None if certain else draws(abilities.ability, abilities.covariance),
    )


def key_of(result: MetricResult) -> str:
    """`<suite>/<metric>`."""
    return f"{result.suite}/{result.metric.name}"


def shared(a: Measured, b: Measured) -> list[tuple[MetricResult, MetricResult]]:
    """The capability results that two models both have."""
    others = {key_of(result): result for result in b.results}
    return [(result, others[key_of(result)]) for result in a.results if key_of(result) in others]


def _capability(card: ModelScorecard, attacked: set[str]) -> tuple[MetricResult, ...]:
    return tuple(
        result
        for result in card.metrics.values()
        if is_capability(result, attacked)
        and result.estimate.value is not None
        and not misses_much(result.estimate)
    )


def _abilities(results: Sequence[Sequence[MetricResult]]) -> tuple[Abilities, list[float], int]:
    """(abilities in the order given, share of attempts that succeeded, how many questions they rest on)."""
    if not results:
        return Abilities(ability=(), standard_error=(), covariance=(), spread=0.0), [], 0
    own = [{key_of(result): result for result in mine} for mine in results]
    keys = sorted({key for mine in own for key in mine})
    if not linked([[key in mine for key in keys] for mine in own]):
        names = ", ".join(sorted({result.suite for mine in results for result in mine}))
        raise UserError(
            "there are models of which nothing says who is abler: no suite was measured on both, directly or "
            f"through others; measure all models on one of {names}"
        )
    blocks = [_block([mine.get(key) for mine in own]) for key in keys]
    successes, attempts = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    suites = np.repeat(np.arange(len(blocks)), [block[0].shape[1] for block in blocks])
    rates = (successes.sum(axis=1) / attempts.sum(axis=1)).tolist()
    return rasch(successes, attempts, suites), rates, successes.shape[1]


def _block(own: Sequence[MetricResult | None]) -> tuple[Any, Any]:
    """(successes, attempts) of one metric, each of shape (models, questions).

    Args:
        own: what each model has of it.
    """
    parts = [r.observations for r in own if r is not None]
    codes = np.unique(np.asarray(shared_clusters(parts, [])[0]["sample"]), return_inverse=True)[1]
    questions = int(codes.max()) + 1
    split = iter(np.split(codes, np.cumsum([len(part.values) for part in parts])[:-1]))
    successes, attempts = np.zeros((2, len(own), questions))
    for i, result in enumerate(own):
        if result is not None:
            at = next(split)
            successes[i] = np.bincount(at, np.asarray(result.observations.values), questions)
            attempts[i] = np.bincount(at, minlength=questions)
    return successes, attempts


def _finite(abilities: Abilities, rates: Sequence[float]) -> list[bool]:
    """Which models have an ability; none, if one that solved some and not all has gone to the limit.

    Args:
        abilities: as fitted.
        rates: of each model, share of attempts that succeeded.
    """
    inside = [abs(ability) < LIMIT for ability in abilities.ability]
    diverged = any(not ok and 0 < rate < 1 for ok, rate in zip(inside, rates, strict=True))
    return [ok and not diverged for ok in inside]
