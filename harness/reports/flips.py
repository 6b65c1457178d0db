"""The samples on which two models differ: what stands behind the difference of their rates."""

from collections.abc import Collection, Iterator

import numpy as np
import pyarrow.compute as pc

from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.columns import pool_factors
from harness.analysis.comparability import check_protocols
from harness.errors import UserError
from harness.reports import text
from harness.reports.objects import to_json
from harness.reports.render import markdown_table
from harness.reports.tables import Table
from harness.reports.terminal import Part, first_screen, sentence_lines, table_lines
from harness.types import Metric, Struct

FORMATS = ("table", "md", "json")


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
    found = {key: _paired(key, ours[key], theirs[key]) for key in shared}
    return Flips(
        a=a.model.name,
        b=b.model.name,
        pairs={key: len(own) for key, own in found.items()},
        metrics={key: ours[key].metric for key in shared},
        flips=tuple(flip for own in found.values() for flip in own if flip.a != flip.b),
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
    found = [
        Flip(key=key, sample=name, a=float(sides[0][i]), b=float(sides[1][i]))
        for name, i in zip(names, both, strict=True)
    ]
    return sorted(found, key=lambda flip: flip.sample)


def render_flips(
    flips: Flips, form: str, *, width: int = 100, color: bool = False, full: bool = False
) -> str:
    """The samples as text; a table is a first screen, or `full`.

    Raises:
        UserError: there is no such format.
    """
    said, table = list(_sentences(flips)), _table(flips)
    if form == "json":
        samples = [{"metric": f.key, "sample": f.sample, "a": f.a, "b": f.b} for f in flips.flips]
        return to_json({"a": flips.a, "b": flips.b, "pairs": flips.pairs, "flips": samples})
    if form == "md":
        listed = "\n".join(f"- {text.escape_markdown(sentence)}" for sentence in said)
        return f"{listed}\n\n{markdown_table(table)}\n"
    if form != "table":
        raise UserError(f"there is no format {form!r}: use one of {', '.join(FORMATS)}")
    if full:
        lines = [line for sentence in said for line in sentence_lines(sentence, width)]
        return "\n".join([*lines, "", *table_lines(table, width, bold=color)]) + "\n"
    parts = (Part(body=tuple(said)), Part(body=table))
    more = "More: --full. One of them as it went: harness show DIR --pair SUITE/SAMPLE --model MODEL."
    return "\n".join(first_screen(parts, width=width, more=more, bold=color)) + "\n"


def _sentences(flips: Flips) -> Iterator[str]:
    """How many samples went one way and how many the other."""
    for key, pairs in flips.pairs.items():
        own = [flip for flip in flips.flips if flip.key == key]
        higher = sum(flip.b > flip.a for flip in own)
        yield (
            f"{key}: {flips.b} is higher on {higher} and {flips.a} on {len(own) - higher} of {pairs} samples "
            "that both have."
        )


def _table(flips: Flips) -> Table:
    rows = tuple(
        (
            f"{flip.key.rpartition('/')[0]}/{flip.sample}",
            flip.key.rpartition("/")[2],
            text.format_value(flip.a, flips.metrics[flip.key]),
            text.format_value(flip.b, flips.metrics[flip.key]),
        )
        for flip in flips.flips
    )
    title = f"Samples on which {flips.b} and {flips.a} differ: {len(rows)}"
    return Table(title=title, header=("Suite and sample", "Metric", flips.a, flips.b), rows=rows)
