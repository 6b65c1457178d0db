"""Model scorecards to origin scorecards: best and median models, gaps, risk ratios of being hijacked."""

from collections.abc import Callable, Collection, Sequence

import msgspec
import numpy as np

from harness import stats
from harness.errors import UserError
from harness.scorecards.build import MetricResult, ModelScorecard
from harness.scorecards.comparability import check_protocols
from harness.scorecards.compare import compare_metric, shared_clusters
from harness.types import Estimate, Metric, ModelEntry, Struct

GROUPINGS: dict[str, Callable[[ModelEntry], str]] = {
    "country": lambda model: model.origin.country,
    "developer": lambda model: model.origin.developer,
}
"""What an origin can be: name -> key of a model."""

FEW_MODELS = 3
"""With fewer models than this, an origin's models say nothing about its other models."""


class OriginMetric(Struct):
    """One metric over the models of one origin."""

    metric: Metric
    models: int
    """Models in which it was measured."""
    best_model: str | None
    best: Estimate | None
    median: Estimate


class Comparison(Struct):
    """One metric of an origin compared with another origin."""

    other: str
    key: str
    """`<suite>/<metric>`."""
    metric: Metric
    models: int
    other_models: int
    estimate: Estimate
    """The gap (this origin minus the other), or the risk ratio (this over the other)."""
    value: Estimate
    """What of this origin was compared: its best model, or the pooled rate of its models."""
    other_value: Estimate


class OriginScorecard(Struct):
    """What a run says about one origin."""

    by: str
    """A name of `GROUPINGS`."""
    key: str
    models: tuple[str, ...]
    metrics: dict[str, OriginMetric]
    """`<suite>/<metric>` -> best and median."""
    gaps: tuple[Comparison, ...]
    """Best model against best model of each other origin, for headline metrics."""
    risk_ratios: tuple[Comparison, ...]
    """Pooled rate of being hijacked over that of each other origin."""
    notes: tuple[str, ...]


def build_origins(
    scorecards: Sequence[ModelScorecard], by: str = "country", allow: Collection[str] = ()
) -> list[OriginScorecard]:
    """Origin scorecards, by key.

    Args:
        scorecards: one a model.
        by: what makes an origin, a name of `GROUPINGS`.
        allow: protocol fields that may differ between models.

    Raises:
        UserError: `by` is unknown, or two models were given one suite under different protocols.
    """
    if by not in GROUPINGS:
        raise UserError(f"models cannot be grouped by {by!r}: use one of {', '.join(GROUPINGS)}")
    allowed = check_protocols(scorecards, allow)
    groups: dict[str, list[ModelScorecard]] = {}
    for card in sorted(scorecards, key=lambda card: card.model.name):
        groups.setdefault(GROUPINGS[by](card.model), []).append(card)
    return [_origin(by, key, groups, allowed) for key in sorted(groups)]


def _origin(
    by: str, key: str, groups: dict[str, list[ModelScorecard]], allowed: tuple[str, ...]
) -> OriginScorecard:
    cards = groups[key]
    others = [other for other in sorted(groups) if other != key]
    results = _results(cards)
    return OriginScorecard(
        by=by,
        key=key,
        models=tuple(card.model.name for card in cards),
        metrics={name: _origin_metric(found) for name, found in results.items()},
        gaps=tuple(gap for other in others for gap in _gaps(results, other, _results(groups[other]))),
        risk_ratios=tuple(
            ratio for other in others for ratio in _risk_ratios(key, results, other, _results(groups[other]))
        ),
        notes=_notes(key, cards) + allowed,
    )


Results = dict[str, dict[str, MetricResult]]
"""`<suite>/<metric>` -> model -> result."""


def _results(cards: Sequence[ModelScorecard]) -> Results:
    names = sorted({name for card in cards for name in card.metrics})
    return {
        name: {card.model.name: card.metrics[name] for card in cards if name in card.metrics}
        for name in names
    }


def _notes(key: str, cards: Sequence[ModelScorecard]) -> tuple[str, ...]:
    notes = []
    if len(cards) < FEW_MODELS:
        notes.append(
            f"{key} has {len(cards)} model{'s' if len(cards) > 1 else ''} here, fewer than three: "
            "this says nothing about its other models."
        )
    notes += [
        f"{card.model.name} is incomplete: {sum(s.owed for s in card.suites.values())} attempts are owed."
        for card in cards
        if not card.complete
    ]
    return tuple(notes)


def _metric(results: dict[str, MetricResult]) -> Metric:
    return next(iter(results.values())).metric


def _origin_metric(results: dict[str, MetricResult]) -> OriginMetric:
    best_model, best = _best(results)
    return OriginMetric(
        metric=_metric(results),
        models=_measured(results),
        best_model=best_model,
        best=best,
        median=stats.median([result.estimate for result in results.values()]),
    )


def _measured(results: dict[str, MetricResult]) -> int:
    return sum(result.estimate.value is not None for result in results.values())


def _best(results: dict[str, MetricResult]) -> tuple[str, Estimate] | tuple[None, None]:
    """(name, estimate) of the best model; of equals, the first by name."""
    sign = 1 if _metric(results).higher_is_better else -1
    ranked = [
        (-sign * result.estimate.value, name)
        for name, result in results.items()
        if result.estimate.value is not None
    ]
    if not ranked:
        return None, None
    name = min(ranked)[1]
    estimate = results[name].estimate
    note = f"; best of {len(ranked)} models, not corrected for the winner's curse" if len(ranked) > 1 else ""
    return name, msgspec.structs.replace(estimate, method=estimate.method + note)


def _gaps(results: Results, other: str, other_results: Results) -> list[Comparison]:
    gaps = []
    for name in sorted(results.keys() & other_results.keys()):
        (model, a), (other_model, b) = _best(results[name]), _best(other_results[name])
        if not _metric(results[name]).headline or model is None or other_model is None:
            continue
        assert a is not None and b is not None
        ours, theirs = results[name][model], other_results[name][other_model]
        gap = compare_metric(theirs, ours, (other_model, model)).difference
        gaps.append(_comparison(name, results, other, other_results, gap, (a, b)))
    return gaps


def _risk_ratios(key: str, results: Results, other: str, other_results: Results) -> list[Comparison]:
    ratios = []
    for name in sorted(results.keys() & other_results.keys()):
        metric = _metric(results[name])
        if metric.hijack and metric.kind == "rate":
            ours, theirs = (
                [r.observations for r in side[name].values()] for side in (results, other_results)
            )
            clusters = shared_clusters(ours, theirs)
            x, y = (np.concatenate([part.values for part in parts]) for parts in (ours, theirs))
            missing = [_missing(side[name]) for side in (results, other_results)]
            ratio = stats.shared_risk_ratio(x, y, *clusters, names=(key, other), missing=sum(missing))
            ratio = msgspec.structs.replace(ratio, method=f"{ratio.method}; models pooled and taken as given")
            a, b = (stats.rate(v, c, missing=m) for v, c, m in zip((x, y), clusters, missing, strict=True))
            ratios.append(_comparison(name, results, other, other_results, ratio, (a, b)))
    return ratios


def _missing(results: dict[str, MetricResult]) -> int:
    return sum(result.estimate.missing for result in results.values())


def _comparison(
    name: str,
    results: Results,
    other: str,
    other_results: Results,
    estimate: Estimate,
    values: tuple[Estimate, Estimate],
) -> Comparison:
    return Comparison(
        other=other,
        key=name,
        metric=_metric(results[name]),
        models=_measured(results[name]),
        other_models=_measured(other_results[name]),
        estimate=estimate,
        value=values[0],
        other_value=values[1],
    )
