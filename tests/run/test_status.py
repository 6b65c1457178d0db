"""How far a run is, who works on it, and how it ended."""

import errno
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import Status, UserError
from harness.records.directory import RunDirectory
from harness.records.schema import Submission, WorkerFile
from harness.records.workers import SILENT_SECONDS, read_workers, write_submission, write_worker
from harness.run.json_log import JsonProgress
from harness.run.status import STUCK_SECONDS, status, status_lines
from harness.types import Caution
from tests.run.test_runner import CONFIG, config, run

NOW = 1_000_000.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of which every attempt is finished, at `out`."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(folder) == 0
    return folder


@pytest.fixture
def owing(finished: Path, tmp_path: Path) -> RunDirectory:
    """A run in which one suite of `one` was not begun."""
    directory = RunDirectory(shutil.copytree(finished / "out", tmp_path / "out"))
    shutil.rmtree(directory.path / "workers")
    cell = next(c for c in directory.manifest().cells.values() if (c.model, c.suite) == ("one", "many"))
    directory.complete_path(cell).unlink()
    return directory


def worker(**facts: Any) -> WorkerFile:
    begun: dict[str, Any] = {"model": "one", "host": "n1", "pid": 7, "began": NOW - 130, "beat": NOW}
    return WorkerFile(**{**begun, **facts})


@pytest.mark.parametrize(
    ("facts", "state", "said"),
    [
        ({}, "loading", "one: loading for 2 min, on n1"),
        (
            {
                "loaded": NOW - 100,
                "finished": 40,
                "tokens": 5000,
                "answered": NOW - 1,
                "job": "12_3",
                "gpus": "0,1",
            },
            "running",
            "one: running for 100 s, on n1, job 12_3, GPU 0,1, 50 tokens/s, about 5 min left",
        ),
        ({"loaded": NOW - 5}, "running", "one: running for 5 s, on n1, 0 tokens/s, time left not known yet"),
        (
            {"loaded": NOW - 5000, "answered": NOW - STUCK_SECONDS - 60, "finished": 3},
            "stuck",
            "one: stuck: it has finished nothing for 11 min, on n1",
        ),
        (
            {"beat": NOW - SILENT_SECONDS - 5, "loaded": NOW - 100},
            "silent",
            "one: silent for 65 s: it was killed, or its disk hangs, on n1",
        ),
        (
            {"ended": "warned", "beat": NOW - 10},
            "stopped",
            "one: stopped 10 s ago: it goes on in its next turn",
        ),
        (
            {"ended": "stopped", "beat": NOW - 10},
            "stopped",
            "one: stopped 10 s ago: it goes on in its next turn",
        ),
        ({"ended": "done", "loaded": NOW - 100}, "ended", None),
    ],
)
def test_who_works_on_a_model_is_told(
    owing: RunDirectory, facts: dict[str, Any], state: str, said: str | None
) -> None:
    write_worker(owing.path, "w", worker(**facts))
    found = status(owing, NOW)
    (model,) = found.models
    assert (model.model, model.state) == ("one", state)
    lines = [line for line in status_lines(found) if line.startswith("one: ") and "/" not in line.split()[2]]
    lines = [line for line in lines if "few" not in line and "many" not in line]
    assert [line[: len(said)] for line in lines] == [said] if said else not lines


def test_the_worker_that_began_last_counts_and_starts_are_counted(owing: RunDirectory) -> None:
    write_worker(owing.path, "b", worker(loaded=NOW - 10, answered=NOW, finished=1))
    write_worker(owing.path, "a", worker(began=NOW - 500, ended="warned", beat=NOW - 400))
    (model,) = status(owing, NOW).models
    assert (model.state, model.starts) == ("running", 2)


def test_what_was_submitted_and_has_not_begun_waits(owing: RunDirectory) -> None:
    write_submission(owing.path, Submission(launcher="slurm", job="12", models=("one", "two"), submitted=NOW))
    found = status(owing, NOW)
    assert [(m.model, m.state) for m in found.models] == [("one", "waiting")], "two owes nothing"
    assert "one: waits for its turn" in status_lines(found)


def test_problems_and_logs_are_told_where_something_is_wrong(owing: RunDirectory) -> None:
    problem = Caution(check="x", text="model one: its process was killed 3 times", model="one")
    write_worker(owing.path, "w", worker(ended="done", problems=(problem,), log="logs/slurm-1_0.log"))
    assert not [line for line in status_lines(status(owing, NOW)) if "log" in line], "there is none"
    (owing.path / "logs").mkdir()
    (owing.path / "logs" / "slurm-1_0.log").touch()
    lines = [*status_lines(status(owing, NOW))]
    assert "one: its process was killed 3 times" in lines and "one: its log: logs/slurm-1_0.log" in lines


def test_a_run_that_is_watched_is_shown_until_it_has_ended(
    owing: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_worker(owing.path, "w", worker(began=0.0))
    turns = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 2:
            write_worker(owing.path, "w", worker(began=0.0, ended="done"))

    monkeypatch.setattr("harness.cli.running.time.sleep", sleep)
    assert main(["status", str(owing.path), "--watch"]) == 0
    shown = capsys.readouterr().out
    assert len(turns) == 2 and shown.count("3 of 4 cells are complete") == 2, (
        "what did not change is not repeated"
    )


def test_workers_say_who_they_were_and_leave_nothing_where_nothing_was_owed(finished: Path) -> None:
    found = read_workers(finished / "out")
    assert [(w.model, w.ended, w.finished, w.pid) for w in found] == [
        ("one", "done", 160, os.getpid()),
        ("two", "done", 160, os.getpid()),
    ]
    assert run(finished) == 0
    assert len(read_workers(finished / "out")) == 2


def test_how_a_run_ended_is_kept_for_programs_and_a_command_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f'cp "$HARNESS_END" {tmp_path}/told; echo "$HARNESS_STATUS $HARNESS_NAME" > {tmp_path}/status'
    fail = ["engine.args.fail=tool_parse", "--max-failures", "0.01", "--notify", command]
    monkeypatch.setenv("HARNESS_NOTIFY", "false")  # what the command line says comes first
    assert run(tmp_path, *fail) == Status.FAILURES
    end = json.loads((tmp_path / "out" / "end.json").read_text())
    assert (end["status"], end["meaning"][:24]) == (6, "everything was measured,")
    assert (end["cells"], end["complete"], end["attempts"], end["finished"]) == (4, 4, 320, 320)
    assert end["failures"] == {"tool_parse": 8} and end["problems"] == []
    assert json.loads((tmp_path / "told").read_text()) == end
    assert (tmp_path / "status").read_text() == "6 digits\n"
    assert run(tmp_path, "engine.args.fail=tool_parse", "--max-failures", "0.025") == 0
    monkeypatch.setenv("HARNESS_NOTIFY", "exit 3")
    assert run(tmp_path, "engine.args.fail=tool_parse") == 0
    assert "the command of --notify ended with status 3" in capsys.readouterr().err


def test_progress_for_programs_is_one_object_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, CONFIG)
    assert main(["run", str(path), "--out", str(tmp_path / "out"), "--log", "json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = [(line["event"], line.get("model")) for line in said if line["event"] != "note"]
    assert events == [
        ("begun", "one"), ("loaded", "one"), ("ended", "one"),
        ("begun", "two"), ("loaded", "two"), ("ended", "two"), ("end", None),
    ]  # fmt: skip
    assert said[2]["done"] == {"few": 40, "many": 120} and said[2]["tokens"] > 0
    assert said[-1]["status"] == 0 and said[-1]["finished"] == 320
    assert all(line["time"].endswith("+00:00") for line in said)


def test_a_share_of_failures_is_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "demo", "--max-failures", "5"])
    assert "expected a share from 0 to 1, such as 0.05" in capsys.readouterr().err


def test_a_model_that_never_began_ends_nothing() -> None:
    out = io.StringIO()
    JsonProgress(out).close()
    assert out.getvalue() == ""


def test_a_worker_may_take_its_file_away_or_replace_it_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS has it: what was replaced is a stale handle, which the name no longer leads to."""
    for writer in ("a", "b"):
        write_worker(tmp_path, writer, worker())
    read, failing = Path.read_bytes, [errno.ENOENT, errno.ESTALE]

    def read_bytes(path: Path) -> bytes:
        if failing:
            number = failing.pop(0)
            raise OSError(number, os.strerror(number))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert len(read_workers(tmp_path)) == 1 and not failing
    failing += [errno.ESTALE] * 2
    with pytest.raises(UserError, match="cannot be read"):
        read_workers(tmp_path)
    failing[:] = [errno.EACCES]
    with pytest.raises(UserError, match="cannot be read"):
        read_workers(tmp_path)
