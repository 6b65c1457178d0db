"""The lines by which the documents get from nothing to a plot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from tests.conftest import ROOT
from tests.documents import blocks


@pytest.mark.engine
def test_eight_lines_make_a_plot(tmp_path: Path) -> None:
    (block,) = (one for one in blocks(ROOT / "docs" / "reference" / "python.md") if "savefig" in one.text)
    assert len(block.text.split("\n\n", 1)[1].splitlines()) + 1 == 8
    engine = "{'args': {'max_model_len': 512, 'kv_cache_memory_bytes': 67108864}}"
    small = block.text.replace('config["sweep"]', f'config["engine"] = {engine}\nconfig["sweep"]')
    own = {**os.environ, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", small], cwd=tmp_path, env=own, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")
    card = harness.open_run(tmp_path / "results" / "first").scorecard().query("headline").set_index("model")
    assert [name.rpartition("=")[2] for name in card.index] == ["0", "1", "2"]
    assert set(card["n"]) == {40} and card["value"].iloc[0] >= card["value"].iloc[2]
