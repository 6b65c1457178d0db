"""Estimators: pure functions from arrays to `Estimate`s with 95% intervals.

Nothing here knows about models, suites or records. Every interval is two-sided at 95%. What an interval
assumes is written into `Estimate.method`, in words.
"""

from harness.stats.clusters import Clusters, Z, cluster_variance, crossed_factors, wilson
from harness.stats.comparisons import (
    Difference,
    McNemar,
    difference,
    difference_standard_error,
    holm,
    mcnemar,
    minimum_detectable_difference,
    odds_ratio,
    paired_difference,
    ratio,
    risk_ratio,
    shared_risk_ratio,
    unpaired_difference,
)
from harness.stats.estimates import (
    Proportion,
    Stratum,
    at_least_one,
    attempted,
    average,
    bootstrap,
    estimated,
    mean,
    median,
    of_population,
    p_of_means,
    proportion,
    rate,
    stratified,
)
from harness.stats.models import ModelsMean, mean_of_models, ratio_over_models, selection_bias

__all__ = [
    "Clusters",
    "Difference",
    "McNemar",
    "ModelsMean",
    "Proportion",
    "Stratum",
    "Z",
    "at_least_one",
    "attempted",
    "average",
    "bootstrap",
    "cluster_variance",
    "crossed_factors",
    "difference",
    "difference_standard_error",
    "estimated",
    "holm",
    "mcnemar",
    "mean",
    "mean_of_models",
    "median",
    "minimum_detectable_difference",
    "odds_ratio",
    "of_population",
    "p_of_means",
    "paired_difference",
    "proportion",
    "rate",
    "ratio",
    "ratio_over_models",
    "risk_ratio",
    "selection_bias",
    "shared_risk_ratio",
    "stratified",
    "unpaired_difference",
    "wilson",
]
