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
from harness.suites.lm_eval.suite import Options, build
from harness.suites.lm_eval.tasks import portable_config
from harness.types import Generation, LogLikelihood, Transcript
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
        ("local_math500", "minerva_math/minerva_math500.yaml", set()),
        ("local_truthfulqa", "truthfulqa/truthfulqa_mc1.yaml", {"process_docs"}),
        ("local_bbh", "bbh/cot_fewshot/boolean_expressions.yaml", set()),
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


def test_truthfulqa_choices_are_the_files() -> None:
    first, second = suites("local_truthfulqa")
    rows = json.loads(shared_data("truthfulqa/v1_mc_task_817.json").read_text(encoding="utf8"))
    for suite, key in ((first, "mc1_targets"), (second, "mc2_targets")):
        samples = suite.samples("m", None)
        assert len(samples) == len(rows) == 817
        for sample, row in zip(samples, rows, strict=True):
            assert [i.args[1] for i in sample.payload.instances] == [f" {answer}" for answer in row[key]]
            assert sample.payload.instances[0].args[0].endswith(f"\n\nQ: {row['question']}\nA:")
    (score,) = second.score(samples[0], chances([-1.0] * len(rows[0]["mc2_targets"])))
    assert score.value == pytest.approx(sum(rows[0]["mc2_targets"].values()) / len(rows[0]["mc2_targets"]))


def chances(values: list[float]) -> Transcript:
    return Transcript(
        loglikelihoods=tuple(LogLikelihood(logprob=value, is_greedy=False, tokens=1) for value in values)
    )


def test_bbh_has_all_rows_and_three_solved_examples() -> None:
    for suite in suites("local_bbh"):
        name = suite.name.removeprefix("bbh_cot_fewshot_")
        rows = json.loads(shared_data(f"bbh/{name}.json").read_text(encoding="utf8"))["examples"]
        samples = suite.samples("m", None)
        assert len(samples) == len(rows)
        for sample, row in zip(samples, rows, strict=True):
            prompt = sample.payload.instances[0].args[0]
            assert prompt.count("A: Let's think step by step.") == 4
            assert prompt.endswith(f"Q: {row['input']}\nA: Let's think step by step.\n")
        assert suite.score(samples[0], reply(f"So the answer is {rows[0]['target']}."))[0].value == 1.0


def test_math500_solutions_are_right_and_others_are_not() -> None:
    (suite,) = suites("local_math500")
    rows = json.loads(shared_data("math500/math500_test.json").read_text(encoding="utf8"))
    samples = suite.samples("m", None)
    assert len(samples) == len(rows) == 500
    for sample, row in list(zip(samples, rows, strict=True))[::50]:
        right = f"Final Answer: The final answer is ${row['answer']}$. I hope it is correct."
        assert [s.value for s in suite.score(sample, reply(right))] == [1.0, 1.0]
        wrong = "Final Answer: The final answer is $-123456$. I hope it is correct."
        assert [s.value for s in suite.score(sample, reply(wrong))] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("local_humaneval", ["pass@1"]),
        ("local_mbpp_instruct", ["pass_at_1"]),
        ("local_math500", ["exact_match", "math_verify"]),
        ("local_hendrycks_math500", ["exact_match"]),
        ("local_ifeval", ["prompt_level_strict_acc", "prompt_level_loose_acc"]),
    ],
)
def test_verdicts_of_lm_evals_own_functions_are_rates(task: str, metrics: list[str]) -> None:
    """So that several attempts have a pass@k, and intervals are those of a rate."""
    try:
        (suite,) = suites(task)
    except UserError as error:
        if not any(absent in str(error) for absent in ("bubblewrap", "punkt_tab")):
            raise
        pytest.skip(str(error))
    rates = [metric for metric in suite.metrics if metric.kind == "rate"]
    assert [metric.name for metric in rates] == metrics
    assert {metric.bounds for metric in rates} == {(0.0, 1.0)}


def test_ifeval_checks_what_was_asked() -> None:
    try:
        (suite,) = suites("local_ifeval")
    except UserError as error:
        if "punkt_tab" not in str(error):
            raise
        pytest.skip(str(error))
    samples = suite.samples("m", None)
    assert len(samples) == 541
    commas = samples[0]
    assert "Do not use any commas" in commas.payload.instances[0].args[0]
    found = {s.metric: s for s in suite.score(commas, reply("one, two"))}
    assert found["prompt_level_strict_acc"].value == 0.0
    assert found["inst_level_strict_acc"].operands == ([False, False, False],)


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


FAILING = {"local_mbpp": {356}}
"""Gold programs that fail as lm-eval runs them: MBPP's task 367 needs the set-up code of its tests, which
lm-eval leaves out."""
SLOW = {"local_mbpp": {112}}
"""Gold programs that take about as long as lm-eval gives them, three seconds."""


@pytest.mark.slow
@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize(
    ("task", "key", "ending"),
    [("local_humaneval", "canonical_solution", ""), ("local_mbpp", "code", "\n[DONE]")],
)
def test_every_gold_program_passes(task: str, key: str, ending: str) -> None:
    (suite,) = suites(task)
    found = gold_programs(suite, key, ending, many=10_000)
    failed = {index for index, verdicts in enumerate(found) if verdicts != (1.0, 0.0)}
    assert failed - SLOW.get(task, set()) == FAILING.get(task, set())
