"""What is asked and how it is scored, one adapter a module.

An adapter is a module with an `Options` struct and `build(name, options) -> list[Suite]`; one that loads data
takes a third argument, `access`.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from harness.config import OptionError, SuiteSpec, load_options
from harness.errors import Absent, UserError
from harness.suites.access import Access
from harness.suites.base import Suite
from harness.trust import load_object, plugins
from harness.types import CellEntry

Publication = Literal["public", "numbers"]
"""`public`: every attempt may be shown. `numbers`: numbers and hashes alone, for its licence, since it would
be learned from, or for the harm in it."""

ADAPTERS = {
    "lm_eval": "harness.suites.lm_eval",
    "agentdojo": "harness.suites.agentdojo",
    "agentdojo_audited": "harness.suites.agentdojo.audited",
    "agentdojo_searched": "harness.suites.agentdojo.searched",
    "injecagent": "harness.suites.injecagent",
    "inspect": "harness.suites.inspect_ai",
    "requests": "harness.suites.requests",
    "contamination": "harness.suites.contamination",
    "stepwise": "harness.suites.agentdojo.stepwise",
}
"""Name -> module. Packages that are installed add theirs as entry points of the group
`openweight_harness.suites`; any other adapter is given by the dotted path of its module."""

PUBLICATION: dict[str, Publication] = {
    "lm_eval": "public",
    "agentdojo": "public",
    "agentdojo_audited": "public",
    "agentdojo_searched": "numbers",  # attacks that work, found for a model
    "injecagent": "public",
    "stepwise": "public",
    "contamination": "numbers",  # replies are the items of a table, which may be closed
    "requests": "numbers",  # requests for harm and replies to them; a table of somebody's own may be closed
}
"""Adapter -> whether a site shows its attempts. Of an adapter that is not here it shows numbers alone."""

CLOSED_TASKS = ("gpqa",)
"""Beginnings of names of tasks (lm-eval's, and of packages for Inspect) whose authors ask that questions are
not shown in the open."""

IMPORTERS = {"agentdojo": "harness.suites.agentdojo.imported"}
"""Adapter -> module whose `restore` makes the suites of transcripts that others left."""


def publication(cell: CellEntry) -> Publication:
    """Whether the attempts of a cell may be shown to everybody, by its suite."""
    return "numbers" if is_withheld(cell) else PUBLICATION.get(cell.adapter, "numbers")


def is_withheld(cell: CellEntry) -> bool:
    """Whether a suite is known to hold what is not to be spread. Of one's own adapters nobody has said so."""
    closed = cell.protocol.get("task", "").rpartition("/")[2].startswith(CLOSED_TASKS)
    return closed or PUBLICATION.get(cell.adapter) == "numbers"


def load_suites(
    spec: SuiteSpec, subset: Mapping[str, int] | None = None, access: Access | None = None
) -> list[Suite]:
    """The suites that one entry of a run config stands for.

    Args:
        spec: adapter, name and options.
        subset: option (`limit`, `sample`) -> how many samples, where the options say none of them.
        access: how far to reach for data; as far as need be if not given.

    Raises:
        Absent: their data are not on this machine, and may not be downloaded.
        OptionError: the adapter does not exist, or its options are not right.
        UserError: the suite cannot be built. Sentences begin with the file and the line that say so, where
            the spec was read from a file.
    """
    try:
        kind, build = _adapter(spec.adapter)
        asked = {} if {"limit", "sample"} & spec.options.keys() else dict(subset or {})
        if "sample" in asked and "sample" not in kind.__struct_fields__:
            raise OptionError(
                f"suite {spec.name or spec.adapter}: the adapter {spec.adapter} draws no sample: say `limit` "
                "for this suite, or `sample` only in the suites that can",
                "sample",
            )
        options = load_options({**asked, **spec.options}, kind, f"suite {spec.name or spec.adapter}")
        reach = {"access": access or Access()} if "access" in inspect.signature(build).parameters else {}
        return [_whole(suite, spec.adapter) for suite in build(spec.name, options, **reach)]
    except UserError as error:
        option = error.option if isinstance(error, OptionError) else ""
        line = spec.lines.get(option, spec.lines.get(""))
        text = f"{line}: {error}" if line else str(error)
        if isinstance(error, OptionError):
            raise OptionError(text, option) from error
        raise (Absent if isinstance(error, Absent) else UserError)(text) from error


def adapters() -> dict[str, str]:
    """Name -> module of every adapter that has a name, those of installed packages included."""
    return {**plugins("suites"), **ADAPTERS}


def imported_suite(cell: CellEntry, kept: Path, own: Mapping[str, str]) -> Suite:
    """The suite of transcripts that others left, and that were imported.

    Args:
        cell: of the transcripts.
        kept: file that holds what was injected.
        own: name -> where it is, of suites of one's own, by the person who reads the run.

    Raises:
        UserError: it cannot be made.
    """
    if cell.adapter not in IMPORTERS:
        known = ", ".join(IMPORTERS)
        raise UserError(f"transcripts of {cell.adapter!r} cannot be imported, only those of {known}")
    suite: Suite = import_module(IMPORTERS[cell.adapter]).restore(cell, kept, own)
    return suite


def _whole(suite: Any, adapter: str) -> Suite:
    """A suite with all of the contract: a class of somebody's own that is no subclass is made one.

    Raises:
        UserError: it is no suite.
    """
    kind = type(suite)
    if not isinstance(suite, Suite):
        absent = [name for name in ("name", *CORE) if not hasattr(suite, name)]
        if absent:
            raise UserError(
                f"adapter {adapter} made a {kind.__name__} without {', '.join(absent)}: make it a subclass "
                "of harness.suites.base.Suite"
            )
        suite.__class__ = type(kind.__name__, (kind, Suite), {})
    whole: Suite = suite
    return whole


CORE = ("metrics", "protocol", "count", "samples", "run", "score")
"""What every suite has of its own, beside its name."""


def _adapter(name: str) -> tuple[Any, Any]:
    """An adapter's `Options` and `build`. Raises UserError."""
    if name in ADAPTERS:
        module = import_module(ADAPTERS[name])
        return module.Options, module.build
    module_name = adapters().get(name, name)
    if "." not in name and module_name == name:
        raise OptionError(
            f"there is no adapter {name!r}: use one of {', '.join(adapters())}, or a package.module",
            "adapter",
        )
    return load_object(f"{module_name}:Options", "adapter"), load_object(f"{module_name}:build", "adapter")
