"""What a program can do in the sandbox, and above all what it cannot."""

import json
import os
import socket
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import AttemptFailure
from harness.sandbox import programs as sandbox
from harness.sandbox.programs import CodeEval, Limits, Verdict

pytestmark = pytest.mark.usefixtures("sandboxed")

PASSED = Verdict(passed=True, result="passed")
SUM = "def add(a, b):\n    return a + b\n"


def outcome(program: str, tests: str = "", **limits: float) -> Verdict:
    return sandbox.run(program, tests, Limits(**limits))


def test_right_and_wrong_programs() -> None:
    assert outcome(SUM, "assert add(2, 3) == 5") == PASSED
    assert outcome(SUM, "assert add(2, 3) == 6").result == "failed: AssertionError"
    assert outcome(SUM, "assert sub(2, 3) == 6").result == "failed: NameError name 'sub' is not defined"
    assert outcome("def add(a, b").result.startswith("failed: SyntaxError")
    assert outcome("def f(x): return {}[x]", "f('a')").result == "failed: KeyError 'a'"
    assert outcome("import math, re, collections, heapq, typing") == PASSED


HONEST = [
    # data of every kind, there and back
    (
        "def f(x): return x",
        "for x in (None, True, -1, 1 << 80, 0.1, 'é\\ud800', b'x', 1j, range(3)): assert f(x) == x",
    ),
    ("def f(x): return x", "assert f([(1, {2: {3}}), frozenset('a')]) == [(1, {2: {3}}), frozenset('a')]"),
    ("def f(x): return x", "assert f((1,)) == [1]"),
    ("def f(): return float('nan'), float('inf')", "a, b = f(); assert a != a and b > 1e308"),
    ("def f(): return True", "assert f() is True"),
    ("def f(): return 10 ** 5000", "assert f() == 10 ** 5000"),
    ("from fractions import Fraction\ndef f(): return Fraction(1, 2)", "assert f() == 0.5"),
    ("from decimal import Decimal\ndef f(): return Decimal('0.5')", "assert f() == 0.5"),
    ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
    ("from collections import OrderedDict as D\ndef f(): return D(a=1)", "assert f() == {'a': 1}"),
    (
        "from collections import deque\ndef f(): return deque([1])",
        "assert list(f()) == [1] and len(f()) == 1",
    ),
    ("from collections import deque\ndef f(): return deque([1])", "assert f() == [1]"),
    ("from collections import deque\ndef f(): return deque()", "assert not f()"),
    (
        "from collections import namedtuple\nP = namedtuple('P', 'x')\ndef f(): return P(1)",
        "assert f() == (1,)",
    ),
    ("from enum import IntEnum\nclass E(IntEnum):\n  A = 1\ndef f(): return E.A", "assert f() == 1"),
    (
        "import numpy\ndef f(): return numpy.float32(0.1), numpy.int64(2)",
        "a, b = f(); assert b == 2 and a == 0.1",
    ),
    ("import numpy\ndef f(): return numpy.arange(3)", "assert f().sum() == 3 and f().shape == (3,)"),
    ("import numpy\ndef f(): return numpy.arange(3)", "assert f() == [0, 1, 2]"),
    # what is no data
    ("def f():\n  yield 1\n  yield 2", "assert list(f()) == [1, 2]"),
    ("def f():\n  yield 1", "assert f() == [1]"),
    ("def f():\n  while True: yield 1", "assert next(f()) == 1"),
    ("def f(x): return map(str, x)", "assert list(f(range(2))) == ['0', '1']"),
    ("def f(x): return sum(x)", "assert f(i for i in range(3)) == 3"),
    ("def f(d): return d.keys()", "assert f({1: 2}) == {1}"),
    ("import re\ndef f(x): return re.match('a', x)", "assert f('ab') and not f('b')"),
    ("def f(n): return lambda x: x + n", "assert f(1)(2) == 3"),
    (
        "class P:\n  def __init__(self, x): self.x = x\ndef f(ps): return [p.x for p in ps]",
        "assert f([P(1), P(2)]) == [1, 2]",
    ),
    (
        "class P:\n  def __init__(self, x): self.x = x\n  def up(self): self.x += 1",
        "p = P(1); p.up(); assert p.x == 2",
    ),
    (
        "class P:\n  def __init__(self, x): self.x = x\n  def __eq__(s, o): return s.x == o.x",
        "assert P(1) == P(1)",
    ),
    ("class P: pass", "assert P() == P()"),
    # names
    ("def sum(a, b): return a - b", "assert sum(2, 1) == 1"),
    ("import math\ndef f(): return 1", "assert math.fabs(-f()) == 1"),
    ("def f(x): return np.sum(x)", "import numpy as np\nassert f([1, 2]) == 3"),
    (
        "def f(x): return x\ndef g(x): return x",
        "def check(c):\n  for x in range(3): assert c(x) == g(x)\ncheck(f)",
    ),
    ("N = 3", "assert N == 3"),
    ("def f(a, *, b=1): return a + b", "assert f(1, b=2) == 3"),
    ("if __name__ == '__main__': 1 / 0", "assert True"),
    # arguments that are changed in place
    ("def f(x): x.sort()", "x = [2, 1]; f(x); assert x == [1, 2]"),
    ("def f(x): x.clear()", "x = {1: 2}; f(x); assert x == {}"),
    ("def f(x): x[0].append(1)", "x = [[]]; f(x); assert x == [[1]]"),
    ("def f(x): x = [3]", "x = [2]; f(x); assert x == [3]"),
    # exceptions
    (
        "def f(): raise ValueError('no')",
        "try: f()\nexcept ValueError as e: assert str(e) == 'no'\nelse: assert False",
    ),
    ("def f(): raise KeyError('a')", "try: f()\nexcept LookupError: pass"),
    ("class E(Exception): pass\ndef f(): raise E", "try: f()\nexcept ValueError: pass"),
    ("def f(x): return f(x)", "assert f(1) == 1"),
    ("def f(): import os; os.remove('x')", "f()"),
    ("raise SystemExit(0)", "assert True"),
]


@pytest.mark.parametrize(("program", "tests"), HONEST)
def test_verdicts_are_those_of_one_process(program: str, tests: str) -> None:
    """As `code_eval` has it: program and tests in one text, which must raise nothing."""
    removed = os.remove
    try:
        os.remove = None  # type: ignore[assignment]
        exec(f"{program}\n{tests}", {})
        expected = True
    except BaseException:
        expected = False
    finally:
        os.remove = removed
    assert outcome(program, tests).passed == expected


def test_tests_that_cannot_be_run_are_no_verdict() -> None:
    with pytest.raises(AttemptFailure, match="the tests hand the program a function"):
        outcome("def f(x): return x(1)", "assert f(lambda x: x) == 1")


def test_sets_have_one_order() -> None:
    tests = f"assert f() == {outcome_of_set()!r}"
    assert outcome(SET, tests) == PASSED


SET = "def f(): return list({'a', 'b', 'c', 'd', 'e', 'f', 'g'})"


def outcome_of_set() -> list[str]:
    """The order under PYTHONHASHSEED=0, which differs from most others."""
    import subprocess
    import sys

    said = subprocess.run(
        [sys.executable, "-c", f"{SET}\nimport json; print(json.dumps(f()))"],
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        check=True,
    )
    found: list[str] = json.loads(said.stdout)
    return found


def test_no_files_but_pythons(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("word")
    here = Path(__file__)
    absent = "FileNotFoundError|PermissionError"
    for path in (secret, here, Path.home() / ".bashrc", "/etc/passwd", "/etc/shadow"):
        refused(f"open({str(path)!r}).read()", absent)
    for folder in (tmp_path, here.parent, "/home", "/etc/ssl", Path.home() / ".ssh", Path.home() / ".cache"):
        refused(f"import os; os.listdir({str(folder)!r})", absent)
    refused("assert open('/proc/1/environ').read(), 'empty'", "PermissionError|empty")
    refused(f"open('/proc/1/root' + {str(secret)!r}).read()", absent)


def refused(program: str, why: str) -> None:
    """The program's last line was reached, and ended in one of these."""
    result = outcome(program).result
    assert any(word in result for word in why.split("|")), (program, result)


def test_the_home_folder_is_not_there() -> None:
    """But for the folders above Python's own, where it was installed in there: those are empty."""
    known = [str(path) for path in sandbox._python_folders()]
    program = f"""
import os
for path, _, files in os.walk({str(Path.home())!r}):
    if not any(path.startswith(known) for known in {known!r}):
        assert not files, path
"""
    assert outcome(program) == PASSED


def test_nothing_can_be_written_but_in_tmp() -> None:
    assert outcome("open('/tmp/x', 'w').write('x')") == PASSED
    for folder in ("/", "/usr", "/proc", "/dev/shm", str(Path(os.__file__).parent)):
        refused(f"open({folder + '/x'!r}, 'w').write('x')", "Read-only|PermissionError|FileNotFoundError")


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_python_may_lie_where_the_sandbox_has_folders_of_its_own(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        venv.create(inside, symlinks=True)
        monkeypatch.setattr(sys, "prefix", inside)
        monkeypatch.setattr(sys, "executable", f"{inside}/bin/python")
        assert outcome(f"import sys\nassert sys.prefix == {inside!r}, sys.prefix") == PASSED
        refused(f"open({inside + '/x'!r}, 'w')", "Read-only|PermissionError|FileNotFoundError")
        refused(f"open({folder + '/x'!r}, 'w').write('a' * (1 << 27))", "No space left|Read-only")


def test_programs_share_nothing() -> None:
    assert outcome("open('/tmp/left', 'w').write('x')") == PASSED
    refused("open('/tmp/left').read()", "FileNotFoundError")
    # Nor do a program and its tests.
    assert outcome("open('/tmp/left', 'w').write('x')", "import os; assert not os.listdir('/tmp')") == PASSED


def test_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert outcome("import os; assert 'HF_TOKEN' not in os.environ") == PASSED
    # Where the program's user is not the one that started Python, it cannot even read its own.
    outright = "try: found = open('/proc/self/environ').read()\nexcept PermissionError: found = ''"
    assert outcome(outright, "assert 'secret' not in found") == PASSED


def test_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused(
            f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)", "Refused|Unreach"
        )
        with pytest.raises(BlockingIOError):
            server.setblocking(False)
            server.accept()
    refused("import socket; socket.create_connection(('1.1.1.1', 53), timeout=2)", "unreachable")
    refused("import socket; socket.getaddrinfo('example.com', 80)", "gaierror")
    interfaces = "import socket; found = [name for _, name in socket.if_nameindex()]"
    assert outcome(interfaces, "assert set(found) <= {'lo', 'sit0', 'tunl0', 'ip6tnl0'}") == PASSED
    # Abstract sockets have no path that could be hidden.
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0harness-{os.getpid()}")
        abstract.listen()
        reach = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0harness-{os.getpid()}')"
        refused(reach, "ConnectionRefused")


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        # Catching what ends it, and asking for no signals.
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ntime.sleep(60)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ntime.sleep(60)",
        "10 ** 10 ** 9",
    ],
)
def test_time_is_limited_and_nothing_outlives_it(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "GRACE_SECONDS", 3000.0)
    started = time.monotonic()
    with descendants() as seen:
        assert outcome(program, seconds=0.5).result == "timed out"
    assert time.monotonic() - started < 600, "it was ended by the last resort"
    assert len(seen) >= 4, "two sandboxes of two processes each"
    assert not alive(seen)


def test_threads_left_behind_do_not_outlive_a_verdict() -> None:
    program = "from threading import Thread\nimport time\ndef f():\n"
    program += "  Thread(target=time.sleep, args=(60,)).start()\n  return 1"
    with descendants() as seen:
        assert outcome(program, "assert f() == 1") == PASSED
    assert seen
    assert not alive(seen)


def alive(found: dict[int, int]) -> list[int]:
    """Processes that have not ended; what the kernel is still clearing away gets a moment."""
    for _ in range(50):
        left = [pid for pid, born in found.items() if born_at(pid) == born]
        if not left:
            break
        time.sleep(0.02)
    return left


@contextmanager
def descendants(peak: list[int] | None = None) -> Iterator[dict[int, int]]:
    """Processes under this thread's process that begin while inside, with their birth.

    Args:
        peak: gets the bytes of memory that they had, at each look.
    """
    found: dict[int, int] = {}
    stop, before = threading.Event(), set(below(os.getpid()))

    def look() -> None:
        while not stop.wait(0.01):
            now = [pid for pid in below(os.getpid()) if pid not in before]
            found.update({pid: born for pid in now if (born := born_at(pid)) is not None})
            if peak is not None:
                peak.append(sum(map(resident, now)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def below(root: int) -> list[int]:
    """Processes that descend from one."""
    parents = {pid: int(fields[1]) for pid in pids() if (fields := stat(pid))}
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found[1:]


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; none for a process that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def born_at(pid: int) -> int | None:
    fields = stat(pid)
    return int(fields[19]) if fields else None


def resident(pid: int) -> int:
    fields = stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


CHECK = """
import ctypes, os, posix
C = ctypes.CDLL(None, use_errno=True)
def check(n):
    if n < 0: raise PermissionError(ctypes.get_errno(), 'refused')
"""
MAKE_PROCESSES = [
    "posix.fork()",
    "posix.forkpty()",
    "posix.posix_spawn('/bin/sh', ['sh'], {})",
    "check(C.fork())",
    "check(C.vfork())",
    "check(C.syscall(FORK))",
    "check(C.syscall(VFORK))",
    "check(C.syscall(CLONE, 17, 0, 0, 0, 0))",
    "check(C.syscall(435, bytes(88), 88))",
    "check(-C.system(b'true'))",
    "check(C.unshare(0x10000000))",
]
NUMBERS = {
    "x86_64": {"CLONE": 56, "VFORK": 58, "FORK": 57},
    "aarch64": {"CLONE": 220, "VFORK": 220, "FORK": 220},
}


@pytest.mark.parametrize("way", MAKE_PROCESSES)
def test_a_program_is_one_process(way: str) -> None:
    for name, number in NUMBERS[os.uname().machine].items():
        way = way.replace(name, str(number))
    assert outcome(CHECK + way).result.startswith("failed: PermissionError")


def test_a_fork_bomb_makes_nothing() -> None:
    bomb = """
import posix
made = 0
for _ in range(1000):
    try:
        posix.fork()
        made += 1
    except PermissionError:
        pass
"""
    with descendants() as seen:
        assert outcome(bomb, "assert made == 0") == PASSED
    # Two sandboxes, each of them bubblewrap outside, bubblewrap inside and Python.
    assert len(seen) <= 6


def test_threads_are_few() -> None:
    bomb = """
import threading, time
made = 0
try:
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        made += 1
except RuntimeError:
    pass
"""
    assert outcome(bomb, "assert 4 <= made < 16, made") == PASSED


def test_memory_is_limited() -> None:
    assert outcome("x = bytearray(64 << 20)") == PASSED
    assert outcome("x = bytearray(2 << 30)").result.startswith("failed: MemoryError")


def test_memory_is_limited_whatever_it_is_taken_with() -> None:
    """All that both sandboxes take, as the machine sees it, while a program tries every way to get more."""
    greedy = f"""
import ctypes, mmap, posix, threading, time
{CHECK}
kept, refused = [], []
def grow():
    try:
        while True:
            kept.append(bytearray(b'x') * (8 << 20))
    except MemoryError:
        pass
def attempt(make):
    try:
        kept.append(make())
    except OSError:
        refused.append(1)
    except (MemoryError, ValueError):
        pass
C = ctypes.CDLL(None, use_errno=True)
for _ in range(8):
    attempt(posix.fork)
    attempt(lambda: os.memfd_create('x'))
    attempt(lambda: check(C.shmget(0, 64 << 20, 0o1600)))
    attempt(lambda: check(C.msgget(0, 0o1600)))
try:
    for _ in range(4):
        threading.Thread(target=grow, daemon=True).start()
except RuntimeError:
    pass  # the first ones left no room for its stack
grow()
time.sleep(0.2)
count = len(refused)
del kept[:]
"""
    limit, peak = 256 << 20, [0]
    with descendants(peak):
        assert outcome(greedy, "assert count == 32, count", memory_bytes=limit) == PASSED
    assert limit / 2 < max(peak) < limit + SLACK


SLACK = 96 << 20
"""Of the Python that runs the tests, and of bubblewrap."""


def test_disk_is_limited() -> None:
    fill = """
import errno
written = 0
try:
    with open('/tmp/x', 'wb', buffering=0) as f:
        while written < 1 << 30:
            written += f.write(bytes(1 << 20))
except OSError as error:
    full = error.errno == errno.ENOSPC
"""
    assert outcome(fill, f"assert full and written <= {Limits().disk_bytes}, written") == PASSED


def test_others_cannot_be_killed() -> None:
    """The program, its tests and this process all go on after an attempt on each process in reach."""
    kill = f"""
import os, posix, signal
unknown = []
for pid in (1, posix.getppid(), -1, {os.getpid()}, {os.getppid()}, *range(3, 400)):
    if pid != posix.getpid():
        try:
            posix.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            unknown.append(pid)
        except PermissionError:
            pass
def processes(): return [int(p) for p in os.listdir('/proc') if p.isdigit()]
"""
    tests = f"assert {os.getpid()} in unknown\nassert len(processes()) == 2, processes()"
    assert outcome(kill, tests) == PASSED


def test_privileges_cannot_be_had() -> None:
    refused("import posix; posix.setuid(0)", "PermissionError|OSError")
    assert outcome("import posix; ids = posix.getresuid()", "assert 0 not in ids") == PASSED
    mount = CHECK + "check(ctypes.CDLL(None, use_errno=True).mount(b'none', b'/tmp', b'tmpfs', 0, None))"
    refused(mount, "refused")
    trace = CHECK + "check(ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0))"
    refused(trace, "refused")


def test_output_is_thrown_away() -> None:
    assert outcome("for _ in range(20): print('x' * (1 << 20))") == PASSED
    assert outcome("import os\nfor _ in range(100): os.write(2, b'x' * (1 << 16))") == PASSED
    # And as an answer it is cut off.
    huge = outcome("def f(): return 'x' * (1 << 27)", "assert f()")
    assert huge.result.startswith("failed: EOFError")


def test_hostile_texts() -> None:
    assert outcome("x = '\ud800'").result.startswith("failed: UnicodeEncodeError")
    assert outcome("\0").result.startswith(("failed: SyntaxError", "failed: ValueError"))
    assert len(outcome("raise ValueError('\\ud800' * 10_000)").result) <= 200


def test_code_eval_answers_as_the_metric_does() -> None:
    found, results = CodeEval().compute(
        references=["assert add(2, 3) == 5"], predictions=[[SUM, SUM.replace("+", "*")]], k=[1, 2, 3]
    )
    assert found == {"pass@1": 0.5, "pass@2": 1.0}
    assert [row["passed"] for _, row in results[0]] == [True, False]
    json.dumps(results)


def test_the_tests_have_modules_of_their_own_whatever_the_program_made_of_its() -> None:
    cheat = "import math\nmath.isclose = lambda *a, **k: True\ndef f(): return 2"
    assert outcome(cheat, "assert math.isclose(f(), 1)").result.startswith("failed: AssertionError")
    named = "class math:\n    pi = 3\n    __name__ = 'math'\ndef f(): return 3"
    assert outcome(named, "assert math.pi == f()") == PASSED
    other = "import os as math\ndef f(): return 1"
    assert outcome(other, "assert math.fabs(f()) == 1").result.startswith("failed: AttributeError")
