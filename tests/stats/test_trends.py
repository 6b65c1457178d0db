"""Lines, lags and cost ratios, against examples worked by hand."""

import math

import numpy as np
import pytest

from harness.analysis.claims.dates import Dated, months_of
from harness.analysis.claims.lags import lags
from harness.analysis.claims.trends import trends
from harness.stats.expenses import Expenses, both_solved_ratio, curve_ratio
from harness.stats.trends import fit_line, lag


def test_a_line_without_noise() -> None:
    line = fit_line([0, 1, 2, 3], [1, 3, 5, 7])
    assert line is not None
    assert (line.slope, line.low, line.high) == (pytest.approx(2), pytest.approx(2), pytest.approx(2))


def test_a_line_with_noise() -> None:
    """y = 0, 1, 0 over x = 0, 1, 2: slope 0, residuals' sum of squares 2/3 on 1 degree, spread of x 2."""
    line = fit_line([0, 1, 2], [0, 1, 0])
    assert line is not None and line.slope == pytest.approx(0)
    half = 12.7062047 * math.sqrt((2 / 3) / 1 / 2)
    assert (line.low, line.high) == (pytest.approx(-half), pytest.approx(half))


@pytest.mark.parametrize("x", [[], [1], [1, 2], [3, 3, 3]])
def test_too_few_points_have_no_line(x: list[int]) -> None:
    assert fit_line(x, [float(i) for i in range(len(x))]) is None


def test_lag() -> None:
    leader = ([12.0, 0.0, 6.0], [2.0, 0.0, 1.0])
    found = lag(leader, ([10.0, 15.0], [0.5, 1.0]))
    assert found is not None
    assert (found.time, found.follower, found.leader, found.at_least) == (9.0, 1, 2, False)
    found = lag(leader, ([15.0], [-1.0]))
    assert found is not None and (found.time, found.at_least) == (15.0, True)
    found = lag(leader, ([3.0], [1.5]))
    assert found is not None and found.time == -9.0  # was first, and was overtaken
    assert lag(leader, ([3.0], [2.5])) is None


def test_months() -> None:
    day, month = months_of("2025-04-15"), months_of("2025-04")
    assert day is not None and day == month
    later = months_of("2026-04-15")
    assert later is not None and later - day == pytest.approx(12, abs=0.01)
    assert [months_of(text) for text in (None, "", "spring", "2025-13")] == [None] * 4


def dated(origin: str, *models: tuple[float, int]) -> list[Dated]:
    return [Dated(model=f"{origin}{i}", origin=origin, index=i, month=month) for month, i in models]


def test_trend_of_each_origin() -> None:
    """XA gains 1.5 logits every six months."""
    ability = [0.0, 1.5, 3.0, 0.2]
    one, other = trends([*dated("XA", (0, 0), (6, 1), (12, 2)), *dated("XB", (9, 3))], ability)
    assert one.per_year == pytest.approx(3.0) and (one.origin, one.models) == ("XA", 3)
    assert (other.origin, other.models, other.per_year) == ("XB", 1, None)


def test_lag_with_the_lags_of_drawn_abilities() -> None:
    models = [*dated("XA", (0, 0), (6, 1), (12, 2)), *dated("XB", (14, 3))]
    ability = [0.0, 1.0, 2.0, 0.9]
    drawn = np.asarray([[0.0, 1.0, 2.0, value] for value in [-0.5] * 2 + [0.9] * 88 + [1.5] * 10])
    (found,) = lags(models, ability, drawn)
    assert (found.leader, found.behind, found.reached_by, found.months) == ("XA", "XB", "XA1", 8.0)
    assert (found.low, found.high, found.at_least) == (2.0, 8.0, False)
    drawn[:5, 3] = 9.0  # in these nobody is as able
    (found,) = lags(models, ability, drawn)
    assert (found.low, found.high) == (None, 8.0)
    drawn[:5, 3] = -0.5  # in these the earliest is, and one before it may have been
    (found,) = lags(models, ability, drawn)
    assert (found.low, found.high) == (2.0, None)
    (found,) = lags(models, ability, None)
    assert (found.months, found.low, found.high) == (8.0, None, None)


def expenses(
    cost: list[float], solved: list[int], *, cut: int | None = None, task: object = None
) -> Expenses:
    return Expenses(
        np.arange(len(cost)) if task is None else np.asarray(task),
        np.asarray(solved, dtype=np.float64),
        np.asarray(cost, dtype=np.float64),
        np.arange(len(cost)) == cut,
    )


def test_cost_at_the_same_performance() -> None:
    """a solves a quarter at a mean of 1, a half at (1 + 2 + 3 + 3) / 4; b up to three quarters at 2.

    Over the half that both reach: sqrt(1 x 2.25) against 2.
    """
    a, b = expenses([1, 2, 3, 4], [1, 0, 1, 0]), expenses([2, 2, 2, 2], [1, 1, 1, 0])
    found = curve_ratio(a, b)
    assert found.value == pytest.approx(math.sqrt(2.25) / 2)
    assert found.n == 4 and "A6" in found.method
    inverse = curve_ratio(b, a)
    assert inverse.value is not None and inverse.value == pytest.approx(1 / 0.75)


def test_a_curve_ends_where_another_budget_did() -> None:
    a, b = expenses([1, 2, 3, 4], [1, 0, 1, 0], cut=1), expenses([2, 2, 2, 2], [1, 1, 1, 0])
    assert curve_ratio(a, b).value == pytest.approx(1 / 2)  # the quarter that cost no more than 2


def test_a_model_that_solves_nothing_has_no_cost_ratio() -> None:
    a, b = expenses([1, 1], [0, 0]), expenses([1, 1], [1, 1])
    assert curve_ratio(a, b).value is None
    assert both_solved_ratio(a, b).value is None
    assert both_solved_ratio(a, b).n == 0


def test_attempts_without_engine_time_are_not_free() -> None:
    a, b = expenses([0, 1], [1, 1]), expenses([1, 1], [1, 1])
    assert curve_ratio(a, b).value is None and both_solved_ratio(a, b).value is None


def test_cost_of_what_both_solved() -> None:
    a, b = expenses([1, 2, 6, 4], [1, 0, 1, 0]), expenses([2, 2, 5, 2], [1, 1, 1, 0])
    found = both_solved_ratio(a, b)
    assert found.value == pytest.approx((1 + 6) / (2 + 5)) and found.n == 2
    # Two attempts at task 0, of which one solved it, at 3.
    again = expenses([9, 3, 6], [0, 1, 1], task=[0, 0, 2])
    assert both_solved_ratio(again, b).value == pytest.approx((3 + 6) / (2 + 5))


def test_a_task_counts_once_however_often_it_was_tried() -> None:
    once, b = expenses([2, 4], [1, 1]), expenses([1, 1], [1, 1])
    twice = expenses([2, 2, 4], [1, 1, 1], task=[0, 0, 1])
    assert curve_ratio(twice, b).value == pytest.approx(curve_ratio(once, b).value)


def test_intervals_hold_a_known_ratio() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(40):
        hard = random.lognormal(size=80)
        solved = (random.random(80) < 0.6).astype(np.float64)
        a = expenses(list(3 * hard * random.lognormal(0, 0.3, 80)), list(solved))
        b = expenses(list(hard * random.lognormal(0, 0.3, 80)), list(solved))
        found = both_solved_ratio(a, b)
        assert found.low is not None and found.high is not None
        hits += found.low < 3 < found.high
    assert hits >= 34
