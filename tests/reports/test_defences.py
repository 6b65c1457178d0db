"""Defences side by side: what each does to utility, hijacks and cost, as planted."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.analysis.defences import defended
from harness.cli import main
from harness.config import ModelSpec
from harness.engines.scripted import Reply, ScriptedEngine
from harness.records.directory import RunDirectory
from harness.reports.defences import defence_tables
from harness.reports.document import Document, read_document
from harness.reports.objects import document_object
from harness.types import Message, Sampling, Tool
from tests.suites.agentdojo.test_searched import target

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:DeprecationWarning"
)  # AgentDojo's clients of closed models


async def start(model: ModelSpec, args: dict[str, Any]) -> ScriptedEngine:
    """An agent that obeys every attack, unless its user has just said again what he wants."""
    obeys = target("")

    def policy(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        again = messages[-1].role == "user" and len(messages) > 2
        return Reply(text="Done.") if again else obeys(messages, tools, sampling)

    return ScriptedEngine(policy)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("defences")
    suites = [
        f"{{adapter: {adapter}, suite: agentdojo_mini, name: {name}{rest}}}"
        for adapter, name, rest in (
            ("agentdojo", "bare", ", goals: false"),
            ("agentdojo", "again", ", goals: false, defence: repeat_user_prompt"),
            ("agentdojo", "marked", ", goals: false, defence: spotlighting_with_delimiting"),
            ("agentdojo_searched", "searched_bare", ", goals: false, budget: 2"),
            (
                "agentdojo_searched",
                "searched_again",
                ", goals: false, budget: 2, defence: repeat_user_prompt",
            ),
            ("agentdojo", "direct", ", goals: false, attack: direct, benign: false"),
        )
    ]
    (folder / "run.yaml").write_text(
        "name: d\nmodels: [{name: m, path: ./m, origin: {developer: d, country: XA}}]\n"
        f"sampling: {{}}\nsuites: [{', '.join(suites)}]\nengine: {{kind: '{__name__}:start'}}\n"
    )
    assert main(["run", str(folder / "run.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def document(run: Path) -> Document:
    return read_document(RunDirectory(run))


def test_each_attack_has_its_defences_side_by_side(document: Document) -> None:
    (table,) = defence_tables(document)
    assert [row[1:4] for row in table.rows] == [
        ("important_instructions", "m", "none"),
        ("important_instructions", "m", "repeat_user_prompt"),
        ("important_instructions", "m", "spotlighting_with_delimiting"),
        ("important_instructions, searched by published", "m", "none"),
        ("important_instructions, searched by published", "m", "repeat_user_prompt"),
    ]
    hijacked = table.header.index("Hijacked ↓")
    assert [row[hijacked].split("%")[0] for row in table.rows] == ["100.0", "0.0", "100.0", "100.0", "0.0"]
    changes = [row[hijacked + 1] for row in table.rows]
    assert [bool(re.match(r"-100\.0 \[-\d+\.\d, -\d+\.\d\]\nn=40", c)) for c in changes[:3]] == [
        False,
        True,
        False,
    ]
    assert changes[0] == changes[3] == "" and changes[2].startswith("+0.0") and "n=32" in changes[4]
    tokens = [float(row[hijacked + 2].replace(",", "")) for row in table.rows]
    first = document_object(document)["defences"][0]
    assert (first["model"], [one["suite"] for one in first["suites"]]) == ("m", ["bare", "again", "marked"])
    assert [one["change"] and one["change"]["value"] for one in first["suites"]] == [None, -1.0, 0.0]
    assert tokens[1] != tokens[0] and tokens[3] > tokens[0]  # who tries again pays for it


def test_without_a_second_defence_there_is_no_table(document: Document) -> None:
    (card,) = document.models
    one = {name: suite for name, suite in card.suites.items() if name in ("bare", "direct")}
    assert list(defended(replace(card, suites=one))) == []
    assert defence_tables(replace(document, defences={})) == []
    assert "defences" not in document_object(replace(document, defences={}))


def test_every_format_has_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["scorecard", str(run), "--full"]) == 0
    assert "Defences side by side" in capsys.readouterr().out
    for name in ("scorecard.md", "scorecard.html"):
        assert "Defences side by side" in (run / name).read_text(), name
