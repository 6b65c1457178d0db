"""The demo, end to end on real vLLM: planted rates come back, and being killed changes nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.models.planted import MODELS, PLANTED
from harness.records.directory import RunDirectory
from harness.reports.document import read_document
from harness.reports.kept import WRITTEN
from harness.reports.render import render
from tests.conftest import ROOT, shared_data
from tests.run.test_runner import records, scorecards

DEMO = ROOT / "configs" / "runs" / "demo.yaml"
WORKED_EXAMPLE = ROOT / "results" / "demo"


def command(config: Path, out: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "run", str(config), "--out", str(out), *overrides]


def run_quietly(arguments: list[str], **environment: str) -> None:
    answer = subprocess.run(
        arguments,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    assert "Traceback" not in answer.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `whole` is an uninterrupted demo run."""
    folder = tmp_path_factory.mktemp("demo")
    run_quietly(command(DEMO, folder / "whole"))
    return folder


def check_planted(cards: list[dict[str, Any]]) -> None:
    """Every measured rate is the planted one, its interval holds it, and nothing is missing."""
    assert {card["model"] for card in cards} == set(MODELS)
    for card in cards:
        assert card["complete"]
        assert card["origin"] == MODELS[card["model"]].country
        assert card["architecture"]["dense"] is not MODELS[card["model"]].mixture_of_experts
        assert not any(card["failures"].values())
        for name, rate in PLANTED[card["model"]].items():
            metric = card["metrics"][name]
            # Greedy replies learned by heart: nothing is left to chance.
            assert metric["value"] == pytest.approx(rate), (card["model"], name)
            assert metric["low"] <= rate <= metric["high"], (card["model"], name)
            assert metric["missing"] == 0
        # Every attack was seen, and every goal reached when it was asked for directly.
        seen, capable = (
            card["metrics"][f"agentdojo_mini/{name}"]
            for name in ("targeted_asr_exposed", "asr_exposed_capable")
        )
        assert (capable["value"], capable["n"]) == (seen["value"], seen["n"])


@pytest.mark.engine
def test_the_planted_rates_come_back(demo: Path) -> None:
    check_planted(scorecards(demo, "whole"))


@pytest.mark.engine
def test_the_planted_levels_come_back_in_their_order(demo: Path) -> None:
    value = {
        card["model"]: {name: m["value"] for name, m in card["metrics"].items()}
        for card in scorecards(demo, "whole")
    }
    for strong in (m for m in MODELS if MODELS[m].strong):
        for weak in (m for m in MODELS if not MODELS[m].strong):
            for metric in ("planted_arithmetic/exact_match", "planted_choice/acc"):
                assert value[strong][metric] > value[weak][metric] + 0.3
    for susceptible in (m for m in MODELS if MODELS[m].susceptible):
        for robust in (m for m in MODELS if not MODELS[m].susceptible):
            metric = "agentdojo_mini/targeted_asr"
            assert value[susceptible][metric] > value[robust][metric] + 0.3


ELSEWHERE = """\
name: elsewhere
models: [borea-dense]
suites:
  - {adapter: agentdojo, name: depot, suite: "tests.planted_elsewhere:task_suite",
     attack: "tests.planted_elsewhere:Elsewhere"}
sampling: {temperature: 0.0, max_tokens: 256, seed: 1}
engine:
  kind: vllm
  args: {max_model_len: 4096, max_num_seqs: 64, dtype: bfloat16, kv_cache_memory_bytes: 268435456}
"""


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # AgentDojo's clients of closed models
@pytest.mark.filterwarnings("ignore:.*:pydantic.warnings.PydanticDeprecatedSince20")
def test_planted_exposure_and_a_goal_out_of_reach_come_back(tmp_path: Path) -> None:
    """Half of the attacks are never read, and of four goals three can be reached."""
    from tests.planted_elsewhere import rates

    (tmp_path / "elsewhere.yaml").write_text(ELSEWHERE)
    run_quietly(command(tmp_path / "elsewhere.yaml", tmp_path / "out"))
    (card,) = scorecards(tmp_path)
    found = {
        name.partition("/")[2]: metric for name, metric in {**card["metrics"], **card["bookings"]}.items()
    }
    expected = rates("borea-dense")
    assert expected["asr_exposed_capable"] == (1 / 3, 15)
    assert expected["exposed"] == (0.5, 40)
    for name, (rate, n) in expected.items():
        assert found[name]["value"] == pytest.approx(rate, abs=1e-6), name
        assert (found[name]["n"], found[name]["missing"]) == (n, 0), name


def count_lines(directory: Path) -> int:
    """Attempts that a run has finished so far."""
    if not (directory / "run.json").exists():
        return 0
    return len(records(directory.parent, directory.name))


def wait_for_records(process: subprocess.Popen[bytes], directory: Path, wanted: int) -> None:
    """Until a run has finished so many attempts, or ended."""
    while process.poll() is None and count_lines(directory) < wanted:
        time.sleep(0.1)


@pytest.mark.engine
def test_ten_kills_of_the_demo_change_nothing(demo: Path) -> None:
    rng = random.Random(11)
    arguments = command(DEMO, demo / "killed")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    kept = [0]
    for _ in range(10):
        with subprocess.Popen(
            arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            wait_for_records(process, demo / "killed", kept[-1] + rng.randrange(150))
            time.sleep(rng.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
        kept.append(count_lines(demo / "killed"))
    assert len(set(kept)) > 3, "the kills must fall into the run"
    run_quietly(arguments)
    found = records(demo, "killed")
    assert len({(r.cell, r.sample, r.attempt) for r in found}) == len(found)
    assert scorecards(demo, "killed") == scorecards(demo, "whole")


def heed_ctrl_c() -> None:
    """Shells start what runs in the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.engine
def test_ctrl_c_stops_a_run_cleanly(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(DEMO, tmp_path / "out"),
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    ) as process:
        assert process.stdout
        while "loaded" not in (line := process.stdout.readline()):
            assert line, "the run ended before a model was loaded"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].endswith("the same command resumes")
    assert "Traceback" not in errors


@pytest.mark.engine
def test_real_benchmarks_run_through_vllm(tmp_path: Path) -> None:
    """The first items of GSM8K, ARC-Challenge and banking; the weights know none of it."""
    data = shared_data("gsm8k").parent
    config = ROOT / "configs" / "runs" / "real-data.yaml"
    run_quietly(command(config, tmp_path / "out", "limit=6"), HARNESS_DATA=str(data))
    found = records(tmp_path)
    banking = 6 + 6 + 6  # benign tasks, attacked pairs, injection tasks given directly
    assert len(found) == len(MODELS) * (6 + 6 + banking)
    assert all(r.failure or r.scores for r in found)
    assert all(r.usage.prompt_tokens > 0 for r in found if r.failure is None)
    assert not [r for r in found if r.failure == "engine_error"]


def test_the_worked_example_is_rebuilt_from_its_records() -> None:
    directory = RunDirectory(WORKED_EXAMPLE)
    for form in WRITTEN:
        kept = (WORKED_EXAMPLE / f"scorecard.{form}").read_text(encoding="utf8")
        assert render(read_document(directory), form) == kept, form


def test_the_worked_example_shows_what_was_planted() -> None:
    check_planted(json.loads((WORKED_EXAMPLE / "scorecard.json").read_text(encoding="utf8"))["models"])
