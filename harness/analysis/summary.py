"""One row a model: what all its benchmarks come to, by which models are sorted."""

from collections.abc import Sequence

import msgspec

from harness import stats
from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.missing import misses_much
from harness.types import Estimate, Metric, Struct

CAPABILITY = Metric(name="capability", higher_is_better=True, kind="rate", bounds=(0.0, 1.0), headline=True)
"""Mean over the benchmarks without attacks of their headline rates, each benchmark counting the same."""


class Column(Struct):
    """A headline of a model over several benchmarks."""

    metric: Metric
    keys: tuple[str, ...]
    """`<benchmark>/<metric>` that it is the mean of, each counting the same."""


class Row(Struct):
    """A model in the summary."""

    card: ModelScorecard
    estimates: tuple[Estimate | None, ...]
    """By column; None where the model has none of its benchmarks."""
    measured: tuple[int, ...]
    """By column, how many of its benchmarks are in the mean."""
    seconds_per_attempt: float | None
    """Engine seconds of benchmarks without attacks; None for an imported model, or without any."""
    ranked: bool
    """Whether the first column is over all of its benchmarks, so that it can be ranked by."""


class Summary(Struct):
    """Models by their headlines, the best first; those that cannot be ranked come last, by name."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def attacked_suites(cards: Sequence[ModelScorecard]) -> set[str]:
    """Benchmarks that measure hijacking in any way."""
    return {
        name
        for card in cards
        for name, suite in card.suites.items()
        if suite.by_injection_task or any(is_of_attacks(r) for r in card.metrics.values() if r.suite == name)
    }


def is_of_attacks(result: MetricResult) -> bool:
    """Whether a result measures hijacking, or is given that it can be measured."""
    return result.metric.hijack or bool(result.metric.given)


def is_capability(result: MetricResult, attacked: set[str]) -> bool:
    """Whether a result is a headline rate of a benchmark without attacks, and of what a model can do.

    What a judge says of replies is what a model is willing to do: a model that refuses is not less able.
    """
    metric = result.metric
    able = bool(metric.higher_is_better) and not metric.judged
    return able and metric.headline and metric.kind == "rate" and result.suite not in attacked


def summarise(cards: Sequence[ModelScorecard]) -> Summary:
    """The summary of the models of a run."""
    columns = _columns(cards)
    rows = [_row(card, columns) for card in cards]
    sign = -1 if columns and columns[0].metric.higher_is_better else 1

    def place(row: Row) -> tuple[bool, float, str]:
        value = row.estimates[0].value if row.ranked and row.estimates[0] else None
        return not row.ranked, sign * (value or 0.0), row.card.model.name

    return Summary(columns=columns, rows=tuple(sorted(rows, key=place)))


def _columns(cards: Sequence[ModelScorecard]) -> tuple[Column, ...]:
    attacked = attacked_suites(cards)
    capability: dict[str, None] = {}
    others: dict[str, tuple[Metric, dict[str, None]]] = {}
    for card in cards:
        for key, result in card.metrics.items():
            if is_capability(result, attacked):
                capability.setdefault(key)
            elif result.metric.headline and (result.suite in attacked or result.metric.kind == "rate"):
                others.setdefault(result.metric.name, (result.metric, {}))[1].setdefault(key)
    first = [Column(metric=CAPABILITY, keys=tuple(sorted(capability)))] if capability else []
    return (*first, *(Column(metric=metric, keys=tuple(sorted(keys))) for metric, keys in others.values()))


def _row(card: ModelScorecard, columns: Sequence[Column]) -> Row:
    own = [[card.metrics[key] for key in column.keys if key in card.metrics] for column in columns]
    usable = [[r for r in results if r.estimate.value is not None] for results in own]
    estimates = [_mean(rates, every) for rates, every in zip(usable, own, strict=True)]
    whole = bool(columns) and len(usable[0]) == len(columns[0].keys)
    return Row(
        card=card,
        estimates=tuple(estimates),
        measured=tuple(map(len, usable)),
        seconds_per_attempt=_seconds(card, columns),
        ranked=whole and not any(misses_much(result.estimate) for result in own[0]),
    )


def _mean(usable: Sequence[MetricResult], every: Sequence[MetricResult]) -> Estimate | None:
    """The mean over benchmarks; the estimate itself where there is one."""
    if len(every) == 1:
        return every[0].estimate
    if not usable:
        return every[0].estimate if every else None
    missing = sum(result.estimate.missing for result in every)
    return msgspec.structs.replace(stats.average([result.estimate for result in usable]), missing=missing)


def _seconds(card: ModelScorecard, columns: Sequence[Column]) -> float | None:
    """Engine seconds of an attempt at a benchmark without attacks."""
    if card.model.imported or not columns or columns[0].metric != CAPABILITY:
        return None
    suites = [card.suites[name] for key in columns[0].keys if (name := key.rpartition("/")[0]) in card.suites]
    finished = sum(suite.finished for suite in suites)
    return sum(suite.usage.engine_seconds for suite in suites) / finished if finished else None
