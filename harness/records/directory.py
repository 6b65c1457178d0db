"""The run directory: every path, append, load, compact, and the manifest.

    DIR/config.yaml         the resolved config
    DIR/manifest.json       versions, hardware, models, cells with their digests
    DIR/records/CELL.jsonl  one line a finished attempt, appended; while the cell is being run
    DIR/records/CELL.parquet  the same records, once the cell is complete
    DIR/injections/CELL.json  what was injected, of an imported cell

A file has one writer. A process that dies leaves at most one torn last line, which is cut off when the
file is next opened for writing: that attempt is owed again. Files are replaced by renaming a complete
temporary file, so that a reader never sees half of one.
"""

import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from harness import config as configs
from harness.config import RunConfig
from harness.disk import make_folder, replace, replacing
from harness.errors import DiskError, UserError
from harness.hostile import without_surrogates
from harness.records.sane import check_record, check_table
from harness.types import (
    SCHEMA_VERSION,
    CellEntry,
    FailureKind,
    Manifest,
    Record,
    Score,
    Struct,
    Transcript,
    Usage,
)

if TYPE_CHECKING:
    import pyarrow as pa


RETRIED = (FailureKind.ENGINE_ERROR, FailureKind.SCORER_ERROR)
"""Failures that `--retry-failures` owes again: of the surroundings, not of the model."""


class Outcome(Struct):
    """What came of an attempt: a record without what was said."""

    sample: str
    attempt: int
    failure: FailureKind | None
    failure_message: str | None
    scores: tuple[Score, ...]


class RunDirectory:
    """The results of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def folder_path(self) -> Path:
        """Where the config lay that was run: of this machine, and no part of the results."""
        return self.path / ".folder"

    @property
    def lock_path(self) -> Path:
        """What a process holds that writes here."""
        return self.path / ".lock"

    @property
    def manifest_path(self) -> Path:
        """What the run says about itself."""
        return self.path / "manifest.json"

    def records_path(self, cell: CellEntry, suffix: str) -> Path:
        """Where a cell's records are: suffix `jsonl` while it runs, `parquet` when complete."""
        return self.path / "records" / f"{records_stem(cell)}.{suffix}"

    def injections_path(self, cell: CellEntry) -> Path:
        """Sample -> what was injected, of an imported cell: no attack can be asked for it again."""
        return self.path / "injections" / f"{records_stem(cell)}.json"

    def prepare(self, config: RunConfig) -> None:
        """Make the directory, or check that it holds results of the same config. A new price is kept.

        Raises:
            UserError: it holds results of another config; the keys that differ are named.
        """
        if not self.config_path.exists() or self.measured_nothing():
            (self.path / "records").mkdir(parents=True, exist_ok=True)
            self.manifest_path.unlink(missing_ok=True)
            replace(self.config_path, configs.to_yaml(config).encode())
            self._keep_folder(config)
            return
        kept = self.config()
        changed = configs.differences(kept, config)
        if changed:
            raise UserError(
                f"{self.path} holds results of another config, which differs in {', '.join(changed)}: "
                "set these back to resume, or give another --out"
            )
        self._keep_folder(config)
        if kept.price_per_gpu_hour != config.price_per_gpu_hour:
            self._reprice(kept, config.price_per_gpu_hour)

    def measured_nothing(self) -> bool:
        """Whether a run began here and failed before its first record: its config may be corrected.

        Without a folder of records no run began here, and a config.yaml is somebody else's.
        """
        records = self.path / "records"
        return records.is_dir() and not any(path.stat().st_size for path in records.iterdir())

    def dated(self, config: RunConfig) -> RunConfig:
        """A config with its day: its own, else that on which the run of this directory was begun, else today.

        Raises:
            UserError: the directory's config cannot be read.
        """
        begun = self.config_path.exists() and not self.measured_nothing()
        kept = self.config().date if begun and config.date is None else None
        return msgspec.structs.replace(config, date=config.date or kept or config.day)

    def config(self) -> RunConfig:
        """The resolved config.

        Its relative paths begin at the folder of the config that was run last, where that is on this machine,
        else at the directory itself.

        Raises:
            UserError: there is none, or it is not right.
        """
        try:
            # Links on the way to the directory are followed first: `..` counts real folders.
            folder = (self.path.resolve() / self.folder_path.read_text(encoding="utf8")).resolve()
        except OSError:
            folder = self.path
        return configs.load_config(self.config_path, folder=folder if folder.is_dir() else self.path)

    def _keep_folder(self, config: RunConfig) -> None:
        if folder := configs.base_folder(config):
            replace(self.folder_path, os.path.relpath(folder.resolve(), self.path.resolve()).encode())

    def _reprice(self, kept: RunConfig, price: float | None) -> None:
        """Write another price into the kept config. A checksum that it had and no longer has stays broken."""
        name, before = self.config_path.name, checksum(self.config_path)
        replaced = msgspec.structs.replace(kept, price_per_gpu_hour=price)
        replace(self.config_path, configs.to_yaml(replaced).encode())
        if self.manifest_path.exists() and self.manifest().checksums.get(name) == before:
            manifest = self.manifest()
            sums = {**manifest.checksums, name: checksum(self.config_path)}
            self.write_manifest(msgspec.structs.replace(manifest, checksums=sums))

    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            UserError: there is none, or it is not one that this version can read.
        """
        try:
            data = self.manifest_path.read_bytes()
        except OSError as error:
            lacks = "holds no results (no manifest.json)" if self.path.is_dir() else "is not there"
            raise UserError(f"{self.path} {lacks}: give a folder that `harness run` wrote") from error
        check_version(self.manifest_path, data)
        try:
            return msgspec.json.decode(data, type=Manifest)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UserError(f"{self.manifest_path}: {error}; restore the file from a copy") from error

    def whole_manifest(self) -> Manifest:
        """The manifest, whose cells are known to be of models that it has. Raises UserError."""
        found = self.manifest()
        for cell in found.cells.values():
            if cell.model not in found.models:
                raise UserError(
                    f"{self.manifest_path}: a cell is of the model {cell.model!r}, and `models` has none of "
                    "that name; restore the file from a copy"
                )
        return found

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        replace(self.manifest_path, msgspec.json.format(msgspec.json.encode(manifest, order="sorted")))

    def records(self, cell: CellEntry) -> list[Record]:
        """Finished attempts of a cell, in the order of sample and attempt; of two records the later.

        All at once, transcripts included; see `each_record`.
        """
        return list(self.each_record(cell))

    def each_record(self, cell: CellEntry) -> Iterator[Record]:
        """The same one after the other: some megabytes at a time, however large the cell is.

        Raises:
            UserError: the file is damaged or of another schema version.
        """
        complete = self.records_path(cell, "parquet")
        if not complete.exists():
            yield from read_jsonl(self.records_path(cell, "jsonl"))
        elif _in_order(complete):
            yield from read_parquet(complete)
        else:
            found = {(r.sample, r.attempt): r for r in read_parquet(complete)}
            yield from (found[key] for key in sorted(found))

    def each_table(self, cell: CellEntry) -> Iterator["pa.Table"]:
        """The same as tables of `record_schema` without transcripts, some thousand attempts at a time."""
        complete = self.records_path(cell, "parquet")
        if complete.exists() and _in_order(complete):
            yield from _read_tables(complete)
            return
        bare = (msgspec.structs.replace(r, transcript=Transcript()) for r in self.each_record(cell))
        while rows := [_to_row(cell, record) for record in islice(bare, GROUP_ROWS)]:
            yield _table(rows).drop_columns("transcript")

    def count(self, cell: CellEntry) -> int:
        """How many attempts of a cell are finished."""
        complete = self.records_path(cell, "parquet")
        return _count_rows(complete) if complete.exists() else len(self.finished(cell))

    def finished(self, cell: CellEntry, retry_before: float = 0.0) -> set[tuple[str, int]]:
        """(sample, attempt) of the finished attempts of a cell, of which nothing else is read.

        Args:
            cell: which.
            retry_before: Unix time; one of `RETRIED` from before it is left out.
        """
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            table = _read_table(complete, ["sample", "attempt", "failure", "started"])
            found: Iterable[_Key] = (_Key(**row) for row in table.to_pylist())
        else:
            found = (key for _, key in _read_keys(self.records_path(cell, "jsonl")))
        last = {(key.sample, key.attempt): key for key in found}
        return {
            name for name, key in last.items() if key.failure not in RETRIED or key.started >= retry_before
        }

    def attempts_at(self, cell: CellEntry, sample: str) -> list[Record]:
        """Finished attempts of a cell at one sample, without reading the transcripts of others."""
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            return sorted(_read_sample(complete, sample), key=lambda record: record.attempt)
        path = self.records_path(cell, "jsonl")
        offsets = {key.attempt: offset for offset, key in _read_keys(path) if key.sample == sample}
        return list(_read_at(path, [offsets[attempt] for attempt in sorted(offsets)]))

    def samples(self, cell: CellEntry) -> set[str]:
        """The samples that have a finished attempt."""
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            return set(_read_table(complete, ["sample"])["sample"].unique().to_pylist())
        return {key.sample for _, key in _read_keys(self.records_path(cell, "jsonl"))}

    def columns(self, cell: CellEntry) -> "pa.Table":
        """Finished attempts of a cell in no order, as `record_schema` without what no statistic needs.

        Raises:
            UserError: the file is damaged or of another schema version.
        """
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            return read_columns(complete)
        bare = (msgspec.structs.replace(r, transcript=Transcript()) for r in self.each_record(cell))
        return to_table(cell, bare)

    def outcomes(self, cell: CellEntry) -> Iterator[Outcome]:
        """What came of the finished attempts of a cell, in the order of sample and attempt.

        Raises:
            UserError: the file is damaged or of another schema version.
        """
        fields = Outcome.__struct_fields__
        complete = self.records_path(cell, "parquet")
        if not complete.exists():
            yield from (Outcome(**{f: getattr(r, f) for f in fields}) for r in self.each_record(cell))
            return
        rows = _read_table(complete, list(fields)).to_pylist()
        for row in sorted(rows, key=lambda row: (row["sample"], row["attempt"])):
            scores = tuple(Score(**{**score, "operands": None}) for score in row.pop("scores"))
            yield msgspec.convert({**row, "scores": scores}, Outcome)

    def contents(self, cell: CellEntry) -> dict[tuple[str, int], str]:
        """(sample, attempt) -> content hash, of the finished attempts of a cell; nothing else is read.

        Raises:
            UserError: the file is damaged or of another schema version.
        """
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            rows = _read_table(complete, ["sample", "attempt", "content_hash"]).to_pylist()
            return {(row["sample"], row["attempt"]): row["content_hash"] for row in rows}
        keys = _read_keys(self.records_path(cell, "jsonl"))
        return {(key.sample, key.attempt): key.content_hash for _, key in keys}

    def compact(self, cells: Sequence[CellEntry]) -> None:
        """Turn the records of complete cells into Parquet; nothing is done where that was done before."""
        begun = [cell for cell in cells if self.records_path(cell, "jsonl").exists()]
        for cell in begun:
            target = self.records_path(cell, "parquet")
            if not target.exists():
                write_parquet(target, cell, self.each_record(cell))
        if begun:
            self.seal(begun)
        for cell in begun:
            self.records_path(cell, "jsonl").unlink()

    def reopen(self, cell: CellEntry) -> None:
        """Make the records of a complete cell ones that more are appended to; a later one supersedes.

        A process that dies in between changes nothing: while the Parquet file is there it alone counts.

        Raises:
            UserError: the file is not the one that was sealed.
        """
        source, target = self.records_path(cell, "jsonl"), self.records_path(cell, "parquet")
        manifest, name = self.manifest(), str(target.relative_to(self.path))
        if checksum(target) != manifest.checksums.get(name, checksum(target)):
            raise UserError(f"{target} was changed after it was complete: restore it from a copy")
        with replacing(source) as temporary, temporary.open("wb") as file:
            file.writelines(msgspec.json.encode(record) + b"\n" for record in self.each_record(cell))
        sums = {key: value for key, value in manifest.checksums.items() if key != name}
        self.write_manifest(msgspec.structs.replace(manifest, checksums=sums))
        target.unlink()

    def seal(self, cells: Iterable[CellEntry] | None = None) -> None:
        """Keep the checksums of files that will not change any more in the manifest.

        A checksum that is already there stays as it is: `harness verify` is to find what changed since.

        Args:
            cells: whose files; None for all.
        """
        if not self.manifest_path.exists():
            return
        manifest = self.manifest()
        cells = list(manifest.cells.values() if cells is None else cells)
        complete = [self.records_path(cell, "parquet") for cell in cells]
        injected = [self.injections_path(cell) for cell in cells]
        final = (self.config_path, *complete, *injected)
        names = {str(p.relative_to(self.path)): p for p in final if p.exists()}
        missing = {name: checksum(path) for name, path in names.items() if name not in manifest.checksums}
        if missing:
            sums = {**manifest.checksums, **missing}
            self.write_manifest(msgspec.structs.replace(manifest, checksums=sums))

    def lock(self) -> IO[bytes]:
        """Hold the directory for this process until the returned file is closed.

        Raises:
            UserError: another process is writing to it, or it cannot be written to, or a link in it leads out
                of it: what is written to a received folder goes nowhere else.
        """
        make_folder(self.path)
        self._check_links()
        handle = self.lock_path.open("wb")
        try:
            lock_file(handle)
        except BlockingIOError as error:
            handle.close()
            raise UserError(
                f"another process is writing to {self.path}: wait for it, or give another --out"
            ) from error
        except OSError as error:
            handle.close()
            raise UserError(
                f"{self.path} cannot be locked ({error.strerror}), so that two runs could write to it at "
                "once: give an --out on a file system with locks, such as a local disk"
            ) from error
        return handle

    def _check_links(self) -> None:
        """Raises UserError if a file or folder of the run is a link that leads out of it."""
        folder = self.path.resolve()
        for inside in (folder, folder / "records", folder / "injections"):
            for path in inside.iterdir() if inside.is_dir() else ():
                if path.is_symlink() and not path.resolve().is_relative_to(folder):
                    raise UserError(
                        f"{path} is a link that leads out of the folder of its run, and would be written to: "
                        "put what it leads to in its place, or give another --out"
                    )


def lock_file(handle: IO[bytes]) -> None:
    """Lock an open file for this process, by the first kind of lock that its file system has.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system has no locks, as some of clusters, or refuses them.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # Lustre and NFS may have POSIX locks alone
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:  # EACCES is another way to say EAGAIN
            raise BlockingIOError(*error.args) from error


def records_stem(cell: CellEntry) -> str:
    """Name of the files of a cell's records, without what tells their form.

    Names of models and suites may hold anything; the key keeps the cleaned-up names apart.
    """
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{cell.model}--{cell.suite}")[:120].lstrip(".")
    return f"{readable}--{re.sub('[^A-Za-z0-9_-]', '_', cell.key[:12])}"


class Unwritable(Exception):
    """A record that would not be read again."""


class RecordWriter:
    """Appends records to a cell's file. Lines reach the kernel at once and the disk with `sync`.

    `sync` may run in a thread of its own while another appends.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(path)
        self._file = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Record)
        self._dirty = False
        self._syncing = threading.Lock()

    def append(self, record: Record) -> None:
        """Add one finished attempt, as one write of one line.

        Raises:
            Unwritable: a reader would refuse the line, and with it the whole directory. Nothing was written.
            DiskError: the disk does not take it.
        """
        line = self._line(record)
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
        return line + b"\n"

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


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_version(path: Path, line: bytes) -> None:
    """Raises UserError if JSON was written by a newer schema than this version knows."""

    class Versioned(msgspec.Struct):
        schema_version: int = 0

    try:
        found = msgspec.json.decode(line, type=Versioned).schema_version
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); restore the file from a copy") from error
    if found != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {found}, this harness reads {SCHEMA_VERSION}: "
            "use the version of the harness that wrote it"
        )


NOT_RECORDS = (msgspec.DecodeError, ValueError, TypeError, RecursionError)
"""What reading raises at data that are no records; bytes that are no UTF-8 are a ValueError."""


class _Key(msgspec.Struct):
    """What tells a finished attempt from others, and whether it may be owed again."""

    sample: str
    attempt: int
    content_hash: str = ""
    failure: str | None = None
    started: float = 0.0


def _read_keys(path: Path) -> Iterator[tuple[int, _Key]]:
    """(where its line begins, key) of the records of a file; a torn last line is left out."""
    if not path.exists():
        return
    decoder, offset = msgspec.json.Decoder(_Key), 0
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
    offsets = {(key.sample, key.attempt): offset for offset, key in _read_keys(path)}
    return _read_at(path, [offsets[key] for key in sorted(offsets)])


def _read_at(path: Path, offsets: Sequence[int]) -> Iterator[Record]:
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


_FLAT = ("cell", "sample", "attempt", "content_hash", "failure", "failure_message", "truncated")
"""Fields of a record that are columns as they are."""
_LATER = ("lost_tokens",)
"""Counts that files of earlier versions do not have."""
_USAGE = Usage.__struct_fields__


GROUP_BYTES, GROUP_ROWS = 16 << 20, 1 << 16
"""Of transcripts, and rows, that are in memory at once while records are written or read."""


def write_parquet(path: Path, cell: CellEntry, records: Iterable[Record]) -> None:
    """Write records as a table that pandas reads without our code.

    One row an attempt. Plain columns for what is counted; `clusters` and `labels` are maps, `scores` a list
    of structs, `transcript` JSON text.
    """
    with parquet_writer(path) as writer:
        for rows in _groups(_to_row(cell, record) for record in records):
            writer.write_table(_table(rows))


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row["transcript"])
        if size >= GROUP_BYTES or len(group) == GROUP_ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group


@contextmanager
def parquet_writer(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` of `record_schema`; the file is there whole or not at all."""
    import pyarrow.parquet as pq

    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, record_schema(), compression="zstd") as writer,
    ):
        yield writer


def to_table(cell: CellEntry, records: Iterable[Record]) -> "pa.Table":
    """Records as a table of `record_schema`."""
    return _table([_to_row(cell, record) for record in records])


def _table(rows: list[dict[str, Any]]) -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=record_schema())


def write_table(path: Path, table: "pa.Table") -> None:
    """Write a table of `record_schema` so that it is there whole or not at all."""
    with parquet_writer(path) as writer:
        writer.write_table(table)


def record_schema() -> "pa.Schema":
    """Columns of records on disk."""
    import pyarrow as pa

    text, real, whole = pa.string(), pa.float64(), pa.int64()
    score = pa.struct(
        [("metric", text), ("value", real), ("answer", text), ("reason", text), ("operands", text)]
    )
    return pa.schema(
        [
            ("schema_version", whole),
            ("model", text),
            ("suite", text),
            *((name, {"attempt": whole, "truncated": pa.bool_()}.get(name, text)) for name in _FLAT),
            *((name, whole) for name in _LATER),
            ("scores", pa.list_(score)),
            *((name, real if name in ("engine_seconds", "joules") else whole) for name in _USAGE),
            ("started", real),
            ("seconds", real),
            ("clusters", pa.map_(text, text)),
            ("labels", pa.map_(text, text)),
            ("transcript", text),
        ]
    )


def _to_row(cell: CellEntry, record: Record) -> dict[str, Any]:
    return {
        "schema_version": record.schema_version,
        "model": cell.model,
        "suite": cell.suite,
        **{name: getattr(record, name) for name in (*_FLAT, *_LATER)},
        "scores": [_score_to_row(score) for score in record.scores],
        **msgspec.structs.asdict(record.usage),
        "started": record.started,
        "seconds": record.seconds,
        "clusters": sorted(record.clusters.items()),
        "labels": sorted(record.labels.items()),
        "transcript": msgspec.json.encode(record.transcript).decode(),
    }


def _score_to_row(score: Score) -> dict[str, Any]:
    row = msgspec.structs.asdict(score)
    if score.operands is not None:
        row["operands"] = msgspec.json.encode(score.operands).decode()
    return row


def _read_table(path: Path, columns: list[str] | None = None) -> "pa.Table":
    """A file that `write_parquet` wrote, or some of its columns; UserError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile` that is read in pieces; UserError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error


def _count_rows(path: Path) -> int:
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def _in_order(path: Path) -> bool:
    """Whether the records of a file are in the order of sample and attempt, each there once."""
    import pyarrow.compute as pc

    table = _read_table(path, ["sample", "attempt"])
    if len(table) < 2:
        return True
    sample, attempt = (table[name].combine_chunks() for name in ("sample", "attempt"))
    before, after = sample[:-1], sample[1:]
    later = pc.and_(pc.equal(before, after), pc.less(attempt[:-1], attempt[1:]))
    return bool(pc.all(pc.or_(pc.less(before, after), later)).as_py())


def read_parquet(path: Path) -> Iterator[Record]:
    """Records that `write_parquet` wrote, some megabytes at a time.

    Raises:
        UserError: the file is damaged or of another schema version.
    """
    first = 0
    with _parquet(path) as file:
        for group in range(file.num_row_groups):
            yield from _read_group(path, file, group, first)
            first += file.metadata.row_group(group).num_rows


def _read_tables(path: Path) -> Iterator["pa.Table"]:
    import pyarrow as pa

    with _parquet(path) as file:
        names = [name for name in file.schema_arrow.names if name != "transcript"]
        for batch in file.iter_batches(batch_size=GROUP_ROWS, columns=names):
            table = pa.Table.from_batches([batch])
            try:
                check_table(table, record_schema())
            except (ValueError, KeyError) as error:
                raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error
            _check_versions(path, table)
            yield table


def _read_group(path: Path, file: Any, group: int, first: int) -> Iterator[Record]:
    told = file.metadata.row_group(group)
    each = max(1, told.total_byte_size // max(1, told.num_rows))  # earlier versions wrote one large group
    rows = max(1, min(1024, GROUP_BYTES // each))
    for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
        yield from _from_batch(path, batch, first)
        first += len(batch)


def _from_batch(path: Path, batch: Any, first: int) -> Iterator[Record]:
    """The records of some rows, of which the first has so many before it; UserError if one is no record."""
    try:
        rows: Iterable[Any] = batch.to_pylist()
    except NOT_RECORDS:  # which row it is comes out below
        rows = (batch.slice(number, 1).to_pylist()[0] for number in range(len(batch)))
    each = iter(rows)
    for number in range(len(batch)):
        try:
            row = next(each)
            record = _from_row(path, row)
            check_record(record)
        except (*NOT_RECORDS, KeyError) as error:
            raise UserError(
                f"{path}, row {first + number + 1}: not a record ({error}); restore it from a copy"
            ) from error
        yield record


def _read_sample(path: Path, sample: str) -> Iterator[Record]:
    """The records of one sample; of the groups of rows that have none of it nothing but the names is read."""
    import pyarrow.compute as pc

    with _parquet(path) as file:
        for group in range(file.num_row_groups):
            names = file.read_row_group(group, columns=["sample"])["sample"]
            found = pc.indices_nonzero(pc.equal(names, sample))
            if len(found):
                for batch in file.read_row_group(group).take(found).to_batches():
                    yield from _from_batch(path, batch, 0)


_LEFT_OUT = ("model", "suite", "cell", "content_hash", "failure_message", "started", "seconds", "transcript")
"""Columns that no statistic needs."""
_UNREAD = ("scores.list.element.answer", "scores.list.element.reason")


def read_columns(path: Path) -> "pa.Table":
    """What statistics need of a file that `write_parquet` wrote, text as dictionary codes.

    Raises:
        UserError: the file is damaged or of another schema version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = [file.schema.column(i).path for i in range(len(file.schema))]
        wanted = [name for name in names if name not in (*_LEFT_OUT, *_UNREAD)]
        texts = [name for name in wanted if name == "sample" or name.endswith((".metric", ".key", ".value"))]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            groups = [file.read_row_group(i, columns=wanted) for i in range(file.num_row_groups)]
        table = pa.concat_tables(groups)
        check_table(table, record_schema())
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy") from error
    _check_versions(path, table)
    return table


def _check_versions(path: Path, table: "pa.Table") -> None:
    for version in table["schema_version"].unique().to_pylist():
        if version != SCHEMA_VERSION:
            check_version(path, msgspec.json.encode({"schema_version": version}))


def _from_row(path: Path, row: dict[str, Any]) -> Record:
    if row["schema_version"] != SCHEMA_VERSION:
        check_version(path, msgspec.json.encode({"schema_version": row["schema_version"]}))
    return msgspec.convert(
        {
            **{name: row[name] for name in (*_FLAT, "schema_version", "started", "seconds")},
            **{name: row.get(name) or 0 for name in _LATER},
            "scores": [_score_from_row(score) for score in row["scores"]],
            "usage": {name: row.get(name) for name in _USAGE},  # earlier files have no energy
            "clusters": dict(row["clusters"]),
            "labels": dict(row["labels"]),
            "transcript": msgspec.json.decode(row["transcript"], type=Transcript),
        },
        Record,
    )


def _score_from_row(row: dict[str, Any]) -> Score:
    operands = row["operands"] if row["operands"] is None else tuple(msgspec.json.decode(row["operands"]))
    return Score(**{**row, "operands": operands})
