"""Who has seen a file is found out, and who has not is found out as often as the level says."""

import asyncio
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.config import ModelSpec, OptionError
from harness.engines.scripted import Reply, ScriptedEngine
from harness.suites.contamination import ContaminationSuite, Options, build
from harness.types import Sampling

ITEMS = [f"Question {hashlib.sha256(bytes([i])).hexdigest()}" * 2 for i in range(24)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps({"question": text}) + "\n" for text in ITEMS))
    return file


def suite(path: Path, **options: Any) -> ContaminationSuite:
    return build(None, Options(path=str(path), columns=("question",), **{"shards": 4, **options}))[0]


def never_saw(seed: int = 0, bonus: float = 0.0) -> ScriptedEngine:
    """Finds texts likely by chance; an item right behind the one before it in the file by `bonus` more."""

    def score(context: str, continuation: str) -> float:
        items = continuation.split("\n\n")
        follow = sum((a, b) in PAIRS for a, b in pairwise(items))
        noise = np.random.default_rng([seed, *hashlib.sha256(continuation.encode()).digest()]).normal()
        return float(noise) + bonus * follow

    def complete(prompt: str, sampling: Sampling) -> Reply:
        known = next((text for text in ITEMS if text.startswith(prompt)), "") if bonus else ""
        return Reply(text=known[len(prompt) :] or "I do not know.")

    return ScriptedEngine(score=score, complete=complete)


PAIRS = set(pairwise(ITEMS))


def p_value(chosen: ContaminationSuite, engine: ScriptedEngine) -> float:
    (order, *_) = chosen.samples("Testra", None)
    said = asyncio.run(chosen.run(order, engine, Sampling()))
    return {s.metric: s.value for s in chosen.score(order, said)}["order_p_value"]


def test_the_level_holds_for_who_never_saw_it(path: Path) -> None:
    chosen = suite(path, permutations=19)
    found = np.array([p_value(chosen, never_saw(seed)) for seed in range(200)])
    for level in (0.05, 0.2, 0.5):
        share = (found <= level + 1e-9).mean()
        assert abs(share - level) < 3.3 * np.sqrt(level * (1 - level) / 200), level


def test_who_learned_the_order_is_found_out(path: Path) -> None:
    chosen = suite(path, permutations=99)
    assert p_value(chosen, never_saw(bonus=5.0)) == 0.01  # the smallest that there can be
    weak = [p_value(suite(path, permutations=19), never_saw(seed, bonus=0.3)) for seed in range(60)]
    assert 0.5 < np.mean(np.array(weak) <= 0.05 + 1e-9) < 1  # 5 pairs in each of 4 shards against noise of 2


def test_orders_shuffle_within_shards(path: Path) -> None:
    chosen = suite(path, permutations=3)
    orders = chosen._orders()
    assert len(orders) == 4 and all(len(order) == 4 for order in orders)
    assert "\n\n".join(orders[0]) == "\n\n".join(ITEMS)
    for shard in range(4):
        assert len({frozenset(order[shard].split("\n\n")) for order in orders}) == 1
        assert len({order[shard] for order in orders}) > 1


def test_completions_are_counted(path: Path) -> None:
    chosen = suite(path)
    for engine, completed in ((never_saw(bonus=1.0), 1.0), (never_saw(), 0.0)):
        for sample in chosen.samples("Testra", None)[1:]:
            said = asyncio.run(chosen.run(sample, engine, Sampling(temperature=1.0)))
            (score,) = chosen.score(sample, said)
            assert score.value == completed
    assert chosen.count() == 25 and suite(path, characters=100).count() == 1  # no item is that long


@pytest.mark.parametrize(
    ("options", "says"),
    [({"shards": 13}, "24 items make no 13 shards"), ({"columns": ("a",)}, "no column 'a'")],
)
def test_what_cannot_be_tested_is_one_sentence(path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        build(None, Options(**{"path": str(path), "columns": ("question",), **options}))


async def start(model: ModelSpec, args: dict[str, Any]) -> ScriptedEngine:
    return never_saw(bonus=5.0 if model.name == "learned" else 0.0)


def test_a_whole_run_has_both_on_the_card(path: Path) -> None:
    folder = path.parent
    (folder / "run.yaml").write_text(
        "name: c\nmodels: [{name: learned, path: ./a}, {name: fresh, path: ./b}]\nsampling: {}\n"
        "suites: [{adapter: contamination, path: ./items.jsonl, columns: [question], shards: 4}]\n"
        f"engine: {{kind: '{__name__}:start'}}\n"
    )
    assert main(["run", str(folder / "run.yaml"), "--out", str(folder / "run")]) == 0
    card = harness.open_run(folder / "run").scorecard().set_index(["model", "metric"]).value
    assert card[("learned", "order_p_value")] == 0.01 and card[("learned", "completed")] == 1
    assert card[("fresh", "order_p_value")] > 0.01 and card[("fresh", "completed")] == 0
    assert main(["verify", str(folder / "run")]) == 0
