"""What is claimed of models and origins, each with its instrument: gaps, size, time, cost, adoption.

Capability is what suites without attacks measure: their headline rates.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import msgspec
import numpy as np

from harness import stats
from harness.analysis.adoption import AdoptionClaim, Snapshot, adoption_claims
from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.comparability import Setting, check_protocols, differences
from harness.analysis.compare import compare_metric, shared_clusters
from harness.analysis.missing import misses_much
from harness.analysis.origins import GROUPINGS, OriginScorecard, build_origins
from harness.analysis.summary import attacked_suites, is_capability
from harness.analysis.time_trends import LagClaim, TrendClaim, date_models, lag_claims, trend_claims
from harness.errors import UserError
from harness.stats.clusters import Floats
from harness.stats.expenses import Expenses, both_solved_ratio, curve_ratio
from harness.stats.irt import LIMIT, Abilities, linked, rasch
from harness.stats.trends import Line, draws, fit_line, luck
from harness.types import Estimate, Struct

GPUS = ((24, "24 GB"), (48, "48 GB"), (80, "80 GB"), (141, "141 GB"), (8 * 141, "8 x 141 GB"))
"""Memory in GB -> the smallest machine that holds a model."""
USABLE = 0.9
"""Share of a GPU's memory that weights may take; caches come on top."""

CostMethod = Literal["curve", "both-solved"]
COST_METHODS: dict[CostMethod, Callable[[Expenses, Expenses], Estimate]] = {
    "curve": curve_ratio,
    "both-solved": both_solved_ratio,
}
"""CAISI's two ways to compare costs, as `stats.expenses` says."""


class ModelClaims(Struct):
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
    """Rasch ability over all questions of those suites, in logits."""
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


class GapClaim(Struct):
    """The gap of the best models of two origins, by three instruments."""

    a: str
    b: str
    best_a: str
    best_b: str
    suites: int
    """That both have: points and odds are over these alone."""
    points: Estimate
    """Mean over those suites of the difference of their headline rates, as a share; paired by sample."""
    odds_ratio: Estimate
    """Odds of the mean rate over those suites; no value where one is 0 or 1."""
    ability: float | None
    """In logits; None where one of the two abilities is not finite."""
    ability_low: float | None
    """None where there is no gap, or both answered alike."""
    ability_high: float | None
    ability_corrected: float | None
    """Without what choosing the best of each origin is expected to have added; None where any ability of the
    run is not finite."""


class SizeClaim(Struct):
    """How ability goes with a size, over all models."""

    size: str
    models: int
    per_doubling: float | None
    """Logits for each doubling; None with fewer than three models, or where all are of one size."""
    low: float | None
    high: float | None


class HardwareClaim(Struct):
    """The best model of an origin that fits a machine and no smaller one that already holds a better one."""

    gpu: str
    origin: str
    model: str


class CostClaim(Struct):
    """Cost of the best model of an origin over that of another, on one suite."""

    key: str
    a: str
    b: str
    ratio: Estimate
    why: str | None
    """Why there is no ratio."""


class Claims(Struct):
    """All claims of a run."""

    by: str
    models: tuple[ModelClaims, ...]
    gaps: tuple[GapClaim, ...]
    finite: bool
    """Whether every model has a finite ability; without, there are no lines through them."""
    sizes: tuple[SizeClaim, ...]
    hardware: tuple[HardwareClaim, ...]
    trends: tuple[TrendClaim, ...]
    lags: tuple[LagClaim, ...]
    undated: tuple[str, ...]
    """Models without a release date that can be read."""
    hijacking: tuple[OriginScorecard, ...]
    """Risk ratios of being hijacked."""
    cost_method: CostMethod | None
    costs: tuple[CostClaim, ...]
    snapshot: Snapshot | None
    adoption: tuple[AdoptionClaim, ...]
    questions: int
    spread: float
    price: float | None
    allowed: tuple[Setting, ...]
    """Protocol fields that differ and were allowed to."""
    differences: tuple[str, ...]
    """What else differs between the models, and may move their scores."""


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


def make_claims(
    cards: Sequence[ModelScorecard],
    asked: Asked | None = None,
    origins: Sequence[OriginScorecard] | None = None,
) -> Claims:
    """Claims about every model that has a capability suite, and the gaps between origins.

    Args:
        cards: of the models.
        asked: what is asked.
        origins: those of `build_origins` for it, where they are there already.

    Raises:
        UserError: no model has a headline rate of a suite without attacks, no suite links all models that
            have one, protocols differ, models cannot be grouped as asked, or the snapshot has none of them.
    """
    asked = asked or Asked()
    allowed = check_protocols(cards, asked.allow)
    origins = build_origins(cards, asked.by, asked.allow) if origins is None else origins
    attacked = attacked_suites(cards)
    found = {card.model.name: _capability(card, attacked) for card in cards}
    measured = [card for card in cards if found[card.model.name]]
    if not measured:
        raise UserError("there is nothing to claim: no suite without attacks has a headline rate")
    abilities, rates, questions = _abilities([found[card.model.name] for card in measured])
    known = _finite(abilities, rates)
    entries = {card.model.name: card.model for card in cards}
    keys = {name: GROUPINGS[asked.by](entry, entries) for name, entry in entries.items()}
    models = [
        msgspec.structs.replace(
            _model_claims(card, keys[card.model.name], found[card.model.name], asked.price),
            ability=abilities.ability[i],
            ability_error=abilities.standard_error[i],
            finite=known[i],
        )
        for i, card in enumerate(measured)
    ]
    finite = all(known)
    drawn = _draws(abilities, finite)
    gaps = _gaps(models, found, abilities, drawn)
    dated, undated = date_models({m.model: (m.origin, m.release_date) for m in models})
    return Claims(
        by=asked.by,
        models=tuple(models),
        gaps=tuple(gaps),
        finite=finite,
        sizes=tuple(_sizes(models)) if finite else (),
        hardware=tuple(_hardware(models)),
        trends=trend_claims(dated, abilities.ability) if finite else (),
        lags=lag_claims(dated, abilities.ability, drawn),
        undated=tuple(undated),
        hijacking=tuple(msgspec.structs.replace(origin, gaps=()) for origin in origins),
        cost_method=asked.cost,
        costs=tuple(_costs(gaps, found, models, asked.cost)) if asked.cost else (),
        snapshot=asked.snapshot,
        adoption=adoption_claims(asked.snapshot, keys, asked.paths) if asked.snapshot else (),
        questions=questions,
        spread=abilities.spread,
        price=asked.price,
        allowed=allowed,
        differences=tuple(differences(cards)),
    )


def _capability(card: ModelScorecard, attacked: set[str]) -> list[MetricResult]:
    """Measured headline rates of benchmarks without attacks, those left out that miss too much."""
    return [
        result
        for result in card.metrics.values()
        if is_capability(result, attacked)
        and result.estimate.value is not None
        and not misses_much(result.estimate)
    ]


# Abilities


def _abilities(results: Sequence[Sequence[MetricResult]]) -> tuple[Abilities, list[float], int]:
    """(abilities in the order given, share of attempts that succeeded, how many questions they rest on)."""
    keys = sorted({_key(r) for own in results for r in own})
    if not linked([[key in {_key(r) for r in own} for key in keys] for own in results]):
        names = ", ".join(sorted({result.suite for own in results for result in own}))
        raise UserError(
            "there are models of which nothing says who is abler: no suite was measured on both, directly or "
            f"through others; measure all models on one of {names}"
        )
    blocks = [_block(key, results) for key in keys]
    successes, attempts = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    suites = np.repeat(np.arange(len(blocks)), [block[0].shape[1] for block in blocks])
    rates = (successes.sum(axis=1) / attempts.sum(axis=1)).tolist()
    return rasch(successes, attempts, suites), rates, successes.shape[1]


def _key(result: MetricResult) -> str:
    return f"{result.suite}/{result.metric.name}"


def _block(key: str, results: Sequence[Sequence[MetricResult]]) -> tuple[Any, Any]:
    """(successes, attempts) of one metric, each of shape (models, questions)."""
    own = [next((r for r in rs if _key(r) == key), None) for rs in results]
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


def _draws(abilities: Abilities, finite: bool) -> Floats | None:
    """Abilities drawn around the measured ones; None where one is not finite."""
    if not finite or max(abilities.standard_error) < 1e-9:
        return None
    return draws(abilities.ability, abilities.covariance)


def _finite(abilities: Abilities, rates: Sequence[float]) -> list[bool]:
    """Which models have an ability; none, if one that solved some and not all has gone to the limit.

    Args:
        abilities: as fitted.
        rates: of each model, share of attempts that succeeded.
    """
    inside = [abs(ability) < LIMIT for ability in abilities.ability]
    diverged = any(not ok and 0 < rate < 1 for ok, rate in zip(inside, rates, strict=True))
    return [ok and not diverged for ok in inside]


# Models


def _model_claims(
    card: ModelScorecard,
    origin: str,
    results: Sequence[MetricResult],
    price: float | None,
) -> ModelClaims:
    """All but the ability, which takes all models."""
    architecture, engine = card.model.architecture, card.model.engine
    suites = sorted({result.suite for result in results})
    usages = [card.model.known(card.suites[suite].usage) for suite in suites]
    solved = math.fsum(float(np.sum(np.asarray(r.observations.values))) for r in results)
    gpus = engine.gpus if engine else None
    each = _per_solved(usages, ("engine_seconds",), solved)
    return ModelClaims(
        model=card.model.name,
        origin=origin,
        release_date=card.model.origin.release_date,
        active_params=architecture.active_params if architecture else None,
        weight_bytes=architecture.weight_bytes if architecture else None,
        gpu=smallest_gpu(architecture.weight_bytes) if architecture else "unknown",
        suites=tuple(_key(result) for result in results),
        capability=stats.average([result.estimate for result in results]),
        ability=0.0,
        ability_error=0.0,
        finite=False,
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


def smallest_gpu(weight_bytes: int) -> str:
    """The smallest machine whose GPUs hold the weights."""
    if not weight_bytes:
        return "unknown"
    return next((name for gb, name in GPUS if weight_bytes <= USABLE * gb * 1e9), "more than 8 x 141 GB")


def _sizes(models: Sequence[ModelClaims]) -> list[SizeClaim]:
    """Ability against the logarithm of each size, over all models of the run."""
    sizes: dict[str, Callable[[ModelClaims], int | None]] = {
        "active parameters": lambda model: model.active_params,
        "bytes of weights": lambda model: model.weight_bytes,
    }
    claims = []
    for name, size in sizes.items():
        known = [(math.log2(found), model.ability) for model in models if (found := size(model))]
        line: Line | None = fit_line([x for x, _ in known], [y for _, y in known])
        claims.append(
            SizeClaim(
                size=name,
                models=len(known),
                per_doubling=line.slope if line else None,
                low=line.low if line else None,
                high=line.high if line else None,
            )
        )
    return claims


def _hardware(models: Sequence[ModelClaims]) -> list[HardwareClaim]:
    """For every origin, its best model on each machine that lets it run a better one."""
    claims = []
    for origin in sorted({model.origin for model in models}):
        best: ModelClaims | None = None
        for _, gpu in GPUS:
            fits = [model for model in models if (model.origin, model.gpu) == (origin, gpu)]
            top = max(fits, key=lambda model: (model.ability, model.model), default=None)
            if top and (best is None or top.ability > best.ability):
                best = top
                claims.append(HardwareClaim(gpu=gpu, origin=origin, model=top.model))
    return claims


# Gaps


def _gaps(
    models: Sequence[ModelClaims],
    found: Mapping[str, Sequence[MetricResult]],
    abilities: Abilities,
    drawn: Floats | None,
) -> list[GapClaim]:
    """The best of each origin by ability against the best of each other."""
    members: dict[str, list[int]] = {}
    for i, model in enumerate(models):
        members.setdefault(model.origin, []).append(i)
    best = {origin: max(own, key=lambda i: models[i].ability) for origin, own in members.items()}
    chosen = {
        origin: 0.0 if drawn is None else luck([models[i].ability for i in own], drawn[:, own])
        for origin, own in members.items()
    }
    gaps = []
    for a, b in combinations(sorted(best), 2):
        i, j = best[a], best[b]
        gap, error = abilities.difference(i, j)
        shared = _shared(found[models[i].model], found[models[j].model])
        finite = models[i].finite and models[j].finite
        known = error > 1e-9 and finite
        gaps.append(
            GapClaim(
                a=a,
                b=b,
                best_a=models[i].model,
                best_b=models[j].model,
                suites=len(shared),
                points=stats.average([compare_metric(y, x, ("", "")).difference for x, y in shared]),
                odds_ratio=stats.odds_ratio(
                    *(stats.average([r.estimate for r in side]) for side in zip(*shared, strict=True))
                )
                if shared
                else stats.average([]),
                ability=gap if finite else None,
                ability_low=gap - stats.Z * error if known else None,
                ability_high=gap + stats.Z * error if known else None,
                ability_corrected=None if drawn is None else gap - (chosen[a] - chosen[b]),
            )
        )
    return gaps


def _shared(
    ours: Sequence[MetricResult], theirs: Sequence[MetricResult]
) -> list[tuple[MetricResult, MetricResult]]:
    """The metrics that two models both have."""
    others = {_key(result): result for result in theirs}
    return [(result, others[_key(result)]) for result in ours if _key(result) in others]


# Cost


def _costs(
    gaps: Sequence[GapClaim],
    found: Mapping[str, Sequence[MetricResult]],
    models: Sequence[ModelClaims],
    method: CostMethod,
) -> list[CostClaim]:
    """The best models of two origins on every suite that both have."""
    gpus = {model.model: model.gpus or 1 for model in models}
    claims = []
    for gap in gaps:
        for ours, theirs in _shared(found[gap.best_a], found[gap.best_b]):
            sides = _expenses(ours, theirs, gpus[gap.best_a], gpus[gap.best_b])
            ratio = COST_METHODS[method](*sides)
            claims.append(
                CostClaim(key=_key(ours), a=gap.best_a, b=gap.best_b, ratio=ratio, why=_why(sides, ratio))
            )
    return claims


def _expenses(a: MetricResult, b: MetricResult, gpus_a: int, gpus_b: int) -> tuple[Expenses, Expenses]:
    """Engine seconds x GPUs of each attempt that was measured, with tasks numbered alike for both."""
    ours, theirs = shared_clusters([a.observations], [b.observations])
    first, second = (
        Expenses(
            np.asarray(codes["sample"]).astype(np.intp),
            np.asarray(result.observations.values, dtype=np.float64),
            result.observations.seconds * gpus,
            result.observations.cut,
        )
        for codes, result, gpus in ((ours, a, gpus_a), (theirs, b, gpus_b))
    )
    return first, second


def _why(sides: tuple[Expenses, Expenses], ratio: Estimate) -> str | None:
    """Why there is no ratio, None if there is one."""
    if ratio.value is not None:
        return None
    timeless = any((side.cost <= 0).any() for side in sides)
    return "some attempts have no engine time" if timeless else "no task was solved that both can be held to"
