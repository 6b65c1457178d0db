"""What is claimed of models and origins, each with its instrument: gaps, abilities, size, cost.

Capability is what suites without attacks measure: their headline rates.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import msgspec
import numpy as np

from harness import stats
from harness.errors import UserError
from harness.scorecards import text
from harness.scorecards.build import MetricResult, ModelScorecard
from harness.scorecards.comparability import check_protocols
from harness.scorecards.compare import shared_clusters
from harness.scorecards.render import markdown_table, print_tables, to_json
from harness.scorecards.tables import Table
from harness.stats.irt import LIMIT, Abilities, rasch
from harness.types import Struct

GPUS = ((24, "24 GB"), (48, "48 GB"), (80, "80 GB"), (141, "141 GB"), (8 * 141, "8 x 141 GB"))
"""Memory in GB -> the smallest machine that holds a model."""
USABLE = 0.9
"""Share of a GPU's memory that weights may take; caches come on top."""


class ModelClaims(Struct):
    """What is claimed of a model."""

    model: str
    country: str
    release_date: str | None
    active_params: int | None
    weight_bytes: int | None
    gpu: str
    capability: float
    """Mean of the headline rates of its suites, each suite counting the same."""
    ability: float
    """Rasch ability over all questions of those suites, in logits."""
    ability_error: float
    solved: float
    """Attempts of those suites that succeeded."""
    seconds_per_solved: float | None
    """Engine seconds of those suites, failed attempts included, over what was solved."""
    tokens_per_solved: float | None
    cost_per_solved: float | None
    """At the given price of an hour of the engine."""


class GapClaim(Struct):
    """The gap of the best models of two origins, by three instruments."""

    a: str
    b: str
    best_a: str
    best_b: str
    points: float
    """Of the mean headline rate, in percentage points."""
    odds_ratio: float | None
    """Odds of that rate; None where one is 0 or 1."""
    ability: float
    """In logits."""
    ability_low: float | None
    """None where both answered alike or one ability is not finite: no interval can be told."""
    ability_high: float | None


class Claims(Struct):
    """All claims of a run."""

    models: tuple[ModelClaims, ...]
    gaps: tuple[GapClaim, ...]
    questions: int
    spread: float
    price: float | None
    allowed: tuple[str, ...]


def make_claims(
    cards: Sequence[ModelScorecard], price: float | None = None, allow: Sequence[str] = ()
) -> Claims:
    """Claims about every model that has a capability suite, and the gaps between their countries.

    Args:
        cards: one a model.
        price: of an hour of the engine, in any currency.
        allow: protocol fields that may differ.

    Raises:
        UserError: no model has a headline rate of a suite without attacks, or protocols differ.
    """
    allowed = check_protocols(cards, allow)
    found = {card.model.name: _capability(card) for card in cards}
    measured = [card for card in cards if found[card.model.name]]
    if not measured:
        raise UserError("there is nothing to claim: no suite without attacks has a headline rate")
    abilities, questions = _abilities([found[card.model.name] for card in measured])
    models = [
        _model_claims(card, found[card.model.name], abilities, i, price) for i, card in enumerate(measured)
    ]
    return Claims(
        models=tuple(models),
        gaps=tuple(_gaps(models, abilities)),
        questions=questions,
        spread=abilities.spread,
        price=price,
        allowed=allowed,
    )


def _capability(card: ModelScorecard) -> list[MetricResult]:
    """Measured headline rates of suites that measure no hijacking."""
    attacked = {result.suite for result in card.metrics.values() if result.metric.hijack}
    return [
        result
        for result in card.metrics.values()
        if result.metric.headline
        and result.metric.kind == "rate"
        and result.suite not in attacked
        and result.estimate.value is not None
    ]


def _abilities(results: Sequence[Sequence[MetricResult]]) -> tuple[Abilities, int]:
    """Abilities in the order given, and how many questions they rest on."""
    keys = sorted({f"{r.suite}/{r.metric.name}" for own in results for r in own})
    blocks = [_block(key, results) for key in keys]
    successes, attempts = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    return rasch(successes, attempts), successes.shape[1]


def _block(key: str, results: Sequence[Sequence[MetricResult]]) -> tuple[Any, Any]:
    """(successes, attempts) of one metric, each of shape (models, questions)."""
    own = [next((r for r in rs if f"{r.suite}/{r.metric.name}" == key), None) for rs in results]
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


def _model_claims(
    card: ModelScorecard, results: Sequence[MetricResult], abilities: Abilities, i: int, price: float | None
) -> ModelClaims:
    architecture = card.model.architecture
    usages = [card.suites[suite].usage for suite in sorted({result.suite for result in results})]
    seconds = math.fsum(usage.engine_seconds for usage in usages)
    tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in usages)
    solved = math.fsum(float(np.sum(np.asarray(r.observations.values))) for r in results)
    each = seconds / solved if solved else None
    return ModelClaims(
        model=card.model.name,
        country=card.model.origin.country,
        release_date=card.model.origin.release_date,
        active_params=architecture.active_params if architecture else None,
        weight_bytes=architecture.weight_bytes if architecture else None,
        gpu=smallest_gpu(architecture.weight_bytes) if architecture else "unknown",
        capability=float(np.mean([result.estimate.value for result in results])),
        ability=abilities.ability[i],
        ability_error=abilities.standard_error[i],
        solved=solved,
        seconds_per_solved=each,
        tokens_per_solved=tokens / solved if solved else None,
        cost_per_solved=each / 3600 * price if each is not None and price is not None else None,
    )


def smallest_gpu(weight_bytes: int) -> str:
    """The smallest machine whose GPUs hold the weights."""
    if not weight_bytes:
        return "unknown"
    return next((name for gb, name in GPUS if weight_bytes <= USABLE * gb * 1e9), "more than 8 x 141 GB")


def _gaps(models: Sequence[ModelClaims], abilities: Abilities) -> list[GapClaim]:
    """The best of each country by ability against the best of each other."""
    best: dict[str, int] = {}
    for i, model in enumerate(models):
        if model.country not in best or model.ability > models[best[model.country]].ability:
            best[model.country] = i
    gaps = []
    for a, b in combinations(sorted(best), 2):
        i, j = best[a], best[b]
        gap, error = abilities.difference(i, j)
        p, q = models[i].capability, models[j].capability
        known = error > 1e-9 and max(abs(models[i].ability), abs(models[j].ability)) < LIMIT
        gaps.append(
            GapClaim(
                a=a,
                b=b,
                best_a=models[i].model,
                best_b=models[j].model,
                points=100 * (p - q),
                odds_ratio=p / (1 - p) / (q / (1 - q)) if 0 < p < 1 and 0 < q < 1 else None,
                ability=gap,
                ability_low=gap - stats.Z * error if known else None,
                ability_high=gap + stats.Z * error if known else None,
            )
        )
    return gaps


def render_claims(claims: Claims, form: str, *, width: int = 100, color: bool = False) -> str:
    """Claims as text: `table`, `md` or `json`."""
    if form == "json":
        return to_json(_rounded(msgspec.to_builtins(claims)))
    tables, said = [_models_table(claims), _gaps_table(claims)], _notes(claims)
    if form == "md":
        listed = "\n".join(f"- {text.escape_markdown(sentence)}" for sentence in said)
        return "\n\n".join([*(markdown_table(table) for table in tables), listed]) + "\n"
    return print_tables(tables, said, width=width, color=color)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return text.rounded(value) if isinstance(value, float) else value


def _models_table(claims: Claims) -> Table:
    header = (
        "Model",
        "Origin",
        "Released",
        "Active",
        "Weights",
        "Smallest GPU",
        "Capability",
        "Ability",
        "Seconds/solved",
        "Tokens/solved",
        "Cost/solved",
    )
    ranked = sorted(claims.models, key=lambda model: (-model.ability, model.model))
    return Table(title="Capability, size and cost", header=header, rows=tuple(map(_model_row, ranked)))


def _model_row(model: ModelClaims) -> tuple[str, ...]:
    def said(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.3g}"

    return (
        model.model,
        model.country,
        model.release_date or "unknown",
        "unknown" if model.active_params is None else text.format_size(model.active_params),
        "unknown" if not model.weight_bytes else text.format_bytes(model.weight_bytes),
        model.gpu,
        f"{100 * model.capability:.1f}%",
        f"{model.ability:+.2f} ± {stats.Z * model.ability_error:.2f}",
        said(model.seconds_per_solved),
        said(model.tokens_per_solved),
        said(model.cost_per_solved),
    )


def _gaps_table(claims: Claims) -> Table:
    rows = tuple(
        (
            f"{gap.a} over {gap.b}",
            f"{gap.best_a} over {gap.best_b}",
            f"{gap.points:+.1f}",
            "none" if gap.odds_ratio is None else f"{gap.odds_ratio:.2f}",
            _interval(gap),
        )
        for gap in claims.gaps
    )
    header = ("Origins", "Best models", "Points", "Odds ratio", "Ability")
    return Table(title="Gap of the best models, by three instruments", header=header, rows=rows)


def _interval(gap: GapClaim) -> str:
    if gap.ability_low is None or gap.ability_high is None:
        return f"{gap.ability:+.2f} [no interval]"
    return f"{gap.ability:+.2f} [{gap.ability_low:+.2f}, {gap.ability_high:+.2f}]"


def _notes(claims: Claims) -> list[str]:
    return [
        *claims.allowed,
        f"Ability: Rasch model by marginal maximum likelihood over {claims.questions} questions, in logits, "
        "with 95% limits; 0 solves the average question half of the time; difficulties have a spread of "
        f"{claims.spread:.2f}.",
        "Capability: the mean over suites of their headline rates; intervals by suite are in the scorecard.",
        "Points and odds are of the mean over suites; best models are those of the highest ability, and no "
        "gap is corrected for choosing them.",
        f"Smallest GPU: holds the weights in {100 * USABLE:.0f}% of its memory; caches come on top.",
        "Cost: engine seconds of the suites without attacks, failed attempts included, over attempts solved"
        + (f", at {claims.price:g} an hour." if claims.price is not None else "; give --price for money."),
    ]
