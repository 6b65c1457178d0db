"""The Python interface: what it gives is what the files and the scorecard say."""

import asyncio
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.errors import UserError
from tests import fakes
from tests.conftest import ROOT

DEMO = ROOT / "results" / "demo"


@pytest.fixture(scope="module")
def run() -> harness.Run:
    return harness.open_run(DEMO)


def test_scores_have_a_row_for_every_score(run: harness.Run) -> None:
    scores = run.scores()
    assert set(scores["model"]) == set(run.manifest.models)
    accuracy = scores[scores["metric"] == "acc"].groupby("model")["value"].agg(["mean", "size"])
    assert accuracy.loc["aster-dense"].to_list() == [0.9, 100] and accuracy.loc["aster-moe"].to_list() == [
        0.45,
        100,
    ]
    assert scores["value"].dtype == "float64" and str(scores["completion_tokens"].dtype) == "Int64"


def test_the_scorecard_has_what_the_document_has(run: harness.Run) -> None:
    card = run.scorecard().set_index(["model", "benchmark", "metric"])
    assert len(card) == sum(len(model.metrics) for model in run.document().models)
    for model in run.document().models:
        for result in model.metrics.values():
            row, found = card.loc[(model.model.name, result.suite, result.metric.name)], result.estimate
            assert (row["n"], row["missing"]) == (found.n, found.missing)
            told = [None if pd.isna(row[name]) else row[name] for name in ("value", "low", "high")]
            assert told == [found.value, found.low, found.high]
    hijacked = card.loc[("borea-dense", "agentdojo_mini", "targeted_asr")]
    assert hijacked["value"] == 0.5 and hijacked["low_same_tasks"] > hijacked["low"]


def test_origins_are_compared_by_country_or_by_developer(run: harness.Run) -> None:
    gaps = run.origins()
    gap = gaps.set_index("benchmark_metric").loc["agentdojo_mini/targeted_asr"]
    assert {gap["origin"], gap["other"]} == {"XA", "XB"} and abs(gap["difference"]) == 0.5
    assert gap["low"] <= gap["difference"] <= gap["high"]
    assert set(run.origins("developer")["origin"]) != set(gaps["origin"])


def test_one_attempt_has_its_conversation(run: harness.Run) -> None:
    scores = run.scores()
    name = scores[scores["suite"] == "agentdojo_mini"]["sample"].iloc[0]
    record = run.attempt(f"agentdojo_mini/{name}", model="aster-dense")
    assert record.sample == name and record.transcript.messages
    assert sum(1 for _ in run.attempts("agentdojo_mini", "aster-dense")) == 54


def test_a_root_puts_runs_together(tmp_path: Path, run: harness.Run) -> None:
    for name in ("monday", "tuesday"):
        shutil.copytree(DEMO, tmp_path / name)
    (tmp_path / "notes").mkdir()
    root = harness.open_root(tmp_path)
    assert list(root.runs) == ["monday", "tuesday"]
    card = root.scorecard()
    assert card.columns[0] == "run" and len(card) == 2 * len(run.scorecard())
    assert root.scores()["run"].value_counts().to_dict() == dict.fromkeys(root.runs, len(run.scores()))


def test_what_is_no_run_is_refused_in_one_sentence(tmp_path: Path, run: harness.Run) -> None:
    with pytest.raises(UserError, match="holds no results"):
        harness.open_run(tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        harness.open_root(tmp_path)
    with pytest.raises(
        UserError, match="has no banking of aster-dense: it has agentdojo_mini of aster-dense"
    ):
        run.attempts("banking", "aster-dense")
    with pytest.raises(AttributeError, match="no attribute 'open_ruin'"):
        _ = harness.open_ruin


DIGITS = {
    "name": "digits",
    "models": [{"name": "one", "path": "one"}],
    "suites": [{"adapter": "tests.fakes", "name": "few", "samples": 20}],
    "sampling": {"temperature": 1.0, "seed": 3},
    "engine": {"kind": "tests.fakes:start"},
}


def test_a_config_is_evaluated_and_what_is_finished_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.STARTED.clear()
    first = harness.evaluate(DIGITS, tmp_path / "out")
    assert "one: few 20/20" in capsys.readouterr().out
    (row,) = first.scorecard().to_dict("records")
    assert (row["model"], row["n"], row["missing"]) == ("one", 20, 0)
    file = tmp_path / "digits.yaml"
    file.write_text(json.dumps(DIGITS))
    again = harness.evaluate(file, tmp_path / "out")
    assert again.scorecard().equals(first.scorecard()) and fakes.STARTED == ["one"]


async def _in_a_notebook(out: Path) -> harness.Run:
    return harness.evaluate(DIGITS, out, ["suites.0.samples=4"])


def test_a_notebook_has_a_loop_of_its_own(tmp_path: Path) -> None:
    assert len(asyncio.run(_in_a_notebook(tmp_path / "out")).scores()) == 4


def test_what_cannot_be_evaluated_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown key `sweet`"):
        harness.evaluate({**DIGITS, "sweet": 1}, tmp_path / "out")
    with pytest.raises(UserError, match="out of memory"):
        harness.evaluate(DIGITS, tmp_path / "out", ["engine.args={unloadable: true}"])
