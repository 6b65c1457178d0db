"""Numbers and foreign text as they are shown."""

import msgspec
import pytest

from harness.reports.text import (
    arrow,
    direction,
    escape_markdown,
    format_bytes,
    format_estimate,
    format_ratio,
    format_size,
    rounded,
)
from harness.types import Estimate, Metric

RATE = Metric(name="asr", higher_is_better=False, kind="rate")
MEAN = Metric(name="perplexity", higher_is_better=False)


def estimate(value: float | None, low: float | None, high: float | None, missing: int = 0) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=40, missing=missing, clusters=40, method="")


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a|b", r"a\|b"),
        ("[x](http://y)", r"\[x](http&#58;//y)"),
        ("![x][y]", r"!\[x]\[y]"),
        ("<img src=x>", r"&lt;img src=x\>"),
        ("*b* _i_ `c` ~s~ $m$", r"\*b\* \_i\_ \`c\` \~s\~ \$m\$"),
        ("targeted_asr", "targeted_asr"),
        ("50.0% [35.2, 64.8]", "50.0% [35.2, 64.8]"),
        ("[1](x)", r"\[1](x)"),
        ("&lt;", "&amp;lt;"),
        (r"a\<b", r"a\\&lt;b"),
        ("two\nlines", "two lines"),
        ("me@x.org www.x.org", "me&#64;x.org www&#46;x.org"),
    ],
)
def test_escape_markdown(hostile: str, shown: str) -> None:
    assert escape_markdown(hostile) == shown


def test_estimates_are_never_bare() -> None:
    assert format_estimate(estimate(0.5, 0.352, 0.648, 2), RATE) == "50.0% [35.2, 64.8] n=40 (2 missing)"
    assert format_estimate(estimate(0.0, 0.0, 0.0876), RATE) == "0.0% [0.0, 8.8] n=40"
    assert format_estimate(estimate(12.3456, 11.0, 14.0), MEAN) == "12.35 [11, 14] n=40"
    assert format_estimate(estimate(12.3456, None, None), MEAN) == "12.35 [no interval] n=40"
    assert format_estimate(estimate(None, None, None, 3), RATE) == "not measured n=40 (3 missing)"
    missed = msgspec.structs.replace(estimate(0.5, 0.35, 0.65, 10), worst_case=None)
    assert format_estimate(missed, RATE) == "50.0% [35.0, 65.0] n=40 (10 missing: 40.0 to 60.0)"


@pytest.mark.parametrize(
    ("better", "sign", "words"),
    [
        (True, " ↑", "higher is better"),
        (False, " ↓", "lower is better"),
        (None, "", "neither higher nor lower is better"),
    ],
)
def test_a_metric_says_which_way_is_better_if_any_is(better: bool | None, sign: str, words: str) -> None:
    metric = Metric(name="x", higher_is_better=better)
    assert (arrow(metric), direction(metric)) == (sign, words)


def test_ratios_without_a_limit() -> None:
    assert format_ratio(estimate(3.214, 1.5, 6.9)) == "3.21 [1.5, 6.9]"
    assert format_ratio(estimate(None, 2.0, None)) == "∞ [2, ∞]"


def test_sizes() -> None:
    assert [format_size(n) for n in (12, 1_250_000, 30_532_122_624)] == ["12", "1.25M", "30.5B"]
    assert [format_bytes(n) for n in (12, 2_400_000, 61_100_000_000)] == ["12 B", "2.4 MB", "61.1 GB"]


def test_rounded() -> None:
    assert rounded(0.12345678) == 0.123457
    assert rounded(None) is rounded(float("nan")) is rounded(float("inf")) is None
