"""Each command that writes, on a disk that refuses: one sentence, what was there is there, and it goes on."""

import errno
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import Status
from tests.conftest import ROOT
from tests.judges.test_second_pass import CONFIG, JUDGE
from tests.replay.test_transcripts import BILL, PAYEE, conversation, payment
from tests.replay.test_transcripts import run as agentdojo_run
from tests.replay.test_transcripts import write as write_transcripts
from tests.test_disk import contents

REFUSALS = {
    "full": (errno.ENOSPC, "write"),
    "full at last": (errno.ENOSPC, "fsync"),
    "over quota": (errno.EDQUOT, "write"),
    "over quota at last": (errno.EDQUOT, "fsync"),
    "read-only": (errno.EROFS, "open"),
    "read-only meanwhile": (errno.EROFS, "rename"),
    "gone": (errno.ESTALE, "open"),
    "gone meanwhile": (errno.ESTALE, "rename"),
    "removed": (errno.ENOENT, "rename"),
    "broken": (errno.EIO, "write"),
    "no folders": (errno.EDQUOT, "mkdir"),
}
"""What a disk may say, and at what."""


class Refusing:
    """A file that is open for writing, and takes nothing."""

    def __init__(self, file: Any, number: int) -> None:
        self._file, self._number = file, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Refusing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: Any) -> int:
        raise OSError(self._number, os.strerror(self._number), str(self._file.name))


class Disk:
    """Refuses one kind of thing in a folder."""

    def __init__(self, folder: Path, number: int, at: str) -> None:
        """Args: folder: of the disk. number: the `errno`. at: what is refused."""
        self._folder, self._number, self._at = folder.resolve(), number, at
        self._open, self._fsync, self._mkdir = io.open, os.fsync, os.mkdir
        self._replace, self._link = os.replace, os.link
        self.refused: list[str] = []

    def _asked(self, at: str, path: Any) -> bool:
        """Whether this is refused."""
        if at != self._at or isinstance(path, int):
            return False
        if not Path(os.fspath(path)).resolve().is_relative_to(self._folder):
            return False
        self.refused.append(str(path))
        return True

    def _check(self, at: str, path: Any) -> None:
        if self._asked(at, path):
            raise OSError(self._number, os.strerror(self._number), str(path))

    def _opened(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax+"):
            return self._open(file, mode, *args, **kwargs)
        self._check("open", file)
        opened = self._open(file, mode, *args, **kwargs)
        return Refusing(opened, self._number) if self._asked("write", file) else opened

    def _synced(self, file: int) -> None:
        self._check("fsync", os.readlink(f"/proc/self/fd/{file}"))  # noqa: PTH115
        self._fsync(file)

    def _renamed(self, source: Any, target: Any, **kwargs: Any) -> None:
        self._check("rename", target)
        self._replace(source, target, **kwargs)

    def _linked(self, source: Any, target: Any, **kwargs: Any) -> None:
        if Path(target).suffix != ".gz":  # a site copies its shards where it cannot link them
            self._check("rename", target)
        self._link(source, target, **kwargs)

    def _made(self, path: Any, *args: Any, **kwargs: Any) -> None:
        if not Path(path).exists():
            self._check("mkdir", path)
        self._mkdir(path, *args, **kwargs)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """While inside, it does."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(io, "open", self._opened)
            patch.setattr("builtins.open", self._opened)
            patch.setattr(os, "fsync", self._synced)
            patch.setattr(os, "replace", self._renamed)
            patch.setattr(os, "rename", self._renamed)
            patch.setattr(os, "link", self._linked)
            patch.setattr(os, "mkdir", self._made)
            yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "asked.csv").write_text("id,request,kind\nq1,q1,safe\nq2,q2,unsafe\n")
    (folder / "config.yaml").write_text(CONFIG.format(table=folder / "asked.csv"))
    (folder / "judge.yaml").write_text(JUDGE.format(more=""))
    (folder / "labels.csv").write_text("request,reply,label\na,I cannot help.,refusal\nb,Yes.,compliance\n")
    assert main(["run", str(folder / "config.yaml"), "--out", str(folder / "done")]) == Status.DONE
    paid = agentdojo_run(conversation(BILL, payment(PAYEE)))
    write_transcripts(folder / "transcripts", paid)
    model = ROOT / "harness" / "models" / "planted" / "aster-dense"
    shutil.copytree(model, folder / "model")
    shutil.copytree(folder / "done", folder / "judged")
    assert main(["judge", str(folder / "judged"), "--judge", str(folder / "judge.yaml")]) == Status.DONE
    return folder


COMMANDS = {
    "run": "run {world}/config.yaml --out {out}/run",
    "merge": "merge {world}/done --out {out}/merged",
    "replay": "replay {world}/transcripts --out {out}/replayed",
    "judge": "judge {out}/done --judge {world}/judge.yaml",
    "calibrate": "calibrate refusal-keywords --labels {world}/labels.csv --out {out}/kept/calibration.json",
    "fetch": "fetch {out}/config.yaml",
    "site": "site {out}/runs --out {out}/site",
    "submit": f"submit {ROOT}/results/demo --out {{out}}/submitted",
    "models add": "models add {world}/model --out {out}/model.yaml",
    **{
        form: f"export {{world}}/judged --format {form} --out {{out}}/{form}"
        for form in ("csv", "parquet", "lm-eval", "every-eval-ever", "eval-results", "inspect")
    },
}
SLOW = ("submit", "site", "replay", "inspect")
"""Commands that are refused each kind of thing once."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_refusal_is_one_sentence_and_the_same_command_completes(
    name: str,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # `fetch` has nothing to ask for
    met = set()
    refusals = {at: told for told, (_, at) in REFUSALS.items()}.values() if name in SLOW else REFUSALS
    for told in refusals:
        number, at = REFUSALS[told]
        out = tmp_path / told.replace(" ", "-")
        out.mkdir()
        shutil.copytree(world / "done", out / "done")
        shutil.copytree(world / "done", out / "runs" / "done")
        shutil.copy(world / "config.yaml", out)
        command = COMMANDS[name].format(world=world, out=out).split()
        before = contents(out)
        disk = Disk(out, number, at)
        with disk.refusing():
            status = main(command)
        said = capsys.readouterr().err
        after = contents(out)
        assert {file: after.get(file) for file in before if not file.endswith(".lock")} == {
            file: kept for file, kept in before.items() if not file.endswith(".lock")
        }, told
        assert not [file for file in after if file.endswith(".tmp")], told
        if disk.refused:
            met.add(at)
            assert status == Status.WRONG_INPUT, (told, said, disk.refused)
            assert said.startswith("harness: ") and said.count("\n") == 1, (told, said)
            assert os.strerror(number) in said or "disk is full" in said, (told, said)
            assert main(command) == Status.DONE, (told, capsys.readouterr().err)
            capsys.readouterr()
        else:
            assert status == Status.DONE, (told, said)
    assert met - {"mkdir"}  # Arrow and inspect_ai open what they write in ways of their own


class Slow(Disk):
    """Takes an hour by the clock for everything that is written, and takes it all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0, "")
        self.seconds = 0.0
        self._time, self._monotonic = time.time, time.monotonic

    def _asked(self, at: str, path: Any) -> bool:
        if not isinstance(path, int) and Path(os.fspath(path)).resolve().is_relative_to(self._folder):
            self.seconds += 3600
        return False

    @contextmanager
    def refusing(self) -> Iterator[None]:
        with super().refusing(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: self._time() + self.seconds)
            patch.setattr(time, "monotonic", lambda: self._monotonic() + self.seconds)
            yield


@pytest.mark.parametrize("name", COMMANDS)
def test_a_slow_disk_ends_nothing(
    name: str,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    out = tmp_path / "out"
    shutil.copytree(world / "done", out / "done")
    shutil.copytree(world / "done", out / "runs" / "done")
    shutil.copy(world / "config.yaml", out)
    disk = Slow(out)
    with disk.refusing():
        status = main(COMMANDS[name].format(world=world, out=out).split())
    assert (status, capsys.readouterr().err) == (Status.DONE, "")
    assert disk.seconds
    assert not [file for file in contents(out) if file.endswith(".tmp")]
    for run in [path.parent for path in out.rglob("run.json")]:
        assert main(["verify", str(run), "--quick"]) == Status.DONE
