"""Workers and launchers are killed at random, thirty times each way: nothing is lost, nothing is doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.records.directory import RunDirectory
from harness.records.workers import read_workers
from tests.conftest import ROOT
from tests.run.slurm_cluster import slurm_cluster, wait_until
from tests.run.test_launchers import bare, is_running
from tests.run.test_ray import ray_cluster
from tests.run.test_runner import CONFIG, records, scorecards

KILLS = 30
OWN = CONFIG.replace("tests.fakes:start", "tests.run.paced:start")
PACE = 0.6
"""Seconds that a reply takes."""


def start(folder: Path, *arguments: str, pace: float = PACE) -> "subprocess.Popen[bytes]":
    path = folder / "digits.yaml"
    path.write_text(OWN)
    environment = {"FOLDER": str(folder), "PACE": json.dumps({"one": pace, "two": pace})}
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "run", str(path), "--out", str(folder / "out"), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def launched(on: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Arguments of `run` by which two models run at once; what they need is up while inside."""
    if on == "workers":
        yield ["--workers", "2"]
    elif on == "slurm":
        with slurm_cluster(folder / "slurm") as cluster:
            for name, value in cluster.environment.items():
                patch.setenv(name, value)
            yield ["--on", "slurm", "--wait"]
    else:
        patch.setenv("FOLDER", str(folder))  # jobs inherit what nodes began with
        patch.setenv("PACE", json.dumps({"one": PACE, "two": PACE}))
        with ray_cluster() as cluster:
            yield ["--on", "ray", "--address", cluster.address]


def written(folder: Path) -> list[tuple[str, str, int]]:
    """(cell, sample, attempt) of every line that is there, doubled ones too."""
    lines = [line for path in folder.rglob("cells/*/*.jsonl") for line in path.read_bytes().splitlines(True)]
    found = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [(line["cell"], line["sample"], line["attempt"]) for line in found]


def working(folder: Path) -> list[int]:
    """Processes that work on a model now."""
    found = [worker.pid for worker in read_workers(folder / "out") if worker.ended is None]
    return [pid for pid in found if is_running(pid)]


@pytest.mark.parametrize(
    "on",
    [
        pytest.param("workers", marks=pytest.mark.slow),
        pytest.param("slurm", marks=pytest.mark.kills),
        pytest.param("ray", marks=pytest.mark.kills),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_thirty_kills_lose_nothing_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    draw = random.Random(7)
    alone = tmp_path / "alone"
    alone.mkdir()
    assert start(alone, "--workers", "2", pace=0.0).wait(600) == 0
    with launched(on, tmp_path, monkeypatch) as arguments:
        process = start(tmp_path, *arguments)
        kills = launchers = 0
        while kills < KILLS and process.poll() is None:
            before, running = len(written(tmp_path)), process

            def went_on(before: int = before, running: "subprocess.Popen[bytes]" = running) -> bool:
                return len(written(tmp_path)) > before or running.poll() is not None

            wait_until(went_on, 600)
            time.sleep(draw.random() * 0.3)
            workers = working(tmp_path)
            if process.poll() is not None or not workers:
                continue
            kills += 1
            if draw.random() < 0.2:
                process.kill()
                process.wait()
                launchers += 1
                if on != "slurm":  # whose jobs go on
                    wait_until(
                        lambda workers=workers: not any(map(is_running, workers)), 300, "an orphan goes on"
                    )
                process = start(tmp_path, *arguments)
            else:
                with suppress(ProcessLookupError):  # it may have ended meanwhile
                    os.kill(draw.choice(workers), signal.SIGKILL)
        assert process.wait(600) == 0
    assert kills >= KILLS // 2 and launchers, "the run was over too soon for this test to say anything"
    assert not working(tmp_path)
    found = records(tmp_path)
    assert len(found) == len({(r.cell, r.sample, r.attempt) for r in found}) == 320
    assert bare(found) == bare(records(alone))
    assert scorecards(tmp_path) == scorecards(alone)
    directory = RunDirectory(tmp_path / "out")
    assert all(directory.is_complete(cell) for cell in directory.manifest().cells.values())
