"""The documents say what is there: links, commands, code, configs, generated pages, the worked example."""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
import yaml

from harness.cli import parse, parser
from harness.config import ModelSpec, load_config
from harness.errors import pip_install
from tests.conftest import ROOT, script
from tests.documents import PAGES, Block, arguments, blocks, run_page, write_files

README = (ROOT / "README.md").read_text(encoding="utf8")
DOCUMENTS = [*PAGES, ROOT / "CHANGELOG.md"]
BLOCKS = [block for page in PAGES for block in blocks(page)]
CONSOLES = [block for block in BLOCKS if block.language == "console"]
COMMANDS = [(block, command) for block in CONSOLES for command, _ in block.commands]
GENERATED = {f"docs/reference/{name}.md" for name in script("reference").PAGES}


def named(value: object) -> str:
    if isinstance(value, Block):
        return value.where
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def commands() -> set[str]:
    (subparsers,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return set(subparsers.choices)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 170


def test_packages_are_installed_by_names_that_an_index_has() -> None:
    places = [*DOCUMENTS, *(ROOT / "harness").rglob("*.py")]
    assert not [path for path in places if "install 'openweight-harness" in path.read_text()]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ("gpu", "export", "inspect", "ray", "trackers"):
        named = [re.split("[<>=]", wanted)[0] for wanted in extras[extra]]
        said = re.findall(r"'([\w-]+)[<>=.,\d]+'", pip_install(extra).replace("_", "-"))
        assert sorted(said) == sorted(name.replace("_", "-") for name in named)


def test_the_tree_has_a_clause_for_every_module() -> None:
    tree = script("reference").modules()
    for module in (ROOT / "harness").rglob("*.py"):
        if module.name != "__init__.py":
            assert re.search(rf"\b{re.escape(module.name)} +\S", tree), f"{module} has no clause"


def test_every_command_is_in_the_reference_and_no_other() -> None:
    page = script("reference").commands()
    assert set(re.findall(r"^## harness (\w+)", page, re.MULTILINE)) == commands()


def test_every_key_of_the_configuration_has_a_meaning() -> None:
    rows = [row for row in script("reference").configuration().splitlines() if row.startswith("| `")]
    assert len(rows) > 80
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize("page", DOCUMENTS, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not re.match(r"\w+:", target):
            path = Path(os.path.relpath(page.parent / target, ROOT))
            assert (ROOT / path).exists() or str(path) in GENERATED, f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf8")
    for path in re.findall(
        r"\b(?:configs|scripts|results|harness|tests|examples)/[\w./-]+\.(?:yaml|sh|py|md)\b", text
    ):
        assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_blocks_say_what_they_are(block: Block) -> None:
    assert block.language in ("console", "python", "yaml", "text", "json"), block.where
    assert not block.not_run or block.language in ("console", "python"), f"{block.where} runs nothing"


def test_no_fence_is_overlooked() -> None:
    for page in PAGES:
        fences = re.findall(r"^\s*```", page.read_text(encoding="utf8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), f"{page} has a fence that is not read: do not indent it"


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=named)
def test_commands_exist(block: Block, command: str) -> None:
    """Also those that are not run: the parser takes them, the target of make is there."""
    _, words, _ = arguments(command)
    if words[0] == "harness":
        parse(words[1:])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    elif words[0] == "python":
        assert (ROOT / words[1]).exists(), command
    else:
        assert block.not_run, f"{block.where}: {command} is neither run nor said not to be"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=named)
def test_yaml_is_what_it_looks_like(block: Block, tmp_path: Path) -> None:
    """A run, a model or a suite; a part of one has to be a key of it."""
    data = yaml.safe_load(block.text)
    if "suites" in data and "models" in data:
        write_files(ROOT / block.where.rpartition(":")[0], tmp_path)
        path = tmp_path / "the_run.yaml"
        path.write_text(block.text)
        load_config(path)
    elif "path" in data:
        msgspec.convert({"lines": {}, **data}, ModelSpec)
    else:
        assert block.title or data.keys() <= {*ModelSpec.__struct_fields__, "adapter", "engine"}, block.where


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(not b.not_run and b.language != "yaml" for b in blocks(p))], ids=named
)
def test_pages_do_what_they_say(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    answer = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder


def test_the_site_asks_no_other_host_for_anything(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf8")
        assert not loads.findall(text), page
        assert "mermaid" not in text, (
            f"{page} has a diagram, for which the theme loads a script from elsewhere"
        )
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text(encoding="utf8")), (
            sheet
        )


def test_every_page_is_in_the_navigation(site: Path) -> None:
    shown = set(re.findall(r"href=\"([\w/.-]+\.html)\"", (site / "index.html").read_text(encoding="utf8")))
    built = {str(page.relative_to(site)) for page in site.rglob("*.html")} - {"404.html"}
    assert built <= shown | {"index.html"}


def test_the_example_wires_everything_by_hand() -> None:
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "examples/by_hand.py"],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.stdout.startswith("planted_choice/acc 25.0% [17.5%, 34.3%] n=100"), answer.stderr


def test_the_demo_shown_is_the_demo_kept() -> None:
    """The scorecards that the documents show are those of results/demo."""
    kept = subprocess.run(
        [sys.executable, "-m", "harness.cli", "scorecard", "results/demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [line.rstrip() for line in kept.splitlines() if line.strip()]
    assert len(lines) > 30
    start = (ROOT / "docs" / "start.md").read_text(encoding="utf8")
    for line in lines:
        assert line in start, line
    (shown,) = (block for block in blocks(ROOT / "README.md") if block.language == "text")
    for line in shown.text.splitlines():
        assert not line.strip() or line.strip() == "..." or line.rstrip() in lines, line
