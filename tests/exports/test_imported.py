"""Exports of imported transcripts: tokens and seconds that nobody knows are no zeros."""

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from harness.exports import export
from harness.records.directory import RunDirectory
from harness.records.table import to_table, write_table
from harness.types import IMPORTED, EngineFacts, Message, Record, Transcript, Usage
from tests.analysis.synthetic import synthetic_run

OURS, THEIRS = "aster-dense", "borea-dense"
UNKNOWN = ("engine_seconds", "prompt_tokens", "completion_tokens", "cached_tokens")
TRANSCRIPT = Transcript(
    messages=(Message(role="user", content="2+2?"), Message(role="assistant", content="4"))
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of our own beside an imported model, whose attempts are timed on the suite `agent` alone."""
    manifest, records = synthetic_run()
    engine = EngineFacts(name=IMPORTED, version="1")
    models = {**manifest.models, THEIRS: msgspec.structs.replace(manifest.models[THEIRS], engine=engine)}
    cells = {key: cell for key, cell in manifest.cells.items() if cell.model in (OURS, THEIRS)}
    models = {name: models[name] for name in (OURS, THEIRS)}
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    directory.add(msgspec.structs.replace(manifest, models=models, cells=cells))
    for key, cell in cells.items():
        seconds = 1.5 if cell.suite == "agent" else 0.0
        change = {"usage": Usage(requests=2), "started": 0.0, "seconds": seconds}
        whole = [as_stored(r, {} if cell.model == OURS else change) for r in records[key]]
        write_table(directory.complete_path(cell), to_table(cell, whole))
    return directory


def as_stored(record: Record, change: dict[str, Any]) -> Record:
    return msgspec.structs.replace(
        record, **{"transcript": TRANSCRIPT, "started": 1e9, "seconds": 2.0, **change}
    )


def test_every_eval_ever(run: RunDirectory, tmp_path: Path) -> None:
    paths = export(run, "every-eval-ever", tmp_path)
    found: dict[str, list[dict[str, Any]]] = {}
    for path in (path for path in paths if path.suffix == ".jsonl"):
        found[path.parent.name] = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["token_usage"]["total_tokens"] for row in found[OURS]} == {110}
    assert {row["performance"]["latency_ms"] for row in found[OURS]} == {2000.0}
    for row in found[THEIRS]:
        assert row["token_usage"] is None
        timed = row["evaluation_name"].startswith("agent/")
        assert row["performance"] == ({"latency_ms": 1500.0} if timed else None)
    if python := os.environ.get("EVERY_EVAL_EVER_PYTHON"):
        names = [str(path.relative_to(tmp_path)) for path in paths]
        command = [python, "-m", "every_eval_ever", "validate", *names]
        assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0


@pytest.mark.filterwarnings("ignore")  # of inspect_ai's imports
def test_inspect(run: RunDirectory, tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log", reason="the extra `export` is not installed")
    logs = [log.read_eval_log(str(path)) for path in export(run, "inspect", tmp_path)]
    ours, theirs = ([entry for entry in logs if entry.eval.model == name] for name in (OURS, THEIRS))
    assert len(ours) == len(theirs) == 2
    for entry in ours:
        assert entry.stats.model_usage[OURS].total_tokens == 110 * len(entry.samples)
        assert entry.stats.completed_at.startswith("2001-09-09")
        assert {s.metadata["engine_seconds"] for s in entry.samples} == {0.25}
    for entry in theirs:
        assert (entry.stats.model_usage, entry.stats.completed_at) == ({}, "")
        for sample in entry.samples:
            assert (sample.model_usage, sample.output.usage, sample.completed_at) == ({}, None, None)
            assert sample.total_time == (1.5 if entry.eval.task == "agent" else None)
            assert (sample.metadata["engine_seconds"], sample.metadata["requests"]) == (None, 2)


def test_lm_eval(run: RunDirectory, tmp_path: Path) -> None:
    paths = [path for path in export(run, "lm-eval", tmp_path) if path.name.startswith("results_")]
    seconds = {p.parent.name: json.loads(p.read_text())["total_evaluation_time_seconds"] for p in paths}
    assert seconds[THEIRS] is None
    assert float(seconds[OURS]) > 0


def test_tables(run: RunDirectory, tmp_path: Path) -> None:
    frame = pd.read_parquet(export(run, "parquet", tmp_path)[0])
    ours, theirs = frame[frame.model == OURS], frame[frame.model == THEIRS]
    assert (ours.prompt_tokens == 100).all() and (ours.engine_seconds == 0.25).all()
    assert theirs[list(UNKNOWN)].isna().all(axis=None) and (theirs.requests == 2).all()
    with export(run, "csv", tmp_path)[0].open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == THEIRS]
    assert {(*(row[name] for name in UNKNOWN), row["requests"]) for row in rows} == {("",) * 4 + ("2",)}
