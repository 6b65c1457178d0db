"""Estimators against published examples, closed forms, properties and simulated truth."""

import itertools
import math

import msgspec
import numpy as np
import pytest
from scipy.special import ndtr, ndtri, stdtrit

from harness import stats
from harness.stats.clusters import bootstrap_tails
from harness.types import Estimate


def ones(events: int, n: int) -> list[float]:
    return [1.0] * events + [0.0] * (n - events)


# Newcombe, Stat. Med. 17 (1998) 857-872, table I, method 3 (score without continuity correction).
@pytest.mark.parametrize(
    ("events", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(events: int, n: int, low: float, high: float) -> None:
    assert stats.wilson(events, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_the_ends() -> None:
    low, high = stats.wilson(0, 150)
    assert low == 0.0
    assert high == pytest.approx(stats.Z**2 / (150 + stats.Z**2))  # closed form, 2.5%
    assert round(100 * high, 1) == 2.5
    assert stats.wilson(150, 150) == pytest.approx((1 - high, 1.0))
    assert stats.wilson(150, 150)[1] == 1.0


# Newcombe, Stat. Med. 17 (1998) 873-890, table II, method 10.
@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ],
)
def test_difference_published(a: tuple[int, int], b: tuple[int, int], low: float, high: float) -> None:
    found = stats.difference(stats.rate(ones(*a)), stats.rate(ones(*b)))
    assert found.value == pytest.approx(a[0] / a[1] - b[0] / b[1])
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_risk_ratio_published() -> None:
    # Agresti, Categorical Data Analysis (2002), section 3.1: placebo against aspirin, 1.82 [1.43, 2.31].
    placebo = stats.proportion(ones(189, 11034))
    aspirin = stats.proportion(ones(104, 11037))
    found = stats.risk_ratio(placebo, aspirin)
    assert (found.value, found.low, found.high) == pytest.approx((1.82, 1.43, 2.31), abs=5e-3)
    turned = stats.risk_ratio(aspirin, placebo)
    assert turned.low == pytest.approx(1 / found.high)
    assert turned.high == pytest.approx(1 / found.low)


def test_risk_ratio_without_events_in_the_denominator() -> None:
    found = stats.risk_ratio(
        stats.proportion(ones(12, 40)), stats.proportion(ones(0, 40)), ("Borea", "Aster"), missing=3
    )
    assert (found.value, found.high, found.missing) == (None, None, 3)
    log_sd = math.sqrt(1 / 12.5 - 1 / 41 + 1 / 0.5 - 1 / 41)
    assert found.low == pytest.approx(25 * math.exp(-stats.Z * log_sd))
    assert "Aster had 0 events in 40" in found.method
    assert "Borea" not in found.method


def test_risk_ratio_without_events_in_the_numerator() -> None:
    found = stats.risk_ratio(stats.proportion(ones(0, 40)), stats.proportion(ones(12, 40)))
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high is not None and 0 < found.high < 1


@pytest.mark.parametrize("n", [0, 40])
def test_risk_ratio_without_any_event_says_nothing(n: int) -> None:
    found = stats.risk_ratio(stats.proportion(ones(0, n)), stats.proportion(ones(0, 40)))
    assert (found.value, found.low, found.high) == (None, None, None)


def test_risk_ratio_widens_with_the_design_effect() -> None:
    independent = stats.proportion(ones(20, 40))
    clustered = stats.proportion(ones(20, 40), {"task": [str(i // 4) for i in range(40)]})
    narrow, wide = (stats.risk_ratio(side, independent) for side in (independent, clustered))
    assert narrow.value == wide.value == 1.0
    assert wide.low < narrow.low and wide.high > narrow.high


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_at_least_one_is_the_hypergeometric_chance(k: int) -> None:
    n, c = np.meshgrid(np.arange(5, 9), np.arange(6))
    expected = [1 - math.comb(a - b, k) / math.comb(a, k) for a, b in zip(n.ravel(), c.ravel(), strict=True)]
    assert stats.at_least_one(n.ravel(), c.ravel(), k) == pytest.approx(expected)


def test_at_least_one_needs_k_attempts() -> None:
    with pytest.raises(ValueError, match="3 attempts or more"):
        stats.at_least_one([2, 5], [1, 1], 3)


def test_nothing_measured_has_no_value() -> None:
    for found in (stats.rate([], missing=4), stats.mean([], missing=4), stats.bootstrap([], len, missing=4)):
        assert (found.value, found.low, found.high, found.n, found.missing) == (None, None, None, 0, 4)
        assert found.method == "nothing was measured"


def test_what_applies_to_nothing_is_not_called_unmeasured() -> None:
    for found in (stats.rate([]), stats.mean([]), stats.bootstrap([], len)):
        assert (found.value, found.n, found.missing) == (None, 0, 0)
        assert found.method == "nothing so far that it applies to"


def test_rate_refuses_other_values() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        stats.rate([0.0, 0.5])


def test_rate_reports_what_is_missing_and_leaves_it_out() -> None:
    found = stats.rate(ones(5, 10), missing=90)
    assert (found.value, found.n, found.missing, found.clusters) == (0.5, 10, 90, 10)


def test_levels_of_one_sample_are_no_clusters() -> None:
    levels = [str(i) for i in range(30)]
    assert stats.rate(ones(7, 30), {"item": levels}) == stats.rate(ones(7, 30))


def test_one_way_variance_by_hand() -> None:
    # Clusters of sums 1.5, -0.5, -1.0 around the mean 0.5; G/(G-1) = 1.5.
    x, levels = [1, 1, 1, 0, 0, 1, 0, 0], ["a", "a", "a", "b", "b", "b", "c", "c"]
    factors = stats.crossed_factors({"task": levels}, 8)
    assert stats.cluster_variance(x, factors) == pytest.approx(1.5 * (1.5**2 + 0.5**2 + 1.0**2) / 64)


def test_two_way_variance_by_hand() -> None:
    # 3 x 2, one value a cell: sums of residuals -6, 0, 6 by a and -6, 6 by b; V_a + V_b - V_ab = 3 + 4 - 2.
    factors = stats.crossed_factors({"a": list("xxyyzz"), "b": list("pqpqpq")}, 6)
    assert stats.cluster_variance([0, 4, 3, 7, 6, 10], factors) == pytest.approx(5.0)


def test_two_way_variance_is_never_less_than_one_way() -> None:
    # The same, with sums 1, 0, -1 by a and 0.5, -0.5 by b: 3/36 alone exceeds 3/36 + 1/36 - 1.8/36.
    factors = stats.crossed_factors({"a": list("xxyyzz"), "b": list("pqpqpq")}, 6)
    assert stats.cluster_variance([1, 1, 1, 0, 0, 0], factors) == pytest.approx(3 / 36)


def test_clusters_that_agree_wholly_count_as_one_sample_each() -> None:
    x = np.repeat(ones(6, 12), 10)
    share = stats.proportion(x, {"task": np.repeat(np.arange(12), 10).astype(str)})
    assert (share.n, share.clusters) == (120, 12)
    alone = stats.wilson(6, 12)
    assert share.high - share.low == pytest.approx(alone[1] - alone[0], rel=0.1)


def test_repeats_of_a_sample_within_a_task_add_no_factor() -> None:
    tasks = [str(i // 6) for i in range(60)]
    samples = [str(i // 3) for i in range(60)]
    x = np.random.default_rng(0).integers(0, 2, 60)
    both, alone = stats.rate(x, {"sample": samples, "task": tasks}), stats.rate(x, {"task": tasks})
    assert (both.low, both.high, both.clusters) == (alone.low, alone.high, alone.clusters)
    assert stats.rate(x, {"sample": samples}).clusters == 20


def stratum(users: int, attacks: int, cells: list[tuple[int, int]]) -> stats.Stratum:
    """User tasks crossed with attacks, those with an event named."""
    x = np.zeros((users, attacks))
    for cell in cells:
        x[cell] = 1.0
    user, attack = np.divmod(np.arange(users * attacks), attacks)
    clusters = {"user": user, "attack": attack}
    return stats.Stratum(stats.rate(x.ravel(), clusters), x.ravel(), clusters)


def at_cells(users: int, attacks: int, cells: list[tuple[int, int]]) -> Estimate:
    return stratum(users, attacks, cells).estimate


def test_more_events_do_not_make_a_limit_lower() -> None:
    """0 of 560 used to reach up to 21.5%, 5 in three goals to 2.8%, and 8 in two to 23.7%."""
    none = at_cells(40, 14, [])
    three = at_cells(40, 14, [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)])
    two = at_cells(40, 14, [(u, g) for u in range(4) for g in range(2)])
    assert none.low == three.low * 0 == 0 and none.high < three.high < two.high < 0.2
    assert at_cells(21, 5, [(0, 0), (1, 0), (2, 1)]).high < 0.3  # used to be [0.1, 46.6]


SHAPES = ((16, 9), (21, 5), (20, 7), (40, 14), (8, 3), (30, 3))


@pytest.mark.parametrize(("users", "attacks"), SHAPES)
def test_an_event_never_lowers_the_upper_limit_of_few(users: int, attacks: int) -> None:
    """Whichever tasks it is added to: up to 5% never at all, and beyond by 2 points at most."""
    random = np.random.default_rng(2)
    for concentration in (0.3, 1.0, 4.0, 12.0):
        # Events come to some goals and user tasks first, as much as a draw wants.
        weights = np.outer(random.random(users), random.random(attacks) ** concentration).ravel()
        order = np.argsort(random.exponential(size=weights.size) / weights)
        cells = [divmod(int(i), attacks) for i in order[: users * attacks // 3]]
        found = [at_cells(users, attacks, cells[:k]) for k in range(len(cells) + 1)]
        for fewer, more in itertools.pairwise(found):
            assert more.value is not None and more.low <= more.value <= more.high
            assert more.high > fewer.high - (1e-4 if more.value <= 0.05 else 0.02), (more, fewer)
        assert found[0].low == 0 and found[-1].low > found[1].low


def test_a_subset_of_few_events_has_no_higher_limit() -> None:
    random = np.random.default_rng(5)
    for users, attacks in SHAPES * 4:
        size = max(2, users * attacks // 20)
        chosen = random.permutation(users * attacks)[:size]
        whole = [divmod(int(i), attacks) for i in chosen]
        goals = [cell for cell in whole if cell[1] in {whole[0][1], whole[1][1]}]
        assert at_cells(users, attacks, goals).high <= at_cells(users, attacks, whole).high + 1e-4


def test_no_event_in_a_grid_of_tasks_says_something() -> None:
    found = at_cells(16, 9, [])
    assert found.low == 0 and stats.wilson(0, 144)[1] < found.high < 0.07
    assert "tasks like these" in found.method


def test_one_goal_that_decides_alone_is_seen_as_that() -> None:
    one = at_cells(16, 9, [(u, 0) for u in range(16)])
    apart = at_cells(16, 9, [(u, u % 9) for u in range(16)])
    assert one.value == apart.value and one.high > 0.35 and apart.high < 0.3
    assert one.low < 0.03 < 0.06 < apart.low


def test_on_these_tasks_is_wilson_over_pairs() -> None:
    found = at_cells(16, 9, [(u, g) for u in range(16) for g in range(4)])
    assert found.same_tasks is not None
    assert (found.same_tasks.low, found.same_tasks.high) == pytest.approx(stats.wilson(64, 144))
    assert found.low < found.same_tasks.low < found.same_tasks.high < found.high
    assert stats.rate(ones(5, 10)).same_tasks is None


def test_on_these_tasks_takes_the_spread_within_pairs_that_were_repeated() -> None:
    """Half of the pairs nearly always work, the others nearly never: little changes when they run again."""
    random = np.random.default_rng(4)
    pair = np.repeat(np.arange(144), 5)
    chance = np.where(np.arange(144) % 2, 0.95, 0.05)
    hits = 0
    for _ in range(200):
        x = (random.random(720) < chance[pair]).astype(float)
        found = stats.rate(x, {"user": pair // 9, "attack": pair % 9, "sample": pair}).same_tasks
        assert found is not None and found.high - found.low < 0.05 < 0.07
        hits += found.low <= 0.5 <= found.high
    assert hits >= 182
    assert stats.wilson(360, 720)[1] - stats.wilson(360, 720)[0] > 0.07


def test_one_cluster_is_one_observation() -> None:
    found = stats.rate(ones(20, 40), {"task": ["only"] * 40})
    assert (found.low, found.high, found.clusters) == (*stats.wilson(0.5, 1), 1)
    assert "one cluster" in found.method


def test_rate_properties() -> None:
    generator = np.random.default_rng(3)
    for _ in range(200):
        users, attacks = generator.integers(2, 12, size=2)
        x = generator.integers(0, 2, users * attacks) * generator.integers(0, 2, users * attacks)
        clusters = {
            "user": np.repeat(np.arange(users), attacks).astype(str),
            "attack": np.tile(np.arange(attacks), users).astype(str),
        }
        found, turned = stats.rate(x, clusters), stats.rate(1 - x, clusters)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high - found.low > 0.01
        assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))
        independent = stats.rate(x)
        assert found.high - found.low >= independent.high - independent.low - 1e-12
        shuffled = generator.permutation(x.size)
        moved = stats.rate(x[shuffled], {name: levels[shuffled] for name, levels in clusters.items()})
        assert (moved.low, moved.high) == pytest.approx((found.low, found.high))


def test_mean_is_students() -> None:
    # Student's sleep data, group 2 (1908): mean 2.33, 95% interval 0.898 to 3.762.
    found = stats.mean([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert (found.value, found.low, found.high) == pytest.approx((2.33, 0.8976775, 3.7623225))


def test_mean_of_equal_clusters_is_the_mean_of_their_means() -> None:
    means = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    values = [m + d for m in means for d in (-0.5, 0.5)]
    found = stats.mean(values, {"passage": [str(i // 2) for i in range(20)]})
    alone = stats.mean(means)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert (found.n, found.clusters) == (20, 10)


def test_mean_without_spread() -> None:
    unbounded = stats.mean([2.0, 2.0, 2.0])
    assert (unbounded.value, unbounded.low, unbounded.high) == (2.0, None, None)
    bounded = stats.mean([0.0] * 150, bounds=(0.0, 100.0))
    assert (bounded.value, bounded.low) == (0.0, 0.0)
    assert bounded.high == pytest.approx(100 * stats.wilson(0, 150)[1])


def test_a_bounded_mean_of_zeros_and_ones_is_a_rate_on_its_own_design_effect() -> None:
    x = np.repeat([1.0, 0.0], [30, 70])
    found = stats.mean(x, bounds=(0.0, 1.0))
    from_variance = 100 * (99 / 100) * (stats.Z / stdtrit(99, 0.975)) ** 2
    assert (found.low, found.high) == pytest.approx(stats.wilson(0.3 * from_variance, from_variance))
    scaled = stats.mean(10 * x - 5, bounds=(-5.0, 5.0))
    assert (scaled.low, scaled.high) == pytest.approx((10 * found.low - 5, 10 * found.high - 5))


def test_a_bounded_mean_stays_within_its_bounds() -> None:
    found = stats.mean([0.0, 0.0, 0.9], bounds=(0.0, 1.0))
    assert 0.0 <= found.low < 0.3 < found.high <= 1.0


def test_bootstrap_of_a_mean_agrees_with_theory() -> None:
    x = np.random.default_rng(5).normal(3.0, 2.0, 400).tolist()
    found, expected = stats.bootstrap(x, lambda v: sum(v) / len(v)), stats.mean(x)
    assert found.value == pytest.approx(expected.value)
    assert found.low == pytest.approx(expected.low, abs=0.03)
    assert found.high == pytest.approx(expected.high, abs=0.03)
    assert "1000 resamples, seed 0" in found.method
    assert found == stats.bootstrap(x, lambda v: sum(v) / len(v))


def test_tails_of_few_units_are_those_of_students_interval() -> None:
    # Resampled means have variance s^2 (n-1)/n^2, where Student's interval has t and s^2/n.
    for n in (5, 10, 100):
        low, high = bootstrap_tails(n)
        assert ndtri(high) * math.sqrt((n - 1) / n) == pytest.approx(stdtrit(n - 1, 0.975))
        assert low == pytest.approx(1 - high) and low < 0.025


def test_bootstrap_draws_whole_clusters() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=30), 8).tolist()
    passages = [str(i // 8) for i in range(240)]
    alone, whole = (
        stats.bootstrap(values, lambda v: sum(v) / len(v), clusters, resamples=400)
        for clusters in ({}, {"passage": passages})
    )
    assert whole.clusters == 30
    assert (whole.high - whole.low) > 2 * (alone.high - alone.low)


@pytest.mark.parametrize("sizes", [[2] * 12, [1, 2, 3] * 4])
def test_clusters_are_drawn_as_one_operand_a_cluster_is(sizes: list[int]) -> None:
    ends = np.cumsum(sizes)
    numbers = np.random.default_rng(2).normal(size=ends[-1])
    parts = np.split(numbers, ends[:-1])
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    found = stats.bootstrap(numbers.tolist(), lambda v: float(np.mean(v)), {"passage": cluster})
    same = stats.bootstrap(parts, lambda v: float(np.mean(np.concatenate(v))))
    assert (found.value, found.low, found.high) == (same.value, same.low, same.high)


def test_bootstrap_of_something_not_finite_has_no_interval() -> None:
    found = stats.bootstrap([1.0, math.inf], sum)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert stats.bootstrap([1.0], sum).low is None


def test_a_corpus_metric_without_spread_has_no_interval_of_no_width() -> None:
    """Resamples that are all 1 do not tell that the metric is 1 without any doubt."""
    found = stats.bootstrap([1.0] * 20, lambda v: sum(v) / len(v))
    assert (found.value, found.low, found.high) == (1.0, None, None)
    assert "no spread can be seen in 20" in found.method


def test_the_value_of_a_corpus_metric_is_that_of_all_samples_whatever_was_drawn() -> None:
    values = np.random.default_rng(2).exponential(size=12).tolist()
    found = [stats.bootstrap(values, lambda v: max(v), seed=seed) for seed in range(5)]
    assert {one.value for one in found} == {max(values)}
    assert all(one.low is not None and one.low <= one.value == one.high for one in found)


def test_resamples_that_a_metric_is_not_defined_on_do_not_widen_its_interval() -> None:
    def log_odds(values: list[float]) -> float:
        share = sum(values) / len(values)
        return math.log(share / (1 - share))  # raises where all or none are 1

    found = stats.bootstrap(ones(2, 12), log_odds)
    assert found.value == pytest.approx(math.log(2 / 10))
    assert found.low is not None and -4 < found.low < found.value < found.high
    assert "in which it is not defined" in found.method


# Others published a standard error of 0 for such scores, and for the group over them.
@pytest.mark.parametrize(("events", "n"), [(14, 307), (2, 123), (2, 132), (5, 280), (8, 154), (8, 193)])
def test_a_score_that_is_neither_0_nor_1_has_its_closed_form(events: int, n: int) -> None:
    found, share = stats.rate(ones(events, n)), events / n
    closed = math.sqrt(share * (1 - share) / (n - 1))
    assert (found.high - found.low) / (2 * stats.Z) == pytest.approx(closed, rel=0.25)
    nothing = stats.rate(ones(0, n))
    group = stats.average([found, nothing])
    assert group.high - group.low >= (found.high - found.low) / 2 and nothing.high > 0


def test_a_mean_of_means_has_the_error_of_a_mean_of_means() -> None:
    """Not that of the mean over all samples, which a large member would make as small as its own."""
    small, large = stats.rate(ones(5, 10)), stats.rate(ones(5000, 10000))
    found = stats.average([small, large])
    assert found.high - found.low > 0.99 * (small.high - small.low) / 2
    pooled = stats.stratified(
        [stats.Stratum(small, ones(5, 10), {}), stats.Stratum(large, ones(5000, 10000), {})]
    )
    assert pooled.high - pooled.low < 0.03


def test_members_that_lie_far_apart_do_not_widen_their_mean() -> None:
    near = stats.average([stats.rate(ones(30, 100)), stats.rate(ones(70, 100))])
    same = stats.average([stats.rate(ones(30, 100))] * 2)
    assert near.high - near.low == pytest.approx(same.high - same.low, rel=0.01)


def test_epochs_of_a_question_are_one_observation_of_other_questions() -> None:
    """The error over questions is that of their means; more epochs take the noise within out of it."""
    random = np.random.default_rng(6)
    chance = random.beta(2, 2, size=200)
    one, many = (
        stats.mean(
            (random.random((200, k)) < chance[:, None]).ravel() * 1.0, {"question": np.arange(200).repeat(k)}
        )
        for k in (1, 10)
    )
    spread = [(found.high - found.low) / (2 * stdtrit(199, 0.975)) for found in (one, many)]
    assert spread[0] == pytest.approx(math.sqrt(0.25 / 200), rel=0.1)
    assert spread[1] == pytest.approx(math.sqrt((0.05 + 0.2 / 10) / 200), rel=0.15)
    assert (one.clusters, many.clusters) == (200, 200)


def test_many_attempts_at_few_questions_are_few_questions() -> None:
    """The rate of 16 attempts at each of 30 questions is surer than that of one, and no surer than 30 are."""
    random = np.random.default_rng(9)
    chance = random.beta(0.5, 0.5, 30)
    x = (random.random((30, 16)) < chance[:, None]).astype(float)
    found = stats.rate(x.ravel(), {"sample": np.repeat(np.arange(30), 16)})
    of_questions = 2 * stdtrit(29, 0.975) * x.mean(axis=1).std(ddof=1) / math.sqrt(30)
    assert found.value == x.mean() and found.clusters == 30
    assert found.high - found.low == pytest.approx(of_questions, rel=0.15)


def test_clusters_of_one_and_of_two_by_hand() -> None:
    x, codes = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0]), np.array([0, 1, 2, 2, 3, 3])
    by_hand = 4 / 3 * (0.5**2 + 0.5**2 + 0.0 + 0.0) / 36
    assert stats.cluster_variance(x, {"passage": codes}) == pytest.approx(by_hand)
    named, numbered = (stats.rate(x, {"passage": c}) for c in ([f"p{code}" for code in codes], codes))
    assert named == numbered


def test_three_large_clusters_have_an_interval() -> None:
    """More values in a cluster than there are clusters: finite, and hardly surer than three values."""
    x = np.concatenate([np.arange(500) % 10 < share for share in (2, 5, 8)]).astype(float)
    found = stats.rate(x, {"passage": np.repeat(np.arange(3), 500)})
    assert 0 < found.low < 0.25 and 0.75 < found.high < 1 and found.clusters == 3


def test_a_bootstrap_of_clusters_draws_some_of_them_twice() -> None:
    """Drawn as a set, whose members count once, clusters would vary less than they do."""
    random = np.random.default_rng(3)
    passage = np.repeat(np.arange(60), 5)
    x = random.normal(size=60)[passage] + 0.2 * random.normal(size=300)
    drawn = stats.bootstrap(list(x), lambda part: float(np.mean(part)), {"passage": passage})
    known = stats.mean(x, {"passage": passage})
    assert drawn.high - drawn.low == pytest.approx(known.high - known.low, rel=0.1)


def test_median_holds_wherever_all_intervals_hold() -> None:
    def estimate(value: float | None) -> Estimate:
        limits = {"low": None, "high": None} if value is None else {"low": value - 0.1, "high": value + 0.2}
        return Estimate(value=value, n=10, missing=0, clusters=10, method="", **limits)

    found = stats.median([estimate(v) for v in (0.5, None, 0.1, 0.7, 0.3)])
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.3, 0.6))
    assert found.n == 50
    assert stats.median([estimate(None)]).value is None


def test_average_of_suites() -> None:
    parts = [stats.rate(ones(8, 10)), stats.rate(ones(90, 100))]
    found = stats.average(parts)
    assert found.value == pytest.approx(0.85)
    down = math.hypot(*(part.value - part.low for part in parts)) / 2
    assert found.low == pytest.approx(0.85 - down)
    assert (found.n, found.clusters) == (110, 10)
    same = stats.average(parts[:1])
    assert (same.value, same.low, same.high) == pytest.approx((0.8, parts[0].low, parts[0].high))
    assert stats.average([*parts, stats.rate([], missing=3)]).value is None
    assert stats.average([]).value is None


def test_strata_of_few_clusters_are_better_known_together() -> None:
    """Towards one half, four with 5 degrees of freedom each have 20 together, and half the error of each."""
    half = stratum(10, 6, [(u, g) for u in range(10) for g in range(6) if (u + g) % 2])
    one, four = stats.stratified([half]), stats.stratified([half] * 4)
    assert (one.value, one.low, one.high) == pytest.approx((0.5, half.estimate.low, half.estimate.high))
    smaller = stdtrit(20, 0.975) / stdtrit(5, 0.975) / 2
    assert four.high == pytest.approx(0.5 + (half.estimate.high - 0.5) * smaller)
    assert four.low == pytest.approx(0.5 - (0.5 - half.estimate.low) / 2)
    assert (four.n, four.missing, four.clusters) == (240, 0, 24) and four.same_tasks is not None
    missed = msgspec.structs.replace(half.estimate, missing=3)
    assert stats.stratified([half._replace(estimate=missed), half]).missing == 3
    assert stats.stratified([]).value is None


def test_strata_look_at_one_half_from_both_sides_alike() -> None:
    few = [stratum(16, 9, [(0, 0), (3, 2)]), stratum(21, 5, [(u, 1) for u in range(9)])]
    many = [
        stats.Stratum(stats.rate(1 - np.asarray(x), clusters), 1 - np.asarray(x), clusters)
        for _, x, clusters in few
    ]
    one, other = stats.stratified(few), stats.stratified(many)
    assert (1 - other.high, 1 - other.low) == pytest.approx((one.low, one.high))


def test_an_event_in_a_stratum_never_lowers_the_upper_limit_of_few() -> None:
    random = np.random.default_rng(6)
    shapes = ((16, 9), (21, 5), (20, 7), (40, 14))
    for _ in range(4):
        order = random.permutation([i for i, (u, g) in enumerate(shapes) for _ in range(u * g // 20)])
        cells: list[list[tuple[int, int]]] = [[] for _ in shapes]
        before = 0.0
        for i in order:
            users, attacks = shapes[i]
            cells[i].append((int(random.integers(users)), int(random.integers(attacks) // 3)))
            found = stats.stratified([stratum(*shape, own) for shape, own in zip(shapes, cells, strict=True)])
            assert found.low <= found.value <= found.high and found.high >= before - 1e-4
            before = found.high


def covered(rate: float, users: int, attacks: int, spread: float, runs: int, clustered: bool) -> float:
    """Share of simulated runs whose interval holds the true rate; factors vary by `spread` probits."""
    generator = np.random.default_rng(20260101)
    centre = ndtri(rate) * math.sqrt(1 + 2 * spread**2)
    clusters = {
        "user": np.repeat(np.arange(users), attacks).astype(str),
        "attack": np.tile(np.arange(attacks), users).astype(str),
    }
    hits = 0
    for _ in range(runs):
        by_user, by_attack = generator.normal(size=(users, 1)), generator.normal(size=(1, attacks))
        chance = ndtr(centre + spread * (by_user + by_attack))
        found = stats.rate(
            (generator.random((users, attacks)) < chance).ravel(), clusters if clustered else None
        )
        hits += found.low <= rate <= found.high
    return hits / runs


# 600 runs have a standard error of 0.9 points at 95%.
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_coverage_of_independent_samples(rate: float) -> None:
    assert 0.93 <= covered(rate, 16, 9, spread=0.0, runs=600, clustered=False) <= 0.975


@pytest.mark.parametrize(("rate", "spread"), [(0.5, 1.0), (0.2, 1.0), (0.5, 0.5)])
def test_coverage_of_crossed_tasks(rate: float, spread: float) -> None:
    assert 0.93 <= covered(rate, 16, 9, spread, runs=600, clustered=True) <= 0.99


def test_independence_assumed_of_crossed_tasks_does_not_cover() -> None:
    assert covered(0.5, 16, 9, spread=1.0, runs=200, clustered=False) < 0.7


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_many_samples_whose_attempts_are_alike_have_two_limits(rate: float) -> None:
    """That many leave the spread which is assumed of few no chance at all, which is no limit of 0 or 1."""
    samples = 5000
    outcomes = np.arange(samples) < rate * samples
    found = stats.rate(np.repeat(outcomes.astype(float), 4), {"sample": np.repeat(np.arange(samples), 4)})
    assert found.low is not None and found.high is not None
    assert rate - 0.03 < found.low < rate < found.high < rate + 0.03


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.8])
def test_attempts_that_are_alike_count_as_one_sample_each(rate: float) -> None:
    """However many there are: of 1,000 samples at 20%, the upper limit was 21.3% and held in 88% of runs."""
    outcomes = (np.arange(1000) < rate * 1000).astype(float)
    found = stats.rate(np.repeat(outcomes, 4), {"sample": np.repeat(np.arange(1000), 4)})
    low, high = stats.wilson(rate * 1000, 1000)
    assert found.low is not None and found.high is not None
    assert found.low <= low + 1e-9 and found.high >= high - 1e-9
    assert found.high - found.low < 1.6 * (high - low)
