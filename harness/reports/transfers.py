"""The transfer matrix: attacks that were found on one model, tried on others."""

from harness.analysis.transfers import Transfer
from harness.reports import text
from harness.reports.document import Document
from harness.reports.tables import Table, ordered

TITLE = "Transfer of attacks: who is hijacked by what was found on whom"


def transfer_tables(document: Document) -> list[Table]:
    """One table; none where no attack was tried that was found elsewhere."""
    rows, tried = document.transfers, {name for row in document.transfers for name in row.tried_on}
    models = [card.model.name for card in ordered(document.models) if card.model.name in tried]
    shown = tuple(
        (
            row.benchmark,
            row.attack,
            row.found_on or f"each itself, by {row.attacker}",
            *(_cell(row, model) for model in models),
        )
        for row in rows
    )
    return (
        [Table(title=TITLE, header=("Benchmark", "Begun with", "Found on", *models), rows=shown)]
        if shown
        else []
    )


def _cell(row: Transfer, model: str) -> str:
    result = row.tried_on.get(model)
    if result is None:
        return "not run"
    estimate, metric = result.estimate, result.metric
    return f"{text.format_interval(estimate, metric)}\n{text.format_count(estimate, metric)}"
