"""`export --format lm-eval` writes what lm-eval itself writes, for a model that always says the same."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness import models
from harness.cli import main
from harness.config import ModelSpec
from harness.engines.base import Engine
from harness.engines.scripted import Reply, ScriptedEngine, hashed_score
from harness.exports import lm_eval, standard_errors
from harness.exports.names import file_names
from harness.run import plan
from harness.suites.restore import renderer
from harness.types import EngineFacts, Message

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


def test_processes_write_the_same_as_one(
    tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text(RUN.format(tasks=tasks))
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == 0
    written = []
    for many in (lm_eval.MANY, 1):
        monkeypatch.setattr(lm_eval, "MANY", many)
        out = tmp_path / f"e{many}"
        assert main(["export", str(tmp_path / "out"), "--format", "lm-eval", "--out", str(out)]) == 0
        written.append({path.relative_to(out): path.read_bytes() for path in out.glob("*/*")})
    assert written[0] == written[1]
    assert len(written[0]) == 3


@pytest.mark.parametrize("limit", [None, 5])
def test_results_and_samples_are_those_of_lm_eval(tmp_path: Path, tasks: Path, limit: int | None) -> None:
    (tmp_path / "run.yaml").write_text(RUN.format(tasks=tasks))
    limited = [] if limit is None else [f"limit={limit}"]
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out"), *limited]) == 0
    assert main(["export", str(tmp_path / "out"), "--format", "lm-eval", "--out", str(tmp_path / "e")]) == 0
    theirs = lm_evals(tasks, limit)
    ours = json.loads(next((tmp_path / "e" / "parrot").glob("results_*.json")).read_text())
    assert ours["results"] == theirs["results"]
    assert ours["task_hashes"] == theirs["task_hashes"]
    for key in ("n-samples", "higher_is_better", "n-shot", "group_subtasks"):
        assert ours[key] == theirs[key], key
    for key in ("limit", "random_seed", "numpy_seed", "fewshot_seed"):
        assert ours["config"][key] == theirs["config"][key], key
    _check_keys(ours, theirs)
    assert (ours["chat_template"], ours["chat_template_sha"]) == (None, None)
    assert (theirs["chat_template"], theirs["chat_template_sha"]) == (None, None)
    for task, samples in theirs["samples"].items():
        file = next((tmp_path / "e" / "parrot").glob(f"samples_{task}_2*.jsonl"))
        assert [json.loads(line) for line in file.read_text().splitlines()] == samples


PLANTED = Path(models.__file__).parent / "planted"
CHAT_RUN = """\
name: said
models: [{{name: aster, path: "{path}", origin: {{developer: A, country: XA}}}}]
suites:
  - {{adapter: lm_eval, name: one_filter, task: one_filter, include_path: {tasks}, apply_chat_template: true}}
sampling: {{max_tokens: 16}}
engine: {{kind: "tests.exports.test_lm_eval_files:start_chat", args: {{seed: 7}}}}
"""


async def start_chat(model: ModelSpec, args: dict[str, Any]) -> Engine:
    """What `dummy` says, of a checkpoint with a chat template."""

    class Rendering(ScriptedEngine):
        def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
            return renderer(model)(messages, add_generation_prompt)

    made = Rendering(complete=lambda prompt, sampling: Reply(text="lol"))
    made.facts = EngineFacts(name="vllm", version="0", details={"max_model_len": "512"})
    return made


def test_a_chat_template_is_the_text_and_hash_of_lm_eval(
    tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.dummy import DummyLM
    from lm_eval.models.utils import configure_pad_token
    from transformers import AutoTokenizer

    folder = tmp_path / "aster"
    shutil.copytree(PLANTED / "aster-dense", folder)
    tokenizer = configure_pad_token(AutoTokenizer.from_pretrained(folder))

    class Chatting(DummyLM):
        tokenizer_name = "aster"

        def chat_template(self, chat_template: bool | str = False) -> str:
            return str(tokenizer.chat_template)

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            return str(
                tokenizer.apply_chat_template(
                    chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
                )
            )

    chatting: Any = Chatting()
    chatting.tokenizer, chatting.eot_token_id, chatting.max_length = tokenizer, tokenizer.eos_token_id, 512

    # Of a checkpoint only vLLM's engine is asked.
    read = plan.check_model
    monkeypatch.setattr(
        plan,
        "check_model",
        lambda spec, engine: read(spec, msgspec.structs.replace(engine, kind="vllm", args={})),
    )
    (tmp_path / "run.yaml").write_text(CHAT_RUN.format(path=folder, tasks=tasks))
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == 0
    theirs = lm_evals(tasks, None, ["one_filter"], chatting, apply_chat_template=True)
    keys = ("chat_template", "chat_template_sha", "fewshot_as_multiturn", "system_instruction", "task_hashes")
    tokens = (
        "tokenizer_pad_token",
        "tokenizer_eos_token",
        "tokenizer_bos_token",
        "eot_token_id",
        "max_length",
    )

    def exported(name: str) -> dict[str, Any]:
        assert (
            main(["export", str(tmp_path / "out"), "--format", "lm-eval", "--out", str(tmp_path / name)]) == 0
        )
        (results,) = (tmp_path / name).rglob("results_*.json")
        return dict(json.loads(results.read_text()))

    assert theirs["chat_template"]
    ours = exported("e")
    for key in (*keys, *tokens):
        assert ours[key] == theirs[key], key
    _check_keys(ours, theirs)
    assert ours["config"]["torch_seed"] == 7
    (folder / "chat_template.jinja").write_text(theirs["chat_template"] + "{# another #}")
    changed = exported("changed")
    assert changed["chat_template"] is None
    assert not changed.keys() & set(tokens)


KINDS = {
    "generate_until": 'doc_to_text: "Say {{q}}:"\ndoc_to_target: "{{a}}"\n'
    'generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 8}\n'
    "metric_list: [{metric: exact_match}, {metric: bleu}, {metric: chrf}, {metric: ter}]\n",
    "multiple_choice": 'doc_to_text: "Is {{q}}?"\ndoc_to_target: label\ndoc_to_choice: ["no", "yes"]\n'
    "metric_list: [{metric: acc}, {metric: acc_norm}, {metric: f1}, {metric: mcc}]\n",
    "loglikelihood": 'doc_to_text: "Go on, {{q}}:"\ndoc_to_target: " {{a}}"\n'
    "metric_list: [{metric: perplexity}, {metric: acc}]\n",
    "loglikelihood_rolling": 'doc_to_text: ""\ndoc_to_target: "{{q}} {{a}}"\n'
    "metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]\n",
}
GROUP = """\
group: every
task: [task_multiple_choice, task_other_choice]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
  - {metric: acc_norm, weight_by_size: false}
  - {metric: mcc, weight_by_size: true}
metadata: {version: 1}
"""
OUTER = """\
group: outer
task: [every, task_loglikelihood]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""
CORPUS_RUN = """\
name: said
models: [{{name: parrot, path: parrot, origin: {{developer: A, country: XA}}}}]
suites: [{suites}]
sampling: {{max_tokens: 16}}
engine: {{kind: "tests.exports.test_lm_eval_files:start_scorer"}}
"""


async def start_scorer(model: ModelSpec, args: dict[str, Any]) -> Engine:
    return ScriptedEngine(complete=lambda prompt, sampling: Reply(text="lol a b"))


def corpus_tasks(folder: Path) -> list[str]:
    """A task of every type of output, with metrics over all of a corpus, and a group in another."""
    folder.mkdir()
    rows = [
        {"q": f"number {n}", "a": ("yes", "no", "lol a c")[n % 3], "label": n * n % 5 % 2} for n in range(23)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, kind in [*((kind, kind) for kind in KINDS), ("other_choice", "multiple_choice")]:
        data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'data.jsonl'}}}}}\n"
        text = f"task: task_{name}\n{data}test_split: test\noutput_type: {kind}\n{KINDS[kind]}"
        text = text.replace("Is {{q}}", "Was {{q}}") if name == "other_choice" else text
        (folder / f"{name}.yaml").write_text(f"{text}metadata: {{version: 1}}\n")
    (folder / "every.yaml").write_text(GROUP)
    (folder / "outer.yaml").write_text(OUTER)
    return ["task_generate_until", "outer", "task_loglikelihood_rolling"]


def test_corpus_metrics_and_groups_are_those_of_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard errors that lm-eval resamples too: its draws, its rows of groups, its lines."""
    monkeypatch.setattr(standard_errors, "ITERATIONS", 100)
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    names = corpus_tasks(tmp_path / "tasks")
    suites = ", ".join(
        f"{{adapter: lm_eval, name: {name}, task: {name}, include_path: {tmp_path / 'tasks'}}}"
        for name in names
    )
    (tmp_path / "run.yaml").write_text(CORPUS_RUN.format(suites=suites))
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == 0
    assert main(["export", str(tmp_path / "out"), "--format", "lm-eval", "--out", str(tmp_path / "e")]) == 0
    ours = json.loads(next((tmp_path / "e" / "parrot").glob("results_*.json")).read_text())
    theirs = lm_evals(tmp_path / "tasks", None, names, model=scorer(), bootstrap_iters=100)
    for part in ("results", "groups"):
        assert ours[part].keys() == theirs[part].keys()
        for name, row in theirs[part].items():
            assert ours[part][name].keys() == row.keys()
            for key, value in row.items():
                number = isinstance(value, float)
                assert ours[part][name][key] == (pytest.approx(value, rel=1e-9) if number else value), key
    for key in ("n-samples", "group_subtasks", "task_hashes", "versions", "n-shot", "higher_is_better"):
        assert ours[key] == theirs[key], key
    _check_keys(ours, theirs)
    for task, samples in theirs["samples"].items():
        file = next((tmp_path / "e" / "parrot").glob(f"samples_{task}_2*.jsonl"))
        assert [json.loads(line) for line in file.read_text().splitlines()] == samples
        assert ours["configs"][task]["metric_list"] == theirs["configs"][task]["metric_list"]


UNLIKE = {"model_args", "torch_seed", "batch_size"}
"""Null for a model without arguments; null where no model runs here; vLLM's own."""


def _check_keys(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Nothing of a file is lacking, nothing is more, and each value is of lm-eval's type."""
    assert ours.keys() == theirs.keys() - {"samples"}
    tables = ["config", *(f"configs/{task}" for task in theirs["configs"])]
    for table in ("", *tables):
        rows = [ours, theirs]
        for part in filter(None, table.split("/")):
            rows = [row[part] for row in rows]
        assert rows[0].keys() == rows[1].keys() - {"samples"}, table
        for key in rows[0].keys() - UNLIKE:
            assert type(rows[0][key]) is type(rows[1][key]), (table, key)
    assert (ours["git_hash"], ours["upper_git_hash"]) == (theirs["git_hash"], theirs["upper_git_hash"])


def scorer() -> Any:
    """A model of lm-eval's that says and scores what the engine does."""
    from lm_eval.api.model import LM

    class Scorer(LM):
        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            best: dict[str, float] = {}
            for request in requests:
                context = request.args[0]
                best[context] = max(best.get(context, -99), hashed_score(*request.args))
            return [(hashed_score(*r.args), hashed_score(*r.args) == best[r.args[0]]) for r in requests]

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return [hashed_score("", request.args[0]) for request in requests]

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return ["lol a b" for _ in requests]

    return Scorer()


def lm_evals(
    tasks: Path,
    limit: int | None,
    names: Sequence[str] = ("two_filters", "one_filter"),
    model: Any = "dummy",
    **more: Any,
) -> dict[str, Any]:
    """What lm-eval writes, with its lines read back under `samples`."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(tasks / "theirs"))
    found = simple_evaluate(
        model=model,
        tasks=list(names),
        task_manager=TaskManager(include_path=str(tasks)),
        evaluation_tracker=tracker,
        log_samples=True,
        limit=limit,
        **more,
    )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in found["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    (results,) = (tasks / "theirs").rglob("results_*.json")
    lines = {task: next((tasks / "theirs").rglob(f"samples_{task}_2*.jsonl")).read_text() for task in samples}
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
