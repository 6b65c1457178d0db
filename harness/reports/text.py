"""Numbers, and foreign text in Markdown, as a reader may see them."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from harness.analysis.missing import lacks_attempts, worst_case
from harness.hostile import one_line
from harness.types import Architecture, Estimate, Metric

_MARKDOWN = re.compile(
    r"([\\`*<>|~$#]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # within a word it is no markup
    r"|\[(?![-+0-9., ∞]+\](?![(\[:])))"  # an interval is no link
)


FEW_WARNINGS = 3
"""Texts that are written out of many."""


def warned_of(warnings: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What was warned of as metrics were computed, each text once with a metric that it was said of.

    Args:
        warnings: `<suite>/<metric>` -> texts.
    """
    texts: dict[str, list[str]] = {}
    for key, several in warnings.items():
        for text in several:
            texts.setdefault(text, []).append(key)
    for text, keys in [*texts.items()][:FEW_WARNINGS]:
        what = f"{len(keys):,} metrics such as {keys[0]}" if keys[1:] else keys[0]
        yield f"computing {what} gave the warning: {text}"
    if len(texts) > FEW_WARNINGS:
        yield f"computing metrics gave {len(texts) - FEW_WARNINGS:,} other warnings"


def run_of(created: str) -> str:
    """The day of a run, before what else is said of it; nothing where it is not told."""
    return f"run of {created[:10]}, " if created else ""


def count(value: int | None) -> str:
    """A number of tokens, for a table."""
    return "unknown" if value is None else f"{value:,}"


def escape_markdown(text: str) -> str:
    """One line that Markdown shows as it is: no markup, HTML, link or table cell comes out of it."""
    text = _MARKDOWN.sub(r"\\\1", one_line(text).replace("&", "&amp;")).replace("\\<", "&lt;")
    return text.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def is_share(metric: Metric) -> bool:
    """True if the metric is read as a percentage."""
    return metric.kind == "rate" or metric.bounds == (0.0, 1.0)


def arrow(metric: Metric) -> str:
    """Where better values lie, ` ↑` or ` ↓`; nothing where neither is better."""
    return {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]


def direction(metric: Metric) -> str:
    """The same in words."""
    if metric.higher_is_better is None:
        return "neither higher nor lower is better"
    return "higher is better" if metric.higher_is_better else "lower is better"


def format_value(value: float, metric: Metric) -> str:
    """A value without its unit: percentages with one decimal, other numbers with four digits."""
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:.4g}"


def format_interval(estimate: Estimate, metric: Metric) -> str:
    """Value and interval, `50.0% [35.2, 64.8]`. A value never stands without either."""
    if estimate.value is None:
        return f"never exposed (0 of {estimate.out_of})" if estimate.out_of else "not measured"
    unit = "%" if is_share(metric) else ""
    value = f"{format_value(estimate.value, metric)}{unit}"
    if estimate.low is None or estimate.high is None:
        return f"{value} [no interval]"
    return f"{value} [{format_value(estimate.low, metric)}, {format_value(estimate.high, metric)}]"


def format_count(estimate: Estimate, metric: Metric) -> str:
    """How much stands behind an estimate, `n=40 (2 missing)`.

    Where much is missing, what the number would be in the worst case: `n=11 (89 missing: 11.0 to 100.0)`.
    """
    if not estimate.missing:
        return f"n={estimate.n}"
    ends = worst_case(estimate, metric) if lacks_attempts(estimate) else None
    bounds = f": {format_value(ends[0], metric)} to {format_value(ends[1], metric)}" if ends else ""
    return f"n={estimate.n} ({estimate.missing} missing{bounds})"


def format_same_tasks(estimate: Estimate, metric: Metric) -> str:
    """The second interval of a rate, `these tasks [35.2, 64.8]`; nothing where there is one interval."""
    if estimate.same_tasks is None:
        return ""
    ends = (estimate.same_tasks.low, estimate.same_tasks.high)
    return f"these tasks [{', '.join(format_value(end, metric) for end in ends)}]"


def format_corrected(estimate: Estimate, metric: Metric) -> str:
    """What is left of a judged rate without the judge's errors, `corrected 12.0% [8.1, 17.2]`, if known."""
    if (corrected := estimate.corrected) is None:
        return ""
    value, low, high = (
        format_value(number, metric) for number in (corrected.value, corrected.low, corrected.high)
    )
    return f"corrected {value}% [{low}, {high}]"


def format_estimate(estimate: Estimate, metric: Metric) -> str:
    """`50.0% [35.2, 64.8] n=40 (2 missing)`."""
    return f"{format_interval(estimate, metric)} {format_count(estimate, metric)}"


def format_cell(estimate: Estimate, metric: Metric) -> str:
    """The same in two lines, as a narrow column of a table has it."""
    return f"{format_interval(estimate, metric)}\n{format_count(estimate, metric)}"


def format_ratio(estimate: Estimate) -> str:
    """A ratio with its interval, `3.2 [1.5, 6.9]`; a limit that does not exist is shown as infinite."""
    low, high = ("∞" if limit is None else f"{limit:.3g}" for limit in (estimate.low, estimate.high))
    return f"{'∞' if estimate.value is None else format(estimate.value, '.3g')} [{low}, {high}]"


def format_p(p: float) -> str:
    """A p-value with two digits, `<0.001` below that."""
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def format_size(count: float) -> str:
    """A count with three digits and a suffix: 30.5B, 1.2M."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g}{suffix}"
    return f"{count:.0f}"


def format_bytes(count: int) -> str:
    """Bytes in decimal units: 61.1 GB."""
    for factor, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def format_energy(joules: float | None) -> str:
    """Energy in watt hours: 1.25 Wh, 3.1 kWh."""
    if joules is None:
        return "not measured"
    hours = joules / 3600
    return f"{hours / 1000:.3g} kWh" if hours >= 1000 else f"{hours:.3g} Wh"


def format_type(architecture: Architecture | None) -> str:
    """Dense or MoE, with its experts."""
    if architecture is None:
        return "unknown"
    if architecture.dense:
        return "dense"
    if architecture.experts is None or architecture.experts_per_token is None:
        return "MoE"
    return f"MoE {architecture.experts_per_token}/{architecture.experts}"


def format_params(architecture: Architecture | None) -> str:
    """Total and active parameters, `30.5B/3.3B`."""
    if architecture is None:
        return "unknown"
    return f"{format_size(architecture.total_params)}/{format_size(architecture.active_params)}"


def rounded(value: float | None) -> float | None:
    """Six significant digits, None if there is no finite number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")
