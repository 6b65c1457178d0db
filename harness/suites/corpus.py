"""Corpus metrics of lm-eval's tasks, resampled by what each sample adds to their sums.

A bootstrap calls a metric a thousand times. BLEU, chrF, TER, perplexities, F1 and the like are functions of
sums over samples: what a sample adds is computed once, and the sums of each resample are cheap. The others
are called, as often as lm-eval calls the slow ones of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.suites.lm_eval.metrics import MEAN_OF_LISTS, aggregate, items_of

RESAMPLES = 1000

FEW_RESAMPLES = 100
"""lm-eval's number for the metrics that it takes for slow."""

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus metric on n samples, and on resamples of them."""

    value: Callable[[], float]
    """On all of them. Raises where it is not defined there."""
    of_rows: Callable[[Rows], float]
    """On some of them, by number, each as often as it is named. Raises where it is not defined there."""
    resamples: int
    """How many a bootstrap may take in reasonable time."""


def corpus(aggregation: str, operands: Sequence[Sequence[Any]]) -> Corpus:
    """A corpus metric of samples that are resampled.

    Args:
        aggregation: as `aggregate` takes it.
        operands: of each of n samples, at least one.

    Raises:
        UserError: there is no such aggregation.
    """
    if aggregation in TEXT_METRICS:
        return _text_corpus(aggregation, items_of(operands))
    value, kept = partial(aggregate, aggregation, operands), list(operands)
    if aggregation in SUMS and (formula := SUMS[aggregation](items_of(kept))) is not None:
        parts, compute = formula
        return Corpus(value, lambda rows: compute(parts[rows].sum(axis=0)), RESAMPLES)
    return Corpus(value, lambda rows: aggregate(aggregation, [kept[row] for row in rows]), FEW_RESAMPLES)


# Texts


def _text_metric(name: str) -> Any:
    """What lm-eval's aggregation of that name makes its value with."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    made: dict[str, Callable[[], Any]] = {
        "bleu": BLEU,
        "chrf": CHRF,
        "chrf++": partial(CHRF, word_order=2),
        "ter": TER,
    }
    return made[name]()


TEXT_METRICS = ("bleu", "chrf", "chrf++", "ter")
"""Of sacrebleu: each is computed from sums of counts over sentences."""


def _text_corpus(name: str, items: Sequence[Any]) -> Corpus:
    metric = _text_metric(name)
    parts = np.array([_sentence(metric, *pair) for pair in items])

    def compute(rows: Rows) -> float:
        total = parts[rows].sum(axis=0).tolist()
        return float(metric._compute_score_from_stats(total).score)

    return Corpus(partial(compute, np.arange(len(items))), compute, RESAMPLES)


def _sentence(metric: Any, references: Any, prediction: Any) -> list[float]:
    """What one sentence adds to the counts of a metric. References: one text, or several."""
    texts = [references] if isinstance(references, str) else list(references)
    prediction_text = prediction if isinstance(prediction, str) else prediction[0]
    statistics: list[list[float]] = metric._extract_corpus_statistics(
        [prediction_text], [[text] for text in texts]
    )
    return statistics[0]


# Numbers


Sums = tuple[Floats, Callable[[Floats], float]]
"""(shape (n, d): what each sample adds, the metric of their sums)."""


def _sums_of_means(items: Sequence[Any], finish: Callable[[float], float]) -> Sums:
    parts = np.array([(float(value), 1.0) for value in items])
    return parts, lambda total: finish(total[0] / total[1])


def _sums_of_weighted(items: Sequence[Any], finish: Callable[[float], float]) -> Sums:
    parts = np.array([(float(value), float(weight)) for value, weight in items])
    return parts, lambda total: finish(_ratio(*total))


def _ratio(value: float, weight: float) -> float:
    if not weight:
        raise ZeroDivisionError("no sample has a weight")
    return value / weight


def _perplexity(mean: float) -> float:
    try:
        return math.exp(-mean)
    except OverflowError:  # of very unlikely texts
        return math.inf


def _confusion(items: Sequence[Any]) -> Sums | None:
    """Counts of (right, said) by pair of labels: Matthews' coefficient for any number of classes."""
    labels = sorted({label for pair in items for label in pair}, key=repr)
    place = {label: i for i, label in enumerate(labels)}
    k = len(labels)
    if k > MANY_CLASSES:
        return None
    parts = np.zeros((len(items), k * k))
    parts[np.arange(len(items)), [place[right] * k + place[predicted] for right, predicted in items]] = 1

    def compute(total: Floats) -> float:
        table = total.reshape(k, k)
        right, predicted, n = table.sum(axis=1), table.sum(axis=0), table.sum()
        spread = (n * n - right @ right) * (n * n - predicted @ predicted)
        return float((table.trace() * n - right @ predicted) / math.sqrt(spread)) if spread > 0 else 0.0

    return parts, compute


MANY_CLASSES = 30
"""Above this a table of all pairs of labels is no longer cheap."""


def _binary(items: Sequence[Any]) -> Sums | None:
    """F1 of the class 1 where all labels are 0 or 1, None where they are not."""
    table = np.array(items)
    if table.dtype.kind not in "biu" or not np.isin(table, (0, 1)).all():
        return None
    right, predicted = table.T.astype(float)
    parts = np.stack([right * predicted, right + predicted], axis=1)
    return parts, lambda total: 2 * total[0] / total[1] if total[1] else 0.0


def _brier(items: Sequence[Any]) -> Sums:
    return _sums_of_means([aggregate("brier_score", [one]) for one in items], float)


def _lists(items: Sequence[Any]) -> Sums:
    parts = np.array([(float(sum(values)), float(len(values))) for values in items])
    return parts, lambda total: _ratio(*total)


SUMS: dict[str, Callable[[Sequence[Any]], Sums | None]] = {
    "perplexity": partial(_sums_of_means, finish=_perplexity),
    "weighted_perplexity": partial(_sums_of_weighted, finish=_perplexity),
    "bits_per_byte": partial(_sums_of_weighted, finish=lambda mean: -mean / math.log(2)),
    "f1": _binary,
    "matthews_corrcoef": _confusion,
    "brier_score": _brier,
    **dict.fromkeys(MEAN_OF_LISTS, _lists),
}
"""Aggregation -> what samples add. None where its items are not as it takes them."""
