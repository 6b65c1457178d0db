"""Which runs of a root are taken, what is kept of them, and what is not read twice."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from harness.disk import cache_folder
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.reports import recall
from harness.site import reading
from harness.site.build import build_site
from harness.site.reading import Reading, Store, Taken, run_folders, take_all
from harness.site.settings import SiteSettings
from tests.conftest import lacking
from tests.runs import change_run
from tests.site.roots import Change, make


def read(root: Path, store: Path, **how: object) -> dict[str, Taken]:
    reading = Reading(**how)  # type: ignore[arg-type]
    return {run.name: run for run in take_all(root, Store(store), reading, lambda line: None)}


def test_runs_that_hold_are_taken_and_others_refused_with_the_reason(root: Path, tmp_path: Path) -> None:
    found = read(root, tmp_path / "store")
    assert {name for name, run in found.items() if not run.refused} == {"first", "later", "other", "hostile"}
    assert "its checksum is another one" in found["changed"].refused[0]
    assert "not JSON" in found["broken"].refused[0]
    assert "notes" not in found
    assert len(found["first"].cells) == 8 and found["first"].created == "2026-01-01T00:00:00Z"


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    make(root / "one")
    first = read(root, tmp_path / "store")
    monkeypatch.setattr(reading, "_each", lambda owed, store, reading: iter([(p, None) for p, _ in owed]))
    told: list[str] = []
    assert take_all(root, Store(tmp_path / "store"), Reading(), told.append) == list(first.values())
    assert not told


def test_pages_may_change_without_a_run_being_read_again_and_what_reads_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(reading.__file__).parents[1]
    assert all((package / path).exists() for path in reading.SHOWING)
    make(tmp_path / "root" / "one")
    script = f"""
import sys
from pathlib import Path
from harness.site.reading import Reading, Store, _take
_take(Path({str(tmp_path / "root/one")!r}), "key", Path({str(tmp_path / "store")!r}), Reading(), 1 << 33)
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("harness.")), sep="\\n")
"""
    Store(tmp_path / "store")
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    read_by = {Path(line).relative_to(package) for line in said.stdout.splitlines()}
    assert Path("site/attempts.py") in read_by and Path("replay/verify.py") in read_by
    shown_by = {path for path in read_by if any(path.is_relative_to(one) for one in reading.SHOWING)}
    assert not shown_by

    copy = shutil.copytree(package, tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(recall, "__file__", str(copy / "reports" / "recall.py"))

    def digest(*changed: str) -> str:
        for path in changed:
            with (copy / path).open("a") as file:
                file.write("# changed\n")
        recall.code_digest.cache_clear()
        return recall.code_digest(*reading.SHOWING)

    try:
        before = digest()
        assert digest("site/front.py", "site/templates/front.html.j2", "cli/sites.py") == before
        assert before != digest("site/attempts.py")
        assert digest() != digest("suites/agentdojo/stepwise/data/campaigns.yaml")
    finally:
        recall.code_digest.cache_clear()


def test_a_changed_file_is_seen_whatever_its_time_says(tmp_path: Path) -> None:
    run = make(tmp_path / "root" / "one")
    assert not read(run.path.parent, tmp_path / "store")["one"].refused
    file = next(run.path.glob("cells/*/records.parquet"))
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(bytes(data))
    subprocess.run(["touch", "-d", f"@{before.st_mtime_ns / 1e9:.9f}", str(file)], check=True)
    assert "checksum" in read(run.path.parent, tmp_path / "store")["one"].refused[0]


def test_what_another_command_is_writing_stays_and_what_one_left_a_day_ago_goes(tmp_path: Path) -> None:
    """Two sites with one cache: the second removed what the first had begun, and a run was refused."""
    make(tmp_path / "root" / "one")
    store = Store(tmp_path / "store")
    young, old = (store.path / "attempts" / f".{name}.1.tmp" for name in ("young", "old"))
    for folder in (young, old):
        folder.mkdir(parents=True)
    day_ago = time.time() - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    assert not read(tmp_path / "root", store.path)["one"].refused
    assert young.is_dir() and not old.exists()


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    make(tmp_path / "root" / "one")
    found = read(tmp_path / "root", tmp_path / "store", seconds=0.0)
    assert found["one"].refused == ("to read it takes longer than 0 s",)


def test_a_run_that_takes_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path / "root" / "one")
    store = Store(tmp_path / "store")

    def greedy(*_: object, **__: object) -> None:
        bytearray(1 << 40)

    monkeypatch.setattr(reading, "verify", greedy)
    reading._take(run.path, "key", store.path, Reading(), 1 << 30)
    said = msgspec.json.decode((store.path / "runs" / "key" / "taken.json").read_bytes(), type=Taken)
    assert said.refused == ("to read it takes more memory than there is for one run",)


def test_a_root_is_a_folder_of_runs(tmp_path: Path) -> None:
    run = make(tmp_path / "root" / "one")
    with pytest.raises(UserError, match="is a run itself"):
        run_folders(run.path)
    with pytest.raises(UserError, match="holds no run directory"):
        run_folders(run.path / "cells")
    (tmp_path / "root" / "link").symlink_to(run.path)
    assert "it is a link" in read(tmp_path / "root", tmp_path / "store")["link"].refused[0]


def test_a_cell_may_not_call_itself_public(tmp_path: Path) -> None:
    make(tmp_path / "root" / "one")
    (one,) = read(tmp_path / "root", tmp_path / "store").values()
    assert {cell.published.shown for cell in one.cells} == {0}
    assert all(cell.published.closed for cell in one.cells)
    opened = SiteSettings(publication={"questions": "public"})
    (one,) = read(tmp_path / "root", tmp_path / "store", settings=opened).values()
    assert {cell.entry.suite: cell.published.shown for cell in one.cells} == {"questions": 60, "agent": 0}


@pytest.mark.parametrize(("attempts", "shown"), [(None, 60), (5, 5), (-1, 2), (0, 0)])
def test_how_many_attempts_are_published_is_a_choice(
    tmp_path: Path, attempts: int | None, shown: int
) -> None:
    make(tmp_path / "root" / "one")
    opened = SiteSettings(publication={"questions": "public"})
    (one,) = read(tmp_path / "root", tmp_path / "s", settings=opened, attempts=attempts).values()
    own = [cell.published for cell in one.cells if cell.entry.suite == "questions"]
    assert {(p.attempts, p.shown) for p in own} == {(60, shown)}


def test_signatures_are_checked(tmp_path: Path) -> None:
    key, signers = tmp_path / "key", tmp_path / "signers"
    try:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    except FileNotFoundError:
        lacking("ssh-keygen is not installed")
    signers.write_text(f"ann@lab {key.with_suffix('.pub').read_text()}")
    for name in ("signed", "unsigned", "forged"):
        make(tmp_path / "root" / name, Change())
    for name in ("signed", "forged"):
        file = tmp_path / "root" / name / "run.json"
        subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "harness", "-f", key, file], check=True)
    change_run(RunDirectory(tmp_path / "root" / "forged"), created="2027-01-01T00:00:00Z")
    found = read(tmp_path / "root", tmp_path / "store", signers=signers)
    assert found["signed"].signer == "ann@lab" and found["unsigned"].signer is None
    assert not found["unsigned"].refused
    assert "not a signature by anyone" in found["forged"].refused[0]


def test_nothing_is_believed_that_may_have_come_with_the_runs(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make(root / "one")
    with pytest.raises(UserError, match=r"is inside of .* and may have come with the runs"):
        build_site(root, tmp_path / "site", store=root / "cache")
    # Beside the site, where a folder that somebody sent could hold one too, nothing is looked for.
    forged = tmp_path / ".site-cache"
    forged.mkdir()
    build_site(root, tmp_path / "site", reading=Reading(quick=True))
    assert {path.name for path in (cache_folder() / "site").iterdir()} == {"attempts", "runs", "scores"}
    assert not (root / "cache").exists() and not any(forged.iterdir())
