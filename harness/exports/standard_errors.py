"""Standard errors of metrics as lm-eval computes them."""

import math
from typing import Any

import numpy as np

from harness.analysis.build import MetricResult
from harness.suites.corpus import TEXT_METRICS, Corpus, corpus
from harness.suites.lm_eval.metrics import items_of

ITERATIONS = 100_000
"""lm-eval's `bootstrap_iters`."""
FEW_ITERATIONS = 100
"""The same for BLEU, chrF and TER."""
BOOTSTRAPPED = ("median", "matthews_corrcoef", "f1", "perplexity", *TEXT_METRICS)
"""lm-eval's `stderr_for_metric` resamples these; it knows the mean's and `acc_all`'s, and no other."""
NOT_KNOWN = "N/A"


def standard_error(result: MetricResult) -> float | str:
    """lm-eval's standard error of a metric; `N/A` where lm-eval has none.

    One difference: a mean that lm-eval takes for a `nanmean` is resampled there.
    """
    values, metric = result.observations.values, result.metric
    if len(values) < 2:
        return NOT_KNOWN
    if metric.kind != "corpus":
        if metric.aggregation != "mean":
            return NOT_KNOWN
        return float(np.std(np.asarray(values, dtype=float), ddof=1)) / math.sqrt(len(values))
    operands = _in_order(result)
    if metric.aggregation == "acc_all":
        from lm_eval.api.metrics import acc_all_stderr

        return float(acc_all_stderr(items_of(operands)))
    if metric.aggregation not in BOOTSTRAPPED:
        return NOT_KNOWN
    few = metric.name.partition(",")[0] in TEXT_METRICS
    try:
        return _bootstrap(
            corpus(metric.aggregation, operands), len(operands), FEW_ITERATIONS if few else ITERATIONS
        )
    except ArithmeticError:  # not defined on a resample
        return NOT_KNOWN


def _in_order(result: MetricResult) -> list[Any]:
    """Operands in the order of documents: lm-eval draws by their places."""
    sample = result.observations.factors["sample"]
    names = sample.levels.to_pylist()
    order = sorted(range(len(sample.codes)), key=lambda i: _place(names[sample.codes[i]]))
    return [result.observations.values[i] for i in order]


def _place(sample: str) -> tuple[int, str]:
    return (int(sample), "") if sample.isdecimal() else (0, sample)


def _bootstrap(whole: Corpus, n: int, iterations: int) -> float:
    """Standard deviation over resamples: the draws are lm-eval's, a seed for every thousand."""
    chunk, statistics = min(1000, iterations), []
    for seed in range(iterations // chunk):
        # Seeded by a list, this is the generator of Python's `random.Random(seed)`.
        draws = np.random.RandomState([seed])
        statistics += [whole.of_rows((draws.random_sample(n) * n).astype(np.intp)) for _ in range(chunk)]
    return float(np.std(statistics, ddof=1))
