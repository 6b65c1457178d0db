"""Data files beside a task's YAML: the right ones are read, and what is wrong with them is said."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.suites.lm_eval.suite import LmEvalSuite, Options, build
from harness.types import Generation, Transcript

TASK = """
task: codes
dataset_path: json
dataset_kwargs: {data_files: {test: FILES}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}]
"""

DOC = {"q": "Which?", "choices": ["aa", "bb"], "gold": 0, "note": None}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write(folder: Path, *docs: dict[str, Any], name: str = "data.jsonl", files: str = "data.jsonl") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "codes.yaml").write_text(TASK.replace("FILES", files))
    (folder / name).write_text("".join(json.dumps(doc) + "\n" for doc in docs))


def suite(folder: Path) -> LmEvalSuite:
    (found,) = build(None, Options(task="codes", include_path=str(folder)))
    assert isinstance(found, LmEvalSuite)
    return found


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?", "r{1,2}un", "a b", "größe 试"])
def test_a_folder_is_no_pattern(tmp_path: Path, name: str) -> None:
    write(tmp_path / "run1", DOC, DOC)
    write(tmp_path / name, *[DOC] * 5)
    assert suite(tmp_path / name).count() == 5


def test_a_pattern_in_the_yaml_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]"
    write(folder, DOC, DOC, name="part-1.jsonl", files='"part-[0-9].jsonl"')
    write(folder, DOC, name="part-2.jsonl", files='"part-[0-9].jsonl"')
    assert suite(folder).count() == 3


def test_a_file_with_another_content_is_another_file(tmp_path: Path) -> None:
    """Copies and archives keep times, by which alone `datasets` tells files apart."""
    write(tmp_path, {**DOC, "q": "Old?"})
    os.utime(tmp_path / "data.jsonl", (1, 1))
    assert suite(tmp_path).samples("m", None)[0].payload.doc["q"] == "Old?"
    write(tmp_path, {**DOC, "q": "New?"})
    os.utime(tmp_path / "data.jsonl", (1, 1))
    assert suite(tmp_path).samples("m", None)[0].payload.doc["q"] == "New?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "its data file {file} holds no document"),
        ("\n \n", "its data file {file} holds no document"),
        ("[]", "its data file {file} holds no document"),
        (
            json.dumps(DOC) + '\n{"q": "cut o',
            r"its data of {file} cannot be read \(JSON parse error: .*row 1",
        ),
        (
            json.dumps({**DOC, "choices": ["", "bb"]}),
            r"document 0: a choice is empty \(field choices\) of {file}",
        ),
        (json.dumps({**DOC, "choices": []}), r"document 0: it has no choices \(field choices\) of {file}"),
        (
            json.dumps({**DOC, "choices": [True, False]}),
            r"document 0: the choice True is not text .* \(field choices\) of {file}",
        ),
        (
            json.dumps({**DOC, "q": None, "choices": ["", "x"]}),
            r"document 0: a null is shown to the model as the text None \(field q\); document 0: a choice is",
        ),
    ],
)
def test_data_that_are_not_there(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path)
    (tmp_path / "data.jsonl").write_text(content)
    with pytest.raises(UserError, match=message.format(file=tmp_path / "data.jsonl")):
        suite(tmp_path)


def test_a_chain_of_archives_is_not_meant(tmp_path: Path) -> None:
    write(tmp_path / "a::b", DOC)
    with pytest.raises(UserError, match=r"takes the `::` in .*data.jsonl for a chain of archives: rename"):
        suite(tmp_path / "a::b")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, DOC)
    (tmp_path / "codes.yaml").write_text(
        (tmp_path / "codes.yaml").read_text().replace("split: test", "split: tset")
    )
    with pytest.raises(UserError, match="its test_split 'tset' is none of the splits of its data: test"):
        suite(tmp_path)


UNSCORED = """
def score(doc, results):
    if results[0] == "I cannot say.":
        return {}
    if results[0] == "Half.":
        return {"right": 0}
    return {"right": int(results[0] == "aa"), "sure": 1}
"""


def test_a_document_without_any_score_is_missing_and_does_not_leave_the_denominator(tmp_path: Path) -> None:
    write(tmp_path, DOC)
    (tmp_path / "own.py").write_text(UNSCORED)
    asked = "output_type: generate_until\nprocess_results: !function own.score"
    text = (tmp_path / "codes.yaml").read_text().replace("output_type: multiple_choice", asked)
    text = text.replace(
        "[{metric: acc}]", "[{metric: right, aggregation: mean}, {metric: sure, aggregation: mean}]"
    )
    (tmp_path / "codes.yaml").write_text(text.replace("doc_to_choice: choices\n", ""))
    made = suite(tmp_path)
    (sample,) = made.samples("m", None)

    def scores(said: str) -> list[tuple[str, float | None]]:
        reply = Generation(text=said, raw=said, finish_reason="stop", prompt_tokens=1, completion_tokens=1)
        return [(s.metric, s.value) for s in made.score(sample, Transcript(generations=(reply,)))]

    assert scores("aa") == [("right", 1.0), ("sure", 1.0)]
    assert scores("I cannot say.") == [("right", None), ("sure", None)]
    assert scores("Half.") == [("right", 0.0)], "what is about other documents is not missing here"
