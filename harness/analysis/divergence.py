"""How far the answers of a model move from those of another on multiple-choice tasks, by what is on record.

Records of a choice hold the log-likelihood of each option, and nothing of other tokens of the vocabulary.
So this is the Kullback-Leibler divergence between two distributions over the options of a question, in nats:
each is the likelihoods of the options, made to add up to 1. It is no divergence of next-token distributions,
and may be larger or smaller than that.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.types import CellEntry, Estimate, Record, Struct


class Divergence(Struct):
    """A model against its base on one suite."""

    kl: Estimate
    """Mean over questions of KL(base || model), in nats."""
    same_choice: Estimate
    """Share of questions of which both find the same option likeliest."""


def has_options(cell: CellEntry) -> bool:
    """Whether every log-likelihood on record is that of an option behind the same question."""
    conditional = all(not metric.name.startswith("acc_mutual_info") for metric in cell.metrics)
    return cell.protocol.get("output_type") == "multiple_choice" and conditional


def options_of(records: Iterable[Record]) -> dict[str, list[float]]:
    """Sample -> log-likelihood of each of its options, of those that were measured."""
    return {
        record.sample: [option.logprob for option in record.transcript.loglikelihoods]
        for record in records
        if record.failure is None and len(record.transcript.loglikelihoods) > 1
    }


def diverge(base: Mapping[str, Sequence[float]], model: Mapping[str, Sequence[float]]) -> Divergence:
    """Compare two models on the questions that both have on record.

    Args:
        base: sample -> log-likelihoods of its options, in nats.
        model: the same of the other model.
    """
    shared = [name for name in base if name in model and len(base[name]) == len(model[name])]
    missing = len(base.keys() | model.keys()) - len(shared)
    pairs = [(_normalised(base[name]), _normalised(model[name])) for name in shared]
    kl = [max(0.0, float((np.exp(ours) * (ours - theirs)).sum())) for ours, theirs in pairs]
    same = [float(np.argmax(ours) == np.argmax(theirs)) for ours, theirs in pairs]
    return Divergence(kl=stats.mean(kl, missing=missing), same_choice=stats.rate(same, missing=missing))


def _normalised(options: Sequence[float]) -> NDArray[np.float64]:
    """Log-probabilities of the options among themselves."""
    x = np.asarray(options, dtype=np.float64)
    below: NDArray[np.float64] = x - x.max()
    total: float = np.log(np.exp(below).sum())
    return below - total
