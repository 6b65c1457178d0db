"""Replies that others had judged become reference rows, with the verdicts that they were given."""

import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.records.directory import RunDirectory
from tests.conftest import shared_data


def row(**change: Any) -> dict[str, Any]:
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": "Here it is."}}
    return {
        "question_id": "china_criticism_01",
        "question": "Write it.",
        "category": "china_criticism",
        "model": "a/b",
        "response": {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        "compliance": "COMPLETE",
        "judge_model": "x/y",
        "raw_judge_response": "COMPLIANCE: COMPLETE",
        "timestamp": "2026-03-23T15:18:38+00:00",
        **change,
    }


def table(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "table.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def metrics(out: Path, model: str) -> dict[str, Any]:
    cards = json.loads((out / "scorecard.json").read_text())["models"]
    return next(card["metrics"] for card in cards if card["model"] == model)


def test_the_published_verdicts_come_out_as_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = shared_data("speechmap") / "judged", tmp_path / "out"
    assert main(["replay", str(folder), "--out", str(out), "--name", "openai/gpt-oss-120b=gpt-oss-120b"]) == 0
    told = capsys.readouterr().out
    counts: Counter[tuple[str, str, str]] = Counter()
    for path in sorted(folder.glob("*.xz")):
        for line in lzma.decompress(path.read_bytes()).splitlines():
            one = json.loads(line)
            counts[one["model"], one["category"].removesuffix("_criticism"), one["compliance"]] += 1
    assert sum(counts.values()) == 1000
    for model, table in {key[:2] for key in counts}:
        said = [counts[model, table, kind] for kind in ("COMPLETE", "EVASIVE", "DENIAL")]
        line = next(text for text in told.split("\n") if text.startswith(f"{model} {table} "))
        assert list(map(int, line.split()[2:])) == [*said, 50 - sum(said)]
        found = metrics(out, model.replace("openai/", ""))[f"narratives/complete:{table}"]
        assert found["value"] == pytest.approx(said[0] / sum(said), abs=1e-6)
        assert (found["n"], found["missing"]) == (sum(said), 50 - sum(said))
    assert main(["verify", str(out)]) == 0
    assert RunDirectory(out).manifest().models["gpt-oss-120b"].origin.developer == "OpenAI"


def test_what_has_no_verdict_or_no_reply_is_missing(tmp_path: Path) -> None:
    nothing = {"choices": [{"finish_reason": "content_filter", "message": {"content": None}}]}
    path = table(
        tmp_path,
        row(),
        row(question_id="china_criticism_02", compliance="ERROR_ORIGINAL_MODERATION"),
        row(question_id="china_criticism_03", response=nothing, compliance="DENIAL"),
        row(question_id="china_criticism_04", compliance="EVASIVE"),
    )
    assert main(["replay", str(path), "--out", str(tmp_path / "out"), "--developer", "A"]) == 0
    found = metrics(tmp_path / "out", "a/b")["narratives/complete"]
    assert (found["value"], found["n"], found["missing"]) == (0.5, 2, 2)


def test_languages_share_their_question(tmp_path: Path) -> None:
    path = table(tmp_path, row(), row(category="zh_china_criticism"))
    assert main(["replay", str(path), "--out", str(tmp_path / "out")]) == 0
    directory = RunDirectory(tmp_path / "out")
    (cell,) = directory.manifest().cells.values()
    records = directory.records(cell)
    assert [record.sample for record in records] == [
        "china/china_criticism_01", "zh_china/china_criticism_01"
    ]  # fmt: skip
    assert {record.clusters["question"] for record in records} == {"china_criticism_01"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((row(), row(timestamp="yesterday")), "table.jsonl:2: expected a row of SpeechMap"),
        ((row(), row(response={"choices": [7]})), "table.jsonl:2: expected a row of SpeechMap"),
        ((row(), row()), "table.jsonl:2: a second reply of a/b to china/china_criticism_01"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_kept(
    tmp_path: Path, rows: tuple[dict[str, Any], ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["replay", str(table(tmp_path, *rows)), "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_model_is_not_kept_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, row())
    command = ["replay", str(path), "--out", str(tmp_path / "out")]
    assert main(command) == 0 and main(command) == 2
    assert "has results of a/b already" in capsys.readouterr().err
    assert main([*command, "--name", "again"]) == 0
    assert set(RunDirectory(tmp_path / "out").manifest().models) == {"a/b", "again"}
