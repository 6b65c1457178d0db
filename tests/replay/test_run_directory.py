"""Scoring a run's records again."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from harness import bounded
from harness.cli import main
from harness.config import ModelSpec, load_config
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.table import write_parquet
from harness.replay import replay
from harness.suites import restore
from harness.suites.restore import Restored, renderer
from harness.types import CellEntry, FailureKind, Message, Origin, Record

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # AgentDojo's clients of closed models


@pytest.fixture
def copied(recorded: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(recorded, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def cell(directory: RunDirectory, suite: str, model: str = "one") -> CellEntry:
    return next(c for c in directory.manifest().cells.values() if (c.suite, c.model) == (suite, model))


def rewrite(directory: RunDirectory, suite: str, change: dict[str, Record]) -> None:
    entry = cell(directory, suite)
    records = [change.get(r.sample, r) if r.attempt == 0 else r for r in directory.records(entry)]
    write_parquet(directory.complete_path(entry), entry, records)


def find(directory: RunDirectory, suite: str, sample: str) -> Record:
    return next(r for r in directory.records(cell(directory, suite)) if r.sample == sample)


def test_every_record_of_every_suite_is_scored_as_before(recorded: Path) -> None:
    report = replay(recorded)
    assert (report.runs, report.utility_equal, report.security_equal) == (48, 48, 48)
    assert report.differences == ()
    assert {(t.model, t.suite) for t in report.tallies} == {
        (model, suite) for model in ("one", "two") for suite in ("banking", "sums", "choices")
    }


def test_a_changed_score_is_named_with_both_values(copied: RunDirectory) -> None:
    record = find(copied, "banking", "user_task_0/injection_task_0")
    scores = tuple(
        msgspec.structs.replace(s, value=1.0 - (s.value or 0)) if s.metric == "targeted_asr" else s
        for s in record.scores
    )
    rewrite(copied, "banking", {record.sample: msgspec.structs.replace(record, scores=scores)})
    report = replay(copied.path)
    assert (report.runs - report.utility_equal, report.runs - report.security_equal) == (0, 1)
    (difference,) = report.differences
    assert (difference.model, difference.pair) == ("one", "banking/user_task_0/injection_task_0")
    assert difference.stored["targeted_asr"] != difference.replayed["targeted_asr"]
    assert difference.stored.keys() == {"targeted_asr"}


def test_a_changed_transcript_is_not_scored(copied: RunDirectory) -> None:
    record = find(copied, "banking", "user_task_0")
    messages = tuple(
        msgspec.structs.replace(m, content="Nothing to pay.") if m.role == "tool" else m
        for m in record.transcript.messages
    )
    transcript = msgspec.structs.replace(record.transcript, messages=messages)
    rewrite(copied, "banking", {"user_task_0": msgspec.structs.replace(record, transcript=transcript)})
    (difference,) = replay(copied.path).differences
    assert "in the replay and 'Nothing to pay.' in the run" in difference.reason
    metrics = ("benign_utility", "benign_utility_agentdojo", "no_tool_call_benign")
    assert difference.replayed == dict.fromkeys(metrics)


def test_failures_of_the_engine_stay_failures_and_those_of_the_scorer_are_scored(
    copied: RunDirectory,
) -> None:
    record = find(copied, "sums", "0")
    failed = msgspec.structs.replace(
        record, scores=(), failure=FailureKind.SCORER_ERROR, failure_message="it had a bug"
    )
    dead = msgspec.structs.replace(failed, sample="1", failure=FailureKind.ENGINE_ERROR)
    rewrite(copied, "sums", {"0": failed, "1": dead})
    (difference,) = replay(copied.path).differences
    assert difference.pair == "sums/0"
    assert difference.reason == "the scorer had failed (it had a bug)"
    assert difference.stored == {"exact_match": None}


def test_a_sample_that_is_gone_is_named(copied: RunDirectory) -> None:
    record = find(copied, "choices", "0")
    rewrite(copied, "choices", {"0": msgspec.structs.replace(record, sample="no such")})
    (difference,) = replay(copied.path).differences
    assert difference.reason == "the suite has no such sample any more"


def test_json_is_what_it_is_said_to_be(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recorded), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["runs"] == report["utility_equal"] == report["security_equal"] == 48
    assert report["differences"] == []


def test_what_cannot_be_replayed_is_said(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, says in (
        (["replay", str(tmp_path / "absent")], "there is no"),
        (["replay", str(tmp_path)], "holds neither a run of this harness"),
        (["replay", str(recorded), "--out", str(tmp_path / "out")], "--out is for transcripts"),
    ):
        assert main(arguments) == 2
        assert says in capsys.readouterr().err


def test_a_suite_that_the_config_no_longer_makes_is_said(copied: RunDirectory) -> None:
    text = copied.config_path.read_text().replace("name: sums", "name: totals")
    copied.config_path.write_text(text)
    with pytest.raises(UserError, match="makes no suite 'sums'"):
        replay(copied.path)


def test_prompts_need_the_chat_template(recorded: Path) -> None:
    spec = ModelSpec(name="far", path="nobody/far-away", origin=Origin(developer="A", country="XA"))
    with pytest.raises(UserError, match="nobody/far-away is not on this machine"):
        renderer(spec)
    here = load_config(recorded / "config.yaml").models[0]
    assert renderer(here)([Message(role="user", content="Hello")], True).count("Hello") == 1


def test_suites_that_need_no_template_ask_for_no_tokenizer(copied: RunDirectory) -> None:
    text = copied.config_path.read_text().replace("harness:models/planted/aster-dense", "nobody/far-away")
    copied.config_path.write_text(text)
    run = Restored(copied)
    for suite in ("banking", "choices"):
        assert run.samples(cell(copied, suite), run.suite(cell(copied, suite)))
    with pytest.raises(UserError, match="download its tokenizer"):
        run.samples(cell(copied, "sums"), run.suite(cell(copied, "sums")))


def test_the_tokenizer_is_read_outside_of_the_time_that_a_prompt_may_take(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within: list[bool] = []
    load = restore.load_template
    monkeypatch.setattr(
        restore, "load_template", lambda *args: (within.append(bool(bounded._active)), load(*args))[1]
    )
    run = Restored(RunDirectory(recorded))
    sums = cell(run.directory, "sums")
    assert run.samples(sums, run.suite(sums))
    assert within == [False]
