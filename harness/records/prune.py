"""What lies beside the results of runs and may go: never a record that a run counts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.root import Root
from harness.records.workers import LOGS, SILENT_SECONDS, read_workers

CRASHED_SECONDS = 3600.0
"""After which a temporary file is nobody's any more."""


@dataclass(frozen=True)
class Leftover:
    """A file or a folder that may go."""

    path: Path
    what: str
    size: int
    """Bytes."""


def leftovers(path: Path, cache: Path) -> tuple[list[Leftover], list[str]]:
    """What may go of a run directory or of all that lie in a folder, and of this reader's own cache.

    Args:
        path: a run directory, or a folder of them.
        cache: the cache's folder.

    Returns:
        (what may go, why nothing is said of some runs, a sentence each).

    Raises:
        UserError: there is no run there, or its files cannot be read.
    """
    own = RunDirectory(path)
    runs = [own] if own.is_run else Root(path).runs if path.is_dir() else []
    if not runs:
        raise UserError(f"{path} holds no run: give a folder that `run` writes, or a folder of such folders")
    unneeded: list[Leftover] = []
    skipped = []
    for run in runs:
        if _is_worked_on(run):
            skipped.append(f"{run.path}: somebody works on it: nothing of it may go now")
        else:
            unneeded += _of_run(run)
    if cache.is_dir():
        kept = sorted(cache.iterdir())
        unneeded += [_leftover(each, "cache: is made again when it is needed") for each in kept]
    return unneeded, skipped


def _is_worked_on(run: RunDirectory) -> bool:
    now = time.time()
    return any(w.ended is None and now - w.beat < SILENT_SECONDS for w in read_workers(run.path))


def _of_run(run: RunDirectory) -> Iterator[Leftover]:
    logs = run.path / LOGS
    if logs.is_dir() and not logs.is_symlink():
        for file in sorted(logs.iterdir()):
            yield _leftover(file, "Inspect's own log" if file.suffix == ".eval" else "log of an engine")
    for file in sorted(run.path.rglob(".*.tmp")):
        if time.time() - file.lstat().st_mtime > CRASHED_SECONDS:
            yield _leftover(file, "a writer died before it was whole")
    for cell in run.manifest().cells.values():
        if run.is_complete(cell):
            appended = run.appended_paths(cell)
            yield from (_leftover(file, "its records are in one file since") for file in appended)
    for cell in run.not_asked():
        what = f"{cell.suite} of {cell.model}: no part of the run any more, though --root may take it"
        yield _leftover(run.layout.folder(cell), what)


def _leftover(path: Path, what: str) -> Leftover:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return Leftover(path, what, sum(file.lstat().st_size for file in files))
