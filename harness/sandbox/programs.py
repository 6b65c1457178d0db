"""Running code that a model wrote: in bubblewrap, or not at all.

A program gets no network, none of the machine's files but Python's (read-only), an empty /tmp of limited
size, no environment, no privileges, and limits on time, memory and disk. It is one process, which may have
threads: nothing can be started beside it, so that the limit on its memory holds for all that it takes.
Nothing that it prints is kept.

Programs run in one sandbox and their tests in another (`sandbox_inside`). Tests in the program's own process
would believe whatever that says, and it could say anything: a program can read and write all of its process.
So the tests ask over a pipe and are answered with data, which they compare where the program reaches nothing.
It sees neither the tests nor what they expect, and passes by answering each of their questions rightly.

What remains: tests are as good as their questions. Of a thing that is not data (an object of the program's
own class, an iterator) they learn what the program says: its items, length, attributes, truth, and whether it
equals another such thing. And a program can change a list that it is handed, as any function can.

`CodeEval` stands in for the metric `code_eval` of the package `evaluate`, which runs programs in the process
that evaluates. Verdicts are the same (like there, functions such as os.remove are taken away), except that

- a thing of the program's own class equals no data, whatever its `__eq__` says, and one whose class is a kind
  of list, dict, text or number is taken for a plain one;
- a program that redefines a builtin (`sorted`) does so for itself, not for its tests;
- tests that hand the program a function, or an object of their own class, give an error and no verdict.
"""

import errno
import inspect
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import AttemptFailure, UserError
from harness.sandbox import inside as sandbox_inside
from harness.types import FailureKind, Struct

GRACE_SECONDS = 15.0
"""Start and end of a sandbox on a busy machine, beyond the program's own time."""

SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
"""Where the system's libraries lie, as far as they exist."""


class Limits(Struct):
    """What one program may use."""

    seconds: float = 3.0
    """Wall time, as the metric `code_eval` has it."""
    memory_bytes: int = 1 << 30
    """Address space of its one process."""
    threads: int = 16
    disk_bytes: int = 64 << 20
    """Of its /tmp, which lies in memory. What empty files take of the kernel's memory is not counted."""


class Verdict(Struct):
    """What became of a program."""

    passed: bool
    result: str
    """`passed`, `timed out`, or `failed: ` and why."""


def run(program: str, tests: str = "", limits: Limits | None = None) -> Verdict:
    """Run a Python program in a sandbox, and its tests in another.

    Args:
        program: what the model wrote.
        tests: Python that uses what the program defines. It passes if they raise nothing.
        limits: of the program; the tests have the same.

    Raises:
        UserError: there is no sandbox on this machine.
        AttemptFailure: a sandbox ended before its time, or the tests cannot be run in one. No verdict.
    """
    check_available()
    limits = limits or Limits()
    output, status = _converse(json.dumps([program, tests]), limits)
    ready, _, verdict = output.partition("\n")
    verdict = verdict.strip()
    if ready == "ready" and not verdict:
        verdict = _without_verdict(status)
    if verdict not in ("passed", "timed out") and not verdict.startswith("failed: "):
        why = verdict or "a sandbox ended before it gave a verdict"
        raise AttemptFailure(FailureKind.SCORER_ERROR, f"the program could not be tested: {why}")
    return Verdict(passed=verdict == "passed", result=verdict)


def _without_verdict(status: int | None) -> str:
    """What it means that tests began and gave no verdict; nothing if the machine ended them, not the program.

    Args:
        status: of the tests' sandbox, None for one that did not end in time.
    """
    if status in (None, 128 + signal.SIGXCPU):
        return "timed out"
    return "" if status == 128 + signal.SIGKILL else f"failed: its tests broke down with status {status}"


def _converse(request: str, limits: Limits) -> tuple[str, int | None]:
    """What the tests' sandbox says and its exit status, None for one that did not end in time.

    Everything in both sandboxes is dead afterwards.
    """
    questions, to_program = os.pipe()
    from_program, answers = os.pipe()
    with ExitStack() as both:
        try:
            both.enter_context(_started("program", limits, questions, answers))
            ends = (from_program, to_program)
            tests = both.enter_context(_started("tests", limits, subprocess.PIPE, subprocess.PIPE, *ends))
        finally:
            for end in (questions, to_program, from_program, answers):
                os.close(end)
        try:
            output, _ = tests.communicate(request.encode(), timeout=limits.seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired as late:
            return str(late.output or b"", "utf8", "replace"), None
        return str(output, "utf8", "replace"), tests.returncode


@contextmanager
def _started(
    side: str, limits: Limits, stdin: int, stdout: int, *ends: int
) -> Iterator["subprocess.Popen[bytes]"]:
    """One of the two sandboxes. It is dead afterwards.

    Args:
        side: `program` or `tests`.
        limits: of its one process.
        stdin: a descriptor.
        stdout: a descriptor.
        ends: descriptors of what comes from the other one and goes to it, if not stdin and stdout.
    """
    inside = [
        inspect.getsource(sandbox_inside),
        side,
        limits.seconds,
        limits.memory_bytes,
        limits.threads,
        *ends,
    ]
    with _rules() as rules:
        process = subprocess.Popen(
            [*command(limits, rules), *map(str, inside)],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            pass_fds=(rules, *ends),
            start_new_session=True,
            env={},
        )
    with process:
        try:
            yield process
        finally:
            # The parent of the first process in a namespace of processes: with it goes everything in there.
            process.kill()


def command(limits: Limits, rules: int) -> list[str]:
    """Bubblewrap's command line, up to the source text that Python is to run.

    Args:
        limits: of the disk.
        rules: descriptor of the filter of system calls.
    """
    folders = [*SYSTEM_FOLDERS, *_python_folders(), "/etc/ld.so.cache"]
    binds = [argument for folder in folders for argument in _bind(folder)]
    # Root needs no namespace of users, and would stay root in one, whom no limit on processes holds: it gives
    # its privileges up inside instead.
    own_users = [] if os.geteuid() == 0 else ["--unshare-user", "--disable-userns"]
    return [
        *[bwrap(), *own_users, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"],
        *["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--cap-add", "CAP_SETUID"],
        *["--cap-add", "CAP_SETGID", "--proc", "/proc", "--dev", "/dev"],
        # Before the machine's folders: Python itself may lie below one of these.
        *["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", "/tmp", *binds, "--chdir", "/tmp"],
        # What lies beside the devices (/dev/shm) would be a second place to write to, without a limit.
        *["--remount-ro", "/dev", "--remount-ro", "/", "--seccomp", str(rules)],
        # One order of sets for all runs, so that verdicts can be reproduced (-I would ignore it).
        *["--setenv", "HOME", "/tmp", "--setenv", "PYTHONHASHSEED", "0"],
        *["--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1"],
        # numpy sets these when it is imported, which takes os.putenv.
        *["--setenv", "OPENBLAS_MAIN_FREE", "1", "--setenv", "GOTOBLAS_MAIN_FREE", "1"],
        *[sys.executable, "-s", "-P", "-B", "-c"],
    ]


REFUSED = {
    # What makes processes. Threads are made by clone, of which more below.
    "fork": (57, None),
    "vfork": (58, None),
    "unshare": (272, 97),
    "setns": (308, 268),
    # Memory outside of the address space and of /tmp, that no limit would count.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "add_key": (248, 217),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    # Other processes' memory and one's own, by unusual ways.
    "ptrace": (101, 117),
    "userfaultfd": (323, 282),
}
"""System calls that a program may not make, with their numbers on x86_64 and aarch64 (Linux's unistd.h)."""


@cache
def filter_of_calls(machine: str) -> bytes:
    """The sandbox's system calls, as a program for the kernel (seccomp(2), `struct sock_filter`).

    Args:
        machine: as `platform.machine()` says it.

    Raises:
        UserError: the numbers of this machine's system calls are not known.
    """
    if machine not in ("x86_64", "aarch64"):
        raise UserError(
            f"code that a model wrote is run on x86_64 and aarch64 alone, and this is {machine}: leave out "
            "the tasks that run code"
        )
    intel = machine == "x86_64"
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, refuse, unknown = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
    clone, clone3 = (56 if intel else 220), 435
    numbers = [on_intel if intel else on_arm for on_intel, on_arm in REFUSED.values()]
    steps = [
        # Calls of another architecture have other numbers.
        *[(load, 0, 0, 4), (equal, 1, 0, 0xC000003E if intel else 0xC00000B7), (give, 0, 0, kill)],
        *[(load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (give, 0, 0, kill)],
        *[step for n in numbers if n is not None for step in ((equal, 0, 1, n), (give, 0, 0, refuse))],
        # Its arguments lie in memory, which a filter does not see. The C library makes do with clone.
        *[(equal, 0, 1, clone3), (give, 0, 0, unknown)],
        *[(equal, 1, 0, clone), (give, 0, 0, allow)],
        *[(load, 0, 0, 16), (any_bit, 1, 0, CLONE_THREAD), (give, 0, 0, refuse), (give, 0, 0, allow)],
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


CLONE_THREAD = 0x10000
"""The flag of clone that makes a thread, not a process."""


@contextmanager
def _rules() -> Iterator[int]:
    """A descriptor from which bubblewrap can read the filter of system calls."""
    source, sink = os.pipe()
    try:
        os.write(sink, filter_of_calls(platform.machine()))
        os.close(sink)
        yield source
    finally:
        os.close(source)


def _bind(path: str) -> Iterator[str]:
    """A path of the machine, read-only, in folders that whoever Python becomes can enter."""
    for parent in reversed(Path(path).parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(parent))
    yield from ("--ro-bind-try", path, path)


def _python_folders() -> list[str]:
    """Where this Python and its packages lie, without folders inside of others.

    Raises:
        UserError: among much else.
    """
    folders = {sys.prefix, sys.base_prefix, *(sysconfig.get_path(name) for name in ("purelib", "platlib"))}
    folders.add(str(Path(sys.executable).resolve().parent.parent))
    for folder in folders & {"/", os.path.expanduser("~")}:  # noqa: PTH111 - there may be no home
        raise UserError(
            f"Python is installed right in {folder}, and programs would see all of it: install it in a "
            "folder of its own, or leave out the tasks that run code"
        )
    return sorted(path for path in folders if not any(path.startswith(other + "/") for other in folders))


@cache
def bwrap() -> str:
    """The path of bubblewrap. Raises UserError if it is not installed."""
    path = shutil.which("bwrap")
    if path is None:
        raise UserError(
            "code that a model wrote is only run in bubblewrap, which is not installed: "
            "`apt-get install bubblewrap` (or your system's package), or leave out the tasks that run code"
        )
    return path


@cache
def check_available() -> None:
    """Raises UserError if programs cannot be run here safely."""
    with _rules() as rules:
        process = subprocess.run(
            [*command(Limits(), rules), "pass"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(rules,),
            timeout=60,
            env={},
        )
    if process.returncode:
        reason = " ".join(process.stderr.decode("utf8", "replace").split())[-300:]
        hidden = "execvp" in reason
        mend = (
            f"install Python elsewhere than {sys.prefix}" if hidden else "allow unprivileged user namespaces"
        )
        raise UserError(
            f"bubblewrap cannot build a sandbox on this machine ({reason}): {mend}, or leave out the tasks "
            "that run code"
        )


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
            (task, number, candidate, test)
            for task, (test, candidates) in enumerate(zip(references, predictions, strict=True))
            for number, candidate in enumerate(candidates)
        ]
        with ThreadPoolExecutor(num_workers) as pool:
            verdicts = list(pool.map(lambda job: run(job[2], job[3], limits), jobs))
        results: dict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for (task, number, *_), verdict in zip(jobs, verdicts, strict=True):
            row = {
                "task_id": task,
                "passed": verdict.passed,
                "result": verdict.result,
                "completion_id": number,
            }
            results[task].append((number, row))
        counts = [[row["passed"] for _, row in rows] for rows in results.values()]
        rates = {
            f"pass@{n}": sum(pass_at_k(len(rows), sum(rows), n) for rows in counts) / len(counts)
            for n in k
            if counts and all(len(rows) >= n for rows in counts)
        }
        return rates, results


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
            raise UserError(f"a task asks for the metric {path}, whose code is not lm-eval's: leave it out")
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
