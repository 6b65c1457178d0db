"""How wrong a judge is, as a table."""

from collections.abc import Iterator

from harness.judges.calibration import Error, JudgeCalibration, errors
from harness.reports.tables import Table
from harness.stats.misclassification import Confusion, confusions


def calibration_table(calibration: JudgeCalibration) -> Table:
    """One row a class, over all models and then by model: sensitivity and specificity."""
    classes = sorted({label for table in calibration.tables.values() for label in table})
    rows = [row for name in classes for row in _rows(name, confusions(calibration.tables, [name]))]
    return Table(
        title=f"{calibration.judge}: {calibration.asks}",
        header=("Class and whose replies", "Sensitivity", "Specificity"),
        rows=tuple(rows),
    )


def _rows(name: str, counts: dict[str, Confusion]) -> Iterator[tuple[str, str, str]]:
    sensitivity, specificity = errors(counts.values())
    yield name, _cell(sensitivity), _cell(specificity)
    if len(counts) > 1:
        for model, own in counts.items():
            sensitivity, specificity = errors([own])
            yield f"{name}/{model}", _cell(sensitivity), _cell(specificity)


def _cell(error: Error) -> str:
    if error.value is None or error.low is None or error.high is None:
        return "no such reply"
    return f"{100 * error.value:.1f}% n={error.n}\n[{100 * error.low:.1f}, {100 * error.high:.1f}]"


def calibration_sentences(calibration: JudgeCalibration) -> list[str]:
    """What stands below the table."""
    sentences = [f"{calibration.labelled} labelled replies of {len(calibration.tables)} models."]
    if calibration.missing:
        sentences.append(
            f"The judge gave no verdict on {calibration.missing} of them; they are in no figure above."
        )
    if calibration.kappa is not None:
        people = calibration.kappa_of_people
        between = "" if people is None else f"; of two annotators with one another: {people:.2f}"
        sentences.append(f"Cohen's kappa with the people's label: {calibration.kappa:.2f}{between}.")
    if len(calibration.tables) < 3:
        sentences.append(
            "Fewer than three models were labelled: how its errors differ between models is assumed."
        )
    return sentences
