"""AgentDojo's suites as one number a metric, as its published table has them: every attempt counts once.

Its script prints this share as "combined", and every number of its table is a share of 97 user tasks or of
629 pairs (v1 to v1.1.2; 949 in v1.2.2). The mean of the suites' rates is another number, since they are not
equally large. Metrics that keep its books (`Metric.booking`) are pooled for comparison with it, and the
harness's own `OWN` beside them. The suites are strata: an interval is of tasks like these within each, not of
other suites, of which four would say little.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from harness import stats
from harness.types import CellEntry, Estimate, Metric, Struct

SUITES = ("banking", "slack", "travel", "workspace")
"""AgentDojo's own. Others, and samples of these (`limit`), are not its benchmark."""

OF_THE_SUITE = ("suite", "tools", "tasks", "environment")
"""Fields of the protocol in which they differ by their nature. In all others they have to agree."""

OWN = ("benign_utility", "utility_under_attack", "targeted_asr", "targeted_asr_exposed")
"""Rates of the harness that are pooled too."""


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
    """By the metric's name: those that all of the suites have, and that keep AgentDojo's books."""
    own: dict[str, PooledRate] = {}
    """The harness's own of them, those of `OWN`."""

    @property
    def whole(self) -> bool:
        """Whether all of AgentDojo's suites are in it."""
        return len(self.suites) == len(SUITES)

    @property
    def extent(self) -> str:
        """The same in words."""
        return f"{'all' if self.whole else f'{len(self.suites)} of {len(SUITES)}'} suites, pooled"


def pool(cells: Iterable[CellEntry], estimates: Mapping[str, Estimate]) -> tuple[Pooled, ...]:
    """One result for each protocol that several of AgentDojo's suites have in common.

    Where a suite is there twice under one protocol, nobody can say which of the two is meant: none is pooled.

    Args:
        cells: of one model.
        estimates: `<suite>/<metric>` -> the rate.
    """
    groups: dict[tuple[int, tuple[tuple[str, str], ...]], list[CellEntry]] = {}
    for cell in cells:
        if _is_whole_suite(cell):
            groups.setdefault((cell.attempts, tuple(sorted(_shared(cell).items()))), []).append(cell)
    several = [group for group in groups.values() if len(group) > 1 and _distinct(group)]
    found = [
        _pool_group(sorted(group, key=lambda cell: cell.protocol["suite"]), estimates) for group in several
    ]
    return tuple(
        sorted((one for one in found if one.rates or one.own), key=lambda one: tuple(one.suites.values()))
    )


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


def _pool_group(group: Sequence[CellEntry], estimates: Mapping[str, Estimate]) -> Pooled:
    rates: dict[str, PooledRate] = {}
    own: dict[str, PooledRate] = {}
    names = ", ".join(cell.suite for cell in group)
    for metric in group[0].metrics:
        chosen = rates if metric.booking else own if metric.name in OWN else None
        if chosen is None or metric.kind != "rate" or not all(metric in cell.metrics for cell in group):
            continue
        # A denial of service has no rate of being hijacked, whatever its manifest announces.
        parts = [e for cell in group if (e := estimates.get(f"{cell.suite}/{metric.name}"))]
        if len(parts) == len(group) and all(part.n + part.missing or part.out_of for part in parts):
            found = stats.estimated(lambda missing, parts=parts: stats.stratified(parts))
            how = f"{found.method}; every attempt of {names} counts once"
            how = f"{how}; {metric.booking}" if metric.booking else how
            chosen[metric.name] = PooledRate(metric=metric, estimate=replace(found, method=how))
    return Pooled(
        protocol=_shared(group[0]),
        suites={cell.protocol["suite"]: cell.suite for cell in group},
        rates=rates,
        own=own,
    )
