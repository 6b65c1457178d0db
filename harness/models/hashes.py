"""Hashes of files, those of large ones remembered until the file is touched.

A checkpoint is hashed at every plan and every run, and reading hundreds of gigabytes takes minutes. What is
remembered goes by size, inode, and the times at which content and inode last changed: the second is set anew
whenever a file is copied, restored or given an old date. `~/.cache/harness/hashes.json` may be removed.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from harness import disk

WHOLE_FILE_LIMIT = 8 << 30
"""Above this many bytes a file is hashed by evenly spaced blocks."""

SMALL = 1 << 18
"""Bytes that are read at once."""

REMEMBERED_FROM = 64 << 20
"""From this many bytes on, the hash of a file is remembered."""


def file_hash(file: Path) -> str:
    """SHA-256 of a file; of a very large one `blocks:` and that of its size and 1,024 blocks of 1 MiB."""
    before = state(file)
    if before[0] < REMEMBERED_FROM:
        return _read(file)
    known = _remembered()
    entry = known.get(str(file.resolve()))
    if entry and entry[:-1] == before:
        return str(entry[-1])
    digest = _read(file)
    if state(file) == before:  # else it was written to meanwhile
        _remember({**_remembered(), str(file.resolve()): [*before, digest]})
    return digest


def _read(file: Path) -> str:
    disk.check_regular(file)
    with file.open("rb", buffering=0) as stream:  # a buffer would take longer to make than most files to read
        size = os.fstat(stream.fileno()).st_size
        if size < SMALL:
            return hashlib.sha256(stream.readall()).hexdigest()
        if size <= WHOLE_FILE_LIMIT:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        blocks, length = 1024, 1 << 20
        digest = hashlib.sha256(str(size).encode())
        for block in range(blocks):
            stream.seek(block * (size - length) // (blocks - 1), os.SEEK_SET)
            digest.update(stream.read(length))
        return "blocks:" + digest.hexdigest()


def state(file: Path) -> list[int]:
    """What tells that a file has not been written to since: its size, its inode, when both last changed."""
    stat = file.stat()
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _store() -> Path:
    return disk.cache_folder() / "hashes.json"


def _remembered() -> dict[str, list[int | str]]:
    try:
        remembered = json.loads(_store().read_text(encoding="utf8"))
    except (OSError, ValueError):  # not there yet, or damaged: files are read again
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _remember(known: dict[str, list[int | str]]) -> None:
    store = _store()
    temporary = store.with_name(f"{store.name}.{os.getpid()}")
    with suppress(OSError):  # a home that cannot be written to: files are read each time
        store.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known), encoding="utf8")
        temporary.replace(store)
