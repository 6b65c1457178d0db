"""What a cell says of its metrics and groups, also where an earlier version of the harness wrote it."""

from collections.abc import Iterator
from importlib import import_module
from itertools import groupby

from harness.types import CellEntry, Declared, Manifest

EARLIER = {"agentdojo": "harness.suites.agentdojo.metrics"}
"""Adapter -> module whose `declared` says it of a cell of version 0.1. Data name no module."""


def declared(cell: CellEntry) -> Declared:
    """What the suite of a cell says of its metrics."""
    if cell.declared is not None:
        return cell.declared
    if cell.adapter not in EARLIER:
        return Declared()
    declaration: Declared = import_module(EARLIER[cell.adapter]).declared(cell)
    return declaration


def groups(manifest: Manifest) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, its suites) of every group, an outer one before those inside of it.

    Runs from before groups were recorded are grouped by the entry of their config, `entry/task`.
    """
    yield from ((group.name, group.members) for group in manifest.groups)
    if manifest.groups:
        return
    named = {
        cell.suite for cell in manifest.cells.values() if cell.adapter == "lm_eval" and "/" in cell.suite
    }
    for name, members in groupby(sorted(named), key=lambda suite: suite.partition("/")[0]):
        yield name, tuple(members)
