"""Logs for Inspect, read back by Inspect."""

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.exports import export
from harness.records.directory import RunDirectory

pytestmark = pytest.mark.filterwarnings("ignore")  # of inspect_ai's and AgentDojo's imports


@pytest.fixture(scope="module")
def logs(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    log = pytest.importorskip("inspect_ai.log", reason="the extra `export` is not installed")
    paths = export(RunDirectory(recorded), "inspect", tmp_path_factory.mktemp("logs"))
    found = [log.read_eval_log(str(path)) for path in paths]
    return {(entry.eval.model, entry.eval.task): entry for entry in found}


def sample(log: Any, name: str) -> Any:
    return next(s for s in log.samples if (s.id, s.epoch) == (name, 1))


def test_there_is_a_log_for_every_cell(logs: dict[tuple[str, str], Any]) -> None:
    assert logs.keys() == {(m, s) for m in ("one", "two") for s in ("banking", "sums", "choices")}
    for (_, suite), log in logs.items():
        assert log.status == "success"
        # Tasks of lm-eval that draw greedily are tried once, whatever the run's attempts.
        assert log.eval.config.epochs == (2 if suite == "banking" else 1)
        assert log.eval.metadata["origin"]["country"] in ("XA", "XB")
        # Log-likelihoods are not drawn.
        assert log.eval.model_generate_config.temperature == (None if suite == "choices" else 0.0)


def test_conversations_keep_calls_results_and_reasoning(logs: dict[tuple[str, str], Any]) -> None:
    found = sample(logs["one", "banking"], "user_task_0/injection_task_0")
    roles = ["system", "user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [message.role for message in found.messages] == roles
    assert [message.role for message in found.input] == ["system", "user"]
    read = found.messages[2]
    assert (read.tool_calls[0].function, read.tool_calls[0].id) == ("read_file", "c0")
    assert read.content[0].reasoning == "A bill."
    assert found.messages[3].function == "read_file"
    assert "to you, Uno." in found.messages[3].content
    assert found.output.completion.startswith("Paid.")
    assert found.model_usage["one"].input_tokens > 0
    assert found.metadata["clusters"] == {"user_task": "user_task_0", "injection_task": "injection_task_0"}


def test_scores_say_what_they_mean(logs: dict[tuple[str, str], Any]) -> None:
    log = logs["one", "banking"]
    asr = sample(log, "user_task_0/injection_task_0").scores["targeted_asr"]
    assert asr.value in (0.0, 1.0)
    assert asr.answer.startswith("Paid.")
    assert "1 means that the model was hijacked" in asr.explanation
    assert log.eval.metadata["polarity"]["benign_utility"].startswith("higher is better")
    assert log.eval.metadata["polarity"]["exposed"].startswith("neither higher nor lower is better")
    choice = sample(logs["two", "choices"], "0")
    assert choice.scores["acc"].explanation in "ABCD"
    assert choice.target in "ABCD"


def test_failures_are_errors_and_have_no_score_but_what_agentdojo_books(
    logs: dict[tuple[str, str], Any],
) -> None:
    log = logs["one", "banking"]
    failed = [s for s in log.samples if s.error is not None]
    assert {s.id for s in failed} == {"user_task_1", "user_task_2"}
    assert all(s.scores.keys() == {"benign_utility_agentdojo"} for s in failed)
    assert sample(log, "user_task_1").error.message.startswith("tool_parse: no JSON")
    assert sample(log, "user_task_1").metadata["unparsed"] == ["<tool_call>{"]
    means = {score.name: score for score in log.results.scores}
    assert means["benign_utility"].metrics["mean"].value == 1.0
    assert means["benign_utility"].scored_samples == 2
    assert means["benign_utility_agentdojo"].metrics["mean"].value == pytest.approx(1 / 3)
    assert means["benign_utility_agentdojo"].scored_samples == 6


def test_prompts_of_completions_are_there(logs: dict[tuple[str, str], Any]) -> None:
    found = sample(logs["one", "sums"], "1")
    assert found.input[0].content.startswith("<|im_start|>user")
    assert [message.role for message in found.messages] == ["user", "assistant"]
    likelihoods = sample(logs["one", "choices"], "1").metadata["log_likelihoods"]
    assert len(likelihoods) == 4


def test_an_unknown_format_and_a_missing_package_are_said(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no export format 'parchment'"):
        export(RunDirectory(recorded), "parchment", tmp_path)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    assert main(["export", str(recorded), "--out", str(tmp_path), "--format", "inspect"]) == 2
    assert "pip install 'inspect-ai==" in capsys.readouterr().err
