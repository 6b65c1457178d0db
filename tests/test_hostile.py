"""What a model wrote, made harmless."""

import sys
import time

import pytest

from harness.hostile import one_line, strip_control


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
    started = time.thread_time()
    strip_control(unit * 100_000)
    assert time.thread_time() - started < 60, "0.1 s where it is linear, hours where it is not"


def test_what_counts_as_printable_is_kept() -> None:
    printable = "".join(char for char in map(chr, range(sys.maxunicode + 1)) if char.isprintable())
    assert strip_control(printable + "\n") == printable + "\n"


def test_one_line() -> None:
    assert one_line("a\n\n b\tc ") == "a b c"
