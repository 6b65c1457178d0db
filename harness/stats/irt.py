"""Item response: one ability a model over all questions, however hard those are."""

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.clusters import Floats
from harness.types import Struct

GRID = np.linspace(-6.0, 6.0, 61)
"""Difficulties over which the likelihood is integrated, in standard deviations of the questions'."""
LIMIT = 8.0
"""Abilities are kept within this many logits: all right or all wrong has no finite one."""


class Abilities(Struct):
    """A Rasch model, in logits; 0 is the ability that solves the average question half of the time."""

    ability: tuple[float, ...]
    standard_error: tuple[float, ...]
    """Of each ability, the questions taken as drawn at random."""
    covariance: tuple[tuple[float, ...], ...]
    spread: float
    """Standard deviation of the difficulty of questions."""

    def difference(self, a: int, b: int) -> tuple[float, float]:
        """(ability of a minus that of b, its standard error)."""
        variance = self.covariance[a][a] + self.covariance[b][b] - 2 * self.covariance[a][b]
        return self.ability[a] - self.ability[b], float(np.sqrt(max(variance, 0.0)))


def rasch(successes: ArrayLike, attempts: ArrayLike, *, rounds: int = 500) -> Abilities:
    """Abilities by marginal maximum likelihood, difficulties normal.

    Source: Bock and Aitkin, Psychometrika 46 (1981) 443-459 (EM over a grid); standard errors from the
    observed information, Louis, J. R. Stat. Soc. B 44 (1982) 226-233, the spread of difficulties taken as
    known; questions may be fewer than models. The one-parameter logistic model is that of Rasch (1960).

    Args:
        successes: shape (models, questions).
        attempts: shape (models, questions), 0 where a question was not put to a model.
        rounds: of EM, at most.
    """
    s, n = (np.asarray(x, dtype=np.float64) for x in (successes, attempts))
    if s.shape != n.shape or s.ndim != 2 or not (n.sum(axis=1) > 0).all():
        raise ValueError("a Rasch model needs successes and attempts of every model")
    ability, spread = np.zeros(s.shape[0]), 1.0
    for _ in range(rounds):
        weights, chance = _expectation(s, n, ability, spread)
        gradient, information = _moments(s, n, weights, chance)
        step = np.clip(gradient.sum(axis=1) / np.maximum(information, 1e-9), -1.0, 1.0)
        moved = np.clip(ability + step, -LIMIT, LIMIT)
        wider = spread * float(np.sqrt((weights @ GRID**2).mean()))
        done = max(np.abs(moved - ability).max(), abs(wider - spread)) < 1e-7
        ability, spread = moved, wider
        if done:
            break
    weights, chance = _expectation(s, n, ability, spread)
    covariance = np.linalg.pinv(_information(n, weights, chance), hermitian=True)
    return Abilities(
        ability=tuple(ability.tolist()),
        standard_error=tuple(np.sqrt(np.diag(covariance)).tolist()),
        covariance=tuple(map(tuple, covariance.tolist())),
        spread=spread,
    )


def _expectation(s: Floats, n: Floats, ability: Floats, spread: float) -> tuple[Floats, Floats]:
    """(posterior of each question's difficulty, (questions, grid); chances, (models, grid))."""
    logits = ability[:, None] - spread * GRID[None, :]
    log_right, log_wrong = -np.logaddexp(0.0, -logits), -np.logaddexp(0.0, logits)
    likelihood = s.T @ log_right + (n - s).T @ log_wrong - GRID**2 / 2
    weights = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True), np.exp(log_right)


def _moments(s: Floats, n: Floats, weights: Floats, chance: Floats) -> tuple[Floats, Floats]:
    """(gradient of each ability by question, (models, questions); information of each ability)."""
    expected = chance @ weights.T
    information = (n * ((chance * (1 - chance)) @ weights.T)).sum(axis=1)
    return s - n * expected, information


def _information(n: Floats, weights: Floats, chance: Floats) -> Floats:
    """Observed information of the abilities, shape (models, models): the complete, less what is missing.

    What is missing is the covariance of the abilities' gradients over the difficulties that a question may
    have.
    """
    complete = np.diag((n * ((chance * (1 - chance)) @ weights.T)).sum(axis=1))
    expected = n * (chance @ weights.T)
    products = np.zeros_like(complete)
    for point, share in zip(chance.T, weights.T, strict=True):
        products += ((n * share) @ n.T) * np.outer(point, point)
    found: Floats = complete - (products - expected @ expected.T)
    return found
