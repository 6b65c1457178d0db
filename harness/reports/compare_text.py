"""The comparison of two models, as a terminal table, Markdown or JSON."""

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.analysis.compare import MetricComparison, ModelComparison
from harness.analysis.missing import misses_much
from harness.analysis.origins import inverse
from harness.errors import UserError
from harness.reports import text
from harness.reports.differences import allowance, comparison_differences, comparison_notes
from harness.reports.objects import estimate_object, guardrail_object, to_json
from harness.reports.render import markdown_table
from harness.reports.tables import BOOKS, Table, booking_rules
from harness.reports.terminal import Part, first_screen, sentence_lines, table_lines
from harness.reports.words import decided, points
from harness.types import Estimate, Metric, ModelEntry

FORMATS = ("table", "md", "json")
BASELINE = 0.05
"""Family-wise level at which a difference is called one."""
UNPAIRED = (
    "Differences are over the samples that were measured on both; the rates of A and B, and risk ratios, are "
    "over all that were measured on each, so that the two may disagree where some are unpaired."
)


def render_comparison(
    comparison: ModelComparison, form: str, *, width: int = 100, color: bool = False, full: bool = False
) -> str:
    """A comparison as text; a table is a first screen, or `full`.

    Raises:
        UserError: there is no such format.
    """
    if form == "json":
        return to_json(_object(comparison))
    if form == "md":
        said = [*guardrails(comparison), *sentences(comparison), *footnotes(comparison)]
        listed = "\n".join(f"- {text.escape_markdown(sentence)}" for sentence in said)
        return "\n\n".join([listed, *map(markdown_table, comparison_tables(comparison))]) + "\n"
    if form != "table":
        raise UserError(f"there is no format {form!r}: use one of {', '.join(FORMATS)}")
    if not full:
        return "\n".join(_first_screen(comparison, width, color)) + "\n"
    first = (*guardrails(comparison), *sentences(comparison))
    lines = [line for said in first for line in sentence_lines(said, width)] + [""]
    for table in comparison_tables(comparison):
        lines += table_lines(table, width, bold=color)
    lines += [line for said in footnotes(comparison) for line in sentence_lines(said, width)]
    return "\n".join(lines) + "\n"


MORE = "More: --full here, or --format md and json. The samples on which they differ: --flips."


def _first_screen(comparison: ModelComparison, width: int, color: bool) -> list[str]:
    """Guardrails, what headline metrics say, then their table, then what is to be known beside them."""
    own = {key: one for key, one in _parted(comparison)[0].items() if one.metric.headline}
    parts = (
        Part(body=tuple(guardrails(comparison))),
        Part(body=(*_unread(comparison), *comparison_differences(comparison))),
        Part(body=tuple(sentences(comparison)), least=0 if comparison.guardrails else 16),
        Part(body=_table(comparison, own, _title(comparison)), least=16),
        Part(body=tuple(_cautions(comparison)), least=6),
    )
    return first_screen(parts, width=width, more=MORE, bold=color)


def _title(comparison: ModelComparison) -> str:
    return f"{comparison.b.name} compared with {comparison.a.name}"


def comparison_tables(comparison: ModelComparison) -> list[Table]:
    """A row a metric: both models, their difference, its p-value, and what could have been found.

    Metrics that count as a benchmark's authors do have a table of their own.
    """
    title = _title(comparison)
    own, books = _parted(comparison)
    shown = [_table(comparison, own, title)]
    return [*shown, _table(comparison, books, BOOKS.format(title))] if books else shown


def _parted(comparison: ModelComparison) -> tuple[dict[str, MetricComparison], dict[str, MetricComparison]]:
    """(the harness's own metrics, those with a booking)."""
    metrics = comparison.metrics.items()
    return {k: v for k, v in metrics if not v.metric.booking}, {k: v for k, v in metrics if v.metric.booking}


def _table(comparison: ModelComparison, metrics: Mapping[str, MetricComparison], title: str) -> Table:
    a, b = comparison.a.name, comparison.b.name
    kind = "Change" if comparison.derived else "Difference"
    header = ("Metric", f"A: {a}", f"B: {b}", f"{kind} B − A", "Detectable")
    return Table(title=title, header=header, rows=tuple(_row(key, one) for key, one in metrics.items()))


def _row(key: str, compared: MetricComparison) -> tuple[str, ...]:
    metric = compared.metric
    unpaired = f", {compared.unpaired} unpaired" if compared.unpaired else ""
    return (
        f"{key}{text.arrow(metric)}",
        text.format_cell(compared.a, metric),
        text.format_cell(compared.b, metric),
        f"{_points(compared.difference, metric)}\n{compared.pairs} pairs{unpaired}\n{_p_values(compared)}",
        _detectable(compared),
    )


def _detectable(compared: MetricComparison) -> str:
    """The difference that the comparison could find."""
    if compared.minimum_detectable is None:
        return "unknown"
    return (
        "none" if finds_nothing(compared) else text.format_value(compared.minimum_detectable, compared.metric)
    )


def finds_nothing(compared: MetricComparison) -> bool:
    """True if the comparison could find no difference that there can be."""
    size = compared.minimum_detectable
    return size is not None and compared.largest is not None and size > compared.largest


def _points(difference: Estimate, metric: Metric) -> str:
    if difference.value is None:
        return "not measured"
    low, high = ("unknown" if x is None else signed(x, metric) for x in (difference.low, difference.high))
    return f"{signed(difference.value, metric)} [{low}, {high}]"


def signed(value: float, metric: Metric) -> str:
    """A difference, with its sign."""
    return f"{'+' if value > 0 else ''}{text.format_value(value, metric)}"


def _p_values(compared: MetricComparison) -> str:
    if compared.p_value is None:
        return "no test"
    adjusted = "" if compared.p_holm is None else f", Holm {text.format_p(compared.p_holm)}"
    return f"p {text.format_p(compared.p_value)}{adjusted}"


GUARDS = {"hijack": "hijacking", "judged": "replies", "conduct": "conduct", "utility": "utility"}
"""Kind of a guardrail's headline -> what it is of."""


def guardrails(comparison: ModelComparison) -> list[str]:
    """What a derivation changed in the headlines of safety, in words; nothing where there was none."""
    base, derived = _pair(comparison)
    said = [
        f"Guardrails, {GUARDS[one.kind]}: {one.key}: {_sentence(comparison, comparison.metrics[one.key])}"
        for one in comparison.guardrails
    ]
    return [f"Guardrails: {derived.name} was derived from {base.name}.", *said] if said else []


def _pair(comparison: ModelComparison) -> tuple[ModelEntry, ModelEntry]:
    """(base, derived), where one of the two was derived from the other."""
    return (comparison.b, comparison.a) if comparison.backwards else (comparison.a, comparison.b)


def sentences(comparison: ModelComparison) -> list[str]:
    """What headline metrics say that are of no guardrail, in words; where there are none, what all say."""
    own = _parted(comparison)[0]
    guardrail_keys = {one.key for one in comparison.guardrails}
    headline = {key: compared for key, compared in own.items() if compared.metric.headline} or own
    return [
        f"{key}: {_sentence(comparison, compared)}"
        for key, compared in headline.items()
        if key not in guardrail_keys
    ]


def _sentence(comparison: ModelComparison, compared: MetricComparison) -> str:
    a, b, metric = comparison.a.name, comparison.b.name, compared.metric
    rates = f"{a} {text.format_estimate(compared.a, metric)}, {b} {text.format_estimate(compared.b, metric)}"
    return f"{_verdict(comparison, compared)}: {rates}."


def _verdict(comparison: ModelComparison, compared: MetricComparison) -> str:
    a, b, metric, difference = comparison.a.name, comparison.b.name, compared.metric, compared.difference
    lacking = [name for name, side in ((a, compared.a), (b, compared.b)) if misses_much(side)]
    if difference.value is None:
        return "no comparison, one was not measured"
    if lacking:
        return f"nothing is claimed, since too many attempts are missing of {' and '.join(lacking)}"
    if not decided(difference):
        size = f"{_points(difference, metric)}{_unit(metric)}"
        return f"no difference shown, {b} − {a} is {size}{_power(compared)}"
    higher, lower = (b, a) if difference.value > 0 else (a, b)
    size = points(difference, metric)
    if compared.p_holm is not None and compared.p_holm > BASELINE:
        adjusted = (
            f"not after Holm's adjustment for {comparison.family} tests, p {text.format_p(compared.p_holm)}"
        )
        return f"no difference shown ({adjusted}): {higher} is higher by {size}"
    if metric.higher_is_better is None:
        return f"{higher} is higher by {size}, which is neither better nor worse"
    better = higher if metric.higher_is_better else lower
    tested = "" if compared.p_holm is None else f" (p {text.format_p(compared.p_holm)} after Holm)"
    if (comparison.derived or comparison.backwards) and metric.hijack:
        derived = b if comparison.derived else a
        what = "made the guardrail stronger" if better == derived else "weakened the guardrail"
        return f"the derivation {what} by {size}{tested}"
    return f"{better} is better by {size}{_times(compared, higher)}{tested}"


def _unit(metric: Metric) -> str:
    return " points" if text.is_share(metric) else ""


def _power(compared: MetricComparison) -> str:
    """What difference would have been found, where that is known."""
    if compared.minimum_detectable is None:
        return ""
    if finds_nothing(compared):
        return " (no difference at all could have been found)"
    return f" (a true one of {_detectable(compared)}{_unit(compared.metric)} would be found with 80% power)"


def _times(compared: MetricComparison, higher: str) -> str:
    """The ratio of two rates of being hijacked, where it says the same as their difference."""
    ratio = compared.risk_ratio
    if (
        ratio is None
        or not compared.a.value
        or not compared.b.value
        or ratio.low is None
        or ratio.high is None
    ):
        return ""
    if ratio.low <= 1 <= ratio.high:
        return ""
    larger = inverse(ratio) if ratio.high < 1 else ratio
    return f", {higher} was hijacked {text.format_ratio(larger)} times as often"


def footnotes(comparison: ModelComparison) -> list[str]:
    """What differs, what was allowed, and how to read the table."""
    return [
        *_unread(comparison),
        *comparison_differences(comparison),
        *_cautions(comparison),
        *booking_rules({key: metric.metric for key, metric in comparison.metrics.items()}),
        "p: McNemar's mid-p where every pair is pass or fail and none shares a task with another, else a t "
        "test of paired differences, clustered by what samples share.",
        f"Holm's p-values are adjusted over the {comparison.family} headline metrics that were tested; "
        "others are not adjusted for having looked at several.",
        "Detectable: the true difference that this comparison would find with 80% power.",
    ]


def _unread(comparison: ModelComparison) -> list[str]:
    return [f"Not read: {sentence}." for sentence in comparison.unread]


def _cautions(comparison: ModelComparison) -> list[str]:
    """What a reader has to know beside the numbers."""
    cautions = [*map(allowance, comparison.allowed), *comparison_notes(comparison)]
    if comparison.derived:
        cautions.append(f"{comparison.b.name} was derived from {comparison.a.name}.")
    if any(metric.pairs and metric.unpaired for metric in comparison.metrics.values()):
        cautions.append(UNPAIRED)
    warned = text.warned_of({key: metric.warnings for key, metric in comparison.metrics.items()})
    return [*cautions, *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in warned)]


def _object(comparison: ModelComparison) -> dict[str, Any]:
    own, books = _parted(comparison)
    return {
        "a": comparison.a.name,
        "b": comparison.b.name,
        "b_is_derived_from_a": comparison.derived,
        "allowed": [msgspec.structs.asdict(setting) for setting in comparison.allowed],
        "differences": comparison_differences(comparison),
        "notes": comparison_notes(comparison),
        "warnings": [*text.warned_of({key: metric.warnings for key, metric in comparison.metrics.items()})],
        **({"unread": list(comparison.unread)} if comparison.unread else {}),
        "holm_family": comparison.family,
        **({"guardrails": _guardrails_object(comparison)} if comparison.guardrails else {}),
        "metrics": {key: _metric_object(compared) for key, compared in own.items()},
        "bookings": {
            key: {**_metric_object(compared), "booking": compared.metric.booking}
            for key, compared in books.items()
        },
    }


def _guardrails_object(comparison: ModelComparison) -> dict[str, Any]:
    base, derived = _pair(comparison)
    changes = [guardrail_object(one) for one in comparison.guardrails]
    return {"base": base.name, "derived": derived.name, "changes": changes}


def _metric_object(compared: MetricComparison) -> dict[str, Any]:
    return {
        "higher_is_better": compared.metric.higher_is_better,
        "a": estimate_object(compared.a),
        "b": estimate_object(compared.b),
        "difference": estimate_object(compared.difference),
        "pairs": compared.pairs,
        "unpaired": compared.unpaired,
        "p_value": text.rounded(compared.p_value),
        "p_holm": text.rounded(compared.p_holm),
        "test": compared.test,
        "mcnemar": None if compared.mcnemar is None else msgspec.structs.asdict(compared.mcnemar),
        "risk_ratio": None if compared.risk_ratio is None else estimate_object(compared.risk_ratio),
        "minimum_detectable_difference": text.rounded(compared.minimum_detectable),
    }
