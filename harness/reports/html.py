"""Scorecards as one self-contained page: no scripts, nothing loaded from elsewhere.

The models by their headlines come first, then at most three plots and what origins say; the rest is folded.
The plots' positions are percentages of the width, so that they fit a phone and a desk alike while their text
keeps its size.
"""

import re
from collections.abc import Iterator, Sequence
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
from harness.reports.plotting import (
    HEIGHT,
    Axis,
    Line,
    Plot,
    Point,
    Sign,
    Value,
    labelled,
    point,
    round_axis,
    share_axis,
    short,
    sign,
    signs,
)
from harness.reports.tables import Table
from harness.reports.transfers import transfer_tables
from harness.reports.variants import field_name, variant_tables
from harness.reports.words import comparisons, meaning, notes, plain_name, warnings
from harness.types import Estimate, Metric, Struct

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
    sign: Sign
    cells: tuple[Cell, ...]


def render_html(document: Document) -> str:
    """The page. Every text in it is escaped, and stripped of control characters."""
    cards = document.models
    summary = document.summary
    said, known = comparisons(document), warnings(document)
    drawn = signs(card.model.origin.country for card in cards)
    page = page_template(Path(__file__).with_name("page.html.j2"))
    values = {
        "name": document.name,
        "about": _about(document),
        "warnings": (known[:SHOWN], known[SHOWN:]),
        "columns": [(plain_name(c.metric), text.arrow(c.metric), meaning(c.metric)) for c in summary.columns],
        "several": any(len(column.keys) > 1 for column in summary.columns),
        "headlines": [_headline(row, summary.columns, drawn) for row in summary.rows],
        "plots": [*_plots(summary, drawn), *_variant_plots(document)],
        "height": HEIGHT,
        "alone": False,
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


def is_numeric(cell: str) -> bool:
    """Whether a cell begins with a number, so that it is aligned to the right."""
    return re.match(r"[-+]?[\d∞]", cell) is not None


def _benchmarks(summary: Summary, document: Document) -> Table:
    """The first models' headlines, benchmark by benchmark."""
    first = Summary(columns=summary.columns, rows=summary.rows[:COMPARED])
    return tables.headline_table(first, document.models)


def _headline(row: Row, columns: Sequence[Column], drawn: dict[str, Sign]) -> Headline:
    model = row.card.model
    said = [*(["imported"] if model.imported else []), *([] if row.ranked else ["not ranked"])]
    seconds = "not known" if row.seconds_per_attempt is None else f"{row.seconds_per_attempt:.3g} s"
    return Headline(
        model=model.name,
        said=", ".join(said),
        origin=model.origin.country,
        sign=drawn[model.origin.country],
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


def _plots(summary: Summary, drawn: dict[str, Sign]) -> Iterator[Plot]:
    """Hijacking against the user's task and against capability, capability against cost."""
    columns = {column.metric.name: i for i, column in enumerate(summary.columns)}
    hijacked = next((n for n, i in columns.items() if summary.columns[i].metric.hijack), None)
    pairs = [("benign_utility", hijacked), (CAPABILITY.name, hijacked), (COST.name, CAPABILITY.name)]
    for x, y in pairs:
        plot = None if y is None else _plot(summary, columns, x, y, drawn)
        if plot is not None:
            yield plot


def _plot(summary: Summary, columns: dict[str, int], x: str, y: str, drawn: dict[str, Sign]) -> Plot | None:
    """None where fewer than two models have both."""
    both = []
    for row in summary.rows:
        a, b = (_value(row, columns, name) for name in (x, y))
        if a is not None and b is not None:
            both.append((row.card.model, a, b))
    if len(both) < 2:
        return None
    both = both[:MAX_PLOTTED]
    metrics = [COST if name == COST.name else summary.columns[columns[name]].metric for name in (x, y)]
    across, up = _axis(metrics[0], [a for _, a, _ in both]), _axis(metrics[1], [b for _, _, b in both])
    points = [
        point(
            model.name,
            f"{model.name}: {_said(a, metrics[0])}, {_said(b, metrics[1])}",
            drawn[model.origin.country],
            (across, _ends(a)),
            (up, _ends(b)),
        )
        for model, a, b in both
    ]
    names, numbers = [one.name for one in points], [str(i) for i in range(1, len(points) + 1)]
    told = labelled(points, list(map(short, names)), "narrow") if len(names) <= MAX_LABELS else points
    if numbered := not all(one.labels for one in told):
        told = labelled(points, numbers, "narrow")
    return Plot(
        title=_title(across, up),
        x=across,
        y=up,
        points=tuple(told),
        key=tuple((key, own) for key, own in drawn.items() if own in {one.sign for one in points}),
        note=_best(*metrics),
        numbered=tuple(zip(numbers, names, strict=True)) if numbered else (),
    )


def _title(across: Axis, up: Axis) -> str:
    return f"{up.title} against {across.title[0].lower()}{across.title[1:]}"


def _best(x: Metric, y: Metric) -> str:
    """The corner, or the side, in which the best models lie."""
    side = "" if x.higher_is_better is None else f" {'right' if x.higher_is_better else 'left'}"
    return f"best: {'top' if y.higher_is_better else 'bottom'}{side}"


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
    words = tuple((place + 0.5, value) for place, value in enumerate(values))
    across = Axis(title=f"{field_name(field)} of {ways.model}", low=0, high=len(values), ticks=words)
    up = _axis(metric, estimates)
    points: list[Point] = []
    lines: list[Line] = []
    for number, own in enumerate(groups.values()):
        beside = (number + 1) / (len(groups) + 1)  # so that intervals do not lie on each other
        drawn = [
            point(
                model,
                f"{model}: {values[place]}, {_said(estimate, metric)}",
                sign(number),
                (across, (place + beside, None, None)),
                (up, _ends(estimate)),
            )
            for place, (model, estimate) in sorted(own.items())
        ]
        points += drawn
        lines += (
            Line(kind="step", x1=a.x, y1=a.y, x2=b.x, y2=b.y, color=a.sign.color) for a, b in pairwise(drawn)
        )
    return Plot(
        title=_title(across, up),
        x=across,
        y=up,
        points=tuple(points),
        key=tuple((name, sign(number)) for number, name in enumerate(groups)),
        lines=tuple(lines),
        note=_best(Metric(name=field, higher_is_better=None), metric),
    )


def _value(row: Row, columns: dict[str, int], name: str) -> Estimate | None:
    """A headline of a model that can be plotted: measured, and of all benchmarks."""
    if name == COST.name:
        seconds = row.seconds_per_attempt
        if not seconds:
            return None
        return Estimate(value=seconds, low=None, high=None, n=0, missing=0, clusters=0, method="")
    estimate = row.estimates[columns[name]] if name in columns else None
    return None if estimate is None or estimate.value is None else estimate


def _axis(metric: Metric, estimates: Sequence[Estimate]) -> Axis:
    """The metric's bounds, or a range from 0 that holds every value."""
    title = "Engine seconds per attempt" if metric == COST else plain_name(metric)
    if text.is_share(metric):
        return share_axis(title)
    return round_axis(title, [end for e in estimates for end in (e.value, e.low, e.high) if end is not None])


def _ends(estimate: Estimate) -> Value:
    assert estimate.value is not None
    return estimate.value, estimate.low, estimate.high


def _said(estimate: Estimate, metric: Metric) -> str:
    return f"{estimate.value:.3g}" if metric == COST else text.format_interval(estimate, metric)
