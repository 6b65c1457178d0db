"""Scorecards as one self-contained page: no scripts, nothing loaded from elsewhere.

The charts' positions are percentages of the width, so that they fit a phone and a desk alike while their
text keeps its size.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from harness.hostile import page_template
from harness.scorecards import tables, text
from harness.scorecards.build import MetricResult, ModelScorecard
from harness.scorecards.document import Document
from harness.scorecards.origins import OriginScorecard
from harness.scorecards.tables import Table
from harness.scorecards.words import comparisons, notes, warnings
from harness.types import Estimate, Metric, Struct

COLORS = 8
"""Colours of origins in the page's style sheet."""
PLOT_HEIGHT = 300
"""Height of a scatter plot in pixels."""
LABEL_HEIGHT = 15
MAX_LABELS = 12
"""Points that are labelled with their names; where there are more, with numbers."""


class Mark(Struct):
    """A model on an axis. Positions are percentages of the axis, None where nothing was measured."""

    model: str
    caption: str
    count: str
    at: float | None
    low: float | None
    high: float | None


class Axis(Struct):
    """The range of a metric."""

    metric: Metric
    low: float
    high: float

    def position(self, value: float | None) -> float | None:
        """Where a value lies, in percent of the axis."""
        if value is None:
            return None
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(position, label) of five ticks."""
        unit = "%" if text.is_share(self.metric) else ""
        values = [self.low + (self.high - self.low) * i / 4 for i in range(5)]
        labels = [f"{100 * v:.0f}" if unit else f"{v:.3g}" for v in values]
        return [(25.0 * i, f"{label}{unit}") for i, label in enumerate(labels)]


class Forest(Struct):
    """One metric: a dot and an interval for each model, grouped by origin."""

    title: str
    direction: str
    axis: Axis
    groups: tuple[tuple[str, int, tuple[Mark, ...]], ...]
    """(origin, colour, its models)."""


class Point(Struct):
    """A model in a scatter plot, in percent from the left and from the top."""

    x: Mark
    y: Mark
    color: int
    label: str
    label_y: float
    """In pixels from the top."""


class Scatter(Struct):
    """Two metrics against each other."""

    x_title: str
    y_title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]

    @property
    def numbered(self) -> bool:
        """True if the points are labelled with numbers, which a legend explains."""
        return len(self.points) > MAX_LABELS


def render_html(document: Document) -> str:
    """The page. Every text in it is escaped, and stripped of control characters."""
    scorecards, origins = document.models, document.origins
    colors = {country: i % COLORS for i, country in enumerate(_countries(scorecards))}
    return (
        page_template(Path(__file__).with_name("page.html.j2"))
        .render(
            models=len(scorecards),
            origins=colors,
            incomplete=", ".join(card.model.name for card in scorecards if not card.complete),
            comparisons=comparisons(document),
            notes=[
                *warnings(document),
                *notes(document),
                *tables.booking_notes(scorecards),
                *tables.cost_notes(scorecards),
            ],
            forests=_forests(scorecards, colors),
            scatters=_scatters(scorecards, colors),
            plot_height=PLOT_HEIGHT,
            tables=_tables(scorecards, origins),
            books=bool(tables.bookings_of(scorecards)),
            footnotes=[
                *tables.injection_task_tables(scorecards),
                *tables.booking_tables(scorecards),
                tables.methods_table(scorecards),
                tables.engines_table(document.engines),
                tables.protocols_table(document.protocols),
            ],
        )
        .rstrip()
        + "\n"
    )


def _countries(cards: Sequence[ModelScorecard]) -> list[str]:
    return sorted({card.model.origin.country for card in cards})


def _tables(cards: Sequence[ModelScorecard], origins: Sequence[OriginScorecard]) -> list[Table]:
    return [
        tables.models_table(cards),
        *(tables.suite_table(cards, suite) for suite in tables.suite_names(cards)),
        tables.attempts_table(cards),
        tables.origins_table(origins),
        tables.cost_table(cards),
    ]


def _axis(metric: Metric, estimates: Sequence[Estimate]) -> Axis:
    """The metric's bounds, or a range that holds every interval."""
    if text.is_share(metric):
        return Axis(metric=metric, low=0.0, high=1.0)
    ends = [end for e in estimates for end in (e.value, e.low, e.high) if end is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = 0.05 * (high - low) or abs(high) or 1.0
    return Axis(metric=metric, low=low - margin, high=high + margin)


def _name(card: ModelScorecard) -> str:
    return f"{card.model.name} (imported)" if card.model.imported else card.model.name


def _mark(model: str, result: MetricResult, axis: Axis) -> Mark:
    estimate = result.estimate
    return Mark(
        model=model,
        caption=text.format_interval(estimate, result.metric),
        count=text.format_count(estimate, result.metric),
        at=axis.position(estimate.value),
        low=axis.position(estimate.low),
        high=axis.position(estimate.high),
    )


def _forests(cards: Sequence[ModelScorecard], colors: dict[str, int]) -> list[Forest]:
    """One chart a headline metric; where no metric is a headline, one a metric."""
    metrics = tables.metrics_of(cards)
    shown = {key: metric for key, metric in metrics.items() if metric.headline} or metrics
    return [_forest(cards, key, metric, colors) for key, metric in shown.items()]


def _forest(cards: Sequence[ModelScorecard], key: str, metric: Metric, colors: dict[str, int]) -> Forest:
    measured = [card for card in tables.ordered(cards) if key in card.metrics]
    axis = _axis(metric, [card.metrics[key].estimate for card in measured])
    groups = tuple(
        (country, colors[country], tuple(_mark(_name(c), c.metrics[key], axis) for c in group))
        for country, group in groupby(measured, key=lambda card: card.model.origin.country)
    )
    return Forest(title=key, direction=text.direction(metric), axis=axis, groups=groups)


def _scatters(cards: Sequence[ModelScorecard], colors: dict[str, int]) -> list[Scatter]:
    """Headline capability metrics against headline rates of being hijacked."""
    return [_scatter(cards, x, y, colors) for x, y in _pairs(tables.metrics_of(cards))]


def _pairs(metrics: dict[str, Metric]) -> Iterator[tuple[str, str]]:
    """(capability metric, hijack metric), of different suites."""
    headline = {key: metric for key, metric in metrics.items() if metric.headline}
    hijack = [key for key, metric in headline.items() if metric.hijack]
    attacked = {key.rpartition("/")[0] for key, metric in metrics.items() if metric.hijack}
    for x in headline:
        if x.rpartition("/")[0] not in attacked:
            yield from ((x, y) for y in hijack)


def _scatter(cards: Sequence[ModelScorecard], x: str, y: str, colors: dict[str, int]) -> Scatter:
    both = [
        card
        for card in tables.ordered(cards)
        if all(key in card.metrics and card.metrics[key].estimate.value is not None for key in (x, y))
    ]
    axes = [_axis(_metric(cards, key), [card.metrics[key].estimate for card in both]) for key in (x, y)]
    marks = [
        tuple(_mark(_name(card), card.metrics[key], axis) for key, axis in zip((x, y), axes, strict=True))
        for card in both
    ]
    heights = _spread([PLOT_HEIGHT * (1 - (mark.at or 0.0) / 100) for _, mark in marks])
    points = tuple(
        Point(
            x=mark_x,
            y=mark_y,
            color=colors[card.model.origin.country],
            label=mark_x.model if len(both) <= MAX_LABELS else str(number),
            label_y=height,
        )
        for number, (card, (mark_x, mark_y), height) in enumerate(zip(both, marks, heights, strict=True), 1)
    )
    return Scatter(x_title=x, y_title=y, x=axes[0], y=axes[1], points=points)


def _metric(cards: Sequence[ModelScorecard], key: str) -> Metric:
    return tables.metrics_of(cards)[key]


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights of labels, moved as far as is needed for none to lie on another or below the plot."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=lambda i: moved[i])
    lowest = -float(LABEL_HEIGHT)
    for i in order:
        moved[i] = lowest = round(max(moved[i], lowest + LABEL_HEIGHT), 1)
    highest = float(PLOT_HEIGHT + LABEL_HEIGHT)
    for i in reversed(order):
        moved[i] = highest = round(min(moved[i], highest - LABEL_HEIGHT), 1)
    return moved
