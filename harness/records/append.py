"""Appending records to a file that one process writes to.

A process that dies leaves at most one torn last line, which is cut off when the file is next opened for
writing: that attempt is owed again.
"""

import os
import threading
from pathlib import Path

import msgspec

from harness.errors import DiskError
from harness.hostile import without_surrogates
from harness.records.lines import add_checksum
from harness.records.sane import check_record
from harness.types import Record


class Unwritable(Exception):
    """A record that would not be read again."""


class LineWriter:
    """Appends lines to a file. They reach the kernel at once and the disk with `sync`.

    `sync` may run in a thread of its own while another appends.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(path)
        self._file = path.open("ab", buffering=0)
        self._dirty = False
        self._syncing = threading.Lock()

    def write(self, line: bytes) -> None:
        """Add a line, as one write. Raises DiskError if the disk does not take it: nothing is added then."""
        try:
            written = self._file.write(line)
        except OSError as error:
            raise DiskError(
                f"{self._file.name} could not be written ({error.strerror}): mend that, then resume"
            ) from error
        if written != len(line):  # a full disk may take a part
            self._file.truncate(self._file.tell() - written)
            raise DiskError(f"the disk is full: {self._file.name} could not be written; free some space")
        self._dirty = True

    def sync(self) -> None:
        """Force what was appended onto the disk. Raises DiskError if the disk refuses."""
        with self._syncing:
            if not self._dirty or self._file.closed:
                return
            self._dirty = False  # before: what is appended meanwhile may come too late for this one
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._dirty = True
                raise DiskError(
                    f"{self._file.name} could not be forced onto the disk ({error.strerror}): "
                    "check the disk and its space, then resume"
                ) from error

    def close(self) -> None:
        """Sync and close. Safe to call twice."""
        try:
            self.sync()
        finally:
            with self._syncing:  # a thread may still be at it
                self._file.close()


class RecordWriter(LineWriter):
    """Appends records to a cell's file, each line with its checksum."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Record)

    def append(self, record: Record) -> None:
        """Add one finished attempt.

        Raises:
            Unwritable: a reader would refuse the line, and with it the whole directory. Nothing was written.
            DiskError: the disk does not take it.
        """
        self.write(self._line(record))

    def _line(self, record: Record) -> bytes:
        # Types are checked where JSON is read alone: a struct takes whatever it is built with.
        try:
            try:
                line = self._encoder.encode(record)
            except UnicodeEncodeError:
                line = self._encoder.encode(without_surrogates(msgspec.to_builtins(record)))
            check_record(self._decoder.decode(line))
        except (TypeError, ValueError, RecursionError) as error:
            raise Unwritable(str(error)) from error
        return add_checksum(line)


def cut_torn_line(path: Path) -> None:
    """Drop what follows the last newline: the line that a dying process did not finish."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)
