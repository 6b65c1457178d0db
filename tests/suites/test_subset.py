"""Samples that are drawn: in proportion, seeded, said in the protocol, and with an interval that holds."""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import stats
from harness.cli import main
from harness.config import ModelSpec, SuiteSpec, load_config
from harness.engines.base import Engine
from harness.engines.scripted import ScriptedEngine
from harness.errors import Status, UserError
from harness.suites import load_suites
from harness.suites.subset import draw, draw_stratified, shares
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
