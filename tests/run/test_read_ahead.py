"""The next model's weights are read while one runs, where memory has room for them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import ModelSpec
from harness.memory import free_bytes
from harness.run import read_ahead
from harness.run.read_ahead import CHUNK, ReadAhead
from tests.run.test_launchers import run


def job(folder: Path, size: int, *, owes: bool = True) -> Any:
    """What is known of a job whose model has two files of weights."""
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.safetensors").write_bytes(bytes(size))
    model = SimpleNamespace(spec=ModelSpec(name="m", path=str(folder)), folder=folder)
    return SimpleNamespace(owes=owes, models=[model])


def wait(ahead: ReadAhead) -> int:
    """Bytes that were read when all was."""
    if ahead._thread is not None:
        ahead._thread.join(300)
    return ahead.read


def test_the_first_model_that_needs_an_engine_is_read(tmp_path: Path) -> None:
    done, first = job(tmp_path / "0", 7, owes=False), job(tmp_path / "1", CHUNK + 1)
    second = job(tmp_path / "2", 9)
    with ReadAhead() as ahead:
        ahead.begin([done, first, second])
        assert wait(ahead) == 2 * (CHUNK + 1)
        ahead.begin([])
        assert ahead._thread is None
    assert ahead._thread is None


def test_what_has_no_room_or_is_not_here_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, lost = job(tmp_path / "small", 100), job(tmp_path / "lost", 100)
    (tmp_path / "lost" / "model.safetensors.index.json").write_text('{"weight_map": {"x": "c.safetensors"}}')
    unread = SimpleNamespace(spec=ModelSpec(name="m", path="m"), folder=None)
    scripted = SimpleNamespace(owes=True, models=[unread])
    with ReadAhead() as ahead:
        for other in (lost, scripted):
            ahead.begin([other])
            assert wait(ahead) == 0
        monkeypatch.setattr(read_ahead, "free_bytes", lambda: 399)
        ahead.begin([small])
        assert wait(ahead) == 0
        monkeypatch.setattr(read_ahead, "free_bytes", lambda: 400)
        ahead.begin([small])
        assert wait(ahead) == 200
    assert free_bytes() > 400


def test_it_ends_at_once_where_it_is_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "CHUNK", 1)
    with ReadAhead() as ahead:
        ahead.begin([job(tmp_path / "m", 1 << 24)])
    assert ahead.read < 1 << 25


@pytest.mark.parametrize(("workers", "read"), [("1", ["two"]), ("2", [])])
def test_a_run_reads_the_next_model_once_one_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, read: list[str]
) -> None:
    """With two workers both run at once, and none is next."""
    asked = []

    def weights(following: Any) -> list[Path]:
        there = [name for name in ("one", "two") if (tmp_path / f"{name}-started").exists()]
        asked.append((following.name, there))
        return []

    monkeypatch.setattr(read_ahead, "weights", weights)
    assert run(tmp_path, "--workers", workers) == 0
    assert asked == [(name, ["one"]) for name in read]
