"""How often a judge is wrong, measured on replies that people labelled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.errors import UserError
from harness.judges.labels import Labelled
from harness.judges.spec import JudgeSpec
from harness.stats.judged import Confusion, kappa
from harness.types import Struct, Verdict

VERSION = 1


class Counts(Struct):
    """Of one model's replies and one class: what people and the judge called so."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


class JudgeCalibration(Struct):
    """What `harness calibrate` found, and what corrects the judge's rates later."""

    judge: str
    asks: str
    labels: str
    """What people labelled, in words."""
    labelled: int
    """Replies that people labelled."""
    missing: int
    """Of them, those on which the judge gave no verdict: in no figure below."""
    counts: dict[str, dict[str, Counts]]
    """Class -> model -> counts."""
    kappa: float | None
    """Cohen's kappa of the judge and the people's label."""
    kappa_of_people: float | None
    """Of the two annotators of each reply, where the labels say who said what."""
    version: int = VERSION

    def confusions(self, name: str) -> dict[str, Confusion]:
        """Model -> counts of a class, as the statistics take them."""
        return {
            model: Confusion(c.true_positive, c.false_negative, c.true_negative, c.false_positive)
            for model, c in self.counts[name].items()
        }


def calibrate(spec: JudgeSpec, labelled: Sequence[Labelled], verdicts: Sequence[Verdict]) -> JudgeCalibration:
    """Compare a judge's verdicts with the labels.

    Args:
        spec: the judge.
        labelled: what people said.
        verdicts: what the judge said of the same replies.
    """
    pairs = [
        (one.model, one.label, found.verdict)
        for one, found in zip(labelled, verdicts, strict=True)
        if found.verdict is not None
    ]
    models = sorted({one.model for one in labelled})
    both = [one.annotations for one in labelled if len(one.annotations) == 2]
    return JudgeCalibration(
        judge=spec.name,
        asks=spec.asks,
        labels=f"{len(labelled)} replies of {', '.join(models)}",
        labelled=len(labelled),
        missing=len(labelled) - len(pairs),
        counts={
            name: {model: _counts(name, [p[1:] for p in pairs if p[0] == model]) for model in models}
            for name in spec.classes
        },
        kappa=kappa(_table(spec.classes, [p[1:] for p in pairs])) if pairs else None,
        kappa_of_people=kappa(_table(spec.classes, both)) if both else None,
    )


def _counts(name: str, pairs: Sequence[tuple[str, str]]) -> Counts:
    by = [(label == name, verdict == name) for label, verdict in pairs]
    return Counts(
        true_positive=by.count((True, True)),
        false_negative=by.count((True, False)),
        true_negative=by.count((False, False)),
        false_positive=by.count((False, True)),
    )


def _table(classes: Sequence[str], pairs: Sequence[Sequence[str]]) -> NDArray[Any]:
    table = np.zeros((len(classes), len(classes)), dtype=int)
    for one, other in pairs:
        table[classes.index(one), classes.index(other)] += 1
    return table


class Error(Struct):
    """A judge's sensitivity or specificity at one class, with its 95% Wilson interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def errors(counts: Mapping[str, Counts]) -> tuple[Error, Error]:
    """(sensitivity, specificity) at a class over the replies of all models, each counting the same."""
    hit = sum(c.true_positive for c in counts.values())
    missed = sum(c.false_negative for c in counts.values())
    passed = sum(c.true_negative for c in counts.values())
    wrong = sum(c.false_positive for c in counts.values())
    return _error(hit, hit + missed), _error(passed, passed + wrong)


def _error(right: int, n: int) -> Error:
    if not n:
        return Error(value=None, low=None, high=None, n=0)
    low, high = stats.wilson(right, n)
    return Error(value=right / n, low=low, high=high, n=n)


def read_calibration(spec: JudgeSpec) -> JudgeCalibration | None:
    """What was measured of a judge, None if nothing was.

    Raises:
        UserError: the file is not there, is none that `harness calibrate` wrote, or is of another judge.
    """
    if spec.calibration is None:
        return None
    path = Path(spec.calibration)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=JudgeCalibration)
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(
            f"{path} is not a calibration ({error}): write it with "
            f"`harness calibrate {spec.name} --labels FILE --out {path}`"
        ) from error
    if found.judge != spec.name:
        raise UserError(
            f"{path} is the calibration of {found.judge}, not of {spec.name}: calibrate this judge"
        )
    return found
