"""What vLLM's processes said before they died: the error that arrives here only points to it."""

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ERROR = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception))(: .+)?")
"""The last line of a traceback."""
POINTS_ELSEWHERE = re.compile(r"[Ss]ee (the )?(root cause|stack ?trace)|WorkerProc initialization failed")

CONFIG = "VLLM_LOGGING_CONFIG_PATH"
"""Variable of the environment by which vLLM, here and in its processes, is told how to log."""


class LastWords:
    """The errors that vLLM's processes log, kept in a file besides being shown."""

    def __init__(self, level: str) -> None:
        """Args: level: from which on what vLLM logs is shown."""
        folder = Path(tempfile.mkdtemp(prefix="harness-vllm-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._file = folder / "errors.log"
        self._start = 0
        config = folder / "logging.json"
        config.write_text(json.dumps(_logging(level, self._file)), encoding="utf8")
        os.environ[CONFIG] = str(config)

    def forget(self) -> None:
        """What was said so far is about another model."""
        self._start = len(self._all())

    def __str__(self) -> str:
        """The last error with a reason of its own, in one line; empty if there is none."""
        found = list(_errors(self._all()[self._start :].splitlines()))
        causes = [error for error in found if not POINTS_ELSEWHERE.search(error)]
        return " ".join((causes or found or [""])[-1].split())[:500]

    def _all(self) -> str:
        return self._file.read_text(encoding="utf8", errors="replace") if self._file.is_file() else ""


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """The errors that tracebacks end with; of one that says nothing, the code that raised it."""
    for number, line in enumerate(lines):
        if found := ERROR.fullmatch(line.strip()):
            before = (above.strip() for above in reversed(lines[:number]))
            code = next((above for above in before if above.strip("^~ ")), "")
            yield found[1] + (found[2] or f" in `{code}`")


def _logging(level: str, file: Path) -> dict[str, object]:
    """As vLLM sets itself up, and errors to a file besides."""
    plain = {"format": "%(levelname)s %(asctime)s [%(name)s] %(message)s"}
    shown = {"class": "logging.StreamHandler", "formatter": "plain", "level": level}
    shown["stream"] = "ext://sys.stdout"
    kept = {"class": "logging.FileHandler", "filename": str(file), "delay": True, "level": "ERROR"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": plain},
        "handlers": {"kept": kept, "shown": shown},
        "loggers": {"vllm": {"handlers": ["kept", "shown"], "level": level, "propagate": False}},
    }
