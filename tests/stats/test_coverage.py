"""A quick, seeded part of `scripts/simulate_coverage.py`: intervals hold the truth as often as they say."""

import math

import pytest

from tests.conftest import script

RUNS = 200
NOISE = 3 * math.sqrt(0.95 * 0.05 / RUNS)


SIMULATION = script("simulate_coverage")
SLOW = ("corpus", "rate, crossed", "lag", "cost ratio, curve", "best model", "Rasch", "rate, judged")
QUICK = [s for s in SIMULATION.SCENARIOS if not s.estimator.startswith(SLOW)]


@pytest.mark.parametrize("scenario", QUICK, ids=lambda s: f"{s.estimator}: {s.setting}")
def test_coverage(scenario: object) -> None:
    share, width = SIMULATION.coverage(scenario, RUNS, seed=1)
    assert share >= scenario.least - NOISE
    if not scenario.why:
        assert share <= 0.97 + NOISE
    assert width > 0


def test_every_scenario_that_strays_says_why() -> None:
    assert {s.estimator for s in SIMULATION.SCENARIOS if s.why} >= {
        "risk ratio, sides apart",
        "rate, crossed",
    }
    assert all(s.why for s in SIMULATION.SCENARIOS if s.least < SIMULATION.RANGE[0])
    assert len({(s.estimator, s.setting) for s in SIMULATION.SCENARIOS}) == len(SIMULATION.SCENARIOS)
