"""Jobs in processes of their own: the same results, whoever dies meanwhile."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.cli import main
from harness.config import EngineSpec, ModelSpec
from harness.engines.base import Engine
from harness.engines.scripted import Reply, ScriptedEngine
from harness.engines.vllm.start import CPU_KV_CACHE_BYTES
from harness.errors import Status, UserError
from harness.models.forecast import MachineGpu
from harness.records.directory import RunDirectory
from harness.records.workers import read_workers
from harness.run.beside import PROCESS_BYTES, fits_beside
from harness.run.jobs import Job
from harness.run.launchers.in_process import InProcess
from harness.run.launchers.processes import GRAIN, Processes, halves, replicas
from harness.types import Record, Usage
from tests import fakes
from tests.attempted import Unwatched
from tests.conftest import ROOT, script
from tests.run.test_runner import CONFIG, records, scorecards

OWN = CONFIG.replace("tests.fakes:start", "tests.run.test_launchers:start")


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    """An engine that writes down where it runs, in `FOLDER`. No argument of it tells two cells apart.

    `KILLS` times it ends its process, at number 9. `UNLOADABLE` ends it at once. `SLOW` takes its time.
    `NO_ROOM` does not load the first time, nor does any the first `PORT_TAKEN` times. `HOLD` waits with its
    last reply until another one loads.
    """
    folder, kills = Path(os.environ["FOLDER"]), int(os.environ.get("KILLS", "0"))
    with (folder / f"{model.name}-started").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if os.environ.get("UNLOADABLE") == model.name:
        os.kill(os.getpid(), signal.SIGKILL)
    taken = int(os.environ.get("PORT_TAKEN", "0"))
    if len(started(folder, model.name)) <= taken:
        raise RuntimeError("EngineCore failed: [Errno 98] Address already in use")
    if os.environ.get("NO_ROOM") == model.name and len(started(folder, model.name)) == 1:
        raise UserError("too little memory is free")

    asked = itertools.count(1)

    def policy(messages: Any, tools: Any, sampling: Any) -> Reply:
        if os.environ.get("HOLD") == model.name and next(asked) == 160:
            wait_until(lambda: len([*folder.glob("*-started")]) == 2)
        if messages[-1].content == "9" and len(started(folder, model.name)) <= kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("SLOW") == model.name:
            time.sleep(0.01)
        return fakes.last_digit(messages, tools, sampling)

    return ScriptedEngine(policy, delay=float(os.environ.get("DELAY", "0")))


def run(folder: Path, *arguments: str, **environment: str) -> int:
    path = folder / "digits.yaml"
    path.write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"FOLDER": str(folder), **environment}.items():
            patch.setenv(name, value)
        return main(["run", str(path), "--out", str(folder / "out"), *arguments])


def started(folder: Path, model: str) -> list[int]:
    """Processes that loaded a model."""
    return [int(line) for line in (folder / f"{model}-started").read_text().splitlines()]


def bare(found: list[Record]) -> list[bytes]:
    """Records without times, in the order of what they are about."""
    timeless = [
        msgspec.structs.replace(
            record,
            started=0.0,
            seconds=0.0,
            usage=Usage(),
            transcript=msgspec.structs.replace(record.transcript, generations=()),
        )
        for record in found
    ]
    return sorted(map(msgspec.json.encode, timeless))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process, at `out`."""
    folder = tmp_path_factory.mktemp("alone")
    assert run(folder) == 0
    assert {*started(folder, "one"), *started(folder, "two")} == {os.getpid()}
    return folder


def assert_same(folder: Path, alone: Path) -> None:
    assert bare(records(folder)) == bare(records(alone))
    assert scorecards(folder) == scorecards(alone)
    assert main(["verify", str(folder / "out")]) == 0


def test_two_workers_give_what_one_gives(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--workers", "2") == 0
    assert len({*started(tmp_path, "one"), *started(tmp_path, "two"), os.getpid()}) == 3
    said = capsys.readouterr().out
    assert "one: many 120/120" in said and "two: few 40/40" in said
    assert_same(tmp_path, alone)
    workers = read_workers(tmp_path / "out")
    assert [worker.pid for worker in workers if worker.model == "one"] == started(tmp_path, "one")
    logs = [worker.log or "" for worker in workers]
    assert all(re.fullmatch(r"logs/(one|two)-\S+\.log", log) for log in logs) and len({*logs}) == 2


def test_scorecards_without_timings_are_the_same_bytes_however_many_workers_there_were(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--workers", "2") == 0
    began = RunDirectory(alone / "out").manifest().created[:10]

    def shown(folder: Path, form: str) -> str:
        capsys.readouterr()
        assert main(["scorecard", str(folder / "out"), "--format", form, "--no-timings"]) == 0
        return capsys.readouterr().out

    for form in ("json", "md", "html", "table"):
        assert shown(tmp_path, form) == shown(alone, form)
        assert began not in shown(alone, form)
    cost = json.loads(shown(alone, "json"))["models"][0]["cost"]
    assert {cost["total"][name] for name in ("engine_seconds", "joules", "cached_tokens")} == {None}
    assert cost["total"]["completion_tokens"] == 160 and "load_seconds" not in cost


def test_what_a_dead_worker_owed_goes_to_another(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--workers", "2", KILLS="2") == 0
    assert len(started(tmp_path, "one")) == len(started(tmp_path, "two")) == 3
    assert "the process of one was killed by SIGKILL; another one goes on" in capsys.readouterr().out
    assert_same(tmp_path, alone)


def test_a_worker_that_dies_again_and_again_is_given_up_and_the_rest_is_measured(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--workers", "2", UNLOADABLE="one") == Status.STOPPED
    said = capsys.readouterr().err
    assert "model one: its process was killed by SIGKILL, again and again; the same command resumes" in said
    assert len(started(tmp_path, "one")) == 4
    assert len(records(tmp_path)) == 160


@pytest.mark.parametrize("kills", [0, 1])
def test_a_model_alone_gets_replicas_that_share_its_attempts_out(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str], kills: int
) -> None:
    """Also where each of them is killed once: it goes on with its own share."""
    assert run(tmp_path, "--workers", "5", KILLS=str(2 * kills)) == 0
    said = capsys.readouterr().out
    assert "one: 3 engines share its attempts out\n" in said
    assert "two: 2 engines share its attempts out\n" in said
    assert said.count("one: loading") == 1 and said.count("one: many 120/120") == 1
    workers = read_workers(tmp_path / "out")
    shares = {(worker.model, worker.share) for worker in workers}
    assert shares == {("one", (which, 3)) for which in range(3)} | {("two", (which, 2)) for which in range(2)}
    if not kills:
        did = {(worker.model, worker.share[0]): worker.finished for worker in workers}
        assert did == {("one", 0): 53, ("one", 1): 53, ("one", 2): 54, ("two", 0): 80, ("two", 1): 80}
    assert_same(tmp_path, alone)


@pytest.mark.parametrize("kills", [0, 1])
def test_what_is_left_of_a_long_model_is_taken_over_in_parts(
    tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """Each engine goes on with the next part of its model, also where its process is killed."""
    monkeypatch.setattr("harness.run.launchers.processes.FULL", 1)
    assert run(tmp_path, "--workers", "2", SLOW="two", KILLS=str(kills)) == 0
    assert len(started(tmp_path, "one")) == 1 + kills, "its parts need no engine of their own"
    # Who is done with one helps. Where a process was killed, its next one may have come first.
    assert len(started(tmp_path, "two")) in ({2} if not kills else {1 + kills, 2 + kills})
    began = {worker.share for worker in read_workers(tmp_path / "out") if worker.model == "two"}
    assert (0, 2) in began and len(began) >= 2
    assert_same(tmp_path, alone)


def test_no_other_part_is_tried_of_a_model_that_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.run.launchers.processes.FULL", 1)
    assert run(tmp_path, "--workers", "2", UNLOADABLE="one", SLOW="two") == Status.STOPPED
    assert capsys.readouterr().err.count("again and again; the same command resumes") == 1
    assert len(records(tmp_path)) == 160


def test_parts_are_halves_of_what_is_left_down_to_a_grain() -> None:
    assert halves(10, 10, 100) == [(0, 1)] == halves(100, 10, 1)
    assert halves(40, 10, 100) == [(0, 2), (2, 4), (3, 4)]
    assert halves(1000, 1, 9) == [(0, 2), (2, 4), (6, 8), (7, 8)]


def test_sixty_models_fill_a_cluster_though_forecasts_are_wrong_by_a_factor_of_two() -> None:
    bench = script("bench_launchers")
    parts = [bench.simulate(seed, GRAIN) for seed in range(8)]
    assert all(1 <= ratio < 1.1 for ratio in parts)
    assert sum(parts) < sum(bench.simulate(seed, float("inf")) for seed in range(8))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_stops_a_run_stops_its_workers_and_the_same_command_resumes(
    tmp_path: Path, alone: Path, number: signal.Signals
) -> None:
    (tmp_path / "digits.yaml").write_text(OWN)
    command = [
        sys.executable, "-m", "harness.cli", "run", str(tmp_path / "digits.yaml"), "--workers", "2",
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    quiet: Any = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "FOLDER": str(tmp_path), "DELAY": "0.05"}

    def hear() -> None:  # what runs in the background of a shell is started with SIGINT ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, **quiet, env=environment, preexec_fn=hear) as process:
        files = [tmp_path / "one-started", tmp_path / "two-started"]
        wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        workers = [*started(tmp_path, "one"), *started(tmp_path, "two")]
        assert all(map(is_running, workers))
        process.send_signal(number)
        _, said = process.communicate(timeout=300)
    if number is not signal.SIGKILL:
        assert process.returncode == Status.INTERRUPTED, said
        assert said == "harness: stopped; what is finished is kept, the same command resumes\n"
    wait_until(lambda: not any(map(is_running, workers)))
    assert run(tmp_path, DELAY="0.05") == 0
    assert bare(records(tmp_path)) == bare(records(alone))


class Fake(Job):
    """A job that says when it ran, and on what."""

    def begin(self, progress: Any) -> None:
        folder = self.directory.path
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        (folder / self.name).write_text(f"{time.monotonic()} {seen} ")
        time.sleep(0.1)
        with (folder / self.name).open("a") as file:
            file.write(str(time.monotonic()))
        self.over = True


def fake_jobs(folder: Path, sizes: dict[str, int]) -> list[Job]:
    from harness.config import RunConfig
    from harness.run.models import PlannedModel
    from harness.types import Sampling

    specs = [
        ModelSpec(name=name, path=name, engine_args={"tensor_parallel_size": size})
        for name, size in sizes.items()
    ]
    config = RunConfig(
        name="x", models=tuple(specs), suites=(), sampling=Sampling(), engine=EngineSpec(kind="vllm")
    )
    return [Fake(config, [PlannedModel(spec, None)], [], RunDirectory(folder)) for spec in specs]


def test_no_two_engines_share_a_gpu_and_the_widest_comes_first(tmp_path: Path) -> None:
    gpus = ["GPU-a", "GPU-b", "GPU-c"]
    jobs = fake_jobs(tmp_path, {"small": 1, "wide": 2, "third": 1, "all": 3})
    ended = [job.name for job in Processes(3, gpus).run(jobs, Unwatched())]
    assert sorted(ended) == ["all", "small", "third", "wide"] and ended[0] == "all"
    times = {name: (tmp_path / name).read_text().split() for name in ended}
    assert {name: len(seen.split(",")) for name, (_, seen, _) in times.items()} == {
        "small": 1, "wide": 2, "third": 1, "all": 3,
    }  # fmt: skip
    for name, (begin, seen, end) in times.items():
        for other, (begin_2, seen_2, end_2) in times.items():
            apart = float(end) <= float(begin_2) or float(end_2) <= float(begin)
            assert name == other or apart or not {*seen.split(",")} & {*seen_2.split(",")}


def test_a_large_box_is_filled_with_replicas_where_they_have_enough_to_do(tmp_path: Path) -> None:
    jobs = fake_jobs(tmp_path, {"small": 1, "wide": 4})

    def counts(owed: dict[str, int], workers: int, gpus: int | None) -> dict[str, int]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Fake, "owed", property(lambda job: owed[job.name]))
            return replicas(jobs, workers, gpus)

    many = {"small": 10_000, "wide": 10_000}
    assert counts(many, 8, 4) == {"small": 1, "wide": 1}, "they take turns"
    assert counts(many, 8, 8) == {"small": 4, "wide": 1}
    assert counts(many, 8, 16) == {"small": 4, "wide": 3}
    assert counts(many, 3, 16) == {"small": 2, "wide": 1}
    assert counts(many, 6, None) == {"small": 3, "wide": 3}
    few = {"small": 257, "wide": 256}
    assert counts(few, 8, 64) == {"small": 2, "wide": 1}, "one engine has 256 in flight"


def test_no_more_run_at_once_than_there_are_workers(tmp_path: Path) -> None:
    list(Processes(2).run(fake_jobs(tmp_path, dict.fromkeys("abcde", 1)), Unwatched()))
    spans = [(tmp_path / name).read_text().split() for name in "abcde"]
    assert {seen for _, seen, _ in spans} == {"None"}, "where there is no GPU none is named"
    for begin, _, _ in spans:
        assert sum(float(b) <= float(begin) < float(e) for b, _, e in spans) <= 2


LAUNCHED: list[tuple[int | None, list[str]]] = []


def own_launcher(workers: int | None, gpus: list[str]) -> InProcess:
    LAUNCHED.append((workers, gpus))
    return InProcess()


def test_a_launcher_of_ones_own_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--on", "tests.run.test_launchers:own_launcher", "--workers", "3") == 0
    assert LAUNCHED == [(3, [])]
    assert run(tmp_path, "--on", "slrm") == Status.WRONG_INPUT
    assert "--on 'slrm': there is no such launcher" in capsys.readouterr().err
    assert run(tmp_path, "--workers", "0") == Status.WRONG_INPUT
    assert "--workers 0: expected" in capsys.readouterr().err


def test_a_run_is_kept_to_some_gpus_which_alone_its_engines_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [MachineGpu("H200", 140.0, f"GPU-{letter}", str(n)) for n, letter in enumerate("abc")]
    monkeypatch.setattr("harness.models.forecast.machine_gpus", lambda: there)
    monkeypatch.setattr("harness.run.runner.run", lambda *arguments, **options: ["elsewhere"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that what the command sets is undone
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    LAUNCHED.clear()
    command = ["run", "--model", "aster-dense", "--suite", "planted_choice", "--out", str(tmp_path / "out")]
    own = ["--on", "tests.run.test_launchers:own_launcher"]
    assert main([*command, *own, "--gpus", "2,0"]) == 0
    assert LAUNCHED == [(None, ["GPU-c", "GPU-a"])]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-c,GPU-a"
    assert main([*command, "--gpus", "3"]) == Status.WRONG_INPUT
    assert "--gpus '3': '3' is not there" in capsys.readouterr().err
    assert main([*command, "--on", "slurm", "--gpus", "1"]) == Status.WRONG_INPUT
    assert "--gpus is for this machine" in capsys.readouterr().err


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every engine finds room beside another one; (whose, beside whose) were asked about."""
    asked: list[tuple[str, str]] = []

    def fits_beside(job: Job, other: Job, *, on_gpus: bool) -> bool:
        asked.append((job.name, other.name))
        return True

    monkeypatch.setattr("harness.run.launchers.processes.fits_beside", fits_beside)
    return asked


def spans(folder: Path, model: str) -> list[tuple[float, float]]:
    """(begin, end) of each attempt of a model."""
    directory = RunDirectory(folder / "out")
    cells = [cell for cell in directory.manifest().cells.values() if cell.model == model]
    return [(r.started, r.started + r.seconds) for cell in cells for r in directory.records(cell)]


def test_the_next_engine_loads_while_the_last_attempts_finish(
    tmp_path: Path, alone: Path, beside: list[tuple[str, str]]
) -> None:
    """It makes its first attempt when they are finished."""
    assert run(tmp_path, "--workers", "1", HOLD="one") == 0
    assert beside == [("two", "one")]
    one, two = read_workers(tmp_path / "out")
    last = max(end for _, end in spans(tmp_path, "one"))
    assert (one.model, two.model) == ("one", "two") and one.began < two.began < last
    assert last <= min(begin for begin, _ in spans(tmp_path, "two"))
    assert_same(tmp_path, alone)


def test_an_engine_that_finds_no_room_after_all_is_loaded_again(
    tmp_path: Path, alone: Path, beside: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--workers", "1", NO_ROOM="two", HOLD="one") == 0
    assert "two: it had no room next to another engine; it is loaded again" in capsys.readouterr().out
    assert len(started(tmp_path, "two")) == 2 and beside == [("two", "one")]
    assert_same(tmp_path, alone)


@pytest.mark.parametrize(("taken", "status"), [(2, Status.DONE), (3, Status.WRONG_INPUT)])
def test_an_engine_whose_port_another_one_took_is_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], taken: int, status: Status
) -> None:
    assert run(tmp_path, "--workers", "2", PORT_TAKEN=str(taken)) == status
    assert len(started(tmp_path, "one")) == len(started(tmp_path, "two")) == 3
    said = capsys.readouterr().err
    lost = re.search(r"model (one|two) could not be loaded: RuntimeError: EngineCore failed", said)
    assert (lost is not None) is (taken == 3)


def test_both_may_die_while_one_loads_beside_the_other(
    tmp_path: Path, alone: Path, beside: list[tuple[str, str]]
) -> None:
    assert run(tmp_path, "--workers", "1", KILLS="1") == 0
    assert len(started(tmp_path, "one")) == len(started(tmp_path, "two")) == 2
    assert_same(tmp_path, alone)


def test_no_two_compute_on_a_gpu_where_one_loads_beside_another(
    tmp_path: Path, beside: list[tuple[str, str]]
) -> None:
    """The GPU of an engine whose last attempts are in flight is that of the next one, once."""
    jobs = fake_jobs(tmp_path, dict.fromkeys("abcd", 1))
    launcher = Processes(2, ["GPU-a", "GPU-b"])
    for job in jobs:
        launcher._owed.append(job)
    launcher._start(launcher._owed.pop(0))
    launcher._start(launcher._owed.pop(0))
    first, second = launcher._running
    launcher._start_next(first)
    launcher._start_next(first)
    assert len(launcher._running) == 3 and not launcher._has_room(jobs[3])
    third = [*launcher._running.values()][2]
    assert third.before is first and third.gpus == ["GPU-a"] and not launcher._running[first].gpus
    launcher._bury(first, Unwatched())
    assert third.before is None and not launcher._free and not launcher._has_room(jobs[3])
    launcher._bury(second, Unwatched())
    assert launcher._free == ["GPU-b"] and launcher._has_room(jobs[3])
    launcher._stop()


def test_engines_share_gpus_where_their_parts_of_the_memory_leave_some(tmp_path: Path) -> None:
    def jobs(kind: str, *shares: float | None) -> list[Job]:
        made = fake_jobs(tmp_path, {f"m{place}": 1 for place, _ in enumerate(shares)})
        for job, share in zip(made, shares, strict=True):
            args = {"gpu_memory_utilization": share} if share else {}
            job.config = msgspec.structs.replace(job.config, engine=EngineSpec(kind=kind, args=args))
        return made

    assert fits_beside(*jobs("vllm", 0.45, 0.5), on_gpus=True)
    assert not fits_beside(*jobs("vllm", 0.5, 0.5), on_gpus=True)
    assert not fits_beside(*jobs("vllm", 0.1, None), on_gpus=True), "vLLM takes most by itself"
    assert not fits_beside(*jobs("tests.fakes:start", 0.1, 0.1), on_gpus=True), "nobody knows what it takes"


def test_engines_share_the_memory_of_a_cpu_where_half_of_what_is_free_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.safetensors").write_bytes(bytes(1 << 20))
    one, two = fake_jobs(tmp_path, {"one": 1, "two": 1})
    monkeypatch.setattr("harness.run.beside.weights", lambda job: [tmp_path / "m.safetensors"])
    need = 2 * (PROCESS_BYTES + CPU_KV_CACHE_BYTES + (1 << 20))
    for free, fits in ((need, True), (need - 1, False)):
        monkeypatch.setattr("harness.run.beside.free_bytes", lambda free=free: free)
        assert fits_beside(one, two, on_gpus=False) is fits
    monkeypatch.setattr("harness.run.beside.weights", lambda job: [])
    assert not fits_beside(one, two, on_gpus=False), "its weights are not here"
