"""Reading the weights of the next model into the page cache while another one runs.

Its engine then waits for no disk as it loads them. Nothing is computed, and nothing is kept: the kernel drops
what it has no room for.
"""

import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.errors import UserError
from harness.memory import free_bytes
from harness.models import checkpoint
from harness.run.jobs import Job

CHUNK = 8 << 20
"""Bytes that are read at once."""

SHARE = 0.5
"""Of the memory that is free, which a checkpoint may take at most: the rest is for the model that runs."""


class ReadAhead:
    """A thread that reads, from `begin` until all is read or the `with` is left."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.read = 0
        """Bytes so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self, jobs: Iterable[Job]) -> None:
        """Read the weights of the first of some jobs that needs an engine, if it has room and is here."""
        self.end()
        following = next((job for job in jobs if job.owes), None)
        files = weights(following) if following else []
        if files and sum(file.stat().st_size for file in files) <= SHARE * free_bytes():
            self._over.clear()
            self._thread = threading.Thread(target=self._read, args=(files,), name="read-ahead", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Read no more; returns when the thread has ended."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _read(self, files: list[Path]) -> None:
        buffer = bytearray(CHUNK)
        for path in files:
            try:
                with path.open("rb", buffering=0) as file:
                    while not self._over.is_set() and (count := file.readinto(buffer)):
                        self.read += count
            except OSError:  # whoever loads the model says so
                return


def weights(job: Job) -> list[Path]:
    """The files that its engine loads; none where vLLM does not load it, or they are not on this machine."""
    model = job.models[0]
    try:
        folder = checkpoint.find(model.spec) if model.folder else None
        return checkpoint.weight_files(folder) if folder else []
    except UserError:  # whoever loads the model says so
        return []
