"""`export --format lm-eval` writes what lm-eval itself writes, for a model that always says the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config import ModelSpec
from harness.engines.base import Engine
from harness.engines.scripted import Reply, ScriptedEngine
from harness.exports.names import file_names

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{{{q}}}}\\nA:"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: 8}}
filter_list:
{filters}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""
STRICT = "  - {name: strict-match, filter: [{function: take_first}]}\n"
YES = """\
  - name: flexible-extract
    filter: [{function: map, mapping_dict: {lol: "yes"}, default_value: "no"}, {function: take_first}]
"""
RUN = """\
name: said
models: [{{name: parrot, path: parrot, origin: {{developer: A, country: XA}}}}]
suites:
  - {{adapter: lm_eval, name: two_filters, task: two_filters, include_path: {tasks}}}
  - {{adapter: lm_eval, name: one_filter, task: one_filter, include_path: {tasks}}}
sampling: {{max_tokens: 16}}
engine: {{kind: "tests.exports.test_lm_eval_files:start"}}
"""


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    """What lm-eval's model `dummy` says."""
    return ScriptedEngine(complete=lambda prompt, sampling: Reply(text="lol"))


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "data.jsonl"
    rows = ({"q": str(n), "a": "yes" if n % 3 else "no"} for n in range(12))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, filters in (("two_filters", STRICT + YES), ("one_filter", YES)):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data, filters=filters))
    return folder


@pytest.mark.parametrize("limit", [None, 5])
def test_results_and_samples_are_those_of_lm_eval(tmp_path: Path, tasks: Path, limit: int | None) -> None:
    (tmp_path / "run.yaml").write_text(RUN.format(tasks=tasks))
    limited = [] if limit is None else [f"limit={limit}"]
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out"), *limited]) == 0
    assert main(["export", str(tmp_path / "out"), "--format", "lm-eval", "--out", str(tmp_path / "e")]) == 0
    theirs = lm_evals(tasks, limit)
    ours = json.loads(next((tmp_path / "e" / "parrot").glob("results_*.json")).read_text())
    assert ours["results"] == theirs["results"]
    for key in ("n-samples", "higher_is_better", "n-shot", "group_subtasks"):
        assert ours[key] == theirs[key], key
    assert ours["config"]["limit"] == theirs["config"]["limit"]
    for task, samples in theirs["samples"].items():
        file = next((tmp_path / "e" / "parrot").glob(f"samples_{task}_*.jsonl"))
        assert [json.loads(line) for line in file.read_text().splitlines()] == samples


def lm_evals(tasks: Path, limit: int | None) -> dict[str, Any]:
    """What lm-eval writes, with its lines read back under `samples`."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(tasks / "theirs"))
    found = simple_evaluate(
        model="dummy",
        tasks=["two_filters", "one_filter"],
        task_manager=TaskManager(include_path=str(tasks)),
        evaluation_tracker=tracker,
        log_samples=True,
        limit=limit,
    )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in found["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    (results,) = (tasks / "theirs").rglob("results_*.json")
    lines = {task: next((tasks / "theirs").rglob(f"samples_{task}_*.jsonl")).read_text() for task in samples}
    return {
        **json.loads(results.read_text()),
        "samples": {task: [json.loads(line) for line in text.splitlines()] for task, text in lines.items()},
    }


def test_names_become_a_file_each() -> None:
    names = ["aster", "tuned v1", "tuned:v1", "通义", "文心", "Model", "model", "a/b", "a b", "..", "/"]
    found = file_names(names)
    assert found["aster"] == "aster"
    assert len({name.casefold() for name in found.values()}) == len(names)
    assert all(name.isascii() and "/" not in name and name.strip(". ") == name for name in found.values())
    assert found["tuned v1"].startswith("tuned-v1-")
    assert file_names(reversed(names)) == found


@pytest.mark.parametrize("form", ["lm-eval", "eval-results", "every-eval-ever"])
def test_models_and_suites_whose_names_are_alike_have_files_of_their_own(tmp_path: Path, form: str) -> None:
    text = """\
name: digits
models:
  - {name: tuned v1, path: one, origin: {developer: 开发, country: XA}}
  - {name: "tuned:v1", path: two, origin: {developer: 者, country: XA}}
suites:
  - {adapter: tests.fakes, name: depot/a, samples: 2}
  - {adapter: tests.fakes, name: depot a, samples: 3}
sampling: {temperature: 1.0}
engine: {kind: "tests.fakes:start"}
"""
    (tmp_path / "run.yaml").write_text(text)
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == 0
    assert main(["export", str(tmp_path / "out"), "--format", form, "--out", str(tmp_path / "e")]) == 0
    files = [path for path in (tmp_path / "e").rglob("*") if path.is_file()]
    expected = {"lm-eval": 2 * (1 + 2), "eval-results": 4, "every-eval-ever": 2 * 2}
    assert len(files) == expected[form]
    if form == "lm-eval":
        results = [json.loads(f.read_text()) for f in files if f.name.startswith("results_")]
        assert [sorted(found["results"]) for found in results] == [["depot a", "depot/a"]] * 2
    if form == "every-eval-ever":
        ids = {json.loads(f.read_text())["evaluation_id"] for f in files if f.suffix == ".json"}
        assert len(ids) == 2
