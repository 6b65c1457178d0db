"""Numbers and hostile text."""

import time

import pytest

from harness.scorecards.text import (
    escape_markdown,
    format_bytes,
    format_estimate,
    format_ratio,
    format_size,
    one_line,
    rounded,
    strip_control,
)
from harness.types import Estimate, Metric

RATE = Metric(name="asr", higher_is_better=False, kind="rate")
MEAN = Metric(name="perplexity", higher_is_better=False)


def estimate(value: float | None, low: float | None, high: float | None, missing: int = 0) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=40, missing=missing, clusters=40, method="")


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Htop", "top"),
        ("\x1b]0;title\x07name", "name"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9cname", "name"),
        ("\x1bcreset", "reset"),
        ("\x1b(0line", "line"),
        ("a\x08\x07\x00\x7f\x85b", "ab"),
        ("over\rwritten", "overwritten"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("\u2066a\u2069\u200e\u200f\u061c\u200b\ufeff", "a"),
        ("a\u2028b\u2029c", "abc"),
        ("lone \ud800 half", "lone  half"),
        ("tag\U000e0041s", "tags"),
        ("unfinished \x1b]0;title", "unfinished 0;title"),
        ("kept: é 模型 🙂\n\tand lines", "kept: é 模型 🙂\n\tand lines"),
    ],
)
def test_strip_control(hostile: str, shown: str) -> None:
    assert strip_control(hostile) == shown
    assert strip_control(shown) == shown


def test_strip_control_leaves_no_escape_made_of_the_pieces() -> None:
    assert "\x1b" not in strip_control("\x1b\x1b[31m[31m\x1b]\x1b]0;x\x07")


@pytest.mark.parametrize("unit", ["\x9d", "\x1b]", "\x1b[", "\x1b[1;", "\x1bP0", "\x9b1"])
def test_strip_control_takes_linear_time(unit: str) -> None:
    started = time.perf_counter()
    strip_control(unit * 100_000)
    assert time.perf_counter() - started < 1.0


def test_one_line() -> None:
    assert one_line("a\n\n b\tc ") == "a b c"


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


def test_ratios_without_a_limit() -> None:
    assert format_ratio(estimate(3.214, 1.5, 6.9)) == "3.21 [1.5, 6.9]"
    assert format_ratio(estimate(None, 2.0, None)) == "∞ [2, ∞]"


def test_sizes() -> None:
    assert [format_size(n) for n in (12, 1_250_000, 30_532_122_624)] == ["12", "1.25M", "30.5B"]
    assert [format_bytes(n) for n in (12, 2_400_000, 61_100_000_000)] == ["12 B", "2.4 MB", "61.1 GB"]


def test_rounded() -> None:
    assert rounded(0.12345678) == 0.123457
    assert rounded(None) is rounded(float("nan")) is rounded(float("inf")) is None
