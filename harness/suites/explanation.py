"""What a suite can say of an attempt to a person who reads it: what was injected, what each call changed, and
what each verdict rests on.
"""

from harness.types import Struct


class Change(Struct, omit_defaults=True):
    """A value of the environment that a tool call changed. None: there was, or is, no such value."""

    path: str
    before: str | None = None
    after: str | None = None


class Effects(Struct, omit_defaults=True):
    """What a tool call did."""

    changes: tuple[Change, ...] = ()
    error: str | None = None
    """Why it cannot be made again."""


class Explanation(Struct):
    """What there is to say about one attempt, beside its transcript and its scores."""

    injections: dict[str, str] = {}
    """Place -> text that the attacker put there."""
    effects: tuple[Effects, ...] = ()
    """Of every tool call that was answered, in order; nothing where the suite does not know."""
    meanings: dict[str, str] = {}
    """Metric -> what its verdict rests on, in words that hold whether it is yes or no."""
