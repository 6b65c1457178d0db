"""Programs that want to pass without solving anything, by somebody who has read how the sandbox is made.

None of them defines an `add` that adds. Each test says how its program ends, so that one that never came to
its attempt is not taken for one that failed at it.
"""

import secrets

import pytest

from harness.errors import AttemptFailure
from harness.sandbox import programs as sandbox
from harness.sandbox.programs import Limits, Verdict

pytestmark = pytest.mark.usefixtures("sandboxed")

TESTS = "assert add(2, 3) == 5\nassert add(4, 4) == 8"
WRONG = "failed: AssertionError"
"""The tests went on after the attempt, and compared for themselves."""
GONE = "failed: EOFError the program ended before its tests"


def outcome(program: str, tests: str = TESTS) -> Verdict:
    return sandbox.run(program, tests, Limits(seconds=2))


def in_add(attempt: str) -> str:
    """A program that makes its attempt when it is called."""
    lines = "".join(f"    {line}\n" for line in attempt.splitlines())
    return f"def add(a, b):\n{lines}    return -1\n"


def at_once(attempt: str) -> str:
    """A program that makes its attempt when it is defined."""
    return f"{attempt}\ndef add(a, b): return -1\n"


LEAVING = {
    "import os; os._exit(0)": GONE,
    "import sys; sys.exit(0)": "failed: SystemExit 0",
    "import sys; sys.exit()": "failed: SystemExit",
    "raise SystemExit": "failed: SystemExit",
    "raise KeyboardInterrupt": "failed: KeyboardInterrupt",
    "raise GeneratorExit": "failed: GeneratorExit",
    "raise StopIteration": "failed: StopIteration",
    "import posix; posix.abort()": GONE,
    "import signal; signal.raise_signal(signal.SIGKILL)": GONE,
    "import signal; signal.raise_signal(signal.SIGALRM)": GONE,
    "import posix; posix.execv('/bin/true', ['true'])": GONE,
    "import posix; posix.execv('/bin/echo', ['echo', 'passed'])": GONE,
    "import atexit, os; atexit.register(os._exit, 0)": WRONG,
    "import sys; sys.excepthook = lambda *a: None": WRONG,
    "print('ready\\npassed')": WRONG,
    "class TimedOut(BaseException): pass\nraise TimedOut": "failed: TimedOut",
    "class Unsendable(BaseException): pass\nraise Unsendable('x')": "failed: Unsendable x",
    "e = type('passed', (Exception,), {})\nraise e": "failed: passed",
    "e = type('ready\\npassed', (Exception,), {})\nraise e('\\npassed')": "failed: ready passed passed",
}


@pytest.mark.parametrize("wrap", [at_once, in_add])
@pytest.mark.parametrize(("leave", "result"), LEAVING.items())
def test_leaving_is_not_passing(leave: str, result: str, wrap: object) -> None:
    assert callable(wrap)
    assert outcome(wrap(leave)) == Verdict(passed=False, result=result)


PATCHES = [
    "import builtins; builtins.AssertionError = type('Fine', (Exception,), {})",
    "import builtins; builtins.exec = builtins.compile = lambda *a, **k: None",
    "import builtins; builtins.isinstance = lambda *a: True",
    "import builtins; builtins.BaseException = ZeroDivisionError",
    "import json; json.loads = lambda *a: ['value', 5, []]",
    "import operator; operator.eq = lambda *a: True",
    "import __main__; __main__.judge = lambda *a: 'passed'",
    "import __main__; __main__.Handle.__eq__ = lambda *a: True",
    "import __main__; __main__.decode = lambda *a: 5",
    "import sys; sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
    "import threading, os; threading.Thread(target=print, args=('passed',)).start()",
    "import ctypes; ctypes.memset(id(-1) + 24, 5, 1)",
]


@pytest.mark.parametrize("wrap", [at_once, in_add])
@pytest.mark.parametrize("patch", PATCHES)
def test_a_program_patches_only_itself(patch: str, wrap: object) -> None:
    """Whatever it breaks on its own side, an answer that is wrong is found to be so."""
    assert callable(wrap)
    found = outcome(wrap(patch), tests="assert add(2, 3) == 'five'")
    assert not found.passed
    assert found.result.startswith("failed: ")


@pytest.mark.parametrize("name", ["sorted", "abs", "list", "all", "len", "isinstance"])
def test_a_program_does_not_redefine_what_it_is_compared_with(name: str) -> None:
    tests = f"import builtins\nassert {name} is builtins.{name}\nassert add(2, 3) == 5, 'compared'"
    assert outcome(f"def add(a, b): return -1\ndef {name}(*a): return True", tests).result.endswith(
        "compared"
    )
    assert outcome(f"def add(a, b): return a + b\ndef {name}(*a): return True", tests).passed


EQUAL_TO_ALL = [
    "class Yes:\n  def __eq__(self, other): return True\ndef add(a, b): return Yes()",
    "class Yes(int):\n  def __eq__(self, other): return True\ndef add(a, b): return Yes()",
    "class Yes(list):\n  def __eq__(self, other): return True\ndef add(a, b): return Yes()",
    "class M(type):\n  def __eq__(self, other): return True\n  __hash__ = None\n"
    "class Yes(metaclass=M): pass\ndef add(a, b): return Yes",
    "from unittest.mock import ANY\ndef add(a, b): return ANY",
]


@pytest.mark.parametrize("program", EQUAL_TO_ALL)
@pytest.mark.parametrize(
    "tests", [TESTS, "assert 5 == add(2, 3)", "assert not add(2, 3) != 5", "assert add(2, 3) in [5]"]
)
def test_equal_to_everything_is_equal_to_nothing(program: str, tests: str) -> None:
    assert outcome(program, tests).result == WRONG


SPEAK = """
import gc, json, os, stat
def say(*lines):
    for fd in range(64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, ''.join(line + chr(10) for line in lines).encode())
        except OSError:
            pass
"""
"""A program that writes to every pipe that it has: the one that its answers go through among them."""
SAID = {
    "passed": "failed: JSONDecodeError",
    "ready\npassed": "failed: JSONDecodeError",
    '"passed"': "failed: ValueError",
    '["value", "passed", []]': "failed: ",
    '["value", ["dict", [["add", -1]]], [null, null]]': "failed: TypeError 'int' object is not callable",
    # things that are no data
    '["value", ["dict", [["add", ["module", "harness"]]]], [null, null]]': "failed: KeyError",
    '["value", ["dict", [["add", ["module", "antigravity"]]]], [null, null]]': "failed: KeyError",
    '["value", ["dict", [["add", ["code", "print"]]]], [null, null]]': "failed: KeyError",
    '["value", ["dict", [["add", ["numpy", ["O", [1]]]]]], [null, null]]': "failed: ValueError",
    # what it was asked for, changed under the asker
    '["value", ["dict", []], [null, ["list", ["__builtins__"]]]]': "failed: NameError name 'add'",
    '["value", ["dict", []], []]': "failed: ValueError",
    '["raised", "TimedOut", ""]': "failed: TimedOut",
    '["raised", "exit", ""]': "failed: exit",
    '["raised", "__import__", "os"]': "failed: __import__ os",
    '["raised", "a\\u0000b", ""]': "failed: ValueError",
    "[" * 100_000: "failed: RecursionError",
    '["int", "' + "9" * 100 + '"]': "failed: ",
    "1" * 5000: "failed: ValueError",
}


@pytest.mark.parametrize(("line", "result"), SAID.items(), ids=range(len(SAID)))
def test_speaking_for_the_sandbox_is_not_passing(line: str, result: str) -> None:
    program = f"{SPEAK}say(*{line.splitlines()!r})\nimport time; time.sleep(5)"
    found = outcome(program)
    assert not found.passed
    assert found.result.startswith(result)


def test_the_pipes_of_a_program_were_found() -> None:
    """Else the test above would say nothing: a right answer that is said in this way is believed."""
    answers = [["value", ["dict", [["add", ["handle", 0]]]], [None, None]]] + [
        ["value", total, [None] * 3] for total in (5, 8)
    ]
    program = f"{SPEAK}say(*map(json.dumps, {answers!r}))\nimport time; time.sleep(5)"
    assert outcome(program).passed


@pytest.mark.parametrize("names", [None, ["list", ["__builtins__", "add", "len"]]])
def test_the_builtins_of_tests_are_their_own(names: object) -> None:
    """Neither by sending names that were not asked for, nor by changing what was asked for."""
    found = ["dict", [["__builtins__", ["dict", []]], ["len", -1], ["add", ["handle", 0]]]]
    answers = [["value", found, [None, names]], ["value", -1, [None] * 3]]
    program = f"{SPEAK}say(*map(json.dumps, {answers!r}))\nimport time; time.sleep(5)"
    tests = "assert len([1]) == 1, 'not its own'\nassert add(2, 3) == 5, 'compared'"
    assert outcome(program, tests).result == "failed: AssertionError compared"


BREAKING = [
    "def add(a, b): return 10 ** 8",
    "def add(a, b): return [[] for _ in range(9_000_000)]",
    f"{SPEAK}say('[\"value\", [' + '[],' * 16_000_000 + '[]]]')",
]


@pytest.mark.parametrize("program", BREAKING)
def test_who_breaks_the_tests_has_failed_them(program: str) -> None:
    """By an endless computation or too much data. It is a verdict, not a failure of the measurement."""
    found = outcome(program, "x = add(2, 3)\nassert 7 ** x == 5")
    assert not found.passed
    assert found.result.startswith(("timed out", "failed: "))


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(None, "timed out"), (152, "timed out"), (139, "failed: its tests broke down with status 139")],
)
def test_tests_that_ended_without_a_verdict(
    status: int | None, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_converse", lambda told, limits: ("ready\n", status))
    assert outcome("pass") == Verdict(passed=False, result=verdict)


@pytest.mark.parametrize(("said", "status"), [("", 1), ("", None), ("ready\n", 137)])
def test_a_sandbox_that_the_machine_ended_is_no_verdict(
    said: str, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_converse", lambda told, limits: (said, status))
    with pytest.raises(AttemptFailure, match="could not be tested"):
        outcome("pass")


SEARCH = r"""
import gc, os, re, stat, sys, __main__
PIPES = []

def of_main(): yield from map(repr, vars(__main__).values())

def of_frames():
    frame = sys._getframe()
    while frame:
        yield repr(frame.f_locals)
        yield repr(frame.f_globals)
        yield repr(frame.f_code.co_consts)
        frame = frame.f_back

def of_collector():
    for thing in gc.get_objects():
        if type(thing) in (list, tuple, dict, set):
            yield from (item for item in thing if type(item) is str)
            if type(thing) is dict:
                yield from (item for item in thing.values() if type(item) is str)

def of_closures():
    for thing in gc.get_objects():
        for cell in getattr(thing, '__closure__', None) or ():
            try:
                yield repr(cell.cell_contents)
            except ValueError:
                pass

def of_processes():
    for pid in os.listdir('/proc'):
        for name in ('cmdline', 'environ', 'mem', 'fd/0', 'fd/1', 'fd/3', 'fd/4', 'fd/5', 'cwd/x'):
            try:
                fd = os.open(f'/proc/{pid}/{name}', os.O_RDONLY | os.O_NONBLOCK)
                yield os.read(fd, 1 << 20).decode('latin1')
            except OSError:
                pass

def of_memory():
    import ctypes
    for line in open('/proc/self/maps'):
        found = re.match(r'(\w+)-(\w+) rw', line)
        if found and '[v' not in line:
            start, end = (int(part, 16) for part in found.groups())
            if end - start < 64 << 20:
                yield ctypes.string_at(start, end - start).decode('latin1')

def of_descriptors():
    for fd in range(64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.set_blocking(fd, False)
                yield os.read(fd, 1 << 20).decode('latin1')
        except OSError:
            pass

def of_files():
    for top in ('/tmp', '/dev/shm', '/run', '/var', '/etc', '/home', '/mnt'):
        for folder, _, names in os.walk(top):
            for name in names:
                try:
                    yield open(os.path.join(folder, name), errors='replace').read(1 << 16)
                except OSError:
                    pass

def find(way, word):
    local = word + ':' + 'c0' * 8
    def inner(): return local
    __main__.planted, PLANTED = local, [local, inner]
    open('/tmp/x', 'w').write(local)
    read, write = os.pipe()
    os.write(write, local.encode())
    for text in globals()['of_' + way]():
        found = re.search(word + r':([0-9a-f]{16})', text)
        if found and (word == 'planted' or found[1] != 'c0' * 8):
            return found[1]

def look(way): return find(way, 'planted')
def add(way):
    for found in globals()['of_' + way]():
        match = re.search('expect' + r'ed:([0-9a-f]{16})', found)
        if match:
            return match[0]
"""
WAYS = ["main", "frames", "collector", "closures", "processes", "memory", "descriptors", "files"]


@pytest.mark.parametrize("way", WAYS)
def test_what_tests_expect_is_nowhere_to_be_read(way: str) -> None:
    """The program answers with whatever looks like it; and the same search does find what is there."""
    expected = f"expected:{secrets.token_hex(8)}"
    assert outcome(SEARCH, f"assert add({way!r}) == {expected!r}").result == WRONG
    assert outcome(SEARCH, f"assert look({way!r}) == {'c0' * 8!r}").passed


def test_neither_tests_nor_judge_are_in_sight() -> None:
    """No process but the program's own and the first one of its namespace, and no pipe but the two."""
    program = """
import os
def processes(): return sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
def threads(): return len(os.listdir('/proc/self/task'))
def pipes():
    return len({os.fstat(fd).st_ino for fd in range(64) if is_pipe(fd)})
def is_pipe(fd):
    import stat
    try: return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError: return False
"""
    tests = "assert len(processes()) == 2, processes()\nassert threads() == 1\nassert pipes() == 2, pipes()"
    assert outcome(program, tests).passed


def test_a_list_can_be_changed_and_its_test_cannot() -> None:
    """A program may change what it is handed, and nothing else of the tests."""
    tests = "expected = [1]\ngiven = [2]\nadd(given)\nassert expected == [1] and given == expected"
    assert outcome("def add(x): x[:] = [1]", tests).passed
    assert outcome("def add(x): x[:] = [3]", tests).result == WRONG
