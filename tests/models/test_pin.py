"""Pinning writes a commit into the file, and touches nothing else in it."""

from pathlib import Path

import pytest

from harness.config import load_config, load_model
from harness.errors import UserError
from harness.models.pin import pin

SHA = "f" * 40
SPEC = """\
# What this is
name: m
path: some/model  # on the hub
origin: {developer: D, country: XA}
"""
RUN = """\
name: r
models:
  - name: inline
    path: some/model
    origin: {developer: D, country: XA}
  - ./spec.yaml
  - {name: flow, path: some/model, origin: {developer: D, country: XA}, revision: main}
suites: [{adapter: a}]
sampling: {}
published: true
"""


@pytest.fixture(autouse=True)
def commits(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    asked: list[str | None] = []

    def commit(repository: str, revision: str | None) -> str:
        asked.append(revision)
        return SHA

    monkeypatch.setattr("harness.models.hub.commit", commit)
    return asked


def test_a_model_is_pinned_where_its_comments_stay(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC)
    assert pin(str(file)) == [f"m: some/model@{SHA}"]
    assert load_model(str(file)).revision == SHA
    assert file.read_text() == SPEC.replace("hub\n", f"hub\nrevision: {SHA}\n")


def test_a_branch_becomes_the_commit_it_stands_for(tmp_path: Path, commits: list[str | None]) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC + "revision: main  # for now\n")
    pin(str(file))
    assert commits == ["main"]
    assert file.read_text().endswith(f"revision: {SHA}  # for now\n")


def test_every_model_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    run = tmp_path / "run.yaml"
    run.write_text(RUN)
    with pytest.raises(UserError, match="a published run needs the revision of inline"):
        load_config(run)
    assert len(pin(str(run))) == 3
    assert [model.revision for model in load_config(run).models] == [SHA] * 3


def test_folders_need_no_pin(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC.replace("some/model", str(tmp_path)))
    assert "known by the hash of its files" in pin(str(file))[0]
    assert "revision" not in file.read_text()


def test_keys_on_one_line_without_a_revision_are_left_to_their_writer(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("{name: m, path: some/model, origin: {developer: D, country: XA}}")
    with pytest.raises(UserError, match=f"write `revision: {SHA}` yourself"):
        pin(str(file))


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UserError, match="there is no model 'qwen9'"):
        pin("qwen9")
