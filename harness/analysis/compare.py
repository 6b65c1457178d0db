"""Two models compared, paired by sample."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from harness import stats
from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.columns import Factor, Floats, Rows, pool_factors
from harness.analysis.comparability import (
    Differences,
    RunDifference,
    Setting,
    Weights,
    check_protocols,
    differences,
    odd_weights,
    run_differences,
)
from harness.analysis.derived import Observations
from harness.analysis.missing import misses_much
from harness.errors import UserError
from harness.suites.corpus import corpus
from harness.types import Estimate, Manifest, Metric, ModelEntry, Struct
from harness.warned import gathered


class MetricComparison(Struct):
    """One metric of two models."""

    metric: Metric
    a: Estimate
    b: Estimate
    difference: Estimate
    """b minus a, over the samples that were measured on both; where there are none, over all."""
    pairs: int
    """Samples that were measured on both."""
    unpaired: int
    """Samples that were measured on one alone."""
    p_value: float | None
    """Two-sided test of no difference, McNemar's mid-p for pass or fail; None where there is none."""
    test: str
    """Which test that is."""
    p_holm: float | None
    """Adjusted over the family of headline metrics; None outside of it."""
    mcnemar: stats.McNemar | None
    risk_ratio: Estimate | None
    """Rate of b over rate of a, for rates of being hijacked."""
    minimum_detectable: float | None
    """The true difference that this comparison finds with 80% power; it may be more than there can be."""
    largest: float | None
    """The largest difference that there can be, None where there is no limit."""
    warnings: tuple[str, ...] = ()
    """What was warned of as the metric of either model was computed, each text once."""


class SharedSamples(Struct):
    """Samples of a suite that two models have by the same name."""

    suite: str
    shared: int
    unlike: int
    """How many of them do not hold the same for both: question, prompt, attack or right answer."""


GuardrailKind = Literal["hijack", "judged", "conduct", "utility"]
"""What a headline says of a guardrail: that an agent is hijacked, what a judge saw in replies (compliance,
refusal), what else a model is willing to do, and what it does for its user on the same benchmarks."""


class GuardrailChange(Struct):
    """What a derivation changed in one headline of safety, or in the utility beside it."""

    key: str
    """`<suite>/<metric>`."""
    kind: GuardrailKind
    metric: Metric
    base: Estimate
    derived: Estimate
    change: Estimate
    """Derived less base, paired by sample."""


class ModelComparison(Struct):
    """What two models' records say about their difference."""

    a: ModelEntry
    b: ModelEntry
    metrics: dict[str, MetricComparison]
    """`<suite>/<metric>` -> comparison."""
    family: int
    """Tests that Holm's adjustment is for."""
    allowed: tuple[Setting, ...]
    """Protocol fields that differ and were allowed to."""
    differences: Differences
    weights: Weights | None
    runs: tuple[RunDifference, ...]
    """Where the models are of two."""
    owed: tuple[tuple[str, int], ...]
    """(model, attempts that it owes), of those that owe any."""
    alone: tuple[tuple[str, tuple[str, ...]], ...]
    """(model, suites that it alone has), of those that have any."""
    backwards: bool
    """Whether a says that it was derived from b."""
    contents: tuple[SharedSamples, ...]
    """By suite, where it is known what samples held."""
    unread: tuple[str, ...] = ()
    """Why the records of some cells cannot be read, a sentence each: they are not compared."""
    guardrails: tuple[GuardrailChange, ...] = ()
    """Where one of the two was derived from the other, whichever of them is a."""

    @property
    def derived(self) -> bool:
        """True if b says that it was derived from a: differences are what that changed."""
        return is_base(self.a, self.b)


class Paired(Struct):
    """Values of the samples that two models share."""

    a: Any
    """Shape (n,): mean over attempts of each sample; for a corpus metric the operands of its attempts."""
    b: Any
    clusters: dict[str, Any]
    """Factor -> shape (n,) codes."""
    unpaired: int


def is_base(base: ModelEntry, derived: ModelEntry) -> bool:
    """True if a model lists another among the weights that it was derived from."""
    return any(is_called(base, listed) for listed in derived.origin.base_models)


def is_called(model: ModelEntry, listed: str) -> bool:
    """True if a name in a list of base models is that of a model: its name, or its repository's."""
    if model.repository is not None and model.repository.lower() == listed.lower():
        return True
    return model.name.lower() in (listed.lower(), listed.lower().split("/")[-1])


Contents = Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]
"""Suite -> (sample -> content hash of model a, the same of model b)."""


def compare(
    a: ModelScorecard,
    b: ModelScorecard,
    allow: Collection[str] = (),
    contents: Contents | None = None,
    runs: tuple[Manifest, Manifest] | None = None,
) -> ModelComparison:
    """Model b against model a, metric by metric.

    Args:
        a: the model that is compared with.
        b: the model that is compared.
        allow: protocol fields that may differ.
        contents: what their samples held.
        runs: those that they are of, where there are two.

    Raises:
        UserError: they have no metric in common, or a suite was run under different protocols.
    """
    allowed = check_protocols([a, b], allow)
    keys = [key for key in a.metrics if key in b.metrics]
    if not keys:
        raise UserError(f"{a.model.name} and {b.model.name} have no suite in common: run one on both")
    metrics = {
        key: compare_metric(a.metrics[key], b.metrics[key], (a.model.name, b.model.name)) for key in keys
    }
    adjusted = _adjust(metrics)
    return ModelComparison(
        a=a.model,
        b=b.model,
        metrics=adjusted,
        family=sum(metric.p_holm is not None for metric in adjusted.values()),
        allowed=allowed,
        differences=differences([a, b]),
        weights=odd_weights(a.model, b.model),
        runs=tuple(run_differences(*runs)) if runs else (),
        owed=tuple(
            (card.model.name, sum(suite.owed for suite in card.suites.values()))
            for card in (a, b)
            if not card.complete
        ),
        alone=tuple(
            (card.model.name, tuple(suites))
            for card, other in ((a, b), (b, a))
            if (suites := sorted(card.suites.keys() - other.suites.keys()))
        ),
        backwards=is_base(b.model, a.model),
        contents=tuple(_shared_samples(contents or {})),
        unread=(*a.unread.values(), *b.unread.values()),
        guardrails=guardrail_changes(a, b) if is_base(a.model, b.model) else guardrail_changes(b, a),
    )


def guardrail_changes(base: ModelScorecard, derived: ModelScorecard) -> tuple[GuardrailChange, ...]:
    """The headlines of safety that both have, by kind; nothing where it was not derived from that base."""
    if not is_base(base.model, derived.model):
        return ()
    both = [result for key, result in base.metrics.items() if key in derived.metrics]
    guarded = {r.suite for r in both if r.metric.hijack or r.metric.judged}
    guarded |= {name for name, suite in base.suites.items() if suite.tool_use}
    guardrails = [(kind, result) for result in both if (kind := _guardrail(result, guarded))]
    order = get_args(GuardrailKind)
    return tuple(
        GuardrailChange(
            key=key,
            kind=kind,
            metric=before.metric,
            base=before.estimate,
            derived=after.estimate,
            change=difference(before, after),
        )
        for kind, before in sorted(guardrails, key=lambda one: order.index(one[0]))
        for key in [f"{before.suite}/{before.metric.name}"]
        for after in [derived.metrics[key]]
    )


def _guardrail(result: MetricResult, guarded: Collection[str]) -> GuardrailKind | None:
    """Args: guarded: suites that measure safety, or offer tools."""
    metric = result.metric
    if not metric.headline:
        return None
    if metric.hijack:
        return "hijack"
    if metric.judged:
        return "judged"
    if result.suite not in guarded or metric.bounds is None:
        return None
    return "utility" if metric.higher_is_better else "conduct"


def _shared_samples(contents: Contents) -> Iterator[SharedSamples]:
    for suite, (ours, theirs) in contents.items():
        shared = ours.keys() & theirs.keys()
        unlike = sum(ours[sample] != theirs[sample] for sample in shared)
        yield SharedSamples(suite=suite, shared=len(shared), unlike=unlike)


def _adjust(comparisons: Mapping[str, MetricComparison]) -> dict[str, MetricComparison]:
    """With Holm's p-values over headline metrics; over all of ours where no headline metric was tested."""
    tested = {
        key: c.p_value
        for key, c in comparisons.items()
        if c.p_value is not None and not c.metric.booking and not (misses_much(c.a) or misses_much(c.b))
    }
    family = [key for key in tested if comparisons[key].metric.headline] or list(tested)
    adjusted = dict(zip(family, stats.holm([tested[key] for key in family]), strict=True))
    return {key: msgspec.structs.replace(c, p_holm=adjusted.get(key)) for key, c in comparisons.items()}


def compare_metric(a: MetricResult, b: MetricResult, names: tuple[str, str]) -> MetricComparison:
    """One metric of model b against model a, whose names are given."""
    paired = _pair(a, b)
    pairs = len(paired.a)
    test = _attempted(a, b, paired)
    width = test.standard_error
    mcnemar = _mcnemar(a.metric, paired)
    largest = _largest(a.metric)
    return MetricComparison(
        metric=a.metric,
        a=a.estimate,
        b=b.estimate,
        difference=test.estimate,
        pairs=pairs,
        unpaired=paired.unpaired,
        p_value=test.p_value if mcnemar is None else mcnemar.mid_p,
        test=_test_name(test) if mcnemar is None else "McNemar's mid-p test",
        p_holm=None,
        mcnemar=mcnemar,
        risk_ratio=agreeing(risk_ratio(b, a, names[::-1]), test.estimate)
        if a.metric.hijack and a.metric.kind == "rate"
        else None,
        minimum_detectable=None
        if width is None
        else stats.minimum_detectable_difference(width, test.degrees_of_freedom or None),
        largest=None if math.isinf(largest) else largest,
        warnings=tuple(dict.fromkeys((*a.warnings, *b.warnings))),
    )


def difference(a: MetricResult, b: MetricResult) -> Estimate:
    """One metric of model b minus that of model a, paired by sample: what `compare_metric` says of it."""
    return _attempted(a, b, _pair(a, b)).estimate


def _pair(a: MetricResult, b: MetricResult) -> Paired:
    return pair(a.observations, b.observations, corpus=a.metric.kind == "corpus")


def _attempted(a: MetricResult, b: MetricResult, paired: Paired) -> stats.Difference:
    return stats.attempted(
        lambda: _test(a, b, paired),
        lambda none: stats.Difference(estimate=none, standard_error=None, degrees_of_freedom=0, p_value=None),
        missing=a.estimate.missing + b.estimate.missing,
    )


def _largest(metric: Metric) -> float:
    """The largest difference that a metric can have."""
    floor, ceiling = metric.bounds or ((0.0, 1.0) if metric.kind == "rate" else (-math.inf, math.inf))
    return ceiling - floor


def _test_name(test: stats.Difference) -> str:
    if test.p_value is None:
        return ""
    return f"t test of paired differences, {test.degrees_of_freedom} degrees of freedom"


def _test(a: MetricResult, b: MetricResult, paired: Paired) -> stats.Difference:
    """The difference b - a with its test: paired if there are pairs, from both intervals if not."""
    missing = a.estimate.missing + b.estimate.missing
    if not len(paired.a):
        return stats.unpaired_difference(a.estimate, b.estimate)
    if a.metric.kind != "corpus":
        return stats.paired_difference(
            paired.a, paired.b, paired.clusters, missing=missing, largest=_largest(a.metric)
        )
    with gathered():  # the same operands as each model's own, of which the cards tell what was warned of
        change = _corpus_change(a.metric.aggregation, paired, missing)
    return stats.Difference(estimate=change, standard_error=None, degrees_of_freedom=0, p_value=None)


def _corpus_change(aggregation: str, paired: Paired, missing: int) -> Estimate:
    """The change of a corpus metric over pairs of samples, each with the operands of its attempts."""
    sides = []
    for groups in (paired.a, paired.b):
        ends = np.cumsum([len(operands) for operands in groups])
        rows = np.split(np.arange(ends[-1]), ends[:-1])
        sides.append((corpus(aggregation, [one for operands in groups for one in operands]), rows))
    (before, rows_before), (after, rows_after) = sides

    def of_rows(pairs: Rows) -> float:
        first = before.of_rows(np.concatenate([rows_before[i] for i in pairs]))
        return after.of_rows(np.concatenate([rows_after[i] for i in pairs])) - first

    return stats.bootstrap(
        list(zip(paired.a, paired.b, strict=True)),
        lambda _: after.value() - before.value(),
        paired.clusters,
        missing=missing,
        resamples=min(before.resamples, after.resamples),
        of_rows=of_rows,
    )


def _mcnemar(metric: Metric, paired: Paired) -> stats.McNemar | None:
    """McNemar's tests where every pair is two single outcomes and pairs share no cluster."""
    if metric.kind != "rate" or not len(paired.a) or stats.crossed_factors(paired.clusters, len(paired.a)):
        return None
    if not np.isin([*paired.a, *paired.b], (0.0, 1.0)).all():
        return None
    return stats.mcnemar(paired.a, paired.b)


def pair(a: Observations, b: Observations, *, corpus: bool) -> Paired:
    """The samples that were measured on both, in order, with the factors of a."""
    sample_a, sample_b = a.factors["sample"], b.factors["sample"]
    pooled = pool_factors([sample_a, sample_b])
    ours, theirs = np.split(pooled.codes.astype(np.intp), [sample_a.codes.size])
    place = np.full(len(pooled.levels), -1)
    place[ours[::-1]] = np.arange(ours.size)[::-1]  # of equal ones the last that is written stays: the first
    there = np.bincount(theirs, minlength=place.size) > 0
    both = np.flatnonzero((place >= 0) & there)
    gather = _operands if corpus else _means
    first = place[both]
    return Paired(
        a=gather(a.values, ours, both),
        b=gather(b.values, theirs, both),
        clusters={name: factor.codes[first] for name, factor in a.factors.items()},
        unpaired=int(np.count_nonzero((place >= 0) ^ there)),
    )


def _means(values: Any, codes: Rows, chosen: Rows) -> Floats:
    """Mean over the attempts of each chosen sample."""
    size = int(max(codes.max(initial=-1), chosen.max(initial=-1))) + 1
    means: Floats = np.bincount(codes, values, size)[chosen] / np.bincount(codes, minlength=size)[chosen]
    return means


def _operands(values: Any, codes: Rows, chosen: Rows) -> list[list[Any]]:
    """The operands of the attempts of each chosen sample."""
    operands: dict[int, list[Any]] = {int(code): [] for code in chosen}
    for code, value in zip(codes.tolist(), values, strict=True):
        if code in operands:
            operands[code].append(value)
    return list(operands.values())


def risk_ratio(a: MetricResult, b: MetricResult, names: tuple[str, str]) -> Estimate:
    """Rate of a over rate of b, clustered over the tasks that they share."""
    missing = a.estimate.missing + b.estimate.missing
    x, y = a.observations, b.observations
    ours, theirs = shared_clusters([x], [y])
    return stats.estimated(
        stats.shared_risk_ratio,
        np.asarray(x.values),
        np.asarray(y.values),
        ours,
        theirs,
        names,
        missing=missing,
    )


def agreeing(ratio: Estimate, difference: Estimate) -> Estimate:
    """A ratio whose interval excludes 1 exactly where that of the difference of the same rates excludes 0.

    The two are approximated each in its own way, so that one in ten pairs of intervals disagreed at the
    margin. Whether there is a difference is the difference's to say: the end of the ratio's is moved to 1.
    """
    low, high = ratio.low, ratio.high
    if difference.low is None or difference.high is None or (low is None and high is None):
        return ratio
    more, less = math.nextafter(1, 2), math.nextafter(1, 0)
    if difference.low > 0:
        low = max(low or 0.0, more)
    elif difference.high < 0:
        high = less if high is None else min(high, less)
    else:
        low = None if low is None else min(low, 1.0)
        high = None if high is None else max(high, 1.0)
    if (low, high) == (ratio.low, ratio.high):
        return ratio
    method = f"{ratio.method}; ends where the difference does"
    return msgspec.structs.replace(ratio, low=low, high=high, method=method)


def shared_clusters(
    ours: Sequence[Observations], theirs: Sequence[Observations]
) -> tuple[stats.Clusters, stats.Clusters]:
    """Factors of two groups of observations, in which equal levels have equal numbers."""
    parts = [*ours, *theirs]
    split = sum(len(part.values) for part in ours)
    names = sorted({name for part in parts for name in part.factors})
    codes = {name: pool_factors([_factor(part, name) for part in parts]).codes for name in names}
    return {n: c[:split] for n, c in codes.items()}, {n: c[split:] for n, c in codes.items()}


def _factor(part: Observations, name: str) -> Factor:
    """Levels of a factor; a model whose samples lack it shares none."""
    sample = part.factors["sample"]
    return (part.factors.get(name) or sample.none()).or_own(sample)
