"""Claims: each follows from the records by a formula that is said."""

import datetime
import json
import math
import random
from pathlib import Path

import msgspec
import pytest

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import Claims, make_claims
from harness.analysis.claims.evidence import Asked
from harness.analysis.claims.hardware import smallest_gpu
from harness.analysis.claims.snapshot import Adopted, Snapshot, read_snapshot
from harness.cli import main
from harness.errors import UserError
from harness.reports.claims_text import render_claims
from harness.stats import wilson
from harness.stats.trends import draws, luck
from harness.suites.agentdojo.stepwise.suite import METRICS, MISMATCH
from harness.types import IMPORTED, Declared, EngineFacts, Origin
from tests.analysis.synthetic import CAPABILITY, MODELS, cell, record, synthetic_run, tables
from tests.analysis.test_compare import write


@pytest.fixture(scope="module")
def claims() -> Claims:
    manifest, records = synthetic_run()
    return make_claims(build_scorecards(manifest, tables(records)), Asked(price=3.6))


def test_cost_per_solved_task(claims: Claims) -> None:
    _, records = synthetic_run()
    for found in claims.models:
        own = records[f"{found.model}-questions"]
        solved = sum(s.value for r in own for s in r.scores)
        assert found.solved == solved
        assert found.capability.value == pytest.approx(solved / 58)
        assert (found.capability.low, found.capability.high) == pytest.approx(wilson(solved, 58))
        assert found.seconds_per_solved == pytest.approx(60 * 0.25 / solved)
        assert found.cost_per_solved == pytest.approx(found.seconds_per_solved / 1000)
        assert found.tokens_per_solved == pytest.approx(60 * 110 / solved)


def test_three_instruments_agree_on_who_leads(claims: Claims) -> None:
    (gap,) = claims.gaps
    ranked = sorted(claims.models, key=lambda model: model.ability)
    best = {model.origin: model for model in ranked}
    p, q = best["XA"].capability.value, best["XB"].capability.value
    assert (gap.a, gap.b, gap.best_a) == ("XA", "XB", best["XA"].model)
    assert gap.points.value == pytest.approx(p - q)
    assert 0 < gap.points.low < gap.points.value < gap.points.high
    assert 1 < gap.odds_ratio.low < gap.odds_ratio.value < gap.odds_ratio.high
    assert math.log(gap.odds_ratio.value) == pytest.approx(math.log(p / (1 - p)) - math.log(q / (1 - q)))
    assert 0 < gap.ability_low < gap.ability < gap.ability_high
    assert claims.questions == 58


@pytest.mark.parametrize(
    ("gigabytes", "name"),
    [(1, "24 GB"), (21.6, "24 GB"), (22, "48 GB"), (61, "80 GB"), (100, "141 GB"), (700, "8 x 141 GB")],
)
def test_smallest_gpu(gigabytes: float, name: str) -> None:
    assert smallest_gpu(int(gigabytes * 1e9)) == name
    assert smallest_gpu(2 * 10**12) == "more than 8 x 141 GB"
    assert smallest_gpu(0) == "unknown"


def test_every_format_names_its_instruments(claims: Claims) -> None:
    for form in ("table", "md"):
        text = " ".join(render_claims(claims, form, width=160, full=True).split())
        assert "Rasch model" in text and "at 3.6 an hour of a GPU" in text
        assert "points paired by sample) are not corrected for that" in text
        assert "Energy was not measured" in text and "XB was hijacked" in text
    assert json.loads(render_claims(claims, "json"))["gaps"][0]["best_a"].startswith("aster")


def test_every_number_of_a_claim_says_how_much_is_behind_it(claims: Claims) -> None:
    one = next(iter(claims.models))
    lossy = msgspec.structs.replace(one.capability, missing=7)
    changed = [msgspec.structs.replace(m, capability=lossy) if m is one else m for m in claims.models]
    gaps = [
        msgspec.structs.replace(
            gap,
            **{
                key: msgspec.structs.replace(getattr(gap, key), missing=7) for key in ("points", "odds_ratio")
            },
        )
        for gap in claims.gaps
    ]
    lines = render_claims(
        msgspec.structs.replace(claims, models=tuple(changed), gaps=tuple(gaps)), "md"
    ).splitlines()
    n = f"n={one.capability.n}"
    own = [line for line in lines if line.startswith(f"| {one.model} |")]
    assert [line.count(n) for line in own[:2]] == [2, 1]  # capability and ability; what was solved
    assert all("(7 missing" in line for line in own[:2])
    best = next(line for line in lines if f"{gaps[0].best_a} over {gaps[0].best_b}" in line)
    assert best.count("n=") == 3 and best.count("(7 missing)") >= 2


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run", *synthetic_run())
    assert main(["claims", str(run), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["cost"]["cost_per_solved"] is None
    assert main(["claims", str(run), "--price", "-1"]) == 2
    assert "--price -1: expected" in capsys.readouterr().err


def cards_of(suites: dict[str, dict[str, float]]) -> list[ModelScorecard]:
    """Scorecards of models that answer a share of 300 questions of each suite, others for each model."""
    manifest, _ = synthetic_run()
    cells, records = {}, {}
    for suite, rates in suites.items():
        for name, rate in rates.items():
            entry = cell(name, suite, CAPABILITY, 300)
            random_ = random.Random(f"{suite}-{name}")
            cells[entry.key] = entry
            records[entry.key] = [
                record(entry.key, f"{suite}{i}", {"accuracy": float(random_.random() < rate)})
                for i in range(300)
            ]
    models = {name: manifest.models[name] for rates in suites.values() for name in rates}
    return build_scorecards(msgspec.structs.replace(manifest, cells=cells, models=models), tables(records))


def test_a_model_that_took_a_harder_suite_alone_is_no_worse_for_it() -> None:
    easy = dict.fromkeys(MODELS, 0.8)
    hard = {name: 0.2 for name in MODELS if name.startswith("aster")}
    claims = make_claims(cards_of({"easy": easy, "hard": hard}))
    (gap,) = claims.gaps
    assert gap.suites == 1
    assert abs(gap.points.value) < 0.1 and gap.points.low < 0 < gap.points.high
    assert gap.odds_ratio.low < 1 < gap.odds_ratio.high
    assert gap.ability_low < 0 < gap.ability_high
    text = " ".join(render_claims(claims, "table", width=160, full=True).split())
    assert "borea-moe has no number, or too many missing attempts, on hard/accuracy" in text
    assert "aster-moe was not measured" not in text


def test_models_that_nothing_links_are_not_compared() -> None:
    cards = cards_of({"easy": {"aster-dense": 0.8}, "hard": {"borea-dense": 0.2}})
    with pytest.raises(UserError, match=r"no suite was measured on both.* one of easy, hard"):
        make_claims(cards)


def test_the_best_models_may_be_linked_by_a_third_alone() -> None:
    shares = {
        "easy": {"aster-dense": 0.8, "aster-moe": 0.4},
        "hard": {"aster-moe": 0.3, "borea-dense": 0.4},
    }
    claims = make_claims(cards_of(shares))
    (gap,) = claims.gaps
    assert (gap.suites, gap.points.value, gap.odds_ratio.value) == (0, None, None)
    assert gap.ability > 0 and "no benchmark in common" in render_claims(claims, "md")


def test_suites_with_attacks_alone_claim_no_capability() -> None:
    manifest, records = synthetic_run()
    cells = {key: cell for key, cell in manifest.cells.items() if cell.suite == "agent"}
    cards = build_scorecards(msgspec.structs.replace(manifest, cells=cells), tables(records))
    claims = make_claims(cards)
    assert claims.hijacking and not claims.problems
    assert (claims.models, claims.gaps, claims.trends, claims.costs, claims.lags) == ((), (), (), (), ())
    said = " ".join(render_claims(claims, "table", full=True).split())
    assert "XB was hijacked" in said and "Ability" not in said
    with pytest.raises(UserError, match="nothing to claim"):
        make_claims(build_scorecards(msgspec.structs.replace(manifest, cells={}), {}))


WAYS = tuple(metric for metric in METRICS if metric.name in ("goal_accepted", "chain_completed"))
CHAINS = {"aster-dense": (0, 24), "aster-moe": (0, 12), "borea-dense": (8, 16), "borea-moe": (24, 24)}
"""Model -> campaigns of which it accepted the goal, campaigns of which it completed the chain."""


def test_what_a_test_by_whole_goals_does_not_see_is_claimed_by_origin() -> None:
    manifest, records = synthetic_run()
    cells = dict(manifest.cells)
    for name, (accepted, completed) in CHAINS.items():
        entry = msgspec.structs.replace(
            cell(name, "steps", WAYS, 48), declared=Declared(derived=(MISMATCH,)), adapter="steps"
        )
        cells[entry.key] = entry
        records[entry.key] = [
            msgspec.structs.replace(
                record(entry.key, f"c{i}/{way}", {metric: float(i < n)}, clusters={"campaign": f"c{i}"}),
                labels={"way": way, "setting": "campaign"},
            )
            for way, metric, n in (
                ("goal", "goal_accepted", accepted),
                ("chain", "chain_completed", completed),
            )
            for i in range(24)
        ]
    claims = make_claims(build_scorecards(msgspec.structs.replace(manifest, cells=cells), tables(records)))
    aster, borea = claims.mismatches
    assert (aster.origin, aster.key, aster.models, borea.origin) == ("XA", "steps/mismatch", 2, "XB")
    assert aster.mean.value == pytest.approx(0.75) and borea.mean.value == pytest.approx(1 / 6)
    assert aster.mean.low < 0.75 < aster.mean.high
    assert (aster.best_model, aster.best.value, aster.best.n) == ("aster-moe", pytest.approx(0.5), 24)
    assert (borea.best_model, borea.best.value) == ("borea-moe", 0)
    for form in ("table", "md"):
        said = " ".join(render_claims(claims, form, width=100, full=True).split())
        assert "steps/mismatch, in points:" in said and "chains completed less goals accepted" in said
        assert "+75.0 [" in said
    assert json.loads(render_claims(claims, "json"))["mismatches"][0]["mean"]["value"] == 0.75


FACTS = {
    "aster-dense": ("XA", "2025-01-15", 8_000_000_000, 4),
    "aster-moe": ("XA", "2025-07", 3_000_000_000, None),
    "borea-dense": ("XB", "2026-01-15", 8_000_000_000, 1),
    "borea-moe": ("XB", None, 1_000_000_000, 1),
}
"""Name -> country, release date, active parameters, GPUs."""


def claimed(**asked: object) -> Claims:
    """Claims of the synthetic run with other facts."""
    manifest, records = synthetic_run()
    models = {}
    for name, (country, released, active, gpus) in FACTS.items():
        model = manifest.models[name]
        sizes = {} if gpus is None else {"tensor": gpus, "pipeline": 1, "data": 1}
        details = {"device": "NVIDIA H200", **{f"{k}_parallel_size": str(v) for k, v in sizes.items()}}
        models[name] = msgspec.structs.replace(
            model,
            origin=Origin(developer=model.origin.developer, country=country, release_date=released),
            engine=EngineFacts(name="vllm", version="1", details=details),
            architecture=msgspec.structs.replace(
                model.architecture, active_params=active, weight_bytes=2 * active
            ),
        )
    cards = build_scorecards(msgspec.structs.replace(manifest, models=models), tables(records))
    return make_claims(cards, Asked(**asked))


def test_cost_counts_every_gpu() -> None:
    for found in claimed(price=2.0).models:
        gpus = FACTS[found.model][3]
        assert found.gpus == gpus
        assert found.cost_per_solved == pytest.approx(found.seconds_per_solved / 3600 * (gpus or 1) * 2.0)


def test_what_an_imported_model_cost_is_not_known() -> None:
    manifest, records = synthetic_run()
    engine = EngineFacts(name=IMPORTED, version="1")
    imported = msgspec.structs.replace(manifest.models["borea-dense"], engine=engine)
    manifest = msgspec.structs.replace(manifest, models={**manifest.models, "borea-dense": imported})
    claims = make_claims(build_scorecards(manifest, tables(records)), Asked(price=3.6))
    for found in claims.models:
        costs = (found.seconds_per_solved, found.tokens_per_solved, found.cost_per_solved)
        assert [cost is None for cost in costs] == [found.model == "borea-dense"] * 3
        assert found.solved > 0


def test_energy_per_solved_task() -> None:
    manifest, records = synthetic_run()
    records["aster-moe-questions"] = [
        msgspec.structs.replace(r, usage=msgspec.structs.replace(r.usage, joules=36.0))
        for r in records["aster-moe-questions"]
    ]
    claims = make_claims(build_scorecards(manifest, tables(records)))
    found = {model.model: model for model in claims.models}
    assert found["aster-moe"].joules_per_solved == pytest.approx(60 * 36 / found["aster-moe"].solved)
    assert found["aster-dense"].joules_per_solved is None
    text = render_claims(claims, "md")
    assert "not measured" in text and "Energy was not measured" not in text


def test_the_lag_is_between_release_dates() -> None:
    claims = claimed()
    (lag,) = claims.lags
    assert (lag.leader, lag.behind, lag.model, lag.reached_by) == (
        "XA", "XB", "borea-dense", "aster-dense",
    )  # fmt: skip
    assert lag.months == pytest.approx(365 / (365.25 / 12))
    assert lag.at_least and lag.high is None
    assert claims.undated == ("borea-moe",)
    assert all(trend.per_year is None for trend in claims.trends)
    text = " ".join(render_claims(claims, "table", width=160, full=True).split())
    assert "at least 12.0 [" in text and "no trend: fewer than three models" in text
    assert "In no trend and no lag, for want of a release date: borea-moe." in text


def test_ability_goes_up_with_size_by_a_line_through_all_models() -> None:
    claims = claimed()
    x = [math.log2(FACTS[model.model][2]) for model in claims.models]
    y = [model.ability for model in claims.models]
    mean_x, mean_y = sum(x) / 4, sum(y) / 4
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )
    for size in claims.sizes:  # weights are twice the active parameters: the same slope
        assert size.per_doubling == pytest.approx(slope)
        assert size.low < slope < size.high and size.models == 4


def test_a_larger_machine_is_named_where_it_runs_a_better_model() -> None:
    manifest, records = synthetic_run()
    models = dict(manifest.models)
    for name, gigabytes in {"aster-dense": 60, "aster-moe": 10, "borea-dense": 10, "borea-moe": 60}.items():
        architecture = msgspec.structs.replace(models[name].architecture, weight_bytes=gigabytes * 10**9)
        models[name] = msgspec.structs.replace(models[name], architecture=architecture)
    cards = build_scorecards(msgspec.structs.replace(manifest, models=models), tables(records))
    ability = {model.model: model.ability for model in make_claims(cards).models}
    assert ability["aster-dense"] > ability["aster-moe"] and ability["borea-dense"] > ability["borea-moe"]
    assert [(claim.origin, claim.gpu, claim.model) for claim in make_claims(cards).hardware] == [
        ("XA", "24 GB", "aster-moe"),
        ("XA", "80 GB", "aster-dense"),
        ("XB", "24 GB", "borea-dense"),
    ]


def test_the_luck_of_the_choice_is_taken_out_of_abilities(claims: Claims) -> None:
    (gap,) = claims.gaps
    assert gap.ability_corrected is not None
    assert gap.ability_corrected != gap.ability
    assert abs(gap.ability_corrected - gap.ability) < 0.5


def test_luck_of_two_equal_models_is_known_in_closed_form() -> None:
    """The larger of two standard normals is on average 1/sqrt(pi) too large; shared noise adds nothing."""
    independent = draws([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], number=200_000)
    assert luck([0.0, 0.0], independent) == pytest.approx(1 / math.sqrt(math.pi), abs=0.01)
    shared = draws([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]], number=200_000)
    assert luck([0.0, 0.0], shared) == pytest.approx(0.0, abs=0.01)
    assert luck([0.0], independent[:, :1]) == 0.0


def test_origins_are_what_is_asked_for() -> None:
    by_type = claimed(by="type")
    assert {model.origin for model in by_type.models} == {"dense", "MoE"}
    assert (by_type.gaps[0].a, by_type.gaps[0].b) == ("MoE", "dense")
    assert "origin: type" in render_claims(by_type, "md")
    assert "origin: country of the base weights" in render_claims(claimed(by="base"), "md")


@pytest.mark.parametrize("method", ["curve", "both-solved"])
def test_cost_ratios_are_between_the_best_models(method: str) -> None:
    claims = claimed(cost=method)
    (cost,) = claims.costs
    assert (cost.key, cost.a, cost.b) == ("questions/accuracy", "aster-dense", "borea-dense")
    # Every attempt takes as long as every other, on four GPUs against one.
    assert cost.ratio.value == pytest.approx(4.0)
    assert (cost.ratio.low, cost.ratio.high) == (pytest.approx(4.0), pytest.approx(4.0))
    for form in ("md", "table"):
        assert "CAISI" in render_claims(claims, form, full=True)


def test_a_perfectly_ordered_run_has_no_abilities() -> None:
    """Who is better solves all that the weaker do, and more: the likelihood has no maximum."""
    manifest, records = synthetic_run()
    level = {"aster-dense": 50, "aster-moe": 25, "borea-dense": 25, "borea-moe": 50}
    for name, solved in level.items():
        records[f"{name}-questions"] = [
            msgspec.structs.replace(
                r,
                scores=tuple(
                    msgspec.structs.replace(s, value=float(int(r.sample[1:]) < solved)) for s in r.scores
                ),
            )
            for r in records[f"{name}-questions"]
        ]
    claims = make_claims(build_scorecards(manifest, tables(records)))
    assert not claims.finite and not any(model.finite for model in claims.models)
    assert claims.sizes == claims.trends == () and claims.gaps[0].ability is None
    assert claims.gaps[0].points.value == pytest.approx(0.0)
    found = json.loads(render_claims(claims, "json"))
    assert {model["ability"] for model in found["models"]} == {None}
    assert "Not finite" in render_claims(claims, "md")


SNAPSHOT = """\
date: 2026-01-02
source: made up
models:
  aster-dense: {downloads: 1000, derivatives: 3}
  hub/Aster-MoE: {downloads: 500}
  borea-moe: {downloads: 70, derivatives: 0}
  somebody/else: {downloads: 1}
"""


def test_adoption_is_summed_over_an_origins_models(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SNAPSHOT)
    snapshot = read_snapshot(tmp_path / "a.yaml")
    assert snapshot.models["borea-moe"] == Adopted(downloads=70, derivatives=0)
    claims = claimed(snapshot=snapshot, paths={"aster-moe": "hub/aster-moe"})
    found = {(c.origin, c.model): (c.downloads, c.derivatives, c.models, c.of) for c in claims.adoption}
    assert found["XA", None] == (1500, None, 2, 2)  # the derivatives of one are not known
    assert found["XB", None] == (70, 0, 1, 2)
    assert found["XB", "borea-dense"] == (None, None, 0, 1)
    text = render_claims(claims, "md")
    assert "Adoption, as read on 2026-01-02" in text and "made up (read on 2026-01-02, as supplied)" in text
    assert json.loads(render_claims(claims, "json"))["snapshot"] == {
        "date": "2026-01-02",
        "source": "made up",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SNAPSHOT.replace("downloads: 1000", "downlods: 1000"), "a.yaml:4: unknown key `downlods` (did you"),
        (SNAPSHOT.replace("1000", "-1"), "a.yaml:4"),
        (SNAPSHOT.replace("1000", "many"), "a.yaml:4"),
        (SNAPSHOT.replace("date: 2026-01-02\n", ""), "key `date` is missing"),
        (SNAPSHOT.replace("2026-01-02", "last week"), "a.yaml:1"),
        (SNAPSHOT.replace("2026-01-02", "2999-01-02"), "a.yaml:1: key `date`: 2999-01-02 is to come"),
        (SNAPSHOT.replace("made up", '" "'), "a.yaml:2: key `source`"),
        ("- 1\n", "expected a mapping with the keys date, source and models"),
    ],
)
def test_a_snapshot_that_is_not_right_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_snapshot(tmp_path / "a.yaml")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_snapshot_of_other_models_is_refused() -> None:
    snapshot = Snapshot(date=datetime.date(2026, 1, 1), source="s", models={"x": Adopted(downloads=1)})
    with pytest.raises(UserError, match="has none of this run's models: name them as one of aster-dense"):
        claimed(snapshot=snapshot)


def test_the_price_is_the_configs_unless_one_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run", *synthetic_run())
    (run / "config.yaml").write_text(
        "name: s\nmodels:\n- {name: aster-moe, path: hub/aster-moe, origin: {developer: D, country: XA}}\n"
        "suites:\n- {adapter: agentdojo, suite: banking}\nsampling: {}\nprice_per_gpu_hour: 2.5\n"
    )
    (tmp_path / "a.yaml").write_text(SNAPSHOT)
    assert main(["claims", str(run), "--format", "json", "--adoption", str(tmp_path / "a.yaml")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["price"] == 2.5
    assert next(c for c in found["adoption"] if c["model"] == "aster-moe")["downloads"] == 500
    assert main(["claims", str(run), "--format", "json", "--price", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["price"] == 4.0
