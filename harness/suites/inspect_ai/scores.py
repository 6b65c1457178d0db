"""What a score of Inspect's counts."""

import math
from collections.abc import Mapping
from typing import Any

from harness.errors import AttemptFailure
from harness.types import FailureKind

WORDS = ("C", "P", "I", "N", "yes", "true", "no", "false")
"""Those that Inspect's `value_to_float` knows. It takes any other for 0."""


def number_of(metric: str, value: Any, words: Mapping[str, float]) -> float | None:
    """What a score counts, as Inspect's `value_to_float` has it; None for one that was not given (nan).

    Args:
        metric: of which it is, for the sentence of the failure.
        value: a number or a word.
        words: what further words count.

    Raises:
        AttemptFailure: nobody knows what it counts.
    """
    from inspect_ai.scorer import value_to_float

    if isinstance(value, str) and value in words:
        return words[value]
    if isinstance(value, str) and value not in WORDS and value.lower() not in WORDS and not _numeric(value):
        raise AttemptFailure(
            FailureKind.SCORER_ERROR,
            f"{metric} is {value[:80]!r}: say what that counts, as `values: {{{value[:20]}: 1}}`",
        )
    if not isinstance(value, str | int | float):
        raise AttemptFailure(FailureKind.SCORER_ERROR, f"{metric} is a {type(value).__name__}, no number")
    number = float(value_to_float()(value))
    return None if math.isnan(number) else number


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
