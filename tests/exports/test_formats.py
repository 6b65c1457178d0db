"""Exports that other tools read: what is missing stays missing, and which way is better is said."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
import yaml

from harness.analysis.build import build_scorecards
from harness.cli import main
from harness.cli.shared import EXPORTS
from harness.exports import FORMATS, export
from harness.exports.tabular import defuse
from harness.records.directory import RunDirectory
from harness.records.table import to_table, write_table
from harness.types import Generation, Message, ToolCall, Transcript
from tests.analysis.synthetic import synthetic_run

HOSTILE = '=HYPERLINK("http://x","y")'
CALL = ToolCall(id="1", name="pay", arguments={"to": "Zoë", "amount": 3})
REPLY = Generation(text="done", raw="done<end>", finish_reason="stop", prompt_tokens=3, completion_tokens=2)
AGENTIC = Transcript(
    messages=(
        Message(role="user", content="pay"),
        Message(role="assistant", content="", tool_calls=(CALL,)),
        Message(role="tool", content="paid", tool_call_id="1", name="pay"),
        Message(role="assistant", content="done"),
    ),
    generations=(REPLY, REPLY),
)
ASKED = Transcript(
    messages=(Message(role="user", content="2+2?"), Message(role="assistant", content="done")),
    generations=(REPLY,),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The synthetic run with transcripts, and an answer that attacks a spreadsheet."""
    manifest, records = synthetic_run()
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    directory.add(manifest)
    for key, cell in manifest.cells.items():
        transcript = AGENTIC if cell.suite == "agent" else ASKED
        whole = [
            msgspec.structs.replace(
                record,
                transcript=transcript,
                scores=tuple(msgspec.structs.replace(s, answer=HOSTILE) for s in record.scores),
            )
            for record in records[key]
        ]
        write_table(directory.complete_path(cell), to_table(cell, whole))
    return directory


def exported(run: RunDirectory, form: str, out: Path) -> list[Path]:
    paths = export(run, form, out)
    assert paths and all(path.exists() and path.is_relative_to(out) for path in paths)
    return paths


def estimate(run: RunDirectory, model: str, key: str) -> Any:
    cards = build_scorecards(run.manifest(), run.columns)
    return next(card for card in cards if card.model.name == model).metrics[key].estimate


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_command_line_knows_every_format(run: RunDirectory, tmp_path: Path) -> None:
    assert tuple(FORMATS) == EXPORTS
    assert main(["export", str(run.path), "--format", "csv", "--out", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "scores.csv").exists()


@pytest.mark.parametrize("form", ["csv", "eval-results", "every-eval-ever", "lm-eval", "parquet"])
def test_the_same_run_gives_the_same_files(run: RunDirectory, tmp_path: Path, form: str) -> None:
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in exported(run, form, tmp_path / name)
        }
        for name in ("a", "b")
    )
    assert first == second


def test_every_eval_ever_says_that_fewer_hijackings_are_better(run: RunDirectory, tmp_path: Path) -> None:
    aggregate, instances = exported(run, "every-eval-ever", tmp_path)[:2]
    found = json.loads(aggregate.read_text())
    results = {result["evaluation_name"]: result for result in found["evaluation_results"]}
    asr = results["agent/targeted_asr"]
    assert asr["metric_config"]["lower_is_better"] is True
    assert results["questions/accuracy"]["metric_config"]["lower_is_better"] is False
    expected = estimate(run, "aster-dense", "agent/targeted_asr")
    assert asr["score_details"]["score"] == expected.value
    assert asr["score_details"]["uncertainty"]["confidence_interval"]["upper"] == expected.high
    assert asr["score_details"]["details"]["missing"] == "2"
    rows = lines(instances)
    assert found["detailed_evaluation_results"]["total_rows"] == len(rows) == 58 + 19 + 2 * 38
    for row in rows:
        if row["evaluation_name"] == "agent/targeted_asr":
            assert row["evaluation"]["is_correct"] is (row["evaluation"]["score"] == 0)
    agentic = next(row for row in rows if row["interaction_type"] == "agentic")
    assert agentic["messages"][1]["tool_calls"][0]["arguments"] == {"to": "Zoë", "amount": "3"}
    assert agentic["output"] is None
    single = next(row for row in rows if row["interaction_type"] == "single_turn")
    assert (single["input"]["raw"], single["output"]["raw"]) == ("2+2?", ["done<end>"])
    assert found["model_info"]["additional_details"]["country"] == "XA"


def aggregated(out: Path) -> list[dict[str, Any]]:
    """The results of every model, as they were written for Every Eval Ever."""
    files = sorted(out.glob("data/*/*/*/*.json"))
    return [result for path in files for result in json.loads(path.read_text())["evaluation_results"]]


def test_every_eval_ever_is_told_where_neither_is_better(recorded: Path, tmp_path: Path) -> None:
    exported(RunDirectory(recorded), "every-eval-ever", tmp_path)
    found = {r["evaluation_name"]: r["metric_config"] for r in aggregated(tmp_path)}
    exposed, asr = found["banking/exposed"], found["banking/targeted_asr"]
    assert (exposed["lower_is_better"], asr["lower_is_better"]) == (True, True)
    assert exposed["evaluation_description"] == "neither higher nor lower is better"
    assert asr["evaluation_description"] == "lower is better"


@pytest.mark.parametrize("which", ["synthetic", "recorded"])
def test_every_eval_ever_is_valid_by_its_own_validator(
    run: RunDirectory, recorded: Path, tmp_path: Path, which: str
) -> None:
    """The recorded run has AgentDojo attacks, and tasks of lm-eval with right answers."""
    python = os.environ.get("EVERY_EVAL_EVER_PYTHON")
    if not python:
        pytest.skip("EVERY_EVAL_EVER_PYTHON names no Python that has every_eval_ever")
    paths = exported(run if which == "synthetic" else RunDirectory(recorded), "every-eval-ever", tmp_path)
    command = [python, "-m", "every_eval_ever", "validate", "--format", "json"]
    answer = subprocess.run(
        [*command, *(str(path.relative_to(tmp_path)) for path in paths)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    said = [(file["valid"], file["errors"], file["warnings"]) for file in json.loads(answer.stdout)]
    assert said == [(True, [], [])] * len(paths)


def test_nothing_measured_is_nothing_exported(tmp_path: Path) -> None:
    manifest, _ = synthetic_run()
    directory = RunDirectory(tmp_path / "run")
    directory.add(manifest)
    assert export(directory, "every-eval-ever", tmp_path / "a") == []
    assert export(directory, "eval-results", tmp_path / "b") == []


def test_eval_results_are_percentages_with_their_interval(run: RunDirectory, tmp_path: Path) -> None:
    paths = exported(run, "eval-results", tmp_path)
    assert paths[0].relative_to(tmp_path) == Path("aster-dense/.eval_results/agent.yaml")
    entries = {entry["dataset"]["task_id"]: entry for entry in yaml.safe_load(paths[0].read_text())}
    assert set(entries) == {"agent/benign_utility", "agent/targeted_asr"}
    expected = estimate(run, "aster-dense", "agent/targeted_asr")
    found = entries["agent/targeted_asr"]
    assert found["value"] == pytest.approx(100 * expected.value, abs=1e-3)
    assert found["notes"].endswith("n=38 (2 missing), 95% interval, lower is better")


def test_lm_evals_own_readers_find_results_and_samples(run: RunDirectory, tmp_path: Path) -> None:
    from lm_eval.utils import get_file_task_name, get_results_filenames, get_sample_results_filenames

    names = [str(path) for path in exported(run, "lm-eval", tmp_path)]
    results, samples = get_results_filenames(names), get_sample_results_filenames(names)
    assert (len(results), len(samples)) == (4, 8)
    assert {get_file_task_name(Path(name).name) for name in samples} == {"agent", "questions"}
    found = json.loads(Path(results[0]).read_text())
    expected = estimate(run, "aster-dense", "questions/accuracy")
    assert found["results"]["questions"]["accuracy,none"] == expected.value
    assert found["results"]["questions"]["accuracy_stderr,none"] > 0
    assert found["higher_is_better"]["agent"] == {
        "benign_utility": True, "utility_under_attack": True, "targeted_asr": False,
    }  # fmt: skip
    assert found["n-samples"]["agent"] == {"original": 60, "effective": 57}


def test_lm_eval_samples_give_the_value_again(run: RunDirectory, tmp_path: Path) -> None:
    paths = exported(run, "lm-eval", tmp_path)
    path = next(p for p in paths if p.parent.name == "borea-moe" and "samples_questions" in p.name)
    rows = lines(path)
    assert len(rows) == 58
    mean = sum(row["accuracy"] for row in rows) / 58
    assert mean == pytest.approx(estimate(run, "borea-moe", "questions/accuracy").value)
    assert set(rows[0]) >= {
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "filter",
        "doc_hash",
    }
    for row in rows:  # as lm-eval hashes documents
        text = json.dumps(row["doc"], indent=2, ensure_ascii=False)
        assert row["doc_hash"] == hashlib.sha256(text.encode()).hexdigest()
    frame = pd.read_json(path, lines=True)
    assert frame["accuracy"].mean() == pytest.approx(mean)


def test_right_answers_are_exported_where_records_keep_them(recorded: Path, tmp_path: Path) -> None:
    run = RunDirectory(recorded)
    kept = {
        (cell.model, cell.suite): {r.sample: r.scores[0].reason for r in run.records(cell) if r.scores}
        for cell in run.manifest().cells.values()
    }
    (path,) = (
        p
        for p in exported(run, "lm-eval", tmp_path / "lm")
        if p.parent.name == "two" and "samples_choices" in p.name
    )
    for row in lines(path):
        # lm-eval logs the number of a choice, records keep its text.
        assert "ABCD"[int(row["target"])] == kept["two", "choices"][str(row["doc_id"])]
        assert row["target_hash"] == hashlib.sha256(row["target"].encode()).hexdigest()
    paths = [p for p in exported(run, "every-eval-ever", tmp_path / "eee") if p.suffix == ".jsonl"]
    found = {"choices": set(), "sums": set(), "banking": set()}
    for row in (row for path in paths for row in lines(path)):
        found[row["evaluation_name"].partition("/")[0]] |= {tuple(row["input"]["reference"])}
    assert found["banking"] == {()}
    assert found["choices"] <= {("A",), ("B",), ("C",), ("D",)} and found["choices"]
    assert found["sums"] and () not in found["sums"]


def test_tables_hold_every_score_and_every_failure(run: RunDirectory, tmp_path: Path) -> None:
    frame = pd.read_parquet(exported(run, "parquet", tmp_path)[0])
    measured = frame[(frame.model == "borea-moe") & (frame.metric == "targeted_asr")]
    assert len(measured) == 38
    assert measured.value.mean() == pytest.approx(estimate(run, "borea-moe", "agent/targeted_asr").value)
    assert not measured.higher_is_better.astype(bool).any()
    failed = frame[frame.failure.notna()]
    assert len(failed) == 4 * 5 and failed.value.isna().all()
    with exported(run, "csv", tmp_path)[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(frame)
    assert {row["answer"] for row in rows} == {"", "'" + HOSTILE}


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "|cmd", "%x", "\n=1", "\u00a0=1", "\uff1d1"],
)
def test_no_text_is_a_formula(text: str) -> None:
    assert defuse(text) == f"'{text}"


def test_numbers_and_plain_text_stay_as_they_are() -> None:
    assert [defuse(value) for value in (-1.5, None, True, "a=b", "")] == [-1.5, None, True, "a=b", ""]


def test_rates_that_book_failures_come_out_of_the_rows_again(recorded: Path, tmp_path: Path) -> None:
    """AgentDojo's books have failed attempts too. lm-eval's samples have none, so it is not told of them."""
    directory = RunDirectory(recorded)
    key = "banking/benign_utility_agentdojo"
    booked = estimate(directory, "one", key)
    assert (booked.n, booked.missing) == (6, 0)
    frame = pd.read_parquet(exported(directory, "parquet", tmp_path / "table")[0])
    chosen = frame[(frame.model == "one") & (frame.suite + "/" + frame.metric == key)]
    assert (chosen.value.mean(), len(chosen)) == (pytest.approx(booked.value), booked.n)
    assert chosen.failure.notna().sum() == 4
    assert set(frame.metric[frame.booking.notna()]) == {
        m for m in set(frame.metric) if "_agentdojo" in str(m)
    }
    assert chosen.booking.notna().all()
    assert not frame[frame.failure.notna() & frame.metric.notna() & (frame.metric != key.split("/")[1])].size
    paths = [p for p in exported(directory, "every-eval-ever", tmp_path / "eee") if p.suffix == ".jsonl"]
    rows = [row for path in paths for row in lines(path) if row["evaluation_name"] == key]
    results = [r for r in aggregated(tmp_path / "eee") if r["evaluation_result_id"] == key]
    assert results and all(
        "AgentDojo's own booking" in r["metric_config"]["evaluation_description"] for r in results
    )
    assert sum(row["evaluation"]["score"] for row in rows) / len(rows) == pytest.approx(booked.value)
    for path in exported(directory, "lm-eval", tmp_path / "lm"):
        assert "_agentdojo" not in path.read_text()


@pytest.mark.parametrize("form", ["lm-eval", "inspect", "every-eval-ever"])
def test_prompts_that_cannot_be_made_again_are_said(
    run: RunDirectory, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its transcripts of single texts hold no prompt, and its suites are nowhere."""
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    for cell in copy.manifest().cells.values():
        path = copy.complete_path(cell)
        bare = [
            msgspec.structs.replace(r, transcript=Transcript(generations=(REPLY,)))
            for r in copy.records(cell)
        ]
        write_table(path, to_table(cell, bare))
    assert main(["export", str(copy.path), "--format", form, "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    assert "written: " in said.out and "harness: written without the prompts of suite" in said.err
    lines = [
        json.loads(x) for p in (tmp_path / "out").rglob("samples_*.jsonl") for x in p.read_text().splitlines()
    ]
    assert all(line["arguments"] == {} and line["prompt_hash"] is None for line in lines)
    assert bool(lines) == (form == "lm-eval")
