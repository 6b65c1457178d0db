"""Pages of where models come from: countries and developers, their models, and how they compare."""

from collections.abc import Sequence

from harness.reports.document import Document
from harness.reports.tables import origins_table
from harness.reports.words import notes
from harness.site.board import Board, Column, Facts, Row, slug
from harness.site.front import headline_columns
from harness.site.page import Frame, Shown, cells_of, heading, model_path


def origin_path(kind: str, key: str) -> str:
    """Address of the page of a country or a developer."""
    return f"origins/{kind}-{slug(key) or 'unnamed'}.html"


def origin_keys(board: Board) -> list[tuple[str, str]]:
    """(kind, key) of every origin, those whose addresses would be the same as one."""
    origins = {
        origin_path(kind, getattr(row.facts, kind)): (kind, getattr(row.facts, kind))
        for row in board.rows
        for kind in ("country", "developer")
    }
    return sorted(origins.values())


def origin_page(frame: Frame, kind: str, key: str, compared: Sequence[str]) -> str:
    """The page of a country or a developer. compared: sentences about countries."""
    board, path = frame.board, origin_path(kind, key)
    rows = [row for row in board.rows if origin_path(kind, getattr(row.facts, kind)) == path]
    sentences = [s for s in compared if f" {key} " in f" {s.replace(',', ' ')} "]
    return frame.render(
        "origin.html.j2",
        path,
        key,
        kind=kind,
        key=key,
        models=_models(board, rows),
        headings=[heading(board, column) for column in _columns(board, rows)],
        said=sentences if kind == "country" else [],
        developers=sorted({row.facts.developer for row in rows}),
    )


def origins_page(
    frame: Frame, document: Document | None, compared: Sequence[str], left_out: Sequence[str], problem: str
) -> str:
    """All origins. compared: sentences about them; left_out: which numbers these do not go by."""
    board = frame.board
    listed = [
        (kind, key, origin_path(kind, key), sum(getattr(row.facts, kind) == key for row in board.rows))
        for kind, key in origin_keys(board)
    ]
    return frame.render(
        "origins.html.j2",
        "origins.html",
        "Origins",
        listed=listed,
        said=compared,
        notes=[*left_out, *(notes(document) if document else [])],
        table=origins_table(document.origins) if document else None,
        problem=problem,
    )


def _columns(board: Board, rows: Sequence[Row]) -> list[Column]:
    return [c for c in headline_columns(board) if any(c.id in row.numbers for row in rows)]


def _models(board: Board, rows: Sequence[Row]) -> list[tuple[str, str, Facts, list[Shown | None]]]:
    """(name, address, facts, numbers by column) of each model."""
    columns = _columns(board, rows)
    return [(row.called, f"../{model_path(row)}", row.facts, cells_of(board, row, columns)) for row in rows]
