"""Rates that judges gave: who judged, and what is left of a rate once their errors are taken out."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from harness.stats import Z
from harness.stats.misclassification import Calibration, confusions, kappa
from harness.types import Corrected, Estimate, JudgeEntry, Metric, ModelEntry


def judged_protocol(judges: Sequence[JudgeEntry]) -> dict[str, str]:
    """What of a protocol a judge is: rates of other judges are not compared."""
    return {"judge": ", ".join(f"{one.name} {one.digest[:12]}" for one in judges)} if judges else {}


def with_errors(
    estimate: Estimate, metric: Metric, judges: Sequence[JudgeEntry], model: ModelEntry
) -> Estimate:
    """The estimate of a judged metric, with the rate corrected for the judge's errors, or why it is not.

    Args:
        estimate: of the rate as it was given.
        metric: which.
        judges: who gave it.
        model: whose replies they judged; its own errors count where people labelled some of its replies.
    """
    if not metric.judged:
        return estimate
    for judge in judges:
        if shared := _family(judge, model):
            estimate = _warned(estimate, f"{judge.name} judges a model of its own family ({shared})")
    if not judges:
        return _warned(estimate, "no judge was asked: `harness judge DIR --judge NAME`")
    if len(judges) > 1:
        estimate = _warned(
            estimate, f"a vote of {', '.join(one.name for one in judges)}, not corrected for their errors"
        )
        for text in _agreement(judges, metric):
            estimate = _warned(estimate, text)
        return estimate
    (judge,) = judges
    counts = confusions(judge.calibration or {}, [name for name in metric.judged if name in judge.classes])
    if not any(c.positive for c in counts.values()) or not any(c.negative for c in counts.values()):
        return _warned(estimate, f"judged by {judge.name}, whose errors were not measured")
    if estimate.value is None:
        return estimate
    n = _independent(estimate)
    corrected = Calibration(counts).corrected(estimate.value * n, n, model.name)
    return msgspec.structs.replace(
        estimate,
        corrected=Corrected(
            value=corrected.value,
            low=corrected.low,
            high=corrected.high,
            method=f"Rogan and Gladen's correction for the errors of {judge.name}, measured on "
            f"{judge.calibrated_on}; the interval is of drawn rates, sensitivities and specificities, which "
            "differ between models",
        ),
    )


def _agreement(judges: Sequence[JudgeEntry], metric: Metric) -> Iterator[str]:
    """How often each two judges say the same of what a metric counts, in words."""
    for judge in judges:
        for other, verdicts in judge.beside.items():
            table = np.zeros((2, 2))
            for own, row in verdicts.items():
                for its, count in row.items():
                    table[int(own in metric.judged), int(its in metric.judged)] += count
            if n := int(table.sum()):
                agreement = kappa(table)
                beyond = (
                    "chance alone agrees as often" if agreement is None else f"Cohen's kappa {agreement:.2f}"
                )
                yield f"{judge.name} and {other} agree on {int(np.trace(table))} of {n} replies ({beyond})"


def _family(judge: JudgeEntry, model: ModelEntry) -> str:
    """What a judge's model and the one it judges have in common: developer or base weights; or nothing."""
    if judge.origin is None:
        return ""
    if judge.origin.stated and judge.origin.developer == model.origin.developer:
        return judge.origin.developer
    own = {*judge.origin.base_models, judge.repository or ""}
    return ", ".join(sorted(own & {*model.origin.base_models, model.repository or ""} - {""}))


def _independent(estimate: Estimate) -> float:
    """How many independent replies would leave as wide an interval, at most those that there are."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None or low is None or high is None or not 0 < value < 1 or high <= low:
        return float(min(estimate.n, estimate.clusters))
    return min(float(estimate.n), value * (1 - value) / ((high - low) / (2 * Z)) ** 2)


def _warned(estimate: Estimate, text: str) -> Estimate:
    return msgspec.structs.replace(estimate, warnings=(*estimate.warnings, text))
