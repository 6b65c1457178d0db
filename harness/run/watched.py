"""A worker's own file, written every few seconds while it works, so that others see how it does.

What it is for: `harness status` from any machine, and to know a job that was killed from one that runs.
"""

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from harness.engines.base import Engine
from harness.engines.vllm.last_words import LOG
from harness.errors import DiskError
from harness.records.schema import WorkerFile
from harness.records.workers import BEAT_SECONDS, remove_worker, write_worker
from harness.run.attempts import Progress
from harness.run.jobs import Job
from harness.types import Record

JOB = "HARNESS_JOB"
"""Variable of the environment: the scheduler's name of this job."""


class Watched:
    """Satisfies `Progress` for one job: counts what happens, keeps it in a file, and tells another."""

    def __init__(self, job: Job, progress: Progress) -> None:
        now = time.time()
        self._job, self._progress = job, progress
        self._writer = job.directory.writer_name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="beat", daemon=True)
        log = os.environ.get(LOG)
        self._file = WorkerFile(
            model=job.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            began=now,
            beat=now,
            job=os.environ.get(JOB),
            gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
            share=job.share,
            log=os.path.relpath(Path(log).resolve(), job.directory.path.resolve()) if log else None,
        )

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._change(ended=_how(error), problems=tuple(self._job.problems))
        if error is None and self._file.loaded is None and not self._file.problems:  # it owed nothing
            remove_worker(self._job.directory.path, self._writer, self._file)
        else:
            self._write()

    def _change(self, **facts: object) -> None:
        self._file = msgspec.structs.replace(self._file, **facts)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        beat = msgspec.structs.replace(self._file, beat=time.time())
        with suppress(DiskError):  # it is a courtesy: where the disk takes nothing, records raise
            write_worker(self._job.directory.path, self._writer, beat)

    def begun(self, model: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """See `Progress.begun`."""
        self._progress.begun(model, totals, done)

    def loaded(self, model: str, engine: Engine | None) -> None:
        """See `Progress.loaded`."""
        self._change(loaded=time.time())
        self._progress.loaded(model, engine)

    def finished(self, model: str, suite: str, record: Record) -> None:
        """See `Progress.finished`."""
        had = self._file
        self._change(
            finished=had.finished + 1,
            tokens=had.tokens + (record.usage.tokens or 0),
            answered=record.started + record.seconds,
        )
        if not had.finished:  # at once: who is killed before tells of nothing, and may be given up
            self._write()
        self._progress.finished(model, suite, record)

    def ended(self, model: str) -> None:
        """See `Progress.ended`."""
        self._progress.ended(model)

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._progress.note(text)


def _how(error: BaseException | None) -> str:
    """How a worker ended; see `WorkerFile.ended`."""
    if error is None:
        return "done"
    if not isinstance(error, KeyboardInterrupt):
        return "failed"
    return "warned" if error.args == (signal.SIGUSR1,) else "stopped"
