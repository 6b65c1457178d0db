"""A site built whole: every page into a folder that is then right, whatever was in it before."""

import datetime
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from harness.disk import cache_folder, make_folder
from harness.errors import UserError
from harness.exports.names import file_names
from harness.hostile import one_line, page_template
from harness.reports.text import format_bytes
from harness.reports.words import comparisons
from harness.site import downloads
from harness.site.board import Board, make_board
from harness.site.document import left_out, pairs, whole_document
from harness.site.front import front
from harness.site.models import model_data, model_page
from harness.site.origins import origin_keys, origin_page, origin_path, origins_page
from harness.site.page import SHARED, Frame, model_path, suite_slug
from harness.site.plots import plots_page
from harness.site.prose import about_page, citation, claims_page, history_page
from harness.site.reading import Reading, Store, TakenCell, take_all
from harness.site.settings import read_settings
from harness.site.suites import suite_page, suites_page
from harness.types import Struct

STATIC = Path(__file__).parent / "static"
MARK = ".harness-site"
"""A file by which a folder is known as a site that may be written over."""


class Built(Struct):
    """What was built."""

    runs: int
    refused: tuple[str, ...]
    """Runs that were not taken, with why."""
    models: int
    columns: int
    attempts: int
    shown: int
    """Attempts whose transcripts can be read."""
    pages: int
    seconds: float


class Output:
    """The folder of a site. Files that are not written again are removed at the end."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if there is a folder of something else."""
        if path.exists() and not (path / MARK).exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"--out {path} is there and is no site: give a folder that is empty or not there")
        make_folder(path)
        (path / MARK).touch()
        self.path = path
        self.written: set[Path] = {path / MARK}

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file, unless it holds that already; returns where it is."""
        path = self.path / name
        data = content.encode() if isinstance(content, str) else content
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.stat().st_size != len(data) or path.read_bytes() != data:
            path.write_bytes(data)
        self.written.add(path)
        return path

    def place(self, name: str, source: Path) -> None:
        """Put a file of the reader's own folder there, without a copy where the disk can."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.exists() and path.samefile(source)):
            path.unlink(missing_ok=True)
            try:
                path.hardlink_to(source)
            except OSError:  # another disk
                shutil.copyfile(source, path)
        self.written.add(path)

    def clean(self) -> None:
        """Remove what is no part of the site any more."""
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in self.written:
                path.unlink()


def build_site(
    root: Path,
    out: Path,
    *,
    settings: Path | None = None,
    store: Path | None = None,
    reading: Reading | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Built:
    """Build a static site out of the runs of a folder.

    Args:
        root: a folder of run directories.
        out: where the site goes: an empty folder, or an earlier site.
        settings: `site.yaml`.
        store: where it is kept what runs came to; in the reader's own cache folder if not given.
        reading: how runs are read, apart from the settings.
        tell: is called with a line for each run that was read anew, then with how much is to be published.

    Raises:
        UserError: there are no runs, none could be taken, the settings are not right, `out` is no site, or
            `store` may have come with the runs.
    """
    began = time.monotonic()
    kept = read_settings(settings)
    # What is kept is believed, and holds objects of Python: it must not be what somebody sent.
    if store is not None and store.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"--cache {store} is inside of {root} and may have come with the runs: give a folder of your own"
        )
    output = Output(out)
    reading = msgspec.structs.replace(reading or Reading(), settings=kept)
    made = Store(store or cache_folder() / "site")
    runs = take_all(root, made, reading, tell)
    board = make_board(runs, made, kept)
    if not board.runs:
        raise UserError(
            f"no run of {root} can be taken: {board.refused[0].name}: {board.refused[0].refused[0]}"
        )
    cells = _shown_cells(board)
    published = [cell.published for cell, _ in cells.values()]
    attempts, readable = sum(p.attempts for p in published), sum(p.shown for p in published)
    size = format_bytes(sum(p.bytes for p in published))
    tell(f"publishing {attempts:,} attempts, {readable:,} of them to be read: {size} compressed")
    _write(output, board, made, cells)
    output.clean()
    return Built(
        runs=len(board.runs),
        refused=tuple(f"{run.name}: {run.refused[0]}" for run in board.refused),
        models=len(board.rows),
        columns=len(board.columns),
        attempts=attempts,
        shown=readable,
        pages=sum(path.suffix == ".html" for path in output.written),
        seconds=round(time.monotonic() - began, 2),
    )


def _shown_cells(board: Board) -> dict[str, tuple[TakenCell, str]]:
    """Id -> a cell of a run that was taken and whose numbers are not withdrawn, with the run's name."""
    withdrawn = {
        cell.id
        for row in board.rows
        for own in row.earlier.values()
        for number in own
        if number.withdrawn
        for cell in number.cells
    }
    return {cell.id: (cell, run.name) for run in board.runs for cell in run.cells if cell.id not in withdrawn}


class Listed(Struct):
    """A cell in the list that the page of attempts begins with."""

    id: str
    model: str
    suite: str
    run: str
    closed: str


def _write(output: Output, board: Board, store: Store, cells: dict[str, tuple[TakenCell, str]]) -> None:
    frame = Frame(board, datetime.datetime.now(datetime.UTC).date().isoformat())
    shared = page_template(SHARED / "page.css.j2").render()
    output.write("site.css", f"{shared}\n{(STATIC / 'site.css').read_text(encoding='utf8')}")
    for name in ("site.js", "icon.svg"):
        output.write(name, (STATIC / name).read_bytes())
    output.write(".nojekyll", "")
    document, problem = whole_document(board)
    output.write("index.html", front(frame))
    page, files = plots_page(frame, document)
    for name, content in {"plots.html": page, **files}.items():
        output.write(name, content)
    output.write("suites.html", suites_page(frame))
    for suite in sorted({column.suite for column in board.columns}):
        output.write(f"suites/{suite_slug(board, suite)}.html", suite_page(frame, suite, store))
    compared, absent = comparisons(document) if document else [], left_out(board)
    output.write("origins.html", origins_page(frame, document, compared, absent, problem))
    for kind, key in origin_keys(board):
        output.write(origin_path(kind, key), origin_page(frame, kind, key, compared))
    for row in board.rows:
        output.write(model_path(row), model_page(frame, row))
        output.write(f"data/models/{row.id}.json", model_data(board, row))
    output.write("data/pairs.json", msgspec.json.encode(pairs(board)))
    models = [(row.id, row.called) for row in board.rows]
    output.write("compare.html", frame.render("compare.html.j2", "compare.html", "Compare", models=models))
    listed = [
        Listed(id=c.id, model=c.entry.model, suite=c.entry.suite, run=run, closed=c.published.closed)
        for c, run in sorted(cells.values(), key=lambda one: (one[0].entry.model, one[0].entry.suite, one[1]))
    ]
    output.write("attempts.html", frame.render("attempts.html.j2", "attempts.html", "Attempts", cells=listed))
    for cell, _ in cells.values():
        for path in store.attempts(cell).glob("*.json.gz"):
            output.place(f"attempts/{cell.id}/{path.name}", path)
    output.write("claims.html", claims_page(frame, document, absent, problem))
    output.write("history.html", history_page(frame))
    output.write("CITATION.cff", citation(frame))
    output.write("about.html", about_page(frame, _downloads(output, board, store)))


def _downloads(output: Output, board: Board, store: Store) -> list[downloads.File]:
    rows = list(downloads.number_rows(board))
    made: tuple[tuple[str, str | bytes, str], ...] = (
        ("data/numbers.csv", downloads.csv_text(rows), "every number, for a spreadsheet"),
        ("data/numbers.json", downloads.json_bytes(rows), "the same as JSON"),
        ("data/numbers.parquet", downloads.parquet_bytes(rows), "the same as Parquet, for pandas and R"),
    )
    files = [downloads.listed(output.write(name, data), name, what) for name, data, what in made]
    names = file_names(run.name for run in board.runs)
    for run in board.runs:
        if run.exported:
            name = f"data/every-eval-ever/{names[run.name]}.zip"
            output.place(name, store.exported(run))
            what = f"{one_line(run.name)} in the format of Every Eval Ever: {run.exported}"
            files.append(downloads.listed(output.path / name, name, what))
    return files
