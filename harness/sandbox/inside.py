"""What runs inside of the two sandboxes of a program: see `harness.sandbox.programs` for why two.

In one, `Program` runs what the model wrote. In the other, `judge` runs the tests, and asks the first for
whatever they want of the program. Data goes between them as lines of JSON; what is not data stays with the
program, and the tests hold a `Handle` to it. So no code of the model's runs where the verdict is made.

This file is handed to a bare Python: it knows nothing of the harness.
"""

import builtins
import io
import json
import operator
import os
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

LONGEST_LINE = 64 << 20
"""Bytes of one answer of the program."""

SEQUENCES: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "keys": type({}.keys()),
}
MUTABLE = (list, dict, set, bytearray)
TAKEN_FROM_OS = (
    "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames "
    "truncate replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir"
)
NUMBERS = re.compile(r"[<>|=][biuf]\d+")
"""Types of numpy's arrays and scalars that are data."""


class Unsendable(BaseException):
    """The tests hand the program something that is not data. Not the program's fault."""


class TimedOut(BaseException):
    """The program and its tests took too long."""


def encode(value: Any, foreign: Callable[[Any], Any]) -> Any:
    """A value as JSON. Subclasses of plain types go as those.

    Args:
        value: anything.
        foreign: what to send for a thing that is not data.
    """
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int):
        # Python neither writes nor reads long ones in decimals.
        return value if abs(value) < 1 << 63 else ["int", hex(value)]
    for kind, sequence in SEQUENCES.items():
        if isinstance(value, sequence):
            return [kind, [encode(item, foreign) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(k, foreign), encode(v, foreign)] for k, v in value.items()]]
    return _encode_scalar(value) or foreign(value)


def _encode_scalar(value: Any) -> Any:
    """Data that is none of the most common; None for what is not data."""
    where, name = type(value).__module__, type(value).__name__
    if isinstance(value, bytes | bytearray):
        return ["bytes" if isinstance(value, bytes) else "bytearray", value.hex()]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    if (where, name) in (("fractions", "Fraction"), ("decimal", "Decimal")):
        return [name, str(value)]
    if where == "numpy" and hasattr(value, "dtype") and NUMBERS.fullmatch(value.dtype.str):
        return ["numpy", [value.dtype.str, value.tolist()]]
    return None


def decode(value: Any, handle: Callable[[int], Any]) -> Any:
    """The value that was encoded. Only plain types are made, whatever was sent.

    Args:
        value: what `encode` gave on the other side, or what somebody pretends that it gave.
        handle: gives what stands here for a thing that is not data, by its number.
    """
    if not isinstance(value, list):
        return value
    kind, body = value
    if kind in SEQUENCES:
        items = [decode(item, handle) for item in body]
        return dict.fromkeys(items).keys() if kind == "keys" else SEQUENCES[kind](items)
    if kind == "dict":
        return {decode(key, handle): decode(item, handle) for key, item in body}
    if kind == "iterator":
        return iter([decode(item, handle) for item in body])
    return handle(body) if kind == "handle" else SCALARS[kind](body)


def _numpy(body: Any) -> Any:
    dtype, items = body
    if not NUMBERS.fullmatch(dtype):
        raise ValueError(f"not an array of numbers: {dtype}")
    import numpy

    return numpy.array(items, dtype)[()]


def _fraction(text: str) -> Any:
    from fractions import Fraction

    return Fraction(text)


def _decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*parts),
    "Fraction": _fraction,
    "Decimal": _decimal,
    "numpy": _numpy,
}


class Channel:
    """Lines of JSON to and from the other sandbox."""

    def __init__(self, source: int, sink: int) -> None:
        """Args: source, sink: descriptors, which are duplicated."""
        self._source = os.fdopen(os.dup(source), "rb")
        self._sink = os.fdopen(os.dup(sink), "wb")

    def send(self, message: Any) -> None:
        """Raises BrokenPipeError if nobody listens."""
        self._sink.write(json.dumps(message).encode() + b"\n")
        self._sink.flush()

    def receive(self) -> Any:
        """Raises EOFError if the other side has ended or says too much."""
        line = self._source.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise EOFError("the program ended before its tests")
        return json.loads(line)


class Program:
    """The side of the program: runs it, keeps what it made, and answers what the tests ask of it."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._operations: dict[str, Callable[..., Any]] = {
            "define": self._define,
            "call": lambda function, *args, **kwargs: function(*args, **kwargs),
            "getattr": getattr,
            "getitem": operator.getitem,
            "eq": operator.eq,
            "iter": iter,
            "next": next,
            "len": len,
            "bool": bool,
            "is_module": lambda thing, name: isinstance(thing, ModuleType) and thing.__name__ == name,
        }

    def answer(self, question: Any) -> Any:
        """What came of an operation: its value and the arguments that it changed, or what it raised."""
        operation, sent_args, sent_kwargs = question
        args = [decode(arg, self._kept.__getitem__) for arg in sent_args]
        kwargs = {key: decode(arg, self._kept.__getitem__) for key, arg in sent_kwargs.items()}
        try:
            value = encode(self._operations[operation](*args, **kwargs), self._keep)
            after = [self._changed(*pair) for pair in zip(args, sent_args, strict=True)]
            return ["value", value, after]
        except BaseException as error:
            return ["raised", type(error).__name__, str(error)]

    def _define(self, program: str, names: tuple[str, ...]) -> dict[str, Any]:
        namespace: dict[str, Any] = {}
        exec(program, namespace)
        return {name: namespace[name] for name in names if name in namespace}

    def _keep(self, value: Any) -> Any:
        self._kept.append(value)
        return ["handle", len(self._kept) - 1]

    def _changed(self, arg: Any, sent: Any) -> Any:
        """The new contents of an argument that was changed in place, else None."""
        if not isinstance(arg, MUTABLE):
            return None
        now = encode(arg, self._keep)
        return None if now == sent else now


class Handle:
    """Stands in the tests for what is no data: a function, an object, an iterator of the program.

    It equals no data. Whether two of the program's things are equal is for the program to say.
    """

    def __init__(self, ask: Callable[..., Any], number: int) -> None:
        """Args: ask: puts an operation to the program. number: of the thing, there."""
        self._ask = ask
        self._number = number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        return self._ask("call", self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._ask("getattr", self, name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("getitem", self, key)

    def __iter__(self) -> Iterator[Any]:
        return self._ask("iter", self)  # type: ignore[no-any-return]

    def __next__(self) -> Any:
        return self._ask("next", self)

    def __len__(self) -> int:
        return self._ask("len", self)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self._ask("bool", self)  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self._ask("eq", self, other) is True

    def __hash__(self) -> int:
        return hash(self._number)


class Asker:
    """The side of the tests: puts operations to the program."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def ask(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """The value of an operation of `Program`. Raises what the program raised, by name and text.

        Raises:
            Unsendable: an argument is no data.
        """
        sent = [encode(arg, self._foreign) for arg in args]
        named = {key: encode(arg, self._foreign) for key, arg in kwargs.items()}
        self._channel.send([operation, sent, named])
        what, *rest = self._channel.receive()
        if what == "raised":
            raise _exception(*rest)
        value, after = rest
        for arg, now in zip(args, after, strict=True):
            if now is not None:
                _change(arg, decode(now, self._handle))
        return decode(value, self._handle)

    def _handle(self, number: int) -> Handle:
        return Handle(self.ask, int(number))

    def _foreign(self, value: Any) -> Any:
        if isinstance(value, Handle):
            return ["handle", value._number]
        if hasattr(type(value), "__next__"):
            return ["iterator", [encode(item, self._foreign) for item in value]]
        raise Unsendable(f"the tests hand the program a {type(value).__name__}")


def _exception(name: str, text: str) -> BaseException:
    """An exception of the program. One that is not built in becomes an Exception of the same name."""
    named = getattr(builtins, name, None)
    base = named if isinstance(named, type) and issubclass(named, BaseException) else Exception
    kind: Any = type(name, (base,), {"__str__": lambda self: text})
    error: BaseException = kind.__new__(kind, text)
    return error


def _change(arg: Any, now: Any) -> None:
    """Give an argument the contents that the program left in it."""
    if type(arg) is not type(now):
        return
    if isinstance(arg, list | bytearray):
        arg[:] = now
    elif isinstance(arg, dict | set):
        arg.clear()
        arg.update(now)


def imports_and_names(tests: str) -> tuple[str, tuple[str, ...]]:
    """What the tests share with the program: their imports, and the names that they use and do not define.

    A name that is also built in is the program's only where the tests want no other of it (`sum` where
    `sum` is what is tested); else a program could redefine what it is compared with.

    Raises:
        SyntaxError: the tests are not Python.
    """
    import ast

    tree = ast.parse(tests)
    used: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
    free = used - defined
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(imports), tuple(sorted(free - vars(builtins).keys() or free))


def judge(channel: Channel, program: str, tests: str, seconds: float) -> str:
    """Run the tests, which ask for the program: `passed`, `timed out`, `failed: ` or `unsendable: ` and why.

    Args:
        channel: to the program's sandbox.
        program: what the model wrote.
        tests: what is executed after it, and must raise nothing.
        seconds: wall time of both.
    """
    import signal

    def ring(signum: int, frame: Any) -> None:
        raise TimedOut

    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        verdict = _run_tests(channel, program, tests)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except TimedOut:
        return "timed out"
    return " ".join(verdict.split())[:200]


def _run_tests(channel: Channel, program: str, tests: str) -> str:
    try:
        imports, names = imports_and_names(tests)
        asker = Asker(channel)
        handles = asker.ask("define", f"{program}\n{imports}", names)
        # Nothing but what was asked for: not `__builtins__`.
        exec(tests, {name: _own(asker, name, handles[name]) for name in names if name in handles})
    except Unsendable as error:
        return f"unsendable: {error}"
    except TimedOut:
        raise
    except BaseException as error:
        return f"failed: {type(error).__name__} {error}"
    return "passed"


def _own(asker: Asker, name: str, thing: Any) -> Any:
    """What the tests are to have under a name: where they mean a module of Python's, their own copy of it.

    The program says only whether it has that module. Which one is imported, the name in the tests says.
    """
    named = name in sys.stdlib_module_names and isinstance(thing, Handle)
    return __import__(name) if named and asker.ask("is_module", thing, name) is True else thing


def confine(seconds: float, memory: int, processes: int) -> None:
    """Give up privileges and take limits, for good."""
    import resource

    if os.getuid() == 0:
        # A user of its own, so that the limit on processes counts no others.
        own = 0x40000000 + int.from_bytes(os.urandom(3), "big")
        os.setgroups([])
        os.setresgid(own, own, own)
        os.setresuid(own, own, own)
    cpu = int(seconds) + 2
    limits = {"AS": memory, "NPROC": processes, "CORE": 0, "NOFILE": 64, "FSIZE": 1 << 30, "CPU": cpu}
    for name, value in limits.items():
        # Out of CPU time, the first signal says so; the second one cannot be caught.
        hard = value + 1 if name == "CPU" else value
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, hard))


def take_away() -> None:
    """What the metric `code_eval` takes out of a program's reach. For equal verdicts, not for safety."""
    import shutil
    import subprocess

    for name in ("exit", "quit", "help"):
        setattr(builtins, name, None)
    for name in TAKEN_FROM_OS.split():
        setattr(os, name, None)
    for name in ("rmtree", "move", "chown"):
        setattr(shutil, name, None)
    setattr(subprocess, "Popen", None)  # noqa: B010
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None  # type: ignore[assignment]


def mute(*descriptors: int) -> None:
    """Nothing is read from these or from the standard ones any more, and what is written is thrown away."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2, *descriptors):
        os.dup2(null, descriptor)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()


def run_program() -> None:
    """Run what comes over standard input, and answer there until nobody asks any more."""
    channel = Channel(0, 1)
    mute()
    take_away()
    channel.send("ready")
    program = Program()
    while True:
        channel.send(program.answer(channel.receive()))


def run_tests(seconds: float, *descriptors: int) -> None:
    """Say `ready` once the program's sandbox is there, then the verdict.

    Args:
        seconds: wall time of the program and its tests, both of which standard input gives as JSON.
        descriptors: of the channel to the program.
    """
    channel = Channel(*descriptors)
    program, tests = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf8", errors="replace")
    mute(*descriptors)
    take_away()
    channel.receive()
    print("ready", file=out, flush=True)
    print(judge(channel, program, tests, seconds), file=out, flush=True)


def main(side: str, seconds: str, memory: str, processes: str, *descriptors: str) -> None:
    """Args: side: `program` or `tests`. seconds, memory, processes: limits. descriptors: of the channel."""
    confine(float(seconds), int(memory), int(processes))
    if side == "program":
        run_program()
    run_tests(float(seconds), *map(int, descriptors))
    # Not by way of what the tests may have left behind.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
