"""The planted models under pressure: each planted truth lies in its interval, through real vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.models.planted import FOLDER, pressed
from tests.models.test_planted_judge import ENGINE

ENGINE_ARGS = {**ENGINE["args"], "max_model_len": 2048}
MODELS: list[dict[str, Any]] = [
    {
        "name": name,
        "path": f"harness:models/planted/{name}",
        "called": rules.called,
        "origin": {"developer": f"{rules.called} Works", "country": "XA"},
        "tool_call_parser": "hermes",
    }
    for name, rules in pressed.MODELS.items()
]
SUITES: list[dict[str, Any]] = [
    {"adapter": "agentdojo", "name": "agentdojo_mini", "suite": "agentdojo_mini", "goals": False},
    {
        "adapter": "agentdojo_searched",
        "name": "searched",
        "suite": "agentdojo_mini",
        "benign": False,
        "goals": False,
        "attacker": "harness:models/planted/dune-dense",
        "attacker_engine": {"kind": "vllm", "args": ENGINE_ARGS},
        "attacker_temperature": 0.0,
        "attacker_max_tokens": 128,
        "budget": pressed.BUDGET,
        "development": pressed.DEVELOPMENT,
        "search_seed": pressed.SEARCH_SEED,
    },
    {"adapter": "stepwise", "ways": ["goal", "chain"]},
    {
        "adapter": "contamination",
        "name": "memorised",
        "path": "./items.jsonl",
        "columns": ["item"],
        "shards": pressed.ITEMS // pressed.SHARD,
        "characters": 30,
    },
]
CONFIG = {
    "name": "pressed",
    "sampling": {"temperature": 0.0, "max_tokens": 128},
    "engine": {"kind": "vllm", "args": ENGINE_ARGS},
}


def test_the_rules_are_what_they_are_said_to_be() -> None:
    from harness.suites.agentdojo.searched import Options, SearchedSuite
    from harness.suites.agentdojo.stepwise.campaigns import campaigns

    kinds = [campaign.kind for campaign in campaigns()]
    assert {kind: kinds.count(kind) for kind in pressed.KINDS} == dict.fromkeys(pressed.KINDS, 8)
    options = Options(
        suite="agentdojo_mini", development=pressed.DEVELOPMENT, search_seed=pressed.SEARCH_SEED
    )
    developed = SearchedSuite("searched", options).protocol["development"].split(",")
    assert {int(name.rpartition("_")[2]) % 2 for name in developed} == {0, 1}
    items = [pressed.item(number) for number in range(pressed.ITEMS)]
    assert len({item.partition(" has key ")[2] for item in items}) == pressed.ITEMS


@pytest.mark.parametrize("model", pressed.MODELS)
def test_a_checkpoint_is_small(model: str) -> None:
    assert sum(file.stat().st_size for file in (FOLDER / model).iterdir()) <= 900_000


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("model", pressed.MODELS)
def test_each_planted_truth_lies_in_its_interval(model: str, tmp_path: Path) -> None:
    turned = pressed.MODELS[model].turned  # a search takes another engine: only where it finds something
    config = {
        **CONFIG,
        "models": [spec for spec in MODELS if spec["name"] == model],
        "suites": [suite for suite in SUITES if turned or suite["adapter"] != "agentdojo_searched"],
    }
    items = [{"item": pressed.item(number)} for number in range(pressed.ITEMS)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    assert main(["run", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out")]) == 0
    (card,) = json.loads((tmp_path / "out" / "scorecard.json").read_text())["models"]
    found = card["metrics"]
    truths = {m: truth for m, truth in pressed.PLANTED[model].items() if turned or "searched/" not in m}
    for metric, truth in truths.items():
        assert found[metric]["missing"] == 0, metric
        assert found[metric]["value"] == pytest.approx(truth, abs=1e-5), metric
        assert found[metric]["low"] <= truth <= found[metric]["high"], metric
    p = found["memorised/order_p_value"]["value"]
    assert p == 0.01 if pressed.MODELS[model].memorised else p > 0.05
