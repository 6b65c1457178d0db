"""Factors that are the same by design: the injection task of a denial of service is a placeholder."""

import msgspec
import pytest

from harness.scorecards.build import ModelScorecard
from harness.scorecards.compare import compare
from harness.suites.agentdojo.metrics import ATTACKED, BENIGN, metrics
from harness.types import CellEntry, Metric, Record
from tests.scorecards.synthetic import cell, record
from tests.scorecards.test_build import one_cell

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


RATES = ("targeted_asr", "targeted_asr_exposed", "targeted_asr_exposed:other")


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("name", RATES)
def test_a_denial_of_service_has_an_interval_by_user_task(name: str, attempts: int) -> None:
    """About Wilson's interval of 10 in 16: attempts at a user task agree: two say no more than one."""
    found = card(DOS, 10, attempts).metrics[f"s/{name}"].estimate
    assert (found.value, found.n, found.clusters) == (0.625, 16 * attempts, 16)
    assert (found.low, found.high) == (pytest.approx(0.3864, abs=0.02), pytest.approx(0.8152, abs=0.02))
    assert "injection_task" not in found.method


def test_so_it_has_at_k_attempts() -> None:
    """Wilson's interval on 15 (1.96/2.131)^2 = 12.69: its variance has 15 degrees of freedom."""
    found = card(DOS, 10, 2).metrics["s/targeted_asr@2"].estimate
    assert (found.value, found.n, found.clusters) == (0.625, 16, 16)
    assert (found.low, found.high) == (pytest.approx(0.3607, abs=1e-4), pytest.approx(0.8312, abs=1e-4))


def test_one_attempt_a_user_task_is_independent() -> None:
    found = card(DOS, 10).metrics["s/targeted_asr"].estimate
    assert found.method == "Wilson interval, independent samples"


def test_a_suite_with_one_injection_task_says_nothing_of_others() -> None:
    found = card(ONE_GOAL, 10).metrics["s/targeted_asr"].estimate
    assert found.clusters == 1 and "one observation" in found.method
    assert (found.low, found.high) == (pytest.approx(0.083, abs=1e-3), pytest.approx(0.968, abs=1e-3))


@pytest.mark.parametrize("attempts", [1, 2])
def test_models_are_compared_by_user_task(attempts: int) -> None:
    """Seven user tasks fall for it on one model alone, none on the other alone: mid-p is 2 (0.5^7) / 2."""
    found = compare(card(DOS, 3, attempts), card(DOS, 10, attempts)).metrics["s/targeted_asr"]
    assert (found.test, found.difference.clusters, found.pairs) == ("McNemar's mid-p test", 16, 16)
    assert found.p_value == pytest.approx(0.5**7)
    assert found.difference.low is not None and found.difference.low > 0
    assert found.risk_ratio is not None and found.risk_ratio.low is not None and found.risk_ratio.low > 1


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
