"""Where everything of a run lies.

    DIR/config.yaml          the resolved config
    DIR/run.json             what the config asks for: the keys of its cells
    DIR/cells/NAME/          a cell, which needs nothing beside it
        cell.json                protocol, metrics, samples, attempts, the model's facts, versions
        engine-WRITER.json       an engine that worked on it: facts, hardware, times
        WRITER.jsonl             its records while it is being run, a file for each process that writes
        records.parquet          the same records, once the cell is complete
        injections.json          what was injected, of an imported cell
        verdicts/                what judges said of it, see `harness.records.verdicts`
        checksums.json           of these files, once the cell is complete

Runs of earlier versions are read as they are:

    DIR/manifest.json        all that run.json, cell.json and engine-WRITER.json say
    DIR/records/NAME.jsonl, NAME.parquet
    DIR/injections/NAME.json
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.disk import check_links
from harness.types import CellEntry

CONFIG, RUN, EARLIER = "config.yaml", "run.json", "manifest.json"
CELL, RECORDS, INJECTIONS, CHECKSUMS = "cell.json", "records.parquet", "injections.json", "checksums.json"
VERDICTS = "verdicts"


@dataclass(frozen=True)
class CellPaths:
    """The files of one cell's records."""

    complete: Path
    """All records, once none is owed."""
    injections: Path
    running: Path
    """The folder of the files that are appended to."""
    pattern: str
    """Of the names of these files."""
    verdicts: Path
    """The folder of what judges said."""
    checked: bool
    """Whether each of their lines carries its checksum."""

    def appended(self) -> list[Path]:
        """The files that are appended to, those of all writers."""
        return sorted(self.running.glob(self.pattern))


class Layout:
    """The paths of a run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: dict[str, list[str]] | None = None
        """End of a key -> the folders that have it."""

    @property
    def earlier(self) -> bool:
        """Whether the directory is as earlier versions wrote it."""
        return (self.path / EARLIER).exists() and not (self.path / RUN).exists()

    def folder(self, cell: CellEntry) -> Path:
        """The folder of a cell: the one that has its key, whatever model and suite were called then."""
        names, own = self._with_end(cell.key), cell_name(cell)
        if own not in names:
            own = next((name for name in names if self._key_in(name) == cell.key), own)
        return self.path / "cells" / own

    def folder_of(self, key: str) -> Path | None:
        """The folder of the cell with a key, None if there is none."""
        if not (names := self._with_end(key)):
            self._names = None  # somebody else may have made it
            names = self._with_end(key)
        if len(names) > 1:
            names = [name for name in names if self._key_in(name) == key]
        return self.path / "cells" / names[0] if names else None

    def make_folder(self, cell: CellEntry) -> Path:
        """The folder of a cell, made if there is none."""
        folder = self.folder(cell)
        if not folder.is_dir():
            folder.mkdir(parents=True)
            self._with_end(cell.key).append(folder.name)
        return folder

    def _with_end(self, key: str) -> list[str]:
        if self._names is None:
            self._names = {}
            for folder in self.folders():
                self._names.setdefault(f"--{folder.name.rpartition('--')[2]}", []).append(folder.name)
        return self._names.setdefault(_end(key), [])

    def _key_in(self, name: str) -> str | None:
        """The key of the cell in a folder, None where nothing tells it."""
        try:
            return str(json.loads((self.path / "cells" / name / CELL).read_bytes())["cell"]["key"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def folders(self) -> list[Path]:
        """The folders of all cells, also of those that the config no longer asks for.

        Raises:
            UserError: one leads out of the run, to what whoever made it may not see.
        """
        cells = self.path / "cells"
        if not cells.is_dir():
            return []
        for folder in (self.path, cells):
            check_links(folder, self.path)
        with os.scandir(cells) as entries:
            return sorted(Path(entry) for entry in entries if entry.is_dir())

    def cell(self, cell: CellEntry) -> CellPaths:
        """The files of a cell."""
        if self.earlier:
            records, name = self.path / "records", cell_name(cell)
            injections = self.path / "injections" / f"{name}.json"
            verdicts = self.path / "verdicts" / name
            complete = records / f"{name}.parquet"
            return CellPaths(complete, injections, records, f"{name}.jsonl", verdicts, checked=False)
        folder = self.folder(cell)
        return CellPaths(
            folder / RECORDS, folder / INJECTIONS, folder, "*.jsonl", folder / VERDICTS, checked=True
        )


def _end(key: str) -> str:
    return f"--{re.sub('[^A-Za-z0-9_-]', '_', key[:12])}"


def cell_name(cell: CellEntry) -> str:
    """The name of a cell's folder: model, suite and the beginning of the key.

    Names of models and suites may hold anything; the key keeps the cleaned-up names apart.
    """
    readable = file_name(f"{cell.model}--{cell.suite}")[:120].lstrip(".")
    return readable + _end(cell.key)


def file_name(text: str) -> str:
    """A text as part of a file's name on any machine: what does not belong there is `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)
