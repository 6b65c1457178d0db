"""Runs put together: the union of the folders of their cells. Contradictions are refused and named."""

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from harness import config as configs
from harness.config import RunConfig
from harness.disk import replace, replacing
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.layout import CELL, CHECKSUMS, INJECTIONS, RECORDS
from harness.records.seal import check_unchanged, checksum
from harness.types import CellEntry, Manifest, ModelEntry

SHOWN = 3
"""Conflicts that are written out."""


def merge(sources: Sequence[RunDirectory], out: RunDirectory) -> list[str]:
    """Put the cells of runs into another directory, beside those that it has.

    A cell that is in several of them is there once: complete where it is complete in one, else with the
    records of all. The directories are left as they are.

    Returns:
        What was done, a line each.

    Raises:
        UserError: a directory is no run, two runs contradict each other, or `out` cannot be written to.
    """
    runs = [(run, run.whole_manifest()) for run in ([out] if out.is_run else []) + list(sources)]
    if conflicts := list(_conflicts(runs)):
        more = f" (and {len(conflicts) - SHOWN} more)" if len(conflicts) > SHOWN else ""
        raise UserError(f"these runs cannot be put together: {'; '.join(conflicts[:SHOWN])}{more}")
    lines = []
    with out.lock():
        (out.path / "cells").mkdir(exist_ok=True)
        lines += _merge_configs([run for run, _ in runs], out)
        for run, manifest in runs:
            if run is out:
                continue
            for cell in manifest.cells.values():
                copy_cell(run, manifest.checksums, cell, out)
            out.add(msgspec.structs.replace(manifest, name=out.path.name, config_digest="merged"))
            lines.append(f"{run.path}: {len(manifest.cells)} cells of {len(manifest.models)} models")
        out.seal()
    return lines


def _conflicts(runs: Sequence[tuple[RunDirectory, Manifest]]) -> Iterator[str]:
    models: dict[str, tuple[Path, ModelEntry]] = {}
    cells: dict[tuple[str, str], tuple[RunDirectory, CellEntry]] = {}
    for run, manifest in runs:
        for name, model in manifest.models.items():
            entry = model.before_loading()
            path, other = models.setdefault(name, (run.path, entry))
            if fields := _differing(msgspec.to_builtins(other), msgspec.to_builtins(entry)):
                yield f"the model {name} of {path} and that of {run.path} differ in {fields}"
        for cell in manifest.cells.values():
            first, had = cells.setdefault((cell.model, cell.suite), (run, cell))
            about = f"{cell.suite} of {cell.model} in {first.path} and in {run.path}"
            if had.key != cell.key:
                fields = _differing(had.protocol, cell.protocol) or "weights or engine arguments"
                yield f"{about} differ in {fields}"
            elif first.is_complete(had) and run.is_complete(cell) and not _same_records(first, run, cell):
                yield f"{about} was measured twice, with other records"


def _differing(one: Mapping[str, object], other: Mapping[str, object]) -> str:
    names = sorted(one.keys() | other.keys())
    return ", ".join(name for name in names if one.get(name) != other.get(name))


def _same_records(first: RunDirectory, other: RunDirectory, cell: CellEntry) -> bool:
    return checksum(first.complete_path(cell)) == checksum(other.complete_path(cell))


def copy_cell(run: RunDirectory, checksums: Mapping[str, str], cell: CellEntry, out: RunDirectory) -> None:
    """Copy the files of a cell, as they are. Of an earlier version the records alone are as they were.

    Where nothing of a complete cell is there, one rename gives it its place: it is there whole or not at all.
    Of two processes the first one's stays, since a folder that is not empty is not replaced.

    Args:
        run: where they are.
        checksums: of a run of an earlier version.
        cell: whose.
        out: where they go.

    Raises:
        UserError: a file is a link, or is not what was sealed.
        DiskError: the disk does not take it.
    """
    folder = out.layout.make_folder(cell)
    if out.is_complete(cell) and (folder / CHECKSUMS).exists():
        return
    complete = run.is_complete(cell)
    if run.layout.earlier and not complete:
        with closing(out.writer(cell)) as writer:
            for record in run.each_record(cell):
                writer.append(record)
        return
    files = _files(run, checksums, cell)
    if not complete or any(folder.iterdir()):
        _copy(files, folder)
        return
    whole = out.path / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        _copy(files, whole)
        whole.rename(folder)
    except OSError:
        if not out.is_complete(cell):
            raise
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _files(run: RunDirectory, checksums: Mapping[str, str], cell: CellEntry) -> dict[str, Path]:
    """Name in the folder of a cell -> its file.

    Checksums come last: if copying ends before, they are not of files that are missing.
    """
    complete = run.is_complete(cell)
    if run.layout.earlier:
        path = run.complete_path(cell)
        check_unchanged(path, checksums.get(str(path.relative_to(run.path))))
        return {INJECTIONS: run.injections_path(cell), RECORDS: path}
    own = run.layout.folder(cell)
    paths = [*own.glob("engine-*.json"), *(() if complete else own.glob("*.jsonl"))]
    paths += [*run.verdicts(cell).files(), own / CELL, own / INJECTIONS]
    paths += [own / RECORDS, own / CHECKSUMS] if complete else []
    return {str(path.relative_to(own)): path for path in paths}


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    for name, source in files.items():
        if source.is_symlink():
            raise UserError(f"{source} is a link: put what it leads to in its place")
        if source.exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as temporary:
                shutil.copyfile(source, temporary)


def _merge_configs(runs: Sequence[RunDirectory], out: RunDirectory) -> list[str]:
    """Write the config of all, where there is one: the same but for models and suites."""
    kept = [run.config() for run in runs if run.config_path.exists()]
    if not kept:
        return []
    one = _union(kept)
    if one is None:
        out.config_path.unlink(missing_ok=True)
        return [
            "the runs have no config in common but for models and suites, so that none is written: attempts "
            "cannot be scored again from the new directory"
        ]
    replace(out.config_path, configs.to_yaml(one).encode())
    return []


def _union(kept: Sequence[RunConfig]) -> RunConfig | None:
    models = {spec.name: spec for config in kept for spec in config.models}
    asked = [spec for config in kept for spec in config.suites]
    # On which lines a suite stands is no part of what is asked.
    suites = {
        msgspec.json.encode(msgspec.structs.replace(spec, lines={}), order="sorted"): spec for spec in asked
    }
    first = msgspec.structs.replace(kept[0], models=tuple(models.values()), suites=tuple(suites.values()))
    for config in kept:
        same = msgspec.structs.replace(
            config, name=first.name, description=first.description, models=first.models, suites=first.suites
        )
        if configs.digest(same) != configs.digest(first):
            return None
    return first
