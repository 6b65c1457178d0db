"""What a run asks for, written down before anything is measured: `run.json`, and a `cell.json` a cell."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from harness.records.layout import CELL, CHECKSUMS, CONFIG, RUN, Layout
from harness.records.manifest import (
    groups_with,
    read_cell,
    read_engines,
    read_manifest,
    with_engines,
)
from harness.records.sane import read_file
from harness.records.schema import CellFile, EngineFile, RunFile
from harness.records.seal import checksum, rewrite, write
from harness.types import CellEntry, Manifest, ModelEntry


def ask(layout: Layout, planned: Manifest, keep: Callable[[CellEntry, ModelEntry], bool]) -> None:
    """Let a run be of the cells of a plan, and of those that it had and that are to be kept.

    What is complete under the same key is taken over. The cells of others stay where they are, and are no
    part of the run.

    Args:
        layout: of the directory.
        planned: the plan.
        keep: whether a cell stays that was part of the run and is not in the plan; called with its model.

    Raises:
        UserError: a file that is there is not one that this version can read.
    """
    path = layout.path / RUN
    had = read_file(path, RunFile) if path.exists() else None
    kept = []
    for key in had.cells if had else ():
        if key in planned.cells or layout.folder_of(key) is None:  # what somebody deleted is measured again
            continue
        told = read_cell(layout, key)
        if keep(told.cell, with_engines(told.model, read_engines(layout, key).values())):
            kept.append(told)
    changed = [_write_cell(layout, planned, cell) for cell in planned.cells.values()]
    changed += [_retell(layout, told, planned) for told in kept]
    cells = [*planned.cells, *(told.cell.key for told in kept)]
    _write_run(layout, planned, cells, dict(filter(None, changed)), begun=had or planned)


def add(layout: Layout, more: Manifest) -> None:
    """Make cells part of a run, beside those that it has. What is known of their engines is written too.

    Raises:
        UserError: as `ask`.
    """
    had = read_manifest(layout) if (layout.path / RUN).exists() else more
    changed = []
    for cell in more.cells.values():
        changed.append(_write_cell(layout, more, cell))
        facts = more.models[cell.model].engine
        if facts is not None and not list(layout.folder(cell).glob("engine-*.json")):
            told = EngineFile(facts=facts, hardware=more.hardware, versions=more.versions, started=0.0)
            write(layout.folder(cell) / "engine-earlier.json", told)
    cautions = tuple(dict.fromkeys((*had.cautions, *more.cautions)))
    run = msgspec.structs.replace(had, harness_version=more.harness_version, cautions=cautions)
    cells = list(dict.fromkeys([*had.cells, *more.cells]))
    _write_run(layout, run, cells, dict(filter(None, changed)), begun=had)


Changed = tuple[str, str] | None
"""See `seal.rewrite`."""


def _write_cell(layout: Layout, planned: Manifest, cell: CellEntry) -> Changed:
    folder = layout.make_folder(cell)
    if (folder / CELL).exists():
        return _retell(layout, read_cell(layout, cell.key), planned, suite=cell.suite)
    told = CellFile(
        cell=cell,
        model=planned.models[cell.model].before_loading(),
        groups=groups_with(planned.groups, cell),
        harness_version=planned.harness_version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=planned.versions,
    )
    write(folder / CELL, told)
    return None


def _retell(layout: Layout, had: CellFile, planned: Manifest, suite: str | None = None) -> Changed:
    """Write anew what a plan says otherwise of a cell and no score depends on: names, origin, groups."""
    cell = msgspec.structs.replace(had.cell, suite=suite or had.cell.suite)
    model = planned.models.get(cell.model, had.model).before_loading()
    if model.architecture is None:  # its weights are not here any more
        model = msgspec.structs.replace(model, architecture=had.model.architecture)
    groups = groups_with(planned.groups, cell)
    if suite is None and not groups:  # its suite cannot be made this time
        groups = had.groups
    told = msgspec.structs.replace(had, cell=cell, model=model, groups=groups)
    return rewrite(layout.folder(cell), CELL, told) if told != had else None


def _write_run(
    layout: Layout,
    run: Manifest,
    cells: Sequence[str],
    changed: Mapping[str, str],
    *,
    begun: RunFile | Manifest,
) -> None:
    """Write `run.json`. changed: checksums that it may have -> what they are now; begun: as the run was."""
    had = read_file(layout.path / RUN, RunFile).checksums if (layout.path / RUN).exists() else {}
    folders = [folder for key in cells if (folder := layout.folder_of(key))]
    final = {str((folder / CHECKSUMS).relative_to(layout.path)) for folder in folders}
    sums = {name: changed.get(value, value) for name, value in had.items() if name in final}
    if (layout.path / CONFIG).exists():
        sums[CONFIG] = checksum(layout.path / CONFIG)
    file = RunFile(
        name=run.name,
        config_digest=run.config_digest,
        harness_version=run.harness_version,
        created=begun.created,
        git_hash=begun.git_hash,
        cells=tuple(cells),
        cautions=run.cautions,
        checksums=sums,
    )
    write(layout.path / RUN, file)


def seal_run(layout: Layout, cells: Iterable[CellEntry]) -> None:
    """Keep the checksums of complete cells in `run.json`; see `seal_cell`."""
    run = read_file(layout.path / RUN, RunFile)
    files = [layout.path / CONFIG, *(layout.folder(cell) / CHECKSUMS for cell in cells)]
    names = {str(path.relative_to(layout.path)): path for path in files if path.exists()}
    missing = {name: checksum(path) for name, path in names.items() if name not in run.checksums}
    if missing:
        write(layout.path / RUN, msgspec.structs.replace(run, checksums={**run.checksums, **missing}))
