"""What a program can do in the sandbox, and above all what it cannot."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.suites import sandbox
from harness.suites.sandbox import CodeEval, Limits, Verdict, pass_at_k


@pytest.fixture(scope="module", autouse=True)
def available() -> None:
    try:
        sandbox.check_available()
    except UserError as error:
        pytest.skip(str(error))


def outcome(program: str, **limits: float) -> Verdict:
    return sandbox.run(program, Limits(**limits))


SUM = "def add(a, b):\n    return a + b\n"


def test_right_and_wrong_programs() -> None:
    assert outcome(f"{SUM}assert add(2, 3) == 5") == Verdict(passed=True, result="passed")
    assert outcome(f"{SUM}assert add(2, 3) == 6").result == "failed: AssertionError"
    assert outcome("def add(a, b").result.startswith("failed: SyntaxError")
    assert outcome("import math, re, collections, heapq, typing").passed


@pytest.mark.parametrize(
    "leave",
    [
        "raise SystemExit(0)",
        "import os; os._exit(0)",
        "import sys; sys.exit()",
        "print('passed\\n')",
        "import os; os.write(1, b'passed'); os._exit(0)",
        "import posix; posix.abort()",
    ],
)
def test_leaving_early_is_not_passing(leave: str) -> None:
    assert not outcome(f"{leave}\nassert False").passed


@pytest.mark.parametrize("forged", [0, 1, 2, 3, 4])
def test_saying_that_it_passed_is_not_passing(forged: int) -> None:
    program = f"import os\ntry:\n    os.write({forged}, b'passed\\n' + b'0' * 32)\nfinally:\n    os._exit(0)"
    assert not outcome(program).passed


def test_no_files_but_pythons(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("word")
    here = Path(__file__)
    for path in (secret, here, here.parent, Path.home(), "/etc/passwd", "/proc/1/environ"):
        assert not outcome(f"import io; assert io.open({str(path)!r}).read()").passed, path
    for folder in (tmp_path, here.parent, "/home", "/etc/ssl"):
        assert not outcome(f"import posix; assert posix.listdir({str(folder)!r})").passed, folder


def test_the_home_folder_is_not_there() -> None:
    """But for the folders above Python's own, where it was installed in there: those are empty."""
    known = [str(path) for path in sandbox._python_folders()]
    program = f"""
import posix
for path, _, files in __import__('os').walk({str(Path.home())!r}):
    if not any(path.startswith(known) for known in {known!r}):
        assert not files, path
"""
    assert outcome(program).passed
    assert not outcome(f"import posix; assert posix.listdir({str(Path.home() / '.ssh')!r})").passed


def test_nothing_can_be_written_but_in_tmp() -> None:
    assert outcome("open('/tmp/x', 'w').write('x')").passed
    for folder in ("/", "/usr", "/proc", "/dev/shm", str(Path(os.__file__).parent)):
        assert not outcome(f"open({folder + '/x'!r}, 'w').write('x')").passed, folder


def test_programs_share_nothing() -> None:
    assert outcome("open('/tmp/left', 'w').write('x')").passed
    assert not outcome("open('/tmp/left').read()").passed


def test_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert outcome("import os; assert 'HF_TOKEN' not in os.environ").passed


def test_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)"
        assert "Error" in outcome(connect).result
    assert "Error" in outcome("import socket; socket.create_connection(('1.1.1.1', 53), timeout=2)").result
    # Abstract sockets have no path that could be hidden.
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0harness-test")
        abstract.listen()
        reach = "import socket; socket.socket(socket.AF_UNIX).connect('\\0harness-test')"
        assert "Error" in outcome(reach).result


def test_time_is_limited() -> None:
    started = time.monotonic()
    assert outcome("while True: pass", seconds=0.5).result == "timed out"
    # Catching what ends it does not help either.
    stubborn = "while True:\n  try:\n    while True: pass\n  except BaseException: pass"
    assert not outcome(stubborn, seconds=0.5).passed
    assert time.monotonic() - started < 2 * (0.5 + sandbox.GRACE_SECONDS)


def test_memory_is_limited() -> None:
    assert outcome("x = bytearray(64 << 20)").passed
    assert outcome("x = bytearray(2 << 30)").result.startswith("failed: MemoryError")


def test_disk_is_limited() -> None:
    fill = "f = open('/tmp/x', 'wb')\nfor _ in range(100): f.write(bytes(1 << 20)); f.flush()"
    assert "No space left" in outcome(fill).result


def test_a_fork_bomb_stays_small_and_ends() -> None:
    bomb = "import posix\nmade = 0\ntry:\n  for _ in range(200):\n    if posix.fork() == 0:\n"
    bomb += "      while True: pass\n    made += 1\nexcept BlockingIOError: pass\nassert made < 20, made"
    before = busy_pythons()
    assert outcome(bomb, seconds=2).passed
    time.sleep(0.2)
    assert busy_pythons() <= before
    assert "fork" in outcome("import os; os.fork()").result or not outcome("import os; os.fork()").passed


def busy_pythons() -> int:
    """Processes that run the sandbox's runner."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found += b"take_away()" in (folder / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def test_others_cannot_be_killed() -> None:
    program = f"import posix, signal\nposix.kill({os.getpid()}, signal.SIGKILL)"
    assert not outcome(program).passed
    everyone = "import posix, signal\nposix.kill(-1, signal.SIGKILL)"
    assert not outcome(everyone + "\nassert False").passed
    parent = "import posix, signal\nposix.kill(posix.getppid(), signal.SIGKILL)\nassert False"
    assert not outcome(parent).passed
    assert outcome("import posix; assert len([p for p in posix.listdir('/proc') if p.isdigit()]) < 5").passed


def test_privileges_cannot_be_had() -> None:
    assert not outcome("import posix; posix.setuid(0)").passed
    assert outcome("import posix; assert posix.getuid() != 0").passed
    mount = "import ctypes; assert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0"
    assert not outcome(mount).passed


def test_output_is_thrown_away() -> None:
    assert outcome("for _ in range(20): print('x' * (1 << 20))").passed
    assert outcome("import os\nfor _ in range(100): os.write(2, b'x' * (1 << 16))").passed


def test_hostile_texts() -> None:
    assert outcome("x = '\ud800'").result.startswith("failed: UnicodeEncodeError")
    assert not outcome("\0").passed
    assert "failed" in outcome("raise ValueError('\ud800' * 10_000)").result


@pytest.mark.parametrize(
    ("n", "passed", "k", "expected"), [(1, 1, 1, 1.0), (5, 0, 2, 0.0), (4, 2, 2, 5 / 6), (10, 3, 1, 0.3)]
)
def test_pass_at_k(n: int, passed: int, k: int, expected: float) -> None:
    assert pass_at_k(n, passed, k) == pytest.approx(expected)


def test_code_eval_answers_as_the_metric_does() -> None:
    found, results = CodeEval().compute(
        references=["assert add(2, 3) == 5"], predictions=[[SUM, SUM.replace("+", "*")]], k=[1, 2, 3]
    )
    assert found == {"pass@1": 0.5, "pass@2": 1.0}
    assert [row["passed"] for _, row in results[0]] == [True, False]
    json.dumps(results)


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.bwrap.cache_clear()
    sandbox.check_available.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    try:
        with pytest.raises(UserError, match="bubblewrap alone, which is not installed"):
            sandbox.run("pass")
    finally:
        sandbox.bwrap.cache_clear()
        sandbox.check_available.cache_clear()
