"""One model in several ways side by side, as a table; see `analysis.variants`."""

from collections.abc import Iterator, Sequence

from harness.analysis.summary import Column
from harness.analysis.variants import Way, Ways
from harness.reports import text
from harness.reports.document import Document
from harness.reports.tables import Table
from harness.reports.words import plain_name, points
from harness.types import Estimate, Metric

KL = Metric(name="kl", higher_is_better=False)


def variant_tables(document: Document) -> list[Table]:
    """One table a model; none where no model was run in several ways."""
    return [_table(ways, document.summary.columns) for ways in document.ways]


def _table(ways: Ways, columns: Sequence[Column]) -> Table:
    shown = [i for i in range(len(columns)) if any(way.row.estimates[i] for way in ways.ways)]
    moved = any(way.divergence for way in ways.ways)
    names = [f"{plain_name(columns[i].metric)}{text.arrow(columns[i].metric)}" for i in shown]
    kl = ("KL of options, nats ↓", "Same choice ↑") if moved else ()
    header = (*map(field_name, ways.varied), "Model", *names, *kl, "Weights", "Tokens", "Engine seconds")
    rows = tuple(_row(way, [(i, columns[i]) for i in shown], moved=moved) for way in ways.ways)
    follows = f" (with it: {', '.join(map(field_name, ways.follows))})" if ways.follows else ""
    what = ", ".join(map(field_name, ways.varied))
    title = f"{ways.model} by {what}{follows}: change to the first row, paired, and what an attempt costs"
    return Table(title=title, header=header, rows=rows)


def field_name(field: str) -> str:
    """A field of a protocol in plain words."""
    return field.rpartition(".")[2].replace("_", " ")


def _row(way: Way, columns: Sequence[tuple[int, Column]], *, moved: bool) -> tuple[str, ...]:
    card = way.row.card
    usage, finished = card.usage, sum(suite.finished for suite in card.suites.values())
    architecture = card.model.architecture
    return (
        *way.values.values(),
        card.model.name,
        *("\n".join(_lines(way, i, column)) for i, column in columns),
        *(_divergence(way) if moved else ()),
        text.format_bytes(architecture.weight_bytes) if architecture else "unknown",
        f"{usage.tokens / finished:,.0f}" if usage.tokens is not None and finished else "unknown",
        f"{usage.engine_seconds / finished:.3g}" if finished else "unknown",
    )


def _lines(way: Way, i: int, column: Column) -> Iterator[str]:
    """The value, and its change."""
    own = way.row.estimates[i]
    yield "not run" if own is None else text.format_interval(own, column.metric)
    if change := way.changes[i]:
        yield _signed(change, column.metric)


def _signed(change: Estimate, metric: Metric) -> str:
    number = points(change, metric, side=1)
    return number if change.value is None or number.startswith("-") else f"+{number}"


def _divergence(way: Way) -> tuple[str, str]:
    if way.divergence is None:
        return "", ""
    kl, same = way.divergence.kl, way.divergence.same_choice
    share = Metric(name="same_choice", higher_is_better=True, kind="rate", bounds=(0.0, 1.0))
    return text.format_interval(kl, KL), text.format_interval(same, share)
