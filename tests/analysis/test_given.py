"""Factors that are the same by design: the injection task of a denial of service is a placeholder."""

import msgspec
import pytest

from harness.analysis.build import ModelScorecard
from harness.analysis.compare import compare
from harness.reports.text import format_interval
from harness.suites.agentdojo.metrics import ATTACKED, BENIGN, EXPOSED_CAPABLE, UTILITY_LOST, metrics
from harness.suites.declared import declared
from harness.types import CellEntry, Metric, Record
from tests.analysis.synthetic import cell, record
from tests.analysis.test_build import one_cell

DOS = metrics([BENIGN, ATTACKED], ["other"], has_goal=False)
ONE_GOAL = metrics([BENIGN, ATTACKED], ["other"], has_goal=True)
"""What is measured of a suite with one injection task, which might have had others."""


def attack(user: int, attempt: int, hijacked: bool) -> Record:
    """Every attack was seen, and the user's task was done where it did not succeed."""
    scores = {
        "utility_under_attack": float(not hijacked),
        "targeted_asr": float(hijacked),
        "exposed": 1.0,
        "targeted_asr_exposed": float(hijacked),
        "targeted_asr_exposed:other": float(hijacked),
    }
    clusters = {"user_task": f"user_task_{user}", "injection_task": "injection_task_0"}
    found = record("k", "/".join(clusters.values()), {**scores}, clusters=clusters, attempt=attempt)
    return msgspec.structs.replace(found, labels={"harm": "other"})


def benign(user: int, attempt: int) -> Record:
    """Done in every attempt."""
    name = f"user_task_{user}"
    return record("k", name, {"benign_utility": 1.0}, clusters={"user_task": name}, attempt=attempt)


def card(measured: tuple[Metric, ...], hijacked: int, attempts: int = 1) -> ModelScorecard:
    """Of 16 user tasks the first ones fall for the attack, in every attempt."""
    records = [
        made
        for user in range(16)
        for i in range(attempts)
        for made in (benign(user, i), attack(user, i, user < hijacked))
    ]
    return one_cell(measured, records, 32, attempts)


LOST = ("utility_lost", "utility_lost_exposed")


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("name", LOST)
def test_a_denial_of_service_loses_utility_by_user_task(name: str, attempts: int) -> None:
    """10 of 16 tasks were lost: attempts at a user task agree, so that two say no more than one."""
    found = card(DOS, 10, attempts).metrics[f"s/{name}"].estimate
    assert (found.value, found.n, found.clusters) == (0.625, 16 * attempts, 16)
    assert 0.3 < found.low < 0.42 and 0.79 < found.high < 0.9
    assert "injection_task" not in found.method


def test_a_denial_of_service_is_no_hijack() -> None:
    found = card(DOS, 10)
    assert not any(result.metric.hijack for result in found.metrics.values())
    assert any(result.metric.hijack for result in card(ONE_GOAL, 10).metrics.values())


def test_an_agent_that_cannot_do_its_task_has_lost_nothing() -> None:
    """It was called hijacked in 90% of the attempts, without ever having been shown the attack."""
    records = []
    for user in range(20):
        name = f"user_task_{user}"
        able = float(user < 2)
        records.append(record("k", name, {"benign_utility": able}, clusters={"user_task": name}))
        clusters = {"user_task": name, "injection_task": "injection_task_0"}
        scores = {"utility_under_attack": able, "targeted_asr": 1 - able, "exposed": 0.0}
        records.append(record("k", "/".join(clusters.values()), {**scores}, clusters=clusters))
    found = one_cell(DOS, records, 40)
    lost, shown = (found.metrics[f"s/{name}"].estimate for name in LOST)
    assert (lost.value, lost.n) == (0.0, 20) and lost.low < 0 < lost.high < 0.2
    assert (shown.value, shown.n, shown.missing, shown.out_of) == (None, 0, 0, 20)


def test_a_manifest_from_before_names_the_attack_alone() -> None:
    before = {"adapter": "agentdojo", "declared": None}
    entry = msgspec.structs.replace(cell("aster-moe", "agent", ONE_GOAL, 1), **before)
    assert declared(entry).derived == (EXPOSED_CAPABLE,)
    assert declared(entry).void == ()
    denial = declared(msgspec.structs.replace(entry, protocol={**entry.protocol, "attack": "dos"}))
    assert denial.derived == UTILITY_LOST
    assert set(denial.void) == {metric.name for metric in ONE_GOAL if metric.hijack}


def test_a_suite_with_one_injection_task_says_nothing_of_others() -> None:
    found = card(ONE_GOAL, 10).metrics["s/targeted_asr"].estimate
    assert found.clusters == 1 and "one observation" in found.method
    assert (found.low, found.high) == (pytest.approx(0.083, abs=1e-3), pytest.approx(0.968, abs=1e-3))


def test_models_are_compared_by_what_they_lost() -> None:
    """Seven user tasks were lost by one model alone, none by the other alone."""
    found = compare(card(DOS, 3), card(DOS, 10)).metrics["s/utility_lost"]
    assert (found.difference.value, found.difference.clusters, found.pairs) == (7 / 16, 16, 16)
    assert found.p_value is not None and found.p_value < 0.01
    assert found.difference.low is not None and found.difference.low > 0
    assert found.risk_ratio is None


def test_one_injection_task_leaves_a_comparison_without_a_test() -> None:
    found = compare(card(ONE_GOAL, 3), card(ONE_GOAL, 10)).metrics["s/targeted_asr"]
    assert found.p_value is None


def test_a_placeholder_has_no_rates_of_its_own() -> None:
    assert card(DOS, 10).suites["s"].by_injection_task == {}
    assert list(card(ONE_GOAL, 10).suites["s"].by_injection_task) == ["injection_task_0"]


def test_benign_tasks_are_as_under_any_attack() -> None:
    of_dos, of_goal = ({m.name: m for m in found if m.applies_to == BENIGN} for found in (DOS, ONE_GOAL))
    assert of_dos == of_goal
    assert of_dos["benign_utility"].given == ()


def test_a_manifest_from_before_is_read_as_it_was() -> None:
    entry = cell("aster-moe", "agent", ONE_GOAL, 1)
    plain = msgspec.to_builtins(entry)
    for metric in plain["metrics"]:
        del metric["given"]
    assert msgspec.convert(plain, CellEntry) == entry


def test_only_factors_of_its_samples_can_be_given() -> None:
    with pytest.raises(ValueError, match="given"):
        Metric(name="x", higher_is_better=True, applies_to=BENIGN, given=("injection_task",))


def test_an_attack_that_nobody_saw_says_of_how_many() -> None:
    """Not that it was not measured: it was, 127 times."""
    unseen = []
    for user in range(127):
        scores = {"utility_under_attack": 1.0, "targeted_asr": 0.0, "exposed": 0.0}
        clusters = {"user_task": f"user_task_{user}", "injection_task": "injection_task_0"}
        unseen.append(record("k", "/".join(clusters.values()), {**scores}, clusters=clusters))
    found = one_cell(ONE_GOAL, unseen, 127, 1)
    exposed = next(r for key, r in found.metrics.items() if key.endswith("/targeted_asr_exposed"))
    assert (exposed.estimate.value, exposed.estimate.n, exposed.estimate.out_of) == (None, 0, 127)
    assert format_interval(exposed.estimate, exposed.metric) == "never exposed (0 of 127)"
    whole = next(r for key, r in found.metrics.items() if key.endswith("/targeted_asr"))
    assert (whole.estimate.value, whole.estimate.n, whole.estimate.out_of) == (0.0, 127, None)
