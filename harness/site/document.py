"""The models of a site as one document of the kind that a run has: for origins, claims, pairs and downloads.

Of each benchmark the protocol counts that most models have: unlike is not compared.
"""

from itertools import combinations

import msgspec

from harness import __version__
from harness.analysis.build import ModelScorecard
from harness.analysis.compare import compare_metric
from harness.errors import UserError
from harness.reports.document import Document, document_of
from harness.site.board import Board, Row
from harness.types import Manifest

MOST_CLAIMED = 150_000
"""Attempts behind headlines, more than which claims are left to the runs: they would take minutes."""
MOST_PAIRED = 1_000
"""Comparisons of two models that are made ahead; of more pairs the page compares intervals."""


def main_cards(board: Board) -> list[ModelScorecard]:
    """The scorecard of each model over the main protocol of each benchmark."""
    cards = []
    for row in board.rows:
        own = {c.key: row.numbers[c.id] for c in board.main if c.id in row.numbers}
        # One suite has one protocol: that of its first number; others of the suite come from the same run.
        suites = {number.result.suite: number for number in own.values()}
        metrics = {
            key: number.result for key, number in own.items() if suites[number.result.suite].run is number.run
        }
        if metrics:
            cards.append(
                ModelScorecard(
                    model=msgspec.structs.replace(row.model, name=row.called),
                    suites={name: number.suite for name, number in sorted(suites.items())},
                    metrics=metrics,
                )
            )
    return cards


def left_out(board: Board) -> list[str]:
    """Which numbers are in no comparison of origins and in no claim, a sentence each."""
    compared = {
        (row.id, column.suite) for column in board.main for row in board.rows if column.id in row.numbers
    }
    models: dict[str, set[str]] = {}
    for column in board.columns:
        for row in board.having(column):
            if (row.id, column.suite) not in compared and not row.model.imported:
                models.setdefault(column.suite, set()).add(row.called)
    suites: dict[tuple[str, ...], list[str]] = {}
    for suite, names in sorted(models.items()):
        suites.setdefault(tuple(sorted(names)), []).append(suite)
    said = [
        f"{', '.join(names)}: {', '.join(own)} under another protocol than most, so not in what is said here."
        for names, own in suites.items()
    ]
    if imported := sorted(row.called for row in board.rows if row.model.imported):
        said.append(
            f"Imported, so not in what is said here: {', '.join(imported)}. How they were run is not known."
        )
    return said


def whole_document(board: Board) -> tuple[Document | None, str]:
    """(the document, why there is none)."""
    cards = [card for card in main_cards(board) if not card.model.imported]
    size = sum(
        result.estimate.n for card in cards for result in card.metrics.values() if result.metric.headline
    )
    manifest = Manifest(
        name=board.settings.title,
        config_digest="site",
        harness_version=__version__,
        created=max((run.created for run in board.runs), default=""),
        versions={},
        hardware={},
        models={card.model.name: card.model for card in cards},
        cells={},
    )
    try:
        return document_of(cards, manifest, claims=size <= MOST_CLAIMED), ""
    except UserError as error:
        return None, str(error)


def pairs(board: Board) -> dict[str, dict[str, list[float | int | None]]]:
    """`a~b` -> column -> (difference b - a, low, high, pairs, minimum detectable), paired by sample.

    Pairs of models that lie nearest to each other come first, until `MOST_PAIRED` comparisons are made.
    """
    by_pair: dict[str, dict[str, list[float | int | None]]] = {}
    left = MOST_PAIRED
    rows = sorted(board.rows, key=lambda row: row.id)
    every = sorted(combinations(rows, 2), key=_distance) if len(rows) < 300 else []
    for a, b in every:
        shared = [c for c in board.columns if c.metric.headline and c.id in a.numbers and c.id in b.numbers]
        if not shared or len(shared) > left:
            continue
        left -= len(shared)
        own = {}
        for column in shared:
            compared = compare_metric(
                a.numbers[column.id].result, b.numbers[column.id].result, (a.called, b.called)
            )
            difference = compared.difference
            least = compared.minimum_detectable
            own[column.id] = [difference.value, difference.low, difference.high, compared.pairs, least]
        by_pair[f"{a.id}~{b.id}"] = own
    return by_pair


def _distance(pair: tuple[Row, Row]) -> tuple[int, str]:
    """How far apart two models' ranks are at the nearest."""
    a, b = pair
    shared = a.ranks.keys() & b.ranks.keys()
    gaps = [abs(a.ranks[name][0] - b.ranks[name][0]) for name in shared]
    return min(gaps, default=1 << 30), f"{a.id}~{b.id}"
