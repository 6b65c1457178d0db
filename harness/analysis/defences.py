"""Defences side by side: the same benchmark under the same attack, with each defence and with none."""

from collections.abc import Iterator

from harness.analysis.build import MetricResult, ModelScorecard, SuiteResult
from harness.analysis.compare import difference
from harness.types import Estimate, Struct

FIELD = "defence"
NONE = "none"
FOLLOWS = (FIELD, "detector", "system_message")
"""Fields of a protocol that are what they are by the defence. In all others the suites of a block agree."""


class Defended(Struct):
    """One suite of a model, with its defence."""

    suite: SuiteResult
    defence: str
    change: Estimate | None
    """Its rate of being hijacked less that without a defence, paired by sample; None for that itself, and if
    one of the two was not run."""


def defended(card: ModelScorecard) -> Iterator[tuple[Defended, ...]]:
    """The suites of a model that differ in the defence alone, where there are several; none first."""
    blocks: dict[tuple[tuple[str, str], ...], list[SuiteResult]] = {}
    for suite in card.cells.values():
        if FIELD in suite.protocol:
            rest = tuple(sorted((k, v) for k, v in suite.protocol.items() if k not in FOLLOWS))
            blocks.setdefault(rest, []).append(suite)
    for block in blocks.values():
        if len({suite.protocol[FIELD] for suite in block}) > 1:
            order = sorted(block, key=lambda s: (s.protocol[FIELD] != NONE, s.protocol[FIELD], s.suite))
            bare = order[0] if order[0].protocol[FIELD] == NONE else None
            yield tuple(
                Defended(suite=suite, defence=suite.protocol[FIELD], change=_change(card, bare, suite))
                for suite in order
            )


def _change(card: ModelScorecard, bare: SuiteResult | None, suite: SuiteResult) -> Estimate | None:
    if bare is None or suite is bare:
        return None
    without, with_it = (hijacked(card, one) for one in (bare, suite))
    return None if without is None or with_it is None else difference(without, with_it)


def hijacked(card: ModelScorecard, suite: SuiteResult) -> MetricResult | None:
    """A suite's first headline of being hijacked: of all pairs, whether or not the attack was seen."""
    of_suite = (result for result in card.metrics.values() if result.suite == suite.suite)
    return next((result for result in of_suite if result.metric.hijack and result.metric.headline), None)
