"""Defences side by side: the same benchmark under the same attack, with each defence and with none."""

from collections.abc import Iterator, Sequence

from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.defences import Defended
from harness.reports import text
from harness.reports.document import Document
from harness.reports.tables import Table, ordered
from harness.reports.words import plain_name
from harness.types import Estimate, Metric

SHOWN = ("benign_utility", "utility_under_attack", "targeted_asr")


def defence_tables(document: Document) -> list[Table]:
    """One table; none where nothing was run with more than one defence."""
    cards = ordered(document.models)
    blocks = [(card, block) for card in cards for block in document.defences.get(card.model.name, ())]
    every = (
        card.metrics.get(f"{one.suite.suite}/{name}")
        for name in SHOWN
        for card, block in blocks
        for one in block
    )
    metrics = {result.metric.name: result.metric for result in every if result}
    rows = tuple(row for card, block in blocks for row in _rows(card, block, list(metrics.values())))
    names = [f"{plain_name(metric)}{text.arrow(metric)}" for metric in metrics.values()]
    last = ("Hijacked, points less none", "Tokens", "Engine seconds")
    header = ("Benchmark", "Attack", "Model", "Defence", *names, *last)
    title = "Defences side by side, and what an attempt costs"
    return [Table(title=title, header=header, rows=rows)] if rows else []


def _rows(
    card: ModelScorecard, block: Sequence[Defended], metrics: Sequence[Metric]
) -> Iterator[tuple[str, ...]]:
    for one in block:
        suite, protocol = one.suite, one.suite.protocol
        searched = f", searched by {protocol['attacker']}" if "attacker" in protocol else ""
        tokens, n = suite.usage.tokens, suite.finished
        yield (
            protocol.get("suite", suite.suite),
            protocol.get("attack", "") + searched,
            card.model.name,
            one.defence,
            *(_cell(card.metrics.get(f"{suite.suite}/{metric.name}")) for metric in metrics),
            "" if one.change is None else _change(one.change),
            f"{tokens / n:,.0f}" if tokens is not None and n else "unknown",
            f"{suite.usage.engine_seconds / n:.3g}" if n and suite.usage.engine_seconds else "unknown",
        )


def _cell(result: MetricResult | None) -> str:
    return "not run" if result is None else text.format_cell(result.estimate, result.metric)


def _change(change: Estimate) -> str:
    """The rate of being hijacked less that without a defence, in points."""
    if change.value is None or change.low is None or change.high is None:
        return "not measured"
    return f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]\nn={change.n}"
