"""From model scorecards to the scorecard of an origin."""

import re

import msgspec
import pytest

from harness.analysis import compare
from harness.analysis import origins as origins_module
from harness.analysis.build import MetricResult, ModelScorecard, build_scorecards
from harness.analysis.origins import OriginScorecard, build_origins, opposite
from harness.errors import UserError
from harness.reports import tables as said
from harness.reports.render import render
from harness.reports.words import comparisons, notes, ratio_sentence, warnings
from harness.types import CellEntry, Estimate
from tests.analysis.synthetic import PROTOCOL, document, synthetic_run, tables


@pytest.fixture(scope="module")
def cards() -> list[ModelScorecard]:
    manifest, records = synthetic_run()
    return build_scorecards(manifest, tables(records))


@pytest.fixture(scope="module")
def origins(cards: list[ModelScorecard]) -> list[OriginScorecard]:
    return build_origins(cards)


def value(cards: list[ModelScorecard], model: str, key: str) -> float:
    found = next(card for card in cards if card.model.name == model).metrics[key].estimate.value
    assert found is not None
    return found


def test_groups_by_country_and_developer(cards: list[ModelScorecard]) -> None:
    assert [(o.key, o.models) for o in build_origins(cards)] == [
        ("XA", ("aster-dense", "aster-moe")),
        ("XB", ("borea-dense", "borea-moe")),
    ]
    assert [o.key for o in build_origins(cards, by="developer")] == ["Aster", "Borea"]
    with pytest.raises(UserError, match=r"'colour'.*country, developer"):
        build_origins(cards, by="colour")


def test_best_respects_the_direction_of_a_metric(
    cards: list[ModelScorecard], origins: list[OriginScorecard]
) -> None:
    for origin in origins:
        for key, choose in (("questions/accuracy", max), ("agent/targeted_asr", min)):
            values = {name: value(cards, name, key) for name in origin.models}
            found = origin.metrics[key]
            assert found.best is not None and found.best_model is not None
            assert found.best.value == choose(values.values()) == values[found.best_model]
            assert found.median.value == pytest.approx(sum(values.values()) / 2)
            assert "winner's curse" in found.best.method


def test_gaps_are_best_against_best_of_headline_metrics(origins: list[OriginScorecard]) -> None:
    a, b = origins
    assert {gap.key for gap in a.gaps} == {"questions/accuracy", "agent/benign_utility", "agent/targeted_asr"}
    for gap, back in zip(a.gaps, b.gaps, strict=True):
        best, other = a.metrics[gap.key].best_model, b.metrics[gap.key].best_model
        assert best is not None and other is not None
        ours, theirs = (scores(name, gap.key) for name in (best, other))
        pairs = sorted(ours.keys() & theirs.keys())
        expected = sum(ours[sample] - theirs[sample] for sample in pairs) / len(pairs)
        assert gap.estimate.value == pytest.approx(expected)
        assert gap.estimate.n == len(pairs)
        assert back.estimate.value == pytest.approx(-gap.estimate.value)
        assert (back.estimate.low, back.estimate.high) == pytest.approx(
            (-gap.estimate.high, -gap.estimate.low)
        )


def test_a_gap_is_computed_once_and_is_the_same_both_ways(
    cards: list[ModelScorecard], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = list[str]()

    def counted(a: MetricResult, b: MetricResult) -> Estimate:
        computed.append(a.metric.name)
        return compare.difference(a, b)

    monkeypatch.setattr(origins_module, "difference", counted)
    a, b = build_origins(cards)
    assert len(computed) == len(a.gaps) == len(b.gaps) == 3
    for gap, back in zip(a.gaps, b.gaps, strict=True):
        assert (gap.models, gap.value, gap.best_model) == (
            back.other_models,
            back.other_value,
            back.other_best_model,
        )
        assert opposite(opposite(gap.estimate)) == gap.estimate == opposite(back.estimate)
        assert gap.corrected and back.corrected and opposite(gap.corrected) == back.corrected
    nothing = msgspec.structs.replace(a.gaps[0].estimate, value=0.0, low=0.0, high=None)
    assert [str(end) for end in (opposite(nothing).value, opposite(nothing).high)] == ["0.0", "0.0"]


def scores(model: str, key: str) -> dict[str, float]:
    """Sample -> score of one metric of the synthetic run."""
    _, records = synthetic_run()
    suite, _, metric = key.partition("/")
    return {r.sample: s.value for r in records[f"{model}-{suite}"] for s in r.scores if s.metric == metric}


def test_allowed_differences_are_recorded() -> None:
    cards = build({"borea-moe-agent": {"protocol": {**PROTOCOL, "prompt": "ffff"}}})
    with pytest.raises(UserError, match="--allow prompt"):
        build_origins(cards)
    said = warnings(document(cards, allow=["prompt"]))
    assert said == [
        "agent: protocols differ in prompt (5f2c for 3 models, ffff for borea-moe), which was allowed."
    ]


def test_risk_ratio_is_of_pooled_rates(origins: list[OriginScorecard]) -> None:
    _, records = synthetic_run()
    events = {
        origin.key: sum(
            score.value
            for name in origin.models
            for r in records[f"{name}-agent"]
            for score in r.scores
            if score.metric == "targeted_asr"
        )
        for origin in origins
    }
    ratio = origins[1].risk_ratios[0]
    assert (ratio.models, ratio.other_models, ratio.estimate.n, ratio.estimate.missing) == (2, 2, 152, 8)
    assert ratio.estimate.value == pytest.approx(events["XB"] / events["XA"])
    assert 1 < ratio.estimate.low < ratio.estimate.value < ratio.estimate.high
    assert ratio.value.clusters == 4


def test_a_risk_ratio_over_models_is_that_of_their_means(origins: list[OriginScorecard]) -> None:
    ratio = origins[1].risk_ratios[0]
    ours, theirs = (origin.metrics["agent/targeted_asr"].mean for origin in (origins[1], origins[0]))
    assert ratio.over_models.value == pytest.approx(ours.value / theirs.value)
    assert ratio.over_models.low < ratio.estimate.low and ratio.estimate.high < ratio.over_models.high
    assert (ratio.over_models.n, ratio.over_models.missing, ratio.over_models.clusters) == (152, 8, 2)
    alone = build_origins(build({}, drop=("borea-moe-agent",)))[1].risk_ratios[0]
    assert (alone.models, alone.over_models) == (1, None)


@pytest.mark.parametrize("never", [(), ("aster-dense", "aster-moe"), ("borea-dense", "borea-moe")])
def test_ratios_of_two_origins_are_each_others_inverse(never: tuple[str, ...]) -> None:
    a, b = (origin.risk_ratios[0] for origin in build_origins(scored(dict.fromkeys(never, 0.0))))
    assert (a.value, a.other_value, a.models, a.other) == (b.other_value, b.value, b.other_models, "XB")
    for ours, theirs in ((a.estimate, b.estimate), (a.over_models, b.over_models)):
        for end, other in (("value", "value"), ("low", "high"), ("high", "low")):
            x, y = getattr(ours, end), getattr(theirs, other)
            assert {x, y} in ({0.0, None}, {None}) if not (x and y) else x * y == pytest.approx(1)
    zero = {(): (1, 1), ("aster-dense", "aster-moe"): (0, None)}.get(never, (None, 0))
    assert (a.estimate.value if not a.estimate.value else 1) == zero[0]
    assert (b.estimate.value if not b.estimate.value else 1) == zero[1]


def test_few_models_are_said_in_words(cards: list[ModelScorecard]) -> None:
    assert notes(document(cards))[0].startswith("XA, XB have fewer than three models here")


def test_comparisons_in_words(cards: list[ModelScorecard]) -> None:
    ratio, *gaps = comparisons(document(cards))
    assert re.match(
        r"agent/targeted_asr: XB was hijacked \d[^:]*\] times as often as XA: XB \d.* n=76", ratio
    )
    assert "n=76 (4 missing), 2 models. Whether other models of theirs differ is open (" in ratio
    assert len(gaps) == 3
    assert any(re.match(r"questions/accuracy: XA is better by \d+\.\d points \[", gap) for gap in gaps)
    assert all("benign_utility" not in gap or "no clear difference" in gap for gap in gaps)


def build(change: dict[str, dict[str, object]], drop: tuple[str, ...] = ()) -> list[ModelScorecard]:
    """Scorecards of the synthetic run with fields of some cells changed and other cells left out."""
    manifest, records = synthetic_run()
    cells: dict[str, CellEntry] = {
        key: msgspec.structs.replace(cell, **change.get(key, {}))
        for key, cell in manifest.cells.items()
        if key not in drop
    }
    return build_scorecards(msgspec.structs.replace(manifest, cells=cells), tables(records))


def test_unlike_protocols_are_refused_naming_suite_and_fields() -> None:
    cards = build(
        {"borea-moe-agent": {"protocol": {"suite_version": "1", "prompt": "ffff", "attack": "direct"}}}
    )
    with pytest.raises(UserError, match=r"'agent' .* different protocols .*attack, prompt, temperature\)"):
        build_origins(cards)


def test_a_suite_that_was_not_run_is_shown_as_such() -> None:
    cards = build({}, drop=("borea-dense-agent", "borea-moe-agent", "aster-moe-questions"))
    origins = build_origins(cards)
    assert origins[0].risk_ratios == origins[1].risk_ratios == ()
    assert [gap.key for gap in origins[0].gaps] == ["questions/accuracy"]
    assert origins[0].metrics["questions/accuracy"].models == 1
    assert ("agent/targeted_asr", "XB", "not run", "not run", "not run", "0 of 2") in said.origins_table(
        origins
    ).rows
    assert ("aster-moe", "XA, MoE 2/8\n1.2M/700k", "not run") in said.suite_table(cards, "questions").rows


def test_an_incomplete_model_is_named() -> None:
    cards = build({"borea-moe-agent": {"samples": 70}})
    assert warnings(document(cards))[0] == "The run is not complete: borea-moe owes 10 attempts."
    assert said.suite_table(cards, "agent").rows[-1][0] == "borea-moe\n(10 of 70 owed)"


def hijacked(rates: dict[str, float]) -> list[str]:
    """Sentences of risk ratios where every attack on a model had the same outcome."""
    return [ratio_sentence(ratio) for ratio in document(scored(rates)).ratios]


def scored(rates: dict[str, float]) -> list[ModelScorecard]:
    """Scorecards where every attack on some models had the same outcome."""
    manifest, records = synthetic_run()
    for name, outcome in rates.items():
        records[f"{name}-agent"] = [
            msgspec.structs.replace(
                r, scores=tuple(msgspec.structs.replace(s, value=outcome) for s in r.scores)
            )
            for r in records[f"{name}-agent"]
        ]
    return build_scorecards(manifest, tables(records))


def test_an_origin_that_was_never_hijacked() -> None:
    sentence = hijacked({"aster-dense": 0.0, "aster-moe": 0.0})[0]
    assert "XB was hijacked at least" in sentence and "as often as XA, which never was" in sentence
    assert "XA 0.0% [0.0, " in sentence


def test_no_origin_was_hijacked() -> None:
    sentence = hijacked(dict.fromkeys(("aster-dense", "aster-moe", "borea-dense", "borea-moe"), 0.0))[0]
    assert "neither XA nor XB was hijacked: XA 0.0% [0.0, " in sentence


def grouped(by: str) -> dict[str, tuple[str, ...]]:
    manifest, records = synthetic_run()
    models = dict(manifest.models)

    def change(name: str, **fields: object) -> None:
        models[name] = msgspec.structs.replace(
            models[name], origin=msgspec.structs.replace(models[name].origin, **fields)
        )

    change("borea-moe", base_models=("hub/aster-dense",))
    change("borea-dense", base_models=("hub/elsewhere",), licence=None)
    manifest = msgspec.structs.replace(manifest, models=models)
    return {o.key: o.models for o in build_origins(build_scorecards(manifest, tables(records)), by)}


def test_groups_by_base_licence_type_and_size() -> None:
    assert grouped("base") == {
        "XA": ("aster-dense", "aster-moe", "borea-moe"),
        "unknown, from hub/elsewhere": ("borea-dense",),
    }
    assert grouped("licence")["unknown"] == ("borea-dense",)
    assert grouped("type") == {"MoE": ("aster-moe", "borea-moe"), "dense": ("aster-dense", "borea-dense")}
    assert list(grouped("size")) == ["under 4B"]


def base_of(*bases: str) -> dict[str, tuple[str, ...]]:
    """Models by country of base weights, where borea-moe was made of some."""
    manifest, records = synthetic_run()
    models = dict(manifest.models)
    origin = msgspec.structs.replace(models["borea-moe"].origin, base_models=bases)
    models["borea-moe"] = msgspec.structs.replace(models["borea-moe"], origin=origin)
    manifest = msgspec.structs.replace(manifest, models=models)
    found = build_origins(build_scorecards(manifest, tables(records)), "base")
    assert said.origins_table(found).title == "Origins, by country of the base weights"
    cards = build_scorecards(manifest, tables(records))
    assert any("followed from model to model in this run" in note for note in notes(document(cards, "base")))
    return {origin.key: origin.models for origin in found}


def test_bases_that_are_not_in_the_run_are_found_in_the_registry() -> None:
    assert base_of("deepseek-ai/DeepSeek-R1-Distill-Llama-70B")["US"] == ("borea-moe",)  # of Meta's Llama
    assert base_of("Qwen/Some-Model-That-Is-Not-There")["CN"] == ("borea-moe",)
    assert base_of("Qwen/Qwen2.5-7B", "hub/aster-dense")["CN and XA"] == ("borea-moe",)
    assert base_of("Qwen/Qwen2.5-7B", "who/knows")["unknown, from Qwen/Qwen2.5-7B, who/knows"]


def test_the_registry_knows_bases_that_a_spec_does_not_state() -> None:
    manifest, records = synthetic_run()
    models = dict(manifest.models)
    models["borea-moe"] = msgspec.structs.replace(
        models["borea-moe"], repository="deepseek-ai/DeepSeek-R1-Distill-Llama-70B"
    )
    models["aster-moe"] = msgspec.structs.replace(
        models["aster-moe"], repository="meta-llama/Llama-3.3-70B-Instruct"
    )
    manifest = msgspec.structs.replace(manifest, models=models)
    found = build_origins(build_scorecards(manifest, tables(records)), "base")
    assert {origin.key: origin.models for origin in found} == {
        "US": ("borea-moe",),
        "XA": ("aster-dense", "aster-moe"),  # its repository states no base
        "XB": ("borea-dense",),
    }


def test_mean_over_models_and_the_luck_of_the_best(
    cards: list[ModelScorecard], origins: list[OriginScorecard]
) -> None:
    for origin in origins:
        for found in origin.metrics.values():
            assert found.mean is not None and found.mean.n == 2
            assert found.mean.value == pytest.approx(found.median.value)
            assert found.spread is not None and found.selection >= 0
        for gap in origin.gaps:
            other = next(o for o in origins if o.key == gap.other)
            sign = 1 if gap.metric.higher_is_better else -1
            luck = origin.metrics[gap.key].selection - other.metrics[gap.key].selection
            for end in ("value", "low", "high"):
                expected = getattr(gap.estimate, end) - sign * luck
                assert getattr(gap.corrected, end) == pytest.approx(expected)
    assert any("without the luck of the choice" in sentence for sentence in comparisons(document(cards)))


def test_no_model_is_best_by_a_metric_without_a_direction() -> None:
    """Being shown an attack is neither good nor bad: it is measured, and nobody leads or trails by it."""
    manifest, records = synthetic_run()
    cells = {
        key: msgspec.structs.replace(
            entry,
            metrics=tuple(
                msgspec.structs.replace(m, higher_is_better=None, hijack=False)
                if m.name == "targeted_asr"
                else m
                for m in entry.metrics
            ),
        )
        for key, entry in manifest.cells.items()
    }
    cards = build_scorecards(msgspec.structs.replace(manifest, cells=cells), tables(records))
    origins = build_origins(cards)
    for origin in origins:
        found = origin.metrics["agent/targeted_asr"]
        assert (found.best, found.best_model, found.selection) == (None, None, 0.0)
        assert found.models == 2 and found.median.value is not None and found.mean is not None
        assert {gap.key for gap in origin.gaps} == {"agent/benign_utility", "questions/accuracy"}
    rows = [row for row in said.origins_table(origins).rows if row[0] == "agent/targeted_asr"]
    assert [row[2] for row in rows] == ["none is better"] * 2
    assert "targeted_asr" in said.suite_table(cards, "agent").header
    page = render(document(cards), "html")
    assert "neither higher nor lower is better" in page
