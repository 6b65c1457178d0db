"""How often the models of an origin were hijacked, over how often those of another were."""

from harness.analysis.claims.evidence import Evidence
from harness.analysis.origins import Compared, each_once


def hijacking_claims(evidence: Evidence) -> tuple[Compared, ...]:
    """Risk ratios of each pair of origins, once a metric: the one with more comes first."""
    return tuple(each_once(evidence.origins, lambda origin: origin.risk_ratios))
