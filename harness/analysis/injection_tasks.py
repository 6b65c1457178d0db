"""What an agent-hijack suite says of each injection task: the same attack on different user tasks.

Knows no suite: any rate whose samples have the clustering factor `injection_task` is split by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from harness import stats
from harness.analysis.columns import Attempts, Factor
from harness.analysis.derived import Measured, Observations
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


class InjectionTasks(Mapping[str, InjectionTaskResult]):
    """Injection task -> its rates.

    All are computed when one is first asked for: they take longer than everything else of a cell, and few
    views show them.
    """

    def __init__(
        self, harms: Mapping[str, str | None], rates: Mapping[str, tuple[Observations, Sequence[int]]]
    ) -> None:
        """Args:
        harms: injection task -> its class of harm, in the order of the codes of the factor.
        rates: metric -> what was measured of it, and how many attempts at each injection task are missing.
        """
        self._harms, self._rates = harms, rates

    @cached_property
    def _results(self) -> dict[str, InjectionTaskResult]:
        split = {name: _estimates(*rate) for name, rate in self._rates.items()}
        return {
            task: InjectionTaskResult(harm=harm, estimates={name: of[code] for name, of in split.items()})
            for code, (task, harm) in enumerate(self._harms.items())
        }

    def __getitem__(self, task: str) -> InjectionTaskResult:
        return self._results[task]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._harms))

    def __len__(self) -> int:
        return len(self._harms)


def by_injection_task(
    cell: CellEntry,
    attempts: Attempts,
    measured: Sequence[Measured],
    observations: Sequence[Observations],
) -> Mapping[str, InjectionTaskResult]:
    """Injection task -> its rates, by name; empty for a suite without attacks that have goals.

    Rates of one harm class (`Metric.where`) are left out, since a task has its class, and so are metrics
    that the harness derives, and those for which the injection task is a placeholder (`Metric.given`).

    Args:
        cell: what was measured.
        attempts: of the cell.
        measured: its metrics, as from `measure`.
        observations: of each metric.
    """
    tasks = attempts.clusters.get(FACTOR)
    chosen = [
        (one, seen)
        for one, seen in zip(measured, observations, strict=True)
        if one.metric in cell.metrics and _splits(one.metric)
    ]
    # An injection task that attacks is put into something else, such as a user task.
    if tasks is None or not any(len(one.metric.applies_to or ()) > 1 for one, _ in chosen):
        return {}
    harms = dict(zip(tasks.levels.to_pylist(), _harms(attempts, tasks), strict=True))
    return InjectionTasks(harms, {one.metric.name: (seen, _missing(one, tasks)) for one, seen in chosen})


def _splits(metric: Metric) -> bool:
    applies = FACTOR in (metric.applies_to or ()) and FACTOR not in metric.given
    return metric.kind == "rate" and applies and not metric.where


def _missing(measured: Measured, tasks: Factor) -> list[int]:
    """How many attempts at each injection task are missing."""
    lost = tasks.codes[measured.missing]
    counts: list[int] = np.bincount(lost[lost >= 0], minlength=len(tasks.levels)).tolist()
    return counts


def _estimates(observations: Observations, missing: Sequence[int]) -> list[Estimate]:
    """The rate of each injection task.

    Within one injection task the factor itself is constant and is no source of chance: what is left is to be
    clustered by the user task, and by the sample where that has several attempts.
    """
    values, clusters = np.asarray(observations.values), dict(observations.clusters)
    # Without a value there is no such factor; a code beyond the tasks is of a sample that has none.
    codes = np.asarray(clusters.pop(FACTOR, np.empty(0, dtype=np.int32)))
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.searchsorted(codes[order], np.arange(len(missing) + 1)))[1:-1]
    levels = {name: np.asarray(of) for name, of in clusters.items()}
    return [
        stats.estimated(
            stats.rate, values[part], {name: of[part] for name, of in levels.items()}, missing=lost
        )
        for part, lost in zip(parts, missing, strict=True)
    ]


def _harms(attempts: Attempts, tasks: Factor) -> list[str | None]:
    """The class of harm of each injection task."""
    by_task: list[list[str]] = [[] for _ in range(len(tasks.levels))]
    harms = attempts.labels.get(HARM)
    if harms is not None:
        both = (tasks.codes >= 0) & (harms.codes >= 0)
        cells = tasks.codes[both].astype(np.int64) * len(harms.levels) + harms.codes[both]
        names = harms.levels.to_pylist()
        for cell in np.flatnonzero(np.bincount(cells)).tolist():
            task, harm = divmod(cell, len(names))
            by_task[task].append(names[harm])
    return [", ".join(sorted(names)) or None for names in by_task]
