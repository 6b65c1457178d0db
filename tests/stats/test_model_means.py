"""Means over models against closed forms, a brute-force bootstrap and simulated truth."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from harness import stats


def shared_items(models: int, items: int) -> list[dict[str, np.ndarray]]:
    return [{"sample": np.arange(items)} for _ in range(models)]


def own_items(models: int, items: int) -> list[dict[str, np.ndarray]]:
    return [{"sample": np.arange(items) + j * items} for j in range(models)]


def test_models_without_noise_give_students_interval() -> None:
    means = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = stats.mean_of_models([np.full(5, m) for m in means], shared_items(10, 5))
    assert (found.estimate.value, found.estimate.low, found.estimate.high) == pytest.approx(
        (2.33, 0.8976775, 3.7623225)  # Student (1908)
    )
    assert found.spread == pytest.approx(np.std(means, ddof=1))
    assert (found.estimate.n, found.estimate.clusters) == (10, 10)


def test_models_that_are_all_the_same_give_the_interval_of_their_items() -> None:
    x = np.random.default_rng(0).normal(size=40)
    found = stats.mean_of_models([x, x, x], shared_items(3, 40))
    single = stats.mean(x)
    assert found.spread == 0.0
    assert (found.estimate.low, found.estimate.high) == pytest.approx((single.low, single.high))
    assert found.noise == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_spread_is_that_of_a_balanced_analysis_of_variance() -> None:
    # One-way layout, items not shared: tau^2 = (MSB - MSW) / n. Searle, Casella and McCulloch (1992), ch. 3.
    x = np.random.default_rng(3).normal(size=(6, 30)) + np.arange(6)[:, None]
    found = stats.mean_of_models(list(x), own_items(6, 30))
    msb, msw = 30 * x.mean(1).var(ddof=1), x.var(axis=1, ddof=1).mean()
    assert found.spread == pytest.approx(math.sqrt((msb - msw) / 30), rel=0.01)


def test_against_a_hierarchical_bootstrap() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(12, 1)) + generator.normal(size=(1, 50)) + generator.normal(size=(12, 50))
    found = stats.mean_of_models(list(x), shared_items(12, 50)).estimate
    drawn = [
        x[generator.integers(12, size=12)][:, generator.integers(50, size=50)].mean() for _ in range(4000)
    ]
    width = found.high - found.low
    assert width == pytest.approx(2 * 2.1 * np.std(drawn), rel=0.12)


def test_models_and_samples_each_have_their_own_quantile() -> None:
    # Two-way layout without error: s^2/m of the models, and the variance of item means, which all share.
    ability, item = np.asarray([0.0, 1.0, 3.0]), np.asarray([0.0, 2.0, 3.0, 7.0])
    found = stats.mean_of_models(list(ability[:, None] + item), shared_items(3, 4)).estimate
    of_models = reference.t.ppf(0.975, 2) * math.sqrt(ability.var(ddof=1) / 3)
    of_items = reference.t.ppf(0.975, 3) * math.sqrt(item.var(ddof=1) / 4)
    assert found.high - found.value == pytest.approx(math.hypot(of_models, of_items))


def test_the_ratio_of_models_by_hand() -> None:
    # Models without noise, on samples of their own: the log ratio varies as the means of either side do.
    a, b = np.asarray([1.0, 2.0, 3.0]), np.asarray([2.0, 4.0])
    items = own_items(5, 4)
    sides = [[np.full(4, m) for m in side] for side in (a, b)]
    found = stats.ratio_over_models(*sides, items[:3], items[3:])
    parts = [x.var(ddof=1) / x.size / x.mean() ** 2 for x in (a, b)]
    freedom = sum(parts) ** 2 / sum(part**2 / (x.size - 1) for part, x in zip(parts, (a, b), strict=True))
    half = reference.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert found.value == pytest.approx(2 / 3)
    assert math.log(found.high / found.value) == pytest.approx(half)
    assert found.low * found.high == pytest.approx(found.value**2)


def test_the_ratio_of_models_that_all_share_their_luck_has_no_noise() -> None:
    # Both sides are right on the same items, one of them twice as high: samples add nothing to the ratio, and
    # without models that differ there is no spread to be seen.
    x, items = np.random.default_rng(1).integers(0, 2, 50).astype(float), shared_items(2, 50)
    found = stats.ratio_over_models([2 * x, 2 * x], [x, x], items, items)
    assert (found.low, found.value, found.high) == (None, pytest.approx(2.0), None)
    apart = stats.ratio_over_models([x, 3 * x], [x, x], items, items)
    assert math.log(apart.high / 2) == pytest.approx(reference.t.ppf(0.975, 1) / 2)


def test_the_ratio_over_models_of_which_none_had_an_event() -> None:
    x, never = [np.asarray([1.0, 0.0, 1.0, 1.0])] * 2, [np.zeros(4)] * 2
    items = shared_items(2, 4)
    assert stats.ratio_over_models(x, never, items, items).value is None
    assert stats.ratio_over_models(never, x, items, items).value == 0.0
    assert stats.ratio_over_models(x[:1], x, items[:1], items).low is None


def test_one_model_says_nothing_about_others() -> None:
    found = stats.mean_of_models([[1.0, 0.0, 1.0]], shared_items(1, 3))
    assert (found.estimate.value, found.estimate.low, found.spread) == (pytest.approx(2 / 3), None, None)
    assert "nothing is known about other models" in found.estimate.method


def test_two_models_have_a_wide_interval() -> None:
    generator = np.random.default_rng(2)
    x = [(generator.random(200) < p).astype(float) for p in (0.5, 0.6)]
    found = stats.mean_of_models(x, shared_items(2, 200), bounds=(0.0, 1.0)).estimate
    assert found.high - found.low > 0.3
    assert 0.0 <= found.low <= found.high <= 1.0


def test_no_models_is_an_error() -> None:
    with pytest.raises(ValueError, match="no models"):
        stats.mean_of_models([], [])


def test_bias_of_two_equal_models_is_the_expected_maximum() -> None:
    # The larger of two standard normals exceeds their mean by 1/sqrt(pi).
    assert stats.selection_bias([0.0, 0.0], [1.0, 1.0]) == pytest.approx(1 / math.sqrt(math.pi), abs=0.03)
    assert stats.selection_bias([0.0, 0.0], [1.0, 1.0]) == stats.selection_bias([0.0, 0.0], [1.0, 1.0])


def test_bias_without_rivals_or_noise_is_none() -> None:
    assert stats.selection_bias([0.4], [1.0]) == 0.0
    assert stats.selection_bias([0.4, 0.5], [0.0, 0.0]) == 0.0
    assert stats.selection_bias([0.0, 100.0], [1.0, 1.0]) == pytest.approx(0.0, abs=0.05)


def test_bias_grows_with_the_number_of_models() -> None:
    biases = [stats.selection_bias([0.0] * m, [1.0] * m) for m in (2, 3, 5, 10)]
    expected = [
        reference.norm.expect(lambda z, m=m: z * m * reference.norm.cdf(z) ** (m - 1)) for m in (2, 3, 5, 10)
    ]
    assert biases == pytest.approx(expected, abs=0.04)


def test_coverage_of_a_mean_of_models() -> None:
    generator = np.random.default_rng(17)
    hits, runs = 0, 500
    for _ in range(runs):
        ability, difficulty = generator.normal(size=(5, 1)), generator.normal(size=(1, 60))
        x = ability + difficulty + generator.normal(size=(5, 60))
        found = stats.mean_of_models(list(x), shared_items(5, 60)).estimate
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / runs <= 0.98


def test_a_ratio_over_models_finds_what_welch_finds_on_means_alone() -> None:
    """Three models a side, 40% against 20% on shared tasks: 1 is excluded about as often, or more often."""
    generator = np.random.default_rng(8)
    user, goal = np.divmod(np.arange(144), 9)
    levels = [{"user": user, "goal": goal}] * 3
    found = welch = held = 0
    for _ in range(200):
        shared = 0.5 * (generator.normal(size=16)[user] + generator.normal(size=9)[goal])
        sides = [
            (generator.random((3, 144)) < reference.norm.cdf(centre + 0.15 * draws[:, None] + shared)) * 1.0
            for centre, draws in ((-0.313, generator.normal(size=3)), (-1.04, generator.normal(size=3)))
        ]
        estimate = stats.ratio_over_models(*(list(side) for side in sides), levels, levels)
        means = [side.mean(axis=1) for side in sides]
        parts = [m.var(ddof=1) / 3 / m.mean() ** 2 for m in means]
        half = reference.t.ppf(0.975, sum(parts) ** 2 / sum(p * p / 2 for p in parts)) * math.sqrt(sum(parts))
        assert estimate.value is not None and estimate.low is not None and estimate.high is not None
        welch += math.log(estimate.value) > half
        found += estimate.low > 1
        held += estimate.low <= 2 <= estimate.high
    assert found >= welch - 4 and found >= 0.74 * 200
    assert held >= 0.93 * 200
