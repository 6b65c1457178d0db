"""The front: one table of models and headline benchmarks."""

from collections.abc import Sequence
from typing import Any

from harness.analysis.summary import CAPABILITY
from harness.reports import text
from harness.site.board import Board, Column, Row
from harness.site.page import (
    Frame,
    Heading,
    Shown,
    badges,
    cells_of,
    heading,
    model_path,
    shown,
)
from harness.types import Struct

FEW = 9
"""Columns that are shown at first, where there are many; the others are a choice away."""
MANY = 12

FACETS = (
    ("country", "Country"),
    ("developer", "Developer"),
    ("base", "Country of the base weights"),
    ("licence", "Licence"),
    ("openness", "Published"),
    ("kind", "Dense or MoE"),
    ("mode", "Mode"),
    ("quantised", "Quantised"),
    ("gpu", "Smallest GPU"),
)
"""(field of `Facts`, what it is called): what the table is filtered by."""


class Line(Struct):
    """A row of the table."""

    name: str
    path: str
    origin: str
    country: str
    params: str
    badges: tuple[str, ...]
    facts: dict[str, str]
    cells: tuple[Shown | None, ...]


def front(frame: Frame) -> str:
    """The page."""
    board = frame.board
    columns = foremost(board.rows, headline_columns(board))
    composite = len(board.capability) > 1
    headings = [heading(board, column) for column in columns]
    if composite:
        headings.insert(0, _capability_heading(board))
    first = board.columns[0] if board.columns else None
    rows = sorted(board.rows, key=lambda row: _place(row, first, composite=composite))
    return frame.render(
        "front.html.j2",
        "index.html",
        "Models",
        headings=headings,
        lines=[_line(board, row, columns, composite=composite) for row in rows],
        facets=[
            (name, title, sorted({str(getattr(row.facts, name)) for row in board.rows}))
            for name, title in FACETS
        ],
        few=FEW if len(headings) > MANY else 0,
        runs=len(board.runs),
        refused=len(board.refused),
        attempts=sum(cell.published.attempts for run in board.runs for cell in run.cells),
    )


def headline_columns(board: Board) -> list[Column]:
    """The columns that stand on the front."""
    return [column for column in board.columns if column.metric.headline]


def foremost(rows: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    """Benchmarks in an order such that each model has numbers in one of the first: greedy set cover.

    Each next benchmark is of the most models that have none so far. When all have one, the others follow as
    they were.
    """
    benchmarks: dict[Any, list[Column]] = {}
    for column in columns:
        benchmarks.setdefault((column.suite, column.differs), []).append(column)
    models = {
        key: {row.id for row in rows if any(column.id in row.numbers for column in own)}
        for key, own in benchmarks.items()
    }
    first: list[Any] = []
    left = set().union(*models.values())
    while left:
        first.append(max(models, key=lambda key: len(models[key] & left)))
        left -= models[first[-1]]
    order = [*first, *(key for key in benchmarks if key not in first)]
    return [column for key in order for column in benchmarks[key]]


def _capability_heading(board: Board) -> Heading:
    return Heading(
        id="capability",
        suite=f"mean of {len(board.capability)} benchmarks",
        name="Capability",
        arrow=text.arrow(CAPABILITY).replace(" ", "\u00a0"),
        direction=1,
        meaning="mean over the benchmarks without attacks of their headline rates, of models that have all",
        differs=(),
        path="about.html#capability",
    )


def _place(row: Row, first: Column | None, *, composite: bool) -> tuple[bool, float, str]:
    """Without a script the table is in the order of its first column."""
    if composite:
        value = row.capability.value if row.capability else None
        sign = -1
    else:
        number = row.numbers.get(first.id) if first else None
        value = number.estimate.value if number else None
        sign = -1 if first and first.metric.higher_is_better else 1
    return value is None, sign * (value or 0.0), row.model.name.lower()


def _line(board: Board, row: Row, columns: Sequence[Column], *, composite: bool) -> Line:
    cells: list[Shown | None] = []
    if composite:
        cells.append(shown(row.capability, CAPABILITY, (0.0, 1.0), None) if row.capability else None)
    cells += cells_of(board, row, columns)
    facts = row.facts
    return Line(
        name=row.called,
        path=model_path(row),
        origin=facts.developer,
        country=facts.country,
        params=text.format_params(row.model.architecture),
        badges=tuple(label for label, _ in badges(list(row.numbers.values()), imported=row.model.imported)),
        facts={
            **{name: str(getattr(facts, name)) for name, _ in FACETS},
            "total": "" if facts.total is None else str(facts.total),
            "active": "" if facts.active is None else str(facts.active),
            "released": "" if facts.released == "unknown" else facts.released,
            "measured": facts.measured,
        },
        cells=tuple(cells),
    )
