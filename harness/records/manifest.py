"""The manifest of a run, put together from `run.json` and what lies in the folders of its cells."""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum

import msgspec

from harness.disk import check_links
from harness.errors import UserError
from harness.records.layout import CELL, EARLIER, RUN, VERDICTS, Layout
from harness.records.sane import read_file
from harness.records.schema import CellFile, EngineFile, RunFile
from harness.records.verdicts import Verdicts, is_judged
from harness.types import CellEntry, EngineFacts, GroupMetric, JudgeEntry, Manifest, ModelEntry, SuiteGroup


def read_manifest(layout: Layout) -> Manifest:
    """The manifest of a run.

    Raises:
        UserError: there is none, or a file is not one that this version can read.
    """
    if layout.earlier:
        read = (layout.path, *(layout.path / name for name in ("records", "injections", VERDICTS)))
        for folder in (*read, *layout.path.glob(f"{VERDICTS}/*/")):
            check_links(folder, layout.path)
        return read_file(layout.path / EARLIER, Manifest)
    run = _read_run(layout)
    # In an order that does not depend on which was planned or put in first.
    cells = {key: read_cell(layout, key) for key in run.cells}
    files = [(cells[key], read_engines(layout, key)) for key in sorted(cells)]
    engines = [engine for _, several in files for engine in several.values()]
    return Manifest(
        name=run.name,
        config_digest=run.config_digest,
        harness_version=run.harness_version,
        created=run.created,
        versions=_together([*(c.versions for c, _ in files), *(e.versions for e in engines)]),
        hardware=_together([engine.hardware for engine in engines]),
        models=_models(layout, files),
        cells={cell.cell.key: cell.cell for cell, _ in files},
        groups=_groups(cell.groups for cell in cells.values()),
        checksums=run.checksums,
        cautions=run.cautions,
        judges=_judges(layout, cells.values()),
        git_hash=run.git_hash,
    )


def read_cells(layout: Layout) -> list[CellEntry]:
    """The cells of a run, whatever engines worked on them. Raises UserError as `read_manifest`."""
    if layout.earlier:
        return [*read_manifest(layout).cells.values()]
    return [read_cell(layout, key).cell for key in _read_run(layout).cells]


def _read_run(layout: Layout) -> RunFile:
    if not (layout.path / RUN).exists():
        lacks = f"holds no results (no {RUN})" if layout.path.is_dir() else "is not there"
        raise UserError(f"{layout.path} {lacks}: give a folder that `harness run` wrote")
    return read_file(layout.path / RUN, RunFile)


def _judges(layout: Layout, cells: Iterable[CellFile]) -> dict[str, tuple[JudgeEntry, ...]]:
    judged = [cell.cell for cell in cells if is_judged(cell.cell.metrics)]
    asked = {cell.key: Verdicts(layout.cell(cell).verdicts).compared() for cell in judged}
    return {key: judges for key, judges in asked.items() if judges}


def read_cell(layout: Layout, key: str) -> CellFile:
    """What is planned of a cell. Raises UserError."""
    folder = layout.folder_of(key)
    if folder is None or not (folder / CELL).exists():
        raise UserError(
            f"{layout.path / RUN} asks for the cell {key[:12]!r}, which has no folder in "
            f"{layout.path / 'cells'}: restore it from a copy, or let `harness run` measure it again"
        )
    for part in (folder, folder / VERDICTS):
        check_links(part, layout.path)
    cell = read_file(folder / CELL, CellFile)
    if cell.cell.key != key:
        raise UserError(f"{folder / CELL} is of another cell than its folder; restore it from a copy")
    return cell


def read_engines(layout: Layout, key: str) -> dict[str, EngineFile]:
    """File -> the engine that worked on a cell. Raises UserError."""
    folder = layout.folder_of(key)
    files = sorted(folder.glob("engine-*.json")) if folder else []
    return {path.name: read_file(path, EngineFile) for path in files}


def _models(
    layout: Layout, cells: Sequence[tuple[CellFile, Mapping[str, EngineFile]]]
) -> dict[str, ModelEntry]:
    models: dict[str, ModelEntry] = {}
    engines: dict[str, list[EngineFile]] = {}
    for cell, several in cells:
        name = cell.model.name
        if name != cell.cell.model or models.setdefault(name, cell.model) != cell.model:
            raise UserError(
                f"{layout.folder(cell.cell) / CELL} says other things of the model {name!r} than the other "
                "cells of the run: restore the file from a copy, or `harness run` again with its config"
            )
        engines.setdefault(name, []).extend(several.values())
    return {name: with_engines(models[name], engines[name]) for name in sorted(models)}


def with_engines(model: ModelEntry, engines: Iterable[EngineFile]) -> ModelEntry:
    """A model with what its engines were; where they differ in something, with each of what they said."""
    engines = [*engines]
    if not (facts := [engine.facts for engine in engines]):
        return model
    loads = {engine.started: engine.load_seconds for engine in engines}  # one works on several cells
    known = [seconds for seconds in loads.values() if seconds is not None]
    together = EngineFacts(
        name=_said(sorted(one.name for one in facts)),
        version=_said(sorted(one.version for one in facts)),
        details=_together([one.details for one in facts]),
    )
    return msgspec.structs.replace(model, engine=together, load_seconds=fsum(known) if known else None)


def _together(several: Sequence[Mapping[str, str]]) -> dict[str, str]:
    keys = sorted({key for one in several for key in one})
    return {key: _said(sorted(one[key] for one in several if key in one)) for key in keys}


def _said(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values))


def _groups(several: Iterable[Sequence[SuiteGroup]]) -> tuple[SuiteGroup, ...]:
    """The groups of all cells, each once. An outer one comes before those inside of it, as in each cell."""
    by_name: dict[str, SuiteGroup] = {}
    for groups in several:
        for group in groups:
            by_name.setdefault(group.name, _in_order(group))
    return tuple(by_name.values())


def _in_order(group: SuiteGroup) -> SuiteGroup:
    """The group with the members of its averages in lm-eval's order: files hold the keys of a mapping sorted.

    A sum in another order may differ from lm-eval's in its last digit.
    """
    places = {suite: place for place, suite in enumerate(group.members)}

    def ordered(metric: GroupMetric) -> GroupMetric:
        members = sorted(metric.members.items(), key=lambda member: places.get(member[0], len(places)))
        return msgspec.structs.replace(metric, members=dict(members))

    return msgspec.structs.replace(group, metrics=tuple(map(ordered, group.metrics)))


def groups_with(groups: Iterable[SuiteGroup], cell: CellEntry) -> tuple[SuiteGroup, ...]:
    """The groups that a cell's suite is a part of."""
    return tuple(group for group in groups if cell.suite in group.members)
