"""AgentDyn's suites (Li et al., 2026, arXiv 2602.03117): three on AgentDojo's own classes, of 560 pairs.

It is published as a fork whose package has AgentDojo's name and version, so that both cannot be installed.
Its modules are put onto the installed package from a checkout: https://github.com/leolee99/AgentDyn

Its ground truths cannot all be carried out: codes that its tools draw and send by mail stand in them as
`ONE-TIME-PASSWD`, and those of the injection tasks of two suites are one and the same transfer of money. So
nothing is said of attempts (`attempted`), which are known by ground truths.
"""

import hashlib
from importlib import import_module
from typing import Any

from harness.config import as_written
from harness.errors import UserError
from harness.suites.agentdojo.patches import modules_of_fork
from harness.trust import Untrusted, own_folder

SUITES = ("shopping", "github", "dailylife")
FIRST = "shopping"
"""Imported before the others: their tools import it, and it imports their tools."""
PACKAGE = "src/agentdojo"


def load_agentdyn(name: str, checkout: str) -> Any:
    """A task suite of a checkout of AgentDyn.

    Raises:
        Untrusted: data name the checkout, which the reader has not vouched for.
        UserError: there is no such suite, or this is no checkout of it.
    """
    if name not in SUITES:
        raise UserError(f"AgentDyn has no suite {name!r}: use one of {', '.join(SUITES)}")
    folder, may_run = own_folder(checkout)
    if not may_run:
        raise Untrusted("agentdyn", checkout)
    package = folder / PACKAGE
    data = package / "data" / "suites" / name
    if not data.is_dir():
        raise UserError(
            f"agentdyn: {as_written(checkout)} has no folder {PACKAGE}/data/suites/{name}: expected a "
            "checkout of https://github.com/leolee99/AgentDyn"
        )
    try:
        modules_of_fork(package)
        if (package / "default_suites" / "v1" / FIRST).is_dir():
            import_module(f"agentdojo.default_suites.v1.{FIRST}")
        suite = import_module(f"agentdojo.default_suites.v1.{name}.task_suite").task_suite
        import_module(f"agentdojo.default_suites.v1.{name}")  # registers the tasks
    except UserError:
        raise
    except Exception as error:  # whatever another version of the fork raises
        raise UserError(
            f"agentdyn: {as_written(checkout)} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    suite.data_path = data
    return suite


def agentdyn_digest(checkout: str) -> str:
    """12 hex digits for the sources and data that AgentDyn adds, or changes."""
    folder, _ = own_folder(checkout)
    root = folder / PACKAGE
    places = [root / "default_suites/v1/tools", *(root / "default_suites/v1" / name for name in SUITES)]
    places += [root / "data/suites" / name for name in SUITES]
    digest = hashlib.sha256()
    files = (file for place in places for file in place.rglob("*") if file.suffix in (".py", ".yaml"))
    for file in sorted(files):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]
