"""Telling a person, or a program, that a run has ended: by a command of the user's own.

The command comes from the command line or from the environment of the user, never from a run directory.
"""

import os
import subprocess
from pathlib import Path

from harness.records.schema import EndFile

NOTIFY = "HARNESS_NOTIFY"
"""Variable of the environment with the command, where the command line has none."""

SECONDS = 60.0
"""That the command may take."""


def notify(path: Path, end: EndFile) -> str | None:
    """Run the user's command, if there is one, in a shell; returns what went wrong, None if nothing did.

    Args:
        path: of `end.json`, which the command gets as `HARNESS_END`.
        end: what it holds; the status is `HARNESS_STATUS`.
    """
    command = os.environ.get(NOTIFY)
    if not command:
        return None
    variables = {
        "HARNESS_END": str(path.resolve()),
        "HARNESS_STATUS": str(end.status),
        "HARNESS_NAME": end.name,
    }
    try:
        answer = subprocess.run(
            command,
            shell=True,
            env={**os.environ, **variables},
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the command of --notify took longer than {SECONDS:.0f} s and was ended"
    return f"the command of --notify ended with status {answer.returncode}" if answer.returncode else None
