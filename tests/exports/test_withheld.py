"""Requests for harm and their replies leave a run as hashes, unless all texts are asked for."""

import json
from pathlib import Path

import msgspec
import pytest

from harness.cli import main
from harness.exports import export
from harness.exports.withheld import hashed
from harness.records.directory import RunDirectory
from harness.suites import is_withheld
from harness.types import Record
from tests.judges.test_second_pass import CONFIG, REQUESTS

pytestmark = pytest.mark.filterwarnings("ignore")  # of inspect_ai's imports

FORMS = ["inspect", "every-eval-ever"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Replies to requests, read by a judge."""
    folder = tmp_path_factory.mktemp("withheld")
    asked = "".join(f"{q},q{i},{kind}\n" for i, (q, kind) in enumerate(REQUESTS))
    (folder / "asked.csv").write_text("id,request,kind\n" + asked)
    config = CONFIG.format(table=folder / "asked.csv").replace(
        "name: judged\n", "name: judged\njudge: refusal-keywords\n"
    )
    (folder / "config.yaml").write_text(config)
    assert main(["run", str(folder / "config.yaml"), "--out", str(folder / "out"), "limit=8"]) == 0
    return RunDirectory(folder / "out")


def texts(form: str, paths: list[Path]) -> str:
    if form != "inspect":
        return "".join(path.read_text() for path in paths)
    log = pytest.importorskip("inspect_ai.log", reason="the extra `export` is not installed")
    return "".join(log.read_eval_log(str(path)).model_dump_json() for path in paths)


@pytest.mark.parametrize("form", FORMS)
def test_texts_are_hashes_and_numbers_stay(judged: RunDirectory, tmp_path: Path, form: str) -> None:
    closed = texts(form, export(judged, form, tmp_path / "closed"))
    whole = texts(form, export(judged, form, tmp_path / "whole", all_texts=True))
    assert "I refuse." in whole and "Answer 2." in whole
    assert "I refuse." not in closed and "Answer 2." not in closed
    assert "sha256:6d94513b7f4723ef" in closed  # of "I refuse.", by sha256sum
    assert "q5" in closed  # what the sample is called


def test_the_command_says_so(
    judged: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(judged.path), "--format", "every-eval-ever", "--out", str(tmp_path)]
    assert main(command) == 0
    said = "hashes stand for the texts of asked: --all-texts writes them"
    assert said in " ".join(capsys.readouterr().out.split())
    assert main([*command, "--all-texts"]) == 0
    assert "hashes" not in capsys.readouterr().out
    assert "I refuse." in "".join(path.read_text() for path in tmp_path.rglob("*_samples.jsonl"))


def test_no_text_of_a_record_is_left(judged: RunDirectory) -> None:
    for cell in judged.manifest().cells.values():
        assert is_withheld(cell)
        for record in judged.each_judged(cell):
            closed = hashed(record)
            left = json.loads(msgspec.json.encode([closed.transcript, closed.scores]))
            words = set(strings(left))
            allowed = {"", "user", "assistant", "stop", *(score.metric for score in record.scores)}
            assert all(word in allowed or word.startswith("sha256:") for word in words)
            assert [s.value for s in closed.scores] == [s.value for s in record.scores]
            assert (closed.usage, closed.sample, closed.failure) == (
                record.usage, record.sample, record.failure
            )  # fmt: skip
            assert isinstance(closed, Record)


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = list(value.values()) if isinstance(value, dict) else value
    return [text for part in parts for text in strings(part)] if isinstance(parts, list) else []


def test_what_is_for_everybody_is_exported_whole(recorded: Path) -> None:
    assert not any(map(is_withheld, RunDirectory(recorded).manifest().cells.values()))


@pytest.mark.parametrize(
    ("task", "closed"),
    [("gpqa_diamond_zeroshot", True), ("inspect_evals/gpqa_diamond", True), ("gsm8k", False)],
)
def test_questions_whose_authors_ask_so_are_withheld(recorded: Path, task: str, closed: bool) -> None:
    (cell, *_) = RunDirectory(recorded).manifest().cells.values()
    assert is_withheld(msgspec.structs.replace(cell, adapter="any", protocol={"task": task})) is closed
