"""The samples on which two models differ, as a terminal table, Markdown or JSON."""

from collections.abc import Iterator

from harness.analysis.flips import Flips
from harness.errors import UserError
from harness.reports import text
from harness.reports.objects import to_json
from harness.reports.render import markdown_table
from harness.reports.tables import Table
from harness.reports.terminal import Part, first_screen, sentence_lines, table_lines

FORMATS = ("table", "md", "json")


def render_flips(
    flips: Flips, form: str, *, width: int = 100, color: bool = False, full: bool = False
) -> str:
    """The samples as text; a table is a first screen, or `full`.

    Raises:
        UserError: there is no such format.
    """
    sentences, table = list(_sentences(flips)), _table(flips)
    if form == "json":
        samples = [{"metric": f.key, "sample": f.sample, "a": f.a, "b": f.b} for f in flips.flips]
        return to_json(
            {
                "a": flips.a,
                "b": flips.b,
                "pairs": flips.pairs,
                "flips": samples,
                **({"unread": flips.unread} if flips.unread else {}),
            }
        )
    if form == "md":
        listed = "\n".join(f"- {text.escape_markdown(sentence)}" for sentence in sentences)
        return f"{listed}\n\n{markdown_table(table)}\n"
    if form != "table":
        raise UserError(f"there is no format {form!r}: use one of {', '.join(FORMATS)}")
    if full:
        lines = [line for sentence in sentences for line in sentence_lines(sentence, width)]
        return "\n".join([*lines, "", *table_lines(table, width, bold=color)]) + "\n"
    parts = (Part(body=tuple(sentences)), Part(body=table))
    more = "More: --full. One of them as it went: harness show DIR --pair SUITE/SAMPLE --model MODEL."
    return "\n".join(first_screen(parts, width=width, more=more, bold=color)) + "\n"


def _sentences(flips: Flips) -> Iterator[str]:
    """What is not here, then how many samples went one way and how many the other."""
    yield from (f"Not read: {sentence}." for sentence in flips.unread)
    for key, pairs in flips.pairs.items():
        own = [flip for flip in flips.flips if flip.key == key]
        higher = sum(flip.b > flip.a for flip in own)
        yield (
            f"{key}: {flips.b} is higher on {higher} and {flips.a} on {len(own) - higher} of {pairs} samples "
            "that both have."
        )


def _table(flips: Flips) -> Table:
    rows = tuple(
        (
            f"{flip.key.rpartition('/')[0]}/{flip.sample}",
            flip.key.rpartition("/")[2],
            text.format_value(flip.a, flips.metrics[flip.key]),
            text.format_value(flip.b, flips.metrics[flip.key]),
        )
        for flip in flips.flips
    )
    title = f"Samples on which {flips.b} and {flips.a} differ: {len(rows)}"
    return Table(title=title, header=("Suite and sample", "Metric", flips.a, flips.b), rows=rows)
