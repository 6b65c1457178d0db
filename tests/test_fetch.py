"""Fetching, and the lock that runs are held to."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import load_config
from harness.errors import UserError
from harness.fetch import Lock, check_lock, fetch, lock_path
from harness.models import hub
from harness.plan import make_plan

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
    )
    monkeypatch.setattr(hub, "_api", lambda: api)
    monkeypatch.setattr("harness.models.checkpoint.find", lambda spec: None)
    return tmp_path / "run.yaml"


def test_the_lock_says_what_was_fetched(config: Path) -> None:
    said = list(fetch(load_config(config), config))
    assert said[-1] == f"written: {config.parent / 'run.lock.json'}"
    lock: dict[str, Any] = json.loads(lock_path(config).read_text())
    expected = {"weights.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert lock["models"]["a"] == {"path": "someone/model", "revision": COMMIT, "files": expected}
    assert lock["suites"]["sums"]["dataset"] is None
    assert len(lock["suites"]["sums"]["content"]["data"]) == 64
    assert check_lock(config, make_plan(load_config(config))) == []


def test_a_run_on_other_data_is_refused(config: Path) -> None:
    list(fetch(load_config(config), config))
    (config.parent / "tasks" / "sums.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 2, "b": 4}\n')
    (problem,) = check_lock(config, make_plan(load_config(config)))
    assert problem.startswith("suite sums is not the one that was fetched (data changed); run `harness fetch")
    # A part of the data has no hash to be compared with.
    assert check_lock(config, make_plan(load_config(config, ["limit=1"]))) == []


def test_a_run_of_other_models_is_refused(config: Path) -> None:
    list(fetch(load_config(config), config))
    other = make_plan(load_config(config, ["models.0.revision=abc"]))
    assert "path or revision changed" in check_lock(config, other)[0]
    unknown = make_plan(load_config(config, ["models.0.name=b"]))
    assert "model b is not in the lock" in check_lock(config, unknown)[0]


def test_without_a_lock_there_is_nothing_to_differ_from(config: Path) -> None:
    assert check_lock(config, make_plan(load_config(config))) == []
    lock_path(config).write_text("{")
    with pytest.raises(UserError, match="is no lock"):
        check_lock(config, make_plan(load_config(config)))


def test_offline_nothing_is_fetched(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        list(fetch(load_config(config), config))
    assert not lock_path(config).exists()
    assert Lock(models={}, suites={}).schema_version == 1
