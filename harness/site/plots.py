"""Two numbers of each model against each other, as SVG: readable in print and without colour."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from harness.analysis.missing import misses_much
from harness.hostile import page_template
from harness.reports import text
from harness.reports.claims_text import claim_answers
from harness.reports.document import Document
from harness.reports.html import color
from harness.reports.words import plain_name
from harness.site.board import Board, Column, Row
from harness.site.page import TEMPLATES, Frame, model_path
from harness.types import Estimate, Struct

WIDTH, HEIGHT = 640, 420
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 16, 44
"""Margins."""
LABELLED = 14
"""Points that are labelled: of more, those on the line of the best, and the first of the others."""
SHAPES = ("circle", "square", "diamond", "triangle", "down", "cross")
"""Of origins, so that no colour is needed to tell them apart."""
FEWEST = 3
"""Models of an origin through which a trend goes."""
LETTER, LINE, MARK = 6.6, 13.0, 7.0
"""Width of a letter and height of a line of a label, and half the width of a point, in pixels."""


@dataclass(frozen=True)
class Scale:
    """An axis."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, 1e-12))
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def x(self, value: float) -> float:
        """In pixels from the left."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * self.share(value), 1)

    def y(self, value: float) -> float:
        """In pixels from the top."""
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - self.share(value)), 1)


class Point(Struct):
    """A model in a plot, in pixels."""

    name: str
    path: str
    said: str
    color: int
    shape: str
    x: float
    y: float
    x_ends: tuple[float, float] | None
    y_ends: tuple[float, float] | None
    label: str
    label_x: float
    label_y: float
    anchor: str


class Label(NamedTuple):
    """Where a label stands, in pixels."""

    x: float
    y: float
    """Of its baseline."""
    anchor: str


class Plot(Struct):
    """A plot."""

    name: str
    """Of its file."""
    title: str
    note: str
    x_title: str
    y_title: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]
    pareto: str
    """Corners of the line of the best, empty where there is none."""
    trends: tuple[tuple[int, float, float, float, float, str], ...]
    """(colour, x1, y1, x2, y2, words) of each origin's trend."""
    origins: tuple[tuple[str, int, str], ...]
    """(key, colour, shape)."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


Value = tuple[float, float | None, float | None, str]
"""(value, low, high, words)."""


def plots_page(frame: Frame, document: Document | None) -> tuple[str, dict[str, str]]:
    """(the page, file -> SVG of each plot that can be taken away)."""
    plots = list(_plots(frame.board, document))
    svg = page_template(TEMPLATES / "plot.svg.j2")
    files = {f"plots/{plot.name}.svg": svg.render(plot=plot, alone=True) for plot in plots}
    return frame.render("plots.html.j2", "plots.html", "Plots", plots=plots), files


def _plots(board: Board, document: Document | None) -> Iterator[Plot]:
    shapes = {
        key: SHAPES[i % len(SHAPES)] for i, key in enumerate(sorted({r.facts.country for r in board.rows}))
    }
    pairs = _attack_pairs(board)
    for number, (utility, hijack) in enumerate(pairs):
        said = f"{utility.suite}: {plain_name(hijack.metric)} against {plain_name(utility.metric).lower()}"
        differs = ", ".join(f"{field} {value}" for field, value in hijack.differs)
        plot = _plot(
            board,
            f"hijack-{number}",
            said + (f" ({differs})" if differs else ""),
            "Best: bottom right.",
            (_share_scale(plain_name(utility.metric)), _of(utility)),
            (_share_scale(plain_name(hijack.metric)), _of(hijack)),
            shapes,
        )
        if plot:
            yield plot
    if not board.capability:
        return
    y = _share_scale("Capability"), _capability
    against: list[tuple[str, str, Callable[[Row], Value | None], bool]] = [
        ("cost", "Engine seconds of an attempt", lambda row: _seconds(board, row), True),
        ("active", "Active parameters", lambda row: _count(row.facts.active, "active parameters"), True),
        ("weights", "Size of the weights, which a GPU has to hold", _weights, True),
    ]
    for name, title, value, pareto in against:
        form = text.format_bytes if value is _weights else text.format_size
        scale = _log_scale(
            title, [v[0] for row in board.rows if (v := value(row)) and _capability(row)], form
        )
        if scale is None:
            continue
        if plot := _plot(
            board,
            name,
            f"Capability against {title[0].lower()}{title[1:]}",
            "",
            (scale, value),
            y,
            shapes,
            pareto=pareto,
        ):
            yield plot
    days = [v[0] for row in board.rows if (v := _day(row)) and _capability(row)]
    if len(set(days)) > 1:
        lags = claim_answers(document.claims)["lags"] if document and document.claims else []
        plot = _plot(
            board,
            "date",
            "Capability against release date",
            " ".join(
                [
                    f"Lines: least squares through origins with at least {FEWEST} models, about these models "
                    "alone.",
                    *(f"Lag of {lag}" for lag in lags),
                ]
            ),
            (_day_scale(days), _day),
            y,
            shapes,
            trend=True,
        )
        if plot:
            yield plot


def _attack_pairs(board: Board) -> list[tuple[Column, Column]]:
    """(utility without an attack, rate of being hijacked) of each benchmark that has both."""
    pairs = []
    for hijack in board.columns:
        if not (hijack.metric.hijack and hijack.metric.headline and hijack.metric.name == "targeted_asr"):
            continue
        utility = [
            c
            for c in board.columns
            if c.suite == hijack.suite and c.metric.name == "benign_utility" and c.protocol == hijack.protocol
        ]
        if utility:
            pairs.append((utility[0], hijack))
    return pairs


def _known(estimate: Estimate | None, words: str) -> Value | None:
    if estimate is None or estimate.value is None or misses_much(estimate):
        return None
    return estimate.value, estimate.low, estimate.high, words


def _of(column: Column) -> Callable[[Row], Value | None]:
    def value(row: Row) -> Value | None:
        number = row.numbers.get(column.id)
        return (
            _known(number.estimate, text.format_interval(number.estimate, column.metric)) if number else None
        )

    return value


def _capability(row: Row) -> Value | None:
    estimate = row.capability
    if estimate is None or estimate.value is None:
        return None
    limits = (
        ""
        if estimate.low is None or estimate.high is None
        else f" [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    )
    return _known(estimate, f"{100 * estimate.value:.1f}%{limits}")


def _count(count: int | None, what: str) -> Value | None:
    return (float(count), None, None, f"{text.format_size(count)} {what}") if count else None


def _weights(row: Row) -> Value | None:
    size = row.model.architecture.weight_bytes if row.model.architecture else 0
    return (float(size), None, None, f"{text.format_bytes(size)}, {row.facts.gpu}") if size else None


def _seconds(board: Board, row: Row) -> Value | None:
    """Engine seconds of an attempt over the benchmarks of capability."""
    suites = [row.numbers[name].suite for name in board.capability if name in row.numbers]
    seconds, finished = sum(s.usage.engine_seconds for s in suites), sum(s.finished for s in suites)
    if not seconds or not finished or row.model.imported:
        return None
    return seconds / finished, None, None, f"{seconds / finished:.3g} s an attempt"


def _day(row: Row) -> Value | None:
    try:
        day = date.fromisoformat((row.model.origin.release_date or "")[:10])
    except ValueError:
        return None
    return float(day.toordinal()), None, None, day.isoformat()


def _share_scale(title: str) -> Scale:
    return Scale(title, 0.0, 1.0, tuple((i / 4, f"{25 * i}%") for i in range(5)))


def _log_scale(title: str, values: Sequence[float], form: Callable[[int], str]) -> Scale | None:
    """A logarithmic scale from 1, 2 or 5 times a power of ten to another; None for fewer than two values.

    Args:
        title: of the axis.
        values: that it holds.
        form: how a tick is written that is a whole number; others are written with three digits.
    """
    if len(values) < 2:
        return None
    least, most = min(values) / 1.05, max(values) * 1.05
    powers = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 2)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    low, high = max(s for s in steps if s <= least), min(s for s in steps if s >= most)
    ticks = [s for s in steps if low <= s <= high]
    if len(ticks) > MOST_TICKS:
        ticks = [10.0**power for power in powers if low <= 10.0**power <= high]
    return Scale(title, low, high, tuple((t, form(int(t)) if t >= 1 else f"{t:g}") for t in ticks), log=True)


MOST_TICKS = 7
"""Of a logarithmic scale; with more, powers of ten alone."""


def _day_scale(days: Sequence[float]) -> Scale:
    low, high = min(days), max(days)
    edge = max(15.0, (high - low) * 0.05)
    ticks = [low + (high - low) * i / 4 for i in range(5)]
    return Scale(
        "Released",
        low - edge,
        high + edge,
        tuple((t, date.fromordinal(int(t)).strftime("%b %Y")) for t in ticks),
    )


def _plot(
    board: Board,
    name: str,
    title: str,
    note: str,
    x: tuple[Scale, Callable[[Row], Value | None]],
    y: tuple[Scale, Callable[[Row], Value | None]],
    shapes: dict[str, str],
    *,
    pareto: bool = False,
    trend: bool = False,
) -> Plot | None:
    """None where fewer than two models have both."""
    both = [(row, a, b) for row in board.rows if (a := x[1](row)) and (b := y[1](row))]
    if len(both) < 2:
        return None
    (sx, _), (sy, _) = x, y
    best = _best(both) if pareto else []
    named = (
        {row.id for row, _, _ in (best + both)[:LABELLED]}
        if len(both) > LABELLED
        else {r.id for r, _, _ in both}
    )
    labels = _labels([(sx.x(a[0]), sy.y(b[0]), _label(row) if row.id in named else "") for row, a, b in both])
    points = tuple(
        _point(row, a, b, sx, sy, shapes, label) for (row, a, b), label in zip(both, labels, strict=True)
    )
    if len(best) > 1:
        note = " ".join((note, "Dashed: the models that no other beats in both.")).strip()
    keys = sorted({row.facts.country for row, _, _ in both})
    return Plot(
        name=name,
        title=title,
        note=note,
        x_title=sx.title,
        y_title=sy.title,
        x_ticks=tuple((sx.x(tick), label) for tick, label in sx.ticks),
        y_ticks=tuple((sy.y(tick), label) for tick, label in sy.ticks),
        points=points,
        pareto=" ".join(f"{sx.x(a[0])},{sy.y(b[0])}" for _, a, b in best) if len(best) > 1 else "",
        trends=tuple(_trends(both, sx, sy)) if trend else (),
        origins=tuple((key, color(key), shapes[key]) for key in keys),
    )


def _point(
    row: Row, a: Value, b: Value, sx: Scale, sy: Scale, shapes: dict[str, str], label: Label | None
) -> Point:
    at = label or Label(0.0, 0.0, "start")
    return Point(
        name=row.model.name,
        path=model_path(row),
        said=f"{row.model.name}: {sx.title.lower()} {a[3]}, {sy.title.lower()} {b[3]}",
        color=color(row.facts.country),
        shape=shapes[row.facts.country],
        x=sx.x(a[0]),
        y=sy.y(b[0]),
        x_ends=None if a[1] is None or a[2] is None else (sx.x(a[1]), sx.x(a[2])),
        y_ends=None if b[1] is None or b[2] is None else (sy.y(b[1]), sy.y(b[2])),
        label=_label(row) if label else "",
        label_x=at.x,
        label_y=at.y,
        anchor=at.anchor,
    )


def _label(row: Row) -> str:
    return row.model.name if len(row.model.name) <= 28 else row.model.name[:27] + "…"


def _labels(points: Sequence[tuple[float, float, str]]) -> list[Label | None]:
    """Where each label stands: the nearest place beside its point that no point and no other label has.

    Args:
        points: (x, y, label) in pixels; an empty label needs no place.

    Returns:
        for each point, None where it has no label, or there is no place for it.
    """
    taken = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y, _ in points]
    labels: list[Label | None] = []
    for x, y, label in points:
        width, place = LETTER * len(label), None
        for down in (0, LINE, -LINE, 2 * LINE, -2 * LINE, 3 * LINE, -3 * LINE) if label else ():
            for anchor, left in (("start", x + MARK + 2), ("end", x - MARK - 2 - width)):
                box = (left, y + down - LINE / 2, left + width, y + down + LINE / 2)
                inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
                if place is None and inside and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    edge = box[0] if anchor == "start" else box[2]
                    place = Label(round(edge, 1), round(y + down + 4, 1), anchor)
        labels.append(place)
    return labels


Box = tuple[float, float, float, float]
"""(left, top, right, bottom)."""


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _best(both: Sequence[tuple[Row, Value, Value]]) -> list[tuple[Row, Value, Value]]:
    """The models that no other is both cheaper and better than, the cheapest first."""
    frontier: list[tuple[Row, Value, Value]] = []
    for one in sorted(both, key=lambda one: (one[1][0], -one[2][0])):
        if not frontier or one[2][0] > frontier[-1][2][0]:
            frontier.append(one)
    return frontier


def _trends(
    both: Sequence[tuple[Row, Value, Value]], sx: Scale, sy: Scale
) -> Iterator[tuple[int, float, float, float, float, str]]:
    """A line through each origin that has enough models, and how much it rises in a year."""
    for key in sorted({row.facts.country for row, _, _ in both}):
        own = [(a[0], b[0]) for row, a, b in both if row.facts.country == key]
        if len(own) < FEWEST or len({x for x, _ in own}) < 2:
            continue
        slope, start = np.polyfit([x for x, _ in own], [y for _, y in own], 1)
        first, last = min(x for x, _ in own), max(x for x, _ in own)
        ends = [float(start + slope * x) for x in (first, last)]
        words = f"{key}: {100 * 365.25 * float(slope):+.1f} points a year, {len(own)} models"
        yield color(key), sx.x(first), sy.y(ends[0]), sx.x(last), sy.y(ends[1]), words
