"""The samples on which two models differ: what stands behind the difference of their rates."""

from collections.abc import Collection

import numpy as np
import pyarrow.compute as pc

from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.columns import pool_factors
from harness.analysis.comparability import check_protocols
from harness.errors import UserError
from harness.types import Metric, Struct


class Flip(Struct):
    """A sample on which two models differ."""

    key: str
    """`<suite>/<metric>`, of the suite itself where it is a part of a benchmark."""
    sample: str
    a: float
    """Mean over the attempts at the sample."""
    b: float


class Flips(Struct):
    """Where two models differ, headline by headline."""

    a: str
    b: str
    pairs: dict[str, int]
    """`<suite>/<metric>` -> samples that were measured on both."""
    metrics: dict[str, Metric]
    flips: tuple[Flip, ...]
    unread: tuple[str, ...] = ()
    """Why the records of some cells cannot be read, a sentence each: they are not compared."""


def find_flips(a: ModelScorecard, b: ModelScorecard, allow: Collection[str] = ()) -> Flips:
    """The samples on which the headline metrics of two models differ, by suite, metric and sample.

    Raises:
        UserError: they have no headline metric in common, or a suite was run under different protocols.
    """
    check_protocols([a, b], allow)
    ours, theirs = _headlines(a), _headlines(b)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        names = f"{a.model.name} and {b.model.name}"
        raise UserError(f"{names} have no headline metric in common: run a suite on both")
    pairs = {key: _paired(key, ours[key], theirs[key]) for key in shared}
    return Flips(
        a=a.model.name,
        b=b.model.name,
        pairs={key: len(own) for key, own in pairs.items()},
        metrics={key: ours[key].metric for key in shared},
        flips=tuple(flip for own in pairs.values() for flip in own if flip.a != flip.b),
        unread=(*a.unread.values(), *b.unread.values()),
    )


def _headlines(card: ModelScorecard) -> dict[str, MetricResult]:
    """The headlines of every suite, those of a benchmark's suites in its place."""
    wholes = {name for name, suite in card.suites.items() if suite.members}
    own = {key: result for key, result in card.metrics.items() if result.suite not in wholes}
    return {
        key: result
        for key, result in {**own, **card.members}.items()
        if result.metric.headline and result.metric.kind != "corpus"
    }


def _paired(key: str, a: MetricResult, b: MetricResult) -> list[Flip]:
    """Every sample that was measured on both, by name."""
    joint = pool_factors([result.observations.factors["sample"] for result in (a, b)])
    split, size = len(a.observations.values), len(joint.levels)
    sides = []
    for result, codes in ((a, joint.codes[:split]), (b, joint.codes[split:])):
        counts = np.bincount(codes, minlength=size)
        sums = np.bincount(codes, np.asarray(result.observations.values), size)
        sides.append(np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0))
    both = np.flatnonzero(~np.isnan(sides[0]) & ~np.isnan(sides[1]))
    names = pc.take(joint.levels, both).to_pylist()
    flips = [
        Flip(key=key, sample=name, a=float(sides[0][i]), b=float(sides[1][i]))
        for name, i in zip(names, both, strict=True)
    ]
    return sorted(flips, key=lambda flip: flip.sample)
