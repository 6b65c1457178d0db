"""How far answers move, on numbers that can be checked by hand."""

import math

import pytest

from harness.analysis.divergence import diverge, has_options, options_of
from harness.types import CellEntry, FailureKind, LogLikelihood, Metric, Record, Transcript, Usage


def test_the_same_answers_are_no_way_apart() -> None:
    base = {"0": [-1.0, -2.0, -3.0], "1": [-5.0, -1.0, -2.0]}
    shifted = {
        name: [option - 7 for option in options] for name, options in base.items()
    }  # less likely, alike
    found = diverge(base, shifted)
    assert found.kl.value == pytest.approx(0) and found.same_choice.value == 1


def test_the_divergence_is_that_of_the_two_distributions() -> None:
    base, model = [math.log(0.5), math.log(0.5)], [math.log(0.9), math.log(0.1)]
    found = diverge({"0": base}, {"0": model})
    assert found.kl.value == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    turned = diverge({"0": model}, {"0": base})
    assert turned.kl.value == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))


def test_an_option_that_is_impossible_to_both_adds_nothing() -> None:
    found = diverge({"0": [-1.0, -1e9]}, {"0": [-1.0, -1e9]})
    assert found.kl.value == 0


def test_a_changed_choice_is_counted_and_what_only_one_has_is_missing() -> None:
    base = {"0": [-1.0, -2.0], "1": [-1.0, -2.0], "2": [-1.0, -2.0], "only": [-1.0, -2.0]}
    found = diverge(base, {"0": [-1.0, -2.0], "1": [-2.0, -1.0], "2": [-1.0, -2.0, -3.0]})
    assert (found.kl.n, found.kl.missing, found.same_choice.value) == (2, 2, 0.5)
    nothing = diverge({}, {})
    assert nothing.kl.value is None and nothing.same_choice.value is None


def test_failed_attempts_and_lone_likelihoods_are_no_options() -> None:
    two = Transcript(
        loglikelihoods=tuple(LogLikelihood(logprob=-x, is_greedy=False, tokens=1) for x in (1.0, 2.0))
    )
    lone = Transcript(loglikelihoods=two.loglikelihoods[:1])
    records = [record("a", two), record("b", lone), record("c", two, FailureKind.ENGINE_ERROR)]
    assert options_of(records) == {"a": [-1.0, -2.0]}


def record(sample: str, transcript: Transcript, failure: FailureKind | None = None) -> Record:
    return Record(
        cell="0",
        clusters={},
        usage=Usage(),
        seconds=0.0,
        sample=sample,
        attempt=0,
        content_hash="0",
        transcript=transcript,
        scores=(),
        failure=failure,
        started=0.0,
    )


@pytest.mark.parametrize(
    ("output_type", "metric", "has"),
    [
        ("multiple_choice", "acc", True),
        ("generate_until", "acc", False),
        ("multiple_choice", "acc_mutual_info", False),
    ],
)
def test_only_choices_whose_likelihoods_are_all_of_options_are_compared(
    output_type: str, metric: str, has: bool
) -> None:
    cell = CellEntry(
        key="0",
        model="m",
        suite="s",
        adapter="lm_eval",
        protocol={"output_type": output_type},
        metrics=(Metric(name=metric, higher_is_better=True),),
        samples=1,
        attempts=1,
    )
    assert has_options(cell) is has
