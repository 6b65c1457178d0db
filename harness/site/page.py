"""What pages of a site share: their frame, their addresses, and how a number stands on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness import __version__
from harness.analysis.missing import misses_much
from harness.hostile import page_template
from harness.reports import text
from harness.reports.html import is_numeric
from harness.reports.plotting import Sign, signs
from harness.reports.words import meaning, plain_name
from harness.site.board import Board, Column, Number, Row
from harness.types import Estimate, Metric, Struct

TEMPLATES = Path(__file__).parent / "templates"
SHARED = Path(__file__).parents[1] / "reports"
"""Of the page of one run: what the two have in common."""

NAV = (
    ("index.html", "Models"),
    ("plots.html", "Plots"),
    ("suites.html", "Benchmarks"),
    ("origins.html", "Origins"),
    ("compare.html", "Compare"),
    ("attempts.html", "Attempts"),
    ("claims.html", "Claims"),
    ("history.html", "History"),
    ("about.html", "About"),
)
"""(file, what it is called)."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)
"""What a page may load and run: what lies beside it, and no text that is made into code or markup."""


@dataclass(frozen=True)
class Frame:
    """Renders pages of one site."""

    board: Board
    built: str
    """Day."""

    @cached_property
    def signs(self) -> dict[str, Sign]:
        """How each country is drawn."""
        return signs(row.facts.country for row in self.board.rows)

    def render(self, template: str, path: str, title: str, **values: Any) -> str:
        """A page.

        Args:
            template: its file.
            path: where it will lie in the site, which tells the way back to the front.
            title: what it is called.
            values: what its template is filled with.
        """
        page = page_template(TEMPLATES / template, SHARED)
        html = page.render(
            site=self.board.settings,
            title=title,
            root="../" * path.count("/"),
            path=path,
            nav=NAV,
            policy=POLICY,
            version=__version__,
            built=self.built,
            numeric=is_numeric,
            signs=self.signs,
            **values,
        )
        return html.rstrip() + "\n"


def model_path(row: Row) -> str:
    """Address of a model's page."""
    return f"models/{row.id}.html"


def suite_slug(board: Board, suite: str) -> str:
    """What a benchmark is called in addresses: its name where that is plain, and its place where not."""
    names = sorted({column.suite for column in board.columns})
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in suite)[:60].strip("-")
    same = [n for n in names if n.lower() == suite.lower() or n[:60] == suite[:60]]
    return plain if plain == suite and len(same) == 1 else f"{plain}-{names.index(suite)}".lstrip("-")


class Bar(Struct):
    """An interval on the axis of its column, in percent of its width."""

    low: int
    high: int
    at: int


class Shown(Struct):
    """A number as it stands in a cell."""

    value: str
    interval: str
    count: str
    same: str
    corrected: str
    rank: str
    sort: str
    """The number itself, for a program that sorts; empty where there is none."""
    bar: Bar | None
    lacking: bool
    """Whether so much is missing that nothing is claimed from it."""


def axis(metric: Metric, estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The range of a column: all that a share can be, else all that its intervals hold."""
    if text.is_share(metric):
        return 0.0, 1.0
    ends = [end for e in estimates for end in (e.value, e.low, e.high) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return low, high if high > low else low + 1.0


def shown(
    estimate: Estimate, metric: Metric, ends: tuple[float, float], rank: tuple[int, int, int] | None
) -> Shown:
    """A number with its interval, how much stands behind it, and its rank."""
    value, _, interval = text.format_interval(estimate, metric).partition(" [")
    return Shown(
        value=value,
        interval=f"[{interval}" if interval else "",
        count=text.format_count(estimate, metric),
        same=text.format_same_tasks(estimate, metric),
        corrected=text.format_corrected(estimate, metric),
        rank="" if rank is None else format_rank(rank),
        sort="" if estimate.value is None else f"{estimate.value:.5g}",
        bar=_bar(estimate, ends),
        lacking=misses_much(estimate),
    )


def format_rank(rank: tuple[int, int, int]) -> str:
    """`1–3 of 12`: the ranks that the intervals leave open."""
    best, worst, of = rank
    return f"{best}–{worst} of {of}" if worst > best else f"{best} of {of}"


def _bar(estimate: Estimate, ends: tuple[float, float]) -> Bar | None:
    low, high = ends
    if estimate.value is None:
        return None

    def at(value: float | None) -> int:
        known = estimate.value if value is None else value
        assert known is not None
        return round(100 * min(1.0, max(0.0, (known - low) / (high - low))))  # a pixel is about 1%

    return Bar(low=at(estimate.low), high=at(estimate.high), at=at(estimate.value))


class Heading(Struct):
    """A column as its heading says it."""

    id: str
    suite: str
    name: str
    arrow: str
    direction: int
    """1 where more is better, -1 where less is, 0 where neither."""
    meaning: str
    differs: tuple[str, ...]
    """`field value`, of what is otherwise in other columns of the benchmark."""
    path: str
    """Of the benchmark's page."""


@cache  # every model's page has the same ones
def heading(board: Board, column: Column) -> Heading:
    """The heading of a column."""
    better = column.metric.higher_is_better
    return Heading(
        id=column.id,
        suite=column.suite,
        name=plain_name(column.metric),
        arrow=text.arrow(column.metric).replace(" ", "\u00a0"),  # no line of its own
        direction=0 if better is None else 1 if better else -1,
        meaning=meaning(column.metric),
        differs=tuple(f"{field} {value}" for field, value in column.differs),
        path=f"suites/{suite_slug(board, column.suite)}.html#{column.id}",
    )


@cache
def column_axis(board: Board, column: Column) -> tuple[float, float]:
    """The range of a column over all models."""
    own = [row.numbers[column.id].estimate for row in board.rows if column.id in row.numbers]
    return axis(column.metric, own)


def cells_of(board: Board, row: Row, columns: Sequence[Column]) -> list[Shown | None]:
    """A model's numbers by column, None where it has none."""
    return [
        shown(number.estimate, c.metric, column_axis(board, c), row.ranks.get(c.id))
        if (number := row.numbers.get(c.id))
        else None
        for c in columns
    ]


def badges(numbers: Sequence[Number], *, imported: bool) -> Iterator[tuple[str, str]]:
    """(badge, what it means), of what numbers rest on."""
    if imported:
        yield "imported", "others ran it, and their transcripts were scored here"
    signers = {number.run.signer for number in numbers}
    for signer in sorted(s for s in signers if s is not None):
        yield f"signed by {signer}", "a signature that was checked covers its records"
    unsigned = [number for number in numbers if number.run.signer is None]
    if any(number.run.signed for number in unsigned):
        yield "signature not checked", "there is a signature, and nobody said who may sign"
    if any(not number.run.signed for number in unsigned):
        yield "not signed", "nobody vouches for its transcripts"
    cells = {cell.id: cell for number in numbers for cell in number.cells}
    of = sum(cell.published.attempts for cell in cells.values())
    again = sum(cell.again for cell in cells.values())
    if of and again == of:
        yield "scored again", "every score was computed again from its transcript when the site was built"
    elif again:
        yield f"{100 * again // of}% scored again", "the other scores are what the run says"
    elif of:
        yield "self-reported", "the scores are what the run says: they were not computed again here"
