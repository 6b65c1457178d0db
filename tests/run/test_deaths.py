"""Which attempt is blamed for the death of an engine: simulated engines with known culprits."""

import random

import pytest

from harness.errors import EngineDead
from harness.run.attempts import AttemptKey
from harness.run.deaths import MAX_BARREN, MAX_CULPRITS, Deaths


def attempts(count: int, cell: str = "c") -> list[AttemptKey]:
    return [(cell, f"{i:03d}", 0) for i in range(count)]


def measure(owed: list[AttemptKey], poison: set[AttemptKey], width: int) -> tuple[list[AttemptKey], int]:
    """(attempts that were blamed, loads) of a run whose engine dies at once of every one in `poison`."""
    deaths, blamed, left, loads = Deaths(answered=False), [], list(owed), 0
    while left:
        loads += 1
        finished = 0
        alone = deaths.alone(left)
        rest = [a for a in left if a not in set(alone)]
        for flight in [*([a] for a in alone), *(rest[i : i + width] for i in range(0, len(rest), width))]:
            if poison & set(flight):
                culprit = deaths.died(flight, finished, "poison")
                if culprit:
                    blamed.append(culprit)
                    left.remove(culprit)
                break
            left = [a for a in left if a not in set(flight)]
            finished += len(flight)
        left = [a for a in left if a[0] not in deaths.given_up]
    return blamed, loads


@pytest.mark.parametrize("seed", range(30))
def test_the_culprits_are_blamed_and_nobody_else(seed: int) -> None:
    rng = random.Random(seed)
    owed = attempts(rng.randint(2, 60))
    poison = set(rng.sample(owed, rng.randint(0, min(2, len(owed) - 1))))
    blamed, loads = measure(owed, poison, rng.choice([1, 4, 16]))
    assert set(blamed) == poison and len(blamed) == len(poison)
    assert loads <= 1 + 4 * len(poison)


def test_a_cell_of_poison_is_given_up_and_another_goes_on() -> None:
    good, bad = attempts(30, "good"), attempts(30, "bad")
    mixed = [attempt for pair in zip(good, bad, strict=True) for attempt in pair]
    blamed, loads = measure(mixed, set(bad), 8)
    assert len(blamed) == MAX_CULPRITS and {cell for cell, _, _ in blamed} == {"bad"}
    assert loads <= 1 + 4 * MAX_CULPRITS


def test_an_engine_that_answers_nothing_is_given_up_and_nobody_blamed() -> None:
    deaths, owed = Deaths(answered=False), attempts(3)
    for _ in range(MAX_BARREN):
        first = deaths.alone(owed)[:1] or owed
        assert deaths.died(first, 0, "broken") is None
    with pytest.raises(EngineDead, match="broken"):
        deaths.died(deaths.alone(owed)[:1], 0, "broken")
