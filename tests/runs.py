"""Run directories as tests make them, and tamper with them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.records.directory import RunDirectory
from harness.records.layout import CELL, CHECKSUMS, RUN
from harness.records.lines import add_checksum, check_line
from harness.records.sane import read_file
from harness.records.schema import CellFile, RunFile
from harness.records.seal import checksum, write
from harness.records.table import write_parquet
from harness.types import CellEntry, Manifest, Record


def make_run(path: Path, manifest: Manifest, records: Mapping[str, Sequence[Record]]) -> RunDirectory:
    """A run of which nothing is compacted. records: of each cell, by key."""
    directory = RunDirectory(path)
    directory.add(manifest)
    for key, cell in manifest.cells.items():
        append(directory, cell, records[key])
    return directory


def append(directory: RunDirectory, cell: CellEntry, records: Sequence[Record]) -> Path:
    """Add records to a cell; returns the file that has them."""
    writer = directory.writer(cell)
    for record in records:
        writer.append(record)
    writer.close()
    return directory.layout.folder(cell) / f"{directory.writer_name}.jsonl"


def unfinish(directory: RunDirectory, cell: CellEntry, records: Sequence[Record]) -> Path:
    """Make a complete cell one that is still being run, with these records."""
    path = append(directory, cell, records)
    directory.complete_path(cell).unlink()
    (path.parent / CHECKSUMS).unlink(missing_ok=True)
    return path


def change_lines(path: Path, change: Callable[[int, bytes], bytes]) -> None:
    """Change the records of a file as who knows of checksums. change: of (number from 0, JSON)."""
    lines = [check_line(line) for line in path.read_bytes().splitlines(keepends=True)]
    path.write_bytes(b"".join(add_checksum(change(i, line)) for i, line in enumerate(lines) if line))


def change_cell(directory: RunDirectory, cell: CellEntry, **facts: Any) -> None:
    """Let a cell's own file say something else."""
    path = directory.layout.folder(cell) / CELL
    told = read_file(path, CellFile)
    write(path, msgspec.structs.replace(told, cell=msgspec.structs.replace(told.cell, **facts)))


def change_run(directory: RunDirectory, **facts: Any) -> None:
    """Let `run.json` say something else."""
    path = directory.path / RUN
    write(path, msgspec.structs.replace(read_file(path, RunFile), **facts))


def reseal(directory: RunDirectory) -> None:
    """Give everything the checksum that it has now."""
    for folder in directory.layout.folders():
        (folder / CHECKSUMS).unlink(missing_ok=True)
    change_run(directory, checksums={})
    directory.seal()


def rewrite_earlier(run: RunDirectory, manifest: Manifest) -> None:
    """Write the manifest of an earlier version, with the checksums that its files have now."""
    files = [run.config_path, *(run.complete_path(cell) for cell in manifest.cells.values())]
    sums = {str(path.relative_to(run.path)): checksum(path) for path in files}
    write(run.manifest_path, msgspec.structs.replace(manifest, checksums=sums))


def put_records(directory: RunDirectory, cell: CellEntry, records: Sequence[Record]) -> None:
    """Replace the records of a complete cell."""
    write_parquet(directory.complete_path(cell), cell, records)
