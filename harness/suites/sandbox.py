"""Running code that a model wrote: in bubblewrap, or not at all.

A program gets a process tree of its own with no network, none of the machine's files but Python's
(read-only), an empty /tmp of limited size, no environment, no privileges, and limits on time, memory,
processes and file sizes. Nothing that it prints is kept. It has passed if its last line was reached: the
runner around it then says a secret word that it was given, so neither leaving early nor printing counts.

`CodeEval` stands in for the metric `code_eval` of the package `evaluate`, which runs programs in the process
that evaluates. Verdicts are the same: like that metric, the runner takes functions such as os.remove out of
the program's reach before it starts. That is for equal verdicts; what protects the machine is the sandbox.
"""

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import UserError
from harness.types import Struct

GRACE_SECONDS = 15.0
"""Start and end of a sandbox on a busy machine, beyond the program's own time."""

MOST_OUTPUT = 256
"""Bytes that are read from the runner. A verdict is much shorter."""

SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
"""Where the system's libraries lie, as far as they exist."""


class Limits(Struct):
    """What one program may use."""

    seconds: float = 3.0
    """Wall time, as the metric `code_eval` has it."""
    memory_bytes: int = 1 << 30
    """Address space of each of its processes."""
    processes: int = 16
    disk_bytes: int = 64 << 20
    """Of its /tmp, which lies in memory."""


class Verdict(Struct):
    """What became of a program."""

    passed: bool
    result: str
    """`passed`, `timed out`, or `failed: ` and why."""


def run(program: str, limits: Limits | None = None) -> Verdict:
    """Run a Python program in a sandbox.

    Raises:
        UserError: there is no sandbox on this machine.
    """
    check_available()
    limits = limits or Limits()
    word = secrets.token_hex(16)
    told = "\n".join([word, repr(limits.seconds), str(limits.memory_bytes), str(limits.processes), program])
    process = subprocess.Popen(
        command(limits),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={},
    )
    said = _exchange(process, told.encode("utf8", "surrogatepass"), limits.seconds + GRACE_SECONDS)
    if said is None:
        return Verdict(passed=False, result="timed out")
    verdict, _, secret = said.partition("\n")
    if secret == word and verdict == "passed":
        return Verdict(passed=True, result="passed")
    known = (secret == word and verdict in ("timed out",)) or verdict.startswith("failed: ")
    return Verdict(passed=False, result=verdict if known else "failed: ended before its last line")


def _exchange(process: "subprocess.Popen[bytes]", told: bytes, seconds: float) -> str | None:
    """What the runner says, None if it says nothing in time. The whole tree is dead afterwards."""
    with ThreadPoolExecutor(1) as reader:
        answer = reader.submit(process.stdout.read, MOST_OUTPUT)  # type: ignore[union-attr]
        try:
            process.stdin.write(told)  # type: ignore[union-attr]
            process.stdin.close()  # type: ignore[union-attr]
            return str(answer.result(timeout=seconds), "utf8", "replace")
        except BrokenPipeError:
            return ""
        except TimeoutError:
            return None
        finally:
            # The first process of the tree's own process namespace: with it goes everything in it.
            process.kill()
            process.wait()
            answer.result()
            process.stdout.close()  # type: ignore[union-attr]


def command(limits: Limits) -> list[str]:
    """Bubblewrap's command line, with the runner at its end."""
    folders = [*SYSTEM_FOLDERS, *_python_folders(), "/etc/ld.so.cache"]
    binds = [argument for folder in folders for argument in _bind(folder)]
    # Root needs no namespace of users, and would stay root in one, whom no limit on processes holds: the
    # runner gives its privileges up instead.
    own_users = [] if os.geteuid() == 0 else ["--unshare-user", "--disable-userns"]
    return [
        *[bwrap(), *own_users, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"],
        *["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--cap-add", "CAP_SETUID"],
        *["--cap-add", "CAP_SETGID", *binds, "--proc", "/proc", "--dev", "/dev"],
        *["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp"],
        # What lies beside the devices (/dev/shm) would be a second place to write to, without a limit.
        *["--remount-ro", "/dev", "--remount-ro", "/"],
        *["--setenv", "HOME", "/tmp", "--setenv", "PYTHONHASHSEED", "0"],
        *["--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1"],
        *[sys.executable, "-I", "-B", "-c", RUNNER],
    ]


def _bind(path: str) -> Iterator[str]:
    """A path of the machine, read-only, in folders that whoever the runner becomes can enter."""
    for parent in reversed(Path(path).parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(parent))
    yield from ("--ro-bind-try", path, path)


def _python_folders() -> list[str]:
    """Where this Python and its packages lie, without folders inside of others."""
    found = {sys.prefix, sys.base_prefix, *(sysconfig.get_path(name) for name in ("purelib", "platlib"))}
    found.add(str(Path(sys.executable).resolve().parent.parent))
    return sorted(path for path in found if not any(path.startswith(other + "/") for other in found))


@cache
def bwrap() -> str:
    """The path of bubblewrap. Raises UserError if it is not installed."""
    path = shutil.which("bwrap")
    if path is None:
        raise UserError(
            "code that a model wrote is run in bubblewrap alone, which is not installed: "
            "`apt-get install bubblewrap` (or your system's package), or leave out the tasks that run code"
        )
    return path


@cache
def check_available() -> None:
    """Raises UserError if programs cannot be run here safely."""
    bwrap()
    process = subprocess.run(
        [*command(Limits())[:-1], "pass"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env={}
    )
    if process.returncode:
        said = " ".join(process.stderr.decode("utf8", "replace").split())[-300:]
        raise UserError(
            f"bubblewrap cannot build a sandbox on this machine ({said}): allow unprivileged user "
            "namespaces, or leave out the tasks that run code"
        )


RUNNER = r"""
import os, sys
told = sys.stdin.buffer.read().decode("utf8", "surrogatepass")
word, seconds, memory, processes, program = told.split("\n", 4)
out = os.dup(1)
null = os.open("/dev/null", os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)

def confine():
    import resource
    if os.getuid() == 0:
        # A user of its own, so that the limit on processes counts no others.
        own = 0x40000000 + int.from_bytes(os.urandom(3))
        os.setgroups([])
        os.setresgid(own, own, own)
        os.setresuid(own, own, own)
    for name, value in (("AS", int(memory)), ("NPROC", int(processes)), ("CORE", 0), ("NOFILE", 64),
                        ("CPU", int(float(seconds)) + 2), ("FSIZE", 1 << 30)):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))

def limit_time():
    import signal
    class TimedOut(BaseException):
        pass
    def ring(signum, frame):
        raise TimedOut
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    return TimedOut, signal.setitimer, signal.ITIMER_REAL

def take_away():
    import builtins, shutil, subprocess
    for name in ("exit", "quit", "help"):
        setattr(builtins, name, None)
    for name in ("kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename "
                 "renames truncate replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown "
                 "getcwd chdir").split():
        setattr(os, name, None)
    shutil.rmtree = shutil.move = shutil.chown = None
    subprocess.Popen = None
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None

def report(verdict, write=os.write, end=os._exit):
    write(out, (verdict[:200] + "\n" + word).encode("utf8", "replace"))
    end(0)

confine()
import io
sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
TimedOut, setitimer, real = limit_time()
take_away()
try:
    exec(program, {})
    setitimer(real, 0)
    verdict = "passed"
except TimedOut:
    verdict = "timed out"
except BaseException as error:
    setitimer(real, 0)
    verdict = "failed: " + " ".join(f"{type(error).__name__} {error}".split())
report(verdict)
"""
"""The program's surroundings, inside of the sandbox. Reads from its input the secret word, the limits and the
program, each but the last on a line of its own."""


class CodeEval:
    """Stands in for `evaluate.load("code_eval")`."""

    def compute(
        self,
        *,
        references: Sequence[str],
        predictions: Sequence[Sequence[str]],
        k: Sequence[int] = (1, 10, 100),
        num_workers: int = 2,
        timeout: float = 3.0,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """pass@k, unbiased (Chen et al., arXiv:2107.03374), and the verdict of every candidate.

        Args:
            references: test code of each problem.
            predictions: candidates of each problem.
            k: of pass@k; a k that is larger than the number of candidates is left out.
            num_workers: sandboxes at once.
            timeout: seconds of each program.
        """
        limits = Limits(seconds=timeout)
        jobs = [
            (task, number, f"{candidate}\n{test}")
            for task, (test, candidates) in enumerate(zip(references, predictions, strict=True))
            for number, candidate in enumerate(candidates)
        ]
        with ThreadPoolExecutor(num_workers) as pool:
            verdicts = list(pool.map(lambda job: run(job[2], limits), jobs))
        results: dict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for (task, number, _), verdict in zip(jobs, verdicts, strict=True):
            row = {
                "task_id": task,
                "passed": verdict.passed,
                "result": verdict.result,
                "completion_id": number,
            }
            results[task].append((number, row))
        counts = [[row["passed"] for _, row in rows] for rows in results.values()]
        found = {
            f"pass@{n}": sum(pass_at_k(len(rows), sum(rows), n) for rows in counts) / len(counts)
            for n in k
            if counts and all(len(rows) >= n for rows in counts)
        }
        return found, results


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Chance that at least one of k out of n candidates passes, without replacement (arXiv:2107.03374)."""
    product = 1.0
    for i in range(n - passed + 1, n + 1):
        product *= 1.0 - k / i
    return 1.0 if n - passed < k else 1.0 - product


@contextmanager
def in_place_of_code_eval() -> Iterator[None]:
    """While inside, `import evaluate` gives a module whose `load("code_eval")` gives the sandboxed metric.

    The package itself, which imports torch and most of transformers, is left alone.
    """

    def load(path: str) -> CodeEval:
        if path != "code_eval":
            raise UserError(f"a task that runs the model's code asks for the metric {path}: leave it out")
        return CodeEval()

    stand_in = ModuleType("evaluate")
    stand_in.load = load  # type: ignore[attr-defined]
    before = sys.modules.get("evaluate")
    sys.modules["evaluate"] = stand_in
    try:
        yield
    finally:
        if before is None:
            del sys.modules["evaluate"]
        else:
            sys.modules["evaluate"] = before


def is_sandboxed(task: Any) -> bool:
    """Whether an lm-eval task runs programs through `CodeEval` alone."""
    # lm-eval keeps the bound `__call__` of a metric's function.
    metrics = [getattr(f, "__self__", f) for f in getattr(task, "_metric_fn_list", {}).values()]
    return not callable(task.config.process_results) and any(
        isinstance(value, CodeEval)
        for metric in metrics
        for value in getattr(metric, "__globals__", {}).values()
    )
