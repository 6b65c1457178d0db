"""The kinds of failure, and the one boundary that classifies them.

Two families, never mixed. `UserError`: the input is wrong and nothing was measured; the command ends
with one sentence and status 2. `AttemptFailure`: one attempt could not be measured; it is recorded
with its kind and the run goes on. Anything else is a bug or a dead engine, and ends the run with what
was computed kept.
"""

from enum import IntEnum

from harness.types import FailureKind


class Status(IntEnum):
    """How a command ended, for scripts and schedulers: its exit status."""

    DONE = 0
    DIFFERS = 1
    """`verify` or `replay` found that something is not what it says."""
    WRONG_INPUT = 2
    """One sentence says what is wrong, and nothing was measured."""
    INCOMPLETE = 3
    """The rest was measured, but a model, a suite or a claim was not: the cards and the output name it."""
    STOPPED = 4
    """An engine, its server or its job is gone or was given up: what is finished is kept, and the same
    command resumes."""
    WARNED = 5
    """`plan --strict` has warnings."""
    FAILURES = 6
    """Everything was measured, but more attempts failed than `--max-failures` accepts."""
    INTERRUPTED = 130
    """Ctrl-C, or a signal of a scheduler: what is finished is kept, and the same command resumes."""
    UNREAD = 141
    """Whoever read the output, such as `head`, went before all of it was written."""


class UserError(Exception):
    """Bad input, said in one sentence: which file and key, what was expected, what to do."""


class DiskError(UserError):
    """The disk did not take what was to be kept. Nothing else can be kept either."""


class Absent(UserError):
    """Something is not on this machine, and may not be downloaded now; nothing else is wrong with it."""


class AttemptFailure(Exception):
    """One attempt could not be measured."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        """Args: kind: what went wrong. message: the cause, for a person."""
        super().__init__(message)
        self.kind = kind
        self.message = message


class EngineDead(Exception):
    """The engine will not answer again. What is in flight is owed, not failed."""


class ServerGone(EngineDead):
    """A server that somebody else runs does not answer, and cannot be started from here."""


def classify(error: Exception, otherwise: FailureKind) -> AttemptFailure:
    """Turn what an attempt raised into the failure that is recorded.

    Args:
        error: what was raised. `EngineDead` and `UserError` are not attempts' failures: raised again.
        otherwise: the kind of an error that does not say its own.
    """
    if isinstance(error, EngineDead | UserError):
        raise error
    if isinstance(error, AttemptFailure):
        return error
    return AttemptFailure(otherwise, f"{type(error).__name__}: {error}")


def pip_install(extra: str) -> str:
    """The command that installs what an extra of this package names: no index has the package itself."""
    from importlib.metadata import requires

    requirements = (line.partition("; ") for line in requires("openweight-harness") or ())
    wanted = [name for name, _, marker in requirements if marker.replace('"', "'") == f"extra == '{extra}'"]
    return f"pip install {' '.join(map(repr, wanted))}"
