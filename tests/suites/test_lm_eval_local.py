"""The task YAMLs for local copies of public data, on that data."""

import csv
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.config import registry
from harness.errors import UserError
from harness.suites import sandbox
from harness.suites.lm_eval import Options, build
from harness.suites.lm_eval_tasks import portable_config
from harness.types import Generation, Transcript
from tests.conftest import shared_data

FOLDER = registry() / "suites" / "lm_eval_local"

WHERE = {"dataset_path", "dataset_name", "dataset_kwargs"}


@functools.cache
def suites(task: str, **more: Any) -> list[Any]:
    data = shared_data("SOURCES.md").parent
    return list(build(None, Options(task=task, include_path=str(FOLDER), data_dir=str(data), **more)))


def lines(relative: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shared_data(relative).read_text(encoding="utf8").splitlines()]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import datasets.config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def of_lm_eval(path: str) -> dict[str, Any]:
    """The config of one of lm-eval's own tasks, without its data."""
    import lm_eval.tasks
    from lm_eval.config.task import TaskConfig
    from lm_eval.tasks._yaml_loader import load_yaml

    stated = load_yaml(Path(lm_eval.tasks.__file__).parent / path)
    config = TaskConfig(**{key: value for key, value in stated.items() if key != "tag"})
    config.num_fewshot = config.num_fewshot or 0
    return portable_config(config)


@pytest.mark.parametrize(
    ("task", "own", "differing"),
    [
        ("local_gsm8k", "gsm8k/gsm8k.yaml", set()),
        (
            "local_arc_challenge",
            "arc/arc_challenge.yaml",
            {"training_split", "doc_to_text", "doc_to_target", "doc_to_choice"},
        ),
        (
            "local_hellaswag",
            "hellaswag/hellaswag.yaml",
            {"training_split", "process_docs", "doc_to_text", "doc_to_choice"},
        ),
        ("local_mmlu", "mmlu/default/mmlu_abstract_algebra.yaml", {"doc_to_text"}),
        ("local_humaneval", "humaneval/humaneval.yaml", set()),
        ("local_mbpp", "mbpp/mbpp.yaml", {"doc_to_text", "doc_to_target"}),
    ],
)
def test_only_what_is_named_differs_from_lm_evals_own(task: str, own: str, differing: set[str]) -> None:
    ours, theirs = portable_config(suites(task)[0]._task.config), of_lm_eval(own)
    # fewshot_config repeats the task's own fields
    found = {key for key in ours if ours[key] != theirs[key]} - {"fewshot_config"}
    assert found - WHERE == differing
    assert ours["metadata"] == theirs["metadata"]


def test_gsm8k_prompts_end_with_the_question() -> None:
    (suite,) = suites("local_gsm8k", limit=3)
    (whole,) = suites("local_gsm8k")
    assert (suite.name, whole.count()) == ("local_gsm8k", 1319)
    for sample, row in zip(suite.samples("m", None), lines("gsm8k/test.jsonl"), strict=False):
        prompt, _ = sample.payload.instances[0].args
        assert prompt.endswith(f"\n\nQuestion: {row['question']}\nAnswer:")
        assert prompt.count("Question: ") == 6
        assert prompt.count("\n#### ") == 5


def test_gsm8k_verdicts_are_the_published_ones() -> None:
    """Solutions of a fine-tuned model with their published verdicts (Cobbe et al., 2021)."""
    (suite,) = suites("local_gsm8k", num_fewshot=1)
    wrong = []
    rows = lines("gsm8k/example_model_solutions.jsonl")
    for sample, row in zip(suite.samples("m", None), rows, strict=True):
        assert row["question"] == sample.payload.doc["question"]
        published = row["6b_finetuning"]
        # the published solutions end in "A: 18", the data set and lm-eval's filter have "#### 18"
        text = re.sub(r"\nA: (.*)$", r"\n#### \1", published["solution"].rstrip())
        score = suite.score(sample, reply(text))[0]
        if score.value != published["is_correct"]:
            wrong.append((score.answer, score.reason))
    assert wrong == []


def reply(text: str) -> Transcript:
    return Transcript(
        generations=(
            Generation(text=text, raw=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1),
        )
    )


def test_arc_challenge_requests() -> None:
    (suite,) = suites("local_arc_challenge")
    samples, rows = suite.samples("m", None), lines("arc/ARC-Challenge-Test_1150.jsonl")
    assert len(samples) == len(rows) == 1150
    for sample, row in zip(samples, rows, strict=True):
        question = f"Question: {row['question']['stem']}\nAnswer:"
        expected = [(question, f" {choice['text']}") for choice in row["question"]["choices"]]
        assert [i.args for i in sample.payload.instances] == expected


def test_hellaswag_requests() -> None:
    (suite,) = suites("local_hellaswag")
    for sample, row in zip(
        suite.samples("m", None), lines("hellaswag/hellaswag_val_first1000.jsonl"), strict=True
    ):
        expected = [(row["ctx"], f" {ending}") for ending in row["endings"]]
        assert [i.args for i in sample.payload.instances] == expected
        assert suite._task.doc_to_target(sample.payload.doc) == row["label"]


def test_mmlu_choices_are_read_as_they_are_written() -> None:
    found = suites("local_mmlu")
    assert len(found) == 14
    for suite in found:
        subject = suite.name.removeprefix("mmlu_")
        with shared_data(f"mmlu/test/{subject}_test.csv").open(encoding="utf8", newline="") as file:
            rows = list(csv.DictReader(file))
        for sample, row in zip(suite.samples("m", None), rows, strict=True):
            choices = "\n".join(f"{letter}. {row[f'choice{i}']}" for i, letter in enumerate("ABCD"))
            prompt = sample.payload.instances[0].args[0]
            assert prompt.endswith(f"\n\n{row['question'].strip()}\n{choices}\nAnswer:")
            assert [i.args[1] for i in sample.payload.instances] == [" A", " B", " C", " D"]
            assert str(suite._task.doc_to_target(sample.payload.doc)) == row["answer"]


@pytest.fixture
def sandboxed() -> None:
    try:
        sandbox.check_available()
    except UserError as error:
        pytest.skip(str(error))


def gold_programs(suite: Any, key: str, ending: str, many: int) -> list[tuple[float | None, float | None]]:
    """Score of the data set's own solution, and of the same with its last line broken, by document."""
    samples = suite.samples("m", None)
    chosen = samples[:: max(1, len(samples) // many)]
    return [
        (
            suite.score(sample, reply(sample.payload.doc[key] + ending))[0].value,
            suite.score(sample, reply("    return None\n" + ending))[0].value,
        )
        for sample in chosen
    ]


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize(
    ("task", "key", "ending"),
    [("local_humaneval", "canonical_solution", ""), ("local_mbpp", "code", "\n[DONE]")],
)
def test_gold_programs_pass_and_broken_ones_do_not(task: str, key: str, ending: str) -> None:
    (suite,) = suites(task)
    assert suite.count() == {"local_humaneval": 164, "local_mbpp": 500}[task]
    assert set(gold_programs(suite, key, ending, many=6)) == {(1.0, 0.0)}


@pytest.mark.slow
@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize(
    ("task", "key", "ending"),
    [("local_humaneval", "canonical_solution", ""), ("local_mbpp", "code", "\n[DONE]")],
)
def test_every_gold_program_passes(task: str, key: str, ending: str) -> None:
    (suite,) = suites(task)
    found = gold_programs(suite, key, ending, many=10_000)
    assert [index for index, verdicts in enumerate(found) if verdicts != (1.0, 0.0)] == []
