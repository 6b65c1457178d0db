"""What is known before anything is loaded: told by the plan, kept in the manifest, a status of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import preflight
from harness.cli import main
from harness.config import load_config
from harness.errors import Status
from harness.plan import make_manifest, make_plan
from harness.preflight import Subject
from harness.types import Caution
from tests.test_runner import config as written


def short_budget(subject: Subject) -> Iterator[Caution]:
    yield subject.caution("short_budget", f"{subject.model.spec.name} has a short budget: raise it")


def nothing_shown(subject: Subject) -> Iterator[Caution]:
    yield subject.caution("nothing_shown", "nothing is shown", void=True)


def test_a_caution_is_told_kept_and_has_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path)
    assert main(["plan", str(config), "--strict"]) == Status.DONE
    capsys.readouterr()
    monkeypatch.setattr(preflight, "CHECKS", (short_budget,))
    assert main(["plan", str(config)]) == Status.DONE
    assert "warning: " in capsys.readouterr().out
    assert main(["plan", str(config), "--strict"]) == Status.WARNED
    kept = make_manifest(make_plan(load_config(config))).cautions
    assert {caution.check for caution in kept} == {"short_budget"}
    assert all(caution.model and caution.suite for caution in kept)


def test_what_measures_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CHECKS", (nothing_shown,))
    plan = make_plan(load_config(written(tmp_path)))
    assert plan.cells == []
    assert {problem.text for problem in plan.problems} == {"nothing is shown"}
