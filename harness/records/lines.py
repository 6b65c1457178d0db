"""Records of a file that is appended to, one a line: their keys alone, or whole.

A line begins with the checksum of the rest, so that a damaged one is known from what it says no longer: its
attempt is owed again. Lines of earlier versions have none.
"""

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from harness.disk import check_regular
from harness.errors import UserError
from harness.records.sane import NOT_RECORDS, check_record, check_version
from harness.types import Record


class Key(msgspec.Struct):
    """What tells a finished attempt from others, and whether it may be owed again."""

    sample: str
    attempt: int
    content_hash: str = ""
    failure: str | None = None
    started: float = 0.0


class Moved(UserError):
    """A file is gone while it was read: its records were compacted meanwhile."""


_HEAD = b'{"crc32":"'
_BODY = len(_HEAD) + 8 + len(b'",')


def add_checksum(record: bytes) -> bytes:
    """A line of a JSON object, which it is still, with its CRC-32 as the first field."""
    return b'%s%08x",%s\n' % (_HEAD, zlib.crc32(record), record[1:])


def check_line(line: bytes) -> bytes | None:
    """The JSON object of a line with a checksum; None where the line is not as it was written."""
    record = b"{" + line[_BODY:].removesuffix(b"\n")
    return record if line == add_checksum(record) else None


class Lines:
    """The lines of one file, of which each is decoded once, however often it is asked for."""

    def __init__(self, path: Path, *, checked: bool) -> None:
        """Args: path: of the file; checked: whether its lines have checksums."""
        self.path, self._checked = path, checked
        self._file, self._end, self._number = 0, 0, 0
        self._keys: list[tuple[int, Key]] = []
        self._damaged: list[int] = []
        self._decoder = msgspec.json.Decoder(Key)

    def places(self) -> list[tuple[int, Key]]:
        """(where its line begins, key) of the records; damaged lines and a torn last one are left out.

        Raises:
            UserError: a whole line is not a record.
        """
        self._read()
        return self._keys

    def damaged(self) -> list[int]:
        """The numbers, from 1, of lines that do not have their checksum."""
        self._read()
        return self._damaged

    def _read(self) -> None:
        check_regular(self.path)
        try:
            file = self.path.open("rb")
        except FileNotFoundError:  # compacted meanwhile
            self._keys, self._damaged = [], []
            return
        with file:
            about = os.fstat(file.fileno())
            if about.st_ino != self._file or about.st_size < self._end:
                self._file, self._end, self._number = about.st_ino, 0, 0
                self._keys, self._damaged = [], []
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._take(line)

    def _take(self, line: bytes) -> None:
        record = check_line(line) if self._checked else line
        if record is None:
            self._damaged.append(self._number + 1)
        else:
            try:
                self._keys.append((self._end, self._decoder.decode(record)))
            except NOT_RECORDS as error:
                raise _no_record(self.path, self._end, record, error) from error
        self._number += 1
        self._end += len(line)

    def records(self, offsets: Iterable[int]) -> Iterator[Record]:
        """The records whose lines begin at some places.

        Raises:
            UserError: one is no record.
            Moved: the file is gone.
        """
        decoder = msgspec.json.Decoder(Record)
        check_regular(self.path)
        try:
            file = self.path.open("rb")
        except FileNotFoundError as error:
            raise Moved(f"{self.path} is gone while it was read: try again") from error
        with file:
            for offset in offsets:
                file.seek(offset)
                line = file.readline()
                read = check_line(line) if self._checked else line
                try:
                    record = decoder.decode(read or b"")
                    check_record(record)
                except NOT_RECORDS as error:
                    raise _no_record(self.path, offset, read or line, error) from error
                yield record


def _no_record(path: Path, offset: int, line: bytes, error: Exception) -> UserError:
    check_version(path, line)
    with path.open("rb") as file:
        number = 1
        while file.tell() < offset:
            file.readline()
            number += 1
    return UserError(f"{path}:{number}: not a record ({error}); delete the line to have it measured again")
