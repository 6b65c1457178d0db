"""A run is made ready for others: whole, without what is of one machine, sealed and signed after that."""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from harness.cli import main, parse
from harness.errors import Status, UserError
from harness.records.directory import RunDirectory
from harness.records.sane import read_file
from harness.records.schema import EngineFile
from harness.records.seal import write
from harness.replay.verify import verify
from harness.site.settings import read_settings
from harness.site.submit import SUMMARY, submit
from tests.conftest import ROOT, lacking
from tests.runs import reseal, unfinish
from tests.site.roots import make

KEY = "hf_" + "a1B2" * 8


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run whose engine's facts tell of the machine."""
    made = make(tmp_path / "run")
    made.config_path.unlink()
    for path in made.path.glob("cells/*/engine-*.json"):
        told = read_file(path, EngineFile)
        details = {"chat_template": "/home/ann/secret/chat.jinja", "token": KEY, "url": "https://a.org/b/c/d"}
        write(path, msgspec.structs.replace(told, facts=msgspec.structs.replace(told.facts, details=details)))
    reseal(made)
    return RunDirectory(made.path)


def everything(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".yaml", ".md"))


def test_paths_and_keys_are_removed_and_the_rest_still_verifies(run: RunDirectory, tmp_path: Path) -> None:
    before = everything(run.path)
    made = submit(run, tmp_path / "out")
    text = everything(tmp_path / "out")
    assert KEY in before and KEY not in text and "/home/ann" not in text
    assert "chat.jinja" in text and "https://a.org/b/c/d" in text
    assert everything(run.path) == before
    found = verify(RunDirectory(tmp_path / "out"), quick=True, scorecards=False)
    assert [finding.text for finding in found if finding.good is False] == []
    assert "8 paths, 8 keys" in made.summary and made.summary == (tmp_path / "out" / SUMMARY).read_text()
    assert "| aster-dense | questions | 60 | 0 | 2 | numbers |" in made.summary


def test_it_is_signed_after_it_was_stripped(run: RunDirectory, tmp_path: Path) -> None:
    key, signers = tmp_path / "key", tmp_path / "signers"
    if shutil.which("ssh-keygen") is None:
        lacking("ssh-keygen is not installed")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers.write_text(f"ann@lab {key.with_suffix('.pub').read_text()}")
    assert submit(run, tmp_path / "out", key).signed
    found = verify(RunDirectory(tmp_path / "out"), signers, quick=True, scorecards=False)
    assert [finding.signer for finding in found if finding.signer] == ["ann@lab"]


def test_what_is_not_whole_is_not_submitted(run: RunDirectory, tmp_path: Path) -> None:
    cell = next(iter(run.manifest().cells.values()))
    unfinish(run, cell, run.records(cell)[:5])
    with pytest.raises(UserError, match="cannot be submitted"):
        submit(RunDirectory(run.path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_an_earlier_version_is_submitted_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["submit", str(ROOT / "results" / "demo"), "--out", out]) == Status.DONE
    said = capsys.readouterr().out
    assert "1,016 attempts were scored again" in " ".join(said.split()) and "not signed" in said
    assert main(["submit", str(ROOT / "results" / "demo"), "--out", out]) == Status.WRONG_INPUT


def test_the_workflows_name_commands_and_files_that_there_are() -> None:
    folder = ROOT / "examples" / "leaderboard"
    read_settings(folder / "site.yaml")
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    commands = [
        " ".join(found.split())
        for text in texts.values()
        for found in re.findall(r"harness (site [^|\n]*(?:\n +--[^|\n]*)?)", text)
    ]
    assert len(commands) == 3
    for command in commands:
        args = parse(command.split())
        assert args.command.__name__ == "site_command"
        assert {args.config.name, args.allowed_signers.name} <= texts.keys()
    verifying = yaml.safe_load(texts["verify.yml"])
    assert verifying["permissions"] == {"contents": "read"} and "secrets." not in texts["verify.yml"]
    assert yaml.safe_load(texts["publish.yml"])["permissions"] == {"contents": "read"}
