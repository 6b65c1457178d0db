"""How far the best models of two origins are apart in what a judge saw in replies: compliance, refusal."""

from harness.analysis.claims.evidence import Evidence
from harness.analysis.origins import Compared, each_once


def judged_claims(evidence: Evidence) -> tuple[Compared, ...]:
    """Gaps of each pair of origins, once a headline that a judge gave; the one with more comes first."""
    compared = each_once(evidence.origins, lambda origin: origin.gaps)
    return tuple(one for one in compared if one.comparison.metric.headline and one.comparison.metric.judged)
