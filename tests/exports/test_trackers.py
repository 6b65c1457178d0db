"""Runs in trackers' own offline stores, read back by the trackers' own libraries, and tables for READMEs."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.build import build_scorecards
from harness.cli import main
from harness.errors import UserError
from harness.exports import export
from harness.records.directory import RunDirectory
from harness.types import Estimate
from tests.conftest import ROOT, lacking

pytestmark = pytest.mark.filterwarnings("ignore")  # of code of others, as it is imported

DEMO = ROOT / "results/demo"
ASR = "agentdojo_mini/targeted_asr"


def estimate_of(model: str) -> Estimate:
    directory = RunDirectory(DEMO)
    cards = build_scorecards(directory.manifest(), directory.columns)
    return next(card for card in cards if card.model.name == model).metrics[ASR].estimate


def expected(model: str) -> dict[str, float]:
    e = estimate_of(model)
    assert e.value is not None and e.low is not None and e.high is not None
    return {
        ASR: e.value,
        f"{ASR}/low": e.low,
        f"{ASR}/high": e.high,
        f"{ASR}/n": e.n,
        f"{ASR}/missing": e.missing,
    }


def test_mlflow_has_a_run_a_model_with_intervals_and_its_card(tmp_path: Path) -> None:
    try:
        from mlflow import MlflowClient
    except ImportError:
        lacking("MLflow is not installed")
    for _ in range(2):  # the second takes the place of the first
        assert main(["export", str(DEMO), "--format", "mlflow", "--out", str(tmp_path)]) == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["aster-dense", "aster-moe", "borea-dense", "borea-moe"]
    assert len(client.search_runs([experiment.experiment_id])) == 4
    own = {n: v for n, v in runs["borea-moe"].data.metrics.items() if n.split("/")[:2] == ASR.split("/")}
    assert own == pytest.approx(expected("borea-moe"))
    assert runs["borea-moe"].data.params["country"] == "XB"
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    (card,) = client.list_artifacts(runs["aster-moe"].info.run_id)
    text = Path(client.download_artifacts(runs["aster-moe"].info.run_id, card.path)).read_text()
    assert "aster" in text and "borea" not in text


def logged(path: Path) -> Iterator[bytes]:
    """The records of a file of wandb's: a log as LevelDB has it, behind a header of 7 bytes."""
    data, at, block, held = path.read_bytes(), 7, 1 << 15, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield held
            held = b""


def test_wandb_has_a_folder_a_model_that_can_be_sent_later(tmp_path: Path) -> None:
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError:
        lacking("wandb is not installed")
    paths = export(RunDirectory(DEMO), "wandb", tmp_path)
    assert len(paths) == 4
    names, summary = [], {}
    for path in paths:
        own: dict[str, Any] = {}
        for data in logged(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                names.append(record.run.display_name)
            for item in record.summary.update:
                own["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        summary[names[-1]] = own
        assert "borea" in (path.parent / "files" / "scorecard.md").read_text() or "aster" in names[-1]
    assert sorted(names) == ["aster-dense", "aster-moe", "borea-dense", "borea-moe"]
    for name, value in expected("borea-moe").items():
        assert summary["borea-moe"][name] == pytest.approx(value)


@pytest.mark.parametrize(("form", "module"), [("mlflow", "mlflow"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, form: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'alembic>=1\.13' 'mlflow-skinny<"):
        export(RunDirectory(DEMO), form, tmp_path)


def test_a_readme_has_a_table_of_headline_numbers(tmp_path: Path) -> None:
    paths = export(RunDirectory(DEMO), "readme", tmp_path)
    assert [path.parent.name for path in paths] == ["aster-dense", "aster-moe", "borea-dense", "borea-moe"]
    lines = paths[-1].read_text().splitlines()
    assert "| agentdojo_mini | Hijacked ↓ | 50.0% [31.4, 68.6] | n=40 |" in lines
    assert all(line.count("|") == 5 for line in lines if line.startswith("|"))
