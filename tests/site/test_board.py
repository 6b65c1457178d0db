"""What stands in one column, which number counts, and how sure a rank is."""

import csv
import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.analysis.compare import compare_metric
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.reports.document import read_document
from harness.site.board import Board, _rank, main_columns, make_board
from harness.site.build import Built
from harness.site.document import left_out, pairs, whole_document
from harness.site.front import foremost
from harness.site.reading import Reading, Store, take_all
from harness.site.settings import SiteSettings, read_settings
from tests.site.roots import PUBLIC, Change, make


@pytest.fixture(scope="module")
def board(root: Path, site: tuple[Path, Built]) -> Board:
    return settled(root, PUBLIC)


def settled(root: Path, text: str) -> Board:
    """The board under another `site.yaml`, of runs that were read as for `site`."""
    config = root.parent / "other.yaml"
    config.write_text(text)
    store = Store(root.parent / "store")
    reading = Reading(settings=read_settings(write(root, PUBLIC)))
    return make_board(take_all(root, store, reading, lambda line: None), store, read_settings(config))


def write(root: Path, text: str) -> Path:
    path = root.parent / "site.yaml"
    path.write_text(text)
    return path


def test_protocols_that_differ_stand_in_their_own_columns(board: Board) -> None:
    same = [column for column in board.columns if column.key == "questions/accuracy"]
    assert [dict(column.differs)["temperature"] for column in same] == ["0.0", "1.0"]
    models = [{row.model.name for row in board.having(column)} for column in same]
    assert len(models[0]) == 8 and models[1] == {"aster-dense", "aster-moe", "borea-dense", "borea-moe"}


def test_the_newest_number_counts_and_the_others_are_history(board: Board) -> None:
    column = next(column for column in board.columns if column.key == "questions/accuracy")
    row = next(row for row in board.rows if row.model.name == "aster-dense")
    assert row.numbers[column.id].run.name == "later"
    assert [number.run.name for number in row.earlier[column.id]] == ["first"]


def test_numbers_are_those_of_the_scorecard_of_their_run(board: Board, root: Path) -> None:
    cards = {card.model.name: card for card in read_document(RunDirectory(root / "later")).models}
    found = 0
    for row in board.rows:
        for number in row.numbers.values():
            if number.run.name == "later":
                found += 1
                key = f"{number.result.suite}/{number.result.metric.name}"
                assert number.estimate == cards[row.model.name].metrics[key].estimate
    assert found == 16


def test_ranks_hold_whoever_is_not_told_apart(board: Board) -> None:
    column = next(column for column in board.columns if column.key == "agent/targeted_asr")
    ranked = {row.model.name: row.ranks[column.id] for row in board.rows if column.id in row.ranks}
    assert ranked
    values = {
        row.model.name: row.numbers[column.id].estimate for row in board.rows if column.id in row.numbers
    }
    for name, (best, worst, of) in ranked.items():
        assert 1 <= best <= worst <= of == len(ranked)
        own = values[name]
        assert own.low is not None and own.high is not None
        surely = sum(e.high < own.low for n, e in values.items() if n in ranked and e.high is not None)
        assert best >= 1 + surely  # whose interval lies wholly below is above, where less is better


def test_equal_numbers_have_equal_ranks_whatever_their_order(root: Path) -> None:
    """HELM gave tied scores other win rates by the order of their rows: helm#2991."""
    board = settled(root, PUBLIC)
    column = next(column for column in board.columns if column.key == "questions/accuracy")
    rows = board.having(column)
    found = rows[0].numbers[column.id].result.found
    for row in rows[:3]:
        result = msgspec.structs.replace(row.numbers[column.id].result, found=found)
        row.numbers[column.id] = dataclasses.replace(row.numbers[column.id], result=result)
    _rank(column, board.rows)
    assert len({row.ranks[column.id] for row in rows[:3]}) == 1
    _rank(column, board.rows[::-1])
    assert len({row.ranks[column.id] for row in rows[:3]}) == 1
    best, worst, _ = rows[0].ranks[column.id]
    assert best == 1 and worst >= 3


def test_a_withdrawn_number_counts_no_more_and_says_why(root: Path, site: tuple[Path, Built]) -> None:
    text = PUBLIC + (
        "withdrawn:\n  - {model: aster-dense, suite: questions, run: later, date: 2026-11-01, "
        "reason: the wrong weights}\n"
    )
    board = settled(root, text)
    column = next(column for column in board.columns if column.key == "questions/accuracy")
    row = next(row for row in board.rows if row.model.name == "aster-dense")
    assert row.numbers[column.id].run.name == "first"
    (number,) = row.earlier[column.id]
    assert number.withdrawn is not None and number.withdrawn.reason == "the wrong weights"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel: x\n", r"site.yaml:1: .*titel"),
        ("publication: {a: closed}\n", r"site.yaml:1: .*closed"),
        ("withdrawn: [{model: x}]\n", r"site.yaml:1: .*reason"),
    ],
)
def test_settings_that_are_not_right_are_told_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_settings(path)
    assert read_settings(None) == SiteSettings()


def test_pairs_are_compared_as_the_command_does(board: Board) -> None:
    found = pairs(board)
    rows = {row.id: row for row in board.rows}
    a, b = rows["aster-dense"], rows["borea-dense"]
    own = found["aster-dense~borea-dense"]
    column = next(c for c in board.columns if c.id in own and c.key == "agent/targeted_asr")
    compared = compare_metric(a.numbers[column.id].result, b.numbers[column.id].result, ("a", "b"))
    difference = compared.difference
    assert own[column.id][:4] == [difference.value, difference.low, difference.high, compared.pairs]
    assert own[column.id][4] == compared.minimum_detectable


def test_downloads_hold_every_number_and_start_no_formula(site: tuple[Path, Built], board: Board) -> None:
    import pyarrow.parquet as pq

    out, _ = site
    rows = json.loads((out / "data/numbers.json").read_bytes())
    assert len(rows) == sum(len(row.numbers) for row in board.rows)
    text = list(csv.DictReader(io.StringIO((out / "data/numbers.csv").read_text())))
    assert len(text) == len(rows) == pq.read_table(out / "data/numbers.parquet").num_rows
    assert {row["model"] for row in text if "cmd" in row["model"]} == {"'=cmd()"}


def test_each_model_has_numbers_in_one_of_the_first_columns() -> None:
    measured = {"own": "abc", "other": "ab", "theirs": "bd", "late": "abce"}
    columns: list[Any] = [
        SimpleNamespace(id=f"{suite}/{metric}", suite=suite, differs=())
        for suite in measured
        for metric in ("utility", "hijacked")
    ]
    rows: list[Any] = [
        SimpleNamespace(id=model, numbers={c.id: 0 for c in columns if model in measured[c.suite]})
        for model in "abcdef"  # nothing was measured of the last
    ]
    found = [column.id for column in foremost(rows, columns)]
    # "late" has the most, then "theirs" is all that "d" has; the others follow in their own order
    suites = ["late", "theirs", "own", "other"]
    assert found == [f"{suite}/{metric}" for suite in suites for metric in ("utility", "hijacked")]


def test_of_a_benchmark_one_protocol_is_compared_whatever_metrics_others_have_more() -> None:
    """A metric that one model alone has brought its protocol in, and nothing was compared."""

    def column(name: str, metric: str, protocol: str) -> Any:
        return SimpleNamespace(id=name, suite="banking", metric=metric, protocol={"version": protocol})

    def model(name: str, *, imported: bool = False) -> Any:
        return SimpleNamespace(name=name, imported=imported)

    columns = [column("a", "rate", "1.1"), column("b", "rate", "1.2"), column("c", "rate:other", "1.2")]
    rows = [
        SimpleNamespace(id=name, called=name, model=model(name), numbers=dict.fromkeys(own))
        for name, own in {"one": "a", "two": "a", "scout": "bc"}.items()
    ]
    main = main_columns(rows, columns)
    board: Any = SimpleNamespace(
        rows=rows,
        columns=columns,
        main=main,
        having=lambda column: [r for r in rows if column.id in r.numbers],
    )
    assert [found.id for found in main] == ["a"]
    said = ["scout: banking under another protocol than most, so not in what is said here."]
    assert left_out(board) == said
    rows[2].model = model("scout", imported=True)
    assert left_out(board) == [
        "Imported, so not in what is said here: scout. How they were run is not known."
    ]


def test_models_of_one_name_are_told_apart_wherever_they_stand(tmp_path: Path) -> None:
    """Revisions were mixed, or one was taken for another: embeddings-benchmark/mteb#3928."""
    make(tmp_path / "root" / "one", Change(weights="ab" * 32))
    make(tmp_path / "root" / "two", Change(seed=1, weights="cd" * 32))
    store = Store(tmp_path / "store")
    runs = take_all(tmp_path / "root", store, Reading(quick=True), lambda line: None)
    board = make_board(runs, store, SiteSettings())
    same = {row.called: row for row in board.rows if row.model.name == "aster-dense"}
    assert sorted(same) == ["aster-dense (weights abababab)", "aster-dense (weights cdcdcdcd)"]
    assert len({row.id for row in board.rows}) == 8 and not any(row.earlier for row in board.rows)
    document, _ = whole_document(board)
    assert document is not None  # none of them is left out of what is said of origins
    assert {card.model.name for card in document.models} == {row.called for row in board.rows}
