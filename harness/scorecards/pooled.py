"""AgentDojo's suites as one number a metric, as its published table has them: every attempt counts once.

Its script prints this share as "combined", and every number of its table is a share of 97 user tasks or of
629 pairs (v1 to v1.1.2; 949 in v1.2.2). The mean of the suites' rates is another number, since they are not
equally large. Only metrics that keep its books (`Metric.booking`) are pooled, for comparison with it alone.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from harness import stats
from harness.scorecards.derived import Observations
from harness.types import CellEntry, Estimate, Metric, Struct

SUITES = ("banking", "slack", "travel", "workspace")
"""AgentDojo's own. Others, and samples of these (`limit`), are not its benchmark."""

OF_THE_SUITE = ("suite", "tools", "tasks", "environment")
"""Fields of the protocol in which they differ by their nature. In all others they have to agree."""

Booked = Mapping[str, tuple[Observations, int]]
"""`<suite>/<metric>` -> what was measured, and how many attempts are missing."""


class PooledRate(Struct):
    """A metric over all attempts of several suites."""

    metric: Metric
    estimate: Estimate


class Pooled(Struct):
    """Several of AgentDojo's suites under one protocol, on one model."""

    protocol: dict[str, str]
    """What they have in common."""
    suites: dict[str, str]
    """AgentDojo's name of a suite -> its name in the run."""
    rates: dict[str, PooledRate]
    """By the metric's name: those that all of the suites have."""

    @property
    def whole(self) -> bool:
        """Whether all of AgentDojo's suites are in it."""
        return len(self.suites) == len(SUITES)

    @property
    def extent(self) -> str:
        """The same in words."""
        return f"{'all' if self.whole else f'{len(self.suites)} of {len(SUITES)}'} suites, pooled"


def pool(cells: Iterable[CellEntry], booked: Booked) -> tuple[Pooled, ...]:
    """One result for each protocol that several of AgentDojo's suites have in common.

    Where a suite is there twice under one protocol, nobody can say which of the two is meant: none is pooled.

    Args:
        cells: of one model.
        booked: its metrics with a booking.
    """
    groups: dict[tuple[int, tuple[tuple[str, str], ...]], list[CellEntry]] = {}
    for cell in cells:
        if _is_whole_suite(cell):
            groups.setdefault((cell.attempts, tuple(sorted(_shared(cell).items()))), []).append(cell)
    several = [group for group in groups.values() if len(group) > 1 and _distinct(group)]
    found = [_pool_group(sorted(group, key=lambda cell: cell.protocol["suite"]), booked) for group in several]
    return tuple(sorted((one for one in found if one.rates), key=lambda one: tuple(one.suites.values())))


def _is_whole_suite(cell: CellEntry) -> bool:
    """Of imported runs it is unknown how much of a suite was asked for: their n says what there is."""
    return (
        cell.adapter == "agentdojo"
        and cell.protocol.get("suite") in SUITES
        and cell.protocol.get("limit") in ("None", "unknown")
    )


def _shared(cell: CellEntry) -> dict[str, str]:
    return {field: value for field, value in cell.protocol.items() if field not in OF_THE_SUITE}


def _distinct(group: Sequence[CellEntry]) -> bool:
    return len({cell.protocol["suite"] for cell in group}) == len(group)


def _pool_group(group: Sequence[CellEntry], booked: Booked) -> Pooled:
    rates = {}
    for metric in group[0].metrics:
        if metric.booking and metric.kind == "rate" and all(metric in cell.metrics for cell in group):
            parts = [booked[f"{cell.suite}/{metric.name}"] for cell in group]
            if all(len(observations.values) + missing for observations, missing in parts):
                rates[metric.name] = PooledRate(metric=metric, estimate=_estimate(metric, group, parts))
    return Pooled(
        protocol=_shared(group[0]),
        suites={cell.protocol["suite"]: cell.suite for cell in group},
        rates=rates,
    )


def _estimate(
    metric: Metric, group: Sequence[CellEntry], parts: Sequence[tuple[Observations, int]]
) -> Estimate:
    observed = [observations for observations, _ in parts if len(observations.values)]
    values = np.concatenate([np.empty(0), *(np.asarray(one.values) for one in observed)])
    missing = sum(lost for _, lost in parts)
    found = stats.estimated(stats.rate, values, _clusters(observed), missing=missing)
    names = ", ".join(cell.suite for cell in group)
    return replace(found, method=f"{found.method}; every attempt of {names} counts once; {metric.booking}")


def _clusters(parts: Sequence[Observations]) -> dict[str, NDArray[np.intp]]:
    """Factor -> levels, none of them in two suites: `user_task_0` of one is not that of another."""
    names = parts[0].factors if parts else ()
    return {name: _apart([part.factors[name].codes for part in parts]) for name in names}


def _apart(codes: Sequence[NDArray[np.int32]]) -> NDArray[np.intp]:
    starts = np.cumsum([0, *(part.max() + 1 for part in codes)])
    return np.concatenate([part + start for part, start in zip(codes, starts[:-1], strict=True)])
