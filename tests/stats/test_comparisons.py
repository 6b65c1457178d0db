"""Comparisons of two samples against published examples, closed forms and simulated truth."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as reference

from harness import stats
from harness.types import Estimate


def paired(both: int, a_only: int, b_only: int, neither: int) -> tuple[list[float], list[float]]:
    a = [1.0] * both + [1.0] * a_only + [0.0] * b_only + [0.0] * neither
    b = [1.0] * both + [0.0] * a_only + [1.0] * b_only + [0.0] * neither
    return a, b


# Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13 (2013) 91: airway hyper-responsiveness before and
# after stem cell transplantation, and complete response in leukaemia.
@pytest.mark.parametrize(
    ("table", "exact", "mid_p"), [((1, 1, 7, 12), 0.0703, 0.0391), ((59, 6, 16, 80), 0.0525, 0.0347)]
)
def test_mcnemar_published(table: tuple[int, int, int, int], exact: float, mid_p: float) -> None:
    found = stats.mcnemar(*paired(*table))
    assert (found.a_only, found.b_only) == table[1:3]
    assert (found.exact, found.mid_p) == pytest.approx((exact, mid_p), abs=5e-5)


def test_mcnemar_of_equal_and_of_no_discordant_pairs() -> None:
    equal = stats.mcnemar(*paired(5, 4, 4, 5))
    assert equal.exact == 1.0
    assert equal.mid_p == pytest.approx(1 - math.comb(8, 4) / 2**9)
    assert stats.mcnemar([1.0], [1.0]).exact == 1.0


@pytest.mark.parametrize("n", [1, 5, 40, 3000])
def test_mcnemar_is_a_binomial_test(n: int) -> None:
    for fewer in {0, n // 4, n // 2}:
        found = stats.mcnemar(*paired(3, fewer, n - fewer, 2))
        assert found.exact == pytest.approx(reference.binomtest(fewer, n).pvalue)


def test_paired_difference_is_the_paired_t_test() -> None:
    # Student's sleep data (1908): difference 1.58, 95% interval 0.70 to 2.46, t = 4.0621, p = 0.00283.
    a = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    b = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = stats.paired_difference(a, b)
    estimate = found.estimate
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.58, 0.7001, 2.4599), abs=5e-5)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    assert found.degrees_of_freedom == 9


def test_paired_difference_of_clusters_is_that_of_their_means() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 8, 5)) + 2 * generator.normal(size=(2, 8, 1))
    tasks = np.repeat(np.arange(8), 5)
    clustered = stats.paired_difference(a.ravel(), b.ravel(), {"task": tasks})
    by_mean = stats.paired_difference(a.mean(1), b.mean(1))
    assert clustered.estimate.low == pytest.approx(by_mean.estimate.low)
    assert clustered.p_value == pytest.approx(by_mean.p_value)
    assert clustered.estimate.n == 40 and clustered.estimate.clusters == 8


def test_clusters_that_agree_by_chance_do_not_narrow_a_difference() -> None:
    # Every task and every user has half of its pairs rise: less spread than independent pairs would have.
    users, tasks = np.divmod(np.arange(40), 4)
    rises = ((users + tasks) % 2).astype(float)
    found = stats.paired_difference(np.zeros(40), rises, {"user": users, "task": tasks}, largest=1.0).estimate
    low, high = stats.wilson(20, 40)
    assert found.low < low < high < found.high


def test_pairs_that_differ_in_two_clusters_tell_little() -> None:
    users, tasks = np.divmod(np.arange(60), 6)
    rises = ((tasks < 2) & (users < 5)).astype(float)
    found = stats.paired_difference(np.zeros(60), rises, {"user": users, "task": tasks}, largest=1.0)
    assert found.estimate.low < 0.02 and found.estimate.high > 0.4 and found.p_value > 0.01
    one = stats.paired_difference(np.zeros(60), rises, {"task": np.zeros(60, int)}, largest=1.0)
    assert one.p_value is None and one.estimate.low < 0


@pytest.mark.parametrize(("n", "differ"), [(100, 0), (100, 2), (97, 3), (198, 6), (500, 4), (1319, 120)])
def test_the_power_that_is_stated_is_there(n: int, differ: int) -> None:
    """2 of 100 pairs differ used to say that 4 points would be found; their power was 37% at best."""
    a, b = paired(0, (differ + 1) // 2, differ // 2, n - differ)
    t = stats.paired_difference(a, b, largest=1.0)
    assert t.standard_error is not None
    found = stats.minimum_detectable_difference(t.standard_error, t.degrees_of_freedom)
    random = np.random.default_rng(0)
    noise = differ / n - abs(t.estimate.value or 0)
    hits = [
        stats.mcnemar(*paired(0, int(down), int(up), n - int(down) - int(up))).mid_p < 0.05
        for up, down, _ in random.multinomial(n, (found + noise / 2, noise / 2, 1 - found - noise), 600)
    ]
    assert np.mean(hits) > 0.77


def test_two_way_clusters_widen_a_paired_difference() -> None:
    generator = np.random.default_rng(1)
    d = generator.normal(size=(12, 1)) + generator.normal(size=(1, 9)) + generator.normal(size=(12, 9))
    users, tasks = np.repeat(np.arange(12), 9), np.tile(np.arange(9), 12)
    zero = np.zeros(108)

    def width(clusters: stats.Clusters) -> float:
        found = stats.paired_difference(zero, d.ravel(), clusters).estimate
        return found.high - found.low

    both = width({"user": users, "task": tasks})
    assert both > width({"user": users}) > width({})
    assert both > width({"task": tasks})


def test_no_pair_that_differs_is_no_proof_of_equality() -> None:
    found = stats.paired_difference([1.0] * 50, [1.0] * 50).estimate
    upper = stats.wilson(0, 50)[1]
    assert (found.low, found.high) == pytest.approx((-upper, upper))
    clustered = stats.paired_difference([1.0] * 50, [1.0] * 50, {"task": [i % 5 for i in range(50)]}).estimate
    assert clustered.high == pytest.approx(-clustered.low)
    assert upper < clustered.high < stats.wilson(0, 5)[1]


def test_all_pairs_that_differ_alike() -> None:
    found = stats.paired_difference([0.0] * 20, [1.0] * 20)
    assert (found.estimate.value, found.estimate.high, found.p_value) == (1.0, 1.0, None)
    assert 0.5 < found.estimate.low < 1


def test_no_pairs() -> None:
    assert stats.paired_difference([], []).estimate.value is None


# Holm, Scand. J. Stat. 6 (1979): step-down; the numbers are those of R's p.adjust(method = "holm").
def test_holm() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_minimum_detectable_difference_published() -> None:
    # 18.2 points for two groups of 100 at a rate of 0.3.
    error = stats.difference_standard_error(0.3, 0.3, 100, 100)
    assert 100 * stats.minimum_detectable_difference(error) == pytest.approx(18.2, abs=0.05)
    assert stats.minimum_detectable_difference(error, 10) > stats.minimum_detectable_difference(error)
    assert stats.minimum_detectable_difference(1.0) == pytest.approx(2.8016, abs=5e-5)


def test_standard_error_of_pairs_and_of_clusters() -> None:
    plain = stats.difference_standard_error(0.3, 0.3, 100, 100)
    assert stats.difference_standard_error(0.3, 0.3, 100, 100, design=4) == pytest.approx(2 * plain)
    related = stats.difference_standard_error(0.3, 0.3, 100, 100, correlation=0.75)
    assert related == pytest.approx(plain / 2)


def test_detectable_differences_are_detected_four_times_in_five() -> None:
    generator = np.random.default_rng(7)
    error = math.sqrt(2 / 60)
    size = stats.minimum_detectable_difference(error, 59)
    p_values = []
    for _ in range(1500):
        a, b = generator.normal(size=(2, 60))
        p_values.append(stats.paired_difference(a, b + size).p_value)
    assert np.mean(np.asarray(p_values) < 0.05) == pytest.approx(0.8, abs=0.04)


def test_shared_risk_ratio_of_independent_samples_is_katz() -> None:
    a, b = np.repeat([1.0, 0.0], [60, 240]), np.repeat([1.0, 0.0], [30, 270])
    found = stats.shared_risk_ratio(a, b, {}, {})
    katz = stats.risk_ratio(stats.proportion(a), stats.proportion(b))
    assert (found.value, katz.value) == pytest.approx((2.0, 2.0))
    assert (found.low, found.high) == pytest.approx((katz.low, katz.high), rel=5e-3)


def test_shared_risk_ratio_by_hand() -> None:
    # Pairs: both 30, a alone 20, b alone 10, neither 40. By the delta method the variance of the log ratio is
    # (a_only + b_only) / (events_a events_b), here 30 / 2000.
    a, b = paired(30, 20, 10, 40)
    pairs = {"sample": np.arange(100)}
    found = stats.shared_risk_ratio(a, b, pairs, pairs)
    # By their events pairs weigh 1/50 + 1/40, 1/50 and 1/40.
    freedom = 4 / (30 * 0.045**2 + 20 * 0.02**2 + 10 * 0.025**2) - 1
    half = reference.t.ppf(0.975, freedom) * math.sqrt(30 / (50 * 40) * 100 / 99)
    assert found.value == pytest.approx(50 / 40)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(
        (math.log(1.25) - half, math.log(1.25) + half)
    )
    assert "which both share" in found.method


def test_shared_risk_ratio_without_events_takes_the_sides_as_independent() -> None:
    pairs = {"sample": np.arange(40)}
    found = stats.shared_risk_ratio([1.0] * 12 + [0.0] * 28, [0.0] * 40, pairs, pairs, ("x", "y"))
    assert (found.value, found.high) == (None, None)
    assert "y had 0 events in 40" in found.method


def test_a_ratio_of_rates_near_one_has_an_honest_interval() -> None:
    found = stats.risk_ratio(stats.proportion([1.0] * 20), stats.proportion([1.0] * 20))
    low = stats.wilson(20, 20)[0]
    assert found.value == 1.0
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(1 / low, abs=0.02)


def test_unpaired_difference_is_newcombes() -> None:
    a, b = stats.rate([1.0] * 48 + [0.0] * 32), stats.rate([1.0] * 56 + [0.0] * 14)
    found = stats.unpaired_difference(a, b)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.standard_error is None  # what it could have found is not known


def test_ratio_of_two_intervals() -> None:
    # At each limit the interval of p - r q, by MOVER, ends at 0; turned around it is its inverse.
    a, b = stats.rate([1.0] * 30 + [0.0] * 40), stats.rate([1.0] * 20 + [0.0] * 60)
    found, turned = stats.ratio(a, b), stats.ratio(b, a)
    assert found.value == pytest.approx((30 / 70) / (20 / 80))
    reach = math.hypot(a.value - a.low, found.low * (b.high - b.value))
    assert a.value - found.low * b.value == pytest.approx(reach)
    assert (turned.low, turned.high) == pytest.approx((1 / found.high, 1 / found.low))
    never = stats.rate([0.0] * 40)
    assert stats.ratio(a, never).value is None
    assert stats.ratio(never, a).low == 0 < stats.ratio(never, a).high < 0.3
    unsure = Estimate(value=0.1, low=0.0, high=0.6, n=3, missing=0, clusters=3, method="")
    assert stats.ratio(a, unsure).high is None and stats.ratio(a, unsure).low > 0


def test_odds_ratio_of_independent_rates() -> None:
    # Log odds of Wilson's limits: closed form of MOVER; turned around it is its inverse.
    a, b = stats.rate([1.0] * 56 + [0.0] * 14), stats.rate([1.0] * 48 + [0.0] * 32)
    found, turned = stats.odds_ratio(a, b), stats.odds_ratio(b, a)

    def odds(p: float) -> float:
        return math.log(p / (1 - p))

    assert found.value == pytest.approx((56 / 14) / (48 / 32))
    down = math.hypot(odds(a.value) - odds(a.low), odds(b.high) - odds(b.value))
    assert math.log(found.low) == pytest.approx(math.log(found.value) - down)
    assert (turned.low, turned.high) == pytest.approx((1 / found.high, 1 / found.low))
    none = stats.odds_ratio(a, stats.rate([1.0] * 9))
    assert (none.value, none.low, none.high) == (None, None, None)


def ends(estimate: Estimate, turned: Callable[[float], float]) -> tuple[float | None, ...]:
    found = [None if end is None else turned(end) for end in (estimate.value, estimate.low, estimate.high)]
    return found[0], found[2], found[1]


def test_properties_of_differences_and_ratios() -> None:
    """Sides turned around, order of samples, and what is known of limits, for 200 runs of crossed tasks."""
    generator = np.random.default_rng(9)
    for _ in range(200):
        users, tasks = generator.integers(2, 10, size=2)
        rates = generator.random(2)
        a, b = (generator.random((2, users * tasks)) < rates[:, None]).astype(float)
        codes = {"user": np.repeat(np.arange(users), tasks), "task": np.tile(np.arange(tasks), users)}
        there, back = (stats.paired_difference(x, y, codes, largest=1.0) for x, y in ((a, b), (b, a)))
        found = there.estimate
        assert -1 <= found.low <= found.value <= found.high <= 1 and found.high - found.low > 0
        assert (found.value, found.low, found.high) == pytest.approx(ends(back.estimate, lambda x: -x))
        order = generator.permutation(a.size)
        moved = {name: c[order] for name, c in codes.items()}
        again = stats.paired_difference(a[order], b[order], moved, largest=1.0)
        assert (again.estimate.low, again.p_value) == pytest.approx((found.low, there.p_value))
        ratio = stats.shared_risk_ratio(a, b, codes, codes)
        inverse = stats.shared_risk_ratio(b, a, codes, codes)
        if a.any() and b.any():
            assert ratio.low <= ratio.value <= ratio.high
            turned = ends(inverse, lambda x: 1 / x)
            assert (ratio.value, ratio.low, ratio.high) == pytest.approx(turned)


def test_coverage_of_paired_differences_of_crossed_tasks() -> None:
    generator = np.random.default_rng(11)
    clusters = {"user": np.repeat(np.arange(16), 9), "task": np.tile(np.arange(9), 16)}
    hits, runs = 0, 500
    for _ in range(runs):
        shared = generator.normal(size=(16, 1)) + generator.normal(size=(1, 9))
        own = 0.5 * (generator.normal(size=(2, 16, 1)) + generator.normal(size=(2, 1, 9)))
        chance = reference.norm.cdf(shared + own)  # both models have the same rate
        a, b = (generator.random((2, 16, 9)) < chance).reshape(2, -1)
        found = stats.paired_difference(a, b, clusters).estimate
        hits += found.low <= 0 <= found.high
    assert 0.93 <= hits / runs <= 0.985


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_no_table_of_events_is_beyond_the_estimators(share: float) -> None:
    """Whatever the unbalance: which one gave a variance below 0 was a matter of rounding."""
    random = np.random.default_rng(8)
    for _ in range(150):
        users, attacks, attempts = random.integers(1, 12), random.integers(1, 7), random.integers(1, 4)
        sides = []
        for _ in range(2):
            pair = np.repeat(np.arange(users * attacks), attempts)
            pair = pair[random.random(pair.size) < random.choice([0.3, 0.8, 1.0])]
            chance = share if random.random() < 0.7 else random.choice([0.0, 1.0])
            clusters = {"user": pair // attacks, "attack": pair % attacks, "sample": pair}
            sides.append(((random.random(pair.size) < chance).astype(float), clusters))
        (x, ours), (y, theirs) = sides
        a, b = stats.rate(x, ours), stats.rate(y, theirs)
        found = [
            a,
            b,
            stats.risk_ratio(stats.proportion(x, ours), stats.proportion(y, theirs)),
            stats.shared_risk_ratio(x, y, ours, theirs),
            stats.odds_ratio(a, b),
            stats.difference(a, b),
        ]
        m = min(x.size, y.size)
        if m:
            found.append(stats.paired_difference(x[:m], y[:m], {k: c[:m] for k, c in ours.items()}).estimate)
            models = stats.ratio_over_models([x] * 2, [y] * 3, [ours] * 2, [theirs] * 3)
            found += [models, stats.mean_of_models([x, x], [ours, ours]).estimate]
        for one in found:
            ends = [one.low, one.value, one.high]
            assert all(end is None or not math.isnan(end) for end in ends), one
            known = [end for end in ends if end is not None]
            assert known == sorted(known), one


def test_all_were_hijacked_in_every_pair_that_was_seen() -> None:
    for n in range(6, 40):
        side = stats.proportion(np.ones(n), {"attack": np.arange(n) % 5})
        found = stats.risk_ratio(side, side)
        assert found.low is not None and found.low < 1 == found.value < found.high


def test_a_ratio_and_a_difference_agree_that_there_is_one() -> None:
    """37, 48 and 49% against 4, 3 and 4% at 30 user tasks and 3 goals used to be a ratio of 0.1 to 1,000."""
    random = np.random.default_rng(0)
    pair = np.arange(90)
    clusters = {"user": pair // 3, "attack": pair % 3, "sample": pair}
    apart = agree = 0
    for _ in range(60):
        x = (random.random(90) < np.array([0.37, 0.48, 0.49])[pair % 3]).astype(float)
        y = (random.random(90) < np.array([0.04, 0.03, 0.04])[pair % 3]).astype(float)
        ratio = stats.shared_risk_ratio(x, y, clusters, clusters)
        assert ratio.low is not None
        apart += ratio.low > 1
        low = stats.paired_difference(y, x, clusters, largest=1.0).estimate.low
        agree += (low > 0) == (ratio.low > 1)
    assert apart >= 52 and agree == 60


def test_the_same_pairs_once_nearly_all_and_once_hardly_any() -> None:
    pair = np.arange(144)
    clusters = {"user": pair // 9, "attack": pair % 9, "sample": pair}
    x, y = np.zeros((2, 144))
    x[np.random.default_rng(1).permutation(144)[:78]] = 1.0
    y[[3, 4, 40]] = 1.0
    found = stats.shared_risk_ratio(x, y, clusters, clusters)
    assert found.value == 26 and found.low > 3 and found.high < 250
