"""What is missing is seen wherever a number stands, and nothing is claimed from a number that misses much."""

import json

import msgspec
import pytest

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import make_claims
from harness.analysis.compare import compare
from harness.analysis.missing import MOST_MISSING, misses_much, worst_case
from harness.analysis.origins import build_origins
from harness.analysis.summary import summarise
from harness.reports.claims_text import render_claims
from harness.reports.compare_text import render_comparison
from harness.reports.render import render
from harness.types import Estimate, FailureKind, Metric
from tests.analysis.synthetic import CAPABILITY, cell, document, manifest_of, record, tables

LOST = 89


def made(lost: int = LOST) -> list[ModelScorecard]:
    """aster-moe fails on all but questions that it can do; the others answer all."""
    entries, records = [], {}
    for name, rate in (("aster-dense", 90), ("aster-moe", 45), ("borea-dense", 45)):
        for suite in ("s", "other"):
            entry = msgspec.structs.replace(cell(name, suite, CAPABILITY, 100), key=f"{name}-{suite}")
            entries.append(entry)
            records[entry.key] = [
                record(
                    entry.key,
                    f"q{i}",
                    {"accuracy": float(i < rate)},
                    failure=FailureKind.CONTEXT_OVERFLOW
                    if name == "aster-moe" and suite == "s" and i >= 100 - lost
                    else None,
                )
                for i in range(100)
            ]
    return build_scorecards(manifest_of(entries), tables(records))


def test_a_model_that_failed_on_nearly_all_is_not_the_best() -> None:
    cards = made()
    lucky = next(card for card in cards if card.model.name == "aster-moe").metrics["s/accuracy"]
    assert (lucky.estimate.value, lucky.estimate.n, lucky.estimate.missing) == (1.0, 11, 89)
    origin = build_origins(cards)[0].metrics["s/accuracy"]
    assert (origin.best_model, origin.left_out, origin.models) == ("aster-dense", ("aster-moe",), 1)
    rows = summarise(cards).rows
    assert [row.card.model.name for row in rows] == ["aster-dense", "borea-dense", "aster-moe"]
    assert [row.ranked for row in rows] == [True, True, False]


def test_what_is_missing_stands_wherever_the_number_stands() -> None:
    cards = made()
    for form in ("table", "md", "html"):
        text = " ".join(render(document(cards), form, full=True).replace("<wbr>", "").split())
        assert "(89 missing: 6.3 to 100.0)" in text, form
        assert "aster-moe 89 of 100 in s/accuracy (in the worst case 6.3 to 100.0)" in text, form
        assert "without aster-moe" in text, form
    screen = " ".join(render(document(cards), "table").split())
    assert "Much is missing, and what fails is seldom chance: aster-moe 89 of 100 in s/accuracy" in screen


def test_nothing_is_claimed_from_it() -> None:
    cards = made()
    claims = make_claims(cards)
    suites = {model.model: model.suites for model in claims.models}
    assert suites["aster-moe"] == ("other/accuracy",) and suites["aster-dense"] == (
        "other/accuracy",
        "s/accuracy",
    )
    assert "aster-moe has no number, or too many missing attempts, on s/accuracy" in render_claims(
        claims, "md"
    )
    dense, moe, _ = cards
    found = compare(dense, moe)
    assert found.family == 1 and found.metrics["s/accuracy"].p_holm is None
    for form in ("table", "md"):
        text = " ".join(render_comparison(found, form).split())
        assert "s/accuracy: nothing is claimed, since too many attempts are missing of aster-moe: " in text
    assert json.loads(render_comparison(found, "json"))["metrics"]["s/accuracy"]["b"]["missing"] == 89


def test_a_small_share_is_shown_and_claims_go_on() -> None:
    cards = made(lost=5)
    assert build_origins(cards)[0].metrics["s/accuracy"].left_out == ()
    assert all(row.ranked for row in summarise(cards).rows)
    assert "n=95 (5 missing)" in render(document(cards), "md")


def test_where_nothing_can_be_ranked_there_is_no_best() -> None:
    cards = [card for card in made() if card.model.name != "aster-dense"]
    origin = build_origins(cards)[0]
    assert (origin.metrics["s/accuracy"].best, origin.metrics["s/accuracy"].models) == (None, 0)
    assert origin.gaps[0].key == "other/accuracy" and len(origin.gaps) == 1
    assert "too much is missing" in render(document(cards), "md")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric(name="m", higher_is_better=True, kind="rate"), (0.1, 0.6)),
        (Metric(name="m", higher_is_better=True, bounds=(0.0, 2.0)), (0.1, 1.1)),
        (Metric(name="m", higher_is_better=True), None),
        (Metric(name="m", higher_is_better=True, kind="corpus", aggregation="f1"), None),
    ],
)
def test_the_worst_case(metric: Metric, expected: tuple[float, float] | None) -> None:
    estimate = Estimate(value=0.2, low=0.1, high=0.3, n=10, missing=10, clusters=10, method="")
    assert worst_case(estimate, metric) == (None if expected is None else pytest.approx(expected))


def test_the_limit_itself_is_not_too_much() -> None:
    def found(missing: int) -> Estimate:
        return Estimate(value=0.5, low=0.4, high=0.6, n=100 - missing, missing=missing, clusters=9, method="")

    assert not misses_much(found(round(100 * MOST_MISSING))) and misses_much(
        found(round(100 * MOST_MISSING) + 1)
    )


def test_a_model_without_one_of_the_benchmarks_is_not_ranked() -> None:
    """A mean over other benchmarks is another mean (embeddings-benchmark/mteb #1921)."""
    cards = made(lost=0)
    short = msgspec.structs.replace(
        cards[0],
        suites={"s": cards[0].suites["s"]},
        metrics={"s/accuracy": cards[0].metrics["s/accuracy"]},
    )
    rows = summarise([short, *cards[1:]]).rows
    assert [(row.card.model.name, row.ranked) for row in rows][-1] == ("aster-dense", False)
    assert "1 of 2 benchmarks" in render(document([short, *cards[1:]]), "md")


@pytest.mark.parametrize(("shortened", "claimed"), [(5, True), (6, False)])
def test_contexts_that_lost_their_beginning_are_counted_beside_the_score(
    shortened: int, claimed: bool
) -> None:
    entries, records = [], {}
    for name, rate, cut in (("aster-dense", 90, shortened), ("borea-dense", 45, 0)):
        entry = cell(name, "s", CAPABILITY, 100)
        entries.append(entry)
        records[entry.key] = [
            msgspec.structs.replace(
                record(entry.key, f"q{i}", {"accuracy": float(i < rate)}), lost_tokens=7 if i < cut else 0
            )
            for i in range(100)
        ]
    cards = build_scorecards(manifest_of(entries), tables(records))
    first = next(card for card in cards if card.model.name == "aster-dense")
    estimate = first.metrics["s/accuracy"].estimate
    assert (estimate.value, estimate.n, estimate.missing, estimate.contexts_cut) == (0.9, 100, 0, shortened)
    assert misses_much(estimate) is not claimed
    origin = build_origins(cards)[0].metrics["s/accuracy"]
    assert origin.best_model == ("aster-dense" if claimed else None)
    shown = document(cards)
    said = f"aster-dense {shortened} of 100 in s/accuracy"
    for form in ("table", "md", "html"):
        text = " ".join(render(shown, form, full=True).replace("<wbr>", "").split())
        assert said in text, form
        assert "Contexts cut" in text, form
    told = json.loads(render(shown, "json"))
    counts = {model["model"]: model["contexts_cut"] for model in told["models"]}
    assert counts == {"aster-dense": {"s": shortened}, "borea-dense": {"s": 0}}


def test_where_no_context_was_cut_no_column_says_so() -> None:
    assert "Contexts cut" not in render(document(made()), "md", full=True)
