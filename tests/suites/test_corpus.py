"""Corpus metrics from sums over samples are lm-eval's, and are defined wherever lm-eval's are."""

import math
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness import stats
from harness.suites.corpus import FEW_RESAMPLES, corpus
from harness.suites.lm_eval.metrics import aggregate

draw = random.Random(3)
WORDS = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 7))) for _ in range(300)]


def sentence(words: int) -> tuple[str, str]:
    right = draw.choices(WORDS, k=words)
    said = [word if draw.random() < 0.7 else draw.choice(WORDS) for word in right]
    return " ".join(right), " ".join(said[5:] + said[:5] if draw.random() < 0.5 else said)


def lists() -> list[Any]:
    return [([float(draw.random() < 0.5) for _ in range(draw.randint(1, 3))],) for _ in range(40)]


TEXTS: list[Any] = [sentence(12) for _ in range(30)]
SAMPLES: dict[str, list[Any]] = {
    **dict.fromkeys(
        ("bleu", "chrf", "chrf++", "ter"), [*TEXTS, ("a reference", ""), (["one", "two"], ["two"])][:31]
    ),
    "perplexity": [(draw.gauss(-20, 9),) for _ in range(40)],
    "weighted_perplexity": [(draw.gauss(-20, 9), draw.randint(1, 30)) for _ in range(40)],
    "bits_per_byte": [(draw.gauss(-20, 9), draw.randint(1, 30)) for _ in range(40)],
    "f1": [(draw.randint(0, 1), draw.randint(0, 1)) for _ in range(40)],
    "matthews_corrcoef": [(draw.randint(0, 3), draw.randint(0, 3)) for _ in range(60)],
    "brier_score": [(i % 3, [0.2, 0.3 + i / 200, 0.5 - i / 200]) for i in range(40)],
    "harness.suites.lm_eval.metrics:mean_of_lists": lists(),
    "median": [(draw.random(),) for _ in range(15)],
}


PAIRED = ("bleu", "chrf", "chrf++", "ter", "f1", "matthews_corrcoef")
SAMPLES |= {f"{name}, in lists": [([right, said],) for right, said in SAMPLES[name]] for name in PAIRED}
"""A task that generates text hands a pair over as one list, where others hand over a tuple."""


@pytest.mark.parametrize("aggregation", SAMPLES)
def test_values_and_resamples_are_lm_evals(aggregation: str) -> None:
    operands = SAMPLES[aggregation]
    aggregation = aggregation.removesuffix(", in lists")
    found = corpus(aggregation, operands)
    assert found.value() == aggregate(aggregation, operands)
    generator = np.random.default_rng(1)
    for _ in range(5):
        rows = generator.integers(len(operands), size=len(operands))
        expected = aggregate(aggregation, [operands[row] for row in rows])
        assert found.of_rows(rows) == pytest.approx(expected, rel=1e-12)
    assert (found.resamples == FEW_RESAMPLES) == (aggregation == "median")


def test_several_references_and_replies_in_lists() -> None:
    operands: list[Any] = [([a, a.upper()], [b]) for a, b in TEXTS]
    for name in ("bleu", "chrf", "ter"):
        assert corpus(name, operands).value() == aggregate(name, operands)


def estimate(aggregation: str, operands: Sequence[Any]) -> Any:
    whole = corpus(aggregation, operands)
    return stats.bootstrap(
        operands, lambda _: whole.value(), resamples=whole.resamples, of_rows=whole.of_rows
    )


def test_an_empty_document_leaves_out_the_resamples_without_any_weight() -> None:
    operands = [(-12.0, 40), (0.0, 0), (-30.0, 60)]
    found = estimate("bits_per_byte", operands)
    assert found.value == pytest.approx(42 / 100 / math.log(2))
    assert found.low < found.value < found.high
    assert "in which it is not defined" in found.method and found.n == 3


@pytest.mark.parametrize("aggregation", ["weighted_perplexity", "bits_per_byte"])
def test_documents_that_are_all_empty_measure_nothing(aggregation: str) -> None:
    found = estimate(aggregation, [(0.0, 0)] * 4)
    assert (found.value, found.low, found.n) == (None, None, 4)
    assert found.method.startswith("not measured: it is not defined on these 4 sample(s)")


@pytest.mark.parametrize(
    ("aggregation", "operands", "value"),
    [
        ("f1", [(1, 0)] * 6, 0.0),
        ("f1", [(0, 0)] * 6, 0.0),
        ("matthews_corrcoef", [(1, 1)] * 6, 0.0),
        ("bleu", [("a b c d", "")] * 6, 0.0),
        ("chrf", [("a b c d", "")] * 6, 0.0),
        ("ter", [("a b c d", "")] * 6, 100.0),
        ("harness.suites.lm_eval.metrics:mean_of_lists", [([],), ([1.0],), ([0.0, 1.0],)], 2 / 3),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_one_class_and_empty_replies_have_their_value(
    aggregation: str, operands: list[Any], value: float
) -> None:
    assert estimate(aggregation, operands).value == pytest.approx(value, abs=1e-9)


def test_an_aggregation_that_raises_on_some_resamples_has_an_interval_of_the_others() -> None:
    def rare(values: Sequence[float]) -> float:
        return 1 / len({*values} - {0.0})

    found = stats.bootstrap([0.0, 1.0, 2.0, 3.0], rare)
    assert found.value == pytest.approx(1 / 3) and found.low is not None
    assert "in which it is not defined" in found.method
    none = stats.bootstrap([0.0] * 9 + [1.0], lambda v: 1 / max(0, sum(v) - 1) if sum(v) != 1 else 1.0)
    assert (none.value, none.low) == (1.0, None) or "in which it is not defined" in none.method


def test_resamples_of_a_thousand_sentences_are_no_thousand_calls() -> None:
    pairs: list[Any] = [sentence(25) for _ in range(1000)]
    for name in ("bleu", "chrf", "ter"):
        began = time.thread_time()
        aggregate(name, pairs)
        once = time.thread_time() - began
        found = estimate(name, pairs)
        assert time.thread_time() - began - once < 100 * once, "1000 resamples are no 1000 calls"
        assert "1000 resamples" in found.method and found.low < found.value < found.high
