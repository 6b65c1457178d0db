"""A command whose own process is ended: one sentence, and the signals of whoever ends it on purpose."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import Status
from tests.conftest import ROOT

PROGRAM = """
import os, signal, sys
from pathlib import Path
from harness import cli, disk

def command(args):
    disk.check_regular(Path("records.parquet"))
    print(os.getpid(), flush=True)
    {body}

cli.results.verify_command = command
sys.exit(cli.main())
"""
WAITS = "signal.pause()"


def hear() -> None:
    """What runs in the background of a shell is started with SIGINT ignored, under nohup SIGHUP too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def begin(folder: Path, body: str, **options: object) -> subprocess.Popen[str]:
    """`harness verify`, whose body is another one; its first line is its process's number."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body), "verify", "run"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": hear, **options},  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL, signal.SIGBUS])
def test_a_process_that_is_ended_is_told_with_its_file(tmp_path: Path, number: signal.Signals) -> None:
    command = begin(tmp_path, f"print('half', end=''); os.kill(os.getpid(), {number:d})")
    _, said = command.communicate()
    assert command.returncode == Status.WRONG_INPUT
    how = f"ended by {number.name} as it read records.parquet: free memory"
    assert said.startswith(f"harness: the process of this command was {how}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("status", [0, 1, 3])
def test_its_status_and_output_are_those_of_the_command(tmp_path: Path, status: int) -> None:
    command = begin(tmp_path, f"print('all'); return {status}")
    out, said = command.communicate()
    assert (out.splitlines()[1:], said, command.returncode) == (["all"], "", status)


def first_line(command: subprocess.Popen[str]) -> int:
    assert command.stdout is not None
    return int(command.stdout.readline())


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (
            signal.SIGINT,
            Status.INTERRUPTED,
            "harness: stopped; what is finished is kept, the same command resumes\n",
        ),
        (signal.SIGTERM, -signal.SIGTERM, ""),
        (signal.SIGHUP, -signal.SIGHUP, ""),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_a_signal_ends_both_processes(tmp_path: Path, number: signal.Signals, status: int, said: str) -> None:
    command = begin(tmp_path, WAITS)
    child = first_line(command)
    assert child != command.pid
    command.send_signal(number)
    assert command.communicate(timeout=300) == ("", said)  # not before both have closed their output
    assert command.returncode == status


def test_a_key_in_the_terminal_is_told_once(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = begin(
        tmp_path, WAITS, stdin=theirs, stderr=theirs, start_new_session=True, preexec_fn=take_terminal
    )
    os.close(theirs)
    first_line(command)
    os.write(ours, b"\x03")
    assert command.wait(timeout=300) == Status.INTERRUPTED
    said = os.read(ours, 1000).decode()
    os.close(ours)
    assert command.stdout is not None
    command.stdout.close()
    assert said.count("harness: stopped") == 1 and "Traceback" not in said


def take_terminal() -> None:
    import fcntl
    import termios

    hear()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
