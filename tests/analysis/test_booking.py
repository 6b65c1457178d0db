"""Metrics that count as a benchmark's authors do, and agents that called no tool."""

import html
import json

import msgspec
import pytest

from harness.analysis.build import ModelScorecard
from harness.analysis.compare import compare
from harness.analysis.origins import build_origins
from harness.reports import tables
from harness.reports.compare_text import comparison_tables, footnotes, render_comparison
from harness.reports.render import render
from harness.types import CellEntry, FailureKind, Metric, Record, Score
from tests.analysis.synthetic import ATTACKED, UNIT, document, record
from tests.analysis.test_build import one_cell

RULE = "booked as somebody else does"


def rate(name: str, booking: str = "", factors: tuple[str, ...] = ATTACKED) -> Metric:
    return Metric(
        name=name, higher_is_better=False, kind="rate", bounds=UNIT, applies_to=factors, booking=booking
    )


METRICS = (
    rate("targeted_asr"),
    rate("targeted_asr_theirs", RULE),
    rate("no_tool_call"),
    rate("no_tool_call_benign", factors=("user_task",)),
)


def pair(user: int, scores: dict[str, float | None], failure: FailureKind | None = None) -> Record:
    made = record(
        "k",
        f"u{user}/i",
        {},
        clusters={"user_task": f"u{user}", "injection_task": "i"},
        failure=failure,
    )
    return msgspec.structs.replace(made, scores=tuple(Score(metric=m, value=v) for m, v in scores.items()))


def measured(value: float, idle: float = 0.0) -> dict[str, float | None]:
    return {"targeted_asr": value, "targeted_asr_theirs": value, "no_tool_call": idle}


CAP, TOOL = FailureKind.ITERATION_CAP, FailureKind.TOOL_ERROR
RECORDS = [
    pair(0, measured(1.0)),
    pair(1, measured(0.0, idle=1.0)),
    pair(2, {"targeted_asr_theirs": 1.0, "targeted_asr": 1.0}, CAP),  # a score that no rule here gives it
    pair(3, {}, TOOL),
    record("k", "u0", {"no_tool_call_benign": 1.0}, clusters={"user_task": "u0"}),
]


@pytest.fixture
def card() -> ModelScorecard:
    return one_cell(METRICS, RECORDS, len(RECORDS))


def test_only_a_metric_with_a_booking_has_scores_of_failed_attempts(card: ModelScorecard) -> None:
    ours, theirs = (card.metrics[f"s/{name}"].estimate for name in ("targeted_asr", "targeted_asr_theirs"))
    assert (ours.value, ours.n, ours.missing) == (0.5, 2, 2)
    assert (theirs.value, theirs.n, theirs.missing) == (pytest.approx(2 / 3), 3, 1)
    assert theirs.method.endswith(RULE)
    assert RULE not in ours.method


def test_a_record_counts_what_its_cell_books() -> None:
    cell = CellEntry(
        key="k", model="m", suite="s", adapter="a", protocol={}, metrics=METRICS, samples=4, attempts=1
    )
    assert [score.metric for score in cell.counted(RECORDS[2])] == ["targeted_asr_theirs"]
    assert cell.counted(RECORDS[0]) == RECORDS[0].scores


def test_scorecards_say_which_numbers_are_booked_and_by_what_rule(card: ModelScorecard) -> None:
    assert tables.booking_notes([card]) == [f"s/targeted_asr_theirs: {RULE}."]
    for form in ("md", "html"):
        text = render(document([card]), form)
        assert f"targeted_asr_theirs: {RULE}." in text.replace("<wbr>", "").replace("\\", "")


KEY = "s/targeted_asr_theirs"


def test_json_has_them_apart_from_the_rates(card: ModelScorecard) -> None:
    (found,) = json.loads(render(document([card]), "json"))["models"]
    assert set(found["metrics"]) == {"s/targeted_asr", "s/no_tool_call", "s/no_tool_call_benign"}
    assert set(found["bookings"]) == {KEY}
    assert set(found["bookings"][KEY]) == {*found["metrics"]["s/targeted_asr"], "booking"}
    assert (found["bookings"][KEY]["n"], found["bookings"][KEY]["booking"]) == (3, RULE)
    task = found["by_injection_task"]["s"]["i"]
    assert set(task["metrics"]) == {"targeted_asr", "no_tool_call"}
    assert set(task["bookings"]) == {"targeted_asr_theirs"}
    assert (task["bookings"]["targeted_asr_theirs"]["n"], task["metrics"]["targeted_asr"]["n"]) == (3, 2)
    assert task["bookings"]["targeted_asr_theirs"]["booking"] == RULE


def test_tables_have_them_apart_under_a_title_that_says_so(card: ModelScorecard) -> None:
    def holds(table: tables.Table) -> bool:
        return any(cell.startswith("targeted_asr_theirs") for cell in table.header)

    own = [tables.suite_table([card], "s"), *tables.injection_task_tables([card])]
    assert not any(holds(table) for table in own)
    books = tables.booking_tables([card])
    assert [table.title for table in books] == [tables.BOOKS.format(t) for t in ("s", "By injection task: s")]
    assert all(holds(table) and "targeted_asr ↓" not in table.header for table in books)
    for form in ("md", "html"):
        text = html.unescape(render(document([card]), form)).replace("<wbr>", "")
        assert all(table.title in text for table in books), form
    assert "except in the metrics below that count as a benchmark's authors do" in html.unescape(
        render(document([card]), "html")
    )
    terminal = " ".join(render(document([card]), "table", full=True).split())
    assert "targeted_asr_theirs" not in terminal
    assert "1 more metrics count failed attempts as the benchmark's authors do" in terminal


def test_cards_without_books_say_nothing_of_any() -> None:
    plain = one_cell(METRICS[:1], RECORDS[:1], 1)
    assert tables.booking_tables([plain]) == []
    for form in ("table", "md", "html"):
        assert "somebody else" not in html.unescape(render(document([plain]), form))


def test_books_without_attacks_have_no_table_by_injection_task(card: ModelScorecard) -> None:
    benign = rate("utility_theirs", RULE, ("user_task",))
    found = one_cell((METRICS[0], benign), RECORDS[:1], 1)
    assert [table.title for table in tables.booking_tables([found])] == [tables.BOOKS.format("s")]


def test_what_is_booked_by_others_is_no_headline_and_no_hijack_rate() -> None:
    for wrong in ({"headline": True}, {"hijack": True}):
        with pytest.raises(ValueError, match="x has a booking"):
            Metric(name="x", higher_is_better=True, booking=RULE, **wrong)


def test_a_comparison_has_them_apart_too(card: ModelScorecard) -> None:
    found = compare(card, card)
    assert f"{KEY}: {RULE}." in footnotes(found)
    own, books = comparison_tables(found)
    assert [row[0] for row in books.rows] == [f"{KEY} ↓"] and f"{KEY} ↓" not in [row[0] for row in own.rows]
    assert books.title == tables.BOOKS.format(own.title)
    parsed = json.loads(render_comparison(found, "json"))
    assert KEY not in parsed["metrics"] and set(parsed["bookings"]) == {KEY}
    assert parsed["bookings"][KEY]["booking"] == RULE
    assert found.metrics[KEY].p_holm is None
    for form in ("table", "md"):
        text = " ".join(render_comparison(found, form, width=160, full=True).replace("\\", "").split())
        assert books.title in text, form


def test_origins_are_not_compared_by_what_failures_were_booked_as(card: ModelScorecard) -> None:
    (origin,) = build_origins([card])
    assert set(origin.metrics) == {"s/targeted_asr", "s/no_tool_call", "s/no_tool_call_benign"}


def test_agents_that_called_no_tool_are_counted_on_every_kind_of_sample(card: ModelScorecard) -> None:
    assert card.suites["s"].no_tool_call == 2
    table = tables.attempts_table([card])
    assert table.header[-1] == "No tool called"
    assert [row[-1] for row in table.rows] == ["2"]
    no_agent = one_cell(METRICS[:1], RECORDS[:1], 1)
    assert no_agent.suites["s"].no_tool_call is None
    assert "No tool called" not in tables.attempts_table([no_agent]).header
    assert [row[-1] for row in tables.attempts_table([card, no_agent]).rows] == ["2", "no agent"]
