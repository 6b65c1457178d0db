"""The samples on which two models differ."""

import json

import pytest

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.flips import find_flips
from harness.cli import main
from harness.errors import UserError
from harness.reports.flips_text import render_flips
from harness.types import FailureKind
from tests.analysis.synthetic import CAPABILITY, cell, manifest_of, record, tables
from tests.analysis.test_benchmarks import cards, run
from tests.conftest import ROOT


def card(outcomes: dict[str, list[float | None]]) -> ModelScorecard:
    entry = cell("aster-moe", "s", CAPABILITY, len(outcomes), attempts=2)
    records = [
        record(entry.key, name, {} if value is None else {"accuracy": value}, attempt=i,
               failure=FailureKind.EMPTY_ANSWER if value is None else None)
        for name, values in outcomes.items()
        for i, value in enumerate(values)
    ]  # fmt: skip
    return build_scorecards(manifest_of([entry]), tables({entry.key: records}))[0]


def test_flips_are_of_samples_that_both_have() -> None:
    a = card(
        {"q0": [1.0, 1.0], "q1": [0.0, 0.0], "q2": [1.0, None], "q3": [None, None], "only a": [1.0, 1.0]}
    )
    b = card({"q0": [1.0, 1.0], "q1": [1.0, 0.0], "q2": [0.0, 0.0], "q3": [1.0, 1.0]})
    found = find_flips(a, b)
    assert [(flip.sample, flip.a, flip.b) for flip in found.flips] == [("q1", 0.0, 0.5), ("q2", 1.0, 0.0)]
    assert found.pairs == {"s/accuracy": 3}
    shown = render_flips(found, "table")
    assert "is higher on 1 and aster-moe on 1 of 3 samples" in " ".join(shown.split())
    assert json.loads(render_flips(found, "json"))["flips"][0] == {
        "metric": "s/accuracy", "sample": "q1", "a": 0.0, "b": 0.5
    }  # fmt: skip
    with pytest.raises(UserError, match=r"'pdf'.*table, md, json"):
        render_flips(found, "pdf")


def test_suites_of_a_benchmark_are_named_by_themselves() -> None:
    a, b = cards(*run())
    found = find_flips(a, b)
    assert "mmlu/subject_00/accuracy" in found.pairs and "mmlu/accuracy" not in found.pairs
    lines = render_flips(found, "table").splitlines()
    assert len(lines) < 60
    assert len(render_flips(found, "table", full=True).splitlines()) > len(found.flips)


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(ROOT / "results" / "demo"), "aster-dense", "borea-dense", "--flips"]
    assert main([*command, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sums = [flip for flip in found["flips"] if flip["metric"] == "planted_arithmetic/exact_match"]
    assert (
        sum(flip["a"] - flip["b"] for flip in sums) == 45
        and found["pairs"]["planted_arithmetic/exact_match"] == 100
    )
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "borea-dense is higher on 0 and aster-dense on 45 of 100" in " ".join(out.split())
    assert len(out.splitlines()) < 60
