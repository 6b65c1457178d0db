"""Jobs on a Ray cluster of two nodes on this machine, whose GPUs are made up."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli import main
from harness.config import ModelSpec
from harness.engines.base import Engine
from harness.engines.scripted import ScriptedEngine
from harness.engines.vllm.placement import reserved_group
from harness.errors import Status
from harness.records.workers import read_submissions, read_workers
from harness.run.launchers.ray import Ray, Waiting
from tests import fakes
from tests.conftest import lacking
from tests.run.test_launchers import OWN, assert_same, fake_jobs, run, started, wait_until
from tests.run.test_runner import records

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """A head and a second node, each with one GPU. Jobs inherit the environment that nodes began with."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        lacking("Ray is not installed: pip install ray")
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False}
    )
    found.second = found.add_node(num_cpus=1, num_gpus=1)
    try:
        yield found
    finally:
        found.shutdown()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("DELAY", "0.25")
    with ray_cluster() as found:
        yield found


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
        assert "pip install 'ray<" in capsys.readouterr().err
        return
    assert run(tmp_path, "--on", "ray", "--address", "auto") == Status.WRONG_INPUT
    said = capsys.readouterr().err
    assert said.startswith("harness: --address auto: there is no Ray cluster (") and said.count("\n") == 1
    assert main(["run", "demo", "--address", "auto"]) == Status.WRONG_INPUT
    assert "--address needs --on ray" in capsys.readouterr().err


def test_a_task_is_given_up_that_no_node_that_lives_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would let it wait for ever."""
    wide, small = fake_jobs(tmp_path, {"wide": 4, "small": 1})
    launcher, cancelled = Ray.__new__(Ray), []
    nodes = [{"Alive": True, "Resources": {"GPU": 2.0}}, {"Alive": False, "Resources": {"GPU": 4.0}}]
    launcher._ray = SimpleNamespace(nodes=lambda: nodes, cancel=cancelled.append)
    pending, waits = {"w": wide, "s": small}, {"w": Waiting(), "s": Waiting()}
    assert not [*launcher._give_up_short(pending, waits)], "nodes have time to come back"
    monkeypatch.setattr("harness.run.launchers.ray.SHORT_SECONDS", -1.0)
    assert [*launcher._give_up_short(pending, waits)] == ["w"] == cancelled
    assert wide.problems[0].text.startswith(
        "model wide: it takes 4 GPUs, and no node that lives has more than 2; the same command resumes"
    )
    nodes[1]["Alive"] = True
    assert not [*launcher._give_up_short(pending, waits)]


async def start_on_all(model: ModelSpec, args: dict[str, Any]) -> Engine:
    """An engine that writes down, in `FOLDER`, the nodes on which it has GPUs."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = reserved_group()
    assert os.environ["VLLM_WORKER_MULTIPROCESSING_METHOD"] == "spawn" and not ray.is_initialized()
    ray.init(address="auto", log_to_driver=False)

    def node() -> tuple[str, list[str]]:
        return ray.get_runtime_context().get_node_id(), ray.get_gpu_ids()

    found = []
    for place, _ in enumerate(group.bundle_specs):
        strategy = PlacementGroupSchedulingStrategy(group, place)
        found.append(ray.remote(num_cpus=0, num_gpus=1, scheduling_strategy=strategy)(node).remote())
    (Path(os.environ["FOLDER"]) / f"{model.name}-nodes").write_text(json.dumps(ray.get(found)))
    ray.shutdown()
    return ScriptedEngine(fakes.last_digit)


def test_a_model_takes_the_gpus_of_two_nodes(
    tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others begin when it has them; one that takes more than there are is refused."""
    config = OWN.replace("tests.run.test_launchers:start", "tests.run.test_ray:start_on_all")
    config = config.replace(", origin: {", ", engine_args: {pipeline_parallel_size: 2}, origin: {")
    path = tmp_path / "digits.yaml"
    path.write_text(config)
    command = ["run", str(path), "--out", str(tmp_path / "out"), "--on", "ray", "--address", cluster.address]
    assert main(command) == 0
    for model in ("one", "two"):
        nodes = json.loads((tmp_path / f"{model}-nodes").read_text())
        assert len({node for node, _ in nodes}) == 2 and [gpus for _, gpus in nodes] == [[0], [0]]
    assert len(records(tmp_path)) == 320
    (submission,) = read_submissions(tmp_path / "out")
    assert {worker.job for worker in read_workers(tmp_path / "out")} == {
        f"{submission.job}_0",
        f"{submission.job}_1",
    }
    capsys.readouterr()
    monkeypatch.setattr("harness.run.launchers.ray.SHORT_SECONDS", 0.0)
    path.write_text(config.replace("pipeline_parallel_size: 2", "pipeline_parallel_size: 3"))
    assert main([*command, "sampling.seed=9"]) == Status.STOPPED
    said = capsys.readouterr().err
    assert "model one: it takes 3 GPUs, and the nodes that live have 2; the same command resumes" in said
    path.write_text(config.replace("pipeline_parallel_size: 2", "data_parallel_size: 2"))
    assert main([*command, "sampling.seed=8"]) == Status.WRONG_INPUT
    assert "data_parallel_size is for one node: set it to 1" in capsys.readouterr().err
