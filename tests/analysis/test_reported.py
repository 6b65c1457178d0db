"""What others reported of the numbers of other harnesses, each with an input of our own."""

import numpy as np
import pyarrow as pa
import pytest

from harness import stats
from harness.analysis.columns import Factor
from harness.analysis.derived import numbers_of_attempts
from tests.analysis.synthetic import CAPABILITY, cell


def test_a_score_between_0_and_1_has_an_interval_and_so_has_what_it_is_pooled_into() -> None:
    """lm-evaluation-harness#3966: standard errors of 0.0, and again of the group; #3882: of another mean."""
    parts = [np.arange(n) < k for n, k in ((307, 14), (123, 2), (135, 5))]
    rates = [stats.rate(part.astype(float)) for part in parts]
    assert all(rate.low < rate.value < rate.high for rate in rates)
    whole = stats.stratified(
        [stats.Stratum(r, p.astype(float), {}) for r, p in zip(rates, parts, strict=True)]
    )
    assert whole.value == pytest.approx(21 / 565)  # every question once, and the interval is of that
    alone = stats.rate(np.concatenate(parts).astype(float))
    assert whole.high - whole.low == pytest.approx(alone.high - alone.low, rel=0.25)


def test_one_attempt_says_nothing_of_several() -> None:
    """aprender#2118: 50 of 164 at one greedy attempt were told as 97.7% at ten."""
    assert numbers_of_attempts(cell("model", "programs", CAPABILITY, 164)) == []


def test_fewer_attempts_than_k_are_refused() -> None:
    """human-eval#68: none of 2 right were a certain success at 5."""
    with pytest.raises(ValueError, match="needs 5 attempts"):
        stats.at_least_one([2], [0], 5)


def test_samples_without_a_cluster_are_not_one_cluster() -> None:
    """inspect_ai#4714: samples whose cluster is not known became a single one."""
    sample = Factor(np.arange(6, dtype=np.int32), pa.array([f"sample {i}" for i in range(6)]))
    passage = Factor(np.array([0, 0, 1, -1, -1, -1], dtype=np.int32), pa.array(["a", "b"]))
    assert np.unique(passage.or_own(sample).codes).size == 5


def test_the_same_replies_over_again_make_nothing_surer() -> None:
    """inspect_ai#1113, #1231: what repeats of a question and questions of a passage tell of the others."""
    x = (np.random.default_rng(0).random(100) < 0.3).astype(float)
    once, sample = stats.rate(x), np.repeat(np.arange(100), 4)
    again = stats.rate(np.repeat(x, 4), {"sample": sample})
    alike = stats.rate(np.repeat(x, 4))
    assert again.high - again.low > 0.9 * (once.high - once.low) > 1.5 * (alike.high - alike.low)


def test_the_mean_over_questions_has_the_interval_of_questions() -> None:
    """compl-ai#135: groups of unequal size, of which the mean was given with the error of another."""
    tried, right = np.array([1, 1, 8, 8]), np.array([1, 1, 0, 4])
    found = stats.mean(stats.at_least_one(tried, right, 1), bounds=(0.0, 1.0))
    assert found.value == pytest.approx((1 + 1 + 0 + 0.5) / 4) and found.n == 4
    assert found.value != pytest.approx(right.sum() / tried.sum())


def test_nothing_measured_is_no_number() -> None:
    """lm-evaluation-harness#1715: an empty list where the standard error should be."""
    for found in (stats.rate([]), stats.mean([]), stats.bootstrap([], len)):
        assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
