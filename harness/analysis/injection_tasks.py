"""What an agent-hijack suite says of each injection task: the same attack on different user tasks.

Knows no suite: any rate whose samples have the clustering factor `injection_task` is split by it.
"""

from collections.abc import Sequence

import numpy as np

from harness import stats
from harness.analysis.columns import Attempts, Factor
from harness.analysis.derived import Measured
from harness.types import CellEntry, Estimate, Metric, Struct

FACTOR = "injection_task"
HARM = "harm"
"""The label that says which class of harm an injection task belongs to."""


class InjectionTaskResult(Struct):
    """How the attacks of one injection task went on one model."""

    harm: str | None
    """Its class of harm, None if its samples have no such label; several are joined by commas."""
    estimates: dict[str, Estimate]
    """Name of the metric -> rate over the user tasks that were attacked, or over the attempts at the goal
    when it was given directly."""


def by_injection_task(
    cell: CellEntry, attempts: Attempts, measured: Sequence[Measured]
) -> dict[str, InjectionTaskResult]:
    """Injection task -> its rates, by name; empty for a suite without attacks that have goals.

    Rates of one harm class (`Metric.where`) are left out, since a task has its class, and so are metrics
    that the harness derives, and those for which the injection task is a placeholder (`Metric.given`).

    Args:
        cell: what was measured.
        attempts: of the cell.
        measured: its metrics, as from `measure`.
    """
    tasks = attempts.clusters.get(FACTOR)
    chosen = [one for one in measured if one.metric in cell.metrics and _splits(one.metric)]
    if tasks is None or not any(_attacks(one.metric) for one in chosen):
        return {}
    harms = _harms(attempts, tasks)
    rates = {one.metric.name: _estimates(one, attempts, tasks) for one in chosen}
    found = {
        name: InjectionTaskResult(
            harm=harms[code], estimates={metric: split[code] for metric, split in rates.items()}
        )
        for code, name in enumerate(tasks.levels.to_pylist())
    }
    return dict(sorted(found.items()))


def _splits(metric: Metric) -> bool:
    applies = FACTOR in (metric.applies_to or ()) and FACTOR not in metric.given
    return metric.kind == "rate" and applies and not metric.where


def _attacks(metric: Metric) -> bool:
    """True if its samples are an injection task put into something else, such as a user task."""
    return len(metric.applies_to or ()) > 1


def _estimates(measured: Measured, attempts: Attempts, tasks: Factor) -> list[Estimate]:
    """The rate of each injection task.

    Within one injection task the factor itself is constant and is no source of chance: what is left is to be
    clustered by the user task, and by the sample where that has several attempts.
    """
    observations = measured.observations(attempts)
    values = np.asarray(observations.values)
    clusters = {name: np.asarray(c) for name, c in observations.clusters.items() if name != FACTOR}
    codes, levels = tasks.codes[measured.rows], len(tasks.levels)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.searchsorted(codes[order], np.arange(levels)))[1:]
    lost = tasks.codes[measured.missing]
    missing = np.bincount(lost[lost >= 0], minlength=levels)
    return [
        stats.estimated(
            stats.rate, values[part], {name: c[part] for name, c in clusters.items()}, missing=int(m)
        )
        for part, m in zip(parts, missing, strict=True)
    ]


def _harms(attempts: Attempts, tasks: Factor) -> list[str | None]:
    """The class of harm of each injection task."""
    found: list[list[str]] = [[] for _ in range(len(tasks.levels))]
    harms = attempts.labels.get(HARM)
    if harms is not None:
        both = (tasks.codes >= 0) & (harms.codes >= 0)
        cells = tasks.codes[both].astype(np.int64) * len(harms.levels) + harms.codes[both]
        names = harms.levels.to_pylist()
        for cell in np.flatnonzero(np.bincount(cells)).tolist():
            task, harm = divmod(cell, len(names))
            found[task].append(names[harm])
    return [", ".join(sorted(names)) or None for names in found]
