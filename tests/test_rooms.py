"""The order of the rooms: a module imports only from rooms above its own, and nothing heavy on import."""

import dis
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType

import pytest

from tests.conftest import ROOT

ROOMS = [
    {"types"},
    {"errors", "hostile"},
    {"disk"},
    {"bounded", "forked", "memory", "rows", "warned"},
    {"config"},
    {"trust"},
    {"models"},
    {"engines"},
    {"records"},
    {"stats"},
    {"sandbox"},
    {"judges"},
    {"suites"},
    {"run"},
    {"analysis"},
    {"reports"},
    {"replay", "show"},
    {"exports"},
    {"site"},
    {"api"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
PACKAGE = ROOT / "harness"
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def imports(path: Path) -> frozenset[tuple[str, str]]:
    """(module, name) of each `from module import name` of the package's own, inside of functions too.

    Read from the compiled module: `ast.parse` counts how deep it is for the whole interpreter, and fails
    where it is interrupted by itself (CPython 3.11), as in the finalizer of what is collected just then.
    """
    return frozenset(_imports(compile(path.read_text(), str(path), "exec", dont_inherit=True)))


def _imports(code: CodeType) -> Iterator[tuple[str, str]]:
    before = None
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME" and step.argval.split(".")[0] == "harness":
            yield from ((step.argval, name) for name in before or ())
        before = step.argval  # the names of an import are loaded right before it
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _imports(inner)


def imported(path: Path) -> set[str]:
    found = ((*module.split("."), name)[1] for module, name in imports(path))
    return {*found} & RANK.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_upwards(path: Path) -> None:
    own, others = room(path), imported(path)
    if own == "__init__":
        assert not others
        return
    assert own in RANK, f"{own} is not in the list of rooms"
    below = {other for other in others if RANK[other] > RANK[own]}
    beside = {other for other in others if RANK[other] == RANK[own] and other != own}
    assert not below, f"{path.name} imports from {below}, which come after {own}"
    assert not beside, f"{path.name} imports from {beside}, which stand beside {own}"


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_imported(path: Path) -> set[str]:
    found = {f"{where}.{name}" if f"{where}.{name}" in NAMES else where for where, name in imports(path)}
    return found - {module(path)}


NAMES = {module(path) for path in MODULES}


def test_modules_import_in_one_direction_inside_of_rooms_too() -> None:
    graph = {module(path): modules_imported(path) for path in MODULES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(MODULES)


FLOORS = {
    "records": [
        "layout",
        "sane",
        "schema",
        "lines",
        "append",
        "table",
        "lock",
        "seal",
        "workers",
        "verdicts",
        "load",
        "manifest",
        "asked",
        "compact",
        "directory",
        "merge",
        "root",
        "prune",
        "extend",
    ],
    "suites": [
        "access",
        "digests",
        "explanation",
        "messages",
        "subset",
        "difficulty",
        "base",
        "second_models",
        "scoring",
        "scoring_processes",
        "agentdojo_mini",
        "agentdojo",
        "injecagent",
        "inspect_ai",
        "lm_eval",
        "requests",
        "contamination",
        "corpus",
        "declared",
        "restore",
    ],
    "suites.agentdojo": [
        "attempted",
        "canary",
        "diffs",
        "exposure",
        "harm",
        "options",
        "own_suites",
        "stored",
        "yaml_text",
        "detectors",
        "patches",
        "agentdyn",
        "attacks",
        "attackers",
        "defences",
        "environments",
        "world",
        "earlier",
        "audit",
        "agentdyn_audit",
        "compatible",
        "explain",
        "stepwise",
        "replayed",
        "metrics",
        "suite",
        "imported",
        "audited",
        "searched",
    ],
    "suites.agentdojo.stepwise": ["acts", "campaigns", "company", "suite"],
    "suites.inspect_ai": ["conversation", "evaluation", "grader", "scores", "tasks", "suite"],
    "suites.lm_eval": [
        "examples",
        "metrics",
        "patches",
        "code_makers",
        "requests",
        "data",
        "groups",
        "documents",
        "cautions",
        "tasks",
        "suite",
    ],
    "engines": [
        "base",
        "escapes",
        "energy",
        "arguments",
        "payloads",
        "wire",
        "formats",
        "metered",
        "retries",
        "scripted",
        "unread",
        "replies",
        "rendering",
        "endpoint",
        "vllm",
    ],
    "engines.vllm": [
        "last_words",
        "orphans",
        "thoughts",
        "tokens",
        "chat_requests",
        "decoder",
        "reading",
        "pieces",
        "placement",
        "loglikelihoods",
        "start",
        "engine",
    ],
    "analysis": [
        "columns",
        "derived",
        "judged",
        "missing",
        "injection_tasks",
        "pooled",
        "tool_use",
        "build",
        "agents",
        "benchmarks",
        "comparability",
        "compare",
        "defences",
        "transfers",
        "flips",
        "divergence",
        "origins",
        "summary",
        "variants",
        "overall",
        "claims",
        "runs",
    ],
    "analysis.claims": [
        "snapshot",
        "evidence",
        "hardware",
        "models",
        "gaps",
        "sizes",
        "dates",
        "trends",
        "lags",
        "hijacking",
        "judged",
        "mismatches",
        "contrasts",
        "guardrails",
        "costs",
        "adoption",
    ],
    "reports": [
        "text",
        "differences",
        "plotting",
        "document",
        "words",
        "tables",
        "agents",
        "defences",
        "transfers",
        "variants",
        "objects",
        "terminal",
        "html",
        "render",
        "claims_text",
        "compare_text",
        "flips_text",
        "calibration",
        "recall",
        "kept",
    ],
    "site": [
        "settings",
        "local",
        "attempts",
        "exported",
        "reading",
        "board",
        "page",
        "downloads",
        "front",
        "models",
        "suites",
        "document",
        "origins",
        "plots",
        "prose",
        "build",
        "submit",
    ],
}
"""Room -> its modules, in an order in which each is understood from those before it."""


@pytest.mark.parametrize("room", FLOORS)
def test_a_module_imports_only_those_before_it(room: str) -> None:
    folder, named, prefix = PACKAGE.joinpath(*room.split(".")), FLOORS[room], f"harness.{room}."
    there = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    assert sorted([*named, "__init__"]) == sorted(there)
    for place, name in enumerate(named):
        paths = [folder / f"{name}.py", *(folder / name).glob("*.py")]
        used = {own for path in paths if path.exists() for own in modules_imported(path)}
        own = {one.removeprefix(prefix).split(".")[0] for one in used if one.startswith(prefix)}
        after = own - {*named[: place + 1]}
        assert not after, f"{room}/{name} imports {after}, which come after it"


def test_adapters_know_nothing_of_each_other() -> None:
    folders = {path.parent for path in (PACKAGE / "suites").glob("*/__init__.py")}
    for folder in folders:
        used = {name for path in folder.rglob("*.py") for name in modules_imported(path)}
        others = {f"harness.suites.{other.name}" for other in folders - {folder}}
        assert not {name for name in used for other in others if f"{name}.".startswith(f"{other}.")}


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "vllm", "transformers", "lm_eval", "agentdojo", "pandas", "datasets", "numpy", "rich"]
    code = (
        "import sys, harness.cli\n"
        "try: harness.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip().endswith("[]")
