"""Tables and sentences as text of a fixed width, and the first screen that a person sees of them.

Names are never broken within a word: a table that is too wide goes on in another with the same rows.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence

from harness.hostile import one_line, strip_control
from harness.reports.tables import Table
from harness.types import Struct

NAME_WIDTH = 28
"""Columns of the first column of a table; longer names go on in the next line, where a part of them ends."""
CELL_WIDTH = 36
"""Columns of other cells; longer lines are wrapped between words."""
GAP = "  "
SCREEN = 60
"""Lines of a first screen, whatever the run."""
ELLIPSIS = "…"

Cells = list[list[str]]
"""One list of lines a column."""


class Part(Struct):
    """A table or a list of sentences of a first screen."""

    body: Table | tuple[str, ...]
    title: str = ""
    """Of sentences; a table has its own."""
    least: int = 0
    """Lines that are kept for it, where what comes before would take all."""


def first_screen(
    parts: Sequence[Part], *, width: int, more: str, lines: int = SCREEN, bold: bool = False
) -> list[str]:
    """As much of every part as fits, the parts before others first; what is left out is said.

    Args:
        parts: in the order in which they are shown.
        width: columns.
        more: where the rest is, such as `--full`.
        lines: that there are.
        bold: whether titles may be bold.
    """
    screen: list[str] = []
    last = textwrap.wrap(more, width)
    left = lines - len(last) - 1  # the shell's own line
    for i, part in enumerate(parts):
        later = sum(other.least for other in parts[i + 1 :])
        above = 1 if part.title and part.body else 0
        shown = _fitting(part.body, width, max(0, left - later - above), bold)
        shown = [_titled(part.title, bold), *shown] if above and shown else shown
        screen += shown
        left -= len(shown)
    return [*screen, *last]


def _fitting(body: Table | tuple[str, ...], width: int, lines: int, bold: bool) -> list[str]:
    """Whole rows or sentences that take no more than so many lines, an empty line behind them included."""
    if not isinstance(body, Table):
        return _fitting_sentences(body, width, lines)
    count, columns = len(body.rows), len(_chunks(_laid_out(body)[2], width)[0])
    rest = [_more(len(body.header) - columns, "column")] if columns < len(body.header) else []
    while count:
        left_out = [_more(len(body.rows) - count, "row")] if count < len(body.rows) else []
        shown = [*table_lines(_cut(body, count, columns), width, bold=bold)]
        if left_out or rest:
            shown[-1:] = [f"{ELLIPSIS} and {', '.join([*left_out, *rest])}", ""]
        if len(shown) <= lines:
            return shown
        count = min(count - 1, count * lines // len(shown))
    return []


def _more(count: int, what: str) -> str:
    return f"{count} more {what}{'' if count == 1 else 's'}"


def _cut(table: Table, rows: int, columns: int) -> Table:
    shown = tuple(row[:columns] for row in table.rows[:rows])
    return Table(title=table.title, header=table.header[:columns], rows=shown)


def _fitting_sentences(sentences: Sequence[str], width: int, lines: int) -> list[str]:
    wrapped = [sentence_lines(sentence, width) for sentence in sentences]
    for count in range(len(wrapped), 0, -1):
        shown = [line for own in wrapped[:count] for line in own]
        if count < len(wrapped):
            shown.append(f"{ELLIPSIS} and {len(wrapped) - count} more")
        if len(shown) < lines:
            return [*shown, ""]
    return []


def sentence_lines(sentence: str, width: int) -> list[str]:
    """A sentence as an item of a list. Names with hyphens stay whole."""
    return textwrap.wrap(
        one_line(sentence),
        width,
        initial_indent="- ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )


def table_lines(table: Table, width: int, *, bold: bool = False) -> Iterator[str]:
    """A table in as many pieces as its columns need, each with the first column and an empty line behind."""
    header, rows, widths = _laid_out(table)
    for number, chosen in enumerate(_chunks(widths, width)):
        title = one_line(table.title) + (" (continued)" if number else "")
        for line in textwrap.wrap(title, width) if title else []:
            yield _titled(line, bold)
        yield from _joined([header[i] for i in chosen], [widths[i] for i in chosen])
        yield "─" * min(width, sum(widths[i] for i in chosen) + len(GAP) * (len(chosen) - 1))
        for row in rows:
            yield from _joined([row[i] for i in chosen], [widths[i] for i in chosen])
        yield ""


def _titled(line: str, bold: bool) -> str:
    return f"\x1b[1m{line}\x1b[0m" if bold else line


def _laid_out(table: Table) -> tuple[Cells, list[Cells], list[int]]:
    """(lines of the header's cells, those of each row's, columns of each)."""
    header = [_wrapped(cell) for cell in table.header]
    rows = [[_name(row[0]), *map(_wrapped, row[1:])] for row in table.rows]
    columns = zip(*[header, *rows], strict=True)
    widths = [max((_length(line) for cell in column for line in cell), default=0) for column in columns]
    return header, rows, widths


def _chunks(widths: Sequence[int], width: int) -> list[list[int]]:
    """The columns of each piece, the first in all of them."""
    pieces, taken = [[0]], widths[0]
    for i in range(1, len(widths)):
        if taken + len(GAP) + widths[i] > width and len(pieces[-1]) > 1:
            pieces.append([0])
            taken = widths[0]
        pieces[-1].append(i)
        taken += len(GAP) + widths[i]
    return pieces


def _joined(cells: Cells, widths: Sequence[int]) -> Iterator[str]:
    for i in range(max(map(len, cells))):
        line = GAP.join(
            _padded(own[i] if i < len(own) else "", wide) for own, wide in zip(cells, widths, strict=True)
        )
        yield line.rstrip()


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _length(text))


def _length(text: str) -> int:
    """Columns of a text: some characters take two, some none."""
    from rich.cells import cell_len

    return cell_len(text)


def _wrapped(cell: str) -> list[str]:
    """The lines of a cell. Spaces within an interval do not break."""
    lines = [
        part.replace("\0", " ")
        for line in strip_control(cell).split("\n")
        for part in textwrap.wrap(re.sub(r"\[[^\]]*\]", _unbroken, line), CELL_WIDTH, break_on_hyphens=False)
        or [""]
    ]
    return lines or [""]


def _unbroken(interval: re.Match[str]) -> str:
    return interval[0].replace(" ", "\0")


def _name(name: str) -> list[str]:
    """A name on lines of `NAME_WIDTH` columns, broken behind `/`, `:` or a space, else where it must be."""
    lines: list[str] = []
    for own in strip_control(name).split("\n"):
        lines.append("")
        for part in re.split(r"(?<=[/: ])", own):
            if lines[-1] and _length(lines[-1]) + _length(part.rstrip()) > NAME_WIDTH:
                lines.append("")
            for piece in textwrap.wrap(part, NAME_WIDTH, drop_whitespace=False, break_on_hyphens=False):
                if lines[-1] and _length(lines[-1]) + _length(piece.rstrip()) > NAME_WIDTH:
                    lines.append("")
                lines[-1] += piece
    return [line.rstrip() for line in lines]
