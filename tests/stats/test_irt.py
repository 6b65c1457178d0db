"""The Rasch model against closed forms and simulated truth."""

import math

import numpy as np
import pytest

from harness.stats.irt import _alike, _expectation, _information, _moments, linked, rasch


def simulate(abilities: list[float], questions: int, spread: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    logits = np.asarray(abilities)[:, None] - spread * generator.normal(size=questions)[None, :]
    return (generator.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def test_abilities_and_difficulties_are_recovered() -> None:
    truth = [-1.0, 0.0, 0.5, 2.0]
    x = simulate(truth, 4000, 1.5, 0)
    found = rasch(x, np.ones_like(x))
    assert found.ability == pytest.approx(truth, abs=0.15)
    assert found.spread == pytest.approx(1.5, abs=0.12)


def test_questions_of_one_difficulty_give_the_log_odds() -> None:
    successes = np.asarray([[30.0] * 50, [60.0] * 50])
    found = rasch(successes, np.full((2, 50), 100.0))
    gap, _ = found.difference(1, 0)
    assert gap == pytest.approx(math.log(0.6 / 0.4) - math.log(0.3 / 0.7), abs=0.01)


def test_standard_errors_are_those_of_simulated_runs() -> None:
    found = [rasch(x, np.ones_like(x)) for x in (simulate([0.0, 1.0, -0.5], 300, 1.0, s) for s in range(60))]
    gaps = [f.difference(1, 0) for f in found]
    spread = np.std([gap for gap, _ in gaps], ddof=1)
    assert np.mean([error for _, error in gaps]) == pytest.approx(spread, rel=0.25)
    assert np.mean([abs(gap - 1.0) < 1.96 * error for gap, error in gaps]) >= 0.88


def test_standard_errors_hold_with_more_models_than_questions() -> None:
    truth = np.linspace(-1.5, 1.5, 16)
    found = [rasch(x, np.ones_like(x)) for x in (simulate(list(truth), 12, 1.0, s) for s in range(40))]
    gaps = [f.difference(10, 4) for f in found]
    spread = np.std([gap for gap, _ in gaps], ddof=1)
    assert np.mean([error for _, error in gaps]) == pytest.approx(spread, rel=0.3)
    assert np.mean([abs(gap - 1.2) < 1.96 * error for gap, error in gaps]) >= 0.88


def test_one_question_of_known_difficulty_has_binomial_information() -> None:
    """Where all questions are alike, the variance of a log-odds is 1 / (n p (1 - p))."""
    found = rasch(np.full((1, 40), 6.0), np.full((1, 40), 10.0))
    assert found.spread < 0.1
    assert found.standard_error[0] == pytest.approx(1 / math.sqrt(400 * 0.6 * 0.4), rel=0.02)


def test_models_need_not_meet_the_same_questions() -> None:
    x = simulate([0.0, 1.0], 3000, 1.0, 3)
    put = np.ones_like(x)
    put[0, 2000:] = put[1, :1000] = 0.0
    found = rasch(x * put, put)
    assert found.difference(1, 0)[0] == pytest.approx(1.0, abs=0.25)


def test_a_harder_suite_makes_nobody_weaker() -> None:
    """The last two models met the easy half alone; the truth is 0, 0.5, -0.5, 0.3."""
    found = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        logits = np.asarray([0, 0.5, -0.5, 0.3])[:, None] - generator.normal(np.repeat([0.0, 2.0], 100))
        x, put = (generator.random((4, 200)) < 1 / (1 + np.exp(-logits))).astype(float), np.ones((4, 200))
        put[2:, 100:] = 0.0
        found.append(rasch(x * put, put, np.repeat([0, 1], 100)).difference(1, 2))
    gaps = np.asarray([gap for gap, _ in found])
    assert gaps.mean() == pytest.approx(1.0, abs=0.1)
    assert np.mean([error for _, error in found]) == pytest.approx(gaps.std(ddof=1), rel=0.25)


def test_the_largest_suite_does_not_decide_alone() -> None:
    """Better by 0.2 at 4,000 questions, weaker by 1.4 at 100: by suite the second is ahead, by about half."""
    gaps, errors = [], []
    sizes = np.repeat([0, 1], [4000, 100])
    for seed in range(40):
        generator = np.random.default_rng(seed)
        better = np.stack([np.where(sizes == 0, 0.2, -1.4), np.zeros(sizes.size)])
        logits = better - generator.normal(size=sizes.size)
        x = (generator.random(better.shape) < 1 / (1 + np.exp(-logits))).astype(float)
        gap, error = rasch(x, np.ones_like(x), sizes).difference(0, 1)
        gaps.append(gap)
        errors.append(error)
    assert -0.6 < np.mean(gaps) < -0.4
    assert np.mean(errors) == pytest.approx(np.std(gaps, ddof=1), rel=0.3)


def test_suites_of_one_size_weigh_what_their_questions_do() -> None:
    x = simulate([0.0, 1.0, -0.5], 200, 1.0, 5)
    found = rasch(x, np.ones_like(x), np.repeat([0, 1], 100))
    twice = rasch(np.tile(x, 2), np.ones((3, 400)), np.tile(np.repeat([0, 1], 100), 2))
    assert found.ability == pytest.approx(twice.ability, abs=1e-3)
    assert found.difference(1, 0)[1] == pytest.approx(math.sqrt(2) * twice.difference(1, 0)[1], rel=1e-3)


def test_models_that_no_suite_links_are_refused() -> None:
    put = np.kron(np.eye(2), np.ones((1, 5)))
    with pytest.raises(ValueError, match="links all models"):
        rasch(0.5 * put, put, np.repeat([0, 1], 5))
    assert linked([[True, False], [True, True], [False, True]])
    assert not linked([[True, False, False], [True, True, False], [False, False, True]])


def test_all_right_is_a_large_ability_and_no_error() -> None:
    x = np.vstack([np.ones(40), simulate([0.0], 40, 1.0, 1)[0]])
    found = rasch(x, np.ones_like(x))
    assert 2.0 < found.ability[0] <= 8.0
    assert np.isfinite(found.standard_error).all()


def test_a_model_without_attempts_is_refused() -> None:
    with pytest.raises(ValueError, match="every model"):
        rasch([[1.0], [0.0]], [[1.0], [0.0]])


def test_questions_that_tell_the_same_are_counted_and_nothing_is_lost() -> None:
    """Their number, not their names, is what a fit takes: the same as with each on its own."""
    random = np.random.default_rng(3)
    n = random.integers(0, 3, (4, 300)).astype(float)
    n[:, :50] = 1.0
    s = random.binomial(n.astype(int), 0.3 + 0.4 * random.random(300)).astype(float)
    kinds, tried, count = _alike(s, n)
    assert kinds.shape == tried.shape == (4, count.size) and count.size < 300 and count.sum() == 300
    for ability in (np.zeros(4), np.array([0.5, -1.0, 0.2, 2.0])):
        alone, chance = _expectation(s, n, ability, 1.3)
        together, _ = _expectation(kinds, tried, ability, 1.3)
        ones = np.ones(300)
        for ours, theirs in (
            (_moments(kinds, tried, count, together, chance), _moments(s, n, ones, alone, chance)),
            ((_information(tried, count, together, chance),), (_information(n, ones, alone, chance),)),
        ):
            for found, expected in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-9)
