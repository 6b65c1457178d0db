"""The same numbers as lm-eval 0.4.13 itself, sample by sample, from the same checkpoint.

lm-eval runs in a process of its own, once with its vLLM backend (the same arithmetic: everything must be
equal bit for bit) and once with its Hugging Face backend as a second opinion (other kernels: log-likelihoods
agree to `TOLERANCE`; every score, aggregate and standard error is made here once more from the responses
of that backend, and must be the number that lm-eval made of them). test_tokens.py asks lm-eval's own code
for the tokens of every kind of request, with other tokenizers than have a model here.

What differs on purpose, and is therefore not asked for here:

- A prompt that leaves no room for its whole budget of generated tokens: lm-eval cuts the prompt's beginning
  off; here the budget shrinks, and a prompt that does not fit at all is recorded as a context overflow.
- A continuation as long as the model's context or longer: lm-eval fails, or scores a part of it; here it is
  recorded as a context overflow. An empty one after an empty context, and a context of nothing but spaces,
  end lm-eval's run; here the first is certain, and the second is scored after the prefix token.
- A task that states neither `do_sample` nor a temperature (DROP, CoQA, MMLU-Redux): lm-eval's vLLM backend
  then draws at vLLM's default, temperature 1, its Hugging Face backend takes the likeliest tokens. Here the
  run's sampling counts wherever a task says nothing, also beside `do_sample: true` without a temperature.
- A tokenizer that ends every text with an EOS token: lm-eval scores and continues that token, here it is
  taken off.
- A chat template that does not write the BOS token that the tokenizer begins texts with: lm-eval puts it
  before the conversation, here the conversation is sent as agents' are, as the template writes it.
- A continuation that is one token with the end of its context: lm-eval books 0.0 for it, here it is encoded
  by itself.
- A thinking model that ends its thought and says nothing: lm-eval scores an empty reply, here it is missing.
- A reply that the budget cut off within its thought: lm-eval scores the thought, here there is no answer.
- A chat template that refuses a system message: lm-eval leaves the message out and goes on; here the suite
  is refused, since its prompt would not be what the protocol says it is.
- A chat template that asks whether `enable_thinking` is defined: lm-eval's vLLM backend always defines it
  (as None, unless told otherwise), its Hugging Face backend does not, and neither does this harness.
- Intervals. lm-eval reports a standard error; here it is a part of what an interval is made of, and a rate's
  interval is Wilson's. Of metrics that are no means lm-eval reports the spread of resamples (of BLEU, chrF,
  TER, perplexity, Matthews' coefficient, drawn by Python's generator; of the others nothing), the harness
  the percentiles of resamples of its own, of clusters where samples are not independent. What lm-eval
  resamples is equal, though: from the operands that are kept here its own function gives its own error.
- A perplexity that is no float any more: lm-eval's run ends, here it has no value.
- Bits that depend on what else was in a batch: engines do not promise them, and the two sides send their
  requests in different order, lm-eval without the prefix cache. In bfloat16 they can change a greedy reply
  after hundreds of tokens. So both are told to compute in float32, and long prompts in one piece; on public
  data the few log-likelihoods whose last bits differ all the same are listed in parity.md, with how far.
- Averages of the tasks of a group, which lm-eval reports for some groups: here each task stands by itself.
- Programs that a model wrote are run in a sandbox; lm-eval's own metric for them runs in the process that
  evaluates and is fetched from the hub. Here both sides ask the sandbox: all but the running is compared.
- IFEval, whose scorer needs data of nltk, is not among the tasks.
"""

import copy
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from harness.engines.vllm.engine import VllmEngine
from harness.engines.vllm.tokens import Encoder
from harness.errors import UserError
from harness.sandbox import programs as sandbox
from tests.parity import jobs as asked_jobs
from tests.parity.checkpoints import PLANTED, with_bos
from tests.parity.comparison import Compared, compare_task, traits
from tests.parity.sides import Asked, Job, ours, theirs
from tests.parity.table import TABLE, write

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CONTEXT = 768
"""Tokens; some of what is asked is longer."""

LONG_CONTEXT = 5120

TOLERANCE = 1e-4
"""Nats in float32, between vLLM and Hugging Face, and where batches decide about the last bits."""

ON_PUBLIC_DATA = (
    ("aster-dense", "vllm"),
    ("aster-dense with BOS", "vllm"),
    ("borea-moe", "vllm"),
    ("borea-moe", "hf"),
)
"""Model, and backend of lm-eval's."""

FOUND: dict[tuple[str, str], dict[str, Compared]] = {}
"""What was compared on public data in this run, job by job."""

EVERY_CASE = {
    "generate_until",
    "loglikelihood",
    "loglikelihood_rolling",
    "several windows",
    "empty context",
    "spaces at the end of the context",
    "context too long, one token scored",
    "context too long, several tokens scored",
}
"""What the requests of a comparison have to show."""

NO_BOS = {"0 BOS tokens"}
BOS = {"0 BOS tokens", "1 BOS tokens", "2 BOS tokens"}
"""None where the beginning was cut off, one as a rule; whole texts have theirs scored after another one."""

ENGINE = {"max_num_seqs": 32, "kv_cache_memory_bytes": 256 << 20, "enforce_eager": True}
WHOLE = {"max_num_batched_tokens": LONG_CONTEXT, "enable_chunked_prefill": False}
"""Prompts are computed in one piece, on both sides."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Every type of output, with and without solved examples and chat template."""
    folder = tmp_path_factory.mktemp("data")
    asked_jobs.write_invented(folder)
    return asked_jobs.invented(folder) + asked_jobs.few_real()


@pytest.fixture(scope="module")
def with_bos_token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_bos("aster-dense", tmp_path_factory.mktemp("models") / "aster-dense-bos")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    started = await start(PLANTED / "aster-dense", engine_args("float32", CONTEXT))
    yield started
    await started.close()


async def start(model: Path, engine_args: dict[str, Any]) -> VllmEngine:
    return await VllmEngine.start(str(model), engine_args=engine_args)


def engine_args(dtype: str, context: int, **more: Any) -> dict[str, Any]:
    """Of vLLM, on both sides."""
    return {**ENGINE, "dtype": dtype, "max_model_len": context, **more}


def hf_args(model: Path, dtype: str, context: int) -> dict[str, Any]:
    # vLLM needs room for a generated token and one of context: so much shorter are its windows.
    length = {"max_length": context - 2}
    return {"pretrained": str(model), "dtype": dtype, "device": "cpu", "batch_size": 8, **length}


def with_tokenizer(engine: VllmEngine, folder: Path) -> VllmEngine:
    """The same model, its prompts written and read by another tokenizer with the same vocabulary."""
    from transformers import AutoTokenizer

    other = copy.copy(engine)
    other._tokenizer = AutoTokenizer.from_pretrained(folder)
    other._encoder = Encoder(other._tokenizer)
    other._scorer = other._new_scorer()
    return other


async def test_lm_eval_with_vllm(engine: VllmEngine, jobs: list[Job], tmp_path: Path) -> None:
    model = {"pretrained": str(PLANTED / "aster-dense"), **engine_args("float32", CONTEXT)}
    asked = Asked(model, jobs)
    (expected,) = theirs("vllm", [asked], tmp_path)
    seen, _ = await compare(engine, jobs, expected, tolerance=0.0)
    assert seen == EVERY_CASE | NO_BOS


async def test_lm_eval_with_hugging_face(
    engine: VllmEngine, jobs: list[Job], with_bos_token: Path, tmp_path: Path
) -> None:
    """Also where every prompt begins with a BOS token."""
    models = (PLANTED / "aster-dense", with_bos_token)
    expected = theirs("hf", [Asked(hf_args(m, "float32", CONTEXT), jobs) for m in models], tmp_path)
    plain, begun = expected
    seen, _ = await compare(engine, jobs, plain, TOLERANCE)
    assert seen == EVERY_CASE | NO_BOS
    seen, _ = await compare(with_tokenizer(engine, with_bos_token), jobs, begun, TOLERANCE)
    assert seen == EVERY_CASE | BOS


@pytest.mark.parity
@pytest.mark.parametrize(("model", "backend"), ON_PUBLIC_DATA)
async def test_public_data(model: str, backend: str, with_bos_token: Path, tmp_path: Path) -> None:
    folder = with_bos_token if "BOS" in model else PLANTED / model
    jobs = asked_jobs.many_real() if model == "aster-dense" else asked_jobs.fewer_real()
    arguments = engine_args("float32", LONG_CONTEXT, **WHOLE)
    their_arguments = {"pretrained": str(folder), **arguments}
    if backend == "hf":
        their_arguments = hf_args(folder, "float32", LONG_CONTEXT)
    (expected,) = theirs(backend, [Asked(their_arguments, jobs)], tmp_path)
    started = await start(folder, arguments)
    try:
        seen, FOUND[model, backend] = await compare(started, jobs, expected, TOLERANCE)
        assert seen == EVERY_CASE | (BOS if folder == with_bos_token else NO_BOS)
    finally:
        await started.close()


@pytest.mark.parity
async def test_public_programs(tmp_path: Path) -> None:
    try:
        sandbox.check_available()
    except UserError as error:
        pytest.skip(str(error))
    folder, jobs = PLANTED / "borea-dense", asked_jobs.programs()
    arguments = engine_args("bfloat16", LONG_CONTEXT, **WHOLE)
    (expected,) = theirs("vllm", [Asked({"pretrained": str(folder), **arguments}, jobs)], tmp_path)
    started = await start(folder, arguments)
    try:
        seen, _ = await compare(started, jobs, expected, tolerance=0.0)
        assert seen == {"generate_until"} | NO_BOS
    finally:
        await started.close()


@pytest.mark.parity
async def test_the_table() -> None:
    untried = [case for case in ON_PUBLIC_DATA if case not in FOUND]
    assert not untried, f"not compared to their end: {untried}; {TABLE.name} stays as it was"
    write(FOUND)


async def compare(
    engine: VllmEngine, jobs: Sequence[Job], expected: dict[str, Any], tolerance: float
) -> tuple[set[str], dict[str, Compared]]:
    """Compare all tasks of all jobs.

    Returns:
        What was special about their requests, and what was compared of each job.
    """
    seen: set[str] = set()
    compared = {}
    for job in jobs:
        found = await ours(engine, job)
        assert found.keys() == expected[job.key].keys()
        total = Compared()
        for task, (suite, documents) in found.items():
            total = total.plus(compare_task(suite, documents, expected[job.key][task], tolerance))
            seen |= traits(engine._encoder, documents, engine._max_model_len)
        compared[job.title] = total
    return seen, compared
