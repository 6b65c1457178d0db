import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.engines.vllm.orphans import Guard

PARENT = """
import multiprocessing, os, sys, time
from harness.engines.vllm.orphans import Guard

if __name__ == "__main__":
    guard = Guard("Core")
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(900,), name="Core_1")
    child.start()
    guard.watch()
    guard.watch()
    if sys.argv[1] == "closed":
        guard.close()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def start_parent(folder: Path, mode: str) -> tuple[subprocess.Popen[str], int]:
    script = folder / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), mode], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        # An orphan may stay as a zombie where nobody collects it.
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    parent, child = start_parent(tmp_path, "guarded")
    with parent:
        parent.kill()
    assert ends_within(child, 300)


def test_children_of_a_closed_guard_are_let_be(tmp_path: Path) -> None:
    parent, child = start_parent(tmp_path, "closed")
    with parent:
        parent.kill()
    assert not ends_within(child, 0.5)
    os.kill(child, signal.SIGKILL)


def test_only_new_children_with_the_name_are_guarded() -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=time.sleep, args=(900,), name=name) for name in ("Core_0", "Core_1", "X")
    ]
    processes[0].start()
    guard = Guard("Core")
    for process in processes[1:]:
        process.start()
    assert [child.name for child in guard.children()] == ["Core_1"]
    guard.terminate()
    processes[1].join(300)
    assert processes[1].exitcode == -signal.SIGTERM
    assert guard.children() == []
    guard.close()
    for process in (processes[0], processes[2]):
        assert process.is_alive()
        process.kill()
        process.join()
