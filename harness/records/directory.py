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

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from harness import config as configs
from harness.config import RunConfig
from harness.disk import make_folder, replace, replacing
from harness.errors import UserError
from harness.records.layout import records_stem
from harness.records.lines import Key, read_at, read_jsonl, read_keys
from harness.records.lock import lock_file
from harness.records.sane import check_version
from harness.records.seal import checksum
from harness.records.table import (
    GROUP_ROWS,
    count_rows,
    in_order,
    read_columns,
    read_parquet,
    read_sample,
    read_table,
    read_tables,
    table_of,
    to_row,
    to_table,
    write_parquet,
)
from harness.types import CellEntry, FailureKind, Manifest, Record, Score, Struct, Transcript

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
        elif in_order(complete):
            yield from read_parquet(complete)
        else:
            found = {(r.sample, r.attempt): r for r in read_parquet(complete)}
            yield from (found[key] for key in sorted(found))

    def each_table(self, cell: CellEntry) -> Iterator["pa.Table"]:
        """The same as tables of `record_schema` without transcripts, some thousand attempts at a time."""
        complete = self.records_path(cell, "parquet")
        if complete.exists() and in_order(complete):
            yield from read_tables(complete)
            return
        bare = (msgspec.structs.replace(r, transcript=Transcript()) for r in self.each_record(cell))
        while rows := [to_row(cell, record) for record in islice(bare, GROUP_ROWS)]:
            yield table_of(rows).drop_columns("transcript")

    def count(self, cell: CellEntry) -> int:
        """How many attempts of a cell are finished."""
        complete = self.records_path(cell, "parquet")
        return count_rows(complete) if complete.exists() else len(self.finished(cell))

    def finished(self, cell: CellEntry, retry_before: float = 0.0) -> set[tuple[str, int]]:
        """(sample, attempt) of the finished attempts of a cell, of which nothing else is read.

        Args:
            cell: which.
            retry_before: Unix time; one of `RETRIED` from before it is left out.
        """
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            table = read_table(complete, ["sample", "attempt", "failure", "started"])
            found: Iterable[Key] = (Key(**row) for row in table.to_pylist())
        else:
            found = (key for _, key in read_keys(self.records_path(cell, "jsonl")))
        last = {(key.sample, key.attempt): key for key in found}
        return {
            name for name, key in last.items() if key.failure not in RETRIED or key.started >= retry_before
        }

    def attempts_at(self, cell: CellEntry, sample: str) -> list[Record]:
        """Finished attempts of a cell at one sample, without reading the transcripts of others."""
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            return sorted(read_sample(complete, sample), key=lambda record: record.attempt)
        path = self.records_path(cell, "jsonl")
        offsets = {key.attempt: offset for offset, key in read_keys(path) if key.sample == sample}
        return list(read_at(path, [offsets[attempt] for attempt in sorted(offsets)]))

    def samples(self, cell: CellEntry) -> set[str]:
        """The samples that have a finished attempt."""
        complete = self.records_path(cell, "parquet")
        if complete.exists():
            return set(read_table(complete, ["sample"])["sample"].unique().to_pylist())
        return {key.sample for _, key in read_keys(self.records_path(cell, "jsonl"))}

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
        rows = read_table(complete, list(fields)).to_pylist()
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
            rows = read_table(complete, ["sample", "attempt", "content_hash"]).to_pylist()
            return {(row["sample"], row["attempt"]): row["content_hash"] for row in rows}
        keys = read_keys(self.records_path(cell, "jsonl"))
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
