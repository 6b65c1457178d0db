"""Scorecards in each format."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from harness.errors import UserError
from harness.hostile import breakable
from harness.scorecards.build import ModelScorecard, build_scorecards
from harness.scorecards.html import LABEL_HEIGHT, _spread
from harness.scorecards.origins import OriginScorecard, build_origins
from harness.scorecards.render import FORMATS, render, render_origins_json
from harness.store import to_table
from harness.types import Manifest, Metric, Origin
from tests.scorecards.synthetic import MODELS, synthetic_run, tables

Cards = tuple[list[ModelScorecard], list[OriginScorecard]]
HOSTILE = "\x1b[31m<script>alert(1)</script>|`x`\u202e[a](javascript:b)\x1b]0;t\x07"


def build(manifest: Manifest | None = None) -> Cards:
    made, records = synthetic_run()
    cards = build_scorecards(manifest or made, tables(records))
    return cards, build_origins(cards)


@pytest.fixture(scope="module")
def cards() -> Cards:
    return build()


@pytest.fixture(scope="module")
def hostile() -> Cards:
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
def test_every_format_is_deterministic_and_names_everything(cards: Cards, form: str) -> None:
    text = render(*cards, form)
    assert text == render(*build(), form)
    assert text.endswith("\n")
    for name in (*MODELS, "targeted_asr", "accuracy", "iteration_cap", "Apache-2.0"):
        assert name in text.replace("<wbr>", "")


def test_an_unknown_format_is_refused(cards: Cards) -> None:
    with pytest.raises(UserError, match=r"'pdf'.*table, md, json, html"):
        render(*cards, "pdf")


@pytest.mark.parametrize("form", ["table", "md", "html"])
def test_a_rate_never_stands_without_its_interval(cards: Cards, form: str) -> None:
    text = re.sub(r"<style>.*?</style>|<text.*?</text>", "", render(*cards, form), flags=re.S)
    text = re.sub(r'="[^"]*"', "", text)
    rates = re.findall(r"\d\.\d%(.{2})", text, flags=re.S)
    assert len(rates) > 20
    assert set(rates) <= {" ["}


def test_json_of_models(cards: Cards) -> None:
    models = json.loads(render(*cards, "json"))
    assert [model["model"] for model in models] == sorted(MODELS)
    first = models[0]
    assert (first["origin"], first["developer"], first["complete"]) == ("XA", "Aster", True)
    assert first["architecture"]["dense"] is True
    assert first["failures"] == {
        "agent": {"iteration_cap": 2, "tool_parse": 1},
        "questions": {"empty_answer": 2},
    }
    assert first["truncated"] == {"agent": 1, "questions": 0}
    assert first["attempts"]["agent"] == {"expected": 50, "finished": 50, "owed": 0}
    assert first["cost"]["total"]["engine_seconds"] == 27.5
    metric = first["metrics"]["agent/targeted_asr"]
    assert {"value", "low", "high", "n", "missing", "clusters", "method", "higher_is_better"} < set(metric)
    assert metric["low"] < metric["value"] < metric["high"]
    assert (metric["n"], metric["missing"], metric["higher_is_better"]) == (38, 2, False)


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(keys(v) for v in value.values()))
    return set().union(*(keys(v) for v in value)) if isinstance(value, list) else set()


def test_times_stand_under_cost_alone(cards: Cards) -> None:
    for model in json.loads(render(*cards, "json")):
        del model["cost"]
        assert not {key for key in keys(model) if "seconds" in key or "time" in key or "started" in key}


def test_json_of_origins(cards: Cards) -> None:
    a, b = json.loads(render_origins_json(cards[1]))
    assert (a["origin"], a["by"], a["models"]) == ("XA", "country", ["aster-dense", "aster-moe"])
    assert a["metrics"]["agent/targeted_asr"]["models"] == 2
    assert {gap["metric"] for gap in a["gaps"]} == {
        "questions/accuracy",
        "agent/benign_utility",
        "agent/targeted_asr",
    }
    ratio = b["risk_ratios"][0]
    assert (ratio["other"], ratio["models"], ratio["other_models"]) == ("XA", 2, 2)
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert "fewer than three" in a["notes"][0]


def test_the_table_fits_its_width(cards: Cards) -> None:
    for width in (80, 100, 140):
        lines = render(*cards, "table", width=width).splitlines()
        assert max(map(len, lines)) <= width
    assert "agent (continued)" in render(*cards, "table", width=60)
    assert "continued" not in render(*cards, "table", width=100)


def test_the_terminal_shows_headline_metrics_and_says_so(cards: Cards) -> None:
    shown = render(*cards, "table")
    assert "targeted_asr" in shown
    assert "utility_under_attack" not in shown
    assert "These are 3 of 4 metrics" in shown
    assert "utility_under_attack" in render(*cards, "md")


def test_long_names_go_on_in_the_next_line(hostile: Cards) -> None:
    lines = render(*hostile, "table", width=100).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("Model ") and "targeted_asr" in line for line in lines) == 1


def test_colour_only_where_asked(cards: Cards) -> None:
    assert "\x1b" not in render(*cards, "table")
    assert "\x1b[1m" in render(*cards, "table", color=True)


@pytest.mark.parametrize("form", ["table", "md", "html"])
def test_hostile_names_reach_no_terminal(hostile: Cards, form: str) -> None:
    text = render(*hostile, form)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "alert" in text


def test_hostile_names_make_no_markdown(hostile: Cards) -> None:
    text = render(*hostile, "md")
    assert "<script>" not in text
    assert not re.search(r"(?<!\\)\[a\]", text)
    widths = {
        len(re.findall(r"(?<!\\)\|", line))
        for line in text.split("## Models")[1].split("##")[0].splitlines()
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


def test_the_page_is_well_formed_and_loads_nothing(hostile: Cards) -> None:
    page = Page(render(*hostile, "html"))
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert "svg" in names and "table" in names
    assert not names & {"script", "link", "img", "iframe", "a", "object"}
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert not attributes & {"src", "href", "srcset", "onload", "onclick"}
    assert "url(" not in render(*hostile, "html")


def test_the_page_has_a_chart_for_each_headline_metric_and_each_pair(cards: Cards) -> None:
    text = render(*cards, "html")
    assert text.count('<div class="forest">') == 3
    assert text.count('<div class="plot">') == 1
    dots = [float(x) for x in re.findall(r'<circle class="dot" cx="([0-9.]+)%" cy="9"', text)]
    values = [
        round(100 * card.metrics[key].estimate.value, 2)
        for key in ("agent/benign_utility", "agent/targeted_asr", "questions/accuracy")
        for card in cards[0]
    ]
    assert dots == values


def test_a_page_without_any_record_says_so() -> None:
    manifest, _ = synthetic_run()
    cards = build_scorecards(manifest, lambda cell: to_table(cell, []))
    for form in FORMATS:
        text = render(cards, build_origins(cards), form)
        assert "not measured" in text or form == "json"
    assert "The run is not complete" in render(cards, build_origins(cards), "html")


def test_unbounded_metrics_get_an_axis_of_their_own() -> None:
    manifest, records = synthetic_run()
    metric = Metric(name="accuracy", higher_is_better=False, headline=True)
    cells = {
        key: msgspec.structs.replace(cell, metrics=(metric,)) if "questions" in key else cell
        for key, cell in manifest.cells.items()
    }
    cards = build_scorecards(msgspec.structs.replace(manifest, cells=cells), tables(records))
    text = render(cards, build_origins(cards), "html")
    assert Page(text).open == []
    positions = [float(x) for x in re.findall(r'(?:cx|x1|x2)="([0-9.]+)%"', text)]
    assert min(positions) >= 0 and max(positions) <= 100


def test_labels_do_not_lie_on_each_other() -> None:
    moved = sorted(_spread([10.0, 12.0, 11.0, 200.0]))
    assert all(b - a >= LABEL_HEIGHT for a, b in pairwise(moved))
    assert moved[-1] == 200.0
    low = _spread([300.0, 299.0, 300.0])
    assert sorted(low) == [300.0 - 2 * LABEL_HEIGHT, 300.0 - LABEL_HEIGHT, 300.0]


def test_names_break_where_their_parts_end() -> None:
    assert breakable("suite/targeted_asr@4") == "suite/<wbr>targeted_<wbr>asr@4"
    assert breakable("MoE 2/8, 525k/525k") == "MoE 2/8, 525k/525k"
    assert breakable("<b>/__a: b\x1b[0m") == "&lt;b&gt;/__<wbr>a: b"
