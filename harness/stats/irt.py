"""Item response: one ability a model over all questions, however hard those are."""

import math

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.clusters import Floats
from harness.types import Struct

GRID = np.linspace(-6.0, 6.0, 61)
"""Difficulties over which the likelihood is integrated, in standard deviations of the questions'."""
LIMIT = 8.0
"""Abilities are kept within this many logits: all right or all wrong has no finite one."""


class Abilities(Struct):
    """A Rasch model, in logits; 0 solves an average question of the average suite half of the time."""

    ability: tuple[float, ...]
    standard_error: tuple[float, ...]
    """Of each ability, the questions taken as drawn at random."""
    covariance: tuple[tuple[float, ...], ...]
    spread: float
    """Standard deviation of the difficulty of questions within a suite."""

    def difference(self, a: int, b: int) -> tuple[float, float]:
        """(ability of a minus that of b, its standard error)."""
        variance = self.covariance[a][a] + self.covariance[b][b] - 2 * self.covariance[a][b]
        return self.ability[a] - self.ability[b], float(np.sqrt(max(variance, 0.0)))


def rasch(
    successes: ArrayLike, attempts: ArrayLike, suites: ArrayLike | None = None, *, rounds: int = 500
) -> Abilities:
    """Abilities by marginal maximum likelihood; difficulties are normal around the mean of their suite.

    Each suite counts the same however many questions it has, as in a mean over suites: a model can be better
    at one than at another, and the largest would decide alone. A question weighs one over the questions of
    its suite, in a weighted likelihood with the standard errors of such (Binder, Int. Stat. Rev. 51 (1983)
    279-292).

    Source: Bock and Aitkin, Psychometrika 46 (1981) 443-459 (EM over a grid); several suites as the groups of
    questions of De Boeck, Psychometrika 73 (2008) 533-559, so that a model is not taken for weak because a
    harder suite was put to it alone; standard errors from the observed information, Louis, J. R. Stat. Soc. B
    44 (1982) 226-233, the spread of difficulties taken as known; questions may be fewer than models. The
    one-parameter logistic model is that of Rasch (1960).

    Args:
        successes: shape (models, questions).
        attempts: shape (models, questions), 0 where a question was not put to a model.
        suites: shape (questions,), numbers from 0; None for one suite.
        rounds: of EM, at most.

    Raises:
        ValueError: a model has no attempts, or models are linked by no suite, so that nothing compares them.
    """
    s, n = (np.asarray(x, dtype=np.float64) for x in (successes, attempts))
    if s.shape != n.shape or s.ndim != 2 or not (n.sum(axis=1) > 0).all():
        raise ValueError("a Rasch model needs successes and attempts of every model")
    codes = np.zeros(s.shape[1], dtype=np.intp) if suites is None else np.asarray(suites, dtype=np.intp)
    groups = [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)]
    parts = [_alike(s[:, rows], n[:, rows]) for rows in groups]
    if not linked(np.stack([tried.sum(axis=1) > 0 for _, tried, _ in parts], axis=1)):
        raise ValueError("no suite links all models, directly or through others")
    weights = s.shape[1] / len(groups) / np.asarray([rows.size for rows in groups])
    parts = [(won, tried, count * weight) for (won, tried, count), weight in zip(parts, weights, strict=True)]
    ability, difficulty, spread = np.zeros(s.shape[0]), np.zeros(len(groups)), 1.0
    for _ in range(rounds):
        moved, centres, wider = _step(parts, ability, difficulty, spread)
        shift = float(centres.mean())  # only differences are known: the mean suite has difficulty 0
        moved, centres = np.clip(moved - shift, -LIMIT, LIMIT), centres - shift
        changes = [*np.abs(moved - ability), *np.abs(centres - difficulty), abs(wider - spread)]
        ability, difficulty, spread = moved, centres, wider
        if max(changes) < 1e-7:
            break
    covariance = _covariance(parts, weights, ability, difficulty, spread)
    return Abilities(
        ability=tuple(ability.tolist()),
        standard_error=tuple(np.sqrt(np.maximum(np.diag(covariance), 0.0)).tolist()),
        covariance=tuple(map(tuple, covariance.tolist())),
        spread=spread,
    )


def difficulties(successes: ArrayLike, attempts: ArrayLike) -> Floats:
    """Difficulty of each question of one suite, in logits: the mean of what it may be, given who solved it.

    A question that was put to nobody has the mean of all. Source: expected a posteriori, Bock and Mislevy,
    Appl. Psychol. Meas. 6 (1982) 431-444, with abilities and spread of `rasch`.

    Args:
        successes: shape (models, questions).
        attempts: shape (models, questions), 0 where a question was not put to a model.

    Raises:
        ValueError: as `rasch`.
    """
    s, n = (np.asarray(x, dtype=np.float64) for x in (successes, attempts))
    fitted = rasch(s, n)
    posterior, _ = _expectation(s, n, np.asarray(fitted.ability), fitted.spread)
    difficulty: Floats = fitted.spread * (posterior @ GRID)
    return difficulty


def linked(met: ArrayLike) -> bool:
    """True if suites link all models: any two share one, directly or through other models.

    Args:
        met: shape (models, suites), whether a model met a suite.
    """
    table = np.asarray(met, dtype=bool)
    reached = table[0]
    for _ in range(table.shape[1]):
        reached = table[(table & reached).any(axis=1)].any(axis=0)
    return bool((table & reached).any(axis=1).all())


Parts = list[tuple[Floats, Floats, Floats]]
"""(successes, attempts, how much they weigh) of each suite; the first two: (models, kinds of questions)."""


def _alike(s: Floats, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Questions that tell the same of their difficulty, as one: its successes are their mean.

    In a Rasch model the successes on a question, added up over models, are sufficient for its difficulty; all
    else that is added up over questions is linear in them. Nothing is lost, and 1,000 questions to 60 models
    are 61 kinds at most.

    Args:
        s: successes, shape (models, questions).
        n: attempts, of the same shape.
    """
    totals = s.sum(axis=0)[None, :]
    keys = totals if (n == n[:, :1]).all() else np.concatenate([n, totals])
    _, first, kinds, counts = np.unique(
        keys, axis=1, return_index=True, return_inverse=True, return_counts=True
    )
    kinds = np.ravel(kinds)
    sums = np.stack([np.bincount(kinds, row, counts.size) for row in s])
    return sums / counts, n[:, first], counts.astype(np.float64)


def _step(parts: Parts, ability: Floats, difficulty: Floats, spread: float) -> tuple[Floats, Floats, float]:
    """(abilities, mean difficulties of suites, spread) after a round of EM."""
    upward, information = np.zeros((2, ability.size, len(parts)))
    squares = []
    for i, (s, n, count) in enumerate(parts):
        weights, chance = _expectation(s, n, ability - difficulty[i], spread)
        upward[:, i], information[:, i] = _moments(s, n, count, weights, chance)
        squares.append(count @ (weights @ GRID**2))
    step = _bounded(upward.sum(axis=1), information.sum(axis=1))
    harder = _bounded(-upward.sum(axis=0), information.sum(axis=0)) if len(parts) > 1 else np.zeros(1)
    questions = sum(float(count.sum()) for _, _, count in parts)  # by weight, as all above
    return ability + step, difficulty + harder, spread * math.sqrt(math.fsum(squares) / questions)


def _bounded(gradient: Floats, information: Floats) -> Floats:
    """A Newton step, of one logit at most."""
    step: Floats = np.clip(gradient / np.maximum(information, 1e-9), -1.0, 1.0)
    return step


def _covariance(parts: Parts, weights: Floats, ability: Floats, difficulty: Floats, spread: float) -> Floats:
    """Of abilities, shape (models, models), with the mean difficulties of suites estimated beside them.

    Args:
        parts: of each suite.
        weights: shape (suites,), of a question of each.
        ability: shape (models,).
        difficulty: shape (suites,), mean of each.
        spread: of difficulties within a suite.
    """
    models = ability.size
    curvature, noise = np.zeros((2, *(models + len(parts),) * 2))
    for i, (s, n, count) in enumerate(parts):
        posterior, chance = _expectation(s, n, ability - difficulty[i], spread)
        # A suite's difficulty lowers every logit as its models' abilities raise them.
        turn = np.zeros((models, models + len(parts)))
        turn[:, :models], turn[:, models + i] = np.eye(models), -1.0
        own = turn.T @ _information(n, count, posterior, chance) @ turn
        curvature += own
        noise += weights[i] * own  # a gradient varies with the square of its weight
    # Within the mean difficulty of 0; the other directions are the null space of that one constraint.
    constraint = np.concatenate([np.zeros(models), np.ones(len(parts))])[None, :]
    free = np.linalg.svd(constraint)[2][1:].T
    inverse = np.linalg.pinv(free.T @ curvature @ free, hermitian=True)
    covariance: Floats = free @ inverse @ (free.T @ noise @ free) @ inverse @ free.T
    return covariance[:models, :models]


def _expectation(s: Floats, n: Floats, ability: Floats, spread: float) -> tuple[Floats, Floats]:
    """(posterior of each question's difficulty, (questions, grid); chances, (models, grid))."""
    logits = ability[:, None] - spread * GRID[None, :]
    log_wrong = -np.logaddexp(0.0, logits)
    # s log right + (n - s) log wrong = n log wrong + s logit; what of it is of no difficulty cancels out.
    likelihood = n.T @ log_wrong - np.outer(s.sum(axis=0), spread * GRID) - GRID**2 / 2
    weights = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True), np.exp(log_wrong + logits)


def _moments(s: Floats, n: Floats, count: Floats, weights: Floats, chance: Floats) -> tuple[Floats, Floats]:
    """(gradient, information) of each ability, over all questions."""
    expected = (n @ (weights * count[:, None])) * chance
    return s @ count - expected.sum(axis=1), (expected * (1 - chance)).sum(axis=1)


def _information(n: Floats, count: Floats, weights: Floats, chance: Floats) -> Floats:
    """Observed information of the abilities, shape (models, models): the complete, less what is missing.

    What is missing is the covariance of the abilities' gradients over the difficulties that a question may
    have.
    """
    complete = np.diag((n * ((chance * (1 - chance)) @ weights.T)) @ count)
    expected = n * (chance @ weights.T)
    products = np.zeros_like(complete)
    for point, share in zip(chance.T, weights.T, strict=True):
        products += ((n * (share * count)) @ n.T) * np.outer(point, point)
    information: Floats = complete - (products - (expected * count) @ expected.T)
    return information
