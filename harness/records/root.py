"""A results root: a folder of run directories, whose complete cells other runs may take over.

Nothing is kept of a root but the run directories themselves: cells are found by the ends of their folders'
names, which are those of their keys.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.layout import RUN
from harness.records.manifest import read_cell, read_engines
from harness.records.merge import copy_cell
from harness.records.seal import checksum
from harness.types import IMPORTED, CellEntry


class Root:
    """The run directories right below a folder."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if there is no folder at `path`."""
        if not path.is_dir():
            raise UserError(f"--root {path}: expected a folder of run directories")
        self.path = path

    @cached_property
    def runs(self) -> list[RunDirectory]:
        """All of them."""
        runs = [RunDirectory(file.parent) for file in sorted(self.path.glob(f"*/{RUN}"))]
        return [run for run in runs if run.is_run]

    @cached_property
    def _folders(self) -> dict[str, list[RunDirectory]]:
        """End of the name of a cell's folder -> the runs that have one."""
        folders: dict[str, list[RunDirectory]] = {}
        for run in self.runs:
            for folder in run.layout.folders():
                folders.setdefault(folder.name.rpartition("--")[2], []).append(run)
        return folders

    def runs_with(self, key: str) -> Iterator[RunDirectory]:
        """The runs that have a folder of the cell with a key."""
        for run in self._folders.get(key[:12], ()):
            if run.layout.folder_of(key) is not None:
                yield run

    def take(
        self, cells: Sequence[CellEntry], out: RunDirectory, versions: Mapping[str, str] | None = None
    ) -> tuple[dict[Path, list[CellEntry]], list[str]]:
        """Copy complete cells into a run that asks for them and has nothing of them.

        A cell is taken only if it was measured, not imported, and its files have the checksums that were
        sealed.

        Args:
            cells: that the run asks for.
            out: the run.
            versions: package -> version that its engines must have had; None where any will do.

        Returns:
            (run directory -> cells that came from it, why others were not taken, a sentence each).
        """
        taken: dict[Path, list[CellEntry]] = {}
        refused: list[str] = []
        for cell in cells:
            if out.is_complete(cell) or out.count(cell):
                continue
            for run in self.runs_with(cell.key):
                if run.path.resolve() == out.path.resolve():
                    continue
                try:
                    why = _why_not(run, cell.key, versions)
                    if why is None:
                        copy_cell(run, {}, cell, out)
                        taken.setdefault(run.path, []).append(cell)
                        break
                except UserError as error:  # somebody else may have made it; another run may have it whole
                    why = str(error)
                refused.append(f"{cell.suite} of {cell.model} was not taken from {run.path}: {why}")
        return taken, refused


def _why_not(run: RunDirectory, key: str, versions: Mapping[str, str] | None) -> str | None:
    """Why a cell cannot be taken from a run, None if it can."""
    cell = read_cell(run.layout, key).cell
    if not run.is_complete(cell):
        return "it is not complete"
    if is_imported(run, key):
        return "others ran it"
    for engine in read_engines(run.layout, key).values() if versions is not None else ():
        for package, version in (versions or {}).items():
            if (had := engine.versions.get(package)) != version:
                return f"its engine had {package} {had}, and here is {version}"
    return what_changed(run, cell)


def is_imported(run: RunDirectory, key: str) -> bool:
    """Whether others ran a cell. Raises UserError."""
    return any(engine.facts.name == IMPORTED for engine in read_engines(run.layout, key).values())


def what_changed(run: RunDirectory, cell: CellEntry) -> str | None:
    """What of a complete cell is not as it was sealed, None if everything is. Raises UserError."""
    sums: Mapping[str, str] = run.cell_checksums(cell)
    if str(run.complete_path(cell).relative_to(run.path)) not in sums:
        return "it has no checksum"
    for name, expected in sums.items():
        path = run.path / name
        if not path.exists() or checksum(path) != expected:
            return f"{name} was changed since it was complete"
    return None
