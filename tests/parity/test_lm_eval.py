"""The same numbers as lm-eval 0.4.13 itself, sample by sample, from the same checkpoint.

lm-eval runs in a process of its own, once with its vLLM backend (the same arithmetic: everything must be
equal bit for bit) and once with its Hugging Face backend as a second opinion (other kernels: log-likelihoods
agree to `TOLERANCE`, and everything that is made of them is equal).

What differs on purpose, and is therefore not asked for here:

- a prompt that leaves no room for its whole budget of generated tokens: lm-eval cuts the prompt's beginning
  off; here the budget shrinks, and a prompt that does not fit at all is recorded as a context overflow;
- the text of a reply: lm-eval keeps special tokens that the model wrote in the middle of it, here they are
  taken out (a model that writes none, as here, shows no difference).
"""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from harness import stats
from harness.config import registry
from harness.engines.vllm import VllmEngine
from harness.stats.clusters import student_t
from harness.suites.lm_eval_metrics import aggregate
from harness.suites.lm_eval_requests import answered as fill
from tests.conftest import shared_data
from tests.parity.sides import SHIPPED, Answered, Job, ours, theirs

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

PLANTED = registry().parent / "harness" / "models" / "planted"
LOCAL = registry() / "suites" / "lm_eval_local"
CONTEXT = 512
"""Tokens; the texts of the perplexity task are longer."""

TOLERANCE = 1e-4
"""Nats, between vLLM and Hugging Face in float32."""

FLOAT32_EPSILON = 2.0**-23
"""The Hugging Face backend adds up the tokens of a text in float32: -2,445 nats are known to 0.0003."""

ENGINE = {"max_num_seqs": 32, "kv_cache_memory_bytes": 256 << 20, "enforce_eager": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tasks beside this file ask about."""
    folder = tmp_path_factory.mktemp("data")
    people, things = ("A man", "Two women", "The dog", "Her aunt"), ("roof", "river", "piano", "cake", "road")
    stories = [
        {
            "start": f"{who} stood beside the {what}. Then {who.lower()}",
            "endings": [
                f"looked at the {what} for {n} minutes and went home",
                f"looked at the {what} and sang a song",
                "ate it",
            ],
            "label": (n + len(what)) % 3,
        }
        for n, (who, what) in enumerate((who, what) for what in things for who in people)
    ]
    sums = [{"a": a, "b": b, "sum": a + b} for a in range(3, 30, 4) for b in (2, 9, 15)]
    texts = [{"text": " ".join(s["start"] for s in stories[: n * 3 + 1])} for n in range(8)]
    rows = {
        "stories": stories[4:],
        "solved": stories[:4],
        "sums": sums[3:],
        "solved_sums": sums[:3],
        "texts": texts,
    }
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


@pytest.fixture(scope="module")
def jobs(data: Path) -> list[Job]:
    """Every type of output, with and without solved examples and chat template."""
    return [
        Job("parity_letter", data),
        Job("parity_letter", data, num_fewshot=2, chat=True),
        Job("parity_ending", data),
        Job("parity_ending", data, num_fewshot=2),
        Job("parity_ending", data, num_fewshot=1, chat=True),
        Job("parity_word", data),
        Job("parity_text", data),
        Job("parity_sum", data, num_fewshot=2),
        Job("parity_sum", data, num_fewshot=1, chat=True),
    ]


def real_jobs() -> list[Job]:
    """Public data, as lm-eval's own tasks ask about them."""
    data = shared_data("SOURCES.md").parent

    def local(name: str, shipped: str, limit: int = 24, **more: Any) -> Job:
        return Job(name, data, (LOCAL, SHIPPED / shipped), limit=limit, **more)

    return [
        local("local_gsm8k", "gsm8k", num_fewshot=1),
        local("local_gsm8k", "gsm8k", num_fewshot=2, chat=True),
        local("local_arc_challenge", "arc"),
        local("local_arc_challenge", "arc", num_fewshot=3),
        local("local_arc_challenge", "arc", chat=True),
        local("local_hellaswag", "hellaswag"),
        local("local_hellaswag", "hellaswag", num_fewshot=3),
        local("local_mmlu", "mmlu/default", limit=4),
        local("local_mmlu", "mmlu/default", limit=4, num_fewshot=2, chat=True),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    started = await VllmEngine.start(
        str(PLANTED / "aster-dense"), engine_args={**ENGINE, "dtype": "float32", "max_model_len": CONTEXT}
    )
    yield started
    await started.close()


def vllm_args(model: str, dtype: str, context: int) -> dict[str, Any]:
    return {"pretrained": str(PLANTED / model), "dtype": dtype, "max_model_len": context, **ENGINE}


def hf_args(model: str, dtype: str, context: int) -> dict[str, Any]:
    # vLLM needs room for a generated token and one of context: so much shorter are its windows.
    length = {"max_length": context - 2}
    return {"pretrained": str(PLANTED / model), "dtype": dtype, "device": "cpu", "batch_size": 8, **length}


async def test_lm_eval_with_vllm(engine: VllmEngine, jobs: list[Job], tmp_path: Path) -> None:
    expected = theirs("vllm", vllm_args("aster-dense", "float32", CONTEXT), jobs, tmp_path)
    await compare(engine, jobs, expected, tolerance=0.0)


async def test_lm_eval_with_hugging_face(engine: VllmEngine, jobs: list[Job], tmp_path: Path) -> None:
    expected = theirs("hf", hf_args("aster-dense", "float32", CONTEXT), jobs, tmp_path)
    await compare(engine, jobs, expected, tolerance=TOLERANCE)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("model", "dtype", "backend"),
    [
        ("aster-dense", "bfloat16", "vllm"),
        ("borea-moe", "bfloat16", "vllm"),
        ("borea-moe", "float32", "hf"),
    ],
)
async def test_public_data(model: str, dtype: str, backend: str, tmp_path: Path) -> None:
    context, jobs = 4096, real_jobs()
    arguments = vllm_args if backend == "vllm" else hf_args
    expected = theirs(backend, arguments(model, dtype, context), jobs, tmp_path)
    started = await VllmEngine.start(
        str(PLANTED / model), engine_args={**ENGINE, "dtype": dtype, "max_model_len": context}
    )
    try:
        await compare(started, jobs, expected, tolerance=0.0 if backend == "vllm" else TOLERANCE)
    finally:
        await started.close()


async def compare(
    engine: VllmEngine, jobs: Sequence[Job], expected: dict[str, Any], tolerance: float
) -> None:
    """Every response, every score and every aggregate of every job."""
    for job in jobs:
        found = await ours(engine, job)
        assert found.keys() == expected[job.key].keys()
        for task, (suite, documents) in found.items():
            side = expected[job.key][task]
            rows: dict[str, list[Any]] = {}
            for row in side["samples"]:
                rows.setdefault(row["filter"], []).append(row)
            for answered, row in zip(documents, next(iter(rows.values())), strict=True):
                assert str(row["doc_id"]) == answered.sample.id
                compare_responses(answered, row, tolerance, f"{job.key} {task} {row['doc_id']}")
            for metric in suite.metrics:
                compare_metric(metric, documents, rows, side["results"], tolerance)


def compare_responses(answered: Answered, row: Any, tolerance: float, where: str) -> None:
    """Replies, log-likelihoods and greediness of one document."""
    responses = [response for request in row["resps"] for response in request]
    instances = answered.sample.payload.instances
    if answered.transcript.generations:
        filled = [text for i in fill(instances, answered.transcript) for text in i.resps]
        assert filled == responses, where
        return
    chances = [part.logprob for part in answered.transcript.loglikelihoods]
    assert len(chances) == len(responses) == len(instances)
    for instance, part, response in zip(
        instances, answered.transcript.loglikelihoods, responses, strict=True
    ):
        rolling = instance.request_type == "loglikelihood_rolling"
        chance, greedy = (response, None) if rolling else response
        rounding = abs(chance) * FLOAT32_EPSILON if tolerance else 0.0
        assert abs(part.logprob - chance) <= tolerance + rounding, where
        assert greedy is None or part.is_greedy == greedy, where


def compare_metric(
    metric: Any, documents: Sequence[Answered], rows: dict[str, list[Any]], results: Any, tolerance: float
) -> None:
    """Every score of a metric, its aggregate and its standard error."""
    key, _, filter_name = metric.name.partition(",")
    filter_name = filter_name or next(iter(rows))
    scores = [next(s for s in a.scores if s.metric == metric.name) for a in documents]
    reported = results[f"{key},{filter_name}"]
    if metric.kind == "corpus":
        value = aggregate(metric.aggregation, [s.operands for s in scores if s.operands])
        assert value == pytest.approx(reported, rel=1e-9 + tolerance)
        return
    values = [s.value for s in scores]
    assert values == [float(row[key]) for row in rows[filter_name]]
    estimate = stats.mean([v for v in values if v is not None])
    assert estimate.value == pytest.approx(reported, rel=1e-12)
    if len(set(values)) > 1:
        half = (estimate.high - estimate.low) / 2
        assert half / student_t(len(values) - 1) == pytest.approx(results[f"{key}_stderr,{filter_name}"])
