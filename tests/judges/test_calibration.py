"""How wrong a judge is, measured on replies that people labelled."""

import asyncio
import csv
import io
import json
import lzma
from collections import Counter
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.judges import Judge, load_judge
from harness.judges.base import judge_all
from harness.judges.calibration import JudgeCalibration, calibrate, errors
from harness.judges.labels import Labelled, read_labels
from harness.stats.misclassification import Calibration, Confusion, confusions
from harness.types import Verdict
from tests.conftest import shared_data

MODELS = {  # of XSTest's published labels: full and partial refusals of 450 (Roettger et al., 2024)
    "gpt4": 220, "llama2new": 274, "llama2orig": 349, "mistralguard": 240, "mistralinstruct": 76
}  # fmt: skip
KEYWORDS = load_judge("refusal-keywords")


def refusals(found: JudgeCalibration) -> dict[str, Confusion]:
    return confusions(found.tables, ["refusal"])


@pytest.fixture(scope="module")
def labelled() -> list[Labelled]:
    return read_labels(sorted(shared_data("xstest_replies").glob("*.csv.xz")), KEYWORDS)


def test_a_judge_that_reads_the_label_gives_the_published_rates(labelled: list[Labelled]) -> None:
    found = calibrate(KEYWORDS, labelled, [Verdict(verdict=one.label, raw="") for one in labelled])
    refused = {model: c.true_positive for model, c in refusals(found).items()}
    assert refused == MODELS and found.kappa == 1
    assert all(c.false_negative == c.false_positive == 0 for c in refusals(found).values())


def test_the_baseline_is_measured_as_a_count_by_hand_has_it(labelled: list[Labelled]) -> None:
    verdicts = asyncio.run(judge_all(Judge(KEYWORDS), [one.exchange for one in labelled]))
    found = calibrate(KEYWORDS, labelled, verdicts)
    pairs = Counter((one.label, said.verdict) for one, said in zip(labelled, verdicts, strict=True))
    sensitivity, specificity = errors(refusals(found).values())
    assert sensitivity.n == 1159 and specificity.n == 1091
    assert sensitivity.value == pairs["refusal", "refusal"] / 1159
    assert specificity.value == pairs["compliance", "compliance"] / 1091
    # Two annotators agree with one another far better than the baseline does with them.
    assert found.kappa_of_people is not None and found.kappa is not None
    assert found.kappa < 0.75 < 0.93 < found.kappa_of_people


def test_rates_that_the_baseline_gave_hold_the_truth_once_corrected(labelled: list[Labelled]) -> None:
    verdicts = asyncio.run(judge_all(Judge(KEYWORDS), [one.exchange for one in labelled]))
    counts = refusals(calibrate(KEYWORDS, labelled, verdicts))
    held, raw_held = 0, 0
    for model, refused in MODELS.items():
        others = Calibration({name: own for name, own in counts.items() if name != model})
        said = counts[model].true_positive + counts[model].false_positive
        found = others.corrected(said, 450)
        held += found.low <= refused / 450 <= found.high
        raw_held += abs(said - refused) <= 2 * (450 * 0.25) ** 0.5
    assert held == 5 and raw_held < 5


def test_a_verdict_that_is_missing_is_in_no_figure(labelled: list[Labelled]) -> None:
    some = labelled[:10]
    none = Verdict(verdict=None, raw="?")
    found = calibrate(KEYWORDS, some, [none, *(Verdict(verdict=one.label, raw="") for one in some[1:])])
    assert found.missing == 1
    assert sum(error.n for error in errors(refusals(found).values())) == 9


def test_the_command_prints_a_table_and_keeps_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        ("a", "q", "I cannot help.", "refusal"),
        ("a", "q", "Sure: 7.", "refusal"),
        ("b", "q", "Yes.", "compliance"),
    ]
    text = io.StringIO()
    csv.writer(text).writerows([("model", "prompt", "completion", "final_label"), *rows])
    with lzma.open(tmp_path / "labels.csv.xz", "wt", encoding="utf8") as file:
        file.write(text.getvalue())
    out = tmp_path / "kept.json"
    assert (
        main(
            ["calibrate", "refusal-keywords", "--labels", str(tmp_path / "labels.csv.xz"), "--out", str(out)]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "50.0% n=2" in said and "refusal/b" in said and "3 labelled replies of 2 models" in said
    kept = json.loads(out.read_text())
    assert kept["tables"] == {
        "a": {"refusal": {"compliance": 1, "refusal": 1}},
        "b": {"compliance": {"compliance": 1}},
    }


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("labels.csv", "prompt,label\nq,refusal\n", "has no column reply or completion"),
        ("labels.csv", "prompt,reply,label\nq,r,maybe\n", "row 1: the label 'maybe' is not a class"),
        ("labels.csv", "", "has no row"),
        ("labels.jsonl", "{", "cannot be read"),
        ("labels.csv.xz", "not compressed", "cannot be read"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_sentence(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        read_labels([tmp_path / name], KEYWORDS)
