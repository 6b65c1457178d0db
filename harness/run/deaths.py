"""Which attempt ended an engine: what was in flight when it died is tried alone, and the culprit is named.

An attempt is blamed only if an engine died with it in flight, and then another with it alone, which had
answered something else just before. A broken engine is no attempt's fault.
"""

from collections import Counter
from collections.abc import Sequence

from harness.errors import EngineDead
from harness.run.attempts import AttemptKey

MAX_BARREN = 3
"""How often an engine is started again that answered nothing."""

MAX_CULPRITS = 3
"""Attempts of one cell that may each end an engine. Then the cell is given up: each costs two loads."""


class Deaths:
    """The deaths of the engines of one model, in one process."""

    def __init__(self, *, answered: bool = False) -> None:
        self.answered = answered
        """Whether the model has answered anything before now."""
        self._barren = 0
        self._suspects: list[AttemptKey] = []
        self._alone: list[AttemptKey] = []
        self._deaths_alone: Counter[AttemptKey] = Counter()
        self._culprits: Counter[str] = Counter()

    def alone(self, owed: Sequence[AttemptKey]) -> list[AttemptKey]:
        """What a new engine is asked first, one at a time: an innocent attempt, then the suspects."""
        left, suspects = set(owed), set(self._suspects)
        waiting = [attempt for attempt in self._suspects if attempt in left]
        innocent = next((attempt for attempt in owed if attempt not in suspects), None)
        self._alone = waiting if innocent is None or not waiting else [innocent, *waiting]
        return self._alone

    def died(self, in_flight: Sequence[AttemptKey], finished: int, reason: str) -> AttemptKey | None:
        """Take in the death of an engine, and say which attempt ended it, None where that is not known yet.

        Args:
            in_flight: what it had not answered.
            finished: how many attempts it had answered.
            reason: what it said last.

        Raises:
            EngineDead: it answered nothing, again and again.
        """
        first = next((attempt for attempt in self._alone if attempt in set(self._suspects)), None)
        if list(in_flight) == [first] and first is not None:
            self._deaths_alone[first] += 1
            # Where nothing innocent is left to be asked before it, it is asked once more.
            known = finished > 0 or (self.answered and self._deaths_alone[first] > 1)
            if known:
                self._suspects.remove(first)
                self._culprits[first[0]] += 1
                self._barren = 0
                return first
        self.answered |= finished > 0
        self._barren = 0 if finished else self._barren + 1
        if self._barren > MAX_BARREN:
            raise EngineDead(reason)
        # What it died with comes first: had an earlier one ended it late, this is cleared at once.
        self._suspects = [*in_flight, *(s for s in self._suspects if s not in set(in_flight))]
        return None

    @property
    def given_up(self) -> set[str]:
        """Cells of which too many attempts ended an engine."""
        return {cell for cell, count in self._culprits.items() if count >= MAX_CULPRITS}
