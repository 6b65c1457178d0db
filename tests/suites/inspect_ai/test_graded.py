"""Scorers that ask a model: what they ask is left to a judge, and is read as Inspect reads it."""

import asyncio
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.cli import main
from harness.config import ModelSpec
from harness.engines.scripted import Reply, ScriptedEngine
from harness.errors import AttemptFailure, UserError
from harness.judges import load_judge
from harness.judges.base import read_verdict
from harness.records.directory import RunDirectory
from harness.records.verdicts import with_verdicts
from harness.suites.scoring import score
from harness.types import FailureKind, Message, Sampling, Tool, Verdict
from tests.suites.inspect_ai.test_inspect_tasks import TASKS, as_inspect, ended, policy, suite

pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of inspect_ai's imports
__all__ = ["ended"]

GRADES = (
    "GRADE: C",
    "grade : i",
    "It says GRADE: C, which is wrong.\n\nGRADE: I",
    "GRADE: Correct.",
    "**GRADE:** C",
    "GRADE: CI",
    "GRADE: C and then GRADE: maybe",
    "downgrade: C",
    "GRADE:\u200bC",
    "GRADE: P",
    "GRADE: partial",
    "C",
    "",
    "GRADE:",
    "GRADE: I\nThat is all. (GRADE)",
)


async def inspect_reads(text: str, partial: bool) -> str | None:
    """The grade that Inspect's own scorer finds in what a grader writes."""
    from inspect_ai.model import ModelName, ModelOutput, ModelUsage, get_model
    from inspect_ai.model._model import init_model_roles
    from inspect_ai.scorer import Target, model_graded_qa
    from inspect_ai.solver import TaskState

    output = ModelOutput.from_content("mockllm/model", text)
    output.usage = ModelUsage(total_tokens=1)  # else Inspect counts, with a tokenizer that it downloads
    init_model_roles({"grader": get_model("mockllm/model", custom_outputs=[output], memoize=False)})
    state = TaskState(ModelName("mockllm/model"), "1", 1, "What?", [], output=output)
    given = (await model_graded_qa(partial_credit=partial)(state, Target("4"))).value
    return given if isinstance(given, str) else None  # nan: it was not scored


@pytest.mark.parametrize(("judge", "partial"), [("grader", False), ("grader-partial", True)])
async def test_grades_are_read_as_inspect_reads_them(judge: str, partial: bool) -> None:
    spec = load_judge(judge)
    read = [read_verdict(spec, text) for text in GRADES]
    assert read == [await inspect_reads(text, partial) for text in GRADES]
    assert {*spec.classes, None} == {*read}


def grade(prompt: str) -> str:
    """What a grader writes, which goes by the end of the submission and does not know what 6 is."""
    said = {
        name: prompt.partition(f"[{name}]: ")[2].partition("\n")[0] for name in ("Submission", "Criterion")
    }
    if said["Criterion"] == "6":
        return "Well."
    return f"Because.\nGRADE: {'C' if said['Submission'].endswith(said['Criterion']) else 'I'}"


def replies(messages: list[Message], tools: list[Tool], sampling: Sampling) -> Reply:
    """Of the model that is measured, and of the grader."""
    text = messages[-1].content
    return Reply(text=grade(text)) if "[Submission]" in text else policy(messages, tools, sampling)


async def start(model: ModelSpec, args: dict[str, Any]) -> ScriptedEngine:
    """For `engine.kind`."""
    return ScriptedEngine(chat=replies)


async def inspect_says(folder: Path) -> dict[str, float]:
    """Sample -> score, by Inspect's runner with the same model and grader."""
    from inspect_ai import eval_async
    from inspect_ai.log import read_eval_log_async
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import value_to_float
    from inspect_ai.util._display import init_display_type

    init_display_type("none")

    def as_grader(input: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
        made = ModelOutput.from_content("mockllm/model", grade(input[-1].text))
        made.usage = ModelUsage(total_tokens=1)
        return made

    model, grader = (
        get_model("mockllm/model", custom_outputs=says, memoize=False) for says in (as_inspect, as_grader)
    )
    (log,) = await eval_async(
        suite("graded")._make(),
        model=model,
        model_roles={"grader": grader},
        log_dir=str(folder),
        ctl_server=False,
    )
    found = await read_eval_log_async(log.location)
    assert found.status == "success" and found.samples
    return {str(s.id): value_to_float()(s.scores["model_graded_qa"].value) for s in found.samples if s.scores}


RUN = """\
name: graded
models:
  - {name: one, path: "harness:models/planted/aster-dense", origin: {developer: A, country: XA}}
suites:
  - {adapter: inspect, task: ./graded_tasks.py@graded, judge: ./judge.yaml}
sampling: {temperature: 0.0}
engine: {kind: "tests.suites.inspect_ai.test_graded:start"}
"""


def judge(path: Path, name: str) -> None:
    """One of the registry's judges for scorers of Inspect's, on another engine."""
    spec = msgspec.to_builtins(load_judge(name))
    spec["model"] = {"name": "g", "path": "harness:models/planted/borea-moe"}
    spec["engine"] = {"kind": "tests.suites.inspect_ai.test_graded:start"}
    path.write_text(json.dumps(spec))


def test_a_judge_is_the_grader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "graded_tasks.py").write_text(TASKS.read_text())
    (tmp_path / "run.yaml").write_text(RUN)
    judge(tmp_path / "judge.yaml", "grader")
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(out)]) == 0
    (cell,) = RunDirectory(out).manifest().cells.values()
    records = list(RunDirectory(out).each_judged(cell))
    assert all("[Submission]" in r.scores[0].operands[0] for r in records)  # type: ignore[index]
    theirs = asyncio.run(inspect_says(tmp_path / "logs"))
    mine = {r.sample: math.nan if (v := r.scores[0].value) is None else v for r in records}
    assert mine == pytest.approx(theirs, nan_ok=True)
    assert mine == pytest.approx(
        {"sum-0": 1, "sum-1": 1, "sum-2": 1, "sum-3": math.nan, "sum-4": 0, "sum-5": 1}, nan_ok=True
    )
    (card,) = json.loads((out / "scorecard.json").read_text())["models"]
    found = card["metrics"]["graded/model_graded_qa"]
    assert (found["value"], found["n"], found["missing"]) == (0.8, 5, 1)


async def test_a_scorer_of_ones_own_asks_the_judge_where_it_cannot_tell() -> None:
    """And what it tells without a judge stays as it is, whatever judges say of other replies."""
    asks = suite("graded_by_its_own", args={"model": "of answers"}, graded={"asks_a_model": ("C",)})
    asks.check()
    (metric,) = asks.metrics
    assert (metric.judged, metric.kind, metric.bounds) == (("C",), "rate", (0.0, 1.0))
    sample = asks.samples("m", None)[0]
    for text, value, operands in (("", 0.0, None), ("0", None, ("Is it right?", "0"))):
        said = await asks.run(sample, ScriptedEngine(chat=lambda *_, t=text: Reply(text=t)), Sampling())
        (given,) = score(asks, sample, said).scores
        assert (given.value, given.operands) == (value, operands)
        votes = [Verdict(verdict="C", raw="GRADE: C")]
        cell = SimpleNamespace(metrics=asks.metrics)
        (after,) = with_verdicts(cell, [given], votes)  # type: ignore[arg-type]
        assert after.value == (1.0 if operands else 0.0)


def test_what_a_judge_cannot_read_is_refused() -> None:
    with pytest.raises(UserError, match="graded names 'nobody': use one of model_graded_qa"):
        suite("graded", graded={"nobody": ("C",)})
    with pytest.raises(UserError, match="names the model that it asks"):  # one that needs no key, too
        suite("graded", args={"model": "mockllm/model"})
    with pytest.raises(UserError, match="several scorers that ask a grader"):
        suite("graded_twice")


async def test_a_scorer_that_asks_twice_has_no_score() -> None:
    asks = suite("graded_by_its_own", args={"model": "twice"}, graded={"asks_a_model": ("C",)})
    sample = asks.samples("m", None)[0]
    said = await asks.run(sample, ScriptedEngine(chat=policy), Sampling())
    with pytest.raises(AttemptFailure, match="asks a grader 2 times") as caught:
        score(asks, sample, said)
    assert caught.value.kind is FailureKind.SCORER_ERROR
