"""Two numbers of each model against each other, as SVG: readable in print and without colour."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import pairwise

import numpy as np

from harness.analysis.missing import misses_much
from harness.hostile import page_template
from harness.reports import text
from harness.reports.claims_text import lag_sentences
from harness.reports.document import Document
from harness.reports.plotting import (
    HEIGHT,
    WIDTHS,
    Axis,
    Line,
    Plot,
    Sign,
    labelled,
    logarithmic_axis,
    point,
    share_axis,
    short,
)
from harness.reports.words import plain_name
from harness.site.board import Board, Column, Row
from harness.site.page import SHARED, TEMPLATES, Frame, model_path
from harness.types import Estimate

LABELLED = 14
"""Points that are labelled: of more, those on the line of the best, and the first of the others."""
FEWEST = 3
"""Models of an origin through which a trend goes."""


Worded = tuple[float, float | None, float | None, str]
"""(value, low, high, words)."""


def plots_page(frame: Frame, document: Document | None) -> tuple[str, dict[str, str]]:
    """(the page, file -> SVG of each plot that can be taken away)."""
    plots = list(_plots(frame.board, frame.signs, document))
    svg = page_template(TEMPLATES / "file.svg.j2", SHARED)
    files = {f"plots/{plot.name}.svg": svg.render(plot=plot, height=HEIGHT, alone=True) for plot in plots}
    return frame.render(
        "plots.html.j2", "plots.html", "Plots", plots=plots, height=HEIGHT, alone=False
    ), files


def _plots(board: Board, signs: dict[str, Sign], document: Document | None) -> Iterator[Plot]:
    pairs = _attack_pairs(board)
    for number, (utility, hijack) in enumerate(pairs):
        said = f"{utility.suite}: {plain_name(hijack.metric)} against {plain_name(utility.metric).lower()}"
        differs = ", ".join(f"{field} {value}" for field, value in hijack.differs)
        plot = _plot(
            board,
            f"hijack-{number}",
            said + (f" ({differs})" if differs else ""),
            "Best: bottom right.",
            (share_axis(plain_name(utility.metric)), _of(utility)),
            (share_axis(plain_name(hijack.metric)), _of(hijack)),
            signs,
        )
        if plot:
            yield plot
    if not board.capability:
        return
    y = share_axis("Capability"), _capability
    against: list[tuple[str, str, Callable[[Row], Worded | None], bool]] = [
        ("cost", "Engine seconds of an attempt", lambda row: _seconds(board, row), True),
        ("active", "Active parameters", lambda row: _count(row.facts.active, "active parameters"), True),
        ("weights", "Size of the weights, which a GPU has to hold", _weights, True),
    ]
    for name, title, value, pareto in against:
        form = text.format_bytes if value is _weights else text.format_size
        values = [v[0] for row in board.rows if (v := value(row)) and _capability(row)]
        if len(values) < 2:
            continue
        scale = logarithmic_axis(title, values, form)
        if plot := _plot(
            board,
            name,
            f"Capability against {title[0].lower()}{title[1:]}",
            "",
            (scale, value),
            y,
            signs,
            pareto=pareto,
        ):
            yield plot
    days = [v[0] for row in board.rows if (v := _day(row)) and _capability(row)]
    if len(set(days)) > 1:
        lags = lag_sentences(document.claims) if document and document.claims else []
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
            (_day_axis(days), _day),
            y,
            signs,
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


def _known(estimate: Estimate | None, words: str) -> Worded | None:
    if estimate is None or estimate.value is None or misses_much(estimate):
        return None
    return estimate.value, estimate.low, estimate.high, words


def _of(column: Column) -> Callable[[Row], Worded | None]:
    def value(row: Row) -> Worded | None:
        number = row.numbers.get(column.id)
        return (
            _known(number.estimate, text.format_interval(number.estimate, column.metric)) if number else None
        )

    return value


def _capability(row: Row) -> Worded | None:
    estimate = row.capability
    if estimate is None or estimate.value is None:
        return None
    limits = (
        ""
        if estimate.low is None or estimate.high is None
        else f" [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    )
    return _known(estimate, f"{100 * estimate.value:.1f}%{limits}")


def _count(count: int | None, what: str) -> Worded | None:
    return (float(count), None, None, f"{text.format_size(count)} {what}") if count else None


def _weights(row: Row) -> Worded | None:
    size = row.model.architecture.weight_bytes if row.model.architecture else 0
    return (float(size), None, None, f"{text.format_bytes(size)}, {row.facts.gpu}") if size else None


def _seconds(board: Board, row: Row) -> Worded | None:
    """Engine seconds of an attempt over the benchmarks of capability."""
    suites = [row.numbers[name].suite for name in board.capability if name in row.numbers]
    seconds, finished = sum(s.usage.engine_seconds for s in suites), sum(s.finished for s in suites)
    if not seconds or not finished or row.model.imported:
        return None
    return seconds / finished, None, None, f"{seconds / finished:.3g} s an attempt"


def _day(row: Row) -> Worded | None:
    try:
        day = date.fromisoformat((row.model.origin.release_date or "")[:10])
    except ValueError:
        return None
    return float(day.toordinal()), None, None, day.isoformat()


def _day_axis(days: Sequence[float]) -> Axis:
    """Of days as ordinals: from the first of a month to that of another, by whole months or years."""
    held = [date.fromordinal(int(day)) for day in days]
    months = [12 * day.year + day.month - 1 for day in held]
    first, last = min(months), max(months) + 1
    step = next(step for step in (1, 2, 3, 6, 12, 24, 60, 120, 600) if last - first <= 4 * step)
    ticks = [date(at // 12, at % 12 + 1, 1) for at in range(first - first % step, last + step, step)]
    form = "%Y" if step % 12 == 0 else "%b %Y"
    said = tuple((float(tick.toordinal()), tick.strftime(form)) for tick in ticks)
    return Axis(title="Released", low=said[0][0], high=said[-1][0], ticks=said)


def _plot(
    board: Board,
    name: str,
    title: str,
    note: str,
    x: tuple[Axis, Callable[[Row], Worded | None]],
    y: tuple[Axis, Callable[[Row], Worded | None]],
    signs: dict[str, Sign],
    *,
    pareto: bool = False,
    trend: bool = False,
) -> Plot | None:
    """None where fewer than two models have both."""
    both = [(row, a, b) for row in board.rows if (a := x[1](row)) and (b := y[1](row))]
    if len(both) < 2:
        return None
    (across, _), (up, _) = x, y
    best = _best(both) if pareto else []
    few = (best + both)[:LABELLED] if len(both) > LABELLED else both
    named = {row.id for row, _, _ in few}
    points = [
        point(
            row.called,
            f"{row.called}: {across.title.lower()} {a[3]}, {up.title.lower()} {b[3]}",
            signs[row.facts.country],
            (across, a[:3]),
            (up, b[:3]),
            model_path(row),
        )
        for row, a, b in both
    ]
    texts = [short(row.called) if row.id in named else "" for row, _, _ in both]
    for width in WIDTHS:
        points = labelled(points, texts, width)
    lines = [
        Line(
            kind="pareto",
            x1=across.at(a[1][0]),
            y1=100 - up.at(a[2][0]),
            x2=across.at(b[1][0]),
            y2=100 - up.at(b[2][0]),
        )
        for a, b in pairwise(best)
    ]
    if lines:
        note = " ".join((note, "Dashed: the models that no other beats in both.")).strip()
    lines += _trends(both, across, up, signs) if trend else []
    countries = {row.facts.country for row, _, _ in both}
    return Plot(
        name=name,
        title=title,
        note=" ".join((note, *(f"{line.said}." for line in lines if line.said))),
        x=across,
        y=up,
        points=tuple(points),
        lines=tuple(lines),
        key=tuple((country, signs[country]) for country in sorted(countries)),
    )


def _best(both: Sequence[tuple[Row, Worded, Worded]]) -> list[tuple[Row, Worded, Worded]]:
    """The models that no other is both cheaper and better than, the cheapest first."""
    frontier: list[tuple[Row, Worded, Worded]] = []
    for one in sorted(both, key=lambda one: (one[1][0], -one[2][0])):
        if not frontier or one[2][0] > frontier[-1][2][0]:
            frontier.append(one)
    return frontier


def _trends(
    both: Sequence[tuple[Row, Worded, Worded]], across: Axis, up: Axis, signs: dict[str, Sign]
) -> Iterator[Line]:
    """A line through each origin that has enough models, and how much it rises in a year."""
    for key in sorted({row.facts.country for row, _, _ in both}):
        own = [(a[0], b[0]) for row, a, b in both if row.facts.country == key]
        if len(own) < FEWEST or len({x for x, _ in own}) < 2:
            continue
        slope, start = np.polyfit([x for x, _ in own], [y for _, y in own], 1)
        first, last = min(x for x, _ in own), max(x for x, _ in own)
        ends = [float(start + slope * x) for x in (first, last)]
        yield Line(
            kind="trend",
            x1=across.at(first),
            y1=100 - up.at(ends[0]),
            x2=across.at(last),
            y2=100 - up.at(ends[1]),
            color=signs[key].color,
            said=f"{key}: {100 * 365.25 * float(slope):+.1f} points a year, {len(own)} models",
        )
