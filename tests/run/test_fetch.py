"""Fetching, and the lock that runs are held to."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import EntryNotFoundError

from harness import disk
from harness.cli import main
from harness.config import load_config
from harness.errors import UserError
from harness.models import hashes, hub
from harness.models.hashes import file_hash
from harness.records.directory import RunDirectory
from harness.run.fetch import check_lock, fetch
from harness.run.lockfile import lock_path, read_lock
from harness.run.plan import make_plan
from harness.suites.restore import Restored
from tests.data_hub import DataHub, serve
from tests.models.test_checkpoint import make

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CONFIG = """
name: t
models:
  - name: a
    path: someone/model
    origin: {developer: D, country: XA}
suites:
  - adapter: lm_eval
    name: sums
    task: sums
    include_path: ./tasks
sampling: {temperature: 0.0}
"""

TASK = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
num_fewshot: 0
doc_to_text: "{{a}} + 1 ="
doc_to_target: "{{b}}"
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def no_such_file(repository: str, name: str, revision: str | None = None) -> str:
    """A hub whose models have weights alone."""
    raise EntryNotFoundError(f"{repository} has no {name}")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config of a model on the hub, which is imitated, and a task on local files."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(TASK)
    (tmp_path / "tasks" / "sums.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 2, "b": 3}\n')
    (tmp_path / "run.yaml").write_text(CONFIG)
    cached = tmp_path / "snapshot"
    cached.mkdir()
    (cached / "weights.safetensors").write_bytes(b"weights")
    api = SimpleNamespace(
        model_info=lambda name, revision: SimpleNamespace(sha=COMMIT),
        snapshot_download=lambda name, revision, ignore_patterns: str(cached),
        hf_hub_download=no_such_file,
    )
    monkeypatch.setattr(hub, "_api", lambda: api)
    monkeypatch.setattr("harness.models.checkpoint.find", lambda spec: None)
    return tmp_path / "run.yaml"


def test_the_lock_says_what_was_fetched(config: Path) -> None:
    said = list(fetch(load_config(config), config))
    assert said[-1] == f"written: {config.parent / 'run.lock.json'}"
    lock: dict[str, Any] = json.loads(lock_path(config).read_text())
    expected = {"weights.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert lock["models"]["a"] == {
        "path": "someone/model", "asked": None, "revision": COMMIT, "files": expected
    }  # fmt: skip
    assert lock["datasets"] == {}
    assert len(lock["suites"]["sums"]["data"]) == 64
    assert check_lock(config, make_plan(load_config(config))) == []


def test_a_run_on_other_data_is_refused(config: Path) -> None:
    list(fetch(load_config(config), config))
    (config.parent / "tasks" / "sums.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 2, "b": 4}\n')
    (problem,) = check_lock(config, make_plan(load_config(config)))
    assert problem.startswith("suite sums is not the one that was fetched (data changed); run `harness fetch")
    # A part of the data is told by the whole of them, though the part itself has not changed.
    assert "(data changed)" in check_lock(config, make_plan(load_config(config, ["limit=1"])))[0]


def test_a_part_of_what_was_fetched_may_be_run(config: Path) -> None:
    list(fetch(load_config(config), config))
    assert check_lock(config, make_plan(load_config(config, ["limit=1"]))) == []
    list(fetch(load_config(config, ["limit=1"]), config))
    assert check_lock(config, make_plan(load_config(config))) == []


def test_a_run_of_other_models_is_refused(config: Path) -> None:
    list(fetch(load_config(config), config))
    other = make_plan(load_config(config, ["models.0.revision=abc"]))
    assert "path or revision changed" in check_lock(config, other)[0]
    unknown = make_plan(load_config(config, ["models.0.name=b"]))
    assert "model b is not in the lock" in check_lock(config, unknown)[0]


def test_without_a_lock_there_is_nothing_to_differ_from(config: Path) -> None:
    assert check_lock(config, make_plan(load_config(config))) == []
    lock_path(config).write_text("{")
    with pytest.raises(UserError, match="is not a lock"):
        read_lock(config)


def test_offline_nothing_is_fetched(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        list(fetch(load_config(config), config))
    assert not lock_path(config).exists()


# Models


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A config of a model on the hub, and its snapshot in a cache that knows no branches."""
    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    make(snapshot, **TINY)
    (snapshot / "generation_config.json").write_text("{}")
    api = SimpleNamespace(
        model_info=lambda name, revision: SimpleNamespace(sha=COMMIT),
        snapshot_download=lambda name, revision, ignore_patterns: str(snapshot.parent / revision),
        hf_hub_download=no_such_file,
    )
    monkeypatch.setattr(hub, "_api", lambda: api)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    return tmp_path / "tiny.yaml", snapshot


TINY = {
    "model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 1, "hidden_size": 8,
    "intermediate_size": 16, "vocab_size": 100,
}  # fmt: skip
TINY_RUN = """
name: t
models: [{name: a, path: org/tiny, origin: {developer: D, country: XA}}]
suites: [{adapter: tests.fakes, name: few, samples: 2}]
sampling: {}
"""


def test_a_run_takes_the_commit_that_was_locked(cached: tuple[Path, Path]) -> None:
    config, _ = cached
    list(fetch(load_config(config), config))
    held = make_plan(load_config(config), read_lock(config))
    assert held.models["a"].spec.revision == COMMIT
    assert held.models["a"].architecture is not None
    assert (held.problems, held.downloads, check_lock(config, held)) == ([], [], [])
    (cell,) = held.cells
    pinned = make_plan(load_config(config, [f"models.0.revision={COMMIT}"]))
    assert cell.entry.key == pinned.cells[0].entry.key


def test_a_branch_is_held_at_its_commit(cached: tuple[Path, Path]) -> None:
    config, _ = cached
    asked = load_config(config, ["models.0.revision=main"])
    list(fetch(asked, config))
    plan = make_plan(asked, read_lock(config))
    assert plan.models["a"].spec.revision == COMMIT
    assert check_lock(config, plan) == []
    other = make_plan(load_config(config, ["models.0.revision=v2"]), read_lock(config))
    assert other.problems == [] and "path or revision changed" in check_lock(config, other)[0]


def _edit(snapshot: Path) -> None:
    (snapshot / "generation_config.json").write_text("{ }")


def _weights(snapshot: Path) -> None:
    weights = snapshot / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")


def _added(snapshot: Path) -> None:
    (snapshot / "chat_template.jinja").write_text("{{ messages }}")


def _removed(snapshot: Path) -> None:
    (snapshot / "generation_config.json").unlink()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_edit, "generation_config.json"),
        (_weights, "model.safetensors"),
        (_added, "chat_template.jinja"),
        (_removed, "generation_config.json"),
    ],
)
def test_a_changed_file_of_a_model_is_named(cached: tuple[Path, Path], change: Any, name: str) -> None:
    config, snapshot = cached
    list(fetch(load_config(config), config))
    change(snapshot)
    (problem,) = check_lock(config, make_plan(load_config(config), read_lock(config)))
    assert problem.startswith(f"model a is not the one that was fetched ({name} in {snapshot} changed)")


def test_large_files_are_hashed_anew_when_they_are_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read = hashes._read
    monkeypatch.setattr(hashes, "REMEMBERED_FROM", 4)
    monkeypatch.setattr(hashes, "_read", lambda file: reads.append(file) or read(file))
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    assert file_hash(file) == file_hash(file) == hashlib.sha256(b"weights").hexdigest()
    assert len(reads) == 1
    before = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as old as the one before
    assert file_hash(file) == hashlib.sha256(b"WEIGHTS").hexdigest()
    (disk.cache_folder() / "hashes.json").write_text("{")
    assert file_hash(file) == hashlib.sha256(b"WEIGHTS").hexdigest()
    assert len(reads) == 3


# Data on the hub

OLD, NEW = "a" * 40, "b" * 40
HUB_TASK = TASK.replace("dataset_path: json", "dataset_path: me/sums").replace(
    "dataset_kwargs: {data_files: {test: sums.jsonl}}\n", ""
)
HUB_RUN = """
name: t
models: [{name: a, path: somewhere/else, origin: {developer: D, country: XA}}]
suites: [{adapter: lm_eval, name: sums, task: sums, include_path: ./tasks}]
sampling: {temperature: 0.0}
engine: {kind: "tests.fakes:start"}
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, DataHub]]:
    """A config of a task on the hub, and the hub."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(HUB_TASK)
    (tmp_path / "hub.yaml").write_text(HUB_RUN)
    found = DataHub("me/sums")
    found.push(OLD, test=[{"a": 1, "b": 2}, {"a": 2, "b": 3}])
    with serve(found, monkeypatch, tmp_path / "cache"):
        yield tmp_path / "hub.yaml", found


def documents(plan: Any) -> list[Any]:
    assert plan.problems == []
    (cell,) = plan.cells
    return [sample.payload.doc for sample in cell.suite.samples("m", None)]


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.mark.integration
def test_what_was_fetched_is_run_whatever_the_hub_has_since(
    data: tuple[Path, DataHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, found = data
    said = list(fetch(load_config(config), config))
    assert said[0] == f"suite sums: 2 samples, me/sums@{OLD}"
    lock = read_lock(config)
    assert lock and lock.datasets == {"me/sums": OLD}
    assert json.loads(lock.suites["sums"]["revision"]) == {"me/sums": OLD}

    found.push(NEW, test=[{"a": 5, "b": 6}])
    assert documents(make_plan(load_config(config))) == [{"a": 5, "b": 6}]
    held = make_plan(load_config(config), lock)
    assert len(documents(held)) == 2 and check_lock(config, held) == []

    go_offline(monkeypatch)
    asked = len(found.asked)
    held = make_plan(load_config(config), lock)
    assert len(documents(held)) == 2 and check_lock(config, held) == []
    assert documents(make_plan(load_config(config))) == [{"a": 5, "b": 6}], "the newest copy, of no lock"
    assert len(found.asked) == asked


@pytest.mark.integration
def test_what_is_locked_is_what_was_loaded(data: tuple[Path, DataHub]) -> None:
    """The main branch moves on between the question for its commit and the download."""
    config, found = data
    answer = found.answer

    def moving(method: str, path: str, body: str) -> tuple[int, bytes, dict[str, str]]:
        answered = answer(method, path, body)
        if path == "api/datasets/me/sums" and found.branches["main"] == OLD:
            found.push(NEW, test=[{"a": 5, "b": 6}])
        return answered

    found.answer = moving  # type: ignore[method-assign]
    assert next(iter(list(fetch(load_config(config), config)))) == f"suite sums: 2 samples, me/sums@{OLD}"
    assert found.branches["main"] == NEW
    assert len(documents(make_plan(load_config(config), read_lock(config)))) == 2


@pytest.mark.integration
def test_a_plan_downloads_nothing(
    data: tuple[Path, DataHub], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, found = data

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the network was asked")

    with monkeypatch.context() as patch:
        for name in ("getaddrinfo", "create_connection", "socket.connect"):
            patch.setattr(f"socket.{name}", refuse)
        assert main(["plan", str(config)]) == 0
        assert "to download: " in (said := capsys.readouterr().out)
        assert (
            "lm-eval task sums needs the data set me/sums, not on this machine: run `harness fetch`" in said
        )
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert main(["plan", str(config)]) == 2
        assert "missing: " in (said := capsys.readouterr().out)
        assert "a gated data set needs its terms accepted on the hub and HF_TOKEN" in said
    assert not found.asked
    list(fetch(load_config(config), config))
    asked = len(found.asked)
    assert main(["plan", str(config)]) == 0
    assert "a on sums, 2 samples" in capsys.readouterr().out
    assert len(found.asked) == asked


@pytest.mark.integration
def test_a_run_is_made_again_from_the_commit_that_it_read(data: tuple[Path, DataHub], tmp_path: Path) -> None:
    config, found = data
    assert main(["run", str(config), "--out", str(tmp_path / "out")]) == 0
    found.push(NEW, test=[{"a": 5, "b": 6}])
    restored = Restored(RunDirectory(tmp_path / "out"))
    (cell,) = restored.manifest.cells.values()
    assert restored.suite(cell).count() == 2


@pytest.mark.integration
def test_a_published_run_needs_its_data_at_a_commit(data: tuple[Path, DataHub]) -> None:
    config, _ = data

    def said(*overrides: str) -> list[str]:
        read = load_config(config, [f"models.0.revision={COMMIT}", "published=true", *overrides])
        return check_lock(config, make_plan(read, read_lock(config)))

    (problem,) = said()
    assert problem.startswith("a published run needs the commit of me/sums, which suite sums reads")
    assert said(f"suites.0.revision={OLD}") == []
    assert len(said("suites.0.revision=main")) == 1
    list(fetch(load_config(config), config))
    assert said() == []
