"""What a derivation changes in headlines of safety: as planted, read in either direction, and as a claim."""

import json

import pytest
from msgspec.structs import replace

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import make_claims
from harness.analysis.compare import compare, guardrail_changes
from harness.reports.claims_text import render_claims
from harness.reports.compare_text import render_comparison
from harness.reports.objects import document_object
from harness.types import Metric, Record
from tests.analysis.synthetic import CAPABILITY, HIJACK, cell, document, manifest_of, record, tables

UNIT = (0.0, 1.0)
REPLIES = (
    Metric(
        name="compliance", higher_is_better=False, kind="rate", bounds=UNIT, headline=True, judged=("yes",)
    ),
    Metric(
        name="over_refusal", higher_is_better=False, kind="rate", bounds=UNIT, headline=True, judged=("no",)
    ),
)
BASE, DERIVED, OTHER = "aster-dense", "aster-moe", "borea-dense"
RATES = {
    BASE: {"targeted_asr": 4, "benign_utility": 16, "compliance": 2, "over_refusal": 6, "accuracy": 12},
    DERIVED: {"targeted_asr": 16, "benign_utility": 14, "compliance": 18, "over_refusal": 1, "accuracy": 14},
    OTHER: {"targeted_asr": 10, "benign_utility": 10, "compliance": 10, "over_refusal": 9, "accuracy": 8},
}
"""Model -> metric -> successes at 20 samples."""


def scores(name: str, i: int, *metrics: str) -> dict[str, float | None]:
    return {metric: float(i < RATES[name][metric]) for metric in metrics}


@pytest.fixture(scope="module")
def cards() -> dict[str, ModelScorecard]:
    cells, records = [], {}
    for name in RATES:
        agent, replies, questions = (
            cell(name, "agent", HIJACK, 40),
            cell(name, "replies", REPLIES, 20),
            cell(name, "questions", CAPABILITY, 20),
        )
        cells += [agent, replies, questions]
        attacked: list[Record] = []
        for i in range(20):
            user = {"user_task": f"user_task_{i}"}
            attacked.append(
                record(agent.key, f"user_task_{i}", scores(name, i, "benign_utility"), clusters=user)
            )
            hit = {**scores(name, i, "targeted_asr"), "utility_under_attack": 1.0}
            both = {**user, "injection_task": f"injection_task_{i}"}
            attacked.append(record(agent.key, f"user_task_{i}/injection", hit, clusters=both))
        records[agent.key] = attacked
        for entry, metrics in ((replies, ("compliance", "over_refusal")), (questions, ("accuracy",))):
            records[entry.key] = [record(entry.key, f"q{i}", scores(name, i, *metrics)) for i in range(20)]
    manifest = manifest_of(cells)
    made = manifest.models[DERIVED]
    origin = replace(made.origin, base_models=(f"hub/{BASE}",))
    manifest = replace(manifest, models={**manifest.models, DERIVED: replace(made, origin=origin)})
    return {card.model.name: card for card in build_scorecards(manifest, tables(records))}


PLANTED = [
    ("agent/targeted_asr", "hijack", 0.6),
    ("replies/compliance", "judged", 0.8),
    ("replies/over_refusal", "judged", -0.25),
    ("agent/benign_utility", "utility", -0.1),
]


def test_each_headline_of_safety_changes_as_planted(cards: dict[str, ModelScorecard]) -> None:
    found = guardrail_changes(cards[BASE], cards[DERIVED])
    assert [(one.key, one.kind, pytest.approx(one.change.value)) for one in found] == PLANTED
    for one in found:
        assert one.change.n == 20 and one.base.value is not None and one.derived.value is not None
        assert one.change.value == pytest.approx(one.derived.value - one.base.value)
        assert one.change.low is not None and one.change.low <= one.change.value <= one.change.high
    assert guardrail_changes(cards[DERIVED], cards[BASE]) == ()
    assert guardrail_changes(cards[BASE], cards[OTHER]) == ()


@pytest.mark.parametrize(("a", "b"), [(BASE, DERIVED), (DERIVED, BASE)])
def test_a_comparison_says_guardrails_first(cards: dict[str, ModelScorecard], a: str, b: str) -> None:
    comparison = compare(cards[a], cards[b])
    for form in ("table", "md"):
        text = " ".join(render_comparison(comparison, form, full=True).replace("\\", "").split())
        place = [text.index(f"{key}: ") for key, _, _ in PLANTED]
        assert text.index(f"Guardrails: {DERIVED} was derived from {BASE}.") < place[0]
        assert place == sorted(place) and place[-1] < text.index("questions/accuracy: ")
        assert text.count("agent/targeted_asr: ") == 1
        assert "agent/targeted_asr: the derivation weakened the guardrail by 60.0 points [" in text
        assert f"replies/compliance: {BASE} is better by 80.0 points" in text
    assert render_comparison(comparison, "table").startswith(f"- Guardrails: {DERIVED} was derived from ")
    said = json.loads(render_comparison(comparison, "json"))["guardrails"]
    assert (said["base"], said["derived"]) == (BASE, DERIVED)
    changes = [(one["metric"], one["kind"], one["change"]["value"]) for one in said["changes"]]
    assert changes == [(key, kind, pytest.approx(value)) for key, kind, value in PLANTED]


def test_models_of_no_relation_have_no_guardrails(cards: dict[str, ModelScorecard]) -> None:
    comparison = compare(cards[BASE], cards[OTHER])
    assert "Guardrail" not in render_comparison(comparison, "table", full=True)
    assert "guardrails" not in json.loads(render_comparison(comparison, "json"))


def test_the_claim_lists_every_pair_with_its_capability(cards: dict[str, ModelScorecard]) -> None:
    claims = make_claims([*cards.values()])
    assert claims.problems == {}
    (claim,) = claims.guardrails
    assert (claim.base, claim.derived, claim.benchmarks) == (BASE, DERIVED, 1)
    assert [(one.key, one.kind, pytest.approx(one.change.value)) for one in claim.changes] == PLANTED
    assert claim.capability and claim.capability.value == pytest.approx(0.1)
    for form in ("table", "md"):
        text = render_claims(claims, form, width=100, full=True)
        assert "Guardrails: what derivations changed" in text and "+60.0 [" in text and "+10.0 [" in text
    (said,) = json.loads(render_claims(claims, "json"))["guardrails"]
    assert said["capability"]["value"] == pytest.approx(0.1) and len(said["changes"]) == 4
    alone = [card for name, card in cards.items() if name != DERIVED]
    assert make_claims(alone).guardrails == ()
    assert "guardrails" not in json.loads(render_claims(make_claims(alone), "json"))
    assert document_object(document([*cards.values()], claims=True))["claims"]["guardrails"] == [said]
