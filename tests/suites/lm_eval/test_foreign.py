"""Task files of a stranger: read as data where that is all they are, and refused where they bring code."""

import ast
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
import yaml

from harness.config import SuiteSpec
from harness.errors import UserError
from harness.suites import load_suites
from harness.suites.base import Suite
from harness.suites.lm_eval.code_makers import MAKES_CODE
from harness.trust import Trust, reading_data, trusting

TASK: dict[str, Any] = {
    "task": "foreign",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "data.jsonl"}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    (tmp_path / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n\n\ndef f(*a, **k):\n    return '3'\n"
    )
    return tmp_path


def build(folder: Path, text: str | None = None, **changed: Any) -> Suite:
    written = yaml.safe_dump({**TASK, **changed}) if text is None else text
    (folder / "task.yaml").write_text(written)
    options = {"task": "foreign", "include_path": str(folder)}
    (suite,) = load_suites(SuiteSpec(adapter="lm_eval", options=options))
    return suite


def with_function(key: str, name: str = "evil.f") -> str:
    return yaml.safe_dump({k: v for k, v in TASK.items() if k != key}) + f"{key}: !function {name}\n"


def test_a_task_that_is_data_is_read_as_data(folder: Path) -> None:
    with reading_data():
        (sample,) = build(folder).samples("m", None)
    assert sample.payload.instances[0].args[0] == "1+1"


@pytest.mark.parametrize("key", ["doc_to_text", "process_docs", "process_results", "custom_dataset", "class"])
@pytest.mark.parametrize("name", ["evil.f", "antigravity.f", "os.system"])
def test_a_function_of_its_own_is_refused(folder: Path, key: str, name: str) -> None:
    with reading_data(), pytest.raises(UserError, match="--trust-code"):
        build(folder, with_function(key, name))
    assert not (folder / "ran").exists()


def test_a_function_is_called_where_somebody_vouches_for_it(folder: Path) -> None:
    with trusting(Trust(folders=(folder,))):
        (sample,) = build(folder, with_function("doc_to_text")).samples("m", None)
    assert sample.payload.instances[0].args[0] == "3"
    assert (folder / "ran").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"metric_list": [{"metric": "./evil.py", "aggregation": "mean"}]},
        {"metric_list": [{"metric": "exact_match", "hf_evaluate": True, "aggregation": "mean"}]},
        {"dataset_path": "pandas", "dataset_kwargs": {"data_files": {"test": "data.pkl"}}},
        {"dataset_path": "."},
        {"dataset_kwargs": {"data_files": {"test": "https://localhost:1/data.jsonl"}}},
        {"dataset_kwargs": {"data_files": {"test": "data.jsonl"}, "data_dir": "/etc"}},
    ],
    ids=["metric", "metric of the hub", "pickle", "folder", "address", "another folder"],
)
def test_what_would_fetch_or_run_code_is_refused(folder: Path, changed: dict[str, Any]) -> None:
    (folder / "data.pkl").write_bytes(b"N.")
    with reading_data(), pytest.raises(UserError, match="--trust-code"):
        build(folder, **changed)
    assert not (folder / "ran").exists()


ESCAPE = "{{ ''.__class__.__mro__[1].__subclasses__() }}"


@pytest.mark.parametrize("template", [ESCAPE, "{{ cycler.__init__.__globals__.os.getpid() }}"])
def test_a_template_is_no_program_whoever_wrote_it(folder: Path, template: str) -> None:
    with pytest.raises(UserError, match=r"SecurityError: access to attribute '__[a-z]+__'"):
        build(folder, doc_to_text=template).samples("m", None)


SHIPPED = Path(lm_eval.tasks.__file__).parent
COUNTDOWN = SHIPPED / "longproc" / "countdown_0.5k.yaml"
RUNS_REPLIES = [
    COUNTDOWN,  # eval
    SHIPPED / "longproc" / "pseudo_to_code_0.5k.yaml",  # a compiler
    SHIPPED / "cruxeval" / "cruxeval_output.yaml",  # exec
    SHIPPED / "score" / "math" / "prompt_robustness_math_algebra.yaml",  # SymPy's parse_expr; says nothing
    SHIPPED / "score" / "math" / "non_greedy_robustness_math_algebra.yaml",
]
"""Tasks of lm-eval's that make code of replies, in the process that scores."""


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
@pytest.mark.parametrize("shipped", RUNS_REPLIES, ids=lambda path: path.stem)
def test_a_task_that_makes_code_of_replies_is_refused(folder: Path, shipped: Path, own: bool) -> None:
    task = {**TASK, "include": str(shipped), "unsafe_code": True}
    with nullcontext() if own else reading_data(), pytest.raises(UserError, match="makes code of texts"):
        build(folder, yaml.safe_dump({k: v for k, v in task.items() if k != "metric_list"}))


KNOWN = {
    "longproc/metrics.py",
    "cruxeval/utils.py",
    "score/math/math_grader.py",
    "noreval/ask_gec/errant.py",  # a program beside a task, which no task calls
    "super_glue/cb/t5_utils.py",  # a function of scikit-learn's by a name that the file itself has
    "_yaml_loader.py",  # `!function`, which is refused in data
}
"""Files of lm-eval's that make code, or may."""


def test_no_other_file_of_lm_evals_tasks_makes_code_by_any_name() -> None:
    found = set()
    likely = re.compile("|".join([*MAKES_CODE, "getattr"]))
    for path in [*SHIPPED.rglob("*.py"), *(SHIPPED.parent / "filters").rglob("*.py")]:
        if not likely.search(text := path.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            named = getattr(node, "id", getattr(node, "attr", None)) in MAKES_CODE
            match node:
                case ast.Call(func=ast.Name(id="getattr"), args=[_, asked, *_]):
                    named = not isinstance(asked, ast.Constant)  # a name that is put together
            if named:
                found.add(str(path.relative_to(SHIPPED)))
    assert found == KNOWN


@pytest.mark.parametrize(
    "said",
    [
        {"include": str(COUNTDOWN), **TASK, "unsafe_code": False},
        {"include": str(COUNTDOWN), **TASK, "unsafe_code": None},
        {"group": "foreign", "task": [{"task": "longproc_countdown_0.5k", "unsafe_code": False}]},
        {"group": "foreign", "task": [{"task": "humaneval", "unsafe_code": False}]},
    ],
)
def test_nobody_takes_back_that_a_task_runs_replies(folder: Path, said: dict[str, Any]) -> None:
    with reading_data(), pytest.raises(UserError, match="unsafe_code: false"):
        build(folder, yaml.safe_dump(said))


@pytest.mark.parametrize(
    ("task", "said"), [("meqsum", "asks for the metric bleu"), ("noticia", "calls evaluate")]
)
def test_a_metric_is_not_looked_for_where_the_reader_stands(
    folder: Path, task: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name in ("bleu", "rouge"):
        (folder / name).mkdir()
        (folder / name / f"{name}.py").write_text((folder / "evil.py").read_text())
    with reading_data(), pytest.raises(UserError, match=said):
        load_suites(SuiteSpec(adapter="lm_eval", options={"task": task}))
    assert not (folder / "ran").exists()


def test_a_recipe_of_unitxts_is_refused_in_data(folder: Path) -> None:
    include = str(SHIPPED / "unitxt" / "unitxt")
    recipe = {"task": "foreign", "include": include, "recipe": "card=cards.anything"}
    with reading_data(), pytest.raises(UserError, match="finds code by a name"):
        build(folder, yaml.safe_dump(recipe))


def test_data_are_not_taken_from_where_the_reader_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    beside = folder / "openai" / "gsm8k"
    beside.mkdir(parents=True)
    (beside / "test.jsonl").write_text('{"question": "1+1", "answer": "#### 3"}\n')
    with reading_data(), pytest.raises(UserError, match="openai/gsm8k is in the working directory"):
        load_suites(SuiteSpec(adapter="lm_eval", options={"task": "gsm8k"}))
