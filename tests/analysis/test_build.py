"""From records to the scorecard of a model."""

import random

import msgspec
import pytest

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.errors import UserError
from harness.records.table import to_table
from harness.reports.document import make_document
from harness.reports.render import render
from harness.types import FailureKind, Metric, Record, Score
from tests.analysis.synthetic import (
    ATTACKED,
    CAPABILITY,
    HIJACK,
    MODELS,
    USAGE,
    cell,
    manifest_of,
    record,
    synthetic_run,
    tables,
)


def one_cell(
    metrics: tuple[Metric, ...], records: list[Record], samples: int, attempts: int = 1
) -> ModelScorecard:
    """The scorecard of one model with one suite `s`."""
    entry = cell("aster-moe", "s", metrics, samples, attempts)
    manifest = manifest_of([entry])
    return build_scorecards(manifest, lambda cell: to_table(cell, records))[0]


def questions(values: list[float], attempts: int = 1) -> list[Record]:
    return [
        record("k", f"q{i // attempts}", {"accuracy": value}, attempt=i % attempts)
        for i, value in enumerate(values)
    ]


def test_values_failures_and_costs_of_a_run() -> None:
    manifest, records = synthetic_run()
    cards = build_scorecards(manifest, tables(records))
    assert [card.model.name for card in cards] == sorted(MODELS)
    for card in cards:
        scored = [r.scores[0].value for r in records[f"{card.model.name}-questions"] if r.scores]
        accuracy = card.metrics["questions/accuracy"].estimate
        assert accuracy.value == pytest.approx(sum(scored) / 58)
        assert (accuracy.n, accuracy.missing) == (58, 2)
        agent = card.suites["agent"]
        assert agent.failures == {"iteration_cap": 2, "tool_parse": 1}
        assert (agent.truncated, agent.expected, agent.finished, agent.owed) == (1, 60, 60, 0)
        assert card.usage.prompt_tokens == 120 * USAGE.prompt_tokens
        assert card.usage.engine_seconds == pytest.approx(120 * USAGE.engine_seconds)
        assert card.complete


def test_a_failure_is_missing_for_the_metrics_that_apply_to_its_sample() -> None:
    manifest, records = synthetic_run()
    card = build_scorecards(manifest, tables(records))[0]
    found = {name: card.metrics[f"agent/{name}"].estimate for name in (m.name for m in HIJACK)}
    assert {name: (e.n, e.missing) for name, e in found.items()} == {
        "benign_utility": (19, 1),
        "utility_under_attack": (38, 2),
        "targeted_asr": (38, 2),
    }
    assert found["targeted_asr"].clusters == 4


def test_a_failed_attempt_with_scores_is_missing_all_the_same() -> None:
    records = questions([1.0, 0.0])
    records[1] = msgspec.structs.replace(records[1], failure=FailureKind.SCORER_ERROR)
    found = one_cell(CAPABILITY, records, 2).metrics["s/accuracy"].estimate
    assert (found.value, found.n, found.missing) == (1.0, 1, 1)


def test_an_unmeasured_score_is_missing_and_no_zero() -> None:
    records = [*questions([1.0, 1.0]), record("k", "q9", {"accuracy": None})]
    found = one_cell(CAPABILITY, records, 3).metrics["s/accuracy"].estimate
    assert (found.value, found.n, found.missing) == (1.0, 2, 1)


def test_all_attempts_failed() -> None:
    both = {"user_task": "u", "injection_task": "i"}
    failed = [record("k", "u/i", {}, clusters=both, failure=FailureKind.ENGINE_ERROR)]
    card = one_cell(HIJACK, failed, 1)
    assert card.metrics["s/targeted_asr"].estimate.value is None
    assert card.metrics["s/targeted_asr"].estimate.missing == 1
    assert card.metrics["s/benign_utility"].estimate.missing == 0


def test_owed_attempts_are_neither_missing_nor_wrong() -> None:
    card = one_cell(CAPABILITY, questions([1.0] * 6), samples=10)
    found = card.metrics["s/accuracy"].estimate
    assert (found.value, found.n, found.missing) == (1.0, 6, 0)
    assert card.suites["s"].owed == 4
    assert not card.complete


def test_a_cell_without_records_is_not_measured() -> None:
    card = one_cell(CAPABILITY, [], samples=10)
    assert card.metrics["s/accuracy"].estimate.value is None
    assert (card.suites["s"].owed, card.usage.requests) == (10, 0)


def test_attempts_of_one_sample_are_clustered() -> None:
    values = [float(i % 2) for i in range(20) for _ in range(5)]
    found = one_cell(CAPABILITY, questions(values, attempts=5), 20, 5).metrics["s/accuracy"].estimate
    assert (found.n, found.clusters, found.value) == (100, 20, 0.5)
    single = (
        one_cell(CAPABILITY, questions([float(i % 2) for i in range(20)]), 20).metrics["s/accuracy"].estimate
    )
    assert found.high - found.low == pytest.approx(single.high - single.low, rel=0.1)


def test_the_order_on_disk_does_not_matter() -> None:
    manifest, records = synthetic_run()
    expected = render(make_document(manifest, tables(records)), "json")
    for seed in range(3):
        shuffled = {key: random.Random(seed).sample(found, len(found)) for key, found in records.items()}
        assert render(make_document(manifest, tables(shuffled)), "json") == expected


def test_an_attempt_recorded_twice_is_refused() -> None:
    records = questions([1.0, 0.0])
    with pytest.raises(UserError, match=r"attempt 0 of sample 'q1' .* recorded twice"):
        one_cell(CAPABILITY, [*records, records[1]], 2)


def test_two_cells_of_one_suite_are_refused() -> None:
    manifest, records = synthetic_run()
    again = msgspec.structs.replace(manifest.cells["aster-moe-agent"], key="again")
    manifest = msgspec.structs.replace(manifest, cells={**manifest.cells, "again": again})
    with pytest.raises(UserError, match="two cells of suite 'agent'"):
        build_scorecards(manifest, tables({**records, "again": []}))


def test_corpus_metric_is_aggregated_from_operands() -> None:
    metric = Metric(
        name="word_perplexity", higher_is_better=False, kind="corpus", aggregation="weighted_perplexity"
    )
    lengths = [(-10.0, 5), (-40.0, 10), (-6.0, 6)]
    records = [
        msgspec.structs.replace(
            record("k", f"d{i}", {}),
            scores=(Score(metric="word_perplexity", value=None, operands=pair),),
        )
        for i, pair in enumerate(lengths)
    ]
    found = one_cell((metric,), records, 3).metrics["s/word_perplexity"].estimate
    assert found.value == pytest.approx(2.718281828 ** (56 / 21))
    assert found.low < found.value < found.high
    assert "bootstrap" in found.method


def test_corpus_metric_of_single_numbers() -> None:
    metric = Metric(name="perplexity", higher_is_better=False, kind="corpus", aggregation="perplexity")
    records = [
        msgspec.structs.replace(
            record("k", f"d{i}", {}), scores=(Score(metric="perplexity", value=None, operands=(x,)),)
        )
        for i, x in enumerate((-1.0, -2.0, -3.0))
    ]
    assert one_cell((metric,), records, 3).metrics["s/perplexity"].estimate.value == pytest.approx(
        2.718281828**2
    )


def test_an_unknown_aggregation_takes_no_other_metric_with_it() -> None:
    metric = Metric(name="odd", higher_is_better=True, kind="corpus", aggregation="no_such_one")
    sound = Metric(name="acc", higher_is_better=True, kind="rate")
    scores = (Score(metric="odd", value=None, operands=(1.0,)), Score(metric="acc", value=1.0))
    records = [msgspec.structs.replace(record("k", "d", {}), scores=scores)]
    card = one_cell((metric, sound), records, 1)
    assert card.metrics["s/odd"].estimate.value is None
    assert "UserError" in card.metrics["s/odd"].estimate.method
    assert "no aggregation 'no_such_one'" in card.metrics["s/odd"].estimate.method
    assert card.metrics["s/acc"].estimate.value == 1.0


def test_a_rate_that_is_none_takes_no_other_metric_with_it() -> None:
    odd, sound = (Metric(name=name, higher_is_better=True, kind="rate") for name in ("odd", "acc"))
    records = [record("k", f"d{i}", {"odd": 0.5, "acc": float(i)}) for i in range(2)]
    card = one_cell((odd, sound), records, 2)
    assert card.metrics["s/odd"].estimate.value is None
    assert "0 or 1" in card.metrics["s/odd"].estimate.method
    assert card.metrics["s/acc"].estimate.value == 0.5


def test_metric_of_all_samples_uses_the_clusters_that_there_are() -> None:
    tools = Metric(name="called_a_tool", higher_is_better=True, kind="rate")
    records = [
        record("k", f"{u}", {"called_a_tool": float(u % 2)}, clusters={"user_task": str(u)}) for u in range(6)
    ] + [
        record(
            "k",
            f"{u}/{i}",
            {"called_a_tool": float(u % 2)},
            clusters=dict(zip(ATTACKED, (str(i), str(u)), strict=True)),
        )
        for u in range(6)
        for i in range(3)
    ]
    found = one_cell((tools,), records, 24).metrics["s/called_a_tool"].estimate
    assert (found.n, found.missing) == (24, 0)
    assert found.clusters == 6
