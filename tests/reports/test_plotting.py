"""Marks of origins, ticks of axes, and labels that lie on nothing."""

import pytest

from harness.reports.plotting import (
    COLORS,
    GAP,
    HEIGHT,
    KNOWN,
    LETTER,
    LINE,
    WIDTHS,
    Place,
    labelled,
    logarithmic_axis,
    logarithmic_ticks,
    places,
    point,
    round_axis,
    round_ticks,
    share_axis,
    short,
    sign,
    signs,
    tick_label,
)


def test_origins_differ_in_colour_and_in_shape_as_far_as_both_reach() -> None:
    assert len({one.color for one in signs(KNOWN).values()}) == COLORS
    some = ["US", "XA", "XB", "not stated", "DE", "IN", "CN", "QA"]
    found = signs(some)
    assert len({one.color for one in found.values()}) == len({one.shape for one in found.values()}) == 8
    many = [f"{a}{b}" for a in "ABCDEFGH" for b in "ABCDEFGH"]
    assert len(set(signs(many).values())) == 64
    assert len({sign(number) for number in range(64)}) == 64 and sign(64) == sign(0)
    assert len(signs([*many, "ZZ"])) == 65


def test_an_origin_is_drawn_alike_on_every_page_unless_another_is_drawn_so_there() -> None:
    assert signs(["US", "XA"])["US"] == signs(["CN", "US"])["US"] == signs(["US"])["US"]
    assert signs(["XA", "US", "CN"]) == signs(["CN", "XA", "US", "US"])
    alone = {origin: signs([origin])[origin] for origin in ("XA", "XB", "DE", "BR")}
    assert {o: s for o, s in signs(alone).items() if list(alone.values()).count(s) == 1} == {
        o: s for o, s in alone.items() if list(alone.values()).count(s) == 1
    }


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((0.0, 0.0105), [0, 0.005, 0.01, 0.015]),
        ((0.0, 0.00263), [0, 0.001, 0.002, 0.003]),
        ((-3.2, 7.0), [-5, 0, 5, 10]),
        ((0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((0.0, 1e-9), [0, 2e-10, 4e-10, 6e-10, 8e-10, 1e-9]),
        ((0.0, 123456.0), [0, 50000, 100000, 150000]),
    ],
)
def test_ticks_are_round_and_hold_their_values(ends: tuple[float, float], ticks: list[float]) -> None:
    assert round_ticks(*ends) == ticks


@pytest.mark.parametrize(
    ("values", "ends"),
    [([0.0092, 0.0102], (0.005, 0.02)), ([525e3, 625e3], (5e5, 1e6)), ([1.0, 9e9], (1, 1e10))],
)
def test_a_scale_by_logarithms_holds_its_values_and_little_more(
    values: list[float], ends: tuple[float, float]
) -> None:
    ticks = logarithmic_ticks(min(values), max(values))
    assert (ticks[0], ticks[-1]) == ends
    assert 2 <= len(ticks) <= 12 and ticks == sorted(set(ticks))


def test_a_tick_is_written_without_an_exponent_and_without_what_binary_numbers_add() -> None:
    said = [tick_label(v) for v in (*round_ticks(0, 0.00002), 0.1 + 0.2, 1500.0, 0.0)]
    assert said == ["0", "0.000005", "0.00001", "0.000015", "0.00002", "0.3", "1,500", "0"]


POINTS = [(300.0, 200.0, "aster-dense"), (300.0, 200.0, "borea-moe"), (330.0, 205.0, "cedar")]


@pytest.mark.parametrize("stretch", [1.0, 1.3, 4.0])
def test_labels_lie_on_no_point_and_on_no_other_label_however_wide_the_plot_becomes(stretch: float) -> None:
    """Two models at one place, and one whose label would lie on its neighbour."""
    labels = places([*POINTS, (20.0, 20.0, "")], (0, 0, 600, 400))
    assert labels[3] is None
    boxes = []
    for (at, _, name), label in zip(POINTS, labels, strict=False):
        assert label is not None
        assert label.x == at + GAP or label.x == at - GAP
        edge = label.x - at + stretch * at
        left = edge if label.anchor == "start" else edge - LETTER * len(name)
        boxes.append((left, label.y - 10, left + LETTER * len(name), label.y + 2))
    for i, one in enumerate(boxes):
        for x, y, _ in POINTS:
            assert not (one[0] < stretch * x + 5 and stretch * x - 5 < one[2] and one[1] < y < one[3])
        for other in boxes[:i]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_label_stands_on_no_line_where_there_is_another_place() -> None:
    (own,) = places([(300.0, 200.0, "aster")], (0, 0, 600, 400), [(250, 200, 500, 200)])
    assert own is not None and own.y == 200 + 13 + 4
    across = [(0.0, float(y), 600.0, float(y)) for y in range(0, 400, 5)]
    assert places([(300.0, 200.0, "aster")], (0, 0, 600, 400), across) == [Place(309.0, 204.0, "start")]


@pytest.mark.parametrize("width", list(WIDTHS))
def test_a_point_lies_where_its_numbers_are_and_its_label_beside_it(width: str) -> None:
    across, up = round_axis("Cost", [0.0023, 0.0041]), share_axis("Hijacked")
    assert (across.low, across.high) == (0.0, 0.005) and across.ticks[1] == (0.001, "0.001")
    own = point("aster", "said", sign(0), (across, (0.0025, None, None)), (up, (0.9, 0.8, 1.2)))
    assert (own.x, own.y, own.x_ends, own.y_ends) == (50.0, 10.0, None, (0.0, 20.0))
    (told,) = labelled([own], ["aster"], width)
    (label,) = told.labels
    assert (label.width, label.text, label.dx, label.anchor) == (width, "aster", GAP, "start")
    assert abs(label.y - HEIGHT * 0.1) < LINE / 2
    assert labelled([own], [""], width) == [own]


def test_an_axis_by_logarithms_has_equal_steps_for_equal_ratios() -> None:
    axis = logarithmic_axis("Parameters", [1e6, 1e9], lambda size: f"{size:,}")
    assert axis.at(axis.low) == 0 and axis.at(axis.high) == 100 == axis.at(1e30)
    assert axis.at(1e8) - axis.at(1e7) == pytest.approx(axis.at(1e9) - axis.at(1e8), abs=0.02)
    assert (1e7, "10,000,000") in axis.ticks


def test_a_label_without_a_place_is_left_out() -> None:
    crowd = places([(300.0, 200.0, "a-long-name")] * 30, (0, 0, 600, 400))
    assert 0 < sum(label is not None for label in crowd) < 30  # the others are told when pointed at
    corner = places([(595.0, 395.0, "at the edge")], (0, 0, 600, 400))
    assert corner == [Place(595.0 - GAP, 386.0, "end")]
    assert short("a" * 40) == "a" * 27 + "…" and short("aster") == "aster"
