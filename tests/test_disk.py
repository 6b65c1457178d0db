"""What the disk refuses is one sentence, and what was there before is there still."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import Status
from harness.exports import FORMATS
from tests.conftest import ROOT
from tests.run.test_runner import config

LIMITED = """\
import resource, signal, sys
from harness.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""
"""A harness none of whose files may grow beyond so many bytes: writers meet EFBIG, as they do ENOSPC."""


def limited(limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, str(limit), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def one_sentence(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == Status.WRONG_INPUT, answer.stderr
    assert answer.stderr.startswith("harness: ") and answer.stderr.count("\n") == 1, answer.stderr
    assert "File too large" in answer.stderr or "the disk is full" in answer.stderr
    return answer.stderr


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, form: str) -> None:
    if form == "inspect":
        pytest.importorskip("inspect_ai")
    out = tmp_path / "out"
    export = ["export", str(ROOT / "results" / "demo"), "--format", form, "--out", str(out)]
    assert limited(10**9, *export).returncode == Status.DONE
    before = contents(out)
    answer = limited(200, *export)
    said = one_sentence(answer)
    assert "cannot write" in said and str(out) in said
    assert contents(out) == before


@pytest.mark.parametrize("limit", [300, 20_000])
def test_a_run_that_cannot_be_written_loses_nothing_and_resumes(tmp_path: Path, limit: int) -> None:
    out = tmp_path / "out"
    command = ["run", str(config(tmp_path)), "--out", str(out)]
    one_sentence(limited(limit, *command))
    assert limited(10**9, *command).returncode == Status.DONE
    assert limited(10**9, "verify", str(out)).returncode == Status.DONE
    before = contents(out)
    shutil.copytree(out, tmp_path / "again")
    (tmp_path / "again" / "scorecard.md").unlink()  # so that there is something to write
    del before["scorecard.md"]
    one_sentence(limited(min(limit, 300), "run", str(config(tmp_path)), "--out", str(tmp_path / "again")))
    assert {**contents(tmp_path / "again"), ".lock": b""} == {**before, ".lock": b""}


def test_a_pin_that_cannot_be_written_leaves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness import config as configs
    from harness.errors import DiskError
    from harness.models import pin

    path = tmp_path / "m.yaml"
    path.write_text("name: m\npath: some/model\n")
    monkeypatch.setattr(
        Path, "write_bytes", lambda self, data: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(DiskError, match=r"cannot write .*m\.yaml \(No space left\)"):
        pin._write(configs.Document(path), (), "0123abcd")
    assert path.read_text() == "name: m\npath: some/model\n"
