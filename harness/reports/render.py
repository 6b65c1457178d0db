"""The document as terminal tables or Markdown. Nothing is computed here."""

import textwrap
from collections.abc import Sequence

from harness.analysis.build import ModelScorecard
from harness.analysis.origins import CALLED
from harness.errors import UserError
from harness.reports import tables, text
from harness.reports.agents import agent_tables
from harness.reports.defences import defence_tables
from harness.reports.document import Document
from harness.reports.html import render_html
from harness.reports.objects import document_object, to_json
from harness.reports.tables import Table
from harness.reports.terminal import SCREEN, Part, first_screen, sentence_lines, table_lines
from harness.reports.transfers import transfer_tables
from harness.reports.variants import variant_tables
from harness.reports.words import comparisons, meaning, notes, warnings

FORMATS = ("table", "md", "json", "html")


def render(
    document: Document, form: str, *, color: bool = False, width: int = 100, full: bool = False
) -> str:
    """The document as text. The same document gives the same text, byte for byte.

    Args:
        document: what a run says.
        form: one of `FORMATS`.
        color: whether a table may hold terminal colours.
        width: columns of a table.
        full: whether a table may take more than a screen.

    Raises:
        UserError: there is no such format.
    """
    if form == "table":
        return render_terminal(document, color=color, width=width, full=full)
    if form == "md":
        return render_markdown(document)
    if form == "json":
        return to_json(document_object(document))
    if form == "html":
        return render_html(document)
    raise UserError(f"there is no format {form!r}: use one of {', '.join(FORMATS)}")


def render_markdown(document: Document) -> str:
    """The document as GitHub-flavoured Markdown."""
    cards, origins = document.models, document.origins
    blocks = ["# Scorecards", text.escape_markdown(heading(document)), _listed(warnings(document))]
    blocks.append(markdown_table(tables.summary_table(document.summary)))
    blocks.append(_listed([*comparisons(document), *notes(document)]))
    shown = [
        tables.models_table(cards),
        *(tables.suite_table(cards, suite) for suite in tables.suite_names(cards)),
        *variant_tables(document),
        *agent_tables(document),
        *defence_tables(document),
        *transfer_tables(document),
        *tables.injection_task_tables(cards),
        tables.attempts_table(cards),
        tables.origins_table(origins),
        *tables.member_tables(cards),
        *tables.booking_tables(cards),
    ]
    blocks += map(markdown_table, shown)
    blocks.append(_listed([*_meanings(cards), *tables.booking_notes(cards), *tables.cost_notes(cards)]))
    last = (
        tables.cost_table(cards),
        tables.methods_table(cards),
        tables.engines_table(document.engines),
        tables.protocols_table(document.protocols),
    )
    blocks += map(markdown_table, last)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {text.escape_markdown(sentence)}" for sentence in sentences)


def _meanings(cards: Sequence[ModelScorecard]) -> list[str]:
    """A line a headline metric: what it counts."""
    metrics = {metric.name: metric for metric in tables.metrics_of(cards).values() if metric.headline}
    return [f"{name}: {meaning(metric)}." for name, metric in sorted(metrics.items())]


def markdown_table(table: Table) -> str:
    """A table in GitHub-flavoured Markdown."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(text.escape_markdown(cell) for cell in cells)} |"

    rule = "|" + " --- |" * len(table.header)
    title = f"## {text.escape_markdown(table.title)}"
    return "\n".join([title, "", line(table.header), rule, *(line(row) for row in table.rows)])


MORE = (
    "More: --full here, or --format md, json and html, which are also written next to the records "
    "(scorecard.html is a page)."
)


def render_terminal(document: Document, *, color: bool, width: int, full: bool) -> str:
    """The document for a terminal of `width` columns: a first screen, or all headline metrics."""
    cards, summary = document.models, document.summary
    head = [*textwrap.wrap(heading(document), width), ""]
    sentences = (*comparisons(document), *notes(document))
    benchmarks = tables.headline_table(summary, cards)
    if not full:
        parts = (
            Part(body=tuple(warnings(document))),
            Part(body=tables.summary_table(summary), least=LEAST),
            Part(body=benchmarks, least=LEAST if len(cards) <= FEW else 0),
            Part(body=sentences, title=f"Origins, by {CALLED[document.by]}", least=ROOM),
        )
        lines = SCREEN - len(head)
        return _text([*head, *first_screen(parts, width=width, more=MORE, lines=lines, bold=color)])
    screen = [*head, *_sentences(warnings(document), width)]
    first = [
        tables.summary_table(summary),
        benchmarks,
        tables.models_table(cards),
        *variant_tables(document),
        *agent_tables(document),
        *defence_tables(document),
        *transfer_tables(document),
        tables.attempts_table(cards),
        tables.origins_table(document.origins),
        *tables.member_tables(cards),
    ]
    for table in first:
        screen += table_lines(table, width, bold=color)
    screen += _sentences([*sentences, *_meanings(cards), *tables.cost_notes(cards)], width)
    last = [tables.cost_table(cards), tables.engines_table(document.engines)]
    for table in (*last, tables.protocols_table(document.protocols), *tables.pooled_tables(cards)):
        screen += table_lines(table, width, bold=color)
    metrics, books = tables.metrics_of(cards), len(tables.bookings_of(cards))
    shown = sum(metric.headline for metric in metrics.values())
    attacked = any(suite.by_injection_task for card in cards for suite in card.suites.values())
    split = "; so are rates by injection task" if attacked else ""
    rest = [
        f"{shown} of {len(metrics)} metrics are shown; all are in the other formats (md, json, html){split}."
    ]
    if books:
        rest.append(
            f"{books} more metrics count failed attempts as the benchmark's authors do; they are there too."
        )
    return _text([*screen, *_sentences(rest, width)])


LEAST = 12
"""Lines that a first screen keeps for each of its parts."""
ROOM = 18
"""Lines that it keeps for sentences."""
FEW = 6
"""Models, more than which leave no room for every benchmark on a first screen."""


def heading(document: Document) -> str:
    """What this is, in a line."""
    cards = document.models
    benchmarks = len(tables.suite_names(cards))
    return (
        f"{document.name}: {_counted(len(cards), 'model')} of {_counted(len(document.origins), 'origin')} "
        f"({CALLED[document.by]}), {_counted(benchmarks, 'benchmark')}, {text.run_of(document.created)}"
        f"harness {document.versions['harness']}. Brackets: 95% intervals; n: attempts measured, "
        "failed ones are missing."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _sentences(sentences: Sequence[str], width: int) -> list[str]:
    lines = [line for sentence in sentences for line in sentence_lines(sentence, width)]
    return [*lines, ""] if lines else []


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"
