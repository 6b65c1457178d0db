"""What suites declare of their metrics is all that analysis knows: any names do."""

import ast

import msgspec
import pytest

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.suites.declared import declared
from harness.types import CellEntry, Declared, DerivedMetric, Metric, Pooling, Record, Reference
from tests.analysis.synthetic import UNIT, cell, manifest_of, record, tables
from tests.conftest import ROOT
from tests.suites.dojo import suite as dojo_suite

RATES = tuple(
    Metric(name=name, higher_is_better=False, kind="rate", bounds=UNIT, applies_to=factors)
    for name, factors in (
        ("reviewed", ("paper", "referee")),
        ("accepted", ("paper", "referee")),
        ("slept", ("paper", "referee")),
        ("accepted_alone", ("referee",)),
    )
)
CAN = Reference(metric="accepted_alone", factor="referee", take="best", may_differ=("journal",))
KIND = DerivedMetric(
    metric=Metric(name="accepted_by_kind", higher_is_better=None, kind="rate", bounds=UNIT),
    kind="where_able",
    of="accepted",
    condition="reviewed",
    reference=CAN,
    note="of referees that ever accept",
    left_out="by others",
)
HARDER = DerivedMetric(
    metric=Metric(name="harder", higher_is_better=None, bounds=(-1.0, 1.0)),
    kind="lost",
    of="accepted",
    reference=msgspec.structs.replace(CAN, take="mean"),
    note="alone less with a paper",
)


def pairs(key: str, outcomes: dict[str, tuple[float, float]]) -> list[Record]:
    return [
        record(
            key,
            name,
            {"reviewed": reviewed, "accepted": accepted, "slept": 1.0},
            clusters=dict(zip(("paper", "referee"), name.split("/"), strict=True)),
        )
        for name, (reviewed, accepted) in outcomes.items()
    ]


def alone(key: str, outcomes: dict[str, tuple[float, ...]]) -> list[Record]:
    return [
        record(key, name, {"accepted_alone": value}, clusters={"referee": name}, attempt=i)
        for name, values in outcomes.items()
        for i, value in enumerate(values)
    ]


def of_journal(suite: str, metrics: tuple[Metric, ...], said: Declared, journal: str) -> CellEntry:
    entry = cell("aster-moe", suite, metrics, 2, 2)
    protocol = {"journal": journal, "sampling.temperature": "0.0"}
    return msgspec.structs.replace(entry, protocol=protocol, declared=said)


def card(said: Declared, *, together: bool, reference: str = "x") -> ModelScorecard:
    """Papers and referees, in one cell or in two that may differ in the journal alone."""
    papers = {"a/r": (1.0, 1.0), "b/r": (1.0, 0.0), "a/s": (1.0, 1.0), "b/s": (0.0, 0.0)}
    referees = {"r": (1.0, 0.0), "s": (0.0, 0.0)}
    one = of_journal("papers", RATES if together else RATES[:3], said, "x")
    entries, records = [one], {one.key: pairs(one.key, papers)}
    if together:
        records[one.key] += alone(one.key, referees)
    else:
        other = of_journal("zero", RATES[3:], Declared(), "y")
        other = msgspec.structs.replace(other, protocol={**other.protocol, "other": reference})
        entries[0] = one = msgspec.structs.replace(one, protocol={**one.protocol, "other": "x"})
        entries.append(other)
        records[other.key] = alone(other.key, referees)
    return build_scorecards(manifest_of(entries), tables(records))[0]


@pytest.mark.parametrize("together", [True, False])
def test_a_metric_follows_from_others_by_what_is_declared(together: bool) -> None:
    found = card(Declared(derived=(KIND, HARDER)), together=together).metrics
    kind, harder = (found[f"papers/{name}"].estimate for name in ("accepted_by_kind", "harder"))
    assert (kind.value, kind.n, kind.missing) == (0.5, 2, 0)  # referee s never accepts
    elsewhere = "" if together else ", in suite zero"
    assert kind.method.endswith(f"of referees that ever accept{elsewhere}; left out: 1 by others")
    assert (harder.value, harder.n) == ((0.5 - 1 + 0.5 - 0 + 0 - 1 + 0 - 0) / 4, 4)


def test_a_cell_that_differs_in_more_is_no_reference() -> None:
    found = card(Declared(derived=(KIND, HARDER)), together=False, reference="y").metrics
    assert "papers/accepted_by_kind" not in found
    assert (found["papers/harder"].estimate.n, found["papers/harder"].estimate.missing) == (0, 4)


def test_what_is_not_declared_is_not_known() -> None:
    found = card(Declared(), together=True)
    assert set(found.metrics) == {f"papers/{metric.name}" for metric in RATES}
    assert found.suites["papers"].no_tool_call is None and found.pooled == ()


def test_idle_attempts_are_counted_and_void_metrics_left_out() -> None:
    found = card(Declared(idle=("slept",), void=("reviewed",)), together=True)
    assert found.suites["papers"].no_tool_call == 4
    assert "papers/reviewed" not in found.metrics


def test_suites_of_any_benchmark_are_pooled() -> None:
    pooling = Pooling(
        benchmark="Journals", part="", parts=("x", "y"), may_differ=("journal",), metrics=("slept",)
    )
    entries, records = [], {}
    for name in pooling.parts:
        said = Declared(pooling=msgspec.structs.replace(pooling, part=name))
        entries.append(of_journal(name, RATES[:3], said, name))
        records[entries[-1].key] = pairs(entries[-1].key, {f"{name}/r": (1.0, 1.0)})
    (pooled,) = build_scorecards(manifest_of(entries), tables(records))[0].pooled
    assert (pooled.benchmark, pooled.suites, pooled.whole) == ("Journals", {"x": "x", "y": "y"}, True)
    assert pooled.own["slept"].estimate.n == 2 and not pooled.rates


def test_a_derived_metric_that_cannot_be_is_refused() -> None:
    data = msgspec.to_builtins(KIND)
    with pytest.raises(msgspec.ValidationError, match="no metric of the kind lost"):
        msgspec.convert({**data, "kind": "lost"}, DerivedMetric)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # AgentDojo's clients of closed models
@pytest.mark.parametrize("options", [{}, {"attack": "dos"}, {"attack": None}, {"limit": 2}])
@pytest.mark.parametrize("name", ["banking", "agentdojo_mini"])
def test_a_cell_of_an_earlier_version_says_what_its_suite_says_now(name: str, options: dict) -> None:
    made = dojo_suite(name, **options)
    entry = cell("aster-moe", name, made.metrics, 1)
    entry = msgspec.structs.replace(entry, adapter="agentdojo", protocol=made.protocol, declared=None)
    assert declared(entry) == made.declared
    assert declared(msgspec.structs.replace(entry, adapter="os")) == Declared()


SUITES_OWN = ("targeted_asr", "goal_capability", "benign_utility", "no_tool_call", "agentdojo", "lm_eval")


@pytest.mark.parametrize("path", sorted((ROOT / "harness" / "analysis").rglob("*.py")), ids=lambda p: p.stem)
def test_analysis_names_no_suite_and_no_metric_of_one(path: object) -> None:
    tree = ast.parse(path.read_text())  # type: ignore[attr-defined]
    texts = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is str
    }
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not texts & set(SUITES_OWN)
    inside = {m for m in modules if m.startswith("harness.suites.")} - {
        "harness.suites.corpus", "harness.suites.declared",
    }  # fmt: skip
    assert not inside
