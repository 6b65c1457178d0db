"""The documents say what is there: the tree, the commands, the links, the worked example."""

import argparse
import re
import subprocess
import sys

import pytest

from harness.cli import parser
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf8")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def commands() -> set[str]:
    (subparsers,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return set(subparsers.choices)


def test_the_tree_has_a_clause_for_every_module() -> None:
    tree = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "tree.py")], capture_output=True, text=True, check=True
    ).stdout
    for module in (ROOT / "harness").rglob("*.py"):
        if module.name != "__init__.py":
            assert re.search(rf"\b{re.escape(module.name)} +\S", tree), f"{module} has no clause"


def test_every_command_is_in_the_readme_and_no_other() -> None:
    table = README.split("## Commands")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `harness (\w+)", table, re.MULTILINE)) == commands()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), f"{name} links to {target}"


def test_files_named_in_the_readme_exist() -> None:
    for path in re.findall(r"\b(?:configs|scripts|results|harness)/[\w./-]+\.(?:yaml|sh|py|md)\b", README):
        assert (ROOT / path).exists(), f"the README names {path}"


def test_the_demo_shown_is_the_demo_kept() -> None:
    """The scorecards that the README shows are those of results/demo."""
    kept = subprocess.run(
        [sys.executable, "-m", "harness.cli", "scorecard", "results/demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    shown = README.split("## What the demo prints")[1].split("### Line by line")[0]
    lines = [line.rstrip() for line in kept.splitlines() if line.strip()]
    assert len(lines) > 30
    for line in lines:
        assert line in shown, line
