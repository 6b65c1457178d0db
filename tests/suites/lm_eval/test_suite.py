"""The lm-eval adapter against lm-eval itself, on tasks made here."""

import asyncio
import functools
import json
import math
import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.config import SuiteSpec
from harness.engines.scripted import Reply, ScriptedEngine, hashed_score
from harness.errors import AttemptFailure, EngineDead, UserError
from harness.suites import load_suites
from harness.suites.access import Access
from harness.suites.lm_eval.data import Source
from harness.suites.lm_eval.metrics import aggregate
from harness.suites.lm_eval.requests import cut, leave_open, reply_sampling, together
from harness.suites.lm_eval.suite import PASSAGES, Options, build
from harness.suites.lm_eval.tasks import load_tasks
from harness.types import FailureKind, Generation, LogLikelihood, Message, Sample, Sampling, Score, Transcript

SUMS = [{"a": a, "b": b, "sum": a + b} for a in range(2, 8) for b in (3, 5)]
SOLVED = [{"a": a, "b": 1, "sum": a + 1} for a in range(10, 16)]
QUESTIONS = [
    {"q": f"Which is {n}?", "options": ["zero", "one", "two", "threeé"], "gold": n % 4} for n in range(9)
]
BLANKS = [
    {"gold": n % 2, "contexts": [f"{n} men", f"{n} women"], "ending": f"are {n} people"} for n in range(7)
]
TEXTS = [{"text": "It rains in Spain."}, {"text": "The élan of snow,\nfalling  slowly."}]

TASKS = {
    "toy_sum": """
task: toy_sum
dataset_path: json
dataset_kwargs: {data_files: {train: data/solved.jsonl, test: data/sums.jsonl}}
training_split: train
test_split: test
fewshot_split: train
output_type: generate_until
num_fewshot: 2
description: "Sums.\\n\\n"
doc_to_text: "What is {{a}} + {{b}}?\\nAnswer:"
doc_to_target: "{{sum}}"
generation_kwargs: {until: ["\\n", "What"], do_sample: false, temperature: 0.0, max_gen_toks: 24}
filter_list:
  - name: strict
    filter:
      - {function: regex, regex_pattern: "is (-?[0-9]+)"}
      - {function: take_first}
  - name: loose
    filter:
      - {function: regex, regex_pattern: "(-?[0-9]+)", group_select: -1}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
metadata: {version: 1.5}
""",
    "toy_vote": """
include: toy_sum.yaml
task: toy_vote
repeats: 3
generation_kwargs: {until: ["\\n"], do_sample: true, temperature: 0.7, top_p: 0.9}
filter_list:
  - name: vote
    filter:
      - {function: regex, regex_pattern: "(-?[0-9]+)"}
      - {function: majority_vote}
      - {function: take_first}
""",
    "toy_choice": """
task: toy_choice
dataset_path: json
dataset_kwargs: {data_files: {test: data/questions.jsonl}}
test_split: test
output_type: multiple_choice
num_fewshot: 0
doc_to_text: "{{q}}\\nAnswer:"
doc_to_choice: "{{options}}"
doc_to_target: gold
metric_list:
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}
  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}
  - {metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}
""",
    "toy_word": """
task: toy_word
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{a}} + {{b}} ="
doc_to_target: " {{sum}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "toy_text": """
task: toy_text
dataset_path: json
dataset_kwargs: {data_files: {validation: data/texts.jsonl}}
validation_split: validation
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
""",
    "toy_blank": """
task: toy_blank
dataset_path: json
dataset_kwargs: {data_files: {test: data/blanks.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{gold}}"
doc_to_choice: "{{contexts}}"
doc_to_target: "{{ending}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "toy_any": """
include: toy_sum.yaml
task: toy_any
doc_to_target: "{{[sum | string, (sum + 1) | string]}}"
""",
    "toy_class": """
task: toy_class
class: !function own.Mixed
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl}}
test_split: test
doc_to_text: "What is {{a}} + {{b}}?"
doc_to_target: "{{sum}}"
generation_kwargs: {max_gen_toks: 8}
num_fewshot: 0
metadata: {version: 2}
""",
    "toy_prefix": """
include: toy_sum.yaml
task: toy_prefix
gen_prefix: "The sum is"
""",
    "toy_own": """
include: toy_sum.yaml
task: toy_own
filter_list: null
process_results: !function own.score
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: parts, aggregation: !function statistics.fmean, higher_is_better: true}
  - {metric: sometimes, aggregation: nanmean, higher_is_better: true}
""",
    "toy_unsafe": """
include: toy_own.yaml
task: toy_unsafe
unsafe_code: true
""",
    "toy_group": """
group: toy_group
task:
  - toy_choice
  - task: toy_word
    num_fewshot: 0
""",
    "toy_lost": """
include: toy_sum.yaml
task: toy_lost
dataset_kwargs: {data_files: {train: data/solved.jsonl, test: data/lost.jsonl}}
""",
    "toy_picture": """
include: toy_sum.yaml
task: toy_picture
doc_to_image: a
""",
    "toy_hub": """
include: toy_sum.yaml
task: toy_hub
dataset_path: nobody/nothing
dataset_kwargs: null
""",
}

OWN = """
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean, perplexity
from lm_eval.api.task import ConfigurableTask


class Mixed(ConfigurableTask):
    VERSION = 2

    def __init__(self, config=None):
        super().__init__(config={k: v for k, v in config.items() if k != "class"})

    def construct_requests(self, doc, ctx, apply_chat_template=False, chat_template=None, **kwargs):
        reply = (ctx, self.config.generation_kwargs)
        return [
            Instance(request_type="generate_until", doc=doc, arguments=reply, idx=0, **kwargs),
            Instance(request_type="loglikelihood", doc=doc, arguments=(ctx, " no"), idx=0, **kwargs),
        ]

    def process_results(self, doc, results):
        reply, (chance, _) = results
        return {"exact_match": float(str(doc["sum"]) in reply), "no": chance}

    def aggregation(self):
        return {"exact_match": mean, "no": perplexity}

    def higher_is_better(self):
        return {"exact_match": True, "no": False}


def score(doc, results):
    reply = results[0]
    if "boom" in reply:
        raise RuntimeError("no")
    return {"acc": len(reply) / 100, "parts": len(reply), "sometimes": float("nan"), "extra": 2}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of tasks with their data, and a data cache of its own."""
    import datasets.config

    root = tmp_path_factory.mktemp("tasks")
    (root / "data").mkdir()
    rows = {"sums": SUMS, "solved": SOLVED, "questions": QUESTIONS, "texts": TEXTS, "blanks": BLANKS}
    for name, content in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (root / "data" / f"{name}.jsonl").write_text(lines, encoding="utf8")
    for name, text in TASKS.items():
        (root / f"{name}.yaml").write_text(text, encoding="utf8")
    (root / "own.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield root


def options(folder: Path, task: str, **more: Any) -> Options:
    return Options(task=task, include_path=str(folder), **more)


def fresh(folder: Path, task: str, **more: Any) -> Any:
    (suite,) = build(None, options(folder, task, **more))
    return suite


one = functools.cache(fresh)


def say(prompt: str, sampling: Sampling) -> Reply:
    """Right, wrong or said differently, by the prompt and the seed."""
    a, b = (int(x) for x in prompt.rsplit("What is ", 1)[1].split("?")[0].split(" + "))
    wrong = (a + sampling.seed) % 3 == 0
    text = f" {a} plus {b} is {a + b + wrong}." if a % 2 else f" {a + b + wrong}, of course"
    return Reply(text=text + "\nWhat is 1 + 1?")


def scripted() -> ScriptedEngine:
    return ScriptedEngine(complete=say)


def render(messages: Any, add_generation_prompt: bool) -> str:
    """A chat template that strips what is said, as many do."""
    turns = "".join(f"<{m.role}>{m.content.strip()}</{m.role}>\n" for m in messages)
    return turns + ("<assistant>" if add_generation_prompt else "")


def ask(
    suite: Any, sampling: Sampling | None = None, template: Any = None
) -> list[tuple[Sample, Transcript]]:
    """Every sample of a suite with its transcript, kept on disk in between."""

    async def run() -> list[tuple[Sample, Transcript]]:
        engine, samples = scripted(), suite.samples("m", template)
        transcripts = [await suite.run(s, engine, sampling or Sampling()) for s in samples]
        return [
            (s, msgspec.json.decode(msgspec.json.encode(t), type=Transcript))
            for s, t in zip(samples, transcripts, strict=True)
        ]

    return asyncio.run(run())


def scores(suite: Any, **how: Any) -> dict[str, list[Score]]:
    """Metric -> scores in the order of the samples, as they come back from disk."""
    found: dict[str, list[Score]] = defaultdict(list)
    for sample, transcript in ask(suite, **how):
        for score in suite.score(sample, transcript):
            found[score.metric].append(msgspec.json.decode(msgspec.json.encode(score), type=Score))
    return dict(found)


def lm_evals_own(folder: Path, name: str, chat: bool = False, **how: Any) -> dict[str, Any]:
    """What lm-eval's evaluator makes of the same task and the same replies."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate

    class Model(LM):
        tokenizer_name = "toy"

        def generate_until(self, requests: Any, **_: Any) -> list[str]:
            tries: dict[int, int] = defaultdict(int)
            replies = []
            for request in requests:
                seed = tries[request.doc_id]
                tries[request.doc_id] += 1
                text = say(request.args[0], Sampling(seed=seed)).text
                replies.append(cut(text, request.args[1]["until"]))
            return replies

        def loglikelihood(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
            chances = [(r.doc_id, r.args[0], hashed_score(*r.args)) for r in requests]
            return [
                (c, c == max(x for d, t, x in chances if (d, t) == (doc, text))) for doc, text, c in chances
            ]

        def loglikelihood_rolling(self, requests: Any, **_: Any) -> list[float]:
            return [hashed_score("", r.args[0]) for r in requests]

        def apply_chat_template(self, history: Any, add_generation_prompt: bool = True) -> str:
            text = render([Message(**m) for m in history], add_generation_prompt)
            return text if add_generation_prompt else text.removesuffix("</assistant>\n")

    task = load_tasks(name, str(folder), None, Source(None, Access())).tasks[name]
    task.set_config("num_fewshot", task.config.num_fewshot or 0)
    task.set_fewshot_seed(1234)
    how |= {"apply_chat_template": chat, "fewshot_as_multiturn": how.get("fewshot_as_multiturn", chat)}
    loaded = {"tasks": {name: task}, "groups": {}}
    result: dict[str, Any] = evaluate(lm=Model(), task_dict=loaded, bootstrap_iters=0, **how)
    return {
        "arguments": [i.args for i in task.instances],
        "samples": result["samples"][name],
        "results": result["results"][name],
    }


ALL = (
    "toy_sum",
    "toy_vote",
    "toy_choice",
    "toy_word",
    "toy_text",
    "toy_prefix",
    "toy_blank",
    "toy_any",
    "toy_class",
)


@pytest.mark.parametrize("name", ALL)
def test_requests_and_scores_are_lm_evals(folder: Path, name: str) -> None:
    suite, theirs = one(folder, name), lm_evals_own(folder, name)
    samples = suite.samples("m", None)
    assert [i.args for s in samples for i in s.payload.instances] == theirs["arguments"]
    ours = scores(suite)
    assert set(ours) == {metric.name for metric in suite.metrics}
    several = len({row["filter"] for row in theirs["samples"]}) > 1
    for metric in suite.metrics:
        key, _, filter_name = metric.name.partition(",")
        rows = [row for row in theirs["samples"] if not several or row["filter"] == filter_name]
        assert len(rows) == len(ours[metric.name]) == suite.count()
        if metric.kind == "corpus":
            value = aggregate(metric.aggregation, [s.operands for s in ours[metric.name] if s.operands])
        else:
            assert [s.value for s in ours[metric.name]] == [float(row[key]) for row in rows]
            value = sum(s.value for s in ours[metric.name]) / len(rows)
        assert value == pytest.approx(theirs["results"][f"{key},{rows[0]['filter']}"], rel=1e-12)


def test_the_scripted_replies_are_not_all_alike(folder: Path) -> None:
    values = {name: [s.value for s in found] for name, found in scores(one(folder, "toy_sum")).items()}
    assert set(values["exact_match,strict"]) == set(values["exact_match,loose"]) == {0.0, 1.0}
    assert values["exact_match,strict"] != values["exact_match,loose"]


@pytest.mark.parametrize("name", ["toy_sum", "toy_choice", "toy_prefix"])
@pytest.mark.parametrize("multiturn", [True, False])
def test_chat_prompts_are_lm_evals(folder: Path, name: str, multiturn: bool) -> None:
    how = {"fewshot_as_multiturn": multiturn, "system_instruction": "Be brief."}
    suite = one(folder, name, apply_chat_template=True, **how)
    theirs = lm_evals_own(folder, name, chat=True, **how)
    samples = suite.samples("m", render)
    assert [i.args for s in samples for i in s.payload.instances] == theirs["arguments"]
    prompt = theirs["arguments"][0][0]
    assert prompt.startswith("<system>Be brief.")
    assert prompt.endswith("<assistant>The sum is" if name == "toy_prefix" else "<assistant>")


def test_multiturn_follows_the_chat_template_by_default(folder: Path) -> None:
    prompts = [
        one(folder, "toy_sum", apply_chat_template=True, **how).samples("m", render)[0].content_hash
        for how in ({}, {"fewshot_as_multiturn": True}, {"fewshot_as_multiturn": False})
    ]
    assert prompts[0] == prompts[1] != prompts[2]


def test_chat_template_needs_a_model_that_has_one(folder: Path) -> None:
    with pytest.raises(UserError, match="apply_chat_template needs a model with a chat template"):
        one(folder, "toy_sum", apply_chat_template=True).samples("m", None)


def test_a_template_that_refuses_is_the_users_to_know(folder: Path) -> None:
    def refuse(messages: Any, add_generation_prompt: bool) -> str:
        raise ValueError("System role not supported")

    suite = one(folder, "toy_sum", apply_chat_template=True)
    with pytest.raises(UserError, match=r"document 0 cannot be built .*System role not supported"):
        suite.samples("m", refuse)


@pytest.mark.parametrize(
    ("text", "last", "expected"),
    [
        ("<a>x</a>", "x", "<a>x"),
        ("<a>x </a>", " x ", "<a>x "),
        ("<a>x</a>", "x ", "<a>x"),
        ("xx</a>", "x", "xx"),
    ],
)
def test_leave_open(text: str, last: str, expected: str) -> None:
    assert leave_open(text, last) == expected


def test_samples_are_the_same_at_every_call(folder: Path) -> None:
    suite = one(folder, "toy_sum")
    first, second = suite.samples("a", None), suite.samples("b", None)
    again, reseeded = (
        fresh(folder, "toy_sum").samples("a", None),
        one(folder, "toy_sum", seed=7).samples("a", None),
    )
    hashes = [[s.content_hash for s in samples] for samples in (first, second, again, reseeded)]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    assert [s.id for s in first] == [str(i) for i in range(len(SUMS))]
    assert len(set(hashes[0])) == len(SUMS)


def test_questions_that_share_a_passage_share_a_cluster(folder: Path) -> None:
    plain = fresh(folder, "toy_sum")
    assert all(sample.clusters == {} for sample in plain.samples("m", None))
    by_a = fresh(folder, "toy_sum", cluster_by="a").samples("m", None)
    assert len(by_a) == 12 and len({sample.clusters["a"] for sample in by_a}) == 6
    assert [s.content_hash for s in by_a] == [s.content_hash for s in plain.samples("m", None)]
    with pytest.raises(UserError, match=r"no field 'topic' for cluster_by: use one of a, b, sum, or none"):
        fresh(folder, "toy_sum", cluster_by="topic").samples("m", None)


@pytest.mark.parametrize("field", PASSAGES)
def test_passages_are_clusters_without_being_asked_for(folder: Path, field: str) -> None:
    suite = fresh(folder, "toy_sum")
    found = [suite._clusters(i, {field: text, "question": i}) for i, text in enumerate("aab")]
    assert found[0] == found[1] != found[2] and list(found[0]) == [field]
    assert fresh(folder, "toy_sum", cluster_by="none")._clusters(0, {field: "a"}) == {}
    by_question = fresh(folder, "toy_sum", cluster_by="question")
    assert by_question._clusters(0, {field: "a", "question": "x"}).keys() == {"question"}


def test_one_question_in_many_languages_is_one(folder: Path) -> None:
    suite = fresh(folder, "toy_sum")
    suite.options = msgspec.structs.replace(suite.options, task="mgsm_direct_de")
    assert suite._clusters(3, {"question": "Wie viele?"}) == {"question": "3"}
    suite.options = msgspec.structs.replace(suite.options, task="belebele_deu_Latn")
    german, other, english = (
        suite._clusters(i, {"flores_passage": text, "link": link})
        for i, (text, link) in enumerate([("Ein Fluss", "a"), ("Ein Berg", "b"), ("A river", "a")])
    )
    assert german["link"] == english["link"] != other["link"]
    assert german["flores_passage"] != english["flores_passage"]
    suite.options = msgspec.structs.replace(suite.options, task="xcopa_it")
    assert suite._clusters(0, {"idx": 7}) == suite._clusters(1, {"idx": 7}) != suite._clusters(0, {"idx": 8})


def test_limit_and_count(folder: Path) -> None:
    suite = one(folder, "toy_sum", limit=5)
    assert suite.count() == len(suite.samples("m", None)) == 5
    assert one(folder, "toy_sum").count() == one(folder, "toy_sum", limit=99).count() == len(SUMS)
    whole = one(folder, "toy_sum").samples("m", None)
    assert [s.content_hash for s in suite.samples("m", None)] == [s.content_hash for s in whole[:5]]


def test_metrics_say_what_they_are(folder: Path) -> None:
    metrics = {m.name: m for name in ("toy_sum", "toy_choice", "toy_own") for m in one(folder, name).metrics}
    assert [m for m in metrics if metrics[m].kind == "rate"] == [
        "exact_match,strict",
        "exact_match,loose",
        "acc_norm",
        "acc_mutual_info",
    ]
    assert [m for m in metrics if metrics[m].headline] == ["exact_match,strict", "acc"]
    # computed by the task itself, from lengths of replies: a number, not a rate
    assert (metrics["acc"].kind, metrics["acc"].bounds) == ("mean", (0.0, 1.0))
    assert (metrics["sometimes"].kind, metrics["sometimes"].aggregation) == ("mean", "mean")
    assert (metrics["parts"].kind, metrics["parts"].aggregation) == ("corpus", "statistics:fmean")
    assert (metrics["mcc"].kind, metrics["mcc"].aggregation) == ("corpus", "matthews_corrcoef")
    assert not metrics["brier_score"].higher_is_better
    assert metrics["exact_match,strict"].bounds == (0.0, 1.0)


def test_repeats_are_drawn_with_seeds_of_their_own(folder: Path) -> None:
    suite = one(folder, "toy_vote")
    assert [m.kind for m in suite.metrics] == ["mean"]
    seen: list[Sampling] = []

    def remember(prompt: str, sampling: Sampling) -> Reply:
        seen.append(sampling)
        return say(prompt, sampling)

    sample = suite.samples("m", None)[0]
    transcript = asyncio.run(
        suite.run(sample, ScriptedEngine(complete=remember), Sampling(seed=40, min_p=0.1))
    )
    assert [s.seed for s in seen] == [40, 41, 42]
    assert {(s.temperature, s.top_p, s.min_p, s.max_tokens, s.stop) for s in seen} == {
        (0.7, 0.9, 0.1, 256, ("\n",))
    }
    assert len(transcript.generations) == 3
    with pytest.raises(AttemptFailure, match="one response for each request"):
        suite.score(sample, msgspec.structs.replace(transcript, generations=transcript.generations[:2]))


def test_the_task_says_how_replies_are_drawn() -> None:
    run = Sampling(temperature=0.6, top_p=0.9, top_k=20, max_tokens=99, seed=3, stop=("END",))
    greedy = reply_sampling({"until": "\n", "do_sample": False, "temperature": 0.8}, None, run)
    assert (greedy.temperature, greedy.top_p, greedy.stop, greedy.max_tokens) == (
        0.0,
        0.9,
        ("\n", "END"),
        256,
    )
    silent = reply_sampling({"until": ["", "x"], "max_new_tokens": 7, "max_tokens": 9}, None, run)
    assert (silent.temperature, silent.stop, silent.max_tokens, silent.seed) == (0.6, ("x", "END"), 7, 3)
    drawn = reply_sampling({"do_sample": True, "temperature": 1, "top_k": -1, "max_gen_toks": 8}, 5, run)
    assert (drawn.temperature, drawn.top_k, drawn.max_tokens) == (1, 0, 5)


def test_a_context_is_sent_once(folder: Path) -> None:
    suite, engine = one(folder, "toy_choice"), scripted()
    sample = suite.samples("m", None)[0]
    transcript = asyncio.run(suite.run(sample, engine, Sampling()))
    assert len(transcript.loglikelihoods) == 8  # four choices with the question, four without
    assert engine.requests == 2
    expected = [hashed_score(*i.args) for i in sample.payload.instances]
    assert [x.logprob for x in transcript.loglikelihoods] == expected


def test_answers_and_targets_are_kept(folder: Path) -> None:
    summed = scores(one(folder, "toy_sum", limit=1))
    assert [(s.answer, s.reason) for s in summed["exact_match,loose"]] == [("5", "5")]
    assert [s.answer for s in summed["exact_match,strict"]] == ["[invalid]"]
    choice = one(folder, "toy_choice", limit=1)
    ((sample, transcript),) = ask(choice)
    chances = [x.logprob for x in transcript.loglikelihoods[:4]]
    (acc,) = (s for s in choice.score(sample, transcript) if s.metric == "acc")
    blank = scores(one(folder, "toy_blank", limit=2))["acc"]
    assert [s.reason for s in blank] == ["0 men", "1 women"]
    assert (acc.answer, acc.reason) == (QUESTIONS[0]["options"][chances.index(max(chances))], "zero")


def reply(text: str) -> Transcript:
    return Transcript(
        generations=(
            Generation(text=text, raw=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1),
        )
    )


def test_a_tasks_own_scorer(folder: Path) -> None:
    suite = one(folder, "toy_own")
    sample = suite.samples("m", None)[0]
    found = {s.metric: s for s in suite.score(sample, reply("four\nnot this"))}
    assert found["acc"].value == 0.04
    assert (found["parts"].value, found["parts"].operands) == (None, (4,))
    assert (found["sometimes"].value, found["sometimes"].operands) == (None, None)
    assert found["extra"].value == 2.0 and "extra" not in {m.name for m in suite.metrics}
    for text, message in (("boom", "RuntimeError: no"), ("x" * 101, "acc is 1.01")):
        with pytest.raises(AttemptFailure, match=message) as caught:
            suite.score(sample, reply(text))
        assert caught.value.kind is FailureKind.SCORER_ERROR


def test_an_empty_reply_is_an_answer(folder: Path) -> None:
    suite = one(folder, "toy_sum")
    assert [s.value for s in suite.score(suite.samples("m", None)[0], reply(""))] == [0.0, 0.0]


class TwoBos(ScriptedEngine):
    """Every prompt is sent with two BOS tokens."""

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        return msgspec.structs.replace(await super().complete(prompt, sampling), bos_tokens=2)

    async def score(self, context: str, continuations: Sequence[str]) -> list[LogLikelihood]:
        found = await super().score(context, continuations)
        return [msgspec.structs.replace(answer, bos_tokens=2) for answer in found]


@pytest.mark.parametrize("task", ["toy_choice", "toy_word", "toy_sum"])
@pytest.mark.parametrize("chat", [False, True])
def test_two_bos_tokens_are_refused_unless_asked_for(folder: Path, task: str, chat: bool) -> None:
    for allowed in (False, True):
        suite = one(folder, task, apply_chat_template=chat, double_bos=allowed)
        sample = suite.samples("m", render)[0]
        if allowed:
            assert asyncio.run(suite.run(sample, TwoBos(), Sampling()))
        else:
            with pytest.raises(UserError, match="prompts begin with 2 BOS tokens"):
                asyncio.run(suite.run(sample, TwoBos(), Sampling()))


def test_whole_texts_begin_with_two_bos_tokens_as_in_lm_eval(folder: Path) -> None:
    suite = one(folder, "toy_text")
    (found,) = asyncio.run(suite.run(suite.samples("m", None)[0], TwoBos(), Sampling())).loglikelihoods
    assert found.bos_tokens == 2


def test_what_the_engine_raises_comes_through(folder: Path) -> None:
    suite = one(folder, "toy_choice")
    sample = suite.samples("m", None)[0]
    with pytest.raises(AttemptFailure) as caught:
        asyncio.run(suite.run(sample, ScriptedEngine(max_model_len=2), Sampling()))
    assert caught.value.kind is FailureKind.CONTEXT_OVERFLOW
    closed = ScriptedEngine()
    asyncio.run(closed.close())
    with pytest.raises(EngineDead):
        asyncio.run(suite.run(sample, closed, Sampling()))


def test_the_first_error_ends_the_other_calls() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("waiting call")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise AttemptFailure(FailureKind.ENGINE_ERROR, "no")

    async def both() -> None:
        async with together([wait(), fail()]) as answers:
            await answers

    with pytest.raises(AttemptFailure, match="no"):
        asyncio.run(both())
    assert ended == ["waiting call"]


def test_groups_become_their_tasks(folder: Path) -> None:
    assert [s.name for s in build(None, options(folder, "toy_group"))] == ["toy_choice", "toy_word"]
    assert [s.name for s in build("mine", options(folder, "toy_group"))] == [
        "mine/toy_choice",
        "mine/toy_word",
    ]
    assert [s.name for s in build("mine", options(folder, "toy_word"))] == ["mine"]


def test_protocol(folder: Path) -> None:
    base = one(folder, "toy_sum").protocol
    assert (base["task_version"], base["num_fewshot"], base["output_type"]) == ("1.5", "2", "generate_until")
    assert all(isinstance(value, str) and str(folder) not in value for value in base.values())

    def changed(**more: Any) -> set[str]:
        other = one(folder, "toy_sum", **more).protocol
        return {key for key in base if base[key] != other[key]}

    assert changed() == set()
    assert changed(num_fewshot=1) == {"config", "num_fewshot"}
    assert changed(limit=3) == {"limit"}
    assert changed(seed=1) == {"fewshot_seed"}
    assert changed(max_gen_toks=9) == {"max_gen_toks"}
    assert changed(system_instruction="x") == {"system_instruction"}
    assert changed(apply_chat_template=True) == {"apply_chat_template", "fewshot_as_multiturn"}


def test_protocol_does_not_depend_on_where_the_files_lie(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(TASKS["toy_sum"])
    moved = one(tmp_path, "toy_sum", data_dir=str(folder))
    assert moved.protocol == one(folder, "toy_sum").protocol
    (tmp_path / "toy.yaml").write_text(TASKS["toy_sum"].replace("Sums.", "Sums!"))
    assert fresh(tmp_path, "toy_sum", data_dir=str(folder)).protocol["config"] != moved.protocol["config"]


@pytest.mark.parametrize(
    ("task", "more", "message"),
    [
        ("toy_sun", {}, r"no task, group or tag 'toy_sun'.*did you mean toy_sum"),
        ("toy_lost", {}, r"toy_lost: its data file .*data/lost.jsonl does not exist: set `data_dir`"),
        ("toy_choice", {"num_fewshot": 2}, "toy_choice is always asked without solved examples"),
        ("toy_sum", {"num_fewshot": 7}, "toy_sum has 6 solved examples: num_fewshot=7"),
        ("toy_unsafe", {}, "toy_unsafe runs code that the model wrote in a way that no sandbox|bubblewrap"),
        ("toy_picture", {}, "toy_picture shows images"),
    ],
)
def test_what_cannot_be_asked(folder: Path, task: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(None, options(folder, task, **more))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("aggregation: mean", "aggregation: !function own.mine"), "no installed module defines"),
        (("metric_list:", "metrics:"), "cannot be built: TypeError: .*metrics"),
        (("do_sample: false", "num_beams: 4"), "generation_kwargs num_beams=4 cannot be done here"),
        (("task: toy_sum", "task: [toy_sum"), "bad.yaml is not an lm-eval task YAML"),
    ],
)
def test_a_wrong_definition(tmp_path: Path, folder: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "own.py").write_text("def mine(items):\n    return 0.0\n")
    (tmp_path / "bad.yaml").write_text(TASKS["toy_sum"].replace(*change))
    with pytest.raises(UserError, match=message):
        one(tmp_path, "toy_sum", data_dir=str(folder))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        one(tmp_path / "nowhere", "toy_sum")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": 0}, "limit must be at least 1"),
        ({"num_fewshots": 1}, "unknown key `num_fewshots`"),
        ({"fewshot_as_multiturn": True}, "needs apply_chat_template"),
    ],
)
def test_wrong_options(folder: Path, given: dict[str, Any], message: str) -> None:
    stated = {"task": "toy_sum", "include_path": str(folder), **given}
    with pytest.raises(UserError, match=message):
        load_suites(SuiteSpec(adapter="lm_eval", options=stated))


def test_offline_means_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("something looked up a host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "")
    monkeypatch.delenv("HF_EVALUATE_OFFLINE")
    assert fresh(folder, "toy_sum").count() == len(SUMS)
    with pytest.raises(UserError, match=r"toy_hub needs the data set nobody/nothing, not on this"):
        one(folder, "toy_hub")
    assert os.environ["HF_EVALUATE_OFFLINE"] == "1"


def test_nothing_is_printed_or_logged(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    told: set[str] = set()
    for name in ("toy_sum", "toy_group", "toy_class"):
        for suite in build(None, options(folder, name, limit=2)):
            scores(suite)
            told |= set(suite._warned)  # type: ignore[attr-defined]
    assert capfd.readouterr() == ("", "")
    assert all(record.getMessage() in told for record in caplog.records)  # gathered, for plan and card


def test_aggregate() -> None:
    assert aggregate("weighted_perplexity", [(-2.0, 1), [-4.0, 2]]) == pytest.approx(math.exp(2))
    assert aggregate("perplexity", [(-1.0,), (-3.0,)]) == pytest.approx(math.exp(2))
    assert aggregate("perplexity", [(-800.0,), (-900.0,)]) == math.inf
    with pytest.raises(UserError, match=r"no aggregation 'perplexities': use one of .*perplexity"):
        aggregate("perplexities", [])


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        (Reply(text="", reasoning="six or seven"), True),
        (Reply(text="", reasoning="six or", finish_reason="length"), False),
        (Reply(text="7", reasoning="six or seven"), False),
        (Reply(text=""), False),
    ],
)
def test_a_thinking_model_that_says_nothing_is_missing(folder: Path, said: Reply, failed: bool) -> None:
    engine, suite = ScriptedEngine(complete=lambda prompt, sampling: said), one(folder, "toy_sum")
    running = suite.run(suite.samples("m", None)[0], engine, Sampling())
    if failed:
        with pytest.raises(AttemptFailure, match="gave no answer") as raised:
            asyncio.run(running)
        assert raised.value.kind is FailureKind.EMPTY_ANSWER
    else:
        assert asyncio.run(running).generations[0].text == said.text
