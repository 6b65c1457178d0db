"""Two models compared: paired by sample, refused where protocols differ, said in words."""

import json
import random
import re
from pathlib import Path

import msgspec
import pytest

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.compare import ModelComparison, agreeing, compare
from harness.cli import main
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.table import to_table, write_table
from harness.reports.compare_text import FORMATS, UNPAIRED, footnotes, render_comparison
from harness.reports.differences import allowance, comparison_differences
from harness.types import Estimate, FailureKind, Manifest, Metric, Record, Score
from tests.analysis.synthetic import CAPABILITY, HIJACK, cell, model, record, synthetic_run, tables
from tests.analysis.test_build import one_cell


@pytest.fixture(scope="module")
def cards() -> dict[str, ModelScorecard]:
    return changed()


def changed(
    models: dict[str, dict[str, object]] | None = None,
    cells: dict[str, dict[str, object]] | None = None,
    attacks: dict[str, float] | None = None,
) -> dict[str, ModelScorecard]:
    """Scorecards of the synthetic run with some fields and outcomes of attacks changed, by model."""
    manifest, records = synthetic_run()
    for name, outcome in (attacks or {}).items():
        records[f"{name}-agent"] = [
            msgspec.structs.replace(
                r, scores=tuple(msgspec.structs.replace(s, value=outcome) for s in r.scores)
            )
            for r in records[f"{name}-agent"]
        ]
    manifest = msgspec.structs.replace(
        manifest,
        models={
            n: msgspec.structs.replace(m, **(models or {}).get(n, {})) for n, m in manifest.models.items()
        },
        cells={k: msgspec.structs.replace(c, **(cells or {}).get(k, {})) for k, c in manifest.cells.items()},
    )
    return {card.model.name: card for card in build_scorecards(manifest, tables(records))}


def questions(values: dict[str, list[float]]) -> ModelScorecard:
    attempts = max(map(len, values.values()))
    records = [
        record("k", name, {"accuracy": v}, attempt=i)
        for name, row in values.items()
        for i, v in enumerate(row)
    ]
    return one_cell(CAPABILITY, records, len(values), attempts)


def test_samples_of_both_are_paired_and_attempts_averaged() -> None:
    a = questions({"q0": [1.0, 0.0], "q1": [0.0, 0.0], "q2": [1.0, 1.0], "only a": [1.0, 1.0]})
    b = questions({"q2": [1.0, 0.0], "q0": [1.0, 1.0], "q1": [1.0, 0.0], "only b": [0.0, 0.0]})
    found = compare(a, b).metrics["s/accuracy"]
    assert (found.pairs, found.unpaired) == (3, 2)
    assert found.difference.value == pytest.approx((0.5 + 0.5 - 0.5) / 3)
    assert (found.a.n, found.b.n) == (8, 8)


def test_it_is_said_that_rates_are_over_more_samples_than_differences() -> None:
    a, b = questions({"q0": [1.0], "q1": [0.0]}), questions({"q0": [1.0], "q2": [0.0]})
    assert (UNPAIRED in render_comparison(compare(a, b), "md"), UNPAIRED in footnotes(compare(a, a))) == (
        True,
        False,
    )


def test_pairs_of_single_outcomes_get_mcnemar_and_tasks_do_not(cards: dict[str, ModelScorecard]) -> None:
    found = compare(cards["borea-moe"], cards["aster-dense"])
    accuracy = found.metrics["questions/accuracy"]
    assert accuracy.mcnemar is not None and accuracy.p_value is not None
    assert accuracy.mcnemar.b_only - accuracy.mcnemar.a_only == pytest.approx(58 * accuracy.difference.value)
    assert accuracy.mcnemar.exact < 0.05 and accuracy.p_value == accuracy.mcnemar.mid_p
    assert accuracy.test == "McNemar's mid-p test"
    asr = found.metrics["agent/targeted_asr"]
    assert asr.mcnemar is None and asr.test == "t test of paired differences, 3 degrees of freedom"
    assert asr.difference.clusters == 4
    assert asr.risk_ratio is not None and asr.risk_ratio.value is not None and asr.risk_ratio.value < 0.5


def test_holm_is_over_headline_metrics(cards: dict[str, ModelScorecard]) -> None:
    found = compare(cards["borea-moe"], cards["aster-dense"])
    assert found.family == 3
    assert found.metrics["agent/utility_under_attack"].p_holm is None
    for metric in found.metrics.values():
        assert metric.p_holm is None or metric.p_holm >= metric.p_value


def test_swapping_the_models_turns_the_signs(cards: dict[str, ModelScorecard]) -> None:
    there = compare(cards["aster-moe"], cards["borea-moe"]).metrics
    back = compare(cards["borea-moe"], cards["aster-moe"]).metrics
    for key, found in there.items():
        assert found.difference.value == pytest.approx(-back[key].difference.value)
        assert found.difference.low == pytest.approx(-back[key].difference.high)
        assert found.p_value == pytest.approx(back[key].p_value)
        assert found.minimum_detectable == pytest.approx(back[key].minimum_detectable)


def test_unlike_protocols_are_refused_unless_allowed() -> None:
    cards = changed(cells={"borea-moe-agent": {"protocol": {"suite_version": "2", "prompt": "5f2c"}}})
    with pytest.raises(
        UserError, match=r"suite_version, temperature\).*--allow suite_version --allow temper"
    ):
        compare(cards["aster-moe"], cards["borea-moe"])
    with pytest.raises(UserError, match=r"differ: temperature\)"):
        compare(cards["aster-moe"], cards["borea-moe"], ["suite_version"])
    found = compare(cards["aster-moe"], cards["borea-moe"], ["suite_version", "temperature"])
    assert [allowance(setting) for setting in found.allowed] == [
        "agent: protocols differ in suite_version (1 for aster-moe, 2 for borea-moe), which was allowed.",
        "agent: protocols differ in temperature (0.0 for aster-moe, none for borea-moe), which was allowed.",
    ]
    for form in FORMATS:
        assert "temperature" in render_comparison(found, form)


def test_what_a_template_does_is_a_models_own_but_not_which_day_it_writes() -> None:
    def told(model: str, **fields: str) -> dict[str, dict[str, dict[str, str]]]:
        agent = changed(cells={})[model].cells["agent"].protocol
        return {f"{model}-agent": {"protocol": {**agent, **fields}}}

    day = told("aster-moe", date="2026-11-27", chat_template="loses text")
    dated = changed(cells=day)
    allowed = ["temperature"]
    compare(dated["aster-moe"], dated["borea-moe"], allowed)
    both = changed(cells={**day, **told("borea-moe", date="2026-11-28")})
    with pytest.raises(UserError, match=r"differ: date\)"):
        compare(both["aster-moe"], both["borea-moe"], allowed)


def test_variants_stand_side_by_side_and_what_differs_is_said() -> None:
    def told(model: str, **fields: str) -> dict[str, dict[str, dict[str, str]]]:
        return {f"{model}-agent": {"protocol": {"suite_version": "1", **fields}}}

    hot = {"variant.mode": "thinking", "variant.sampling": "{}", "sampling.temperature": "0.6"}
    cold = {"variant.mode": "instruct", "sampling.temperature": "0.0"}
    both = changed(cells={**told("aster-moe", **hot), **told("borea-moe", **cold)})
    found = compare(both["aster-moe"], both["borea-moe"])
    assert [setting.field for setting in found.allowed] == [
        "sampling.temperature",
        "variant.mode",
        "variant.sampling",
    ]
    # What no variant was given of its own has to agree.
    own = changed(cells={**told("aster-moe", **{**hot, "suite_version": "2"}), **told("borea-moe", **cold)})
    with pytest.raises(UserError, match=r"differ: suite_version\)"):
        compare(own["aster-moe"], own["borea-moe"])
    del hot["variant.sampling"]
    run = changed(cells={**told("aster-moe", **hot), **told("borea-moe", **cold)})
    with pytest.raises(UserError, match=r"differ: sampling\.temperature\)"):
        compare(run["aster-moe"], run["borea-moe"])


def test_one_name_in_two_runs_hides_no_other_protocol() -> None:
    ours = changed(cells={})["aster-moe"]
    asked = {**ours.cells["agent"].protocol, "variant.mode": "thinking"}
    theirs = changed(cells={"aster-moe-agent": {"protocol": asked}})["aster-moe"]
    compare(ours, ours)
    with pytest.raises(UserError, match=r"differ: variant\.mode\)"):
        compare(ours, theirs)


def test_contents_are_compared_where_protocols_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, records = synthetic_run()
    key = "borea-moe-questions"
    protocol = {**manifest.cells[key].protocol, "prompt": "77aa"}
    cells = {**manifest.cells, key: msgspec.structs.replace(manifest.cells[key], protocol=protocol)}
    records[key] = [
        msgspec.structs.replace(r, content_hash="1" * 64) if r.sample in ("q3", "q4", "q5") else r
        for r in records[key]
    ]
    run = write(tmp_path / "run", msgspec.structs.replace(manifest, cells=cells), records)
    command = ["compare", str(run), "aster-moe", "borea-moe", "--format", "json"]
    assert main(command) == 2
    assert main([*command, "--allow", "prompt"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any(n.startswith("questions: 3 of the 60 shared samples do not hold the same") for n in notes)
    assert main(["compare", str(run), "aster-moe", "aster-dense", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    same = synthetic_run()[1]
    run = write(tmp_path / "same", msgspec.structs.replace(manifest, cells=cells), same)
    assert main(["compare", str(run), *command[2:], "--allow", "prompt"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert notes == ["questions: the 60 shared samples hold the same for both."]


def test_engines_are_footnotes(cards: dict[str, ModelScorecard]) -> None:
    engine = cards["aster-moe"].model.engine
    assert engine is not None
    other = msgspec.structs.replace(engine, version="2", details={"dtype": "bfloat16"})
    mixed = changed(models={"borea-moe": {"engine": other}})
    assert tuple(comparison_differences(compare(mixed["aster-moe"], mixed["borea-moe"]))) == (
        "Engines differ, which can move scores: engine scripted 1 for aster-moe, scripted 2 for borea-moe; "
        "dtype bfloat16 for borea-moe, float32 for aster-moe.",
    )
    assert comparison_differences(compare(cards["aster-moe"], cards["borea-moe"])) == []


def derived() -> ModelComparison:
    origin = msgspec.structs.replace(model("borea-moe").origin, base_models=("hub/Aster-Dense",))
    cards = changed(models={"borea-moe": {"origin": origin}}, attacks={"aster-dense": 0.0, "borea-moe": 1.0})
    return compare(cards["aster-dense"], cards["borea-moe"])


def test_a_derived_model_is_a_guardrail_change() -> None:
    text = " ".join(render_comparison(derived(), "table").split())
    assert "agent/targeted_asr: the derivation weakened the guardrail by 100.0 points [" in text
    assert "borea-moe was derived from aster-dense." in text
    assert json.loads(render_comparison(derived(), "json"))["b_is_derived_from_a"] is True


def test_a_base_is_known_by_its_repository_too() -> None:
    origin = msgspec.structs.replace(model("borea-moe").origin, base_models=("Hub/Astra",))
    facts = {"borea-moe": {"origin": origin}, "aster-dense": {"repository": "hub/astra"}}
    cards = changed(models=facts)
    assert compare(cards["aster-dense"], cards["borea-moe"]).derived
    assert not compare(cards["aster-moe"], cards["borea-moe"]).derived


def test_no_difference_is_not_read_into_a_small_run(cards: dict[str, ModelScorecard]) -> None:
    text = " ".join(render_comparison(compare(cards["aster-dense"], cards["aster-moe"]), "table").split())
    assert "no difference shown, aster-moe − aster-dense is" in text
    assert "guardrail" not in text


def test_a_comparison_that_finds_no_possible_difference_says_so() -> None:
    records = {
        name: [
            record("k", f"{u}/{i}", {"accuracy": float(x >> u & 1)}, clusters={"task": f"t{u % 3}"})
            for u in range(6)
            for i in range(2)
        ]
        for name, x in (("a", 0b001001), ("b", 0b110110))
    }
    a, b = (one_cell(CAPABILITY, found, 12) for found in records.values())
    found = compare(a, b)
    assert found.metrics["s/accuracy"].minimum_detectable > 1
    text = " ".join(render_comparison(found, "table", width=160).split())
    assert "no difference at all could have been found" in text


def test_a_verdict_outside_of_the_family_says_that_it_is_not_adjusted() -> None:
    other = msgspec.structs.replace(HIJACK[2], name="attempted", headline=False)

    def card(chance: float) -> ModelScorecard:
        random_ = random.Random(1)
        records = [
            record(
                "k",
                f"u{u}/i{i}",
                {name: float(random_.random() < chance) for name in ("targeted_asr", "attempted")},
                clusters={"user_task": f"u{u}", "injection_task": f"i{i}"},
            )
            for u in range(12)
            for i in range(8)
        ]
        return one_cell((HIJACK[2], other), records, 96)

    text = " ".join(render_comparison(compare(card(0.1), card(0.9)), "md").split())
    assert text.count(" is better by ") == 1 and "p &lt;0.001 after Holm" in text
    assert "others are not adjusted for having looked at several" in text


def test_without_a_direction_neither_model_is_better() -> None:
    metric = msgspec.structs.replace(CAPABILITY[0], name="exposed", higher_is_better=None)

    def card(name: str, chance: float) -> ModelScorecard:
        random_ = random.Random(1)
        records = [record("k", f"u{u}", {"exposed": float(random_.random() < chance)}) for u in range(96)]
        found = one_cell((metric,), records, 96)
        return msgspec.structs.replace(found, model=msgspec.structs.replace(found.model, name=name))

    low, high = card("low", 0.1), card("high", 0.9)
    for pair in ((low, high), (high, low)):
        found = compare(*pair)
        text = " ".join(render_comparison(found, "md").split())
        assert "is better by" not in text and "| s/exposed |" in text
        assert len(re.findall(r"high is higher by \S+ points \[[^]]*\], which is neither better", text)) == 1
        assert (
            json.loads(render_comparison(found, "json"))["metrics"]["s/exposed"]["higher_is_better"] is None
        )


def test_never_hijacked_has_no_ratio() -> None:
    cards = changed(attacks={"aster-dense": 0.0, "aster-moe": 0.0})
    none = render_comparison(compare(cards["aster-dense"], cards["aster-moe"]), "md")
    assert "agent/targeted_asr: no difference shown" in none and "hijacked" not in none
    for pair in (("aster-dense", "borea-moe"), ("borea-moe", "aster-dense")):
        some = render_comparison(compare(*(cards[name] for name in pair)), "md")
        assert "agent/targeted_asr: aster-dense is better by " in some and "times as often" not in some


def test_corpus_metrics_are_compared_by_bootstrap() -> None:
    metric = Metric(name="perplexity", higher_is_better=False, kind="corpus", aggregation="perplexity")

    def card(shift: float) -> ModelScorecard:
        records = [
            msgspec.structs.replace(
                record("k", f"d{i}", {}),
                scores=(Score(metric="perplexity", value=None, operands=(-i / 10 - shift,)),),
            )
            for i in range(12)
        ]
        return one_cell((metric,), records, 12)

    found = compare(card(0.0), card(0.5)).metrics["s/perplexity"]
    assert found.difference.value == pytest.approx(found.b.value - found.a.value)
    assert found.difference.low > 0 and found.p_value is None and found.pairs == 12


def test_samples_that_differ_are_compared_unpaired() -> None:
    a = questions({f"a{i}": [float(i % 2)] for i in range(20)})
    b = questions({f"b{i}": [float(i % 4 > 0)] for i in range(20)})
    found = compare(a, b).metrics["s/accuracy"]
    assert (found.pairs, found.unpaired, found.p_value) == (0, 40, None)
    assert found.difference.value == pytest.approx(0.25)
    assert "Newcombe" in found.difference.method


def test_nothing_measured_on_one_side() -> None:
    failed = [record("k", "q0", {}, failure=FailureKind.ENGINE_ERROR)]
    found = compare(questions({"q0": [1.0]}), one_cell(CAPABILITY, failed, 1))
    assert found.metrics["s/accuracy"].difference.value is None
    assert "not measured" in render_comparison(found, "table")


def write(path: Path, manifest: Manifest, records: dict[str, list[Record]]) -> Path:
    directory = RunDirectory(path)
    directory.add(manifest)
    for key, entry in manifest.cells.items():
        write_table(directory.complete_path(entry), to_table(entry, records[key]))
    return path


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, records = synthetic_run()
    entry = msgspec.structs.replace(cell("org/single", "questions", CAPABILITY, 60), key="single")
    single = msgspec.structs.replace(
        manifest,
        models={"org/single": msgspec.structs.replace(model("aster-moe"), name="org/single")},
        cells={entry.key: entry},
    )
    many = write(tmp_path / "many", manifest, records)
    one = write(tmp_path / "one", single, {entry.key: records["aster-moe-questions"]})
    assert main(["compare", str(many), "aster-moe", "borea-moe"]) == 0
    assert "borea-moe compared with aster-moe" in capsys.readouterr().out
    for target in (str(one), f"{one}/org/single"):
        assert main(["compare", f"{many}/aster-moe", target, "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["b"], found["metrics"]["questions/accuracy"]["difference"]["value"]) == (
            "org/single",
            0,
        )
    assert main(["compare", str(many), str(one)]) == 2
    assert "several models: name one of aster-dense, aster-moe" in capsys.readouterr().err
    assert main(["compare", str(many), "aster-moe", "aster"]) == 2
    assert "no model 'aster'" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(one)]) == 2
    assert "there is no run" in capsys.readouterr().err
    assert main(["compare", str(many)]) == 2
    assert "give two models" in capsys.readouterr().err


def test_a_ratio_excludes_1_where_the_difference_excludes_0() -> None:
    def interval(value: float | None, low: float | None, high: float | None) -> Estimate:
        return Estimate(value=value, low=low, high=high, n=9, missing=0, clusters=9, method="m")

    ratio = interval(2.0, 1.2, 3.0)
    assert agreeing(ratio, interval(0.2, 0.1, 0.3)) is ratio
    unsure = agreeing(ratio, interval(0.2, -0.1, 0.3))
    assert (unsure.low, unsure.high) == (1.0, 3.0) and "difference" in unsure.method
    sure = agreeing(interval(2.0, 0.9, 3.0), interval(0.2, 0.1, 0.3))
    assert sure.low is not None and 1 < sure.low < 1.001 and sure.high == 3.0
    less = agreeing(interval(0.5, 0.2, 1.1), interval(-0.2, -0.3, -0.1))
    assert less.high is not None and 0.999 < less.high < 1 and less.low == 0.2
    endless = agreeing(interval(None, 0.8, None), interval(0.2, 0.1, 0.3))
    assert endless.low is not None and endless.low > 1 and endless.high is None
    nothing = interval(None, None, None)
    assert agreeing(nothing, interval(0.0, -0.1, 0.1)) is nothing
