"""Scorecards as one self-contained page: no scripts, nothing loaded from elsewhere.

The models by their headlines come first, then at most three plots and what origins say; the rest is folded.
The plots' positions are percentages of the width, so that they fit a phone and a desk alike while their text
keeps its size.
"""

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from markupsafe import Markup

from harness.analysis.origins import CALLED
from harness.analysis.summary import CAPABILITY, Column, Row, Summary
from harness.analysis.variants import Ways
from harness.hostile import page_template
from harness.reports import tables, text
from harness.reports.agents import agent_tables
from harness.reports.defences import defence_tables
from harness.reports.document import Document
from harness.reports.tables import Table
from harness.reports.transfers import transfer_tables
from harness.reports.variants import field_name, variant_tables
from harness.reports.words import comparisons, meaning, notes, plain_name, warnings
from harness.types import Estimate, Metric, Struct

COLORS = 8
"""Colours of origins in the page's style sheet."""
KNOWN_COLORS = {
    "US": 0,
    "CN": 1,
    "FR": 2,
    "KR": 3,
    "CA": 4,
    "AE": 5,
    "GB": 6,
    "JP": 7,
    "XA": 0,
    "XB": 1,
    "XC": 2,
}
"""Countries whose models often stand side by side, none in the colour of another."""
PLOT_HEIGHT = 300
"""Height of a plot in pixels."""
LABEL_HEIGHT = 15
MAX_LABELS = 12
"""Points that are labelled with their names; where there are more, with numbers."""
MAX_VARIED = 3
"""Models whose variants are plotted."""
MAX_PLOTTED = 60
"""Models in a plot: the first by the summary."""
PAGE_BYTES = 900_000
"""About how large a page becomes: folded tables that do not fit are left to the other formats."""
SHOWN = 6
"""Sentences of a kind that are not folded."""
COMPARED = 8
"""Models, the first by the summary, that have a column in the table of benchmarks."""

COST = Metric(name="engine_seconds", higher_is_better=False)
"""Engine seconds of an attempt at a benchmark without attacks."""


class Mark(Struct):
    """A value on an axis. Positions are percentages of the axis, None where nothing was measured."""

    caption: str
    at: float | None
    low: float | None
    high: float | None


class Axis(Struct):
    """The range of a metric."""

    title: str
    metric: Metric
    low: float
    high: float
    labels: tuple[str, ...] = ()
    """Of values that are words, at 0.5, 1.5 and so on."""

    def position(self, value: float | None) -> float | None:
        """Where a value lies, in percent of the axis."""
        if value is None:
            return None
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(position, label) of five ticks, or of every word."""
        if self.labels:
            return [(round(100 * (i + 0.5) / self.high, 2), label) for i, label in enumerate(self.labels)]
        unit = "%" if text.is_share(self.metric) else ""
        values = [self.low + (self.high - self.low) * i / 4 for i in range(5)]
        labels = [f"{100 * v:.0f}" if unit else f"{v:.3g}" for v in values]
        return [(25.0 * i, f"{label}{unit}") for i, label in enumerate(labels)]


class Point(Struct):
    """A model in a plot, in percent from the left and from the bottom."""

    model: str
    x: Mark
    y: Mark
    color: int
    label: str = ""
    label_y: float = 0.0
    """In pixels from the top."""


class Plot(Struct):
    """Two headlines against each other."""

    x: Axis
    y: Axis
    points: tuple[Point, ...]
    lines: tuple[tuple[Point, Point], ...] = ()
    """From one point to the next."""
    key: tuple[tuple[str, int], ...] = ()
    """(name, colour) where colours do not tell origins."""

    @property
    def best(self) -> str:
        """The corner, or the side, in which the best models lie."""
        top = "top" if self.y.metric.higher_is_better else "bottom"
        right = self.x.metric.higher_is_better
        return f"best: {top}" + ("" if right is None else f" {'right' if right else 'left'}")

    @property
    def numbered(self) -> bool:
        """True if the points are labelled with numbers, which a legend explains."""
        return len(self.points) > MAX_LABELS


class Cell(Struct):
    """A cell of the table of models: a value with its interval, and how much stands behind it."""

    value: str
    interval: str
    count: str
    same: str = ""
    """The interval on the very tasks, where there are two."""


class Headline(Struct):
    """A row of the table of models."""

    model: str
    said: str
    origin: str
    color: int
    cells: tuple[Cell, ...]


def render_html(document: Document) -> str:
    """The page. Every text in it is escaped, and stripped of control characters."""
    cards = document.models
    summary = document.summary
    said, known = comparisons(document), warnings(document)
    page = page_template(Path(__file__).with_name("page.html.j2"))
    values = {
        "name": document.name,
        "about": _about(document),
        "warnings": (known[:SHOWN], known[SHOWN:]),
        "columns": [(plain_name(c.metric), text.arrow(c.metric), meaning(c.metric)) for c in summary.columns],
        "several": any(len(column.keys) > 1 for column in summary.columns),
        "headlines": [_headline(row, summary.columns) for row in summary.rows],
        "plots": [*_plots(summary), *_variant_plots(document)],
        "plot_height": PLOT_HEIGHT,
        "origins": {country: color(country) for country in sorted({c.model.origin.country for c in cards})},
        "by": CALLED[document.by],
        "comparisons": (said[:SHOWN], said[SHOWN:]),
        "notes": notes(document),
        "footnotes": [*tables.booking_notes(cards), *tables.cost_notes(cards)],
        "books": bool(tables.bookings_of(cards)),
        "benchmarks": _shown(_benchmarks(summary, document)),
        "compared": COMPARED,
    }
    bare = page.render(**values, folded=[], left_out=[])
    folded, left_out = _fitting(document, PAGE_BYTES - len(bare.encode()))
    return page.render(**values, folded=folded, left_out=left_out).rstrip() + "\n"


def _about(document: Document) -> str:
    counted = (
        f"{len(members)} {what}{'' if len(members) == 1 else 's'}"
        for members, what in ((document.models, "model"), (tables.suite_names(document.models), "benchmark"))
    )
    return f"{', '.join(counted)}, {text.run_of(document.created)}harness {document.versions['harness']}"


def color(country: str) -> int:
    """The colour of a country, the same in every run."""
    return KNOWN_COLORS.get(country, sha256(country.encode()).digest()[0] % COLORS)


def is_numeric(cell: str) -> bool:
    """Whether a cell begins with a number, so that it is aligned to the right."""
    return re.match(r"[-+]?[\d∞]", cell) is not None


def _benchmarks(summary: Summary, document: Document) -> Table:
    """The first models' headlines, benchmark by benchmark."""
    first = Summary(columns=summary.columns, rows=summary.rows[:COMPARED])
    return tables.headline_table(first, document.models)


def _headline(row: Row, columns: Sequence[Column]) -> Headline:
    model = row.card.model
    said = [*(["imported"] if model.imported else []), *([] if row.ranked else ["not ranked"])]
    seconds = "not known" if row.seconds_per_attempt is None else f"{row.seconds_per_attempt:.3g} s"
    return Headline(
        model=model.name,
        said=", ".join(said),
        origin=model.origin.country,
        color=color(model.origin.country),
        cells=(
            *map(_cell, row.estimates, row.measured, columns),
            Cell(value=seconds, interval="", count=""),
        ),
    )


def _cell(estimate: Estimate | None, measured: int, column: Column) -> Cell:
    if estimate is None:
        return Cell(value="not run", interval="", count="")
    value, _, interval = text.format_interval(estimate, column.metric).partition(" [")
    of = len(column.keys)
    partly = f", {measured} of {of} benchmarks" if 0 < measured < of else ""
    count = text.format_count(estimate, column.metric) + partly
    same = text.format_same_tasks(estimate, column.metric)
    return Cell(value=value, interval=f"[{interval}" if interval else "", count=count, same=same)


# Folded tables


def _shown(table: Table) -> Markup:
    template = page_template(Path(__file__).with_name("table.html.j2"))
    return Markup(template.render(table=table, numeric=is_numeric))


def _fitting(document: Document, left: int) -> tuple[list[tuple[Table, Markup]], list[str]]:
    """(tables with their HTML, while they fit into so many bytes; titles of the others)."""
    fit, left_out = [], []
    for table in _folded(document):
        least = sum(len(cell) + len("<td></td>") for row in table.rows for cell in row)
        shown = _shown(table) if least < left else Markup()
        if not shown:  # it takes long, and fits in no case
            left_out.append(table.title)
            continue
        left -= len(shown.encode())
        if left > 0:
            fit.append((table, shown))
        else:
            left_out.append(table.title)
    return fit, left_out


def _folded(document: Document) -> Iterator[Table]:
    """What is asked for less often, in that order."""
    cards = document.models
    yield from variant_tables(document)
    yield from agent_tables(document)
    yield from defence_tables(document)
    yield from transfer_tables(document)
    yield tables.models_table(cards)
    yield tables.attempts_table(cards)
    yield tables.origins_table(document.origins)
    yield tables.cost_table(cards)
    yield tables.engines_table(document.engines)
    yield tables.protocols_table(document.protocols)
    for suite in tables.suite_names(cards):
        yield tables.suite_table(cards, suite)
    yield from tables.member_tables(cards)
    yield from tables.injection_task_tables(cards)
    yield from tables.booking_tables(cards)
    yield tables.methods_table(cards)


# Plots


def _plots(summary: Summary) -> Iterator[Plot]:
    """Hijacking against the user's task and against capability, capability against cost."""
    places = {column.metric.name: i for i, column in enumerate(summary.columns)}
    hijacked = next((n for n, i in places.items() if summary.columns[i].metric.hijack), None)
    pairs = [("benign_utility", hijacked), (CAPABILITY.name, hijacked), (COST.name, CAPABILITY.name)]
    for x, y in pairs:
        plot = None if y is None else _plot(summary, places, x, y)
        if plot is not None:
            yield plot


def _plot(summary: Summary, places: dict[str, int], x: str, y: str) -> Plot | None:
    """None where fewer than two models have both."""
    both = []
    for row in summary.rows:
        point = [_value(row, places, name) for name in (x, y)]
        if point[0] is not None and point[1] is not None:
            both.append((row, point[0], point[1]))
    if len(both) < 2:
        return None
    both = both[:MAX_PLOTTED]
    axes = [
        _axis(_metric(summary, places, name), [values[i] for _, *values in both])
        for i, name in enumerate((x, y))
    ]
    marks = [(_mark(a, axes[0]), _mark(b, axes[1])) for _, a, b in both]
    heights = spread([PLOT_HEIGHT * (1 - (mark.at or 0.0) / 100) for _, mark in marks])
    points = tuple(
        Point(
            model=row.card.model.name,
            x=mark_x,
            y=mark_y,
            color=color(row.card.model.origin.country),
            label=row.card.model.name if len(both) <= MAX_LABELS else str(number),
            label_y=height,
        )
        for number, ((row, *_), (mark_x, mark_y), height) in enumerate(
            zip(both, marks, heights, strict=True), 1
        )
    )
    return Plot(x=axes[0], y=axes[1], points=points)


def _variant_plots(document: Document) -> Iterator[Plot]:
    """What one parameter of a model does, by the others: to capability, and to being hijacked."""
    columns = document.summary.columns
    first = next((i for i, column in enumerate(columns) if column.metric == CAPABILITY), None)
    hijacked = next((i for i, column in enumerate(columns) if column.metric.hijack), None)
    for ways in [ways for ways in document.ways if ways.crossed][:MAX_VARIED]:
        for i in (first, hijacked):
            plot = None if i is None else _variant_plot(ways, i, columns[i].metric)
            if plot is not None:
                yield plot


def _variant_plot(ways: Ways, column: int, metric: Metric) -> Plot | None:
    """The parameter with most values along the plot, a line for each combination of the others.

    None where fewer than two variants have a value.
    """
    field = max(ways.varied, key=lambda name: len(ways.varied[name]))
    values = ways.varied[field]
    groups: dict[str, dict[int, tuple[str, Estimate]]] = {}
    for way in ways.ways:
        estimate = way.row.estimates[column]
        if estimate is not None and estimate.value is not None:
            others = ", ".join(value for name, value in way.values.items() if name != field)
            own = groups.setdefault(others or ways.model, {})
            own[values.index(way.values[field])] = way.row.card.model.name, estimate
    estimates = [estimate for own in groups.values() for _, estimate in own.values()]
    if len(estimates) < 2:
        return None
    x = Axis(
        title=f"{field_name(field)} of {ways.model}",
        metric=Metric(name=field, higher_is_better=None),
        low=0,
        high=len(values),
        labels=values,
    )
    y = _axis(metric, estimates)
    lines: list[list[Point]] = []
    for color, own in enumerate(groups.values()):
        beside = (color + 1) / (len(groups) + 1)  # so that intervals do not lie on each other
        lines.append(
            [
                Point(
                    model=model,
                    x=Mark(caption=values[place], at=x.position(place + beside), low=None, high=None),
                    y=_mark(estimate, y),
                    color=color % COLORS,
                )
                for place, (model, estimate) in sorted(own.items())
            ]
        )
    return Plot(
        x=x,
        y=y,
        points=tuple(point for line in lines for point in line),
        lines=tuple(pair for line in lines for pair in pairwise(line)),
        key=tuple((name, color % COLORS) for color, name in enumerate(groups)),
    )


def _metric(summary: Summary, places: dict[str, int], name: str) -> Metric:
    return COST if name == COST.name else summary.columns[places[name]].metric


def _value(row: Row, places: dict[str, int], name: str) -> Estimate | None:
    """A headline of a model that can be plotted: measured, and of all benchmarks."""
    if name == COST.name:
        seconds = row.seconds_per_attempt
        if not seconds:
            return None
        return Estimate(value=seconds, low=None, high=None, n=0, missing=0, clusters=0, method="")
    estimate = row.estimates[places[name]] if name in places else None
    return None if estimate is None or estimate.value is None else estimate


def _axis(metric: Metric, estimates: Sequence[Estimate]) -> Axis:
    """The metric's bounds, or a range from 0 that holds every value."""
    title = "Engine seconds per attempt" if metric == COST else plain_name(metric)
    if text.is_share(metric):
        return Axis(title=title, metric=metric, low=0.0, high=1.0)
    ends = [end for e in estimates for end in (e.value, e.low, e.high) if end is not None]
    low, high = min(0.0, *ends), max(ends)
    return Axis(title=title, metric=metric, low=low, high=high + 0.05 * (high - low) or 1.0)


def _mark(estimate: Estimate, axis: Axis) -> Mark:
    return Mark(
        caption=f"{estimate.value:.3g}"
        if axis.metric == COST
        else text.format_interval(estimate, axis.metric),
        at=axis.position(estimate.value),
        low=axis.position(estimate.low),
        high=axis.position(estimate.high),
    )


def spread(heights: Sequence[float], height: float = PLOT_HEIGHT) -> list[float]:
    """Heights of labels, moved as far as is needed for none to lie on another or below a plot of a height."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=lambda i: moved[i])
    lowest = -float(LABEL_HEIGHT)
    for i in order:
        moved[i] = lowest = round(max(moved[i], lowest + LABEL_HEIGHT), 1)
    highest = float(height + LABEL_HEIGHT)
    for i in reversed(order):
        moved[i] = highest = round(min(moved[i], highest - LABEL_HEIGHT), 1)
    return moved
