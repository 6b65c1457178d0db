"""Scorecards in each format."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from harness.errors import UserError
from harness.hostile import breakable
from harness.records.table import to_table
from harness.reports.document import Document, make_document
from harness.reports.html import is_numeric
from harness.reports.render import FORMATS, render
from harness.types import Manifest, Metric, Origin
from tests.analysis.synthetic import MODELS, synthetic_run, tables

HOSTILE = "\x1b[31m<script>alert(1)</script>|`x`\u202e[a](javascript:b)\x1b]0;t\x07"


def build(manifest: Manifest | None = None) -> Document:
    made, records = synthetic_run()
    return make_document(manifest or made, tables(records))


@pytest.fixture(scope="module")
def cards() -> Document:
    return build()


@pytest.fixture(scope="module")
def hostile() -> Document:
    """Models, developers and base models with a name that attacks every format; attempts are owed."""
    manifest, _ = synthetic_run()
    origin = Origin(developer=HOSTILE, country=HOSTILE, base_models=(HOSTILE,), licence=HOSTILE)
    models = {
        name: msgspec.structs.replace(model, name=name + HOSTILE, origin=origin)
        for name, model in manifest.models.items()
    }
    cells = {key: msgspec.structs.replace(cell, samples=99) for key, cell in manifest.cells.items()}
    return build(msgspec.structs.replace(manifest, models=models, cells=cells))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_deterministic_and_names_everything(cards: Document, form: str) -> None:
    text = render(cards, form, full=True)
    assert text == render(build(), form, full=True)
    assert text.endswith("\n")
    for name in (*MODELS, "targeted_asr", "accuracy", "iteration_cap", "Apache-2.0"):
        assert name in text.replace("<wbr>", "")


def test_an_unknown_format_is_refused(cards: Document) -> None:
    with pytest.raises(UserError, match=r"'pdf'.*table, md, json, html"):
        render(cards, "pdf")


@pytest.mark.parametrize("form", ["table", "md", "html"])
def test_a_rate_never_stands_without_its_interval(cards: Document, form: str) -> None:
    text = re.sub(r"<style>.*?</style>|<text.*?</text>", "", render(cards, form), flags=re.S)
    text = re.sub(r'="[^"]*"', "", text)
    rates = re.findall(r"\d\.\d%(.{2})", text, flags=re.S)
    assert len(rates) > 20
    # Where columns are narrow the interval stands below.
    assert set(rates) <= {" [", "  ", "\n ", "\n[", " <", " n"}


def test_json_of_models(cards: Document) -> None:
    models = json.loads(render(cards, "json"))["models"]
    assert [model["model"] for model in models] == sorted(MODELS)
    first = models[0]
    assert (first["origin"], first["developer"], first["complete"]) == ("XA", "Aster", True)
    assert first["architecture"]["dense"] is True
    assert first["failures"] == {
        "agent": {"iteration_cap": 2, "tool_parse": 1},
        "questions": {"empty_answer": 2},
    }
    assert first["truncated"] == {"agent": 1, "questions": 0}
    assert first["attempts"]["agent"] == {"expected": 60, "finished": 60, "owed": 0}
    assert first["cost"]["total"]["engine_seconds"] == 30.0
    metric = first["metrics"]["agent/targeted_asr"]
    assert {"value", "low", "high", "n", "missing", "clusters", "method", "higher_is_better"} < set(metric)
    assert metric["low"] < metric["value"] < metric["high"]
    assert (metric["n"], metric["missing"], metric["higher_is_better"]) == (38, 2, False)


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(keys(v) for v in value.values()))
    return set().union(*(keys(v) for v in value)) if isinstance(value, list) else set()


def test_times_stand_under_cost_alone(cards: Document) -> None:
    document = json.loads(render(cards, "json"))
    assert document["claims"]["models"]
    for model in [*document["models"], *document["claims"]["models"]]:
        del model["cost"]
    assert not {key for key in keys(document) if "seconds" in key or "started" in key}


def test_json_of_origins(cards: Document) -> None:
    document = json.loads(render(cards, "json"))
    a, _ = document["origins"]
    assert (a["origin"], document["by"], a["models"]) == ("XA", "country", ["aster-dense", "aster-moe"])
    assert a["metrics"]["agent/targeted_asr"]["models"] == 2
    gaps = [one for one in document["comparisons"] if one["kind"] == "gap"]
    assert {gap["metric"] for gap in gaps} == {
        "questions/accuracy",
        "agent/benign_utility",
        "agent/targeted_asr",
    }
    (ratio,) = (one for one in document["comparisons"] if one["kind"] == "risk_ratio")
    assert (ratio["origin"], ratio["other"], ratio["models"], ratio["other_models"]) == ("XB", "XA", 2, 2)
    assert ratio["low"] < ratio["value"] < ratio["high"]


def test_the_table_fits_its_width(cards: Document) -> None:
    for width, full in ((80, True), (100, True), (140, True), (80, False), (100, False)):
        lines = render(cards, "table", width=width, full=full).splitlines()
        assert max(map(len, lines)) <= width
    assert "Benchmarks (continued)" in render(cards, "table", width=60, full=True)
    assert "Benchmarks (continued)" not in render(cards, "table", width=120, full=True)


def test_the_terminal_shows_headline_metrics_and_says_so(cards: Document) -> None:
    shown = render(cards, "table", full=True)
    assert "targeted_asr" in shown
    assert "agent/utility_under_attack ↑" not in shown
    assert "3 of 4 metrics are shown" in shown
    assert "utility_under_attack" in render(cards, "md")


def test_long_names_go_on_in_the_next_line(hostile: Document) -> None:
    for full in (False, True):
        lines = render(hostile, "table", width=100, full=full).splitlines()
        assert max(map(len, lines)) <= 100


def test_colour_only_where_asked(cards: Document) -> None:
    assert "\x1b" not in render(cards, "table")
    for full in (False, True):
        assert "\x1b[1m" in render(cards, "table", color=True, full=full)


@pytest.mark.parametrize("form", ["table", "md", "html"])
def test_hostile_names_reach_no_terminal(hostile: Document, form: str) -> None:
    text = render(hostile, form)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "alert" in text


def test_hostile_names_make_no_markdown(hostile: Document) -> None:
    text = render(hostile, "md")
    assert "<script>" not in text
    assert not re.search(r"(?<!\\)\[a\]", text)
    widths = {
        len(re.findall(r"(?<!\\)\|", line))
        for line in text.split("## Models\n")[1].split("##")[0].splitlines()
        if line
    }
    assert widths == {8}


class Page(HTMLParser):
    """Tags, attributes and whether tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(hostile: Document) -> None:
    page = Page(render(hostile, "html"))
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert "svg" in names and "table" in names
    assert not names & {"script", "link", "img", "iframe", "object"}
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert not attributes & {"src", "srcset", "onload", "onclick"}
    anchors = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert anchors == {f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs}
    assert all("href" not in attrs for tag, attrs in page.tags if tag != "a")
    assert "url(" not in render(hostile, "html")


def test_the_page_begins_with_the_models_sorted_and_has_plots_that_say_something(cards: Document) -> None:
    text = render(cards, "html")
    assert "<title>synthetic: scorecards</title>" in text and "run of 2026-01-01, harness 0" in text
    models = re.search(r'<h2 id="models">.*?</table>', text, re.S)
    assert models is not None
    rows = re.findall(r"<tr><td>.*?</tr>", models[0])
    order = [re.search(r"(aster|borea)-\w+", row)[0] for row in rows]
    value = {card.model.name: card.metrics["questions/accuracy"].estimate.value for card in cards.models}
    assert order == sorted(value, key=lambda name: -value[name])
    assert all(row.count('class="num"') == 4 for row in rows)  # capability, utility, hijacked, cost
    assert text.count('<div class="plot">') == 3
    assert text.count('<path class="dot"') == 3 * len(cards.models)
    assert text.index("is better by") < text.index("fewer than three models")


def test_a_plot_needs_two_models() -> None:
    manifest, records = synthetic_run()
    one = {key: cell for key, cell in manifest.cells.items() if cell.model == "aster-moe"}
    models = {"aster-moe": manifest.models["aster-moe"]}
    made = make_document(msgspec.structs.replace(manifest, cells=one, models=models), tables(records))
    assert '<div class="plot">' not in render(made, "html")


def test_numbers_are_known_by_how_a_cell_begins() -> None:
    assert is_numeric("50.0% [1, 2]\nn=3") and is_numeric("-4.1")
    assert not is_numeric("n=3") and not is_numeric("aster")


def test_a_page_of_many_models_stays_small() -> None:
    manifest, records = synthetic_run()
    models, cells, own = {}, {}, {}
    for i in range(300):
        base = list(MODELS)[i % 4]
        name = f"model-{i:03}"
        models[name] = msgspec.structs.replace(manifest.models[base], name=name)
        for suite in ("questions", *(f"bench_{k}" for k in range(4))):
            source = f"{base}-questions"
            key = f"{name}-{suite}"
            cells[key] = msgspec.structs.replace(manifest.cells[source], key=key, model=name, suite=suite)
            own[key] = records[source]
    whole = msgspec.structs.replace(manifest, models=models, cells=cells)
    made = make_document(whole, tables(own), claims=False)
    page = render(made, "html")
    assert len(page.encode()) < 1_000_000
    assert all(name in page for name in models)
    assert "Not on this page, for its size" in page
    assert len(render(made, "table").splitlines()) < 60


def test_a_page_without_any_record_says_so() -> None:
    manifest, _ = synthetic_run()
    document = make_document(manifest, lambda cell: to_table(cell, []))
    for form in FORMATS:
        text = render(document, form)
        assert "not measured" in text or form == "json"
        assert "The run is not complete" in text or form == "json"
    assert "nothing to claim" in json.loads(render(document, "json"))["claims_problem"]


def test_unbounded_metrics_get_an_axis_of_their_own() -> None:
    manifest, records = synthetic_run()
    metric = Metric(name="accuracy", higher_is_better=False, headline=True)
    cells = {
        key: msgspec.structs.replace(cell, metrics=(metric,)) if "questions" in key else cell
        for key, cell in manifest.cells.items()
    }
    text = render(make_document(msgspec.structs.replace(manifest, cells=cells), tables(records)), "html")
    assert Page(text).open == []
    positions = [float(x) for x in re.findall(r'(?:cx|x1|x2)="([0-9.]+)%"', text)]
    assert min(positions) >= 0 and max(positions) <= 100


def test_names_break_where_their_parts_end() -> None:
    assert breakable("suite/targeted_asr@4") == "suite/<wbr>targeted_<wbr>asr@4"
    assert breakable("MoE 2/8, 525k/525k") == "MoE 2/8, 525k/525k"
    assert breakable("<b>/__a: b\x1b[0m") == "&lt;b&gt;/__<wbr>a: b"
