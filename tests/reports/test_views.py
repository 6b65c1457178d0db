"""Every view shows the document and computes nothing; a first screen is one whatever the run."""

import ast
import json
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from harness.analysis import build
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import make_claims
from harness.analysis.claims.evidence import Asked
from harness.analysis.compare import compare
from harness.analysis.origins import MOST_PAIRED, build_origins
from harness.cli import main
from harness.errors import Status
from harness.records.directory import RunDirectory
from harness.reports import document, recall
from harness.reports.claims_text import render_claims
from harness.reports.compare_text import render_comparison
from harness.reports.document import document_of, make_document
from harness.reports.kept import WRITTEN, are_current, kept_path, write_scorecards
from harness.reports.render import render
from harness.reports.terminal import SCREEN
from harness.reports.words import PAIRED, notes
from harness.types import CellEntry, Origin
from tests.analysis.synthetic import manifest_of, synthetic_run, tables
from tests.analysis.test_compare import write
from tests.runs import change_run

VIEWS = sorted(set(Path(document.__file__).parent.glob("*.py")) - {Path(document.__file__)})
OF_ESTIMATES = {"cut_share", "inverse", "lacks_attempts", "misses_much", "missing_share", "worst_case"}
"""What an estimate says of itself."""


@pytest.mark.parametrize("path", VIEWS, ids=lambda path: path.name)
def test_views_compute_nothing(path: Path) -> None:
    functions = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness.analysis")
        for alias in node.names
        if alias.name.islower()
    }
    assert functions <= OF_ESTIMATES


def many(models: int, suites: int, developers: int = 2) -> list[ModelScorecard]:
    """The synthetic cards over and over, under other names."""
    manifest, records = synthetic_run()
    made = build_scorecards(manifest, tables(records))
    kinds = {f"suite_{k:02}": "questions" if k % 3 else "agent" for k in range(suites)}
    found = []
    for i in range(models):
        card = made[i % len(made)]
        origin = Origin(developer=f"developer {i % developers:02}", country="XA" if i % 2 else "XB")
        found.append(
            msgspec.structs.replace(
                card,
                model=msgspec.structs.replace(card.model, name=f"model-{i:03}", origin=origin),
                suites={
                    name: msgspec.structs.replace(card.suites[kind], suite=name)
                    for name, kind in kinds.items()
                },
                metrics={
                    f"{name}/{result.metric.name}": msgspec.structs.replace(result, suite=name)
                    for name, kind in kinds.items()
                    for result in card.metrics.values()
                    if result.suite == kind
                },
            )
        )
    return found


@pytest.mark.parametrize(("models", "suites"), [(300, 20), (3, 99)])
def test_a_first_screen_is_one_whatever_the_run(models: int, suites: int) -> None:
    cards = many(models, suites)
    shown = {
        "scorecard": render(document_of(cards, manifest_of(()), claims=False), "table"),
        "compare": render_comparison(compare(cards[0], cards[1]), "table"),
        "claims": render_claims(make_claims(cards[:60], origins=[]), "table"),
    }
    for name, text in shown.items():
        lines = text.splitlines()
        assert len(lines) < SCREEN, name
        assert max(map(len, lines)) <= 100, name
        assert "--full" in " ".join(lines[-3:]), name


def test_a_screen_has_only_that_computed_which_it_shows() -> None:
    manifest, records = synthetic_run()
    twice = {
        key: [msgspec.structs.replace(r, attempt=k) for r in own for k in (0, 1)]
        for key, own in records.items()
    }
    cells = [msgspec.structs.replace(cell, attempts=2) for cell in manifest.cells.values()]
    found = document_of(build_scorecards(manifest_of(cells), tables(twice)), manifest, claims=False)
    split = [suite.by_injection_task for card in found.models for suite in card.suites.values()]
    at_k = [result for card in found.models for key, result in card.metrics.items() if "@" in key]
    keys = {key for origin in found.origins for key in origin.metrics if "@" in key}

    def computed() -> list[bool]:
        tasks = ("_results" in vars(one) for one in split if one)
        origins = (key in vars(origin.metrics)["_made"] for origin in found.origins for key in keys)
        return [*tasks, *("_found" in vars(result) for result in at_k), *origins]

    render(found, "table")
    assert len(computed()) > len(split) and not any(computed())
    render(found, "json")
    assert all(computed())


@pytest.mark.parametrize("form", ["table", "json"])
def test_models_that_processes_count_come_to_the_same(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    manifest, records = synthetic_run()
    one = render(make_document(manifest, tables(records)), form)
    monkeypatch.setattr(build, "MANY", 0)
    monkeypatch.setattr(build, "cores", lambda: 2)
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # whatever threads other tests left
    read = list[str]()

    def counted(cell: CellEntry) -> pa.Table:
        read.append(cell.key)
        return tables(records)(cell)

    assert render(make_document(manifest, counted), form) == one
    assert not read  # in this process


def test_of_many_origins_each_is_compared_with_the_leading_one() -> None:
    cards = many(MOST_PAIRED + 1, 3, developers=MOST_PAIRED + 1)
    found = document_of(cards, manifest_of(()), "developer", claims=False)
    assert PAIRED in notes(found)
    for name in {gap.key for origin in found.origins for gap in origin.gaps}:
        best = {origin.key: origin.metrics[name].best.value for origin in found.origins}
        choose = max if found.origins[0].metrics[name].metric.higher_is_better else min
        leader = choose(best, key=lambda key: best[key])
        compared = {(o.key, gap.other) for o in found.origins for gap in o.gaps if gap.key == name}
        others = best.keys() - {leader}
        assert compared == {(leader, other) for other in others} | {(other, leader) for other in others}
    assert 0 < len(found.ratios) <= MOST_PAIRED and len(found.overall) == MOST_PAIRED
    gaps = make_claims(cards, Asked(by="developer"), found.origins).gaps
    assert len(gaps) == MOST_PAIRED and PAIRED not in notes(
        document_of(cards[:4], manifest_of(()), claims=False)
    )
    assert len(build_origins(cards[:MOST_PAIRED], "developer")[0].gaps) >= MOST_PAIRED - 1


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run with one cell whose records are no records."""
    run = write(tmp_path / "run", *synthetic_run())
    directory = RunDirectory(run)
    cell = directory.manifest().cells["aster-dense-agent"]
    directory.complete_path(cell).write_bytes(b"no Parquet")
    return run


@pytest.mark.parametrize(
    "command",
    [
        lambda run: ["scorecard", run],
        lambda run: ["claims", run],
        lambda run: ["compare", run, "aster-dense", "borea-moe"],
        lambda run: ["compare", run, "aster-dense", "borea-moe", "--flips"],
    ],
    ids=["scorecard", "claims", "compare", "flips"],
)
def test_what_cannot_be_read_is_said_with_a_status_of_its_own(
    command: Callable[[str], list[str]], damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(str(damaged))) == Status.INCOMPLETE
    shown = capsys.readouterr()
    assert "aster-dense" in shown.err and ".parquet" in shown.err
    assert ".parquet" in shown.out and "borea" in shown.out
    assert main([*command(str(damaged)), "--format", "json"]) == Status.INCOMPLETE
    assert ".parquet" in json.dumps(json.loads(capsys.readouterr().out))


def test_kept_scorecards_are_current_until_records_or_code_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(write(tmp_path / "run", *synthetic_run()))
    assert not are_current(run)
    write_scorecards(run, width=100, color=False)
    assert are_current(run)
    for path in (*(kept_path(run, form) for form in WRITTEN), *(tmp_path / "run").rglob("*.parquet")):
        path.touch()  # a copy has other times and the same contents
    assert are_current(run)
    with monkeypatch.context() as patched:
        patched.setattr(recall, "code_digest", lambda: "another version")
        assert not are_current(run)
    manifest = run.manifest()
    change_run(run, name="other")
    assert not are_current(run)
    change_run(run, name=manifest.name)
    assert are_current(run)
    (next((tmp_path / "run" / "cells").iterdir()) / "more.jsonl").write_text("{}")
    assert not are_current(run)
