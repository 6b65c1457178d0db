"""The same tokens as lm-eval's own code makes of the same requests, whatever the tokenizer does.

`TemplateLM.loglikelihood` and `VLLM` of lm-eval run as they are, up to where the tokens would go to a model.
"""

import importlib.metadata
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engines.vllm.tokens import Encoder, fit
from tests.parity.checkpoints import PLANTED, with_bos

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

LENGTH = 72
"""Tokens of the model's context."""

CONTEXTS = (
    "",
    "Question: 2 + 2?\nAnswer:",
    "Question: 2 + 2?\nAnswer: ",
    "A\n\n \n",
    "é",
    "The quick brown fox. " * 20,
    "<|endoftext|><|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|>",
    " leading",
)
CONTINUATIONS = (" four", "four", " a b", "\n", "é", " x" * 30, "<|endoftext|>", "<|im_end|> after it", "  ")


@pytest.fixture(scope="module", params=["plain", "bos", "bos without template", "eos", "metaspace"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of a planted model, which has no BOS token, and others."""
    from transformers import AutoTokenizer

    folder = PLANTED / "aster-dense"
    if "bos" in request.param:
        other = tmp_path_factory.mktemp("model") / "bos"
        folder = with_bos("aster-dense", other, in_template="without" not in request.param)
    found = AutoTokenizer.from_pretrained(folder)
    changed: dict[str, Callable[[Any], None]] = {"eos": end_with_eos, "metaspace": write_spaces}
    changed.get(request.param, lambda unchanged: None)(found)
    return found


def end_with_eos(tokenizer: Any) -> None:
    """Texts end with an EOS token, as T5's do."""
    from tokenizers.processors import TemplateProcessing

    eos = tokenizer.eos_token
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )


def write_spaces(tokenizer: Any) -> None:
    """A space is put before a text's first word, as SentencePiece does it."""
    from tokenizers import normalizers

    tokenizer._tokenizer.normalizer = normalizers.Prepend(" ")


@pytest.fixture(scope="module")
def theirs() -> Any:
    """lm-eval's class of vLLM's models, which asks for a distribution called vllm when it is imported."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        return "0.32.0" if name == "vllm" else real(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "version", version)
        from lm_eval.models.vllm_causallms import VLLM

    return VLLM


def lm_eval_model(theirs: Any, tokenizer: Any) -> Any:
    """An object of lm-eval's class with a tokenizer and no model: `asked` is what vLLM would have been sent,
    with the number of tokens that are context."""
    from lm_eval.api.model import CacheHook

    model = theirs.__new__(theirs)
    model.tokenizer, model.add_bos_token, model.custom_prefix_token_id = tokenizer, None, None
    model._max_length, model.batch_size, model.enable_thinking = LENGTH, "auto", None
    model._rank, model.cache_hook, model.asked = 0, CacheHook(None), []

    def keep(tokens: list[int], outputs: None, ctxlen: int) -> tuple[float, bool]:
        model.asked.append((tokens, ctxlen))
        return 0.0, False

    model._model_generate = lambda requests, generate: [None] * len(requests)
    model._parse_logprobs = keep
    return model


def ask(*arguments: str) -> list[Any]:
    return [SimpleNamespace(args=arguments, task_name="")]


def sent(pairs: list[tuple[list[int], list[int]]]) -> list[tuple[list[int], int]]:
    """What vLLM is sent here, as `asked` has it."""
    fitted = [(fit(context, rest, LENGTH - 1), rest) for context, rest in pairs]
    return [(context + rest, len(context)) for context, rest in fitted]


def test_pairs(theirs: Any, tokenizer: Any) -> None:
    model, ours = lm_eval_model(theirs, tokenizer), Encoder(tokenizer)
    for context, continuation in product(CONTEXTS, CONTINUATIONS):
        model.asked.clear()
        model.loglikelihood(ask(context, continuation), disable_tqdm=True)
        assert sent([ours.pair(context, continuation)]) == model.asked, (context, continuation)


@pytest.mark.parametrize("words", [1, 16, 17, 18, 34, 35, 36, 300])
def test_windows(theirs: Any, tokenizer: Any, words: int) -> None:
    model, ours, text = lm_eval_model(theirs, tokenizer), Encoder(tokenizer), "a b" + " c d" * words
    model.loglikelihood_rolling(ask(text), disable_tqdm=True)
    # lm-eval sends the longest first.
    assert sorted(sent(ours.windows(text, LENGTH - 2))) == sorted(model.asked)


def test_prompts(theirs: Any, tokenizer: Any) -> None:
    model, ours = lm_eval_model(theirs, tokenizer), Encoder(tokenizer)
    assert [ours.encode(text) for text in CONTEXTS[1:]] == model.tok_encode(list(CONTEXTS[1:]))


def test_tokenizers_differ_as_they_should(tokenizer: Any, request: pytest.FixtureRequest) -> None:
    """Or all of the above would be said of one tokenizer."""
    kind = request.node.callspec.params["tokenizer"]
    ours = Encoder(tokenizer)
    tokens = ours.encode("fox")
    assert ours.leading_bos(tokens) == ("bos" in kind)
    assert (tokens[-1] == tokenizer.eos_token_id) == (kind == "eos")
    assert tokenizer.decode(tokens).startswith(" ") == (kind == "metaspace")
