"""The example of a leaderboard that the README names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_example_is_built_of_the_demo_alone_and_says_how_much_it_publishes_before_it_writes(
    tmp_path: Path,
) -> None:
    out = tmp_path / "example"
    environment = {
        **os.environ,
        "HARNESS": str(Path(sys.executable).with_name("harness")),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    answer = subprocess.run(
        [ROOT / "scripts/example_site.sh", out], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    before, after = (
        next(i for i, line in enumerate(lines) if said in line)
        for said in ("publishing 1,016 attempts, 1,016 of them to be read", "4 models, 16 columns")
    )
    assert before < after
    assert "Open models" in (out / "site/index.html").read_text()
