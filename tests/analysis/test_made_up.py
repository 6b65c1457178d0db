"""The records that scorecards are timed with are records as a run writes them."""

import json
from pathlib import Path

import pytest

from harness.records.directory import RunDirectory
from harness.reports.document import read_document
from harness.reports.render import render
from tests.conftest import script


def test_made_up_records_make_scorecards(tmp_path: Path) -> None:
    script("make_records").make(tmp_path / "run", records=1600, models=2)
    cards = json.loads(render(read_document(RunDirectory(tmp_path / "run")), "json"))["models"]
    assert [card["model"] for card in cards] == ["model-000", "model-001"]
    for card in cards:
        accuracy, asr = card["metrics"]["questions-00/accuracy"], card["metrics"]["agent-00/targeted_asr"]
        assert accuracy["n"] + accuracy["missing"] == asr["n"] + asr["missing"] == 400
        assert accuracy["low"] < accuracy["value"] < accuracy["high"]
        # One attempt in fifty fails.
        assert accuracy["missing"] / 400 == pytest.approx(0.02, abs=0.02)
