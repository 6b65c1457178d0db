"""Replies that people labelled, from CSV or JSON lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.judges.base import Exchange
from harness.judges.spec import JudgeSpec
from harness.rows import read_rows
from harness.types import Struct

REQUEST = ("request", "prompt", "question", "behavior")
REPLY = ("reply", "completion", "response", "generation", "output")
LABEL = ("label", "final_label")
ANNOTATORS = ("annotation_", "annotator_", "human_")
"""Names of columns, the first that a file has; of annotators, how the names begin."""
MODEL = ("model",)


class Labelled(Struct):
    """A reply with what people called it, in the judge's classes."""

    model: str
    """Whose reply it is: never shown to the judge."""
    exchange: Exchange
    label: str
    annotations: tuple[str, ...] = ()
    """What each annotator called it, where the file says."""


def read_labels(paths: Sequence[Path], spec: JudgeSpec) -> list[Labelled]:
    """The labelled replies of some files. Where a file names no model, it is of one, called as the file.

    Raises:
        UserError: a file cannot be read, has no column for the request, the reply or the label, or a label
            that is no class of the judge.
    """
    return [labelled for path in paths for labelled in _read(path, spec)]


def _read(path: Path, spec: JudgeSpec) -> Iterator[Labelled]:
    rows = read_rows(path)
    columns = list(rows[0])
    request, reply, label = (_column(path, columns, names) for names in (REQUEST, REPLY, LABEL))
    model = next((name for name in MODEL if name in columns), None)
    annotators = [name for name in columns if name.startswith(ANNOTATORS)]
    for number, row in enumerate(rows, 1):
        annotations = [_class(path, number, row[name], spec) for name in annotators if row[name]]
        yield Labelled(
            model=str(row[model]) if model else path.name.split(".")[0],
            exchange=Exchange(request=row[request], reply=row[reply]),
            label=_class(path, number, row[label], spec),
            annotations=tuple(annotations) if len(annotations) == len(annotators) else (),
        )


def _column(path: Path, columns: Sequence[str], names: Sequence[str]) -> str:
    for name in names:
        if name in columns:
            return name
    raise UserError(
        f"{path} has no column {' or '.join(names)}; it has {', '.join(columns)}: rename the one meant"
    )


def _class(path: Path, row: int, label: str, spec: JudgeSpec) -> str:
    named = spec.labels.get(label, label)
    if named not in spec.classes:
        raise UserError(
            f"{path}, row {row}: the label {label!r} is not a class of the judge {spec.name}: use one of "
            f"{', '.join(spec.classes)}, or say in its `labels` which of them is meant"
        )
    return named
