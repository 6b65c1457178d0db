"""Logs of Inspect's own runner become reference rows, with the scores that it gave."""

import asyncio
import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.records.directory import RunDirectory
from harness.types import FailureKind
from tests.suites.inspect_ai.test_inspect_tasks import as_inspect, suite

pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of inspect_ai's imports

TASKS = ("sums", "keys", "repeated", "raises")


async def logged(folder: Path) -> dict[str, dict[str, float]]:
    """Task -> metric -> the mean that Inspect reports."""
    from inspect_ai import eval_async
    from inspect_ai.model import get_model
    from inspect_ai.util._display import init_display_type

    init_display_type("none")
    logs = await eval_async(
        [suite(name)._make() for name in TASKS],
        model=get_model("mockllm/model", custom_outputs=as_inspect, memoize=False),
        log_dir=str(folder),
        ctl_server=False,
        fail_on_error=False,
        max_tasks=len(TASKS),
    )
    means: dict[str, dict[str, float]] = {}
    for log in logs:
        for score in log.results.scores if log.results else ():  # of one that errors throughout
            value = next((score.metrics[m].value for m in ("accuracy", "mean") if m in score.metrics), None)
            named = score.name if score.name == score.scorer else f"{score.scorer}:{score.name}"
            means.setdefault(log.eval.task, {})[named] = value
    return means


def test_means_are_those_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    means = asyncio.run(logged(tmp_path / "logs"))
    out = tmp_path / "out"
    assert main(["replay", str(tmp_path / "logs"), "--out", str(out), "--name", "gpt-oss-120b"]) == 0
    assert "gpt-oss-120b  sums/match  0.8333  n 6  missing 0" in capsys.readouterr().out
    (card,) = json.loads((out / "scorecard.json").read_text())["models"]
    for task in ("sums", "keys"):
        for metric, mean in means[task].items():
            assert card["metrics"][f"{task}/{metric}"]["value"] == pytest.approx(mean, abs=1e-5), metric
    directory = RunDirectory(out)
    records = {cell.suite: list(directory.records(cell)) for cell in directory.manifest().cells.values()}
    assert {name: len(found) for name, found in records.items()} == {
        "sums": 6,
        "keys": 3,
        "repeated": 6,
        "raises": 6,
    }
    assert {record.failure for record in records["raises"]} == {FailureKind.ENGINE_ERROR}
    assert [m.content for m in records["sums"][1].transcript.messages][1:] == ["What is 1 + 1?", "ANSWER: 2"]
    assert main(["verify", str(out)]) == 0
    assert main(["replay", str(tmp_path / "logs"), "--out", str(out), "--name", "gpt-oss-120b"]) == 2
    assert "already" in capsys.readouterr().err


def test_what_is_no_log_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.eval").write_bytes(b"PK nothing")
    assert main(["replay", str(tmp_path / "a.eval")]) == 2
    assert "a.eval is no log of Inspect's" in capsys.readouterr().err
