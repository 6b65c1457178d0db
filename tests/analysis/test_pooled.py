"""AgentDojo's suites pooled as its published table has them: every attempt counts once."""

import html
import json
import lzma
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from harness import stats
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.pooled import Pooled
from harness.records.directory import RunDirectory
from harness.replay import replay
from harness.reports import tables
from harness.reports.render import render
from harness.suites.agentdojo.metrics import SUITES, declare
from harness.types import CellEntry, Declared, FailureKind, Metric, Record
from tests.analysis.synthetic import ATTACKED, UNIT, cell, document, manifest_of, record
from tests.analysis.synthetic import tables as records_of
from tests.conftest import shared_data

PROTOCOL = {
    "adapter": "agentdojo",
    "attack": "important_instructions",
    "benchmark_version": "v1.2.2",
    "variant": "upstream",
    "defence": "none",
    "system_message": "5f2c",
    "max_turns": "16",
    "limit": "None",
}
ASR = "targeted_asr_agentdojo"
METRICS = (
    Metric(name="targeted_asr", higher_is_better=False, kind="rate", bounds=UNIT, applies_to=ATTACKED),
    Metric(
        name=ASR, higher_is_better=False, kind="rate", bounds=UNIT, applies_to=ATTACKED, booking="their rule"
    ),
)
SIZES = {"banking": (4, 3, 9), "slack": (3, 2, 1), "travel": (2, 3, 0), "workspace": (5, 8, 10)}
"""User tasks, injection tasks, successful attacks: 20 of 64, where the mean of the four rates is 29.2%."""


def suite_cell(suite: str, name: str = "", attempts: int = 1, **protocol: str) -> CellEntry:
    """A suite, whose tools and tasks are its own."""
    users, goals, _ = SIZES.get(suite, (2, 2, 0))
    entry = cell("aster-moe", name or suite, METRICS, users * goals, attempts)
    protocol = {**PROTOCOL, "suite": suite, "tools": f"of {suite}", **protocol}
    declared = declare(METRICS, protocol, denial=False)
    return replace(entry, adapter="agentdojo", protocol=protocol, declared=declared)


def pairs(entry: CellEntry) -> list[Record]:
    """Every pair of the suite; the successful attacks come first."""
    users, goals, successes = SIZES.get(entry.protocol["suite"], (2, 2, 0))
    return [
        record(
            entry.key,
            f"user_task_{i // goals}/injection_task_{i % goals}",
            dict.fromkeys(("targeted_asr", ASR), float(i < successes)),
            clusters={
                "user_task": f"user_task_{i // goals}",
                "injection_task": f"injection_task_{i % goals}",
            },
        )
        for i in range(users * goals)
    ]


def build(*entries: CellEntry, records: Callable[[CellEntry], list[Record]] = pairs) -> ModelScorecard:
    manifest = manifest_of(entries)
    return build_scorecards(manifest, records_of({entry.key: records(entry) for entry in entries}))[0]


def only(card: ModelScorecard) -> Pooled:
    (found,) = card.pooled
    return found


def test_every_attempt_counts_once_whatever_the_size_of_its_suite() -> None:
    card = build(*map(suite_cell, SUITES))
    found = only(card)
    estimate = found.rates[ASR].estimate
    assert (estimate.value, estimate.n, estimate.missing) == (20 / 64, 64, 0)
    of_suites = [card.metrics[f"{suite}/{ASR}"].estimate.value for suite in SUITES]
    assert np.mean([value for value in of_suites if value is not None]) == pytest.approx(0.2917, abs=1e-4)
    assert list(found.rates) == [ASR] and list(found.own) == ["targeted_asr"]
    own = found.own["targeted_asr"].estimate
    assert (own.value, own.n, own.missing) == (20 / 64, 64, 0)
    assert (found.whole, found.extent) == (True, "all suites, pooled")


def test_suites_are_strata() -> None:
    """Their limits are joined by their attempts; how far suites lie apart does not widen them."""
    card = build(*map(suite_cell, SUITES))
    for found in (only(card).rates[ASR].estimate, only(card).own["targeted_asr"].estimate):
        parts = [card.metrics[f"{suite}/targeted_asr"] for suite in SUITES]
        expected = stats.stratified(
            [stats.Stratum(p.estimate, p.observations.values, p.observations.clusters) for p in parts]
        )
        assert (found.low, found.high) == (expected.low, expected.high)
        down = [p.estimate.n / 64 * (p.estimate.value - p.estimate.low) for p in parts]
        assert found.low == pytest.approx(20 / 64 - math.hypot(*down), abs=1e-3)
        up = [p.estimate.n / 64 * (p.estimate.high - p.estimate.value) for p in parts]
        assert 20 / 64 < found.high < 20 / 64 + math.hypot(*up)
        assert found.clusters == sum(part.estimate.clusters for part in parts)
        assert found.same_tasks is not None and found.low < found.same_tasks.low < found.value
    assert (
        only(card)
        .rates[ASR]
        .estimate.method.endswith("of banking, slack, travel, workspace counts once; their rule")
    )


def test_attempts_that_are_missing_in_a_suite_are_missing_in_all() -> None:
    def records(entry: CellEntry) -> list[Record]:
        made = pairs(entry)
        failed = record(
            entry.key, made[0].sample, {}, clusters=made[0].clusters, failure=FailureKind.TOOL_ERROR
        )
        return [failed, *made[1:]]

    estimate = only(build(*map(suite_cell, SUITES), records=records)).rates[ASR].estimate
    # One a suite; those of all but travel, where none was successful, were successes.
    assert (estimate.value, estimate.n, estimate.missing) == (17 / 60, 60, 4)


def test_three_of_four_are_said_to_be_that() -> None:
    card = build(*map(suite_cell, ("banking", "slack", "workspace")))
    found = only(card)
    assert (found.whole, found.extent) == (False, "3 of 4 suites, pooled")
    assert (found.rates[ASR].estimate.value, found.rates[ASR].estimate.n) == (20 / 58, 58)
    for form in ("table", "md", "html"):
        shown = html.unescape(render(document([card]), form, full=True)).replace("<wbr>", "")
        assert "3 of 4 suites, pooled" in shown and "all suites, pooled" not in shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attack", "direct"),
        ("benchmark_version", "v1.1"),
        ("variant", "audited 3"),
        ("defence", "tool_filter"),
        ("system_message", "91aa"),
        ("max_turns", "8"),
        ("sampling.temperature", "1.0"),
        ("limit", "5"),
    ],
)
def test_suites_under_two_protocols_are_not_pooled(field: str, value: str) -> None:
    assert build(suite_cell("banking"), suite_cell("slack", **{field: value})).pooled == ()
    others = [suite_cell(suite) for suite in SUITES if suite != "slack"]
    assert only(build(*others, suite_cell("slack", **{field: value}))).extent == "3 of 4 suites, pooled"


def test_first_tasks_alone_are_not_the_benchmark() -> None:
    assert build(*(suite_cell(suite, limit="5") for suite in SUITES)).pooled == ()


def test_suites_drawn_more_often_would_weigh_more() -> None:
    def twice(entry: CellEntry) -> list[Record]:
        return [replace(one, attempt=i) for one in pairs(entry) for i in range(entry.attempts)]

    assert build(suite_cell("banking", attempts=2), suite_cell("slack"), records=twice).pooled == ()
    both = build(*(suite_cell(suite, attempts=2) for suite in ("banking", "slack")), records=twice)
    assert list(only(both).rates) == [ASR]
    assert (only(both).rates[ASR].estimate.value, only(both).rates[ASR].estimate.n) == (20 / 36, 36)


def test_other_suites_and_a_suite_alone_are_not_pooled() -> None:
    assert build(suite_cell("banking")).pooled == ()
    assert build(suite_cell("banking"), suite_cell("agentdojo_mini")).pooled == ()
    other = replace(suite_cell("slack"), declared=Declared())
    assert build(suite_cell("banking"), other).pooled == ()


def test_a_suite_that_is_there_twice_is_not_counted_twice() -> None:
    twice = [suite_cell("banking"), suite_cell("banking", name="again")]
    assert build(*twice, suite_cell("slack")).pooled == ()


def test_a_suite_without_an_attempt_yet_is_not_said_to_be_in_it() -> None:
    def records(entry: CellEntry) -> list[Record]:
        return [] if entry.suite == "slack" else pairs(entry)

    assert build(*map(suite_cell, SUITES), records=records).pooled == ()


def test_each_attack_has_its_own() -> None:
    direct = [suite_cell(suite, name=f"{suite}_direct", attack="direct") for suite in SUITES]
    card = build(*map(suite_cell, SUITES), *direct)
    assert [list(one.suites.values()) for one in card.pooled] == [
        list(SUITES),
        [f"{suite}_direct" for suite in SUITES],
    ]
    (_, table) = tables.pooled_tables([card])
    assert table.title == tables.BOOKS.format(tables.POOLED) and table.header[2:] == (f"{ASR} ↓",)
    assert [" ".join(row[1].split()) for row in table.rows] == [
        "important_instructions, v1.2.2; all suites, pooled: banking, slack, travel, workspace",
        "direct, v1.2.2; all suites, pooled: banking_direct, slack_direct, travel_direct, workspace_direct",
    ]
    assert all(row[2].startswith("31.2% [") and "]\nn=64\nthese tasks [" in row[2] for row in table.rows)


def test_attempts_that_are_owed_are_said() -> None:
    def records(entry: CellEntry) -> list[Record]:
        return pairs(entry)[:-1]

    (_, table) = tables.pooled_tables([build(*map(suite_cell, SUITES), records=records)])
    assert "all suites, pooled\n(4 of 64 owed):\n" in table.rows[0][1]


def test_another_protocol_than_the_published_one_is_said() -> None:
    changes = {"defence": "tool_filter", "variant": "audited 3"}
    (_, table) = tables.pooled_tables([build(*(suite_cell(suite, **changes) for suite in SUITES))])
    first = "important_instructions, v1.2.2,\ndefence tool_filter,\naudited 3;\n"
    assert table.rows[0][1].startswith(first)


def test_formats_have_it_beside_the_books_and_under_no_metric_of_the_harness() -> None:
    card = build(*map(suite_cell, SUITES))
    found = json.loads(render(document([card]), "json"))["models"][0]
    (pooled,) = found["pooled_bookings"]
    assert (pooled["all_suites"], pooled["suites"]) == (True, {suite: suite for suite in SUITES})
    assert pooled["protocol"]["attack"] == "important_instructions" and "tools" not in pooled["protocol"]
    assert (pooled["bookings"][ASR]["value"], pooled["bookings"][ASR]["booking"]) == (0.3125, "their rule")
    assert set(found["metrics"]) == {f"{suite}/targeted_asr" for suite in SUITES}
    assert tables.booking_tables([card])[0].title == tables.POOLED
    for form in ("table", "md", "html"):
        shown = html.unescape(render(document([card]), form, full=True, width=120)).replace("<wbr>", "")
        assert tables.POOLED in " ".join(shown.split()), form
        assert "n=64" in shown
    assert any(row[0] == f"{ASR}, all suites, pooled" for row in tables.methods_table([card]).rows)


def test_cards_with_nothing_to_pool_are_as_they_were() -> None:
    card = build(suite_cell("banking"))
    assert "pooled_bookings" not in render(document([card]), "json")
    for form in ("table", "md", "html"):
        assert "pooled" not in render(document([card]), form, full=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # AgentDojo's clients of closed models
def test_published_runs_pool_to_the_share_of_their_stored_verdicts(tmp_path: Path) -> None:
    stored = []
    (tmp_path / "runs").mkdir()
    for name in ("banking.{}.jsonl", "slack.{}.jsonl", "travel.{}.jsonl.xz", "workspace.{}.jsonl.xz"):
        path = shared_data(f"agentdojo_llama4scout/none_defense/{name.format('important_instructions')}")
        shutil.copy(path, tmp_path / "runs")
        with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
            stored += [json.loads(line)["run"] for line in file]
    replay(tmp_path / "runs", tmp_path / "out")
    directory = RunDirectory(tmp_path / "out")
    found = only(build_scorecards(directory.manifest(), directory.columns)[0])
    successes, done = (sum(run[verdict] for run in stored) for verdict in ("security", "utility"))
    assert (successes, done, len(stored)) == (141, 110, 949)
    assert (found.extent, found.protocol["benchmark_version"]) == ("all suites, pooled", "v1.2.2")
    for name, count in ((ASR, successes), ("utility_under_attack_agentdojo", done)):
        estimate = found.rates[name].estimate
        assert (estimate.value, estimate.n, estimate.missing) == (pytest.approx(count / 949), 949, 0)
