"""What is asked and how it is scored, one adapter a module.

An adapter is a module with an `Options` struct and `build(name, options) -> list[Suite]`.
"""

from importlib import import_module
from typing import Any

from harness.config import OptionError, SuiteSpec, load_options
from harness.errors import Absent, UserError
from harness.suites.access import Access, granted
from harness.suites.base import Suite
from harness.trust import load_object

ADAPTERS = {
    "lm_eval": "harness.suites.lm_eval",
    "agentdojo": "harness.suites.agentdojo",
    "agentdojo_audited": "harness.suites.agentdojo.audited",
    "injecagent": "harness.suites.injecagent",
    "requests": "harness.suites.requests",
}
"""Name -> module. Any other adapter is given by the dotted path of its module."""


def load_suites(spec: SuiteSpec, limit: int | None = None, access: Access | None = None) -> list[Suite]:
    """The suites that one entry of a run config stands for.

    Args:
        spec: adapter, name and options.
        limit: how many samples, where the options do not say.
        access: how far to reach for data; as far as need be if not given.

    Raises:
        Absent: their data are not on this machine, and may not be downloaded.
        OptionError: the adapter does not exist, or its options are not right.
        UserError: the suite cannot be built. Sentences begin with the file and the line that say so, where
            the spec was read from a file.
    """
    try:
        with granted(access or Access()):
            return _load_suites(spec, limit)
    except UserError as error:
        option = error.option if isinstance(error, OptionError) else ""
        line = spec.lines.get(option, spec.lines.get(""))
        text = f"{line}: {error}" if line else str(error)
        if isinstance(error, OptionError):
            raise OptionError(text, option) from error
        raise (Absent if isinstance(error, Absent) else UserError)(text) from error


def _load_suites(spec: SuiteSpec, limit: int | None) -> list[Suite]:
    kind, build = _adapter(spec.adapter)
    given = {"limit": limit, **spec.options} if limit is not None else spec.options
    options = load_options(given, kind, f"suite {spec.name or spec.adapter}")
    suites: list[Suite] = build(spec.name, options)
    return suites


def _adapter(name: str) -> tuple[Any, Any]:
    """An adapter's `Options` and `build`. Raises UserError."""
    if name in ADAPTERS:
        module = import_module(ADAPTERS[name])
        return module.Options, module.build
    if "." not in name:
        raise OptionError(
            f"there is no adapter {name!r}: use one of {', '.join(ADAPTERS)}, or a package.module", "adapter"
        )
    return load_object(f"{name}:Options", "adapter"), load_object(f"{name}:build", "adapter")
