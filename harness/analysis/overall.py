"""The most capable models of each pair of origins, over all benchmarks."""

from collections.abc import Iterator, Sequence

from harness import stats
from harness.analysis.build import ModelScorecard
from harness.analysis.compare import difference
from harness.analysis.origins import Compared, Comparison, OriginScorecard, pairs
from harness.analysis.summary import CAPABILITY, Column, Row, summarise


def overall_gaps(cards: Sequence[ModelScorecard], origins: Sequence[OriginScorecard]) -> Iterator[Compared]:
    """The gaps in capability; none where there is one benchmark, whose own gap says the same."""
    summary = summarise(cards)
    if not summary.columns or summary.columns[0].metric != CAPABILITY or len(summary.columns[0].keys) < 2:
        return
    first: dict[str, list[Row]] = {
        origin.key: [row for row in summary.rows if row.ranked and row.card.model.name in origin.models]
        for origin in origins
    }
    place = {row.card.model.name: i for i, row in enumerate(summary.rows)}
    best = {key: place[rows[0].card.model.name] for key, rows in first.items() if rows}
    for a, b in pairs(list(best), min(best, key=lambda key: best[key], default="")):
        if best[a] > best[b]:
            a, b = b, a
        yield Compared(origin=a, comparison=_capability_gap(b, first[a], first[b], summary.columns[0]))


def _capability_gap(other: str, ours: Sequence[Row], theirs: Sequence[Row], column: Column) -> Comparison:
    """The first of some models against the first of others, over benchmarks, paired by sample."""
    best, other_best = ours[0].card, theirs[0].card
    gaps = [difference(other_best.metrics[k], best.metrics[k]) for k in column.keys]
    value, other_value = ours[0].estimates[0], theirs[0].estimates[0]
    assert value is not None and other_value is not None, "ranked models have a capability"
    return Comparison(
        other=other,
        key=column.metric.name,
        metric=column.metric,
        models=len(ours),
        other_models=len(theirs),
        estimate=stats.average(gaps),
        value=value,
        other_value=other_value,
        best_model=best.model.name,
        other_best_model=other_best.model.name,
    )
