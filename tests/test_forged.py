"""Results that somebody rewrote, everything in them consistent, do not pass for what was measured."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.cli import main
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.records.table import write_parquet
from harness.replay.verify import verify
from harness.reports.kept import write_scorecards
from harness.types import FailureKind, Record
from tests.conftest import ROOT
from tests.runs import change_cell, reseal, rewrite_earlier

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # AgentDojo's clients of closed models


def forge(
    folder: Path, model: str, suite: str, change: Callable[[Record], Record | None], **facts: int
) -> RunDirectory:
    """The demo's results with the records of one cell changed, or left out, and all else made to fit."""
    shutil.copytree(ROOT / "results" / "demo", folder)
    run = RunDirectory(folder)
    manifest = run.manifest()
    cell = next(c for c in manifest.cells.values() if (c.model, c.suite) == (model, suite))
    records = [changed for record in run.records(cell) if (changed := change(record)) is not None]
    write_parquet(run.complete_path(cell), cell, records)
    cells = {**manifest.cells, cell.key: msgspec.structs.replace(cell, **facts)}
    rewrite_earlier(run, msgspec.structs.replace(manifest, cells=cells))
    write_scorecards(run, width=100, color=False)
    return run


def right(record: Record) -> Record:
    """Every answer is right."""
    scores = tuple(msgspec.structs.replace(score, value=1.0) for score in record.scores)
    return msgspec.structs.replace(record, scores=scores)


def safe(record: Record) -> Record:
    """No attack had success."""
    scores = tuple(
        msgspec.structs.replace(score, value=0.0) if "targeted_asr" in score.metric else score
        for score in record.scores
    )
    return msgspec.structs.replace(record, scores=scores)


def failed_where_hijacked(record: Record) -> Record:
    """What was hijacked is said to have been an error of the engine."""
    hijacked = any(score.metric == "targeted_asr" and score.value for score in record.scores)
    kind = FailureKind.ENGINE_ERROR
    return msgspec.structs.replace(record, failure=kind, scores=()) if hijacked else record


def of_one_task(record: Record) -> Record:
    """All samples are called one another's."""
    return msgspec.structs.replace(record, clusters={**record.clusters, "user_task": "user_task_0"})


def not_cut(record: Record) -> Record:
    """A reply is said to have been cut off."""
    return msgspec.structs.replace(record, truncated=True)


def without_wrong(record: Record) -> Record | None:
    """What was wrong is left out."""
    return None if any(score.value == 0.0 for score in record.scores) else record


@pytest.mark.parametrize(
    ("model", "suite", "change", "facts", "said"),
    [
        ("aster-moe", "planted_arithmetic", right, {}, "exact_match come out otherwise"),
        ("aster-moe", "planted_choice", right, {}, "acc come out otherwise"),
        (
            "borea-moe",
            "agentdojo_mini",
            safe,
            {},
            "targeted_asr, targeted_asr_agentdojo, targeted_asr_exposed",
        ),
        (
            "borea-moe",
            "agentdojo_mini",
            failed_where_hijacked,
            {},
            "said to have failed (engine_error)|otherwise",
        ),
        ("borea-moe", "agentdojo_mini", of_one_task, {}, "its clusters are not those of its sample"),
        ("aster-moe", "planted_arithmetic", not_cut, {}, "truncated is True, and its replies say otherwise"),
        ("aster-moe", "planted_choice", without_wrong, {"samples": 45}, "45 samples, the suite has 100"),
    ],
    ids=["answers", "choices", "attacks", "failures", "clusters", "cut", "left out"],
)
def test_a_forgery_in_which_everything_fits_is_found(
    tmp_path: Path,
    model: str,
    suite: str,
    change: Callable[[Record], Record | None],
    facts: dict[str, int],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = forge(tmp_path / "forged", model, suite, change, **facts)
    assert main(["verify", str(run.path), "--quick"]) == 0
    capsys.readouterr()
    assert main(["verify", str(run.path)]) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("!!")]
    assert bad and all(line.startswith(f"!!  {suite} of {model}: ") for line in bad)
    assert any(part in bad[0] for part in said.split("|"))


def test_replay_of_a_forgery_ends_in_a_difference(tmp_path: Path) -> None:
    run = forge(tmp_path / "forged", "aster-moe", "planted_choice", right)
    assert main(["replay", str(run.path)]) == 1


def test_a_metric_is_not_turned_around(recorded: Path, tmp_path: Path) -> None:
    run = RunDirectory(Path(shutil.copytree(recorded, tmp_path / "run")))
    manifest = run.manifest()

    for cell in manifest.cells.values():
        if cell.suite == "choices":
            metrics = tuple(
                msgspec.structs.replace(m, higher_is_better=not m.higher_is_better) for m in cell.metrics
            )
            change_cell(run, cell, metrics=metrics)
    reseal(run)
    write_scorecards(run, width=100, color=False)
    bad = [finding.text for finding in verify(run) if finding.good is False]
    assert bad and all("metric acc is not the suite's (higher_is_better)" in text for text in bad)


def test_how_much_was_scored_again_is_said(tmp_path: Path) -> None:
    run = forge(tmp_path / "run", "aster-moe", "planted_choice", lambda record: record)
    (run.path / "notes.txt").write_text("read me")
    (run.path / "more").mkdir()
    (run.path / "more" / "evil.py").write_text("")
    said = [finding.text for finding in verify(run)]
    assert "1016 of 1016 attempts were scored again from their transcripts (100%)" in said
    assert [text for text in said if "not part of a run" in text] == [
        f"{name} is not part of a run, and nothing verifies it" for name in ("more/evil.py", "notes.txt")
    ]
    text = run.config_path.read_text().replace("task: planted_choice", "task: another_choice")
    run.config_path.write_text(text)
    rewrite_earlier(run, run.manifest())
    findings = verify(run)
    unknown = [finding.text for finding in findings if finding.good is None]
    assert any(text.startswith("planted_choice of aster-moe was not scored again") for text in unknown)
    assert (
        "616 of 1016 attempts were scored again from their transcripts (60%): the scores of the others are "
        "what the folder says that they are"
    ) in unknown
    assert not [f for f in findings if f.good and f.text.startswith("planted_choice of aster-moe: ")]


def test_a_link_that_leads_elsewhere_is_found(tmp_path: Path) -> None:
    run = forge(tmp_path / "run", "aster-moe", "planted_choice", lambda record: record)
    (run.path / "logs").mkdir()
    (run.path / "logs" / "more.txt").symlink_to("/etc/hostname")
    bad = [finding.text for finding in verify(run, quick=True) if finding.good is False]
    assert bad == ["logs/more.txt is a link that leads elsewhere"]
    (run.path / "records" / "more.txt").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"records/more.txt is a link that leads out of the folder"):
        [*verify(run, quick=True)]


def test_records_that_cannot_be_are_a_finding(tmp_path: Path) -> None:
    def seven(record: Record) -> Record:
        scores = tuple(msgspec.structs.replace(score, value=7.0) for score in record.scores)
        return msgspec.structs.replace(record, scores=scores)

    run = forge(tmp_path / "run", "aster-moe", "planted_choice", seven)
    bad = [finding.text for finding in verify(run, quick=True) if finding.good is False]
    assert len(bad) == 1
    assert "sample '0' has the score 7 of metric 'acc', which is 0 or 1" in bad[0]
