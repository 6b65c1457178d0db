"""Suites that are one benchmark as one number a metric: every attempt counts once.

Which suites these are, and what is pooled, they declare (`Pooling`); metrics with a `booking` are pooled as
well, for comparison with a published table. The suites are strata: an interval is of tasks like these within
each, not of other suites, of which four would say little.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from harness import stats
from harness.types import CellEntry, Estimate, Metric, Pooling, Struct


class PooledRate(Struct):
    """A metric over all attempts of several suites."""

    metric: Metric
    estimate: Estimate


class Pooled(Struct):
    """Several suites of a benchmark under one protocol, on one model."""

    benchmark: str
    parts: int
    """How many it has."""
    protocol: dict[str, str]
    """What they have in common."""
    suites: dict[str, str]
    """The benchmark's name of a part -> its name in the run."""
    rates: dict[str, PooledRate]
    """By the metric's name: those that all of the suites have, and that have a `booking`."""
    own: dict[str, PooledRate] = {}
    """The harness's own of them that the suites declare."""

    @property
    def whole(self) -> bool:
        """Whether all parts are in it."""
        return len(self.suites) == self.parts

    @property
    def extent(self) -> str:
        """The same in words."""
        return f"{'all' if self.whole else f'{len(self.suites)} of {self.parts}'} suites, pooled"


Part = tuple[CellEntry, Pooling]


def pool(
    cells: Iterable[tuple[CellEntry, Pooling | None]], strata: Mapping[str, stats.Stratum]
) -> tuple[Pooled, ...]:
    """One result for each protocol that several suites of a benchmark have in common.

    Where a part is there twice under one protocol, nobody can say which of the two is meant: none is pooled.

    Args:
        cells: of one model, each with what it is a part of.
        strata: `<suite>/<metric>` -> the rate.
    """
    groups: dict[tuple[object, ...], list[Part]] = {}
    for cell, pooling in cells:
        if pooling is not None:
            alike = replace(pooling, part=""), cell.attempts, tuple(sorted(_shared(cell, pooling).items()))
            groups.setdefault(alike, []).append((cell, pooling))
    several = [
        group for group in groups.values() if len({pooling.part for _, pooling in group}) == len(group) > 1
    ]
    pooled = [_pool_group(sorted(group, key=lambda part: part[1].part), strata) for group in several]
    return tuple(
        sorted((one for one in pooled if one.rates or one.own), key=lambda one: tuple(one.suites.values()))
    )


def _shared(cell: CellEntry, pooling: Pooling) -> dict[str, str]:
    return {field: value for field, value in cell.protocol.items() if field not in pooling.may_differ}


def _pool_group(group: Sequence[Part], strata: Mapping[str, stats.Stratum]) -> Pooled:
    rates: dict[str, PooledRate] = {}
    own: dict[str, PooledRate] = {}
    cells, pooling = [cell for cell, _ in group], group[0][1]
    names = ", ".join(cell.suite for cell in cells)
    for metric in cells[0].metrics:
        chosen = rates if metric.booking else own if metric.name in pooling.metrics else None
        if chosen is None or metric.kind != "rate" or not all(metric in cell.metrics for cell in cells):
            continue
        # A metric may be void under the attack of one of them, whatever its cell announces.
        parts = [one for cell in cells if (one := strata.get(f"{cell.suite}/{metric.name}"))]
        if len(parts) == len(group) and all(e.n + e.missing or e.out_of for e, _, _ in parts):
            estimate = stats.estimated(lambda missing, parts=parts: stats.stratified(parts))
            how = f"{estimate.method}; every attempt of {names} counts once"
            how = f"{how}; {metric.booking}" if metric.booking else how
            chosen[metric.name] = PooledRate(metric=metric, estimate=replace(estimate, method=how))
    return Pooled(
        benchmark=pooling.benchmark,
        parts=len(pooling.parts),
        protocol=_shared(cells[0], pooling),
        suites={of.part: cell.suite for cell, of in group},
        rates=rates,
        own=own,
    )
