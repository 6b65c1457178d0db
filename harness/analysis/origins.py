"""Model scorecards to origin scorecards: best and median models, gaps, risk ratios of being hijacked."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations
from typing import TypeVar

import msgspec
import numpy as np

from harness import stats
from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.comparability import check_protocols
from harness.analysis.compare import difference, is_called, shared_clusters
from harness.analysis.missing import misses_much
from harness.errors import UserError
from harness.models.registry import Node, lineage, specs, weights_countries
from harness.stats.clusters import Codes, Floats
from harness.types import Estimate, Metric, ModelEntry, Struct

T = TypeVar("T")

SIZES = ((4e9, "under 4B"), (15e9, "4B to 15B"), (40e9, "15B to 40B"), (150e9, "40B to 150B"))
"""Upper limits of classes of total parameters."""


def _base_country(model: ModelEntry, models: Mapping[str, ModelEntry]) -> str:
    """The country of the weights that a model goes back to, by this run's models, else by the registry."""
    countries = _base_countries(model, models)
    if "?" in countries:
        return f"unknown, from {', '.join(model.origin.base_models) or model.repository}"
    return " and ".join(sorted(countries))


def _base_countries(model: ModelEntry, models: Mapping[str, ModelEntry]) -> set[str]:
    others = {name: other for name, other in models.items() if name != model.name}
    if not model.origin.base_models:
        # The registry may know of a base that neither the spec nor the checkpoint states.
        known = _lineage().get(model.repository) if model.repository else None
        return set(_registry_countries(known.id)) if known and known.parents else {model.origin.country}
    countries: set[str] = set()
    for listed in model.origin.base_models:
        base = next((other for other in others.values() if is_called(other, listed)), None)
        countries |= _base_countries(base, others) if base else set(_registry_countries(listed))
    return countries


def _registry_countries(base: str) -> tuple[str, ...]:
    """Countries of the weights that a hub repository goes back to; `?` for those that nobody knows."""
    return weights_countries(base, _lineage())


@cache
def _lineage() -> dict[str, Node]:
    return lineage(specs())


def _kind(model: ModelEntry) -> str:
    return "unknown" if model.architecture is None else ("dense" if model.architecture.dense else "MoE")


def _size(model: ModelEntry) -> str:
    if model.architecture is None:
        return "unknown"
    total = model.architecture.total_params
    return next((name for limit, name in SIZES if total < limit), "150B and more")


GROUPINGS: dict[str, Callable[[ModelEntry, Mapping[str, ModelEntry]], str]] = {
    "country": lambda model, _: model.origin.country,
    "developer": lambda model, _: model.origin.developer,
    "base": _base_country,
    "licence": lambda model, _: model.origin.licence or "unknown",
    "type": lambda model, _: _kind(model),
    "size": lambda model, _: _size(model),
}
"""What an origin can be: name -> key of a model, given all models of the run."""

FACTS = ("licence", "type", "size")
"""The groupings that do not rest on who made a model."""

CALLED = {
    "country": "country of the developer",
    "developer": "developer",
    "base": "country of the base weights",
    "licence": "licence",
    "type": "type",
    "size": "total parameters",
}
"""What the groupings are called in words."""

FEW_MODELS = 3
"""With fewer models than this, an origin's models say nothing about its other models."""


MOST_PAIRED = 12
"""Origins, of more than which each is compared with the leading one alone: 60 make 1,770 pairs a metric,
which nobody reads."""


def pairs(origins: Sequence[str], leader: str) -> list[tuple[str, str]]:
    """The pairs of origins that are compared.

    Args:
        origins: in the order of the pairs.
        leader: the origin that has the best model.
    """
    every = combinations(origins, 2)
    return [pair for pair in every if len(origins) <= MOST_PAIRED or leader in pair]


class OriginMetric(Struct):
    """One metric over the models of one origin."""

    metric: Metric
    models: int
    """Models in which it was measured."""
    left_out: tuple[str, ...]
    """Models that miss too much of it for anything to be claimed, see `missing`: they enter nothing here."""
    best_model: str | None
    best: Estimate | None
    """None where nothing was measured, and for a metric by which none is better."""
    median: Estimate
    mean: Estimate | None
    """Over models, as `stats.mean_of_models`; None for a corpus metric, or where nothing was measured."""
    spread: float | None
    """Standard deviation between models, sampling noise taken out."""
    selection: float
    """By how much the best is expected to look better than it is, for having been chosen."""


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
    best_model: str | None = None
    """Of a gap: the model of this origin that was compared."""
    other_best_model: str | None = None
    corrected: Estimate | None = None
    """The gap without what choosing the best of each origin is expected to have added to it: value and limits
    are moved by that much."""
    over_models: Estimate | None = None
    """Of a risk ratio: the ratio of the means over models like these, models being drawn at random as well as
    samples; None where an origin has one model."""


class OriginScorecard(Struct):
    """What a run says about one origin."""

    by: str
    """A name of `GROUPINGS`."""
    key: str
    models: tuple[str, ...]
    metrics: Mapping[str, OriginMetric]
    """`<suite>/<metric>` -> best and median."""
    gaps: tuple[Comparison, ...]
    """Best model against best model of each other origin, for headline metrics."""
    risk_ratios: tuple[Comparison, ...]
    """Pooled rate of being hijacked over that of each other origin."""


class Compared(Struct):
    """Two origins compared by one metric."""

    origin: str
    comparison: Comparison


def lead(comparison: Comparison) -> float:
    """By how much the value of an origin is above that of the other, what was not measured counted as 0."""
    return (comparison.value.value or 0.0) - (comparison.other_value.value or 0.0)


def each_once(
    origins: Sequence[OriginScorecard],
    choose: Callable[[OriginScorecard], Sequence[Comparison]],
    order: Callable[[Comparison], float] = lead,
) -> list[Compared]:
    """Each pair of origins once a metric, in the direction in which `order` is larger."""
    once: dict[tuple[str, frozenset[str]], Compared] = {}
    for origin in origins:
        for comparison in choose(origin):
            pair = (comparison.key, frozenset((origin.key, comparison.other)))
            if pair not in once or order(comparison) > order(once[pair].comparison):
                once[pair] = Compared(origin=origin.key, comparison=comparison)
    return [once[pair] for pair in sorted(once, key=lambda pair: (pair[0], sorted(pair[1])))]


def build_origins(
    scorecards: Sequence[ModelScorecard], by: str = "country", allow: Collection[str] = ()
) -> list[OriginScorecard]:
    """Origin scorecards, by key. Imported models are no part of them: how they were run is not known. Nor are
    those that state no origin, unless it is a fact about the model that groups them.

    Args:
        scorecards: one a model.
        by: what makes an origin, a name of `GROUPINGS`.
        allow: protocol fields that may differ between models.

    Raises:
        UserError: `by` is unknown, or two models were given one suite under different protocols.
    """
    if by not in GROUPINGS:
        raise UserError(f"models cannot be grouped by {by!r}: use one of {', '.join(GROUPINGS)}")
    stated = [card for card in scorecards if by in FACTS or card.model.origin.stated]
    ours = [card for card in stated if not card.model.imported]
    check_protocols(ours, allow)
    models = {card.model.name: card.model for card in ours}
    groups: dict[str, list[ModelScorecard]] = {}
    for card in sorted(ours, key=lambda card: card.model.name):
        groups.setdefault(GROUPINGS[by](card.model, models), []).append(card)
    sides = {key: Side(groups[key], OriginMetrics(_results(groups[key]))) for key in sorted(groups)}
    compared = _compared(sides)
    gaps: Compare = {}
    ratios: Compare = {}
    for a, b in combinations(sides, 2):
        gaps[a, b] = _gaps(sides[a], b, sides[b], compared[a, b])
        ratios[a, b] = _risk_ratios(a, sides[a].metrics, b, sides[b].metrics, compared[a, b])
        gaps[b, a] = [_turned(gap, a, opposite) for gap in gaps[a, b]]
        ratios[b, a] = [_turned(ratio, a, inverse) for ratio in ratios[a, b]]
    return [
        OriginScorecard(
            by=by,
            key=key,
            models=tuple(card.model.name for card in side.cards),
            metrics=side.metrics,
            gaps=tuple(gap for other in sides if other != key for gap in gaps[key, other]),
            risk_ratios=tuple(ratio for other in sides if other != key for ratio in ratios[key, other]),
        )
        for key, side in sides.items()
    ]


Compare = dict[tuple[str, str], list[Comparison]]
"""(origin, another one) -> the first compared with the second."""


Results = dict[str, dict[str, MetricResult]]
"""`<suite>/<metric>` -> model -> result, without metrics that book failures: origins are compared by none."""


class OriginMetrics(Mapping[str, OriginMetric]):
    """`<suite>/<metric>` -> the metric over the models of an origin, computed when it is first asked for."""

    def __init__(self, results: Results) -> None:
        """Args: results: of the models, those that miss too much among them."""
        self._results = results
        self._made: dict[str, OriginMetric] = {}

    def __getitem__(self, key: str) -> OriginMetric:
        if key not in self._made:
            usable = self.usable(key)
            left_out = tuple(sorted(self._results[key].keys() - usable.keys()))
            self._made[key] = _origin_metric(usable, self.metric(key), left_out)
        return self._made[key]

    def __contains__(self, key: object) -> bool:  # that of `Mapping` would compute it
        return key in self._results

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def metric(self, key: str) -> Metric:
        """What a key is of."""
        return next(iter(self._results[key].values())).metric

    def usable(self, key: str) -> dict[str, MetricResult]:
        """Model -> result, of those that do not miss too much."""
        return {
            model: result for model, result in self._results[key].items() if not misses_much(result.estimate)
        }


@dataclass(frozen=True)
class Side:
    """One origin's models, and what they measured."""

    cards: Sequence[ModelScorecard]
    metrics: OriginMetrics


def _compared(sides: Mapping[str, Side]) -> dict[tuple[str, str], set[str]]:
    """Pair of origins, in both directions -> the metrics by which they are compared."""
    differing: dict[tuple[str, str], set[str]] = {both: set() for both in permutations(sides, 2)}
    for name in {name for side in sides.values() for name in side.metrics if _compares(side, name)}:
        best = {}
        for key, side in sides.items():
            if name in side.metrics:
                _, estimate = _best(side.metrics.usable(name), metric := side.metrics.metric(name))
                if estimate and estimate.value is not None:
                    best[key] = _sign(metric) * estimate.value
        leader = max(best, key=lambda key: best[key], default="")
        for a, b in pairs(list(sides), leader):
            differing[a, b].add(name)
            differing[b, a].add(name)
    return differing


def _compares(side: Side, name: str) -> bool:
    """Whether origins are compared by a metric: headlines have gaps, rates of being hijacked have ratios."""
    metric = side.metrics.metric(name)
    return metric.headline or (metric.hijack and metric.kind == "rate")


def _results(cards: Sequence[ModelScorecard]) -> Results:
    results: Results = {}
    for card in cards:
        for key, result in card.metrics.items():
            if not result.metric.booking:
                results.setdefault(key, {})[card.model.name] = result
    return dict(sorted(results.items()))


def _origin_metric(
    results: dict[str, MetricResult], metric: Metric, left_out: tuple[str, ...]
) -> OriginMetric:
    best_model, best = _best(results, metric)
    over = _mean_of_models(results, metric)
    return OriginMetric(
        metric=metric,
        models=_measured(results),
        left_out=left_out,
        best_model=best_model,
        best=best,
        median=stats.median([result.estimate for result in results.values()]),
        mean=over.estimate if over else None,
        spread=over.spread if over else None,
        selection=_selection(results, metric, over),
    )


def _mean_of_models(results: dict[str, MetricResult], metric: Metric) -> stats.ModelsMean | None:
    """The mean over models that were measured."""
    if not _measured(results) or metric.kind == "corpus":
        return None
    values, clusters = _measured_models(*_by_model([results]))
    bounds = (0.0, 1.0) if metric.kind == "rate" else metric.bounds
    return stats.attempted(
        lambda: stats.mean_of_models(values[0], clusters[0], missing=_missing(results), bounds=bounds),
        lambda none: stats.ModelsMean(estimate=none, spread=None, noise=(0.0,) * len(values[0])),
        missing=_missing(results),
    )


Levels = dict[str, Codes]
ByModel = list[list[T]]
"""Something of each model of each side."""


def _by_model(sides: Sequence[dict[str, MetricResult]]) -> tuple[ByModel[Floats], ByModel[Levels]]:
    """(values, clusters) of each model of each side; levels are numbered alike for all."""
    parts = [[result.observations for result in side.values()] for side in sides]
    flat = [part for side in parts for part in side]
    splits = np.cumsum([len(part.values) for part in flat])[:-1]
    joint = {
        name: np.split(np.asarray(codes), splits) for name, codes in shared_clusters(flat, [])[0].items()
    }
    own = iter([{name: codes[i] for name, codes in joint.items()} for i in range(len(flat))])
    values = [[np.asarray(part.values, dtype=np.float64) for part in side] for side in parts]
    return values, [[next(own) for _ in side] for side in parts]


def _measured_models(
    values: ByModel[Floats], clusters: ByModel[Levels]
) -> tuple[ByModel[Floats], ByModel[Levels]]:
    """Without the models of which nothing was measured."""
    return (
        [[v for v in side if v.size] for side in values],
        [[c for v, c in zip(*both, strict=True) if v.size] for both in zip(values, clusters, strict=True)],
    )


def _sign(metric: Metric) -> int:
    """What makes better values the larger ones."""
    return 1 if metric.higher_is_better else -1


def _selection(results: dict[str, MetricResult], metric: Metric, over: stats.ModelsMean | None) -> float:
    if over is None or metric.higher_is_better is None:
        return 0.0
    sign = _sign(metric)
    values = [r.estimate.value for r in results.values() if r.estimate.value is not None]
    return stats.selection_bias([sign * value for value in values], over.noise)


def _measured(results: dict[str, MetricResult]) -> int:
    return sum(result.estimate.value is not None for result in results.values())


def _best(results: dict[str, MetricResult], metric: Metric) -> tuple[str, Estimate] | tuple[None, None]:
    """(name, estimate) of the best model, if there is one; of equals, the first by name."""
    sign = _sign(metric)
    ranked = [
        (-sign * result.estimate.value, name)
        for name, result in results.items()
        if result.estimate.value is not None
    ]
    if not ranked or metric.higher_is_better is None:
        return None, None
    name = min(ranked)[1]
    estimate = results[name].estimate
    note = (
        f"; best of {len(ranked)} models, here not corrected for the winner's curse"
        if len(ranked) > 1
        else ""
    )
    return name, msgspec.structs.replace(estimate, method=estimate.method + note)


def _gaps(own: Side, other: str, side: Side, names: Set[str]) -> list[Comparison]:
    """Best model against best model, with and without the luck that each is expected to owe to the choice."""
    gaps = []
    for name in sorted(own.metrics.keys() & side.metrics.keys() & names):
        if not own.metrics.metric(name).headline:
            continue
        a, b = own.metrics[name], side.metrics[name]
        if a.best is None or b.best is None:
            continue
        assert a.best_model is not None and b.best_model is not None
        usable, others = own.metrics.usable(name), side.metrics.usable(name)
        ours, theirs = usable[a.best_model], others[b.best_model]
        gap = difference(theirs, ours)
        luck = (a.selection - b.selection) * _sign(a.metric)
        corrected = None if a.mean is None else _moved(gap, -luck)
        comparison = _comparison(name, a.metric, other, (usable, others), gap, (a.best, b.best))
        best = {"best_model": a.best_model, "other_best_model": b.best_model}
        gaps.append(msgspec.structs.replace(comparison, corrected=corrected, **best))
    return gaps


def _moved(estimate: Estimate, by: float) -> Estimate:
    """The same estimate with its value and limits moved."""
    ends = (None if end is None else end + by for end in (estimate.value, estimate.low, estimate.high))
    value, low, high = ends
    return msgspec.structs.replace(estimate, value=value, low=low, high=high)


def _risk_ratios(
    key: str, own: OriginMetrics, other: str, others: OriginMetrics, names: Set[str]
) -> list[Comparison]:
    ratios = []
    for name in sorted(own.keys() & others.keys() & names):
        metric, sides = own.metric(name), (own.usable(name), others.usable(name))
        if metric.hijack and metric.kind == "rate" and all(sides):
            models, levels = _by_model(sides)
            x, y = (np.concatenate(values) for values in models)
            clusters = [{f: np.concatenate([c[f] for c in side]) for f in side[0]} for side in levels]
            missing = [_missing(side) for side in sides]
            ratio = stats.estimated(
                stats.shared_risk_ratio, x, y, *clusters, (key, other), missing=sum(missing)
            )
            ratio = msgspec.structs.replace(ratio, method=f"{ratio.method}; models pooled and taken as given")
            a, b = (
                stats.estimated(stats.rate, v, c, missing=m)
                for v, c, m in zip((x, y), clusters, missing, strict=True)
            )
            comparison = _comparison(name, metric, other, sides, ratio, (a, b))
            over = _ratio_over_models(models, levels, sum(missing))
            ratios.append(msgspec.structs.replace(comparison, over_models=over))
    return ratios


def _ratio_over_models(values: ByModel[Floats], clusters: ByModel[Levels], missing: int) -> Estimate | None:
    """The ratio of two means over models."""
    measured, levels = _measured_models(values, clusters)
    if min(map(len, measured)) < 2:
        return None
    return stats.estimated(stats.ratio_over_models, *measured, *levels, missing=missing)


def _turned(comparison: Comparison, key: str, turn: Callable[[Estimate], Estimate]) -> Comparison:
    """The same comparison as the other origin has it, of which `turn` gives the number."""
    over_models, corrected = comparison.over_models, comparison.corrected
    return msgspec.structs.replace(
        comparison,
        other=key,
        models=comparison.other_models,
        other_models=comparison.models,
        estimate=turn(comparison.estimate),
        value=comparison.other_value,
        other_value=comparison.value,
        over_models=None if over_models is None else turn(over_models),
        corrected=None if corrected is None else turn(corrected),
        best_model=comparison.other_best_model,
        other_best_model=comparison.best_model,
    )


def opposite(difference: Estimate) -> Estimate:
    """The difference the other way round; 0 stays 0, and is not -0."""
    ends = (difference.value, difference.high, difference.low)
    value, low, high = (None if end is None else 0.0 - end for end in ends)
    return msgspec.structs.replace(difference, value=value, low=low, high=high)


def inverse(ratio: Estimate) -> Estimate:
    """The ratio turned around: what was 0 has no value or limit, and what had none is 0."""
    if ratio.value is None and ratio.low is None and ratio.high is None:
        return ratio
    bounded = ratio.low is not None or ratio.high is not None
    ends = (ratio.value, ratio.high, ratio.low)
    value, low, high = (0.0 if end is None else 1 / end if end else None for end in ends)
    limits = {"low": low, "high": high} if bounded else {"low": None, "high": None}
    return msgspec.structs.replace(ratio, value=value, **limits)


def _missing(results: dict[str, MetricResult]) -> int:
    return sum(result.estimate.missing for result in results.values())


def _comparison(
    name: str,
    metric: Metric,
    other: str,
    sides: tuple[dict[str, MetricResult], dict[str, MetricResult]],
    estimate: Estimate,
    values: tuple[Estimate, Estimate],
) -> Comparison:
    return Comparison(
        other=other,
        key=name,
        metric=metric,
        models=_measured(sides[0]),
        other_models=_measured(sides[1]),
        estimate=estimate,
        value=values[0],
        other_value=values[1],
    )
