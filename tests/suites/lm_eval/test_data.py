"""What is asked of the hub for an lm-eval task, and what is refused."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import Absent, UserError
from harness.suites.access import Access
from harness.suites.lm_eval.patches import nltk_downloads, quiet
from harness.suites.lm_eval.suite import Options, build
from tests.data_hub import DataHub, serve

OLD, NEW, NEVER = "a" * 40, "b" * 40, "c" * 40

TASK = """
task: {name}
dataset_path: {path}
test_split: test
output_type: generate_until
doc_to_text: "{{{{a}}}} ="
doc_to_target: "{{{{a}}}}"
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataHub]:
    """A data set with two commits, a task on it, one on a file, and a group of tasks on two data sets."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name, path in (("sums", "me/sums"), ("more", "me/more"), ("plain", "json")):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, path=path))
    with (tasks / "plain.yaml").open("a") as file:
        file.write("dataset_kwargs: {data_files: {test: plain.jsonl}}\n")
    (tasks / "plain.jsonl").write_text('{"a": 7}\n')
    (tasks / "both.yaml").write_text("group: both\ntask: [sums, more]\n")
    found = DataHub("me/sums")
    found.push(OLD, test=[{"a": 1}])
    found.push(NEW, test=[{"a": 2}])
    with serve(found, monkeypatch, tmp_path / "cache"):
        yield found


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def read(folder: Path, task: str = "sums", revision: Any = None, **locked: str) -> Any:
    """(the number in the first document, the commits) of a task."""
    access = Access(locked={key.replace("_", "/"): value for key, value in locked.items()})
    options = Options(task=task, include_path=str(folder / "tasks"), revision=revision)
    suite: Any = build(None, options, access)[0]
    return suite.samples("m", None)[0].payload.doc["a"], suite.needs.data


def test_revisions_are_taken_in_order(hub: DataHub, tmp_path: Path) -> None:
    hub.branches["v1"] = OLD
    assert read(tmp_path) == (2, {"me/sums": NEW})
    assert read(tmp_path, me_sums=OLD) == (1, {"me/sums": OLD})
    assert read(tmp_path, revision=OLD) == (1, {f"me/sums@{OLD}": OLD})
    assert read(tmp_path, revision=OLD, me_sums=NEW) == (1, {f"me/sums@{OLD}": OLD})
    assert read(tmp_path, revision={"me/sums": "v1"}) == (1, {"me/sums@v1": OLD})
    assert read(tmp_path, "plain") == (7, {})


def test_the_commit_is_in_the_protocol(hub: DataHub, tmp_path: Path) -> None:
    hub.commits[NEVER] = hub.commits[NEW]

    def protocol(revision: str | None, task: str = "sums") -> dict[str, str]:
        (suite,) = build(None, Options(task=task, include_path=str(tmp_path / "tasks"), revision=revision))
        return suite.protocol

    old, new, same = protocol(OLD), protocol(NEW), protocol(NEVER)
    assert {key for key in old if old[key] != new[key]} == {"data", "revision"}
    assert {key for key in new if new[key] != same[key]} == {"revision"}
    assert "revision" not in protocol(None, "plain")


def test_offline_the_cache_is_held_to_the_commit(
    hub: DataHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision in (OLD, NEW):
        read(tmp_path, revision=revision)
    offline(monkeypatch)
    asked = len(hub.asked)
    assert read(tmp_path) == (2, {"me/sums": NEW}), "the newest copy"
    assert read(tmp_path, revision=OLD)[0] == 1
    assert read(tmp_path, me_sums=OLD)[0] == 1
    with pytest.raises(Absent, match=f"needs the data set me/sums@{NEVER} at commit {NEVER}, not on this"):
        read(tmp_path, revision=NEVER)
    with pytest.raises(Absent, match="me/sums at main, whose commit no lock says"):
        read(tmp_path, revision="main")
    assert len(hub.asked) == asked


def test_another_commit_than_the_one_asked_for_is_refused(
    hub: DataHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `datasets` gives it when the hub is lost between two questions."""
    import datasets

    original = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda path, *a, revision, **k: original(path, revision=OLD)
    )
    with pytest.raises(UserError, match=f"commit {NEW} was asked for, and {OLD} came from the cache"):
        read(tmp_path)


def test_all_that_is_absent_is_named(hub: DataHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(Absent, match="both needs the data set me/sums and the data set me/more, not on this"):
        read(tmp_path, "both")


@pytest.mark.parametrize(
    ("task", "revision", "says"),
    [
        ("plain", OLD, "plain reads no data set of the hub: leave its revision out"),
        (
            "sums",
            {"me/sum": OLD},
            "revision names the data set me/sum, which lm-eval task sums does not read",
        ),
        ("sums", "v9", "data set me/sums has no revision v9"),
        ("both", OLD, f"revision {OLD} is given for the data sets me/sums and me/more alike"),
    ],
)
def test_revisions_that_cannot_be_meant(
    hub: DataHub, tmp_path: Path, task: str, revision: Any, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        read(tmp_path, task, revision)


def test_gated_data_are_said_to_be(hub: DataHub, tmp_path: Path) -> None:
    hub.gated = True
    with pytest.raises(UserError, match="data set me/sums is gated: accept its terms on its page, then run"):
        read(tmp_path)


def test_what_nltk_fetches_is_seen_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    (tmp_path / "utils.py").write_text("nltk.download('punkt_tab')")
    got: list[tuple[str, bool]] = []

    def download(resource: str, quiet: bool) -> bool:
        got.append((resource, quiet))
        return resource == "punkt_tab"

    monkeypatch.setattr(nltk, "download", download)
    with nltk_downloads("ifeval", tmp_path, allowed=True):
        assert nltk.download("punkt_tab")
        with pytest.raises(UserError, match="ifeval needs stopwords of nltk, which could not be downloaded"):
            nltk.download("stopwords")
    assert got == [("punkt_tab", True), ("stopwords", True)]
    with nltk_downloads("ifeval", tmp_path, allowed=False), pytest.raises(Absent, match="punkt_tab of nltk"):
        nltk.download("punkt_tab")
    assert len(got) == 2 and nltk.download is download


def test_lines_about_data_are_not_shown_and_no_cache_of_a_logger_is_emptied(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emptied() -> None:
        raise AssertionError("the caches of all loggers of the process were emptied")

    monkeypatch.setattr(logging.root.manager, "_clear_cache", emptied)
    below = logging.getLogger("datasets.builder")
    with quiet():
        with quiet():
            below.warning("within both")
        below.warning("within one")
        below.error("an error")
    below.warning("afterwards")
    assert [record.getMessage() for record in caplog.records] == ["an error", "afterwards"]
