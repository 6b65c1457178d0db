"""What may be compared: the same suite under the same protocol. Differences of the engine are footnotes."""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from harness.errors import UserError
from harness.scorecards.build import ModelScorecard
from harness.types import ModelEntry


def check_protocols(cards: Sequence[ModelScorecard], allow: Collection[str] = ()) -> tuple[str, ...]:
    """What was allowed to differ between models that have a suite in common, in words.

    Args:
        cards: that are to be compared.
        allow: protocol fields that may differ.

    Raises:
        UserError: a suite was run under different protocols, in a field that may not differ.
    """
    allowed = set()
    for a, b in combinations(cards, 2):
        for suite in sorted(a.suites.keys() & b.suites.keys()):
            fields = differing_fields(a, b, suite)
            refused = [field for field in fields if field not in allow]
            if refused:
                raise UserError(
                    f"suite {suite!r} was run under different protocols on {a.model.name} and {b.model.name} "
                    f"(fields that differ: {', '.join(refused)}): run it again with the same settings, or "
                    f"give {' '.join(f'--allow {field}' for field in refused)} to compare all the same"
                )
            allowed |= {(suite, field) for field in fields}
    return tuple(
        f"{suite}: protocols differ in {field} ({_values(cards, suite, field)}), which was allowed."
        for suite, field in sorted(allowed)
    )


def differing_fields(a: ModelScorecard, b: ModelScorecard, suite: str) -> list[str]:
    """Fields of a suite's protocol that are not the same for two models."""
    one, other = a.suites[suite].protocol, b.suites[suite].protocol
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def _values(cards: Sequence[ModelScorecard], suite: str, field: str) -> str:
    found = sorted({card.suites[suite].protocol.get(field, "none") for card in cards if suite in card.suites})
    return " or ".join(found)


def engine_differences(a: ModelEntry, b: ModelEntry) -> Iterator[str]:
    """Footnotes: what differs between the engines of two models, or between what they computed with."""
    one, other = _engine(a), _engine(b)
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            said = [
                f"{side.get(key, 'not said')} for {name}" for side, name in ((one, a.name), (other, b.name))
            ]
            yield f"{key} was {' and '.join(said)}"


def _engine(model: ModelEntry) -> dict[str, str]:
    if model.engine is None:
        return {}
    return {"engine": f"{model.engine.name} {model.engine.version}", **model.engine.details}
