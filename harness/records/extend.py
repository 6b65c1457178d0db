"""Records of a smaller cell, which a larger one need not make again: fewer attempts, or a lower limit.

The keys of both differ. That nothing else does is known by the key that the larger one would have, had it the
attempts and the limit of the smaller one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from harness.disk import replace
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.layout import CELL, cell_name
from harness.records.root import is_imported, what_changed
from harness.records.sane import read_file
from harness.records.schema import CellFile
from harness.types import CellEntry, Struct

LIMIT = "limit"
"""Field of the protocol: how many of the first samples are asked."""


class Taken(Struct):
    """What a cell got from a smaller one."""

    cell: CellEntry
    source: CellEntry
    run: Path
    attempts: int
    """That it got."""


def is_part(small: CellEntry, large: CellEntry) -> bool:
    """Whether one may be a part of another: as many or fewer attempts and samples, else one protocol."""
    rest = [{k: v for k, v in cell.protocol.items() if k != LIMIT} for cell in (small, large)]
    return (
        small.key != large.key
        and small.attempts <= large.attempts
        and small.samples <= large.samples
        and rest[0] == rest[1]
    )


Places = Mapping[str, Sequence[tuple[RunDirectory, Path]]]
"""Model and suite, as the names of folders begin -> the runs and folders of their cells."""


def places(runs: Iterable[RunDirectory]) -> Places:
    """Where the cells of runs lie, of which nothing but the names of folders is read."""
    folders: dict[str, list[tuple[RunDirectory, Path]]] = {}
    for run in runs:
        for folder in run.layout.folders():
            folders.setdefault(folder.name.rpartition("--")[0], []).append((run, folder))
    return folders


def extend(
    cell: CellEntry, key_as: Callable[[CellEntry], str], there: Places, out: RunDirectory
) -> Taken | None:
    """Let a cell that has no record begin with those of the smaller cell that has most of them.

    Args:
        cell: of `out`, which asks for it.
        key_as: the key that it would have with the attempts and the limit of another.
        there: where smaller ones may lie.
        out: the run.

    Returns:
        What was taken, None if there was nothing.

    Raises:
        UserError: a file cannot be read.
        DiskError: the disk does not take it.
    """
    candidates = []
    for run, folder in there.get(cell_name(cell).rpartition("--")[0], ()):
        try:
            small = read_file(folder / CELL, CellFile).cell
            sound = is_part(small, cell) and small.key == key_as(small) and _is_sound(run, small)
            if sound and (count := run.count(small)):
                candidates.append((count, run, small))
        except UserError:  # somebody else may have made it: what cannot be read is not taken
            continue
    if not candidates:
        return None
    count, run, small = max(candidates, key=lambda one: (one[0], str(one[1].path)))
    for path in run.layout.folder(small).glob("engine-*.json"):
        replace(out.layout.make_folder(cell) / path.name, path.read_bytes())
    with closing(out.writer(cell)) as writer:
        for record in run.each_record(small):
            writer.append(msgspec.structs.replace(record, cell=cell.key))
    return Taken(cell=cell, source=small, run=run.path, attempts=count)


def _is_sound(run: RunDirectory, cell: CellEntry) -> bool:
    """Whether it was measured, not imported, and is as it was when it was complete, if it is."""
    if is_imported(run, cell.key):
        return False
    return not run.is_complete(cell) or what_changed(run, cell) is None
