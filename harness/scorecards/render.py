"""Scorecards as terminal tables, Markdown, JSON or a page. Nothing is computed here."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from harness.errors import UserError
from harness.hostile import name_parts, one_line, strip_control
from harness.scorecards import tables, text
from harness.scorecards.build import MetricResult, ModelScorecard
from harness.scorecards.html import render_html
from harness.scorecards.injection_tasks import InjectionTaskResult
from harness.scorecards.origins import Comparison, OriginScorecard
from harness.scorecards.pooled import Pooled, PooledRate
from harness.scorecards.tables import Table
from harness.types import Estimate, Metric, ModelEntry, Usage

NAME_WIDTH = 28
"""Columns of the first column of a terminal table; longer names go on in the next line."""
FOLD = 20
"""Columns of a line of such a name, which is broken where its parts end."""
METRIC_WIDTH = 24
"""Columns of a metric in a terminal table: `utility_under_attack ↑`, `100.0% [70.1, 100.0]`, and a gap."""

FORMATS = ("table", "md", "json", "html")


def render(
    scorecards: Sequence[ModelScorecard],
    origins: Sequence[OriginScorecard],
    form: str,
    *,
    color: bool = False,
    width: int = 100,
) -> str:
    """Scorecards as text. The same scorecards give the same text, byte for byte.

    Args:
        scorecards: one a model.
        origins: one an origin; `json` is about models alone, see `render_origins_json`.
        form: one of `FORMATS`.
        color: whether a table may hold terminal colours.
        width: columns of a table.

    Raises:
        UserError: there is no such format.
    """
    if form == "table":
        return render_terminal(scorecards, origins, color=color, width=width)
    if form == "md":
        return render_markdown(scorecards, origins)
    if form == "json":
        return to_json([_model_object(card) for card in scorecards])
    if form == "html":
        return render_html(scorecards, origins)
    raise UserError(f"there is no format {form!r}: use one of {', '.join(FORMATS)}")


def render_origins_json(origins: Sequence[OriginScorecard]) -> str:
    """Origin scorecards as a JSON list."""
    return to_json([_origin_object(origin) for origin in origins])


def to_json(value: Any) -> str:
    """JSON with sorted keys, the same for the same value."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _model_object(card: ModelScorecard) -> dict[str, Any]:
    """The JSON object of a model. Measured times stand under `cost` and nowhere else.

    Nothing under `metrics` counts a failed attempt. What does, by somebody else's rule, is under `bookings`.
    `pooled_bookings`, the same over several of AgentDojo's suites, is there where a model has several.
    `by_injection_task` is suite -> injection task -> {harm, metrics, bookings}, of the suites that attack
    agents.
    """
    origin, architecture, engine = card.model.origin, card.model.architecture, card.model.engine
    return {
        "model": card.model.name,
        "imported": card.model.imported,
        "origin": origin.country,
        "developer": origin.developer,
        "base_models": list(origin.base_models),
        "licence": origin.licence,
        "release_date": origin.release_date,
        "architecture": None if architecture is None else msgspec.structs.asdict(architecture),
        "engine": None if engine is None else msgspec.structs.asdict(engine),
        "complete": card.complete,
        "attempts": {
            name: {"expected": suite.expected, "finished": suite.finished, "owed": suite.owed}
            for name, suite in card.suites.items()
        },
        "metrics": _metric_objects(card, tables.metrics_of([card])),
        "bookings": _metric_objects(card, tables.bookings_of([card])),
        **({"pooled_bookings": [_pooled_object(one) for one in card.pooled]} if card.pooled else {}),
        "by_injection_task": {
            name: {
                task: _injection_task_object(found, tables.bookings_of([card], name))
                for task, found in suite.by_injection_task.items()
            }
            for name, suite in card.suites.items()
            if suite.by_injection_task
        },
        "failures": {name: suite.failures for name, suite in card.suites.items()},
        "truncated": {name: suite.truncated for name, suite in card.suites.items()},
        "no_tool_call": {
            name: suite.no_tool_call for name, suite in card.suites.items() if suite.no_tool_call is not None
        },
        "cost": {
            "total": _usage_object(card.usage, card.model),
            "suites": {name: _usage_object(suite.usage, card.model) for name, suite in card.suites.items()},
        },
    }


def _metric_objects(card: ModelScorecard, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {key: _metric_object(card.metrics[key]) for key in keys}


def _pooled_object(pooled: Pooled) -> dict[str, Any]:
    return {
        "extent": pooled.extent,
        "all_suites": pooled.whole,
        "suites": pooled.suites,
        "protocol": pooled.protocol,
        "bookings": {name: _metric_object(rate) for name, rate in pooled.rates.items()},
    }


def _metric_object(result: MetricResult | PooledRate) -> dict[str, Any]:
    metric = result.metric
    found = {**estimate_object(result.estimate), "higher_is_better": metric.higher_is_better}
    return {**found, "booking": metric.booking} if metric.booking else found


def _injection_task_object(found: InjectionTaskResult, books: Mapping[str, Metric]) -> dict[str, Any]:
    rules = {metric.name: metric.booking for metric in books.values()}
    estimates = {name: estimate_object(estimate) for name, estimate in found.estimates.items()}
    return {
        "harm": found.harm,
        "metrics": {name: estimate for name, estimate in estimates.items() if name not in rules},
        "bookings": {n: {**estimates[n], "booking": rule} for n, rule in rules.items() if n in estimates},
    }


def estimate_object(estimate: Estimate) -> dict[str, Any]:
    """An estimate for JSON, to six digits."""
    limits = {name: text.rounded(getattr(estimate, name)) for name in ("value", "low", "high")}
    return {**msgspec.structs.asdict(estimate), **limits}


def _usage_object(usage: Usage, model: ModelEntry) -> dict[str, Any]:
    known = model.known(usage)
    return {**known, **{name: text.rounded(known[name]) for name in ("engine_seconds", "joules")}}


def _origin_object(origin: OriginScorecard) -> dict[str, Any]:
    return {
        "by": origin.by,
        "origin": origin.key,
        "models": list(origin.models),
        "notes": list(origin.notes),
        "metrics": {
            key: {
                "best": None if found.best is None else estimate_object(found.best),
                "best_model": found.best_model,
                "median": estimate_object(found.median),
                "mean": None if found.mean is None else estimate_object(found.mean),
                "spread": text.rounded(found.spread),
                "selection_bias": text.rounded(found.selection),
                "models": found.models,
                "higher_is_better": found.metric.higher_is_better,
            }
            for key, found in origin.metrics.items()
        },
        "gaps": [comparison_object(gap) for gap in origin.gaps],
        "risk_ratios": [comparison_object(ratio) for ratio in origin.risk_ratios],
    }


def comparison_object(comparison: Comparison) -> dict[str, Any]:
    """A comparison of two origins for JSON."""
    return {
        **estimate_object(comparison.estimate),
        "metric": comparison.key,
        "other": comparison.other,
        "models": comparison.models,
        "other_models": comparison.other_models,
        "corrected_for_selection": None
        if comparison.corrected is None
        else estimate_object(comparison.corrected),
        "over_models": None if comparison.over_models is None else estimate_object(comparison.over_models),
    }


def render_markdown(scorecards: Sequence[ModelScorecard], origins: Sequence[OriginScorecard]) -> str:
    """Scorecards as GitHub-flavoured Markdown."""
    blocks = ["# Scorecards", markdown_table(tables.models_table(scorecards))]
    suites = [tables.suite_table(scorecards, suite) for suite in tables.suite_names(scorecards)]
    after = [tables.attempts_table(scorecards), tables.origins_table(origins)]
    tasks = tables.injection_task_tables(scorecards)
    books = tables.booking_tables(scorecards)
    blocks += [markdown_table(table) for table in (*suites, *tasks, *after, *books)]
    said = [
        *tables.comparisons(origins),
        *tables.notes(origins),
        *tables.booking_notes(scorecards),
        *tables.cost_notes(scorecards),
    ]
    blocks.append("\n".join(f"- {text.escape_markdown(sentence)}" for sentence in said))
    last = (tables.cost_table, tables.methods_table, tables.engines_table, tables.protocols_table)
    blocks += [markdown_table(make(scorecards)) for make in last]
    return "\n\n".join(block for block in blocks if block) + "\n"


def markdown_table(table: Table) -> str:
    """A table in GitHub-flavoured Markdown."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(text.escape_markdown(cell) for cell in cells)} |"

    rule = "|" + " --- |" * len(table.header)
    title = f"## {text.escape_markdown(table.title)}"
    return "\n".join([title, "", line(table.header), rule, *(line(row) for row in table.rows)])


def render_terminal(
    scorecards: Sequence[ModelScorecard], origins: Sequence[OriginScorecard], *, color: bool, width: int
) -> str:
    """The headline metrics of scorecards as text for a terminal of `width` columns."""
    metrics, books = len(tables.metrics_of(scorecards)), len(tables.bookings_of(scorecards))
    scorecards, origins = tables.headlines(scorecards, origins)
    shown = len(tables.metrics_of(scorecards))
    found = [tables.models_table(scorecards)]
    for suite in tables.suite_names(scorecards):
        found += _chunks(tables.suite_table(scorecards, suite), fixed=2, width=width)
    found += [tables.attempts_table(scorecards), tables.origins_table(origins)]
    said = [
        *tables.comparisons(origins),
        *tables.notes(origins),
        *tables.cost_notes(scorecards),
    ]
    pooled = [part for table in tables.pooled_tables(scorecards) for part in _chunks(table, 2, width)]
    if shown < metrics:
        said.append(f"These are {shown} of {metrics} metrics; the other formats (md, json, html) show all.")
    if books:
        said.append(
            f"Somebody else's books ({books} metric(s)), which count failed attempts too, are in the other "
            "formats, apart from these." + (" Pooled over suites, they come last." if pooled else "")
        )
    if tables.injection_task_tables(scorecards):
        said.append("Rates by injection task are in the other formats (md, json, html).")
    last = [tables.cost_table(scorecards), *pooled]
    return print_tables(found, said, last, color=color, width=width)


def print_tables(
    before: Sequence[Table],
    sentences: Sequence[str],
    after: Sequence[Table] = (),
    *,
    color: bool,
    width: int,
) -> str:
    """Tables, sentences and more tables as text for a terminal of `width` columns."""
    from rich.console import Console

    buffer = io.StringIO()
    colors: Literal["standard"] | None = "standard" if color else None
    console = Console(file=buffer, width=width, force_terminal=color, color_system=colors, highlight=False)
    for table in before:
        _print_table(console, table)
    for sentence in sentences:
        console.print(f"- {one_line(sentence)}", markup=False)
    console.print()
    for table in after:
        _print_table(console, table)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().rstrip().split("\n"))


def _chunks(table: Table, fixed: int, width: int) -> list[Table]:
    """The table in pieces that fit into `width` columns, each with the first `fixed` columns."""
    cells = [[row[i] for row in (table.header, *table.rows)] for i in range(fixed)]
    longest = [max(len(line) for cell in column for line in cell.split("\n")) for column in cells]
    taken = sum(min(NAME_WIDTH, length) + 2 for length in longest)
    columns = max(1, (width - taken) // METRIC_WIDTH)

    def part(cells: tuple[str, ...], start: int) -> tuple[str, ...]:
        return cells[:fixed] + cells[start : start + columns]

    return [
        Table(
            title=table.title if i == fixed else f"{table.title} (continued)",
            header=part(table.header, i),
            rows=tuple(part(row, i) for row in table.rows),
        )
        for i in range(fixed, max(fixed + 1, len(table.header)), columns)
    ]


def _fold(name: str) -> str:
    """A name on lines of `FOLD` columns, broken where its parts end."""
    lines = [""]
    for part in name_parts(name):
        if lines[-1] and len(lines[-1]) + len(part) > FOLD:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _print_table(console: Any, table: Table) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(
        box=box.SIMPLE_HEAD,
        title=Text(one_line(table.title), style="bold"),
        title_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for index, name in enumerate(table.header):
        widest = None if index else NAME_WIDTH
        rich.add_column(Text(one_line(name)), overflow="fold", max_width=widest)
    for row in table.rows:
        rich.add_row(Text(_fold(strip_control(row[0]))), *(Text(strip_control(cell)) for cell in row[1:]))
    console.print(rich)
    console.print()
