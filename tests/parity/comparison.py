"""What is compared of a task that was asked on both sides, document by document and as a whole.

Responses come first. Then lm-eval's responses are scored here: what lm-eval made of them and what is made
of them here must be the same numbers, whatever computed the responses. Last come the scores of our own
responses, which may be as far off as the log-likelihoods are, and are equal where those are.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from lm_eval.api.metrics import stderr_for_metric
from lm_eval.api.registry import get_aggregation

from harness import stats
from harness.engines.vllm.tokens import Encoder
from harness.stats.clusters import student_t
from harness.suites.lm_eval.metrics import aggregate
from harness.suites.lm_eval.requests import answered as fill
from harness.suites.lm_eval.suite import LmEvalSuite
from harness.types import Generation, LogLikelihood, Metric, Sample, Score, Transcript
from tests.parity.lm_eval_side import BOOTSTRAP_ITERS
from tests.parity.sides import Answered

FLOAT32_EPSILON = 2.0**-23
"""The Hugging Face backend adds up the tokens of a text in float32: -2,445 nats are known to 0.0003."""

OF_FEW = 100
"""lm-eval resamples BLEU and its like so often at most."""


class Compared(NamedTuple):
    """How much was compared, and what of it was not the same bit for bit."""

    documents: int = 0
    replies: int = 0
    """All of them the same."""
    likelihoods: int = 0
    equal: int = 0
    """Log-likelihoods that are the same bit for bit."""
    worst: float = 0.0
    """Nats, the largest difference between two log-likelihoods."""

    def plus(self, other: "Compared") -> "Compared":
        return Compared(
            self.documents + other.documents,
            self.replies + other.replies,
            self.likelihoods + other.likelihoods,
            self.equal + other.equal,
            max(self.worst, other.worst),
        )


def compare_task(suite: LmEvalSuite, documents: Sequence[Answered], side: Any, tolerance: float) -> Compared:
    """Every prompt, response, score, aggregate and standard error of a task.

    Args:
        side: lm-eval's samples and results.
        tolerance: nats that a log-likelihood may differ by; 0 asks for equality bit for bit.
    """
    rows: dict[str, list[Any]] = {}
    for row in side["samples"]:
        rows.setdefault(row["filter"], []).append(row)
    compared, rescored = Compared(), []
    for answered, row in zip(documents, next(iter(rows.values())), strict=True):
        assert str(row["doc_id"]) == answered.sample.id
        compared = compared.plus(compare_responses(answered, row, tolerance))
        rescored.append(suite.score(answered.sample, their_transcript(answered.sample, row)))
    first = next(iter(rows))
    reported = {key for key in side["results"] if "," in key and "_stderr," not in key}
    assert reported and reported == {m.name if "," in m.name else f"{m.name},{first}" for m in suite.metrics}
    for metric in suite.metrics:
        own = [score_of(metric, answered.scores) for answered in documents]
        given = [score_of(metric, scores) for scores in rescored]
        key, _, name = metric.name.partition(",")
        name = name or first
        logged = [row[key] for row in rows[name]]
        value, error = side["results"][f"{key},{name}"], side["results"][f"{key}_stderr,{name}"]
        compare = compare_corpus if metric.kind == "corpus" else compare_mean
        compare(metric, own, given, logged, value, error, compared.worst)
    return compared


def compare_responses(answered: Answered, row: Any, tolerance: float) -> Compared:
    """Prompts, replies, log-likelihoods and greediness of one document."""
    instances = answered.sample.payload.instances
    assert [list(instance.args) for instance in instances] == row["arguments"]
    filled = [response for i in fill(instances, answered.transcript) for response in i.resps]
    responses = [response for request in row["resps"] for response in request]
    if answered.transcript.generations:
        assert filled == responses
        return Compared(documents=1, replies=len(filled))
    differences = []
    for mine, other in zip(filled, responses, strict=True):
        (chance, *greedy), (their_chance, *their_greedy) = parts(mine), parts(other)
        difference = abs(chance - their_chance)
        rounding = abs(their_chance) * FLOAT32_EPSILON if tolerance else 0.0
        assert difference <= tolerance + rounding, (row["doc_id"], row["arguments"])
        assert greedy == their_greedy, (row["doc_id"], row["arguments"])
        differences.append(difference)
    return Compared(1, 0, len(differences), differences.count(0.0), max(differences))


def parts(response: Any) -> Sequence[Any]:
    """A log-likelihood, and whether it is greedy, which lm-eval does not say of whole texts."""
    return response if isinstance(response, list | tuple) else (response,)


def their_transcript(sample: Sample, row: Any) -> Transcript:
    """lm-eval's responses, as if they were ours."""
    generations, likelihoods = [], []
    for instance, responses in zip(sample.payload.instances, row["resps"], strict=True):
        for response in responses:
            if instance.request_type == "generate_until":
                reply = Generation(
                    text=response, raw=response, finish_reason="stop", prompt_tokens=0, completion_tokens=0
                )
                generations.append(reply)
            else:
                chance, *greedy = parts(response)
                likelihoods.append(LogLikelihood(logprob=chance, is_greedy=any(greedy), tokens=0))
    return Transcript(generations=tuple(generations), loglikelihoods=tuple(likelihoods))


def score_of(metric: Metric, scores: Sequence[Score]) -> Score:
    """The score of a metric."""
    (found,) = (score for score in scores if score.metric == metric.name)
    return found


def compare_mean(
    metric: Metric,
    own: Sequence[Score],
    given: Sequence[Score],
    logged: Sequence[Any],
    value: float,
    error: float,
    worst: float,
) -> None:
    """Every score, their mean and its standard error, which here is a part of the interval."""
    values = [score.value for score in given if score.value is not None]
    assert values == [float(x) for x in logged]
    for mine, other in zip(own, values, strict=True):
        assert mine.value is not None
        assert abs(mine.value - other) <= implied(metric, other, worst)
    estimate = stats.mean(values)
    assert estimate.value == pytest.approx(value, rel=1e-12)
    if len(set(values)) > 1:
        assert estimate.low is not None and estimate.high is not None
        half = (estimate.high - estimate.low) / 2
        assert half / student_t(len(values) - 1) == pytest.approx(error, rel=1e-12)


def compare_corpus(
    metric: Metric,
    own: Sequence[Score],
    given: Sequence[Score],
    logged: Sequence[Any],
    value: float,
    error: float | str,
    worst: float,
) -> None:
    """A metric that is no mean: what is kept of each document, the value, and lm-eval's standard error."""
    operands = [score.operands for score in given if score.operands is not None]
    assert [unwrapped(o) for o in operands] == logged
    assert aggregate(metric.aggregation, operands) == value
    mine = aggregate(metric.aggregation, [score.operands for score in own if score.operands is not None])
    assert abs(mine - value) <= implied(metric, value, worst)
    resampled = stderr_for_metric(get_aggregation(metric.aggregation), min(BOOTSTRAP_ITERS, OF_FEW))
    assert error == ("N/A" if resampled is None else resampled([unwrapped(o) for o in operands]))


def unwrapped(operands: Sequence[Any]) -> Any:
    """What an aggregation is given of one document, as JSON has it."""
    return operands[0] if len(operands) == 1 else list(operands)


def implied(metric: Metric, value: float, worst: float) -> float:
    """How far a metric may be off where every log-likelihood is off by `worst` nats or less.

    Verdicts of 0 or 1 and metrics of texts may not be off at all. A perplexity is the exponential of a mean
    over documents, words or bytes; bits are nats over ln 2; by a softmax of choices that each move by w no
    probability moves by more than w / 2, and no Brier score by more than 4 w.
    """
    if metric.aggregation in ("perplexity", "weighted_perplexity"):
        return value * math.expm1(worst)
    slopes = {"bits_per_byte": 1 / math.log(2), "brier_score": 4.0}
    if metric.kind == "mean":
        slopes["mean"] = 0.5
    return slopes.get(metric.aggregation, 0.0) * worst


def traits(encoder: Encoder, documents: Sequence[Answered], context: int) -> set[str]:
    """What was special about the requests, so that no case goes missing."""
    found = set()
    for answered in documents:
        answers = (*answered.transcript.generations, *answered.transcript.loglikelihoods)
        found |= {f"{answer.bos_tokens} BOS tokens" for answer in answers}
    for instance in (i for answered in documents for i in answered.sample.payload.instances):
        found.add(instance.request_type)
        text, *rest = instance.args
        if instance.request_type == "generate_until":
            continue
        length = len(encoder.encode(text))
        if instance.request_type == "loglikelihood_rolling":
            found |= {"several windows"} if length > context else set()
            continue
        (continuation,) = rest
        found |= {"empty context"} if not text else set()
        found |= {"spaces at the end of the context"} if text != text.rstrip() else set()
        if length > context:
            single = len(encoder.pair(text, continuation)[1]) == 1
            found.add(f"context too long, {'one token' if single else 'several tokens'} scored")
    return found
