"""How often a judge is wrong, measured on replies that people labelled."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.errors import UserError
from harness.judges.labels import Labelled
from harness.judges.spec import JudgeSpec
from harness.stats.misclassification import Confusion, kappa
from harness.types import Struct, Verdict

VERSION = 1


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
    tables: dict[str, dict[str, dict[str, int]]]
    """Model -> what people called its replies -> what the judge called them -> how many."""
    kappa: float | None
    """Cohen's kappa of the judge and the people's label."""
    kappa_of_people: float | None
    """Of the two annotators of each reply, where the labels say who said what."""
    version: int = VERSION


def calibrate(spec: JudgeSpec, labelled: Sequence[Labelled], verdicts: Sequence[Verdict]) -> JudgeCalibration:
    """Compare a judge's verdicts with the labels.

    Args:
        spec: the judge.
        labelled: what people said.
        verdicts: what the judge said of the same replies.
    """
    pairs = [
        (one.model, one.label, verdict.verdict)
        for one, verdict in zip(labelled, verdicts, strict=True)
        if verdict.verdict is not None
    ]
    models = sorted({one.model for one in labelled})
    both = [one.annotations for one in labelled if len(one.annotations) == 2]
    return JudgeCalibration(
        judge=spec.name,
        asks=spec.asks,
        labels=f"{len(labelled)} replies of {', '.join(models)}",
        labelled=len(labelled),
        missing=len(labelled) - len(pairs),
        tables={model: _table_of([pair[1:] for pair in pairs if pair[0] == model]) for model in models},
        kappa=kappa(_table(spec.classes, [p[1:] for p in pairs])) if pairs else None,
        kappa_of_people=kappa(_table(spec.classes, both)) if both else None,
    )


def _table_of(pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for (label, verdict), count in sorted(Counter(pairs).items()):
        table.setdefault(label, {})[verdict] = count
    return table


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


def errors(counts: Iterable[Confusion]) -> tuple[Error, Error]:
    """(sensitivity, specificity) over the replies of some models, each reply counting the same."""
    several = list(counts)
    hit, passed = sum(c.true_positive for c in several), sum(c.true_negative for c in several)
    return _error(hit, sum(c.positive for c in several)), _error(passed, sum(c.negative for c in several))


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
        calibration = msgspec.json.decode(path.read_bytes(), type=JudgeCalibration)
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(
            f"{path} is not a calibration ({error}): write it with "
            f"`harness calibrate {spec.name} --labels FILE --out {path}`"
        ) from error
    if calibration.judge != spec.name:
        raise UserError(
            f"{path} is the calibration of {calibration.judge}, not of {spec.name}: calibrate this judge"
        )
    return calibration
