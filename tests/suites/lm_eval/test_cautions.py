"""What is known of an lm-eval task before it is run: told by the plan, and held by the protocol."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from harness.config import EngineSpec, ModelSpec, RunConfig, SuiteSpec
from harness.engines.scripted import Reply, ScriptedEngine
from harness.errors import AttemptFailure
from harness.run.plan import Plan, make_plan
from harness.suites.lm_eval.suite import LmEvalSuite, Options, build
from harness.types import FailureKind, Origin, Sampling

PLACES = [
    {"place": p, "code": c, "id": c}
    for p, c in zip("abcde", ("417", "902", "655", "138", "760"), strict=True)
]
CODES = """
task: codes
dataset_path: json
dataset_kwargs: {data_files: {SPLITS}}
SPLIT
output_type: generate_until
num_fewshot: 3
doc_to_text: "Code of {{place}}:"
doc_to_target: "{{code}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 8}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
CHOICES = """
task: codes
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}} Answer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write(folder: Path, text: str, **splits: list[dict[str, Any]]) -> None:
    (folder / "codes.yaml").write_text(text)
    for name, docs in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))


def plan(folder: Path, drawn: Sampling, attempts: int = 1, **options: Any) -> Plan:
    model = ModelSpec(name="m", path="x", origin=Origin(developer="D", country="XA"))
    suite = SuiteSpec(adapter="lm_eval", options={"task": "codes", "include_path": str(folder), **options})
    return make_plan(
        RunConfig(
            name="r", models=(model,), suites=(suite,), sampling=drawn, attempts=attempts,
            engine=EngineSpec(kind="tests.fakes:start"),
        )
    )  # fmt: skip


def told(found: Plan) -> dict[str, str]:
    return {caution.check: caution.text for caution in (*found.problems, *found.cautions)}


def suite(folder: Path, **options: Any) -> LmEvalSuite:
    (found,) = build(None, Options(task="codes", include_path=str(folder), **options))
    assert isinstance(found, LmEvalSuite)
    return found


def prompts(found: LmEvalSuite) -> dict[str, str]:
    return {s.payload.doc["place"]: s.payload.instances[0].args[0] for s in found.samples("m", None)}


SPLITS = [
    ("test: test.jsonl", "test_split: test"),
    ("validation: test.jsonl", "validation_split: validation\nfewshot_split: validation"),
    ("validation: test.jsonl", "validation_split: validation"),
    ("test: test.jsonl, train: again.jsonl", "test_split: test\ntraining_split: train"),
]


@pytest.mark.parametrize(("files", "split"), SPLITS)
def test_no_prompt_holds_its_own_answer(tmp_path: Path, files: str, split: str) -> None:
    again = [{**doc, "id": "other"} for doc in PLACES]
    text = CODES.replace("SPLITS", files).replace("SPLIT", split)
    write(tmp_path, text, test=PLACES, again=again)
    found = prompts(suite(tmp_path))
    for doc in PLACES:
        assert f"Code of {doc['place']}: {doc['code']}" not in found[doc["place"]]
        assert found[doc["place"]].count("Code of") == 4
    # With one split and no fewshot_split lm-eval leaves the document out itself.
    itself = split == "validation_split: validation"
    said = told(plan(tmp_path, Sampling())).get("own_answer", "")
    assert itself or "lm-eval would show 2 of 5 documents their own question and answer" in said


def test_other_prompts_are_lm_evals_to_the_letter(tmp_path: Path) -> None:
    write(tmp_path, CODES.replace("SPLITS", SPLITS[0][0]).replace("SPLIT", SPLITS[0][1]), test=PLACES)
    found = suite(tmp_path)
    ours = prompts(found)
    task = found._task
    task.sampler = task.sampler._sampler
    task.set_fewshot_seed(seed=1234)
    theirs = {doc["place"]: task.fewshot_context(doc, num_fewshot=3) for doc in found._docs}
    same = [doc["place"] for doc in PLACES if f"{doc['place']}: {doc['code']}" not in theirs[doc["place"]]]
    assert len(same) == 3 and all(ours[place] == theirs[place] for place in same)


def test_too_few_others_are_said(tmp_path: Path) -> None:
    write(tmp_path, CODES.replace("SPLITS", SPLITS[0][0]).replace("SPLIT", SPLITS[0][1]), test=PLACES)
    found = plan(tmp_path, Sampling(), num_fewshot=5)
    assert "5 solved examples are asked for, and 4 are left" in told(found)["prompt"]
    assert any(problem.check == "prompt" for problem in found.problems)


def test_lm_evals_warnings_are_told(tmp_path: Path) -> None:
    write(tmp_path, CODES.replace("SPLITS", SPLITS[0][0]).replace("SPLIT", SPLITS[0][1]), test=PLACES)
    texts = [c.text for c in plan(tmp_path, Sampling()).cautions if c.check == "lm_eval_warning"]
    assert texts[0].startswith("lm-eval warns of suite codes: num_fewshot > 0 but fewshot_split is None.")


def test_what_lm_eval_warns_of_as_prompts_are_made_is_told_once(tmp_path: Path) -> None:
    write(tmp_path, CODES.replace("SPLITS", SPLITS[0][0]).replace("SPLIT", SPLITS[0][1]), test=PLACES)
    made = suite(tmp_path)
    inner = made._task.doc_to_text

    def warning(*args: Any, **kwargs: Any) -> Any:
        logging.getLogger("lm_eval.api.task").warning("Applied prompt returns empty string")
        return inner(*args, **kwargs)

    made._task.doc_to_text = warning
    texts = [c.text for c in made.cautions(plan(tmp_path, Sampling()).config) if "empty string" in c.text]
    assert texts == ["lm-eval warns of suite codes: Applied prompt returns empty string"]


QUESTIONS = [
    {"q": f"Q{i}?", "choices": ["aa", "bb"], "answer": answer} for i, answer in enumerate([0, 1, 2, 3, -1, 0])
]


def test_a_right_answer_that_is_no_choice_is_missing_and_told(tmp_path: Path) -> None:
    write(tmp_path, CHOICES, test=QUESTIONS)
    found = plan(tmp_path, Sampling())
    assert found.problems == []
    assert told(found)["gold_out_of_range"].startswith(
        "suite codes: 3 of 6 documents have a right answer that is none of their choices (first document 2)"
    )
    made = suite(tmp_path)

    async def ask() -> list[Any]:
        results: list[Any] = []
        for sample in made.samples("m", None):
            transcript = await made.run(sample, ScriptedEngine(), Sampling())
            try:
                results.append(made.score(sample, transcript)[0].value)
            except AttemptFailure as failure:
                assert failure.kind is FailureKind.SCORER_ERROR
                assert "is none of the choices" in failure.message
                results.append(None)
        return results

    results = asyncio.run(ask())
    assert [value is None for value in results] == [False, False, True, True, True, False]


def test_nothing_to_measure_is_refused(tmp_path: Path) -> None:
    write(tmp_path, CHOICES, test=[{**doc, "answer": -1} for doc in QUESTIONS])
    assert any(p.check == "gold_out_of_range" for p in plan(tmp_path, Sampling()).problems)


@pytest.mark.parametrize("labels", [["aa", "bb"], ["0", "1"], [0, 1]])
def test_labels_of_every_kind_are_choices(tmp_path: Path, labels: list[Any]) -> None:
    write(tmp_path, CHOICES, test=[{**QUESTIONS[0], "answer": label} for label in labels])
    text = CHOICES.replace("doc_to_target: answer", 'doc_to_target: "{{answer}}"')
    (tmp_path / "codes.yaml").write_text(text)
    assert "gold_out_of_range" not in told(plan(tmp_path, Sampling()))


def test_documents_that_are_not_whole_are_told(tmp_path: Path) -> None:
    faulty = [{**QUESTIONS[0], "q": None}, {**QUESTIONS[0], "choices": ["aa", ""]}]
    write(tmp_path, CHOICES, test=[QUESTIONS[0], *faulty])
    texts = [c.text for c in plan(tmp_path, Sampling()).cautions if c.check == "documents"]
    assert any("document 1: a null is shown to the model as the text None (field q)" in t for t in texts)
    assert any("document 2: a choice is empty (field choices)" in t for t in texts)


GENERATED = (
    CODES.replace("num_fewshot: 3\n", "").replace("SPLITS", SPLITS[0][0]).replace("SPLIT", SPLITS[0][1])
)


def test_attempts_that_are_alike_are_not_made(tmp_path: Path) -> None:
    write(tmp_path, GENERATED, test=PLACES)
    found = plan(tmp_path, Sampling(temperature=1.0), attempts=4)
    (cell,) = found.cells
    assert (cell.entry.attempts, cell.entry.protocol["sampling.temperature"]) == (1, "0.0")
    assert "`sampling: run` in the suite lets the run's temperature count" in told(found)["greedy_attempts"]
    (cell,) = plan(tmp_path, Sampling(temperature=1.0), attempts=4, sampling="run").cells
    assert (cell.entry.attempts, cell.entry.protocol["sampling.temperature"]) == (4, "1.0")
    greedy = plan(tmp_path, Sampling(), attempts=4, sampling="run")
    assert greedy.cells[0].entry.attempts == 1
    assert "set sampling.temperature above 0" in told(greedy)["greedy_attempts"]


def test_likelihoods_are_the_same_at_every_attempt(tmp_path: Path) -> None:
    write(tmp_path, CHOICES, test=QUESTIONS[:2])
    found = plan(tmp_path, Sampling(temperature=1.0), attempts=4)
    assert found.cells[0].entry.attempts == 1
    assert not any(key.startswith("sampling.") for key in found.cells[0].entry.protocol)
    assert "asks for log-likelihoods" in told(found)["alike_attempts"]


def test_repeats_of_which_one_is_scored(tmp_path: Path) -> None:
    write(tmp_path, GENERATED + "repeats: 4\n", test=PLACES)
    assert "draws 4 replies to each question" in told(plan(tmp_path, Sampling()))["repeats"]
    vote = "filter_list: [{name: v, filter: [{function: majority_vote}, {function: take_first}]}]\n"
    sampled = GENERATED.replace("do_sample: false", "do_sample: true, temperature: 0.7")
    write(tmp_path, sampled + "repeats: 4\n" + vote, test=PLACES)
    assert "repeats" not in told(plan(tmp_path, Sampling()))
    write(tmp_path, sampled + "repeats: 4\n", test=PLACES)
    assert "of which the first is scored" in told(plan(tmp_path, Sampling()))["repeats"]


@pytest.mark.parametrize(
    ("own", "options", "used", "said"),
    [
        ("max_gen_toks: 8", {}, 8, "8 (its task)"),
        ("max_new_tokens: 9", {}, 9, "9 (its task)"),
        ("temperature: 0.0", {}, 256, "256 (lm-eval's default)"),
        ("max_gen_toks: 8", {"max_gen_toks": 30}, 30, "30 (the suite's max_gen_toks)"),
        ("max_gen_toks: 8", {"sampling": "run"}, 4096, "the run's"),
        ("max_gen_toks: 8", {"sampling": "run", "max_gen_toks": 30}, 30, "30 (the suite's max_gen_toks)"),
    ],
)
def test_the_budget_that_counts(
    tmp_path: Path, own: str, options: dict[str, Any], used: int, said: str
) -> None:
    write(tmp_path, GENERATED.replace("max_gen_toks: 8", own), test=PLACES)
    sampling = Sampling(max_tokens=4096)
    found = plan(tmp_path, sampling, **options)
    protocol = found.cells[0].entry.protocol
    assert (protocol["sampling.max_tokens"], protocol["max_gen_toks"]) == (str(used), said)
    assert ("budget" in told(found)) == (used < 4096 and "max_gen_toks" not in options)
    budgets: list[int] = []

    def complete(prompt: str, drawn: Sampling) -> Reply:
        budgets.append(drawn.max_tokens)
        return Reply(text="x")

    made = suite(tmp_path, **options)
    asyncio.run(made.run(made.samples("m", None)[0], ScriptedEngine(complete=complete), sampling))
    assert budgets == [used]
