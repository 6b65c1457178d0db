"""Records of a file that may still be written to, one a line: their keys alone, or whole."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

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


def read_keys(path: Path) -> Iterator[tuple[int, Key]]:
    """(where its line begins, key) of the records of a file; a torn last line is left out."""
    if not path.exists():
        return
    decoder, offset = msgspec.json.Decoder(Key), 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                key = decoder.decode(line)
            except NOT_RECORDS as error:
                raise _no_record(path, offset, line, error) from error
            yield offset, key
            offset += len(line)


def read_jsonl(path: Path) -> Iterator[Record]:
    """Records of a file that may still be written to, in the order of sample and attempt; the later of two.

    Raises:
        UserError: a whole line is not a record.
    """
    offsets = {(key.sample, key.attempt): offset for offset, key in read_keys(path)}
    return read_at(path, [offsets[key] for key in sorted(offsets)])


def read_at(path: Path, offsets: Sequence[int]) -> Iterator[Record]:
    """The records whose lines begin at some places of a file."""
    if not offsets:
        return
    decoder = msgspec.json.Decoder(Record)
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            line = file.readline()
            try:
                record = decoder.decode(line)
                check_record(record)
            except NOT_RECORDS as error:
                raise _no_record(path, offset, line, error) from error
            yield record


def _no_record(path: Path, offset: int, line: bytes, error: Exception) -> UserError:
    check_version(path, line)
    with path.open("rb") as file:
        number = 1
        while file.tell() < offset:
            file.readline()
            number += 1
    return UserError(f"{path}:{number}: not a record ({error}); delete the line to have it measured again")
