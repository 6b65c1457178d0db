"""How hard each sample of a task was for the models on record, kept in a file that a later draw reads."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from harness.config import OptionError
from harness.disk import replace
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.root import Root
from harness.stats.irt import difficulties
from harness.suites.digests import digest
from harness.types import CellEntry, Metric, Struct

ASKED = {
    "lm_eval": ("task", "data"),
    "agentdojo": ("suite", "benchmark_version", "attack", "places", "other_goals", "tasks", "environment"),
}
"""Adapter -> the fields of a protocol that say what its samples are, their name first."""
TELLING = {"agentdojo": "targeted_asr"}
"""Adapter -> the rate that tells how hard a sample is, where that is not the one shown first."""
BY_DIFFICULTY = "of every difficulty by {}"
"""How samples were drawn, with the digest of what is known of them."""
LEAST_MODELS = 5
"""Models that must be on record, so that samples can be told apart by how many of them solve each."""


class TaskDifficulty(Struct):
    """A task of lm-eval, or the attacked pairs of a suite of agents."""

    task: str
    data: str
    """Digest of what its samples are (`ASKED`)."""
    models: tuple[str, ...]
    """Whose answers it was fitted to."""
    difficulty: dict[str, float]
    """Sample -> difficulty in logits."""


Solved = dict[str, tuple[float, int]]
"""Sample -> (successes, attempts)."""
Answers = dict[tuple[str, str], dict[str, Solved]]
"""(task, digest of what its samples are) -> model -> what it solved."""


def identity(protocol: Mapping[str, str]) -> tuple[str, str]:
    """(task, digest of what its samples are)."""
    values = [protocol.get(field, "") for field in ASKED[protocol["adapter"]]]
    return values[0], digest(values)


def answers_under(path: Path) -> Answers:
    """What models answered under a folder of runs. Of a model measured twice, the longer record counts.

    Raises:
        UserError: there is no such folder, or records are damaged.
    """
    answers: Answers = {}
    for run, cell, metric in _scored(Root(path).runs):
        solved: Solved = {}
        for record in run.each_record(cell):
            for score in cell.counted(record):
                if score.metric == metric.name and score.value is not None:
                    won, tried = solved.get(record.sample, (0.0, 0))
                    solved[record.sample] = (won + score.value, tried + 1)
        models = answers.setdefault(identity(cell.protocol), {})
        if len(solved) > len(models.get(cell.model, ())):
            models[cell.model] = solved
    return answers


def _scored(runs: Iterable[RunDirectory]) -> Iterator[tuple[RunDirectory, CellEntry, Metric]]:
    """Cells whose samples can be told by difficulty, each with the rate that tells it."""
    for run in runs:
        for cell in run.whole_manifest().cells.values():
            rates = sorted((m for m in cell.metrics if m.kind == "rate"), key=lambda m: not m.headline)
            telling = TELLING.get(cell.adapter)
            rates = [metric for metric in rates if telling in (None, metric.name)]
            if rates and ASKED.get(cell.adapter, ("",))[0] in cell.protocol:
                yield run, cell, rates[0]


def fit(answers: Answers) -> tuple[TaskDifficulty, ...]:
    """The difficulties of the tasks that enough models answered."""
    tasks = []
    for (task, data), models in sorted(answers.items()):
        if len(models) < LEAST_MODELS:
            continue
        samples = sorted(set().union(*models.values()))
        cells = [[solved.get(sample, (0.0, 0)) for sample in samples] for solved in models.values()]
        table = np.asarray(cells, dtype=np.float64)
        fitted = np.round(difficulties(table[..., 0], table[..., 1]), 4)
        known = dict(zip(samples, fitted.tolist(), strict=True))
        tasks.append(TaskDifficulty(task=task, data=data, models=tuple(sorted(models)), difficulty=known))
    return tuple(tasks)


def write(difficulties: tuple[TaskDifficulty, ...], path: Path) -> None:
    """Write the file. Raises DiskError."""
    replace(path, msgspec.json.encode(difficulties) + b"\n")


def read(path: Path, protocol: Mapping[str, str]) -> TaskDifficulty:
    """The difficulties of one task.

    Args:
        path: of the file.
        protocol: `adapter`, and what `ASKED` names.

    Raises:
        OptionError: the file is none, or does not have the task with these data.
    """
    task, data = identity(protocol)
    try:
        known = msgspec.json.decode(path.read_bytes(), type=tuple[TaskDifficulty, ...])
    except (OSError, msgspec.DecodeError) as error:
        raise OptionError(
            f"difficulty {path}: expected a file that `harness difficulty` wrote ({error})", "difficulty"
        ) from error
    for one in known:
        if (one.task, one.data) == (task, data):
            return one
    there = ", ".join(sorted({one.task for one in known})) or "no task"
    raise OptionError(
        f"difficulty {path} has {there}, and not {task} with the data of this run: say `sample: 200`, or "
        f"write the file anew when {LEAST_MODELS} models have answered it",
        "difficulty",
    )


def check_enough(answers: Answers, path: Path) -> None:
    """Raises UserError unless enough models answered one task at least."""
    most = max(map(len, answers.values()), default=0)
    if most < LEAST_MODELS:
        raise UserError(
            f"{path} has the answers of {most} model(s) to the same task, and {LEAST_MODELS} are "
            "needed to tell hard samples from easy ones: measure more models, or draw with `sample: 200`"
        )
