"""Runs: resumed, killed, failing, and always the same in the end."""

import errno
import gc
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness import config as configs
from harness.cli import main
from harness.config import ModelSpec, load_config
from harness.engines.metered import BusyClock
from harness.errors import Status
from harness.memory import COLLECT_AFTER, rare_collections
from harness.records.directory import RunDirectory
from harness.run.attempts import Attempt, order
from harness.run.plan import make_plan
from harness.types import FailureKind, Record, Sample
from tests import fakes
from tests.conftest import ROOT
from tests.runs import append, unfinish

CONFIG = """\
name: digits
models:
  - {name: one, path: one, origin: {developer: A, country: XA}}
  - {name: two, path: two, origin: {developer: B, country: XB}}
suites:
  - {adapter: tests.fakes, name: few, samples: 20}
  - {adapter: tests.fakes, name: many, samples: 60}
sampling: {temperature: 1.0, seed: 3}
attempts: 2
engine:
  kind: tests.fakes:start
  max_concurrency: 8
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in which nothing fails, at `out`. Not to be written to."""
    folder = tmp_path_factory.mktemp("good")
    assert run(folder) == 0
    return folder


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fakes.STARTED.clear()


def config(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "digits.yaml"
    path.write_text(text)
    return path


def run(folder: Path, *overrides: str, out: str = "out", text: str = CONFIG) -> int:
    return main(["run", str(config(folder, text)), "--out", str(folder / out), *overrides])


def records(folder: Path, out: str = "out") -> list[Record]:
    directory = RunDirectory(folder / out)
    return [r for cell in directory.manifest().cells.values() for r in directory.records(cell)]


def scorecards(folder: Path, out: str = "out") -> list[dict[str, Any]]:
    """The scorecards without what depends on when requests met: time, and hits in the prefix cache."""
    cards = json.loads((folder / out / "scorecard.json").read_text())["models"]
    return [timeless(card) for card in cards]


TIMES = ("engine_seconds", "load_seconds", "cached_tokens")


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_a_run_measures_everything_once(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    found = records(tmp_path)
    assert len(found) == 2 * (20 + 60) * 2
    assert len({(r.cell, r.sample, r.attempt) for r in found}) == len(found)
    metric = scorecards(tmp_path)[0]["metrics"]["many/acc"]
    assert metric["n"] == 120
    assert metric["value"] > 0.8
    assert metric["missing"] == 0
    assert not list(tmp_path.rglob("*.jsonl"))
    for form in ("html", "md", "json"):
        assert (tmp_path / "out" / f"scorecard.{form}").stat().st_size > 100


def test_energy_is_kept_with_attempts_where_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, out="without")
    assert {r.usage.joules for r in records(tmp_path, "without")} == {None}
    (card,) = json.loads((tmp_path / "without" / "scorecard.json").read_text())["models"][:1]
    assert card["cost"]["total"]["joules"] is None
    assert "Energy was not measured" in (tmp_path / "without" / "scorecard.md").read_text()

    counter = iter(range(10**6))
    monkeypatch.setattr("harness.run.jobs.open_meter", lambda facts: lambda: float(next(counter)))
    monkeypatch.setattr("harness.engines.metered.METER_SECONDS", 0.0)
    monkeypatch.setattr("harness.engines.metered.EDGE_SECONDS", 0.0)
    run(tmp_path, out="with")
    joules = [r.usage.joules for r in records(tmp_path, "with")]
    assert None not in joules and all(j > 0 for j in joules)
    cards = json.loads((tmp_path / "with" / "scorecard.json").read_text())["models"]
    total = math.fsum(card["cost"]["total"]["joules"] for card in cards)
    assert total == pytest.approx(math.fsum(joules), rel=1e-5)
    text = (tmp_path / "with" / "scorecard.md").read_text()
    assert " Wh |" in text and "their own counters (NVML)" in text
    assert main(["verify", str(tmp_path / "with")]) == 0


def test_a_run_is_resumed_with_another_price(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    kept = RunDirectory(tmp_path / "out")
    cells, before = kept.manifest().cells, scorecards(tmp_path)
    assert run(tmp_path, "price_per_gpu_hour=2.5") == 0
    assert load_config(kept.config_path).price_per_gpu_hour == 2.5
    assert (kept.manifest().cells, scorecards(tmp_path)) == (cells, before)
    assert main(["verify", str(kept.path)]) == 0
    kept.config_path.write_text(kept.config_path.read_text() + "# changed by hand\n")
    assert main(["verify", str(kept.path)]) == 1
    assert run(tmp_path, "price_per_gpu_hour=3") == 0
    assert main(["verify", str(kept.path)]) == 0, "the config is written anew by each run"


def test_the_same_command_again_loads_no_model(tmp_path: Path) -> None:
    run(tmp_path)
    before = scorecards(tmp_path)
    fakes.STARTED.clear()
    assert run(tmp_path) == 0
    assert fakes.STARTED == []
    assert scorecards(tmp_path) == before


def test_order_and_concurrency_do_not_matter(tmp_path: Path) -> None:
    run(tmp_path, "engine.max_concurrency=1", out="a")
    run(tmp_path, "engine.max_concurrency=64", out="b")
    assert scorecards(tmp_path, "a") == scorecards(tmp_path, "b")


def test_garbage_is_collected_as_before_once_a_run_has_ended() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), rare_collections():
        assert gc.get_threshold() == (COLLECT_AFTER, *before[1:])
        raise KeyError
    assert gc.get_threshold() == before


def test_attempts_have_seeds_of_their_own(tmp_path: Path) -> None:
    run(tmp_path)
    answers = {(r.sample, r.attempt): r.transcript.generations[0].text for r in records(tmp_path)}
    assert any(answers[(s, 0)] != answers[(s, 1)] for s in ("000", "007", "014", "021", "028"))


@pytest.mark.parametrize("kind", ["engine_error", "context_overflow", "tool_parse", "scorer_error"])
def test_a_failure_changes_no_rate_and_raises_its_own_counter(tmp_path: Path, good: Path, kind: str) -> None:
    assert run(tmp_path, f"engine.args.fail={kind}", out="bad") == 0
    whole, bad = scorecards(good)[0], scorecards(tmp_path, "bad")[0]
    assert bad["failures"]["few"] == {kind: 2}
    metric, reference = bad["metrics"]["few/acc"], whole["metrics"]["few/acc"]
    assert (metric["n"], metric["missing"]) == (38, 2)
    assert metric["value"] * 38 == pytest.approx(reference["value"] * 40 - 2, abs=1e-3)
    failed = [r for r in records(tmp_path, "bad") if r.failure]
    assert {r.failure for r in failed} == {FailureKind(kind)}
    assert all(r.scores == () and r.failure_message for r in failed)
    assert all(r.transcript.messages for r in failed)


def failures(folder: Path, out: str) -> list[FailureKind]:
    return [r.failure for r in records(folder, out) if r.failure]


def test_engine_errors_are_run_again_where_that_is_asked_for(tmp_path: Path, good: Path) -> None:
    fails = "engine.args.fail=flaky"
    fakes.FLAKY["left"] = 25
    assert run(tmp_path, fails, out="bad") == 0
    assert failures(tmp_path, "bad") == [FailureKind.ENGINE_ERROR] * 25
    fakes.STARTED.clear()
    assert run(tmp_path, fails, out="bad") == 0
    assert fakes.STARTED == [] and len(failures(tmp_path, "bad")) == 25

    fakes.FLAKY["left"] = 3  # fails once more: a new record, and not run for ever
    assert run(tmp_path, fails, "--retry-failures", out="bad") == 0
    assert failures(tmp_path, "bad") == [FailureKind.ENGINE_ERROR] * 3
    assert fakes.STARTED == ["one"], "the other model owes nothing"
    assert run(tmp_path, fails, "--retry-failures", out="bad") == 0
    assert failures(tmp_path, "bad") == []
    assert [c["metrics"] for c in scorecards(tmp_path, "bad")] == [c["metrics"] for c in scorecards(good)]
    assert main(["verify", str(tmp_path / "bad")]) == 0
    fakes.STARTED.clear()
    assert run(tmp_path, fails, "--retry-failures", out="bad") == 0
    assert fakes.STARTED == []


def test_failures_of_the_model_are_not_run_again(tmp_path: Path) -> None:
    run(tmp_path, "engine.args.fail=tool_parse")
    fakes.STARTED.clear()
    assert run(tmp_path, "engine.args.fail=tool_parse", "--retry-failures") == 0
    assert fakes.STARTED == []


def test_a_process_killed_while_it_retries_loses_nothing(tmp_path: Path) -> None:
    fails = "engine.args.fail=flaky"
    fakes.FLAKY["left"] = 25
    run(tmp_path, fails)
    before = scorecards(tmp_path)
    directory = RunDirectory(tmp_path / "out")
    directory.unseal(directory.manifest().cells.values())
    for cell in directory.manifest().cells.values():
        directory.reopen(cell)
    assert run(tmp_path, fails) == 0
    assert scorecards(tmp_path) == before
    assert main(["verify", str(tmp_path / "out")]) == 0
    directory.unseal(directory.manifest().cells.values())
    for cell in directory.manifest().cells.values():
        directory.reopen(cell)
    assert run(tmp_path, fails, "--retry-failures") == 0
    assert failures(tmp_path, "out") == []
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_records_are_forced_onto_the_disk_beside_the_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, threads = os.fsync, []

    def fsync(descriptor: int) -> None:
        threads.append(threading.current_thread())
        real(descriptor)

    monkeypatch.setattr("harness.records.append.os.fsync", fsync)
    assert run(tmp_path) == 0
    assert any(thread is not threading.main_thread() for thread in threads)

    def broken(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr("harness.records.append.os.fsync", broken)
    capsys.readouterr()
    assert run(tmp_path, out="broken") == 2
    said = capsys.readouterr().err
    assert "could not be forced onto the disk (Input/output error)" in said and said.count("\n") == 1


def test_a_suite_with_two_scores_of_one_metric_fails_its_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fakes.DigitSuite.score
    monkeypatch.setattr(fakes.DigitSuite, "score", lambda *args: real(*args) * 2)
    assert run(tmp_path) == 0
    assert {r.failure for r in records(tmp_path)} == {FailureKind.SCORER_ERROR}
    assert {r.scores for r in records(tmp_path)} == {()}


def test_a_run_goes_on_from_another_copy_of_its_folder(tmp_path: Path) -> None:
    """Same directory by default, nothing run twice, and no path of a machine is kept."""
    text = CONFIG.replace("path: one", "path: ./weights")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    out = tmp_path / "out"
    assert main(["run", str(config(tmp_path / "a", text)), "--out", str(out)]) == 0
    kept = (out / "config.yaml").read_bytes()
    assert str(tmp_path).encode() not in kept and b"path: ./weights" in kept
    assert Path(RunDirectory(out).config().models[0].path) == tmp_path / "a" / "weights"
    fakes.STARTED.clear()
    assert main(["run", str(config(tmp_path / "b", text)), "--out", str(out)]) == 0
    assert fakes.STARTED == []
    assert (out / "config.yaml").read_bytes() == kept
    assert Path(RunDirectory(out).config().models[0].path).resolve() == tmp_path / "b" / "weights"
    assert main(["verify", str(out)]) == 0
    (out / ".folder").unlink()
    assert Path(RunDirectory(out).config().models[0].path) == out / "weights"


def test_results_behind_a_link_find_the_folder_of_their_config(tmp_path: Path) -> None:
    real, link = tmp_path / "scratch" / "deep" / "er", tmp_path / "out"
    real.mkdir(parents=True)
    link.symlink_to(real)
    (tmp_path / "home").mkdir()
    text = CONFIG.replace("path: one", "path: ./weights")
    assert main(["run", str(config(tmp_path / "home", text)), "--out", str(link)]) == 0
    for path in (link, real):
        assert Path(RunDirectory(path).config().models[0].path) == tmp_path / "home" / "weights"


def test_bad_input_found_by_an_attempt_ends_the_run_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "engine.args.fail=user_error") == 2
    assert capsys.readouterr().err == "harness: the detector is missing; name another\n"
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_process_killed_while_it_compacts_leaves_nothing_twice(tmp_path: Path) -> None:
    run(tmp_path)
    before = scorecards(tmp_path)
    directory = RunDirectory(tmp_path / "out")
    cell = next(iter(directory.manifest().cells.values()))
    whole = directory.records(cell)
    append(directory, cell, whole)
    fakes.STARTED.clear()
    assert run(tmp_path) == 0
    assert not directory.appended_paths(cell)
    assert scorecards(tmp_path) == before
    unfinish(directory, cell, whole)
    assert run(tmp_path) == 0
    assert fakes.STARTED == []
    assert scorecards(tmp_path) == before


def test_what_utf8_cannot_hold_is_replaced(tmp_path: Path) -> None:
    assert run(tmp_path, "engine.args.fail=surrogate") == 0
    assert "?" in {r.transcript.generations[0].text for r in records(tmp_path) if r.sample == "003"}


def test_a_dead_engine_is_started_again(tmp_path: Path, good: Path) -> None:
    text = CONFIG.replace("max_concurrency: 8", "max_concurrency: 8\n  args: {deaths: 2, die_after: 30}")
    assert run(tmp_path, text=text, out="bad") == 0
    assert fakes.STARTED == ["one"] * 3 + ["two"] * 3
    whole, bad = ([c["metrics"] for c in cards] for cards in (scorecards(good), scorecards(tmp_path, "bad")))
    assert whole == bad


def test_an_engine_that_dies_again_and_again_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("max_concurrency: 8", "max_concurrency: 8\n  args: {deaths: 99, die_after: 0}")
    assert run(tmp_path, text=text) == 4
    assert "the engine died: killed by the test" in capsys.readouterr().err
    assert fakes.STARTED == ["one"] * 4 + ["two"] * 4
    assert records(tmp_path) == [], "a broken engine is no attempt's fault"


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONFIG.replace("max_concurrency: 8", "max_concurrency: 8\n  args: {unloadable: true}")
    assert run(tmp_path, text=text) == 2
    assert "model one could not be loaded: out of memory" in capsys.readouterr().err
    assert fakes.STARTED == ["one", "two"], "one bad model takes no other with it"


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONFIG.replace("max_concurrency: 8", "max_concurrency: 1\n  args: {fail: interrupt, delay: 0.002}")
    # what runs in the background of a shell is started with SIGINT ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(tmp_path, text=text) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "the same command resumes" in capsys.readouterr().err
    assert 1 <= len(records(tmp_path)) < 320


def test_a_config_may_grow_shrink_and_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, suite = CONFIG.splitlines()[3], CONFIG.splitlines()[6]
    small = CONFIG.replace(f"{model}\n", "").replace(f"{suite}\n", "")
    assert run(tmp_path, text=small) == 0
    assert len(records(tmp_path)) == 40
    fakes.STARTED.clear()
    assert run(tmp_path) == 0
    assert fakes.STARTED == ["one", "two"]
    assert len(records(tmp_path)) == 320
    before = scorecards(tmp_path)
    assert main(["verify", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    fakes.STARTED.clear()
    assert run(tmp_path, text=small) == 0
    assert fakes.STARTED == [] and len(records(tmp_path)) == 40
    said = " ".join(capsys.readouterr().out.split())
    assert "the config no longer asks for many of one, few of two, many of two: what was" in said
    assert {name.split("/")[0] for card in scorecards(tmp_path) for name in card["metrics"]} == {"few"}
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert run(tmp_path) == 0
    assert fakes.STARTED == [] and scorecards(tmp_path) == before
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_a_grown_run_is_the_run_that_had_it_all_from_the_first(tmp_path: Path, good: Path) -> None:
    suite = CONFIG.splitlines()[5]
    assert run(tmp_path, text=CONFIG.replace(f"{suite}\n", "")) == 0
    assert run(tmp_path) == 0
    assert scorecards(tmp_path) == scorecards(good)
    assert RunDirectory(tmp_path / "out").manifest().cells == RunDirectory(good / "out").manifest().cells


def test_another_seed_is_measured_anew_and_the_one_before_is_there_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    before = records(tmp_path)
    assert run(tmp_path, "sampling.seed=4") == 0
    assert "(sampling.seed changed)" in " ".join(capsys.readouterr().out.split())
    other = records(tmp_path)
    assert len(other) == len(before) and not {r.cell for r in other} & {r.cell for r in before}
    fakes.STARTED.clear()
    assert run(tmp_path) == 0
    assert fakes.STARTED == [] and records(tmp_path) == before


def test_a_changed_suite_is_measured_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    monkeypatch.setattr(fakes.DigitSuite, "count", lambda self: 5)
    samples = fakes.DigitSuite.samples
    monkeypatch.setattr(fakes.DigitSuite, "samples", lambda *args: samples(*args)[:5])
    assert run(tmp_path) == 0
    assert "few of one (n changed)" in " ".join(capsys.readouterr().out.split())
    assert len(records(tmp_path)) == 40


@pytest.mark.parametrize("name", ["tensor_parallel_size", "max_num_seqs", "gpu_memory_utilization"])
def test_another_layout_measures_nothing_anew(tmp_path: Path, name: str) -> None:
    two, four, half = f"engine.args.{name}=2", f"engine.args.{name}=4", "engine.args.dtype=float16"
    path = config(tmp_path)
    plans = [make_plan(load_config(path, given)) for given in ([two], [four], [two, half])]
    keys = [[cell.entry.key for cell in plan.cells] for plan in plans]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])


def test_a_corrected_origin_is_that_of_what_was_measured_before(tmp_path: Path) -> None:
    run(tmp_path)
    fakes.STARTED.clear()
    assert run(tmp_path, text=CONFIG.replace("country: XA", "country: XC")) == 0
    assert fakes.STARTED == []
    assert RunDirectory(tmp_path / "out").manifest().models["one"].origin.country == "XC"
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_another_engine_is_not_mixed_into_a_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    directory = RunDirectory(tmp_path / "out")
    for cell in directory.manifest().cells.values():
        if cell.model == "one":
            unfinish(directory, cell, directory.records(cell)[:1])
            (path,) = directory.layout.folder(cell).glob("engine-*.json")
            path.write_text(path.read_text().replace('"version": "1"', '"version": "0"'))
    assert run(tmp_path) == Status.INCOMPLETE
    assert "version was 0 and is 1" in capsys.readouterr().err


def test_a_damaged_line_is_owed_again_and_said(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    directory = RunDirectory(tmp_path / "out")
    cell = next(iter(directory.manifest().cells.values()))
    path = unfinish(directory, cell, directory.records(cell))
    path.write_bytes(path.read_bytes().replace(b'"value":1.0', b'"value":0.0', 1))
    assert main(["verify", str(tmp_path / "out")]) == 1
    assert re.search(r"line \d+ is not as it was written", " ".join(capsys.readouterr().out.split()))
    fakes.STARTED.clear()
    assert run(tmp_path) == 0
    assert fakes.STARTED == ["one"]
    assert re.search(r"line \d+ is not as it was written", " ".join(capsys.readouterr().out.split()))
    assert scorecards(tmp_path) == scorecards(good)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "half-finished"])
def test_results_of_an_earlier_version_are_not_added_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: bool
) -> None:
    directory = RunDirectory(Path(shutil.copytree(ROOT / "results" / "demo", tmp_path / "out")))
    if not finished:
        cell = next(iter(directory.manifest().cells.values()))
        complete = directory.complete_path(cell)
        lines = [msgspec.json.encode(record) + b"\n" for record in [*directory.records(cell)][:27]]
        complete.with_suffix(".jsonl").write_bytes(b"".join(lines))
        complete.unlink()
    before = contents(tmp_path / "out")
    assert run(tmp_path) == 2
    said = capsys.readouterr().err
    assert "give another --out, or finish it with harness 0.1.0, which wrote it" in said
    assert said.count("\n") == 1
    assert main(["status", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "12 of 12 cells" in told if finished else "11 of 12 cells are complete, 989 of 1016" in told
    assert contents(tmp_path / "out") == before
    if not finished:  # what there is can be put into a directory as this version writes it
        assert main(["merge", str(tmp_path / "out"), "--out", str(tmp_path / "new")]) == 0
        capsys.readouterr()
        assert main(["status", str(tmp_path / "new")]) == 0
        assert "11 of 12 cells are complete, 989 of 1016" in capsys.readouterr().out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_processes_at_once_count_each_attempt_once(tmp_path: Path, good: Path) -> None:
    """Where no lock holds anybody off."""
    command = [
        sys.executable, "-c", NO_LOCKS, "run", str(config(tmp_path)), "--out", str(tmp_path / "out"),
        "engine.args.delay=0.01",
    ]  # fmt: skip
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, **quiet) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    found = records(tmp_path)
    assert len({(r.cell, r.sample, r.attempt) for r in found}) == len(found) == 320
    whole = [card["metrics"] for card in scorecards(good)]
    assert [card["metrics"] for card in scorecards(tmp_path)] == whole
    assert main(["verify", str(tmp_path / "out")]) == 0


NO_LOCKS = """\
import sys
from harness.cli import main
from harness.records import lock
lock.lock_file = lambda handle: None
sys.exit(main(sys.argv[1:]))
"""


def kept_in(folder: Path) -> int:
    """How many attempts have a record."""
    return len(records(folder.parent, folder.name)) if (folder / "run.json").exists() else 0


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    """The process is killed at random moments and started again, until it ends by itself."""
    assert run(tmp_path, "engine.args.delay=0.2", out="whole") == 0
    command = [
        sys.executable, "-m", "harness.cli", "run", str(config(tmp_path)), "--out", str(tmp_path / "killed"),
        "engine.args.delay=0.2",
    ]  # fmt: skip
    rng = random.Random(5)
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    kept = 0
    for _ in range(10):
        wanted = kept + rng.randint(1, 20)
        with subprocess.Popen(command, **quiet) as process:
            while process.poll() is None and kept_in(tmp_path / "killed") < wanted:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "the kills must fall into the run"
        kept = kept_in(tmp_path / "killed")
    assert len(records(tmp_path, "killed")) < 320
    final = subprocess.run(command, **quiet, check=False)
    assert final.returncode == 0, final.stderr
    found = records(tmp_path, "killed")
    assert len({(r.cell, r.sample, r.attempt) for r in found}) == len(found) == 320
    assert scorecards(tmp_path, "killed") == scorecards(tmp_path, "whole")


def test_attempts_of_all_cells_are_in_flight_from_first_to_last() -> None:
    few, many = fakes.DigitSuite("few", fakes.Options()), fakes.DigitSuite("many", fakes.Options(samples=60))

    class Cell:
        def __init__(self, suite: fakes.DigitSuite) -> None:
            self.suite = suite
            self.entry = self
            self.key = suite.name

    attempts = [Attempt(Cell(s), sample, 0) for s in (few, many) for sample in s.samples("m", None)]  # type: ignore[arg-type]
    ordered = order(attempts)
    assert sorted(map(id, ordered)) == sorted(map(id, attempts))
    for quarter in range(4):
        part = ordered[quarter * 20 : quarter * 20 + 20]
        assert sum(attempt.cell.suite.name == "few" for attempt in part) == 5


def test_the_busy_clock_divides_time_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("harness.engines.metered.time.perf_counter", lambda: now[0])
    clock = BusyClock()
    now[0] = 10.0  # idle until here: charged to nobody
    first = clock.enter()
    now[0] = 12.0
    second = clock.enter()
    now[0] = 16.0
    assert clock.leave(first).seconds == pytest.approx(2.0 + 2.0)
    now[0] = 17.0
    assert clock.leave(second) == (pytest.approx(2.0 + 1.0), None)
    now[0] = 99.0
    third = clock.enter()
    now[0] = 100.0
    assert clock.leave(third).seconds == pytest.approx(1.0)


def poisoned(*numbers: int, late: float = 0.0, samples: int = 20, concurrency: int = 8) -> str:
    """A run of whose first model some samples end the engine, at once or some seconds after the reply."""
    return (
        CONFIG.replace(
            "path: one, origin: {developer: A, country: XA}",
            "path: one, origin: {developer: A, country: XA}, "
            f"engine_args: {{poison: {list(numbers)}, late: {late}, delay: 0.001}}",
        )
        .replace("max_concurrency: 8", f"max_concurrency: {concurrency}")
        .replace("samples: 60", f"samples: {samples}")
    )


@pytest.mark.parametrize("number", [0, 7, 19])
def test_a_sample_that_ends_the_engine_is_named_and_the_rest_is_measured(
    tmp_path: Path, number: int, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        poisoned(number)
        .replace("attempts: 2", "attempts: 1")
        .replace("  - {adapter: tests.fakes, name: few, samples: 20}\n", "")
    )
    assert run(tmp_path, text=text) == 0
    found = records(tmp_path)
    failed = [r for r in found if r.failure]
    assert [(r.sample, r.failure) for r in failed] == [(f"{number:03d}", FailureKind.ENGINE_ERROR)]
    assert "the engine died of this attempt, also where it was asked alone: poison" in str(
        failed[0].failure_message
    )
    assert len(found) == 40, "the other model is measured too"
    assert fakes.STARTED.count("one") <= 4
    assert f"died of many/{number:03d}" in capsys.readouterr().out
    fakes.STARTED.clear()
    assert run(tmp_path, text=text) == 0
    assert fakes.STARTED == []


def test_an_engine_that_dies_after_its_reply_blames_nobody_else(tmp_path: Path) -> None:
    assert run(tmp_path, text=poisoned(3, late=0.05, samples=200, concurrency=16)) == 0
    assert [r for r in records(tmp_path) if r.failure] == []


def test_a_suite_that_ends_the_engine_again_and_again_is_given_up_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = poisoned(*range(40, 60), samples=60)  # `few` has none of these numbers
    assert run(tmp_path, text=text) == Status.STOPPED
    assert "attempts of many each ended the engine of one" in capsys.readouterr().err
    assert fakes.STARTED.count("one") <= 12
    directory = RunDirectory(tmp_path / "out")
    done = {(c.model, c.suite): len(directory.records(c)) for c in directory.manifest().cells.values()}
    assert done["one", "few"] == done["two", "few"] == 40
    assert done["two", "many"] == 120
    assert 3 <= done["one", "many"] < 120
    assert (tmp_path / "out" / "scorecard.json").exists()
    cautions = directory.manifest().cautions
    assert [(c.check, c.model, c.suite, c.void) for c in cautions] == [("engine_died", "one", "many", True)]


BAD_MODEL = CONFIG.replace("path: one, ", "path: one, engine_args: {unloadable: true}, ")


def test_a_model_that_cannot_be_loaded_leaves_the_rest_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, text=BAD_MODEL) == Status.INCOMPLETE
    assert "harness: model one could not be loaded: out of memory" in capsys.readouterr().err
    assert len(records(tmp_path)) == 160
    (caution,) = RunDirectory(tmp_path / "out").manifest().cautions
    assert (caution.check, caution.model, caution.void) == ("not_loaded", "one", True)
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_what_an_engine_raises_at_its_start_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("path: one, ", "path: one, engine_args: {fail: no such failure}, ")
    assert run(tmp_path, text=text) == Status.INCOMPLETE
    said = capsys.readouterr().err
    assert said == "harness: model one could not be loaded: KeyError: 'no such failure'\n"


def test_a_suite_that_cannot_be_built_leaves_the_rest_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("suites:\n", "suites:\n  - {adapter: lm_eval, task: no_such_task, name: lost}\n")
    assert run(tmp_path, text=text) == Status.INCOMPLETE
    assert "no_such_task" in capsys.readouterr().err
    assert len(records(tmp_path)) == 320
    assert [c.suite for c in RunDirectory(tmp_path / "out").manifest().cautions] == ["lost"]


def test_samples_that_cannot_be_made_leave_the_other_suites_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = fakes.DigitSuite.samples

    def samples(self: fakes.DigitSuite, *args: Any) -> Any:
        if self.name == "few":
            raise KeyError("question")
        return real(self, *args)

    monkeypatch.setattr(fakes.DigitSuite, "samples", samples)
    assert run(tmp_path) == Status.INCOMPLETE
    assert "harness: suite few: KeyError: 'question'\n" in capsys.readouterr().err
    assert len(records(tmp_path)) == 240
    monkeypatch.setattr(fakes.DigitSuite, "samples", real)
    assert run(tmp_path) == 0, "the same command measures what was left out"
    assert len(records(tmp_path)) == 320
    assert RunDirectory(tmp_path / "out").manifest().cautions == ()


def test_what_is_finished_has_scorecards_however_the_run_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("max_concurrency: 8", "max_concurrency: 1\n  args: {fail: interrupt, delay: 0.002}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(tmp_path, text=text) == Status.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    assert scorecards(tmp_path)[0]["metrics"]["many/acc"]["n"] >= 1
    assert "written: " in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_what_schedulers_send_stops_a_run_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    command = [
        sys.executable, "-m", "harness.cli", "run", str(config(tmp_path)), "--out", str(tmp_path / "out"),
        "engine.args.delay=5",  # the first record is there when two minutes of the run are left
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 300
        while not any(tmp_path.rglob("*.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=300)
    assert process.returncode == Status.INTERRUPTED, said
    assert "the same command resumes" in said


def test_they_do_so_from_the_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr("harness.run.runner.plan_run", lambda *_, **__: os.kill(os.getpid(), signal.SIGUSR1))
    assert run(tmp_path) == Status.INTERRUPTED
    assert capsys.readouterr().err.endswith("the same command resumes\n")
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nosys(*args: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("harness.records.lock.fcntl.flock", nosys)
    assert run(tmp_path) == 0, "POSIX locks are tried where the file system has no others"
    monkeypatch.setattr("harness.records.lock.fcntl.lockf", nosys)
    assert run(tmp_path, out="without") == 0, "and nothing depends on any"
    assert main(["verify", str(tmp_path / "without")]) == 0


def test_a_run_keeps_the_day_on_which_it_was_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And engines are told it, on whatever day it is resumed."""
    told = []
    start = fakes.start

    async def open_engine(spec: object, model: ModelSpec, day: str | None = None) -> object:
        told.append(day)
        return await start(model, {})

    monkeypatch.setattr("harness.engines.open_engine", open_engine)
    monkeypatch.setattr("harness.config.RunConfig.day", "2026-11-27")
    assert run(tmp_path, "suites.1.samples=1", "suites.0.samples=1") == 0
    directory = RunDirectory(tmp_path / "out")
    assert directory.config().date == "2026-11-27"
    for cell in directory.manifest().cells.values():
        unfinish(directory, cell, directory.records(cell)[:1])
    text = configs.to_yaml(directory.config()).replace("2026-11-27", "2026-11-26")
    directory.config_path.write_text(text)
    resumed = directory.dated(load_config(config(tmp_path)))
    assert resumed.date == "2026-11-26"
    assert run(tmp_path, "date=2026-11-28", "suites.1.samples=1", "suites.0.samples=1") == 0
    assert len(told) == 4 and directory.config().date == "2026-11-28"


def test_an_attempt_at_a_sample_that_is_built_otherwise_now_is_not_kept_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path) == 0
    directory = RunDirectory(tmp_path / "out")
    cell = next(c for c in directory.manifest().cells.values() if (c.model, c.suite) == ("one", "few"))
    unfinish(directory, cell, directory.records(cell)[:5])
    samples = fakes.DigitSuite.samples

    def changed(suite: fakes.DigitSuite, model: str, render: object) -> list[Sample]:
        made = samples(suite, model, None)
        return [msgspec.structs.replace(sample, content_hash="another") for sample in made]

    monkeypatch.setattr(fakes.DigitSuite, "samples", changed)
    assert run(tmp_path) == Status.INCOMPLETE
    said = " ".join("".join(capsys.readouterr()).split())
    assert "5 of the attempts in" in said
    assert "were made of samples that are built otherwise" in said


def test_one_protocol_under_two_names_is_measured_twice(tmp_path: Path) -> None:
    text = CONFIG.replace(
        "{adapter: tests.fakes, name: many, samples: 60}", "{adapter: tests.fakes, name: also, samples: 20}"
    )
    assert run(tmp_path, text=text) == 0
    cells = RunDirectory(tmp_path / "out").manifest().cells
    assert sorted((c.model, c.suite) for c in cells.values()) == [
        ("one", "also"), ("one", "few"), ("two", "also"), ("two", "few"),
    ]  # fmt: skip
    assert len(records(tmp_path)) == 4 * 20 * 2
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert run(tmp_path, text=text) == 0


def test_how_far_a_run_is_is_told_while_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONFIG.replace("max_concurrency: 8", "max_concurrency: 1\n  args: {fail: interrupt, delay: 0.002}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(tmp_path, text=text) == Status.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    capsys.readouterr()
    assert main(["status", str(tmp_path / "out"), "--format", "json"]) == 0
    status = json.loads(capsys.readouterr().out)
    told = status["cells"]
    (worker,) = status["models"]
    assert (worker["model"], worker["state"], worker["pid"]) == ("one", "stopped", os.getpid())
    assert [(cell["model"], cell["suite"], cell["total"]) for cell in told] == [
        ("one", "few", 40), ("one", "many", 120), ("two", "few", 40), ("two", "many", 120),
    ]  # fmt: skip
    assert sum(cell["done"] for cell in told) == len(records(tmp_path)) < 320
    assert run(tmp_path, "engine.args.fail=tool_parse", out="bad") == 0
    capsys.readouterr()
    assert main(["status", str(tmp_path / "bad")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "one: few   40/40  2 tool_parse",
        "one: many  120/120  2 tool_parse",
        "two: few   40/40  2 tool_parse",
        "two: many  120/120  2 tool_parse",
        "4 of 4 cells are complete, 320 of 320 attempts finished",
    ]
