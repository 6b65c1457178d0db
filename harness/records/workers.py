"""Who works on a run, and who was asked to: small files beside the cells, none of them a part of the results.

A worker writes its own file every few seconds, so that any machine that sees the directory can tell what runs
where, and what was killed: a file that says of no end and has not been written for a while.
"""

import errno
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.disk import make_folder
from harness.errors import UserError
from harness.records.layout import file_name
from harness.records.sane import read_file
from harness.records.schema import Submission, WorkerFile
from harness.records.seal import write

T = TypeVar("T", bound=msgspec.Struct)

BEAT_SECONDS = 5.0
"""How often a worker writes its file."""

SILENT_SECONDS = 60.0
"""After which one that has not written is taken for dead: file systems of clusters may show files half a
minute late."""

WORKERS, SUBMISSIONS, LOGS, END = "workers", "submissions", "logs", "end.json"


def write_worker(run: Path, writer: str, worker: WorkerFile) -> None:
    """Replace a worker's own file. writer: its name among those that write. Raises UserError."""
    path = _worker_path(run, writer, worker.model)
    make_folder(path.parent)
    write(path, worker)


def remove_worker(run: Path, writer: str, worker: WorkerFile) -> None:
    """Take a worker's own file away."""
    _worker_path(run, writer, worker.model).unlink(missing_ok=True)


def _worker_path(run: Path, writer: str, model: str) -> Path:
    return run / WORKERS / f"{file_name(model)[:100]}-{writer}.json"


def log_path(run: Path, writer: str, model: str) -> Path:
    """Where the output of a worker's engine goes."""
    return run / LOGS / f"{file_name(model)[:100]}-{writer}.log"


def write_submission(run: Path, submission: Submission) -> None:
    """Keep what was submitted. Raises UserError where it cannot be written."""
    make_folder(run / SUBMISSIONS)
    write(run / SUBMISSIONS / f"{file_name(submission.job)}.json", submission)


def read_workers(run: Path, model: str | None = None) -> list[WorkerFile]:
    """The workers that there were, the one that began last at the end. model: only those of one.

    Raises:
        UserError: a file is not one that this version can read.
    """
    files = _read_all(run / WORKERS, WorkerFile)
    return sorted((w for w in files if model in (None, w.model)), key=lambda w: (w.began, w.pid))


def read_submissions(run: Path) -> list[Submission]:
    """What was submitted, the latest at the end. Raises UserError."""
    return sorted(_read_all(run / SUBMISSIONS, Submission), key=lambda s: (s.submitted, s.job))


def _read_all(folder: Path, kind: type[T]) -> list[T]:
    files = (_read_current(path, kind) for path in sorted(folder.glob("*.json")))
    return [one for one in files if one is not None]


def _read_current(path: Path, kind: type[T]) -> T | None:
    """A file that its writer replaces, or takes away, at any time; None where it is gone."""
    for last in (False, True):
        try:
            return read_file(path, kind)
        except UserError as error:
            number = getattr(error.__cause__, "errno", None)
            if number == errno.ENOENT:
                return None
            if last or number != errno.ESTALE:  # NFS: of what was replaced; the name has another one now
                raise
    return None
