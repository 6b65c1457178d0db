"""Plots of one run and of a site: marks of origins, axes with their ticks, labels with their places.

Positions are percentages of the area between the axes, whose height is known and whose width is not: so text
keeps its size on a phone and at a desk. `plot.svg.j2` draws it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import count
from typing import NamedTuple

import msgspec

from harness.types import Struct

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""
HEIGHT = 320
"""Of the area between the axes, in pixels."""
WIDTHS = {"narrow": 250, "wide": 430}
"""What labels are for -> the least width of the area, in pixels: on a phone, and elsewhere."""
COLORS = 8
"""Colours in the style sheet of both pages."""
KNOWN = {"US": 0, "CN": 1, "FR": 2, "KR": 3, "CA": 4, "AE": 5, "GB": 6, "JP": 7}
"""Colours of countries whose models often stand side by side."""
SHAPES = (
    "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0z",
    "M-5-5h10v10h-10z",
    "M0-7l7 7l-7 7l-7-7z",
    "M0-7l6.5 12h-13z",
    "M0 7l6.5-12h-13z",
    "M-7 0l12-6.5v13z",
    "M7 0l-12-6.5v13z",
    "M0-8l1.9 5.4 5.7.1-4.5 3.5 1.6 5.5L0 3.3l-4.7 3.2 1.6-5.5-4.5-3.5 5.7-.1z",
)
"""Outlines around (0, 0) in pixels, as many as colours: circle, square, diamond, triangles, star."""
LETTER, LINE, RADIUS = 6.6, 13.0, 7.0
"""Width of a letter and height of a line of a label, and half the width of a mark, in pixels."""
GAP = RADIUS + 2
"""From the middle of a mark to its label, in pixels."""
LONGEST = 28
"""Letters of a label; of a longer name the beginning."""


class Sign(NamedTuple):
    """How an origin is drawn. Up to eight on a page have a colour and a shape that no other has."""

    color: int
    shape: int

    @property
    def outline(self) -> str:
        """Of its shape."""
        return SHAPES[self.shape]


def sign(number: int) -> Sign:
    """The first eight differ in colour and in shape, the first 64 in one of the two."""
    turn, color = divmod(number, COLORS)
    return Sign(color, (color + turn) % len(SHAPES))


def signs(origins: Iterable[str]) -> dict[str, Sign]:
    """How each origin of a page is drawn: always in one way, unless another one here has that already."""
    taken: dict[str, int] = {}
    for origin in sorted(set(origins), key=lambda one: (one not in KNOWN, one)):
        wanted = KNOWN.get(origin, sha256(origin.encode()).digest()[0] % COLORS)
        free = (turn + (wanted + step) % COLORS for turn in count(0, COLORS) for step in range(COLORS))
        taken[origin] = next(number for number in free if number not in taken.values())
    return {origin: sign(number) for origin, number in taken.items()}


class Axis(Struct):
    """What lies along one side of a plot."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    """(value, label)."""
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, in percent of the axis; at its end where it is beyond that."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, 1e-12))
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


def share_axis(title: str) -> Axis:
    """From 0 to 100%."""
    return Axis(title=title, low=0.0, high=1.0, ticks=tuple((i / 4, f"{25 * i}%") for i in range(5)))


def round_axis(title: str, values: Sequence[float]) -> Axis:
    """From 0, or what is less, to a round number that is not less than any value."""
    low, high = min(0.0, *values), max(0.0, *values)
    ticks = round_ticks(low, high if high > low else low + 1.0)
    said = tuple((tick, tick_label(tick)) for tick in ticks)
    return Axis(title=title, low=ticks[0], high=ticks[-1], ticks=said)


def logarithmic_axis(title: str, values: Sequence[float], form: Callable[[int], str]) -> Axis:
    """From one round number to another. Args: values: above 0; form: how a tick is written that is whole."""
    ticks = logarithmic_ticks(min(values) / 1.05, max(values) * 1.05)
    said = tuple((tick, form(int(tick)) if tick >= 1 else tick_label(tick)) for tick in ticks)
    return Axis(title=title, low=ticks[0], high=ticks[-1], ticks=said, log=True)


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, the first not above `low`, the last not below `high`.

    Args:
        low: of the values.
        high: of the values, more than `low`.
        most: steps between ticks that the values may take.
    """
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{step * i:.10g}") for i in range(first, last + 1)]


def logarithmic_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """1, 2 or 5 times powers of ten, as `round_ticks`; of too many, powers and the ends.

    Args:
        low: of the values, above 0.
        high: of the values.
        most: ticks.
    """
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    first, last = max(s for s in steps if s <= low), min(s for s in steps if s >= high)
    ticks = [s for s in steps if first <= s <= last]
    if len(ticks) <= most:
        return ticks
    return [first, *(s for s in ticks[1:-1] if math.log10(s).is_integer()), last]


def tick_label(value: float) -> str:
    """A round number, without an exponent."""
    return f"{value:,.12f}".rstrip("0").rstrip(".")


Value = tuple[float, float | None, float | None]
"""(value, lower end of its interval, upper end)."""


class Label(Struct):
    """Words beside a point, for plots of a width."""

    width: str
    """Of `WIDTHS`."""
    text: str
    dx: float
    """In pixels from the point."""
    y: float
    """Of its baseline, in pixels from the top."""
    anchor: str


class Point(Struct):
    """A model in a plot, in percent from the left and from the top."""

    name: str
    said: str
    sign: Sign
    x: float
    y: float
    x_ends: tuple[float, float] | None
    """Of its interval: left, right."""
    y_ends: tuple[float, float] | None
    """Top, bottom."""
    path: str = ""
    """Of the page that it leads to."""
    labels: tuple[Label, ...] = ()


class Line(Struct):
    """From one place to another, in percent from the left and from the top."""

    kind: str
    """Of line, in the style sheet."""
    x1: float
    y1: float
    x2: float
    y2: float
    color: int | None = None
    said: str = ""


class Plot(Struct):
    """Two numbers of each model against each other."""

    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    key: tuple[tuple[str, Sign], ...]
    """What each mark stands for."""
    lines: tuple[Line, ...] = ()
    note: str = ""
    numbered: tuple[tuple[str, str], ...] = ()
    """(label, model) where points are labelled with numbers."""
    name: str = ""
    """Of its file."""


def point(
    name: str, said: str, sign: Sign, x: tuple[Axis, Value], y: tuple[Axis, Value], path: str = ""
) -> Point:
    """A point without a label."""

    def ends(axis: Axis, value: Value) -> tuple[float, float] | None:
        _, low, high = value
        return None if low is None or high is None else (axis.at(low), axis.at(high))

    across, up = ends(*x), ends(*y)
    return Point(
        name=name,
        said=said,
        sign=sign,
        x=x[0].at(x[1][0]),
        y=round(100 - y[0].at(y[1][0]), 2),
        x_ends=across,
        y_ends=up and (round(100 - up[1], 2), round(100 - up[0], 2)),
        path=path,
    )


def labelled(points: Sequence[Point], texts: Sequence[str], width: str) -> list[Point]:
    """Points with labels for plots of a width, where there is a place for them; an empty text needs none."""
    wide = WIDTHS[width]

    def box(x1: float, y1: float, x2: float, y2: float) -> Box:
        return wide * x1 / 100, HEIGHT * y1 / 100, wide * x2 / 100, HEIGHT * y2 / 100

    at = [(*box(one.x, one.y, 0, 0)[:2], text) for one, text in zip(points, texts, strict=True)]
    lines = [box(one.x_ends[0], one.y, one.x_ends[1], one.y) for one in points if one.x_ends]
    lines += [box(one.x, one.y_ends[0], one.x, one.y_ends[1]) for one in points if one.y_ends]
    with_labels = []
    for one, text, place in zip(points, texts, places(at, (0.0, -LINE, wide, HEIGHT), lines), strict=True):
        if place:
            dx = GAP if place.anchor == "start" else -GAP
            label = Label(width=width, text=text, dx=dx, y=place.y, anchor=place.anchor)
            one = msgspec.structs.replace(one, labels=(*one.labels, label))
        with_labels.append(one)
    return with_labels


class Place(NamedTuple):
    """Where a label stands, in pixels."""

    x: float
    y: float
    """Of its baseline."""
    anchor: str
    """Which of its ends `x` is, as SVG has it: `start` or `end`."""


def short(name: str) -> str:
    """A name as a label has it."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def places(
    points: Sequence[tuple[float, float, str]], within: Box, lines: Sequence[Box] = ()
) -> list[Place | None]:
    """Where each label stands: the nearest place beside its point that no point and no other label has.

    One that no line crosses is taken first, where there is one.

    In a plot that is stretched from left to right they still lie on nothing: all goes further apart.

    Args:
        points: (x, y, label) in pixels; an empty label needs no place.
        within: where labels may be.
        lines: what is drawn between the points, from left to right or from top to bottom.

    Returns:
        for each point, None where it has no label, or there is no place for it.
    """
    taken: list[Box] = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y, _ in points]
    chosen_places: list[Place | None] = []
    for x, y, label in points:
        free = [
            (box, Place(round(edge, 1), round(box[1] + LINE / 2 + 4, 1), anchor))
            for box, edge, anchor in (_beside(x, y, LETTER * len(label)) if label else ())
            if within[0] <= box[0] and within[1] <= box[1] and box[2] <= within[2] and box[3] <= within[3]
            if not any(_overlap(box, other) for other in taken)
        ]
        uncrossed = (one for one in free if not any(_overlap(one[0], line) for line in lines))
        chosen = next(uncrossed, free[0] if free else None)
        if chosen:
            taken.append(chosen[0])
        chosen_places.append(chosen[1] if chosen else None)
    return chosen_places


def _beside(x: float, y: float, width: float) -> Iterator[tuple[Box, float, str]]:
    """(box, the end at the point, which end that is) of a label beside a point, the nearest first."""
    for down in (0.0, LINE, -LINE, 2 * LINE, -2 * LINE, 3 * LINE, -3 * LINE):
        top, bottom = y + down - LINE / 2, y + down + LINE / 2
        yield (x + GAP, top, x + GAP + width, bottom), x + GAP, "start"
        yield (x - GAP - width, top, x - GAP, bottom), x - GAP, "end"


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
