"""Attacks that were found on one model and tried on others, beside those that were found on each itself."""

from collections.abc import Iterator, Sequence

from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.defences import hijacked
from harness.types import Struct

ATTACKER = "attacker"
"""The field of a protocol that says who found the texts, of suites under an attacker who searches."""
ELSEWHERE = "found on "
"""How it begins where they were found on one model in an earlier run. A digest of them follows."""
FOLLOWS = (ATTACKER, "attacker_prompt", "benign", "goals")
"""Fields that change with the attacker, or say nothing of the attack. In others all rows agree."""


class Transfer(Struct):
    """A row of the matrix: one attacker's texts, tried on several models."""

    benchmark: str
    attack: str
    """What the search began with."""
    attacker: str
    found_on: str | None
    """The model that they were found on; None where each model had texts found on itself."""
    tried_on: dict[str, MetricResult]
    """Model -> its rate of being hijacked by the best text, on user tasks that no text was developed on."""


def transfers(cards: Sequence[ModelScorecard]) -> Iterator[Transfer]:
    """Rows of all matrices, first what was found on each model itself; none without texts from elsewhere."""
    blocks: dict[tuple[tuple[str, str], ...], dict[str, dict[str, MetricResult]]] = {}
    for card in cards:
        for suite in card.cells.values():
            result = hijacked(card, suite) if ATTACKER in suite.protocol else None
            if result is not None:
                rest = tuple(sorted((k, v) for k, v in suite.protocol.items() if k not in FOLLOWS))
                row = blocks.setdefault(rest, {}).setdefault(suite.protocol[ATTACKER], {})
                row[card.model.name] = result
    for rest, block in blocks.items():
        if any(attacker.startswith(ELSEWHERE) for attacker in block):
            fields = dict(rest)
            for attacker in sorted(block, key=lambda one: (one.startswith(ELSEWHERE), one)):
                elsewhere = attacker.startswith(ELSEWHERE)
                yield Transfer(
                    benchmark=fields.get("suite", ""),
                    attack=fields.get("attack", ""),
                    attacker=attacker,
                    found_on=attacker.removeprefix(ELSEWHERE).rpartition(" ")[0] if elsewhere else None,
                    tried_on=block[attacker],
                )
