"""What vLLM's processes said before they died: the error that arrives here only points to it."""

import atexit
import json
import os
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ERROR = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception))(: .+)?")
"""The last line of a traceback."""
POINTS_ELSEWHERE = re.compile(r"[Ss]ee (the )?(root cause|stack ?trace)|WorkerProc initialization failed")

CONFIG = "VLLM_LOGGING_CONFIG_PATH"
"""Variable of the environment by which vLLM, here and in its processes, is told how to log."""

LOG = "HARNESS_ENGINE_LOG"
"""Variable of the environment: the file that they are kept in. Without it a temporary one."""


MEMORY = (
    (
        re.compile(r"ValueError: To serve at least one request with the model's max seq len \((\d+)\).*"),
        r"the key-value cache has no room for one request of max_model_len \1",
    ),
    (
        re.compile(r"ValueError: No available memory for the cache blocks.*"),
        "no memory is left for the key-value cache",
    ),
)
"""What vLLM says of memory -> a few words: its own, rounded to GiB, can say that 0.0 exceeds 0.0."""


class LastWords:
    """What vLLM's processes log as errors or write to stderr, kept in a file and not shown."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="harness-vllm-"))
        self._kept = False
        atexit.register(self._remove)
        log = os.environ.get(LOG)
        self._file = Path(log) if log else self._folder / "errors.log"
        self._start = len(self._all())
        config = self._folder / "logging.json"
        config.write_text(json.dumps(_logging(self._file)), encoding="utf8")
        os.environ[CONFIG] = str(config)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Let stderr of this process, and of those that it starts meanwhile, go to the file.

        Those keep it: what they say later is there too.
        """
        sys.stderr.flush()
        before = os.dup(2)
        try:
            with self._file.open("ab") as file:
                os.dup2(file.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)

    def keep(self) -> Path:
        """The file, which is no longer deleted when this process ends."""
        self._kept = True
        return self._file

    def _remove(self) -> None:
        if not self._kept:
            shutil.rmtree(self._folder, ignore_errors=True)

    def forget(self) -> None:
        """What was said so far is about another model."""
        self._start = len(self._all())

    def __str__(self) -> str:
        """The last error with a reason of its own, in one line; empty if there is none."""
        errors = list(_errors(self._all()[self._start :].splitlines()))
        causes = [error for error in errors if not POINTS_ELSEWHERE.search(error)]
        return shorten((causes or errors or [""])[-1])

    def _all(self) -> str:
        return self._file.read_text(encoding="utf8", errors="replace") if self._file.is_file() else ""


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """The errors that tracebacks end with; of one that says nothing, the code that raised it."""
    for number, line in enumerate(lines):
        if match := ERROR.fullmatch(line.strip()):
            before = (above.strip() for above in reversed(lines[:number]))
            code = next((above for above in before if above.strip("^~ ")), "")
            yield match[1] + (match[2] or f" in `{code}`")


def shorten(text: str) -> str:
    """An error of vLLM in one line of at most 500 characters, cut between words; memory in plain words."""
    line = " ".join(text.split())
    for pattern, plain in MEMORY:
        line = pattern.sub(plain, line)
    return textwrap.shorten(line, 500, placeholder=" ...")


def _logging(file: Path) -> dict[str, object]:
    """As vLLM sets itself up, with its errors in a file."""
    kept = {"class": "logging.FileHandler", "filename": str(file), "delay": True, "level": "ERROR"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"kept": kept},
        "loggers": {"vllm": {"handlers": ["kept"], "level": "ERROR", "propagate": False}},
    }
