"""Attempts that are missing: their worst case, and failures that go with the outcome."""

import msgspec
import numpy as np
import pytest

from harness.types import Estimate, Metric, Record
from tests.analysis.synthetic import record
from tests.analysis.test_build import one_cell

ASR = Metric(
    name="asr", higher_is_better=False, kind="rate", hijack=True, applies_to=("injection_task", "user_task")
)


def run(random: np.random.Generator, lost: tuple[float, float]) -> Estimate:
    """16 user tasks x 9 goals, of which four work; `lost`: of goals that do not, and of goals that do."""
    records: list[Record] = []
    for user in range(16):
        for goal in range(9):
            works = goal < 4
            hit = float(random.random() < (0.9 if works else 0.05))
            clusters = {"user_task": f"u{user}", "injection_task": f"g{goal}"}
            made = record("k", f"u{user}/g{goal}", {"asr": hit}, clusters=clusters)
            if random.random() < lost[works]:
                made = msgspec.structs.replace(made, failure="context_overflow", scores=())
            records.append(made)
    return one_cell((ASR,), records, 144).metrics["s/asr"].estimate


def test_failures_that_go_with_the_outcome_are_warned_of() -> None:
    random = np.random.default_rng(0)
    told = [run(random, (0.05, 0.5)) for _ in range(20)]
    assert sum(any("injection_task" in w for w in found.warnings) for found in told) >= 18
    for found in told:
        assert found.worst_case is not None
        assert found.worst_case.low < 0.9 * 4 / 9 + 0.05 * 5 / 9 < found.worst_case.high
        assert found.value is not None and found.low is not None and found.high is not None
        assert found.worst_case.low <= found.low and found.high <= found.worst_case.high


def test_failures_by_chance_are_not() -> None:
    random = np.random.default_rng(1)
    told = [run(random, (0.2, 0.2)) for _ in range(40)]
    assert sum(bool(found.warnings) for found in told) <= 3
    assert all(found.worst_case is not None for found in told)


@pytest.mark.parametrize("lost", [0.0, 0.01])
def test_what_hardly_misses_anything_has_no_worst_case(lost: float) -> None:
    found = run(np.random.default_rng(2), (lost, lost))
    assert found.worst_case is None and found.warnings == ()


def test_all_that_is_missing_counts_once_as_none_and_once_as_all() -> None:
    metric = Metric(name="acc", higher_is_better=True, kind="rate")
    records = [record("k", f"{i}", {"acc": 1.0}) for i in range(11)] + [
        msgspec.structs.replace(record("k", f"{i}", {}), failure="context_overflow") for i in range(11, 100)
    ]
    found = one_cell((metric,), records, 100).metrics["s/acc"].estimate
    assert (found.value, found.n, found.missing) == (1.0, 11, 89)
    assert found.worst_case is not None
    assert found.worst_case.low == pytest.approx(0.0625, abs=1e-3) and found.worst_case.high == 1.0
