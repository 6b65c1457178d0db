"""Rates that a fallible judge gave, corrected for how often it errs.

A judge that calls a share q of replies positive, with sensitivity se and specificity sp, stands for a true
rate p = (q + sp - 1) / (se + sp - 1) (Rogan and Gladen, Am. J. Epidemiol. 107 (1978) 71-76). The interval
holds what is not known of q, se and sp at once, by drawing all three (Lash, Fox and Fink, Applying
Quantitative Bias Analysis to Epidemiologic Data, 2009, chapter 8). A judge does not err alike on the replies
of all models: se and sp of a model that nobody labelled are drawn from the spread over those that people did.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.clusters import Floats

DRAWS = 20_000
"""Of each interval: the 2.5% quantile moves by less than 1% of its width from seed to seed."""
SPREADS = np.array([0.05, 0.25, 0.5, 0.75, 1.0, 1.4, 1.8, 2.4])
"""Standard deviations between models, in log odds, among which the posterior is drawn."""
SPREAD_SCALE = 0.5
"""Of the half-t prior with 5 degrees of freedom of that spread (Gelman, Bayesian Anal. 1 (2006) 515-534): two
models whose sensitivities are 90% and 93.7% are one such standard deviation apart."""
LOGITS = np.linspace(-7.0, 10.0, 171)
"""Means over models, in log odds, among which the posterior is drawn."""


@dataclass(frozen=True)
class Confusion:
    """How often a judge was right on the replies of one model that people labelled."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def positive(self) -> int:
        """Replies that people called positive."""
        return self.true_positive + self.false_negative

    @property
    def negative(self) -> int:
        """Replies that people did not call positive."""
        return self.true_negative + self.false_positive


Tables = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Model -> what people called its replies -> what the judge called them -> how many."""


def confusions(tables: Tables, positive: Collection[str]) -> dict[str, Confusion]:
    """Model -> how often a judge was right on whether a reply is of one of some classes."""
    by_model = {}
    for model, table in tables.items():
        counts = Counter[tuple[bool, bool]]()
        for label, row in table.items():
            for verdict, count in row.items():
                counts[label in positive, verdict in positive] += count
        by_model[model] = Confusion(
            true_positive=counts[True, True],
            false_negative=counts[True, False],
            true_negative=counts[False, False],
            false_positive=counts[False, True],
        )
    return by_model


@dataclass(frozen=True)
class Corrected:
    """A rate corrected for the errors of its judge."""

    value: float
    low: float
    high: float
    draws: Floats
    """Shape (DRAWS,): plausible true rates, from which differences between models are made."""


class Calibration:
    """What is known of a judge's errors, from the labelled replies of some models.

    Args:
        models: model -> how often the judge was right on its replies.
        seed: of the draws.

    Raises:
        ValueError: people called no reply positive, or none negative.
    """

    def __init__(self, models: Mapping[str, Confusion], seed: int = 0) -> None:
        self.models, self.seed = dict(models), seed
        if not any(c.positive for c in models.values()) or not any(c.negative for c in models.values()):
            raise ValueError("sensitivity and specificity take labelled replies of both kinds")

    @property
    def sensitivity(self) -> float:
        """Share of the positive replies that the judge called so, all models together."""
        return sum(c.true_positive for c in self.models.values()) / sum(
            c.positive for c in self.models.values()
        )

    @property
    def specificity(self) -> float:
        """Share of the other replies that the judge did not call positive."""
        return sum(c.true_negative for c in self.models.values()) / sum(
            c.negative for c in self.models.values()
        )

    @cached_property
    def _means_and_spreads(self) -> tuple["_Posterior", "_Posterior"]:
        models = self.models.values()
        return (
            _Posterior([c.true_positive for c in models], [c.positive for c in models]),
            _Posterior([c.true_negative for c in models], [c.negative for c in models]),
        )

    def draws(self, model: str | None = None) -> tuple[Floats, Floats]:
        """Plausible (sensitivities, specificities) on the replies of a model, each of shape (DRAWS,).

        Args:
            model: one of those that people labelled replies of, else any other.
        """
        rng = np.random.default_rng([self.seed, *(model or "").encode()])
        sensitive, specific = self._means_and_spreads
        own = self.models.get(model or "", Confusion(0, 0, 0, 0))
        return (
            sensitive.predict(own.true_positive, own.positive, rng),
            specific.predict(own.true_negative, own.negative, rng),
        )

    def corrected(self, positive: float, n: float, model: str | None = None) -> Corrected:
        """The true rate behind `positive` of `n` replies that the judge called so.

        Args:
            positive: replies that the judge called positive.
            n: replies that it judged; fewer, with `positive` in proportion, where they are not independent.
            model: whose replies they are.
        """
        sensitivity, specificity = self.draws(model)
        rng = np.random.default_rng([self.seed, 1, *(model or "").encode()])
        judged = rng.beta(positive + 0.5, n - positive + 0.5, DRAWS)
        power = sensitivity + specificity - 1
        # A judge no better than chance says nothing: any rate could be behind what it said.
        rates = np.where(
            power > 0.02,
            np.clip((judged + specificity - 1) / np.where(power > 0.02, power, 1), 0, 1),
            rng.random(DRAWS),
        )
        low, value, high = np.quantile(rates, [0.025, 0.5, 0.975])
        return Corrected(float(value), float(low), float(high), rates)


class _Posterior:
    """Mean and spread over models of a chance, in log odds, of which some trials of each model were seen."""

    def __init__(self, events: list[int], trials: list[int]) -> None:
        from scipy.special import betaln  # type: ignore[import-untyped]

        mean, total = _beta_parameters()
        a, b = mean * total, (1 - mean) * total
        log = np.zeros_like(a)
        for won, of in zip(events, trials, strict=True):
            log += betaln(a + won, b + of - won) - betaln(a, b)
        slope = mean * (1 - mean)  # of the mean in its log odds: the prior is Jeffreys', by the square root
        log += 0.5 * np.log(slope) + np.log(_half_t(SPREADS) * np.gradient(SPREADS))
        weights = np.exp(log - log.max())
        self._weights = (weights / weights.sum()).ravel()
        self._a, self._b = a.ravel(), b.ravel()

    def predict(self, won: int, of: int, rng: np.random.Generator) -> Floats:
        """Shape (DRAWS,): plausible chances of a model of which `won` of `of` trials were seen."""
        at = rng.choice(self._weights.size, DRAWS, p=self._weights)
        return rng.beta(self._a[at] + won, self._b[at] + of - won)


def _beta_parameters() -> tuple[Floats, Floats]:
    """(mean, a + b) of the beta distribution for each of LOGITS (rows) and SPREADS (columns).

    The spread in log odds is turned to that of a beta distribution by the delta method: a chance m has the
    standard deviation m (1 - m) s, and a beta's variance is m (1 - m) / (a + b + 1).
    """
    mean = (1 / (1 + np.exp(-LOGITS)))[:, None] * np.ones(SPREADS.size)
    variance = np.minimum((mean * (1 - mean) * SPREADS) ** 2, 0.98 * mean * (1 - mean))
    return mean, mean * (1 - mean) / variance - 1


def _half_t(spreads: Floats) -> Floats:
    density: Floats = (1 + (spreads / SPREAD_SCALE) ** 2 / 5) ** -3.0
    return density


def difference(one: Corrected, other: Corrected) -> tuple[float, float, float]:
    """(value, low, high) of the difference of two corrected rates, each with judge's errors of its own.

    Where the interval holds 0, a judge that errs more on one of the two could have made the gap.
    """
    low, value, high = np.quantile(one.draws - other.draws, [0.025, 0.5, 0.975])
    return float(value), float(low), float(high)


def kappa(table: NDArray[Any]) -> float | None:
    """Cohen's kappa of two raters (Educ. Psychol. Meas. 20 (1960) 37-46); None where chance alone agrees.

    Args:
        table: shape (classes, classes), how often the first said the row and the second the column.
    """
    n = table.sum()
    chance = float(table.sum(axis=0) @ table.sum(axis=1)) / float(n) ** 2
    return None if chance == 1 else (float(np.trace(table)) / float(n) - chance) / (1 - chance)
