"""Fenced blocks of the documents, and running them in order as a reader would."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    where: str
    """`file:line` of its first line."""
    language: str
    title: str | None
    """The name of the file that it is."""
    not_run: str | None
    """Why a test does not run it: `<!-- not run: ... -->` right before it."""
    text: str

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """(command, the lines of its output that are shown), of a console block."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip() and line.strip() != "...":
                found[-1][1].append(line.rstrip())
        return found


FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf8")
    return [
        Block(
            where=f"{page.relative_to(ROOT)}:{text[: m.start('text')].count(chr(10)) + 1}",
            language=m["language"],
            title=m["title"],
            not_run=m["why"],
            text=m["text"],
        )
        for m in FENCE.finditer(text)
    ]


def arguments(command: str) -> tuple[dict[str, str], list[str], int]:
    """(environment, words, status at the end) of a shell command such as `A=b harness x  # status 2`."""
    command, _, comment = command.partition("  #")
    status = re.search(r"status (\d+)", comment)
    words, environment = shlex.split(command), {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    words[0] = words[0].removeprefix(".venv/bin/")
    return environment, words, int(status[1]) if status else 0


def write_files(page: Path, folder: Path) -> None:
    """Write each block of a page that has a title to the file of that name."""
    for block in blocks(page):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf8")


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in order, in a folder that has the files of the page and results/demo.

    Raises:
        AssertionError: a command ended otherwise than it should, or its output is not what the page shows.
    """
    (folder / "results").mkdir()
    shutil.copytree(ROOT / "results" / "demo", folder / "results" / "demo")
    python: list[Block] = []
    write_files(page, folder)
    for block in blocks(page):
        if block.title or block.not_run:
            continue
        if block.language == "python":
            python.append(block)
            _run(["-c", "\n".join(each.text for each in python)], folder, {"PYTHONPATH": "."}, 0, block, [])
        elif block.language == "console":
            for command, shown in block.commands:
                environment, words, status = arguments(command)
                if words[0] == "harness":
                    _run(["-m", "harness.cli", *words[1:]], folder, environment, status, block, shown)
                elif words[0] == "python":
                    _run(words[1:], folder, environment, status, block, shown)


def _run(
    words: list[str], folder: Path, environment: dict[str, str], status: int, block: Block, shown: list[str]
) -> None:
    """Run Python as the installed program does, without the folder on its path."""
    path = os.pathsep.join(part for part in (environment.get("PYTHONPATH"), str(ROOT)) if part)
    own = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", **environment, "PYTHONPATH": path}
    own["HOME"] = str(folder)
    answer = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", *words], cwd=folder, env=own, capture_output=True, text=True
    )
    said = answer.stdout + answer.stderr
    assert answer.returncode == status, f"{block.where}: {words} ended with {answer.returncode}:\n{said}"
    there = {line.rstrip() for line in said.splitlines()}
    for line in shown:
        assert line in there, f"{block.where}: {words} does not say\n{line}\nbut\n{said}"
