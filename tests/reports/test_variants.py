"""One model in several ways: what was varied, what it changes as planted, the table and the plot of it."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.analysis.variants import Ways
from harness.cli import main
from harness.config import ModelSpec
from harness.engines.scripted import Reply, ScriptedEngine, hashed_score
from harness.models.planted import FOLDER
from harness.records.directory import RunDirectory
from harness.reports.document import Document, read_document
from harness.reports.html import _variant_plots
from harness.reports.objects import document_object
from harness.reports.plotting import sign
from harness.reports.variants import variant_tables
from harness.types import EngineFacts, Sampling, Variant
from tests.conftest import ROOT

TASK = (
    "{adapter: lm_eval, name: sums, task: planted_arithmetic, include_path: 'harness:suites/planted', "
    "sampling: run}"
)
SWEEP = f"""\
name: sweep
models:
  - name: m
    path: ./m
    origin: {{developer: d, country: XA}}
    modes: {{thinking: {{chat_template_kwargs: {{deep: true}}}}, instruct: {{}}}}
suites: [{TASK}]
sampling: {{max_tokens: 8, seed: 1}}
sweep: {{mode: [thinking, instruct], sampling.temperature: [0, 0.5, 10]}}
engine: {{kind: '{__name__}:start'}}
"""


def is_right(prompt: str, thinking: bool, temperature: float) -> bool:
    """A model that thinks is right more often, a hot one less."""
    lot = sha256(prompt.encode()).digest()[0] / 256
    return lot < (0.9 if thinking else 0.6) / (1 + temperature)


PLAIN = Variant()


async def start(model: ModelSpec, args: dict[str, Any], variant: Variant = PLAIN) -> ScriptedEngine:
    thinking, temperature = variant.mode == "thinking", variant.sampling["temperature"]

    def policy(prompt: str, sampling: Sampling) -> Reply:
        a, sign, b = re.findall(r"(\d+) ([-+]) (\d+)", prompt)[-1]
        result = int(a) + int(b) if sign == "+" else int(a) - int(b)
        return Reply(text=str(result + (not is_right(prompt, thinking, temperature))))

    return ScriptedEngine(complete=policy)


def measured(folder: Path, config: str) -> Document:
    (folder / "run.yaml").write_text(config)
    assert main(["run", str(folder / "run.yaml"), "--out", str(folder / "run")]) == 0
    return read_document(RunDirectory(folder / "run"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return measured(tmp_path_factory.mktemp("sweep"), SWEEP)


def only(document: Document) -> Ways:
    (ways,) = document.ways
    return ways


def planted(thinking: bool, temperature: float) -> float:
    rows = (ROOT / "harness/suites/planted/data/arithmetic.jsonl").read_text().splitlines()
    right = [is_right(json.loads(row)["question"], thinking, temperature) for row in rows]
    return sum(right) / len(right)


def test_a_sweep_is_told_by_what_was_varied(swept: Document) -> None:
    ways = only(swept)
    assert ways.model == "m" and ways.crossed
    assert ways.varied == {
        "variant.mode": ("instruct", "thinking"),
        "sampling.temperature": ("0.0", "0.5", "10.0"),
    }
    assert ways.follows == ("chat_template_kwargs.deep",)
    first = planted(False, 0.0)
    for way in ways.ways:
        mode, temperature = way.values.values()
        share = planted(mode == "thinking", float(temperature))
        (value,) = way.row.estimates
        assert value is not None and value.value == pytest.approx(share)
        if way is ways.ways[0]:
            assert way.changes == (None,)
        else:
            (change,) = way.changes
            assert change is not None and change.value == pytest.approx(share - first)
            assert change.low is not None and change.high is not None and change.low <= share - first
    assert ways.ways[2].values["sampling.temperature"] == "10.0"  # by size, not as words


def test_a_sweep_has_a_table_and_a_plot(swept: Document, tmp_path: Path) -> None:
    (table,) = variant_tables(swept)
    assert table.title.startswith("m by mode, temperature (with it: deep)")
    assert [row[:2] for row in table.rows[:3]] == [("instruct", t) for t in ("0.0", "0.5", "10.0")]
    assert re.search(r"\n[-+]\d+\.\d points \[", table.rows[1][3])
    (plot,) = _variant_plots(swept)
    assert plot.key == (("instruct", sign(0)), ("thinking", sign(1)))
    assert [label for _, label in plot.x.ticks] == ["0.0", "0.5", "10.0"]
    assert len(plot.points) == 6 and len(plot.lines) == 4
    heights = [100 - point.y for point in plot.points]
    assert heights == pytest.approx(
        [100 * planted(thinking, t) for thinking in (False, True) for t in (0.0, 0.5, 10.0)], abs=0.01
    )
    assert all(line.x1 < line.x2 for line in plot.lines)
    schema = json.loads((ROOT / "harness/reports/scorecard.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(document_object(swept))), schema)


FROM = "origin: {developer: d, country: XA, base_models: [whole]}"
QUANTISED = f"""\
name: quantised
models:
  - {{name: whole, path: '{FOLDER / "aster-dense"}', origin: {{developer: d, country: XA}}}}
  - {{name: rounded, path: '{FOLDER / "aster-dense"}', {FROM}}}
  - {{name: tuned, path: '{FOLDER / "aster-dense"}', {FROM}}}
suites: [{{adapter: lm_eval, name: choice, task: planted_choice, include_path: 'harness:suites/planted'}}]
limit: 40
sampling: {{max_tokens: 8, seed: 1}}
engine: {{kind: '{__name__}:start_rounded'}}
"""


async def start_rounded(model: ModelSpec, args: dict[str, Any]) -> ScriptedEngine:
    rounded = model.name == "rounded"

    def policy(context: str, continuation: str) -> float:
        exact = hashed_score(context, continuation)
        return round(exact, 1) if rounded else exact

    engine = ScriptedEngine(score=policy)
    details = {"dtype": "bfloat16", **({"quantization": "fp8"} if rounded else {})}
    engine.facts = EngineFacts(name="scripted", version="1", details=details)
    return engine


def test_a_quantised_model_stands_beside_the_whole_one(tmp_path: Path) -> None:
    document = measured(tmp_path, QUANTISED)
    ways = only(document)
    assert [(way.row.card.model.name, way.values["precision"]) for way in ways.ways] == [
        ("whole", "bfloat16"),
        ("rounded", "fp8"),  # and not the one that was derived and is stored alike
    ]
    whole, rounded = ways.ways
    assert whole.divergence is None and rounded.divergence is not None
    moved, same = rounded.divergence.kl, rounded.divergence.same_choice
    assert moved.value is not None and 0 < moved.value < 0.01 and moved.n == 40
    assert same.value is not None and same.value > 0.8
    (table,) = variant_tables(document)
    assert "KL of options, nats ↓" in table.header and table.rows[0][3:5] == ("", "")
    (way,) = document_object(document)["variants"]
    assert way["ways"][1]["kl"]["value"] == pytest.approx(moved.value, abs=1e-6)
