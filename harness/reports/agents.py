"""What somebody who builds an agent asks of a model: a row over all suites with tools, then one a suite."""

from harness.analysis.agents import CALLS, SECONDS, TOKENS, UTILITY
from harness.analysis.tool_use import PARSE_FAILURES
from harness.reports import text
from harness.reports.document import Document
from harness.reports.tables import Table, ordered

TITLE = "Agents: tasks with tools where nobody attacks, and what they take"
UNSOLVED = "no task to solve"
"""Of a suite such as InjecAgent, which judges what an agent does for the attacker alone."""
HEADER = {
    f"Solved{text.arrow(UTILITY)}": UTILITY,
    f"Unreadable tool calls{text.arrow(PARSE_FAILURES)}": PARSE_FAILURES,
    "Tool calls an attempt": CALLS,
    f"Tokens per solved task{text.arrow(TOKENS)}": TOKENS,
    f"Engine seconds per solved task{text.arrow(SECONDS)}": SECONDS,
}


def agent_tables(document: Document) -> list[Table]:
    """One table; none where no suite is known to offer tools."""
    rows = []
    for card in ordered(document.models):
        for one in document.agents.get(card.model.name, ()):
            suites = one.suites[0] if len(one.suites) == 1 else f"all {len(one.suites)} suites"
            numbers = (
                one.utility,
                one.parse_failures,
                one.calls,
                one.tokens_per_solved,
                one.seconds_per_solved,
            )
            absent = UNSOLVED if one.utility is None else "unknown"
            cells = (
                absent if number is None else text.format_cell(number, metric)
                for number, metric in zip(numbers, HEADER.values(), strict=True)
            )
            rows.append((f"{card.model.name}\n{suites}", *cells))
    return [Table(title=TITLE, header=("Model", *HEADER), rows=tuple(rows))] if rows else []
