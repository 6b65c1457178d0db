"""How differently the models of an origin come out when one thing is asked for in two ways.

A headline that is the difference of two rates of one model: of a harmful goal put whole and put as harmless
steps, or of a task without an attack and under it. What is large here, a test in the first way does not see.
"""

from harness.analysis.claims.evidence import Evidence
from harness.analysis.origins import OriginMetric
from harness.types import Estimate, Metric, Struct


class MismatchClaim(Struct):
    """Such a difference over the models of an origin."""

    origin: str
    key: str
    """`<suite>/<metric>`."""
    metric: Metric
    models: int
    """In which it was measured."""
    mean: Estimate
    """Over these models, each counting the same."""
    best_model: str
    """The one that it is smallest for, where less is better."""
    best: Estimate
    """Of that model; its method says which two rates these are."""


def mismatch_claims(evidence: Evidence) -> tuple[MismatchClaim, ...]:
    """Every such headline of every origin."""
    return tuple(
        MismatchClaim(
            origin=origin.key,
            key=key,
            metric=result.metric,
            models=result.models,
            mean=result.mean,
            best_model=result.best_model,
            best=result.best,
        )
        for key in sorted({key for origin in evidence.origins for key in origin.metrics})
        for origin in evidence.origins
        if (result := origin.metrics.get(key))
        and _is_difference(result)
        and result.mean
        and result.best
        and result.best_model
    )


def _is_difference(result: OriginMetric) -> bool:
    """Whether it is a headline of the kind `lost`, which alone goes from -1 to 1."""
    metric = result.metric
    return metric.headline and metric.kind == "mean" and metric.bounds == (-1.0, 1.0)
