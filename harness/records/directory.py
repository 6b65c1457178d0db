"""The run directory: the one face of what lies on disk. `harness.records.layout` shows the files.

A file has one writer, and whoever reads puts together what several wrote. A process that dies leaves at most
one torn last line: that attempt is owed again. Files are replaced by renaming a complete temporary file, so
that a reader never sees half of one.
"""

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import config as configs
from harness.config import RunConfig, changed_keys
from harness.disk import make_folder, replace
from harness.engines.arguments import without_layout
from harness.errors import UserError
from harness.records import asked, compact, lock, manifest, seal
from harness.records.append import RecordWriter
from harness.records.layout import CELL, CHECKSUMS, CONFIG, EARLIER, RECORDS, RUN, Layout
from harness.records.load import CellRecords, Outcome
from harness.records.lock import Held
from harness.records.sane import read_file
from harness.records.schema import CellFile, EngineFile, RunFile
from harness.records.verdicts import Verdicts
from harness.types import Caution, CellEntry, EngineFacts, Manifest, ModelEntry, Record

if TYPE_CHECKING:
    import pyarrow as pa


class RunDirectory:
    """The results of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = Layout(path)
        self._records: dict[str, CellRecords] = {}
        self._writer = 0, ""
        """(process, its name among writers)."""

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / CONFIG

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
        """The file that a signature is of: `run.json`, or `manifest.json` of earlier versions."""
        return self.path / (EARLIER if self.layout.earlier else RUN)

    @property
    def is_run(self) -> bool:
        """Whether a run lies here; other programs have files of the name `run.json` too."""
        return self.layout.earlier or ((self.path / RUN).is_file() and (self.path / "cells").is_dir())

    def complete_path(self, cell: CellEntry) -> Path:
        """Where all records of a cell are, once none is owed."""
        return self.layout.cell(cell).complete

    def injections_path(self, cell: CellEntry) -> Path:
        """Sample -> what was injected, of an imported cell: no attack can be asked for it again."""
        return self.layout.cell(cell).injections

    def appended_paths(self, cell: CellEntry) -> list[Path]:
        """The files that a cell's records are appended to while it is being run."""
        return self.layout.cell(cell).appended()

    @property
    def writer_name(self) -> str:
        """What the files are called that this process appends to, and no other, forked or not."""
        if self._writer[0] != os.getpid():
            now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
            self._writer = os.getpid(), f"{now}-{secrets.token_hex(3)}"
        return self._writer[1]

    # What is asked for

    def lock(self) -> Held:
        """Hold the directory for this process until the returned file is closed; see `harness.records.lock`.

        Raises:
            UserError: another process holds it, it cannot be written to, or it is of an earlier version.
        """
        if self.layout.earlier:
            raise UserError(
                f"{self.path} was written by an earlier version, whose files ({EARLIER}, records/) are read "
                "and not added to: give another --out, or finish it with harness "
                f"{self.manifest().harness_version}, which wrote it"
            )
        return lock.lock(self.path)

    def prepare(self, config: RunConfig) -> None:
        """Make the directory, or let it be of another config from now on.

        Raises:
            UserError: it has a config that no run left.
        """
        content = configs.to_yaml(config).encode()
        if self.config_path.exists() and self.config_path.read_bytes() != content:
            if not (self.path / "cells").is_dir():
                raise UserError(f"{self.config_path} is there, and no run left it: give another --out")
            replace(self.config_path, content)
        make_folder(self.path / "cells")
        if not self.config_path.exists():
            replace(self.config_path, content)
        if folder := configs.base_folder(config):
            replace(self.folder_path, os.path.relpath(folder.resolve(), self.path.resolve()).encode())

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

    def dated(self, config: RunConfig) -> RunConfig:
        """A config with its day: its own, else that on which the run of this directory was begun, else today.

        Raises:
            UserError: the directory's config cannot be read.
        """
        begun = self.config_path.exists() and not self.measured_nothing()
        kept = self.config().date if begun and config.date is None else None
        return msgspec.structs.replace(config, date=config.date or kept or config.day)

    def measured_nothing(self) -> bool:
        """Whether no attempt was ever finished here."""
        folders = [self.path / "records"] if self.layout.earlier else self.layout.folders()
        return not any(
            path.stat().st_size
            for folder in folders
            for path in folder.iterdir()
            if path.suffix in (".jsonl", ".parquet")
        )

    def ask(self, planned: Manifest, keep: Callable[[CellEntry, ModelEntry], bool]) -> None:
        """Let the run be of the cells of a plan from now on; see `asked.ask`."""
        asked.ask(self.layout, planned, keep)

    def add(self, more: Manifest) -> None:
        """Make cells part of the run, with what is known of their engines; see `asked.add`."""
        asked.add(self.layout, more)

    def name(self) -> str:
        """Of the run, by its config. Raises UserError if there is none."""
        return read_file(self.manifest_path, RunFile).name

    def asked_keys(self) -> set[str]:
        """Keys of the cells that are part of the run. Raises UserError if there is none."""
        return set(read_file(self.manifest_path, RunFile).cells)

    def not_asked(self) -> list[CellEntry]:
        """The cells with records that lie here and are no part of the run."""
        part = {self.layout.folder_of(key) for key in self.asked_keys()}
        return [
            read_file(folder / CELL, CellFile).cell
            for folder in self.layout.folders()
            if folder not in part
            and (folder / CELL).exists()
            and ((folder / RECORDS).exists() or any(folder.glob("*.jsonl")))
        ]

    def keep_cautions(self, cautions: Sequence[Caution]) -> None:
        """Replace what is known of the run beside its numbers."""
        run = read_file(self.manifest_path, RunFile)
        seal.write(self.manifest_path, msgspec.structs.replace(run, cautions=tuple(cautions)))

    # What is known

    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            UserError: there is none, or it is not one that this version can read.
        """
        return manifest.read_manifest(self.layout)

    def cells(self) -> list[CellEntry]:
        """The cells of the run, in no order that tells anything. Raises UserError as `manifest`."""
        return manifest.read_cells(self.layout)

    def whole_manifest(self) -> Manifest:
        """The manifest, whose cells are known to be of models that it has. Raises UserError."""
        manifest = self.manifest()
        for cell in manifest.cells.values():
            if cell.model not in manifest.models:
                raise UserError(
                    f"{self.manifest_path}: a cell is of the model {cell.model!r}, and `models` has none of "
                    "that name; restore the file from a copy"
                )
        return manifest

    def checksums(self, manifest: Manifest) -> dict[str, str]:
        """File of the directory -> SHA-256, of everything that has one: by the manifest, and by its cells.

        Raises:
            UserError: a file of checksums is not one that this version can read.
        """
        sums = dict(manifest.checksums)
        if not self.layout.earlier:
            for cell in manifest.cells.values():
                sums |= self.cell_checksums(cell)
        return sums

    def cell_checksums(self, cell: CellEntry) -> dict[str, str]:
        """File of the directory -> SHA-256, by a cell's own checksums. Raises UserError."""
        folder = self.layout.folder(cell)
        inside = folder.relative_to(self.path)
        return {str(inside / name): value for name, value in seal.sealed(folder).items()}

    def engines(self, cell: CellEntry) -> dict[str, EngineFile]:
        """File -> an engine that worked on a cell. Raises UserError."""
        return manifest.read_engines(self.layout, cell.key)

    def files(self) -> Iterator[Path]:
        """Every file that scorecards are made of."""
        yield from (self.config_path, self.manifest_path)
        folders = [self.path / "records"] if self.layout.earlier else self.layout.folders()
        for folder in folders:
            for inside, _, names in os.walk(folder):
                yield from (path for name in names if (path := Path(inside, name)).is_file())

    # Writing

    def writer(self, cell: CellEntry) -> RecordWriter:
        """Appends to a file of a cell that is this process's alone."""
        return RecordWriter(self._own_file(cell))

    def _own_file(self, cell: CellEntry) -> Path:
        return self.layout.make_folder(cell) / f"{self.writer_name}.jsonl"

    def add_engine(self, cell: CellEntry, engine: EngineFile) -> None:
        """Keep what this process's engine is, which is about to work on a cell.

        Raises:
            UserError: the cell has records of an engine that may have given other scores.
        """
        path = self.layout.folder(cell) / f"engine-{self.writer_name}.json"
        if path.exists():
            return
        if self.count(cell):
            for earlier in self.engines(cell).values():
                self._check_same(cell, earlier.facts, engine.facts)
        seal.write(path, engine)
        if self.is_complete(cell):  # another process was first; this engine counts if it came before the seal
            seal.seal_cell(path.parent)
            if path.name not in seal.sealed(path.parent):
                path.unlink()

    def _check_same(self, cell: CellEntry, was: EngineFacts, now: EngineFacts) -> None:
        old, new = ({"name": f.name, "version": f.version, **without_layout(f.details)} for f in (was, now))
        changed = changed_keys(old, new)
        if changes := ", ".join(f"{key} was {old.get(key)} and is {new.get(key)}" for key in changed):
            raise UserError(
                f"{self.path} has a part of {cell.suite} of {cell.model} from another engine ({changes}): "
                "resume with that one, or give another --out"
            )

    def compact(self, cells: Iterable[CellEntry]) -> None:
        """Turn the records of complete cells into Parquet; nothing is done where that was done before."""
        for cell in cells:
            compact.compact(self._of(cell))

    def reopen(self, cell: CellEntry) -> None:
        """Make the records of a complete cell ones that more are appended to; see `compact.reopen`.

        Whoever plans has called `unseal` before: `run.json` has one writer.
        """
        compact.reopen(self._of(cell), self._own_file(cell))

    def unseal(self, cells: Iterable[CellEntry]) -> None:
        """Forget the checksums that `run.json` has of complete cells, which are to be opened again.

        Raises:
            UserError: one of them is not as it was sealed.
        """
        run = read_file(self.manifest_path, RunFile)
        sums = dict(run.checksums)
        for cell in cells:
            name = str((self.layout.folder(cell) / CHECKSUMS).relative_to(self.path))
            seal.check_unchanged(self.path / name, sums.pop(name, None))
        seal.write(self.manifest_path, msgspec.structs.replace(run, checksums=sums))

    def verdicts(self, cell: CellEntry) -> Verdicts:
        """What judges said of a cell."""
        return Verdicts(self.layout.cell(cell).verdicts)

    def seal_verdicts(self, cells: Iterable[CellEntry]) -> None:
        """Keep the checksums of what judges said of complete cells.

        Raises:
            UserError: the checksums of a cell are not those that were sealed.
        """
        run = read_file(self.manifest_path, RunFile)
        sums = dict(run.checksums)
        for cell in cells:
            path = self.layout.folder(cell) / CHECKSUMS
            name = str(path.relative_to(self.path))
            if name in sums:
                seal.check_unchanged(path, sums[name])
                seal.seal_verdicts(path.parent)
                sums[name] = seal.checksum(path)
        seal.write(self.manifest_path, msgspec.structs.replace(run, checksums=sums))

    def seal(self) -> None:
        """Keep the checksums of files that will not change any more.

        A checksum that is already there stays as it is: `harness verify` is to find what changed since.
        """
        if (self.path / RUN).exists():
            cells = [cell for cell in self.manifest().cells.values() if self.is_complete(cell)]
            for cell in cells:
                seal.seal_cell(self.layout.folder(cell))
            asked.seal_run(self.layout, cells)

    # Records

    def _of(self, cell: CellEntry) -> CellRecords:
        if (records := self._records.get(cell.key)) is None:
            records = self._records[cell.key] = CellRecords(cell, self.layout.cell(cell))
        return records

    def is_complete(self, cell: CellEntry) -> bool:
        """Whether a cell's records are in one file, which alone counts."""
        return self._of(cell).complete

    def records(self, cell: CellEntry) -> list[Record]:
        """Finished attempts of a cell, in the order of sample and attempt; see `load.rank` for two of one.

        All at once, transcripts included; see `each_record`.
        """
        return list(self.each_record(cell))

    def each_record(self, cell: CellEntry) -> Iterator[Record]:
        """See `CellRecords.each_record`, and so on."""
        return self._of(cell).each_record()

    def each_judged(self, cell: CellEntry) -> Iterator[Record]:
        """As `each_record`, with the scores that judges gave since."""
        return self._of(cell).each_judged()

    def each_table(self, cell: CellEntry) -> "Iterator[pa.Table]":
        """Tables without transcripts, in the order of sample and attempt."""
        return self._of(cell).each_table()

    def columns(self, cell: CellEntry) -> "pa.Table":
        """What statistics need of a cell, in no order."""
        return self._of(cell).columns()

    def count(self, cell: CellEntry) -> int:
        """How many attempts of a cell are finished."""
        return self._of(cell).count()

    def finished(self, cell: CellEntry, retry_before: float = 0.0) -> dict[tuple[str, int], str]:
        """(sample, attempt) -> content hash of the finished attempts, but for those to be made again."""
        return self._of(cell).finished(retry_before)

    def contents(self, cell: CellEntry) -> dict[tuple[str, int], str]:
        """(sample, attempt) -> content hash of the finished attempts."""
        return self._of(cell).finished()

    def attempts_at(self, cell: CellEntry, sample: str) -> list[Record]:
        """Finished attempts of a cell at one sample."""
        return self._of(cell).attempts_at(sample)

    def kinds(self, cell: CellEntry) -> Counter[str | None]:
        """See `CellRecords.kinds`."""
        return self._of(cell).kinds()

    def samples(self, cell: CellEntry) -> set[str]:
        """The samples that have a finished attempt."""
        return self._of(cell).samples()

    def outcomes(self, cell: CellEntry) -> Iterator[Outcome]:
        """What came of the finished attempts, in the order of sample and attempt."""
        return self._of(cell).outcomes()

    def damaged(self, cell: CellEntry) -> dict[Path, list[int]]:
        """Files -> the numbers of their lines that are not as they were written, and do not count."""
        return self._of(cell).damaged()
