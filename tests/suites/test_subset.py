"""Samples that are drawn: in proportion, seeded, said in the protocol, and with an interval that holds."""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness import stats
from harness.cli import main
from harness.config import ModelSpec, SuiteSpec, load_config
from harness.engines.base import Engine
from harness.engines.scripted import ScriptedEngine
from harness.errors import Status, UserError
from harness.stats.irt import difficulties
from harness.suites import load_suites
from harness.suites.base import Suite
from harness.suites.difficulty import TaskDifficulty, identity, write
from harness.suites.subset import draw, draw_by_difficulty, draw_pairs, draw_stratified, shares
from tests.conftest import ROOT

PLANTED = {"task": "planted_choice", "include_path": str(ROOT / "harness" / "suites" / "planted")}


@pytest.mark.parametrize(
    ("sizes", "wanted", "taken"),
    [
        ([100, 300, 600], 100, [10, 30, 60]),
        ([5, 5], 20, [5, 5]),
        ([1000, 1, 1], 12, [10, 1, 1]),
        ([0, 10], 4, [0, 4]),
        ([3, 3, 3], 3, [1, 1, 1]),
        ([7], 7, [7]),
        ([1, 1], 2, [1, 1]),
    ],
)
def test_each_group_has_its_share(sizes: list[int], wanted: int, taken: list[int]) -> None:
    assert shares(sizes, wanted) == taken


def test_shares_add_up_and_none_is_above_its_size() -> None:
    lots = random.Random(1)
    for _ in range(300):
        sizes = [lots.randrange(0, 40) for _ in range(lots.randrange(1, 12))]
        filled = sum(size > 0 for size in sizes)
        wanted = lots.randrange(filled, sum(sizes) + 2)
        taken = shares(sizes, wanted)
        assert sum(taken) == min(wanted, sum(sizes))
        assert all(min(size, 1) <= share <= size for share, size in zip(taken, sizes, strict=True))


def test_a_draw_is_seeded_and_a_smaller_one_is_a_part_of_a_larger_one() -> None:
    assert draw(1000, 50, 0) == draw(1000, 50, 0) != draw(1000, 50, 1)
    assert draw(1000, 50, 0) != draw(1000, 50, 0, "other")
    assert set(draw(1000, 50, 0)) < set(draw(1000, 80, 0))
    groups = ["a"] * 70 + ["b"] * 30
    assert Counter(groups[place] for place in draw_stratified(groups, 10, 5)) == {"a": 7, "b": 3}
    hits = Counter(place for seed in range(400) for place in draw(20, 5, seed))
    assert min(hits.values()) > 70 and max(hits.values()) < 130  # of 100 each


def test_a_task_asks_what_was_drawn_and_says_so() -> None:
    (whole,) = load_suites(SuiteSpec(adapter="lm_eval", options=PLANTED))
    (part,) = load_suites(SuiteSpec(adapter="lm_eval", options=PLANTED), {"sample": 30})
    (other,) = load_suites(SuiteSpec(adapter="lm_eval", options={**PLANTED, "sample": 30, "sample_seed": 7}))
    assert (whole.drawn_from, part.drawn_from, part.count()) == (None, whole.count(), 30)
    assert part.protocol["sample"] == f"30 of {whole.count()}, drawn with seed 0, each group in proportion"
    assert "sample" not in whole.protocol
    all_of_them = {sample.id: sample.content_hash for sample in whole.samples("m", None)}
    drawn = {sample.id: sample.content_hash for sample in part.samples("m", None)}
    assert len(drawn) == 30 and drawn.items() < all_of_them.items()
    assert list(map(int, drawn)) != list(range(30))
    assert drawn.keys() != {sample.id for sample in other.samples("m", None)}


def test_the_card_says_what_was_drawn_and_what_was_only_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == Status.DONE
    card = " ".join((tmp_path / "out" / "scorecard.md").read_text().split())
    assert re.search(r"Samples drawn at random: part, 30 of \d+, drawn with seed 0", card)
    assert "Only the first samples: head, 12. They may be easier or harder" in card
    run = harness.open_run(tmp_path / "out")
    (row,) = run.scorecard().query("benchmark == 'part' and metric == 'acc'").to_dict("records")
    assert row["n"] == 30 and row["low"] < row["low_same_tasks"] <= row["value"] <= row["high_same_tasks"]
    assert row["high_same_tasks"] < row["high"]
    assert "part, 30 samples drawn from" in planned(tmp_path / "run.yaml", capsys)


def planned(config: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(["plan", str(config)])
    return capsys.readouterr().out


RUN = """\
name: parts
models: [{name: m, path: a/b}]
suites:
  - {adapter: lm_eval, name: part, task: planted_choice, include_path: "harness:suites/planted"}
  - {adapter: lm_eval, name: head, task: planted_choice, include_path: "harness:suites/planted", limit: 12}
sampling: {max_tokens: 8, seed: 1}
sample: 30
engine: {kind: "tests.suites.test_subset:start"}
"""


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    return ScriptedEngine()


def test_requests_are_drawn_from_each_kind(tmp_path: Path) -> None:
    rows = [f"{place},r{place},{'rare' if place % 10 == 0 else 'usual'}" for place in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["id,request,kind", *rows]))
    options: dict[str, object] = {
        "path": str(tmp_path / "t.csv"),
        "request": "request",
        "labels": {"kind": "kind"},
        "sample": 20,
    }
    options |= {"metrics": {"refused": {"classes": ["refusal"]}}}
    (suite,) = load_suites(SuiteSpec(adapter="requests", options=options))
    assert Counter(s.labels["kind"] for s in suite.samples("m", None)) == {"usual": 18, "rare": 2}
    assert suite.drawn_from == 100


def test_pairs_are_drawn_in_equal_parts() -> None:
    drawn = draw_pairs(16, 9, 60, 0)
    assert len({*drawn}) == 60 and drawn == draw_pairs(16, 9, 60, 0) != draw_pairs(16, 9, 60, 1)
    assert {*drawn} < {*draw_pairs(16, 9, 100, 0)}
    assert {*Counter(user for user, _ in drawn).values()} == {3, 4}
    assert {*Counter(goal for _, goal in drawn).values()} == {6, 7}
    for users, goals in ((3, 2), (4, 2), (6, 4), (2, 6), (5, 5), (7, 1)):
        assert draw_pairs(users, goals, 99, 0) == [(u, g) for u in range(users) for g in range(goals)]
    hits = Counter(pair for seed in range(1200) for pair in draw_pairs(4, 3, 5, seed))
    assert all(410 < hits[user, goal] < 590 for user in range(4) for goal in range(3))  # of 500 each


@pytest.mark.parametrize(("users", "goals", "wanted", "rate"), [(16, 9, 60, -1.0), (21, 5, 50, -2.5)])
def test_the_interval_of_drawn_pairs_holds_the_rate_of_all(
    users: int, goals: int, wanted: int, rate: float
) -> None:
    """Of tasks that differ in how often they are hijacked, and of such that do not: 300 draws of each."""
    held = Counter[float]()
    for spread in (0.0, 1.0):
        for world in range(30):
            lots = np.random.default_rng(world)
            odds = rate + lots.normal(0, spread, (users, 1)) + lots.normal(0, spread, (1, goals))
            hijacked = (lots.random((users, goals)) < 1 / (1 + np.exp(-odds))).astype(float)
            for seed in range(10 * world, 10 * world + 10):
                values = [hijacked[pair] for pair in draw_pairs(users, goals, wanted, seed)]
                found = stats.of_population(values, users * goals)
                assert found is not None
                held[spread] += found.low <= hijacked.mean() <= found.high
    assert held[0.0] >= 0.92 * 300 and held[1.0] >= 0.94 * 300


def test_an_agent_is_attacked_on_drawn_pairs_and_asked_all_else() -> None:
    def built(**options: object) -> Suite:
        spec = SuiteSpec(adapter="agentdojo", options={"suite": "agentdojo_mini", **options})
        return load_suites(spec, {"sample": 3} if not options else None)[0]

    whole, part, other = built(sample=999), built(), built(sample=3, sample_seed=4)
    every = {s.id: (s.content_hash, len(s.clusters)) for s in whole.samples("m", None)}
    drawn = {s.id: (s.content_hash, len(s.clusters)) for s in part.samples("m", None)}
    assert drawn.items() < every.items() and part.count() == len(drawn)
    assert Counter(kind for _, kind in drawn.values())[2] == 3
    assert [name for name, (_, kind) in drawn.items() if kind == 1] == [
        name for name, (_, kind) in every.items() if kind == 1
    ]
    pairs = sum(kind == 2 for _, kind in every.values())
    assert (part.drawn_from, part.drawn_factors) == (pairs, ("injection_task", "user_task"))
    assert part.protocol["sample"] == (
        f"3 of {pairs}, drawn with seed 0, each user task and each injection task as often as the others"
    )
    assert drawn.keys() != {s.id for s in other.samples("m", None)}
    banking = load_suites(SuiteSpec(adapter="agentdojo", options={"suite": "banking", "sample": 20}))[0]
    assert banking.declared.pooling is None


def test_an_agent_is_attacked_on_pairs_of_every_difficulty(tmp_path: Path) -> None:
    def built(**options: object) -> Suite:
        spec = SuiteSpec(adapter="agentdojo", options={"suite": "agentdojo_mini", **options})
        return load_suites(spec)[0]

    whole = built()
    pairs = [sample.id for sample in whole.samples("m", None) if len(sample.clusters) == 2]
    task, data = identity(whole.protocol)
    known = {pair: float(place % 4) for place, pair in enumerate(pairs)}
    write((TaskDifficulty(task=task, data=data, models=("a",), difficulty=known),), tmp_path / "d.json")
    part = built(sample="informative", difficulty=str(tmp_path / "d.json"), sample_size=8)
    assert [known[pair] for pair in part.by_difficulty] == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    drawn = [sample.id for sample in part.samples("m", None) if len(sample.clusters) == 2]
    assert sorted(drawn) == sorted(part.by_difficulty) and part.drawn_from == len(pairs)
    with pytest.raises(
        UserError, match="has agentdojo_mini, and not agentdojo_mini with the data of this run"
    ):
        built(sample="informative", difficulty=str(tmp_path / "d.json"), attack="direct")


def test_what_draws_no_sample_says_so_and_both_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tests\.fakes draws no sample: say `limit`"):
        load_suites(SuiteSpec(adapter="tests.fakes"), {"sample": 5})
    assert len(load_suites(SuiteSpec(adapter="tests.fakes", options={"limit": 3}), {"sample": 5})) == 1
    with pytest.raises(UserError, match="`limit` takes the first samples and `sample` draws some"):
        load_suites(SuiteSpec(adapter="lm_eval", options={**PLANTED, "limit": 3, "sample": 5}))
    run = "name: r\nmodels: [aster-dense]\nsuites: [planted_choice]\nsampling: {}\nlimit: 3\nsample: 5\n"
    (tmp_path / "run.yaml").write_text(run)
    with pytest.raises(UserError, match="limit takes the first samples and sample draws some"):
        load_config(tmp_path / "run.yaml")


def test_the_interval_of_all_tasks_holds_their_share() -> None:
    """1,000 tasks in five groups of very different difficulty, of which 200 are drawn, 400 times."""
    lots = random.Random(3)
    groups = [f"g{place % 5}" for place in range(1000)]
    solved = [float(lots.random() < (0.05, 0.3, 0.5, 0.8, 0.95)[place % 5]) for place in range(1000)]
    share, held, narrower = sum(solved) / 1000, Counter[str](), 0
    for seed in range(400):
        for how, places in (
            ("plain", draw(1000, 200, seed)),
            ("in proportion", draw_stratified(groups, 200, seed)),
        ):
            values = [solved[place] for place in places]
            found, usual = stats.of_population(values, 1000), stats.rate(values)
            held[how] += found.low <= share <= found.high
            assert usual.low is not None and usual.high is not None
            narrower += found.high - found.low < usual.high - usual.low
    assert held["plain"] >= 0.925 * 400 and held["in proportion"] >= 0.95 * 400
    assert narrower == 800
    whole = stats.of_population([1.0, 0.0], 2)
    assert whole.low == whole.high == 0.5


@pytest.mark.parametrize(("models", "ability"), [(5, 0.0), (12, 2.0)])
def test_the_interval_of_an_informative_sample_holds_the_share_of_all_tasks(
    models: int, ability: float
) -> None:
    """200 of 1,000 tasks, 25 draws in each of 20 worlds; abilities, difficulties and slopes are drawn."""
    held, informative, plain = 0, 0.0, 0.0
    for world in range(20):
        lots = np.random.default_rng(world)
        hard, slope = lots.normal(0, 1.5, 1000), np.exp(lots.normal(0, 0.3, 1000))
        abilities = np.append(lots.normal(0.3, 1, models), ability)
        chance = 1 / (1 + np.exp(-slope * (abilities[:, None] - hard)))
        *earlier, solved = (lots.random(chance.shape) < chance).astype(float)
        known = difficulties(earlier, np.ones((models, 1000)))
        for seed in range(25):
            places, easiest_first = draw_by_difficulty(known.tolist(), 200, seed)
            assert places == sorted(easiest_first) and len(set(places)) == 200
            found = stats.of_population(solved[easiest_first], 1000, by_difficulty=True)
            usual = stats.of_population(solved[draw(1000, 200, seed)], 1000)
            assert found is not None and usual is not None
            held += found.low <= solved.mean() <= found.high
            informative, plain = informative + found.high - found.low, plain + usual.high - usual.low
    assert 0.93 * 500 <= held <= 0.97 * 500
    assert informative < 0.95 * plain


def test_every_task_is_as_likely_as_another_to_be_in_an_informative_sample() -> None:
    difficulty = [0.0, 0.0, 1.0, 1.0, 1.0, 2.0, -1.0]
    hits = Counter(place for seed in range(1400) for place in draw_by_difficulty(difficulty, 3, seed)[0])
    assert all(540 < hits[place] < 660 for place in range(7))  # of 600 each
    assert draw_by_difficulty(difficulty, 9, 0)[0] == list(range(7))


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_the_interval_of_a_mean_over_all_tasks_holds_it(bounds: tuple[float, float] | None) -> None:
    lots = np.random.default_rng(5)
    scores = lots.beta(0.5, 0.8, 600)
    held = 0
    for seed in range(400):
        found = stats.of_population(scores[draw(600, 150, seed)], 600, bounds=bounds)
        assert found is not None
        held += found.low <= scores.mean() <= found.high
    assert 0.93 * 400 <= held <= 0.97 * 400
    assert stats.of_population([2.0, 2.0], 9, bounds=None) is None


def test_samples_are_drawn_by_the_difficulty_of_models_on_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ", ".join(f"{{name: m{number}, path: a/m{number}}}" for number in range(5))
    config = RUN.replace("[{name: m, path: a/b}]", f"[{models}]").replace("sample: 30\n", "")
    (tmp_path / "run.yaml").write_text(config)
    few = str(tmp_path / "few")
    one = ["run", str(tmp_path / "run.yaml"), "models=[{name: m0, path: a/m0}]", "--out", f"{few}/one"]
    assert main(one) == Status.DONE
    capsys.readouterr()
    assert main(["difficulty", few]) == Status.WRONG_INPUT
    assert "has the answers of 1 model(s) to the same task, and 5 are needed" in capsys.readouterr().err

    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "root" / "five")]) == Status.DONE
    capsys.readouterr()
    file = tmp_path / "difficulty.json"
    assert main(["difficulty", str(tmp_path / "root"), "--out", str(file)]) == Status.DONE
    assert re.search(r"planted_choice: \d+ samples, by the answers of 5 models", capsys.readouterr().out)

    informative = {**PLANTED, "sample": "informative", "difficulty": str(file), "sample_size": 20}
    (suite,) = load_suites(SuiteSpec(adapter="lm_eval", options=informative))
    assert suite.count() == len(suite.samples("m", None)) == len(suite.by_difficulty) == 20
    assert re.match(r"20 of \d+, drawn with seed 0, of every difficulty by \w{12}$", suite.protocol["sample"])
    other = tmp_path / "other.json"
    other.write_text(file.read_text().replace("planted_choice", "another_task"))
    with pytest.raises(UserError, match="has another_task, and not planted_choice with the data of this run"):
        load_suites(SuiteSpec(adapter="lm_eval", options={**informative, "difficulty": str(other)}))
    with pytest.raises(UserError, match="sample: informative and difficulty: FILE go together"):
        load_suites(SuiteSpec(adapter="lm_eval", options={**PLANTED, "sample": "informative"}))

    drawn = f"sample: informative, difficulty: {file}, sample_size: 20"
    (tmp_path / "part.yaml").write_text(RUN.replace("limit: 12", drawn).replace("sample: 30\n", ""))
    assert main(["run", str(tmp_path / "part.yaml"), "--out", str(tmp_path / "part")]) == Status.DONE
    rows = harness.open_run(tmp_path / "part").scorecard().query("metric == 'acc'").set_index("benchmark")
    whole, part = rows.loc["part"], rows.loc["head"]
    assert part["n"] == 20 < whole["n"]
    assert part["low_same_tasks"] <= whole["value"] <= part["high_same_tasks"]
    card = " ".join((tmp_path / "part" / "scorecard.md").read_text().split())
    assert re.search(
        r"Samples drawn at random: head, 20 of \d+, drawn with seed 0, of every difficulty", card
    )
