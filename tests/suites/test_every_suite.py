"""Every suite that ships with the harness is made of its data, where those are on this machine."""

from pathlib import Path

import pytest

from harness.config import RunConfig, load_config
from harness.errors import UserError
from harness.suites import load_suites
from tests.conftest import ROOT, shared_data

SUITES = ROOT / "configs" / "suites"
ABSENT = ("not on this machine", "is not installed")
"""What is said where data or a library lack. Anything else is a suite that does not work."""


def read(folder: Path, suite: str) -> RunConfig:
    path = folder / "run.yaml"
    path.write_text(f"name: a\nmodels: [aster-dense]\nsuites: [{suite}]\nsampling: {{}}\n")
    return load_config(path)


def check(config: RunConfig) -> None:
    try:
        suites = load_suites(config.suites[0], {"limit": 3})
        counts = [suite.count() for suite in suites]
    except UserError as error:
        if any(said in str(error) for said in ABSENT):
            pytest.skip(str(error))
        raise
    assert counts and all(count > 0 for count in counts)
    assert all(suite.metrics for suite in suites)


@pytest.mark.parametrize("name", sorted(path.stem for path in SUITES.glob("*.yaml")))
def test_suites(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(shared_data("SOURCES.md").parent))
    check(read(tmp_path, name))


@pytest.mark.parametrize("name", sorted(path.stem for path in (SUITES / "lm_eval_local").glob("*.yaml")))
def test_local_tasks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(shared_data("SOURCES.md").parent))
    entry = f"{{adapter: lm_eval, task: {name}, include_path: 'configs:suites/lm_eval_local', "
    check(read(tmp_path, entry + "data_dir: '${HARNESS_DATA}'}"))
