"""Simulate runs whose truth is known, and count how often the 95% intervals hold it.

    make coverage

Each scenario draws models, tasks and outcomes anew in every run, so that the truth is that of the population
that they are drawn from; that of a rate on these tasks is the mean of the chances that were drawn. With
1,000 runs a coverage of 95% has a standard error of 0.7 points. Hijacking is drawn as `fit_components.py`
found it in real runs: user tasks crossed with injection tasks, exposure by user task, success by both.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import expit, logit, ndtr, ndtri  # type: ignore[import-untyped]

from harness import stats
from harness.analysis.claims.dates import Dated
from harness.analysis.claims.lags import lags
from harness.stats.expenses import Expenses, both_solved_ratio, curve_ratio
from harness.stats.irt import rasch
from harness.stats.misclassification import Calibration, Confusion
from harness.stats.trends import fit_line
from harness.suites.subset import draw_stratified
from harness.types import Estimate

RANGE = (0.93, 0.98)
COMPONENTS = json.loads((Path(__file__).parent / "hijack_components.json").read_text())
SHAPES = {"banking": (16, 9), "slack": (21, 5), "travel": (20, 7), "workspace": (40, 14)}
"""User tasks and injection tasks of AgentDojo's suites, v1.2.2."""
Random = np.random.Generator
Trial = Callable[[Random], tuple[float, Estimate]]
"""One simulated run: (the truth, the estimate)."""


@dataclass(frozen=True)
class Scenario:
    """What is simulated for one estimator."""

    estimator: str
    setting: str
    trial: Trial
    why: str = ""
    """Why its coverage lies outside of the range, where it is known to."""
    least: float = RANGE[0]
    """Coverage that it has at least; less than the range where that is known and said."""


def coverage(scenario: Scenario, runs: int, seed: int = 0) -> tuple[float, float]:
    """(share of intervals that hold the truth, median width of the interval)."""
    random = np.random.default_rng([seed, *scenario.setting.encode(), *scenario.estimator.encode()])
    hits, widths = 0, []
    for _ in range(runs):
        truth, found = scenario.trial(random)
        low = -math.inf if found.low is None else found.low
        high = math.inf if found.high is None else found.high
        hits += low <= truth <= high
        widths.append(high - low)
    return hits / runs, float(np.median(widths))


def crossed(users: int, attacks: int, attempts: int = 1) -> dict[str, NDArray[np.intp]]:
    """Factors of user tasks crossed with injection tasks, each pair tried several times."""
    pair = np.repeat(np.arange(users * attacks), attempts)
    return {"user": pair // attacks, "attack": pair % attacks, "sample": pair}


def probits(random: Random, rate: float, users: int, attacks: int, spread: float) -> NDArray[np.float64]:
    """Shape (users, attacks): chances whose mean over all possible tasks is the rate."""
    centre = ndtri(rate) * math.sqrt(1 + 2 * spread**2)
    tasks = random.normal(size=(users, 1)) + random.normal(size=(1, attacks))
    chances: NDArray[np.float64] = ndtr(centre + spread * tasks)
    return chances


@cache
def normal_nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of a standard normal distribution."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return nodes, weights / weights.sum()


def mean_chance(centre: float, spread: float) -> float:
    """The mean of chances whose log odds are normal."""
    nodes, weights = normal_nodes()
    return float(weights @ expit(centre + spread * nodes))


@cache
def success_centre(rate: float, suite: str) -> float:
    """Log odds of success where the attack was shown, which make the rate over all pairs what it is to be."""
    shown = mean_chance(*exposure(suite))
    spread = math.hypot(COMPONENTS["success"]["user_task"], COMPONENTS["success"]["injection_task"])
    found: float = brentq(lambda c: shown * mean_chance(c, spread) - rate, -40, 40)
    return found


def exposure(suite: str) -> tuple[float, float]:
    """(centre, spread) of the log odds of being shown; travel, where no attack was, is like slack."""
    found = COMPONENTS["exposure"][suite if suite in COMPONENTS["exposure"] else "slack"]
    return found["centre"], found["user_task"]


def pairs(
    random: Random, rate: float, suite: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, NDArray[np.intp]]]:
    """(chance of each pair that was drawn, outcomes, factors) of a suite."""
    users, goals = SHAPES[suite]
    centre, spread = exposure(suite)
    shown = random.random((users, goals)) < expit(centre + spread * random.normal(size=(users, 1)))
    success, spreads = success_centre(rate, suite), COMPONENTS["success"]
    by_user = spreads["user_task"] * random.normal(size=(users, 1))
    by_goal = spreads["injection_task"] * random.normal(size=(1, goals))
    chance = (shown * expit(success + by_user + by_goal)).ravel()
    return chance, (random.random(chance.size) < chance).astype(float), crossed(users, goals)


def like_these(rate: float, suite: str) -> Trial:
    """The rate of being hijacked over tasks like these."""

    def trial(random: Random) -> tuple[float, Estimate]:
        _, x, levels = pairs(random, rate, suite)
        return rate, stats.rate(x, levels)

    return trial


def on_these(rate: float, suite: str, attempts: int) -> Trial:
    """The rate of being hijacked on the tasks that were drawn."""

    def trial(random: Random) -> tuple[float, Estimate]:
        chance, _, levels = pairs(random, rate, suite)
        x = (random.random((attempts, chance.size)) < chance).astype(float).ravel()
        found = stats.rate(x, {name: np.tile(codes, attempts) for name, codes in levels.items()})
        assert found.same_tasks is not None
        low, high = found.same_tasks.low, found.same_tasks.high
        return float(chance.mean()), msgspec.structs.replace(found, low=low, high=high)

    return trial


def drawn_rate(size: int, wanted: int, rates: tuple[float, ...]) -> Trial:
    """The share that a model solves of a suite's tasks, of which some are drawn, each kind in proportion.

    Args:
        size: tasks of the suite.
        wanted: how many are drawn.
        rates: of each kind of tasks; there are as many of one kind as of another.
    """
    kinds = [str(place % len(rates)) for place in range(size)]

    def trial(random: Random) -> tuple[float, Estimate]:
        solved = (random.random(size) < np.resize(rates, size)).astype(float)
        values = solved[draw_stratified(kinds, wanted, int(random.integers(1 << 30)))]
        found = stats.of_population(values, size)
        assert found is not None  # a share has bounds
        usual = stats.rate(values)
        return float(solved.mean()), msgspec.structs.replace(usual, low=found.low, high=found.high)

    return trial


def all_suites(rates: dict[str, float]) -> Trial:
    """The rate over all of AgentDojo's pairs, which are those of four given suites."""
    sizes = {suite: users * goals for suite, (users, goals) in SHAPES.items()}
    truth = sum(sizes[suite] * rate for suite, rate in rates.items()) / sum(sizes.values())

    def trial(random: Random) -> tuple[float, Estimate]:
        drawn = [pairs(random, rate, suite)[1:] for suite, rate in rates.items()]
        return truth, stats.stratified([stats.Stratum(stats.rate(*one), *one) for one in drawn])

    return trial


def missing(rate: float, suite: str, lost: tuple[float, float], worst: bool) -> Trial:
    """Attempts that fail more often, or less, where they would have been hijacked.

    Args:
        rate: of being hijacked.
        suite: whose pairs they are.
        lost: share of failures of those that would not have been hijacked, and of those that would.
        worst: the worst case instead of the interval of what is left.
    """

    def trial(random: Random) -> tuple[float, Estimate]:
        _, x, levels = pairs(random, rate, suite)
        there = random.random(x.size) >= np.where(x == 1, lost[1], lost[0])
        if not worst:
            return rate, stats.rate(x[there], {name: codes[there] for name, codes in levels.items()})
        least, most = (stats.rate(np.where(there, x, end), levels) for end in (0.0, 1.0))
        return rate, msgspec.structs.replace(least, high=most.high)

    return trial


def independent_rate(rate: float, n: int) -> Trial:
    """Samples that share nothing."""
    return lambda random: (rate, stats.rate((random.random(n) < rate).astype(float)))


def repeated_rate(rate: float, samples: int, attempts: int, spread: float) -> Trial:
    """Several attempts at each sample, samples of different difficulty."""
    levels = {"sample": np.repeat(np.arange(samples), attempts)}
    centre = ndtri(rate) * math.sqrt(1 + spread**2)

    def trial(random: Random) -> tuple[float, Estimate]:
        chance = ndtr(centre + spread * random.normal(size=(samples, 1)))
        return rate, stats.rate((random.random((samples, attempts)) < chance).ravel(), levels)

    return trial


def crossed_rate(rate: float, users: int, attacks: int, spread: float) -> Trial:
    """User tasks crossed with injection tasks."""
    levels = crossed(users, attacks)

    def trial(random: Random) -> tuple[float, Estimate]:
        chance = probits(random, rate, users, attacks, spread)
        return rate, stats.rate((random.random(chance.shape) < chance).ravel(), levels)

    return trial


def attack_decides(rate: float, users: int, attacks: int, spread: float) -> Trial:
    """Crossed tasks of which the attack alone decides: a few succeed nearly always, the others never."""
    levels = crossed(users, attacks)

    def trial(random: Random) -> tuple[float, Estimate]:
        chance = random.beta(rate * spread, (1 - rate) * spread, size=(1, attacks))
        return rate, stats.rate((random.random((users, attacks)) < chance).ravel(), levels)

    return trial


def clustered_mean(passages: int, questions: int, share: float, bounded: bool) -> Trial:
    """Questions on passages; a share of the variance lies between passages."""
    levels = {"passage": np.repeat(np.arange(passages), questions)}

    def trial(random: Random) -> tuple[float, Estimate]:
        x = math.sqrt(share) * random.normal(size=(passages, 1))
        x = (x + math.sqrt(1 - share) * random.normal(size=(passages, questions))).ravel()
        if bounded:
            return 0.5, stats.mean(ndtr(x), levels, bounds=(0.0, 1.0))
        return 0.0, stats.mean(x, levels)

    return trial


def at_k(rate: float, samples: int, attempts: int, k: int) -> Trial:
    """Success in at least one of k attempts, the chances of samples following a beta distribution."""
    a, b = 2 * rate, 2 * (1 - rate)
    truth = 1 - math.exp(math.lgamma(b + k) - math.lgamma(b) + math.lgamma(a + b) - math.lgamma(a + b + k))

    def trial(random: Random) -> tuple[float, Estimate]:
        successes = random.binomial(attempts, random.beta(a, b, samples))
        values = stats.at_least_one(np.full(samples, attempts), successes, k)
        return truth, stats.mean(values, bounds=(0.0, 1.0))

    return trial


def bootstrapped(n: int) -> Trial:
    """A corpus metric: the exponential of a weighted mean, as a perplexity is."""

    def aggregate(pairs: Sequence[Sequence[float]]) -> float:
        array = np.asarray(pairs)
        return math.exp(array[:, 0].sum() / array[:, 1].sum())

    def trial(random: Random) -> tuple[float, Estimate]:
        words = random.integers(20, 60, n).astype(float)
        pairs = np.stack([words * (2 + 0.3 * random.normal(size=n)), words], axis=1)
        return math.exp(2), stats.bootstrap(list(pairs), aggregate, resamples=300)

    return trial


def two_models(
    random: Random, rates: tuple[float, float], shape: tuple[int, int], spread: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outcomes of two models at the same crossed tasks, which are mostly hard for both or for neither."""
    users, attacks = shape
    scale = math.sqrt(1 + 2 * (spread**2 + 0.25))
    shared = spread * (random.normal(size=(users, 1)) + random.normal(size=(1, attacks)))
    found = []
    for rate in rates:
        own = 0.5 * (random.normal(size=(users, 1)) + random.normal(size=(1, attacks)))
        chance = ndtr(ndtri(rate) * scale + shared + own)
        found.append((random.random(shape) < chance).astype(float).ravel())
    return found[0], found[1]


def paired(rates: tuple[float, float], users: int, attacks: int, spread: float = 1.0) -> Trial:
    """The difference of two models on crossed tasks."""
    levels = crossed(users, attacks)

    def trial(random: Random) -> tuple[float, Estimate]:
        a, b = two_models(random, rates, (users, attacks), spread)
        return rates[1] - rates[0], stats.paired_difference(a, b, levels, largest=1.0).estimate

    return trial


def paired_independent(rates: tuple[float, float], n: int) -> Trial:
    """The difference of two models on questions that share nothing."""

    def trial(random: Random) -> tuple[float, Estimate]:
        hard = random.normal(size=n)
        a, b = (
            (math.sqrt(0.5) * hard + math.sqrt(0.5) * random.normal(size=n) < ndtri(r)).astype(float)
            for r in rates
        )
        return rates[1] - rates[0], stats.paired_difference(a, b, largest=1.0).estimate

    return trial


def unpaired(rates: tuple[float, float], n: int) -> Trial:
    """The difference of two models on different questions (Newcombe)."""

    def trial(random: Random) -> tuple[float, Estimate]:
        a, b = (stats.rate((random.random(n) < rate).astype(float)) for rate in rates)
        return rates[1] - rates[0], stats.difference(b, a)

    return trial


def ratio(rates: tuple[float, float], users: int, attacks: int, shared: bool) -> Trial:
    """The risk ratio of two models on crossed tasks, taken as shared or as independent."""
    levels = crossed(users, attacks)

    def trial(random: Random) -> tuple[float, Estimate]:
        a, b = two_models(random, rates, (users, attacks), 1.0)
        truth = rates[0] / rates[1]
        if shared:
            return truth, stats.shared_risk_ratio(a, b, levels, levels)
        return truth, stats.risk_ratio(stats.proportion(a, levels), stats.proportion(b, levels))

    return trial


def odds(rates: tuple[float, float], n: int) -> Trial:
    """The odds ratio of two models on different questions (MOVER)."""

    def trial(random: Random) -> tuple[float, Estimate]:
        a, b = (stats.rate((random.random(n) < rate).astype(float)) for rate in rates)
        truth = rates[0] / (1 - rates[0]) / (rates[1] / (1 - rates[1]))
        return truth, stats.odds_ratio(a, b)

    return trial


def suites_average(rates: Sequence[float], sizes: Sequence[int]) -> Trial:
    """The mean over suites of a model's rates."""

    def trial(random: Random) -> tuple[float, Estimate]:
        parts = [stats.rate((random.random(n) < r).astype(float)) for r, n in zip(rates, sizes, strict=True)]
        return float(np.mean(rates)), stats.average(parts)

    return trial


def medians(rates: Sequence[float], n: int) -> Trial:
    """The median of several models' rates, each on its own questions."""

    def trial(random: Random) -> tuple[float, Estimate]:
        return float(np.median(rates)), stats.median(
            [stats.rate((random.random(n) < r).astype(float)) for r in rates]
        )

    return trial


def chosen_best(models: int, n: int, corrected: bool) -> Trial:
    """The best of several equal models against one that is as good: the gap was chosen for being large."""

    def trial(random: Random) -> tuple[float, Estimate]:
        x = (random.random((models + 1, n)) < 0.5).astype(float)
        found = stats.paired_difference(x[-1], x[np.argmax(x[:-1].mean(axis=1))], largest=1.0).estimate
        assert found.low is not None and found.high is not None
        luck = stats.selection_bias(x[:-1].mean(axis=1), x[:-1].var(axis=1, ddof=1) / n)
        shift = luck if corrected else 0.0
        return 0.0, msgspec.structs.replace(found, low=found.low - shift, high=found.high - shift)

    return trial


def rasch_gap(questions: tuple[int, int], partial: bool) -> Trial:
    """The gap of two of four abilities over two suites, the second harder; two models may lack that one."""
    suites, truth = np.repeat([0, 1], questions), np.asarray([0.0, 0.5, -0.5, 0.3])

    def trial(random: Random) -> tuple[float, Estimate]:
        logits = truth[:, None] - random.normal(2.0 * suites)
        x, put = (
            (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float),
            np.ones((4, 1)) + 0 * logits,
        )
        if partial:
            put[2:, suites == 1] = 0.0
        gap, error = rasch(x * put, put, suites).difference(1, 2)
        return 1.0, _normal(gap, error)

    return trial


def _normal(value: float, error: float) -> Estimate:
    low, high = value - stats.Z * error, value + stats.Z * error
    return Estimate(value=value, low=low, high=high, n=1, missing=0, clusters=1, method="")


def slope(points: int) -> Trial:
    """Ability against release dates, models scattered around a line."""

    def trial(random: Random) -> tuple[float, Estimate]:
        x = random.uniform(0, 3, points)
        line = fit_line(x, 0.7 * x + 0.5 * random.normal(size=points))
        assert line is not None
        return 0.7, Estimate(
            value=line.slope, low=line.low, high=line.high, n=points, missing=0, clusters=points, method=""
        )

    return trial


def months_behind(noise: float) -> Trial:
    """A model 20 months after the first of others, of which one is released every three months and better."""
    truth = np.asarray([*(0.5 * np.arange(8)), 1.25])
    dated = [Dated(model=str(i), origin="A", index=i, month=3.0 * i) for i in range(8)]
    dated.append(Dated(model="late", origin="B", index=8, month=20.0))

    def trial(random: Random) -> tuple[float, Estimate]:
        found = truth + noise * random.normal(size=9)
        drawn = found + noise * random.normal(size=(500, 9))
        (lag,) = lags(dated, found.tolist(), drawn)
        return 11.0, Estimate(
            value=lag.months, low=lag.low, high=lag.high, n=9, missing=0, clusters=9, method=""
        )

    return trial


def expense(estimator: Callable[[Expenses, Expenses], Estimate], tasks: int) -> Trial:
    """Costs of two models at the same tasks, the first three times as dear at each, both as often right."""

    def trial(random: Random) -> tuple[float, Estimate]:
        hard, solved = random.lognormal(size=tasks), (random.random(tasks) < 0.6).astype(float)
        sides = [
            Expenses(
                np.arange(tasks), solved, k * hard * random.lognormal(0, 0.3, tasks), np.zeros(tasks, bool)
            )
            for k in (3.0, 1.0)
        ]
        return 3.0, estimator(sides[0], sides[1])

    return trial


def ratio_over_models(models: int, users: int, attacks: int) -> Trial:
    """The risk ratio of two origins over models like theirs: models differ, and share tasks."""
    levels = crossed(users, attacks)
    scale = math.sqrt(1 + 2 * 0.25 + 0.25)

    def trial(random: Random) -> tuple[float, Estimate]:
        shared = 0.5 * (random.normal(size=(users, 1)) + random.normal(size=(1, attacks)))
        sides = []
        for rate in (0.4, 0.2):
            own = ndtri(rate) * scale + 0.5 * random.normal(size=(models, 1, 1))
            x = (random.random((models, users, attacks)) < ndtr(own + shared)).astype(float)
            sides.append(list(x.reshape(models, -1)))
        return 2.0, stats.ratio_over_models(sides[0], sides[1], [levels] * models, [levels] * models)

    return trial


def ratio_independent(rates: tuple[float, float], n: int) -> Trial:
    """The risk ratio of independent samples (Katz)."""

    def trial(random: Random) -> tuple[float, Estimate]:
        a, b = (stats.proportion((random.random(n) < rate).astype(float)) for rate in rates)
        return rates[0] / rates[1], stats.risk_ratio(a, b)

    return trial


def origin_mean(models: int, items: int, spread: float) -> Trial:
    """The mean of an origin: models of different ability at the same items."""
    levels = [{"sample": np.arange(items)} for _ in range(models)]

    def trial(random: Random) -> tuple[float, Estimate]:
        ability = spread * random.normal(size=(models, 1))
        chance = ndtr(ability + random.normal(size=(1, items)))
        x = (random.random((models, items)) < chance).astype(float)
        return 0.5, stats.mean_of_models(list(x), levels, bounds=(0.0, 1.0)).estimate

    return trial


FEW = "too wide on purpose: the distances are never taken as less than those by either factor alone"
FOUR = "too wide: four attacks tell little of how they differ, and the limits allow that they decide alone"
FEW_MODELS = (
    "few models: the noise that they share is the difference of two estimates, and taken as 0 where below 0"
)
SPARSE = "few events in few tasks: their spread cannot be seen, and the usual one is assumed"
BOTH = "too wide: the limits of rise and fall are joined as if the tasks that decide them were not the same"
ENDS = "too wide: the interval joins the limits of the single models, as if all could be wrong at once"
TWICE = "too wide: the noise of single models is in what differs between models and in what samples add"
CHOSEN = "chosen for being the best, as is said: the next line takes that luck out, and both are given"
STEPS = "too wide: a lag goes in steps between release dates, and draws around estimates err once more"
SKEWED = "costs of tasks are skewed (log-normal here), and so are means of some 50 of them"
APART = "too wide as its method says: both models met the same tasks, and the sides are taken as independent"
NONE_OF_FOUR = (
    "where goals decide alone, half of the runs with four of them see no event, and say at most "
    "11.4%; a limit that held there is 49%, one observation a goal, for every model that was never hijacked"
)
HARDLY = (
    "too few events to tell that single goals decide: none, or at most 4 of one goal, in one run of nine; a "
    "limit that held 7% where none of 560 is seen would be wider than where none of 144 is"
)
JUST = "too wide: the limit that remains where nothing is seen lies just above this rate"
BINOMIAL = (
    "too wide on purpose: chances differ between pairs, and what that takes from the spread cannot be seen"
)
UNLIKE = (
    "what fails goes with the outcome: the number is warned of, and its worst case, below, stands beside it"
)
WORST = "a worst case, not an interval: it holds the truth whatever fails"
DISCRETE = (
    "counts are discrete: the coverage of Wilson's interval goes up and down with rate and n around 95%"
)

STRATA = (
    "too wide on purpose: how far kinds of tasks differ is taken out of the draw, not out of the interval"
)
KINDS = (0.05, 0.3, 0.5, 0.8, 0.95)

REAL = {"banking": 0.542, "slack": 0.467, "travel": 0.1, "workspace": 0.025}
"""Rates of `hijack_components.json`; of travel, where no attack was shown, one that might be."""
THESE, LIKE, LOST = "hijack rate, these tasks", "hijack rate, tasks like these", "missing by outcome"
JUDGED = "rate, judged and corrected"


def judged(rate: float, sensitivity: float, specificity: float, spread: float) -> Trial:
    """A rate of 250 judged replies, corrected by what was labelled of 450 replies of each of five models.

    Args:
        rate: the truth.
        sensitivity: of the judge, over all models.
        specificity: the same.
        spread: standard deviation of both between models, in log odds.
    """

    def of_a_model(random: Random) -> tuple[float, float]:
        odds = logit([sensitivity, specificity]) + spread * random.standard_normal(2)
        hits, passes = expit(odds)
        return float(hits), float(passes)

    def trial(random: Random) -> tuple[float, Estimate]:
        labelled = {}
        for model in range(5):
            hits, passes = of_a_model(random)
            positive = int(random.binomial(450, 0.5))
            found = int(random.binomial(positive, hits))
            passed = int(random.binomial(450 - positive, passes))
            labelled[str(model)] = Confusion(found, positive - found, passed, 450 - positive - passed)
        hits, passes = of_a_model(random)
        said = int(random.binomial(250, rate * hits + (1 - rate) * (1 - passes)))
        corrected = Calibration(labelled).corrected(said, 250)
        return rate, Estimate(
            value=corrected.value,
            low=corrected.low,
            high=corrected.high,
            n=250,
            missing=0,
            clusters=250,
            method="judged",
        )

    return trial


SCENARIOS = (
    Scenario(LIKE, "banking, rate 0.5", like_these(0.5, "banking")),
    Scenario(LIKE, "workspace, rate 0.03", like_these(0.03, "workspace")),
    Scenario(LIKE, "banking, rate 0.03", like_these(0.03, "banking")),
    Scenario(LIKE, "banking, rate 0.004", like_these(0.004, "banking")),
    Scenario(LIKE, "slack, rate 0.03", like_these(0.03, "slack")),
    Scenario(LIKE, "all 949 pairs, real rates", all_suites(REAL)),
    Scenario(LIKE, "all 949 pairs, rate 0.1", all_suites(dict.fromkeys(SHAPES, 0.1))),
    Scenario(LIKE, "all 949 pairs, rate 0.03", all_suites(dict.fromkeys(SHAPES, 0.03))),
    Scenario(LIKE, "all 949 pairs, rate 0.004", all_suites(dict.fromkeys(SHAPES, 0.004))),
    Scenario(THESE, "banking, rate 0.5", on_these(0.5, "banking", 1), BINOMIAL),
    Scenario(THESE, "banking, rate 0.5, 5 attempts", on_these(0.5, "banking", 5), BINOMIAL),
    Scenario(THESE, "workspace, rate 0.03", on_these(0.03, "workspace", 1), BINOMIAL),
    Scenario(LOST, "banking 0.5, lost 5% and 40%", missing(0.5, "banking", (0.05, 0.4), False), UNLIKE, 0.4),
    Scenario(LOST, "the same, worst case", missing(0.5, "banking", (0.05, 0.4), True), WORST),
    Scenario(LOST, "banking 0.5, lost 20% and 5%", missing(0.5, "banking", (0.2, 0.05), False), UNLIKE, 0.8),
    Scenario(LOST, "the same, worst case ", missing(0.5, "banking", (0.2, 0.05), True), WORST),
    Scenario("rate, Wilson", "rate 0.5, n 100", independent_rate(0.5, 100), DISCRETE),
    Scenario("rate, Wilson", "rate 0.2, n 144", independent_rate(0.2, 144), DISCRETE),
    Scenario("rate, Wilson", "rate 0.05, n 500", independent_rate(0.05, 500), DISCRETE),
    Scenario("rate, Wilson", "rate 0.02, n 150", independent_rate(0.02, 150), DISCRETE),
    Scenario("rate, drawn", "200 of 1,000, one kind, rate 0.5", drawn_rate(1000, 200, (0.5,)), DISCRETE),
    Scenario("rate, drawn", "200 of 2,000, one kind, rate 0.05", drawn_rate(2000, 200, (0.05,)), DISCRETE),
    Scenario("rate, drawn", "200 of 1,000, rates 0.05 to 0.95", drawn_rate(1000, 200, KINDS), STRATA),
    Scenario("rate, repeats", "rate 0.5, 100 samples x 5", repeated_rate(0.5, 100, 5, 1.0)),
    Scenario("rate, repeats", "rate 0.2, 60 samples x 4", repeated_rate(0.2, 60, 4, 1.0)),
    Scenario("rate, repeats", "rate 0.1, 200 x 4, nearly alike", repeated_rate(0.1, 200, 4, 30.0)),
    Scenario("rate, repeats", "rate 0.2, 1,000 x 4, nearly alike", repeated_rate(0.2, 1000, 4, 30.0)),
    Scenario("rate, crossed", "rate 0.5, 16 x 9, spread 1", crossed_rate(0.5, 16, 9, 1.0), FEW),
    Scenario("rate, crossed", "rate 0.2, 16 x 9, spread 1", crossed_rate(0.2, 16, 9, 1.0), FEW),
    Scenario("rate, crossed", "rate 0.5, 16 x 9, spread 0.5", crossed_rate(0.5, 16, 9, 0.5), FEW),
    Scenario("rate, crossed", "rate 0.5, 40 x 14, spread 0.5", crossed_rate(0.5, 40, 14, 0.5), FEW),
    Scenario("rate, crossed", "rate 0.05, 40 x 14, spread 0.5", crossed_rate(0.05, 40, 14, 0.5), FEW),
    Scenario("rate, crossed", "rate 0.5, 20 x 4, spread 1", crossed_rate(0.5, 20, 4, 1.0), FOUR),
    Scenario("rate, attack decides", "rate 0.2, 16 x 9", attack_decides(0.2, 16, 9, 0.6)),
    Scenario("rate, attack decides", "rate 0.05, 40 x 14", attack_decides(0.05, 40, 14, 0.6), JUST),
    Scenario("rate, attack decides", "rate 0.07, 40 x 14", attack_decides(0.07, 40, 14, 0.6), HARDLY, 0.82),
    Scenario("rate, attack decides", "rate 0.05, 40 x 14, spread", attack_decides(0.05, 40, 14, 2.0), JUST),
    Scenario(
        "rate, attack decides", "rate 0.16, 20 x 4", attack_decides(0.16, 20, 4, 0.02), NONE_OF_FOUR, 0.45
    ),
    Scenario("mean, clustered t", "30 passages x 8, no bounds", clustered_mean(30, 8, 0.4, False)),
    Scenario("mean, bounded", "30 passages x 8, within [0, 1]", clustered_mean(30, 8, 0.4, True)),
    Scenario("at k, bounded mean", "rate 0.5, 100 samples, k 2 of 4", at_k(0.5, 100, 4, 2), DISCRETE),
    Scenario("at k, bounded mean", "rate 0.1, 100 samples, k 4 of 4", at_k(0.1, 100, 4, 4), DISCRETE),
    Scenario("at k, bounded mean", "rate 0.03, 100 samples, k 2 of 4", at_k(0.03, 100, 4, 2), DISCRETE),
    Scenario("corpus, bootstrap", "100 documents", bootstrapped(100)),
    Scenario("difference, paired", "0.4 and 0.6, 200 questions", paired_independent((0.4, 0.6), 200)),
    Scenario(JUDGED, "rate 0.05, judge 90% and 95%", judged(0.05, 0.9, 0.95, 0.3)),
    Scenario(JUDGED, "rate 0.3, judge 90% and 95%", judged(0.3, 0.9, 0.95, 0.3)),
    Scenario(JUDGED, "rate 0.8, judge 85% and 95%, uneven", judged(0.8, 0.85, 0.95, 0.5)),
    Scenario(JUDGED, "rate 0.3, judge 70% and 80%", judged(0.3, 0.7, 0.8, 0.3)),
    Scenario("difference, paired", "0.9 and 0.95, 100 questions", paired_independent((0.9, 0.95), 100)),
    Scenario("difference, paired", "0.3 and 0.5, 16 x 9", paired((0.3, 0.5), 16, 9), FEW),
    Scenario("difference, paired", "0.5 and 0.5, 40 x 14", paired((0.5, 0.5), 40, 14), FEW),
    Scenario("difference, paired", "0.02 and 0.1, 16 x 9", paired((0.02, 0.1), 16, 9), SPARSE),
    Scenario("difference, paired", "0.05 and 0.1, 40 x 14", paired((0.05, 0.1), 40, 14), BOTH),
    Scenario("difference, paired", "0.01 and 0.05, 40 x 14", paired((0.01, 0.05), 40, 14), BOTH),
    Scenario("difference, paired", "0.1 and 0.3, 10 x 4", paired((0.1, 0.3), 10, 4), FEW),
    Scenario("difference, unpaired", "0.4 and 0.6, n 100 each", unpaired((0.4, 0.6), 100)),
    Scenario("difference, unpaired", "0.05 and 0.1, n 100 each", unpaired((0.05, 0.1), 100)),
    Scenario("risk ratio, independent", "0.4 over 0.2, n 150 each", ratio_independent((0.4, 0.2), 150)),
    Scenario("risk ratio, shared tasks", "0.4 over 0.2, 16 x 9", ratio((0.4, 0.2), 16, 9, True), FEW),
    Scenario("risk ratio, shared tasks", "0.4 over 0.2, 40 x 14", ratio((0.4, 0.2), 40, 14, True), FEW),
    Scenario("risk ratio, shared tasks", "0.1 over 0.05, 40 x 14", ratio((0.1, 0.05), 40, 14, True), SPARSE),
    Scenario("risk ratio, shared tasks", "0.95 over 0.85, 16 x 9", ratio((0.95, 0.85), 16, 9, True), SPARSE),
    Scenario("risk ratio, sides apart", "0.4 over 0.2, 16 x 9", ratio((0.4, 0.2), 16, 9, False), APART),
    Scenario("odds ratio", "0.4 over 0.2, n 150 each", odds((0.4, 0.2), 150)),
    Scenario("odds ratio", "0.95 over 0.9, n 100 each", odds((0.95, 0.9), 100), DISCRETE),
    Scenario(
        "mean of suites",
        "0.9, 0.5 and 0.2, n 200, 50, 1000",
        suites_average((0.9, 0.5, 0.2), (200, 50, 1000)),
    ),
    Scenario("median of models", "3 models, n 100", medians((0.4, 0.5, 0.6), 100), ENDS),
    Scenario("best model's gap", "best of 5 equal models", chosen_best(5, 100, False), CHOSEN, 0.7),
    Scenario("best model's gap", "the same without the luck", chosen_best(5, 100, True)),
    Scenario("mean of models", "2 models, 100 items, spread 0.5", origin_mean(2, 100, 0.5), FEW_MODELS),
    Scenario("mean of models", "3 models, 100 items, spread 0.5", origin_mean(3, 100, 0.5), FEW_MODELS),
    Scenario("mean of models", "6 models, 100 items, spread 0.5", origin_mean(6, 100, 0.5), FEW_MODELS),
    Scenario("mean of models", "6 models, 100 items, spread 0", origin_mean(6, 100, 0.0), FEW_MODELS),
    Scenario("mean of models", "12 models, 400 items, spread 1", origin_mean(12, 400, 1.0), FEW_MODELS),
    Scenario("risk ratio over models", "0.4 over 0.2, 3 models, 16 x 9", ratio_over_models(3, 16, 9), TWICE),
    Scenario("risk ratio over models", "0.4 over 0.2, 4 models, 16 x 9", ratio_over_models(4, 16, 9), TWICE),
    Scenario("risk ratio over models", "0.4 over 0.2, 8 models, 16 x 9", ratio_over_models(8, 16, 9), TWICE),
    Scenario("Rasch ability, gap", "4 models, 200 questions", rasch_gap((100, 100), False)),
    Scenario("Rasch ability, gap", "the same, two without the harder suite", rasch_gap((100, 100), True)),
    Scenario("Rasch ability, gap", "4 models, 400 and 30 questions", rasch_gap((400, 30), False)),
    Scenario("line, slope", "6 models", slope(6)),
    Scenario("lag in months", "8 models and 1, error 0.2", months_behind(0.2), STEPS),
    Scenario("cost ratio, curve", "80 tasks", expense(curve_ratio, 80)),
    Scenario("cost ratio, both solved", "80 tasks", expense(both_solved_ratio, 80), SKEWED, 0.9),
)


HEAD = """# Coverage of 95% intervals

    python scripts/simulate_coverage.py --runs {0.runs} --seed {0.seed}

Share of {0.runs:,} simulated runs whose interval holds the known truth (standard error of 95% in 2,000 runs:
0.5 points), and the median width of the interval. Outside of 93% to 98% the last column says why.
The estimators' constants were chosen on other seeds than 2.
Hijacking is drawn with the variance components of real runs
([hijack_components.json](../../scripts/hijack_components.json), fitted by `scripts/fit_components.py`).

"""


def table(rows: Sequence[dict[str, str | float]]) -> str:
    """Coverage as a Markdown table."""
    lines = ["| estimator | setting | coverage | median width | |", "| --- | --- | ---: | ---: | --- |"]
    lines += [
        f"| {row['estimator']} | {row['setting']} | {100 * float(row['coverage']):.1f}% | "
        f"{float(row['width']):.3f} | {row['why']} |"
        for row in rows
    ]
    return "\n".join(lines)


def row(scenario: Scenario, runs: int, seed: int) -> dict[str, str | float]:
    """Coverage of a scenario, with the reason where it strays."""
    share, width = coverage(scenario, runs, seed)
    inside = RANGE[0] <= share <= RANGE[1]
    return {
        "estimator": scenario.estimator,
        "setting": scenario.setting,
        "coverage": share,
        "width": width,
        "why": "" if inside else f"outside: {scenario.why or 'not explained'}",
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--out", type=Path, help="a file to write, instead of printing")
    args = parser.parse_args()
    rows: list[dict[str, str | float]] = []
    for scenario in SCENARIOS:
        rows.append(row(scenario, args.runs, args.seed))
        text = json.dumps(rows, indent=2) if args.json else HEAD.format(args) + table(rows)
        if args.out is not None:  # so that a process that ends early leaves what it has
            args.out.write_text(f"{text}\n")
    if args.out is None:
        print(text)


if __name__ == "__main__":
    main()
