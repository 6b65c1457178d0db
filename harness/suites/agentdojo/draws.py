"""Chance in a world: what environments and tools draw at random, drawn from a seed.

Nothing in AgentDojo's own suites draws. Suites of other people do (codes, passwords, ids), and what was
drawn in an attempt has to come out again when its calls are made again.
"""

import os
import random
from typing import Any
from unittest.mock import patch


class Draws:
    """While it is entered, `random`, `secrets` and `uuid4` draw from a seed; entered again, they go on."""

    def __init__(self, seed: str) -> None:
        self._state = random.Random(seed).getstate()
        self._bytes = random.Random(f"{seed}/bytes").randbytes

    def __enter__(self) -> None:
        self._outside = random.getstate()
        random.setstate(self._state)
        # `random` has a name of its own for it, by which SystemRandom and `secrets` draw.
        places = (os, "urandom"), (random, "_urandom")
        self._patches = [patch.object(*place, self._bytes) for place in places]
        for each in self._patches:
            each.start()

    def __exit__(self, *error: Any) -> None:
        for each in self._patches:
            each.stop()
        self._state = random.getstate()
        random.setstate(self._outside)
