"""Defences side by side: the same benchmark under the same attack, with each defence and with none."""

from collections.abc import Iterator, Sequence

from harness.analysis.build import MetricResult, ModelScorecard, SuiteResult
from harness.analysis.compare import difference
from harness.reports import text
from harness.reports.tables import Table, ordered
from harness.reports.words import plain_name
from harness.types import Estimate, Metric

FIELD = "defence"
NONE = "none"
FOLLOWS = (FIELD, "detector", "system_message")
"""Fields of a protocol that are what they are by the defence. In all others the rows of a block agree."""
SHOWN = ("benign_utility", "utility_under_attack", "targeted_asr")
HIJACKED = "targeted_asr"


def defence_tables(cards: Sequence[ModelScorecard]) -> list[Table]:
    """One table; none where nothing was run with more than one defence."""
    blocks = [(card, block) for card in ordered(cards) for block in _blocks(card)]
    every = (
        card.metrics.get(f"{one.suite}/{name}") for name in SHOWN for card, block in blocks for one in block
    )
    metrics = {result.metric.name: result.metric for result in every if result}
    rows = tuple(row for card, block in blocks for row in _rows(card, block, list(metrics.values())))
    names = [f"{plain_name(metric)}{text.arrow(metric)}" for metric in metrics.values()]
    last = ("Hijacked, points less none", "Tokens", "Engine seconds")
    header = ("Benchmark", "Attack", "Model", "Defence", *names, *last)
    title = "Defences side by side, and what an attempt costs"
    return [Table(title=title, header=header, rows=rows)] if rows else []


def _blocks(card: ModelScorecard) -> Iterator[list[SuiteResult]]:
    """The suites of a model that differ in the defence alone, where there are several; none first."""
    found: dict[tuple[tuple[str, str], ...], list[SuiteResult]] = {}
    for suite in card.cells.values():
        if FIELD in suite.protocol:
            rest = tuple(sorted((k, v) for k, v in suite.protocol.items() if k not in FOLLOWS))
            found.setdefault(rest, []).append(suite)
    for block in found.values():
        if len({suite.protocol[FIELD] for suite in block}) > 1:
            yield sorted(block, key=lambda s: (s.protocol[FIELD] != NONE, s.protocol[FIELD], s.suite))


def _rows(
    card: ModelScorecard, block: Sequence[SuiteResult], metrics: Sequence[Metric]
) -> Iterator[tuple[str, ...]]:
    bare = next((suite for suite in block if suite.protocol[FIELD] == NONE), None)
    for suite in block:
        protocol = suite.protocol
        searched = f", searched by {protocol['attacker']}" if "attacker" in protocol else ""
        tokens, n = suite.usage.tokens, suite.finished
        yield (
            protocol.get("suite", suite.suite),
            protocol.get("attack", "") + searched,
            card.model.name,
            protocol[FIELD],
            *(_cell(card.metrics.get(f"{suite.suite}/{metric.name}")) for metric in metrics),
            _change(card, bare, suite),
            f"{tokens / n:,.0f}" if tokens is not None and n else "unknown",
            f"{suite.usage.engine_seconds / n:.3g}" if n else "unknown",
        )


def _cell(result: MetricResult | None) -> str:
    return "not run" if result is None else _said(result.estimate, result.metric)


def _said(estimate: Estimate, metric: Metric) -> str:
    return f"{text.format_interval(estimate, metric)}\n{text.format_count(estimate, metric)}"


def _change(card: ModelScorecard, bare: SuiteResult | None, suite: SuiteResult) -> str:
    """The rate of being hijacked less that without a defence, in points, paired by sample."""
    if bare is None or suite is bare:
        return ""
    pair = [card.metrics.get(f"{one.suite}/{HIJACKED}") for one in (bare, suite)]
    if pair[0] is None or pair[1] is None:
        return "not run"
    found = difference(pair[0], pair[1])
    if found.value is None or found.low is None or found.high is None:
        return "not measured"
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]\nn={found.n}"
