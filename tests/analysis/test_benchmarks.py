"""A benchmark of many tasks is one benchmark."""

import random
from collections.abc import Sequence

import msgspec
import pytest

from harness.analysis.benchmarks import by_benchmark, find_benchmarks
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import make_claims
from harness.analysis.comparability import protocols
from harness.analysis.compare import compare
from harness.analysis.origins import build_origins
from harness.reports.compare_text import render_comparison
from harness.reports.document import make_document
from harness.reports.render import render
from harness.types import GroupMetric, Manifest, Metric, Record, SuiteGroup
from tests.analysis.synthetic import CAPABILITY, cell, manifest_of, record, tables

MODELS = ("aster-dense", "borea-dense")
SUBJECTS = 57
SIZES = {f"mmlu/subject_{i:02}": 20 + i for i in range(SUBJECTS)}
ALONE = ("gsm8k", "math")


def run(
    groups: Sequence[SuiteGroup] = (), adapter: str = "lm_eval", *, by_subject: bool = False
) -> tuple[Manifest, dict[str, list[Record]]]:
    """Aster is far better on two benchmarks, Borea a little on every subject of a third."""
    entries, records = [], {}
    for suite, size in {**SIZES, **dict.fromkeys(ALONE, 200)}.items():
        for name in MODELS:
            entry = msgspec.structs.replace(cell(name, suite, CAPABILITY, size), adapter=adapter)
            entries.append(entry)
            chance = (
                {"aster-dense": 0.95, "borea-dense": 0.4}
                if suite in ALONE
                else {"aster-dense": 0.6, "borea-dense": 0.7}
            )
            drawn = random.Random(f"{name}-{suite}")
            records[entry.key] = [
                record(
                    entry.key,
                    f"q{i}",
                    {"accuracy": float(drawn.random() < chance[name])},
                    clusters={"subject": suite} if by_subject else {},
                )
                for i in range(size)
            ]
    return msgspec.structs.replace(manifest_of(entries), groups=tuple(groups)), records


def cards(manifest: Manifest, records: dict[str, list[Record]]) -> list[ModelScorecard]:
    return by_benchmark(build_scorecards(manifest, tables(records)), manifest)


@pytest.fixture(scope="module")
def battery() -> list[ModelScorecard]:
    return cards(*run())


def test_a_group_has_one_row_over_all_of_its_questions(battery: list[ModelScorecard]) -> None:
    _, records = run()
    for card in battery:
        assert list(card.suites) == ["gsm8k", "math", "mmlu"]
        found = card.metrics["mmlu/accuracy"]
        values = [
            r.scores[0].value
            for key, own in records.items()
            if key.startswith(f"{card.model.name}-mmlu/")
            for r in own
        ]
        assert found.estimate.n == len(values) == sum(SIZES.values())
        assert found.estimate.value == pytest.approx(sum(values) / len(values))
        assert found.estimate.clusters == len(values)  # equal names in two suites are two samples
        assert len(card.members) == SUBJECTS and len(card.cells) == SUBJECTS + 2
        assert card.suites["mmlu"].expected == sum(
            part.expected for part in card.suites["mmlu"].members.values()
        )


def test_subjects_are_given_unless_they_are_what_is_generalised_over(battery: list[ModelScorecard]) -> None:
    """Named as a factor they are drawn: the group is 57 of them, and one alone says next to nothing."""
    drawn = cards(*run(by_subject=True))
    for given, of_subjects in zip(battery, drawn, strict=True):
        whole, wider = (card.metrics["mmlu/accuracy"].estimate for card in (given, of_subjects))
        assert wider.value == whole.value and wider.clusters == SUBJECTS
        assert "clustered by subject" in wider.method and "cluster" not in whole.method
        one = of_subjects.members["mmlu/subject_03/accuracy"].estimate
        assert one.clusters == 1 and one.high - one.low > 0.5 and "one cluster of subject" in one.method


def test_everything_is_over_benchmarks(battery: list[ModelScorecard]) -> None:
    a, b = battery
    compared = compare(a, b)
    assert compared.family == 3 and compared.metrics["mmlu/accuracy"].pairs == sum(SIZES.values())
    assert compared.metrics["mmlu/accuracy"].p_holm < 0.05
    (gap,) = make_claims(battery).gaps
    expected = sum(a.metrics[k].estimate.value - b.metrics[k].estimate.value for k in compared.metrics) / 3
    assert gap.suites == 3 and gap.points.value == pytest.approx(expected) and expected > 0.25
    assert set(build_origins(battery)[0].metrics) == set(compared.metrics)


def test_the_first_screen_fits() -> None:
    manifest, records = run()
    found = make_document(manifest, tables(records))
    for width in (80, 100):
        lines = render(found, "table", width=width).splitlines()
        assert len(lines) < 60 and max(map(len, lines)) <= width
    a, b = cards(manifest, records)
    assert len(render_comparison(compare(a, b), "table").splitlines()) < 60
    whole = render(found, "table", full=True)
    assert "mmlu/subject_56" in whole and "mmlu/subject_56" not in render(found, "table")
    assert "mmlu/subject_56" in render(found, "md")


def test_the_gap_over_all_benchmarks_is_said_first() -> None:
    manifest, records = run()
    found = make_document(manifest, tables(records), claims=False)
    (gap,) = found.overall
    (claimed,) = make_claims(found.models).gaps
    assert gap.origin == "XA" and gap.comparison.estimate.value == pytest.approx(claimed.points.value)
    for form in ("table", "md", "html"):
        text = " ".join(render(found, form).replace("<wbr>", "").split())
        assert text.index("Capability over all benchmarks: XA is better by ") < text.index(
            "gsm8k/accuracy: XA"
        )


def groups(weighted: bool = True, **metrics: str) -> tuple[SuiteGroup, ...]:
    average = GroupMetric(
        name="accuracy,none", weight_by_size=weighted, members={suite: "accuracy" for suite in SIZES}
    )
    inner = tuple(list(SIZES)[:3])
    part = GroupMetric(name="accuracy,none", weight_by_size=False, members=dict.fromkeys(inner, "accuracy"))
    return (
        SuiteGroup(name="mmlu", members=tuple(SIZES), subgroups=("mmlu/stem",), metrics=(average,)),
        SuiteGroup(name="mmlu/stem", members=inner, metrics=(part,)),
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_the_average_of_lm_eval_stands_beside(weighted: bool) -> None:
    for card in cards(*run(groups(weighted), adapter="other")):
        values = [card.members[f"{suite}/accuracy"].estimate.value for suite in SIZES]
        plain = sum(values) / len(values)
        found = card.suites["mmlu"].group_averages
        assert found["mmlu/accuracy,none"] == pytest.approx(
            card.metrics["mmlu/accuracy"].estimate.value if weighted else plain
        )
        assert found["mmlu/stem/accuracy,none"] == pytest.approx(sum(values[:3]) / 3)


def test_a_group_that_states_no_average_is_pooled_all_the_same() -> None:
    """As where a group asks for the average of a metric that none of its tasks has."""
    bare = tuple(msgspec.structs.replace(group, metrics=()) for group in groups())
    card = cards(*run(bare))[0]
    assert card.metrics["mmlu/accuracy"].estimate.n == sum(SIZES.values())
    assert card.suites["mmlu"].group_averages == {}


def test_a_collection_of_benchmarks_is_not_one() -> None:
    """Its suites have no metric in common: the groups inside of it are benchmarks, and the rest alone."""
    manifest, _ = run()
    other = (
        Metric(name="exact_match", higher_is_better=True, kind="rate", bounds=(0.0, 1.0), headline=True),
    )
    cells = {
        key: msgspec.structs.replace(entry, metrics=other) if entry.suite in ALONE else entry
        for key, entry in manifest.cells.items()
    }
    everything = SuiteGroup(name="leaderboard", members=(*SIZES, *ALONE))
    manifest = msgspec.structs.replace(manifest, cells=cells, groups=(everything, *groups()))
    assert [(one.name, len(one.suites)) for one in find_benchmarks(manifest)] == [("mmlu", SUBJECTS)]


def test_a_member_that_failed_is_missing_and_takes_nothing_with_it() -> None:
    manifest, records = run()
    suite = "mmlu/subject_56"
    records = {
        key: [msgspec.structs.replace(r, scores=(), failure="context_overflow") for r in own]
        if key == f"aster-dense-{suite}"
        else own
        for key, own in records.items()
    }
    card = cards(manifest, records)[0]
    found = card.metrics["mmlu/accuracy"].estimate
    assert (found.n, found.missing) == (sum(SIZES.values()) - SIZES[suite], SIZES[suite])
    assert card.suites["mmlu"].failures == {"context_overflow": SIZES[suite]}


def test_protocols_name_the_benchmark_not_its_suites(battery: list[ModelScorecard]) -> None:
    assert {setting.suites for setting in protocols(battery)} == {("gsm8k", "math", "mmlu")}
