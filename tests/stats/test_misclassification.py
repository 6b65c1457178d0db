"""Rates that a fallible judge gave: the corrected interval holds the truth as often as it says."""

import numpy as np
import pytest

from harness.stats.misclassification import Calibration, Confusion, difference, kappa


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def _chance(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def simulated(
    rng: np.random.Generator, p: float, se: float, sp: float, spread: float, models: int = 5
) -> tuple[Calibration, int]:
    """(a judge's calibration on 450 labelled replies of each of some models, what it says of 250 others)."""
    counts = {}
    for model in range(models):
        positive = int(rng.binomial(450, 0.5))
        hit = int(rng.binomial(positive, _chance(_logit(se) + spread * rng.standard_normal())))
        passed = int(rng.binomial(450 - positive, _chance(_logit(sp) + spread * rng.standard_normal())))
        counts[str(model)] = Confusion(hit, positive - hit, passed, 450 - positive - passed)
    se = _chance(_logit(se) + spread * rng.standard_normal())
    sp = _chance(_logit(sp) + spread * rng.standard_normal())
    return Calibration(counts), int(rng.binomial(250, p * se + (1 - p) * (1 - sp)))


@pytest.mark.parametrize(
    ("p", "se", "sp", "spread"), [(0.05, 0.9, 0.95, 0.3), (0.3, 0.9, 0.95, 0.3), (0.8, 0.85, 0.95, 0.5)]
)
def test_the_interval_holds_the_truth(p: float, se: float, sp: float, spread: float) -> None:
    rng = np.random.default_rng(7)
    held = raw = 0
    for _ in range(100):
        calibration, positive = simulated(rng, p, se, sp, spread)
        found = calibration.corrected(positive, 250)
        held += found.low <= p <= found.high
        raw += abs(positive / 250 - p) <= 1.96 * np.sqrt(p * (1 - p) / 250)
    assert held >= 90
    assert raw < held  # what is not corrected misses more often


def test_a_judge_without_error_leaves_the_rate_as_it_is() -> None:
    exact = Calibration({str(i): Confusion(2000, 0, 2000, 0) for i in range(5)})
    found = exact.corrected(60, 200)
    assert found.value == pytest.approx(0.3, abs=0.01)
    assert found.low == pytest.approx(0.24, abs=0.03) and found.high == pytest.approx(0.367, abs=0.03)


def test_a_judge_that_guesses_says_nothing() -> None:
    guesses = Calibration({str(i): Confusion(200, 200, 200, 200) for i in range(5)})
    found = guesses.corrected(100, 200)
    assert found.low < 0.1 and found.high > 0.9


def test_a_model_with_labels_of_its_own_is_corrected_by_them() -> None:
    counts = {str(i): Confusion(380, 20, 380, 20) for i in range(4)}
    counts["odd"] = Confusion(120, 280, 390, 10)  # the judge misses most of what this one refuses
    calibration = Calibration(counts)
    truth = 0.5
    positive = 250 * (truth * 0.3 + (1 - truth) * 0.025)
    own, unknown = calibration.corrected(positive, 250, "odd"), calibration.corrected(positive, 250)
    assert own.low <= truth <= own.high
    assert own.high - own.low < unknown.high - unknown.low


def test_a_gap_that_the_judge_could_have_made_holds_zero() -> None:
    uneven = Calibration(
        {str(i): Confusion(hit, 400 - hit, 390, 10) for i, hit in enumerate((390, 200, 120, 380))}
    )
    even = Calibration({str(i): Confusion(380, 20, 390, 10) for i in range(4)})
    for calibration, could in ((uneven, True), (even, False)):
        gap = difference(calibration.corrected(150, 250, "a"), calibration.corrected(75, 250, "b"))
        assert (gap[1] <= 0 <= gap[2]) == could


def test_labels_of_one_kind_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        Calibration({"a": Confusion(5, 1, 0, 0)})


def test_kappa_is_cohens() -> None:
    # Cohen 1960, by hand: (0.7 - 0.5) / (1 - 0.5)
    assert kappa(np.array([[35, 15], [15, 35]])) == pytest.approx(0.4)
    assert kappa(np.array([[10, 0], [0, 0]])) is None
