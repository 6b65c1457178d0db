"""Jobs on a Ray cluster of two nodes on this machine, whose GPUs are made up."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import Status
from harness.records.workers import read_submissions, read_workers
from tests.conftest import lacking
from tests.run.test_launchers import assert_same, run, started, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head and a second node, each with one GPU. Jobs inherit the environment that nodes began with."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        lacking("Ray is not installed: pip install ray")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("DELAY", "0.25")
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False}
    )
    found.second = found.add_node(num_cpus=1, num_gpus=1)
    yield found
    found.shutdown()


def test_a_node_that_is_lost_loses_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, out = tmp_path_factory.mktemp("alone"), tmp_path / "out"
    assert run(alone) == 0

    def lose_a_node() -> None:
        wait_until(lambda: {path.parent.name[:3] for path in out.glob("cells/*/*.jsonl")} == {"one", "two"})
        cluster.remove_node(cluster.second, allow_graceful=False)

    thread = threading.Thread(target=lose_a_node)
    thread.start()
    status = run(tmp_path, "--on", "ray", "--address", cluster.address)
    thread.join()
    assert status == 0
    said = capsys.readouterr().out
    assert "given to Ray: 2 models, on 2 nodes" in said and "one: done" in said and "two: done" in said
    assert sorted([len(started(tmp_path, "one")), len(started(tmp_path, "two"))]) == [1, 2]
    assert_same(tmp_path, alone)
    (submission,) = read_submissions(out)
    workers = read_workers(out)
    assert {worker.job for worker in workers} == {f"{submission.job}_0", f"{submission.job}_1"}
    assert {worker.gpus for worker in workers} == {"0"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_cluster_that_is_not_there_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        assert run(tmp_path, "--on", "ray") == Status.WRONG_INPUT
        assert "pip install 'openweight-harness[ray]'" in capsys.readouterr().err
        return
    assert run(tmp_path, "--on", "ray", "--address", "auto") == Status.WRONG_INPUT
    said = capsys.readouterr().err
    assert said.startswith("harness: --address auto: there is no Ray cluster (") and said.count("\n") == 1
    assert main(["run", "demo", "--address", "auto"]) == Status.WRONG_INPUT
    assert "--address needs --on ray" in capsys.readouterr().err
