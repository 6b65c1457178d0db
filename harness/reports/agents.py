"""What somebody who builds an agent asks of a model: a row over all suites with tools, then one a suite."""

from harness.analysis.agents import CALLS, SECONDS, TOKENS, UTILITY, AgentCard
from harness.analysis.tool_use import PARSE_FAILURES
from harness.reports import text
from harness.reports.document import Document
from harness.reports.tables import Table, ordered
from harness.types import Estimate, Metric

TITLE = "Agents: tasks with tools where nobody attacks, and what they take"
HEADER = {
    f"Solved{text.arrow(UTILITY)}": UTILITY,
    f"Unreadable tool calls{text.arrow(PARSE_FAILURES)}": PARSE_FAILURES,
    "Tool calls an attempt": CALLS,
    f"Tokens per solved task{text.arrow(TOKENS)}": TOKENS,
    f"Engine seconds per solved task{text.arrow(SECONDS)}": SECONDS,
}


def agent_tables(document: Document) -> list[Table]:
    """One table; none where no suite is known to offer tools."""
    rows = tuple(
        (f"{card.model.name}\n{_suites(one)}", *map(_cell, _estimates(one), HEADER.values()))
        for card in ordered(document.models)
        for one in document.agents.get(card.model.name, ())
    )
    return [Table(title=TITLE, header=("Model", *HEADER), rows=rows)] if rows else []


def _suites(one: AgentCard) -> str:
    return one.suites[0] if len(one.suites) == 1 else f"all {len(one.suites)} suites"


def _estimates(one: AgentCard) -> tuple[Estimate | None, ...]:
    return (one.utility, one.parse_failures, one.calls, one.tokens_per_solved, one.seconds_per_solved)


def _cell(estimate: Estimate | None, metric: Metric) -> str:
    if estimate is None:
        return "unknown"
    return f"{text.format_interval(estimate, metric)}\n{text.format_count(estimate, metric)}"
