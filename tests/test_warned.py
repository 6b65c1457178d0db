"""What the code of others warns of is kept with what it scored, counted, and told on the card."""

import asyncio
import json
import logging
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.engines.base import Engine
from harness.records.directory import RunDirectory
from harness.suites.base import Needs, Render, Scoring, Suite
from harness.suites.scoring_processes import Scorers
from harness.types import Sample, Sampling, Score, Transcript
from harness.warned import gathered


def test_loggers_and_warnings_are_gathered_and_not_shown(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's
    with gathered() as said:
        logging.getLogger("some.task").warning("no %s\nfound", "answer")
        logging.getLogger("some.task").info("nothing that matters")
        for _ in range(2):  # Python itself says it once a place
            warnings.warn("mean of an empty slice", RuntimeWarning, stacklevel=1)
        warnings.warn("this function will go", DeprecationWarning, stacklevel=1)
        logging.getLogger().error("%d of", "three")
    assert said == ["no answer found", *["RuntimeWarning: mean of an empty slice"] * 2, "%d of"]
    assert capfd.readouterr().err == ""


def test_each_thread_has_its_own_and_others_are_heard_as_before() -> None:
    heard: dict[str, list[str]] = {}
    both = threading.Barrier(2, timeout=300)

    def work(name: str) -> None:
        with gathered() as said:
            both.wait()
            logging.getLogger("task").warning(name)
            warnings.warn(name, UserWarning, stacklevel=1)
            both.wait()
        heard[name] = said

    with warnings.catch_warnings(record=True) as shown, gathered() as outer:
        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with gathered() as inner:
            logging.getLogger("task").warning("inside")
        logging.getLogger("task").warning("outside")
    assert heard == {"a": ["a", "UserWarning: a"], "b": ["b", "UserWarning: b"]} and not shown
    assert (inner, outer) == (["inside"], ["outside"])
    with pytest.warns(UserWarning, match="afterwards"):
        warnings.warn("afterwards", UserWarning, stacklevel=1)


class Outspoken(Suite):
    """Warns of as many words as its sample has."""

    name = "s"

    def __init__(self, scoring: Scoring) -> None:
        self.needs = Needs(scoring=scoring)

    def count(self) -> int:
        return 1

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        return []

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        return Transcript()

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        for word in sample.id.split():
            logging.getLogger("task").warning("no %s", word)
        return ()


@pytest.mark.parametrize("scoring", Scoring)
def test_wherever_a_suite_is_scored(scoring: Scoring) -> None:
    suite = Outspoken(scoring)

    async def score(*names: str) -> list[Any]:
        with Scorers([suite]) as scorers:
            calls = [scorers.score(suite, Sample(id=n, content_hash=""), Transcript()) for n in names]
            return [scored.warnings for scored in await asyncio.gather(*calls)]

    assert asyncio.run(score("a a b", "c", "")) == [("no a", "no b"), ("no c",), ()]


TASK = """
task: numbers
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{n}}"
doc_to_target: "{{n}}"
process_results: !function own.results
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
OWN = """
import logging, warnings

def results(doc, replies):
    if doc["n"] % 2:
        logging.getLogger("lm-eval").warning("no number in the reply")
    for place in range(doc["n"] // 4):
        warnings.warn(f"place {place} is <b>empty</b>")
    return {"acc": 0.0}
"""
CONFIG = """
name: warned
models: [aster-dense]
suites: [{adapter: lm_eval, task: numbers, include_path: ./tasks}]
sampling: {}
engine: {kind: tests.test_warned:start}
"""


async def start(model: Any, args: Any) -> Engine:
    from harness.engines.scripted import ScriptedEngine

    return ScriptedEngine()


def test_what_a_task_warns_of_as_it_scores_stands_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "numbers.yaml").write_text(TASK)
    (tmp_path / "tasks" / "own.py").write_text(OWN)
    (tmp_path / "tasks" / "test.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(20)))
    (tmp_path / "run.yaml").write_text(CONFIG)
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "empty" not in told.err
    directory = RunDirectory(out)
    (cell,) = directory.manifest().cells.values()
    of_sample = {record.sample: record.warnings for record in directory.records(cell)}
    assert of_sample["2"] == () and of_sample["1"] == ("no number in the reply",)
    assert len(of_sample["19"]) == 5

    assert main(["scorecard", str(out), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["cautions"]
    said = [one["text"] for one in found if one["check"] == "scoring_warning"]
    assert said == [
        "scoring 16 of 20 attempts gave the warning: UserWarning: place 0 is <b>empty</b>",
        "scoring 12 of 20 attempts gave the warning: UserWarning: place 1 is <b>empty</b>",
        "scoring 10 of 20 attempts gave the warning: no number in the reply",
        "scoring gave 2 other warnings, each of 8 attempts or fewer: `harness show` tells an attempt's",
    ]
    assert main(["scorecard", str(out), "--format", "md"]) == 0
    page = capsys.readouterr().out
    assert "no number in the reply" in page and "<b>" not in page
    assert main(["show", str(out), "--pair", "numbers/1", "--trust-code", str(tmp_path)]) == 0
    assert "no number in the reply" in capsys.readouterr().out


METRICS = "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]"
OF_CLASSES = """metric_list:
  - {metric: f1, aggregation: f1, higher_is_better: true}
  - {metric: f1_again, aggregation: f1, higher_is_better: true}
"""


def test_what_an_aggregation_warns_of_stands_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "numbers.yaml").write_text(TASK.replace(METRICS, OF_CLASSES))
    (tmp_path / "tasks" / "own.py").write_text(
        "def results(doc, replies):\n    return {'f1': (0, 0), 'f1_again': (0, 0)}\n"
    )
    (tmp_path / "tasks" / "test.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(20)))
    (tmp_path / "run.yaml").write_text(CONFIG)
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(out)]) == 0
    assert "ill-defined" not in capsys.readouterr().err
    found = json.loads((out / "scorecard.json").read_text())["cautions"]
    (said,) = [one for one in found if one["check"] == "estimating_warning"]
    assert said["model"] == "aster-dense"
    assert said["text"].startswith(
        "computing 2 metrics such as numbers/f1 gave the warning: UndefinedMetricWarning: F-score is ill"
    )
    capsys.readouterr()
    assert main(["compare", str(out), str(out)]) == 0  # of a comparison too, once, and nowhere else
    printed = capsys.readouterr()
    assert printed.err == "" and " ".join(printed.out.split()).count("ill-defined") == 1
    assert main(["compare", str(out), str(out), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [said["text"]]
