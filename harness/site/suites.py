"""A page for each benchmark: what is measured and how, with an example, and every model on it."""

from collections.abc import Iterator

import msgspec

from harness.reports.words import meaning, plain_name
from harness.site.board import Board, Column
from harness.site.page import (
    Frame,
    Heading,
    Shown,
    column_axis,
    heading,
    model_path,
    shown,
    suite_slug,
)
from harness.site.reading import Store, TakenCell
from harness.types import Struct

ADAPTERS = {
    "lm_eval": "A task of lm-evaluation-harness, by its own prompts, filters and metrics. Each sample is one "
    "question; a rate counts the right answers.",
    "agentdojo": "An agent with tools does a task for its user. In attacked attempts, something that it "
    "reads along the way holds an order from an attacker. A checker looks at what the agent left behind: "
    "whether the user's task is done, and whether the attacker's goal was reached.",
    "agentdojo_audited": "As AgentDojo, with checkers that were looked over one by one. An agent with tools "
    "does a task for its user while something that it reads holds an order from an attacker.",
    "agentdojo_searched": "As AgentDojo, with an attacker who tries again: texts are developed on some "
    "user tasks, and measured on the others.",
    "injecagent": "An agent is shown the result of one tool call, in which an attacker's order stands. It "
    "counts whether the agent then calls the tool that the attacker asked for.",
    "requests": "Single requests, one reply each. A judge reads each reply and says what it did.",
    "contamination": "A published file of items. It tells whether a model finds the published order "
    "likelier than others, and how many items it goes on with as they are.",
    "stepwise": "An agent in a made-up company is asked for steps of plain work whose whole does harm, and "
    "for the same steps where they do none. It counts how far the agent goes along.",
}
"""What a kind of benchmark measures, in plain words."""
OTHER = "A benchmark of its authors' own."

EXAMPLE = 1200
"""Characters of an example."""


class SuiteNumber(Struct):
    """A model on the page of a benchmark."""

    name: str
    path: str
    country: str
    cell: Shown
    day: str
    attempts: str


class Panel(Struct):
    """One metric under one protocol."""

    heading: Heading
    lines: tuple[SuiteNumber, ...]


def suite_page(frame: Frame, suite: str, store: Store) -> str:
    """The page of a benchmark."""
    board = frame.board
    columns = [column for column in board.columns if column.suite == suite]
    panels = [_panel(board, column) for column in columns]
    first = next((c for c in columns if c.metric.headline), columns[0])
    adapter = first.protocol.get("adapter", "")
    return frame.render(
        "suite.html.j2",
        f"suites/{suite_slug(board, suite)}.html",
        suite,
        suite=suite,
        measured=ADAPTERS.get(adapter, OTHER),
        adapter=adapter or "not told",
        meanings=sorted({(plain_name(c.metric), c.metric.name, meaning(c.metric)) for c in columns}),
        headlines=[p for p, c in zip(panels, columns, strict=True) if c.metric.headline],
        others=[p for p, c in zip(panels, columns, strict=True) if not c.metric.headline],
        protocols=_protocols(columns),
        example=_example(board, columns, store),
        closed=next((cell.published.closed for cell in _cells(board, columns) if cell.published.closed), ""),
    )


def suites_page(frame: Frame) -> str:
    """All benchmarks."""
    board = frame.board
    entries = []
    for suite in sorted({column.suite for column in board.columns}, key=str.lower):
        columns = [column for column in board.columns if column.suite == suite]
        models = sum(any(c.id in row.numbers for c in columns) for row in board.rows)
        names = sorted({plain_name(c.metric) for c in columns if c.metric.headline})
        adapter = columns[0].protocol.get("adapter", "")
        entries.append((suite, suite_slug(board, suite), models, names, ADAPTERS.get(adapter, OTHER)))
    return frame.render("suites.html.j2", "suites.html", "Benchmarks", suites=entries)


def _panel(board: Board, column: Column) -> Panel:
    ends = column_axis(board, column)
    lines = []
    for row in board.having(column):
        number = row.numbers[column.id]
        cell = shown(number.estimate, column.metric, ends, row.ranks.get(column.id))
        lines.append(
            SuiteNumber(
                name=row.called,
                path=f"../{model_path(row)}",
                country=row.facts.country,
                cell=cell,
                day=number.created[:10],
                attempts=f"../attempts.html#cell={number.cells[0].id}" if number.cells else "",
            )
        )
    return Panel(heading=heading(board, column), lines=tuple(lines))


def _cells(board: Board, columns: list[Column]) -> Iterator[TakenCell]:
    for column in columns:
        for row in board.having(column):
            yield from row.numbers[column.id].cells


def _protocols(columns: list[Column]) -> list[tuple[str, list[str]]]:
    """(field, its values) over all protocols of a benchmark."""
    every: dict[str, dict[str, None]] = {}
    for column in columns:
        for name, value in column.protocol.items():
            every.setdefault(name, {})[value] = None
    return [(name, list(values)) for name, values in sorted(every.items())]


def _example(board: Board, columns: list[Column], store: Store) -> list[tuple[str, str]]:
    """(who speaks, what is said) of the beginning of an attempt whose transcript is published."""
    import gzip

    for cell in _cells(board, columns):
        path = store.attempts(cell) / "0.json.gz"
        if not path.exists():
            continue
        for view in msgspec.json.decode(gzip.decompress(path.read_bytes())):
            steps = [
                (s["title"], "".join(p.get("text", "") for p in s.get("pieces", ())))
                for s in view.get("steps", ())
            ]
            shown = [
                (title, text[:EXAMPLE] + ("…" if len(text) > EXAMPLE else ""))
                for title, text in steps
                if text.strip()
            ]
            if shown:
                return shown[:4]
    return []
