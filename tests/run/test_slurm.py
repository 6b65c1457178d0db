"""Jobs on Slurm: the text that is submitted, and a real cluster of two nodes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.cli import main
from harness.config.clusters import ClusterSpec, Container, load_cluster
from harness.errors import Status, UserError
from harness.records.directory import RunDirectory
from harness.records.schema import Submission
from harness.records.workers import read_submissions, read_workers, write_submission
from harness.run.launchers.slurm import Slurm, live_models
from tests.attempted import Unwatched
from tests.conftest import ROOT
from tests.run.slurm_cluster import Cluster, slurm_cluster, wait_until
from tests.run.test_launchers import bare, fake_jobs, is_running
from tests.run.test_runner import CONFIG, records, scorecards

MODELS = ("one", "two", "three", "four")
OWN = CONFIG.replace("tests.fakes:start", "tests.run.paced:start").replace(
    "models:\n",
    "models:\n" + "".join(f"  - {{name: {name}, path: {name}}}\n" for name in MODELS[2:]),
)
PLANTED = "planted-secret-0123456789"


def cluster_file(folder: Path, text: str) -> str:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return str(path)


# The text


def test_a_script_asks_for_what_the_cluster_file_says(tmp_path: Path) -> None:
    cluster = ClusterSpec(
        partition="gpu",
        account="lab",
        qos="high",
        constraint="h200&nvlink",
        reservation="mine",
        time="04:00:00",
        gpus_per_node=8,
        gpu_type="h200",
        cpus_per_task=16,
        memory="200G",
        at_once=3,
        warn_seconds=240,
        environment={"HF_HOME": "/data/my models"},
        setup=("module load cuda",),
        options=("--exclusive",),
    )
    jobs = fake_jobs(tmp_path, {"a b": 2, "c": 2})
    lines = Slurm(cluster, lock=tmp_path / "run.yaml").script(jobs, 2).splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in (
        "#SBATCH --array=0-1%3",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --qos=high",
        "#SBATCH --constraint='h200&nvlink'",
        "#SBATCH --reservation=mine",
        "#SBATCH --time=04:00:00",
        "#SBATCH --gpus-per-node=h200:2",
        "#SBATCH --cpus-per-task=16",
        "#SBATCH --mem=200G",
        "#SBATCH --signal=B:USR1@240",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --exclusive",
        f"#SBATCH --output={tmp_path}/logs/slurm-%A_%a.log",
        "export HF_HOME='/data/my models'",
        "module load cuda",
        "models=('a b' c)",
    ):
        assert line in lines, line
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert directives == list(range(1, len(directives) + 1)), "sbatch reads none after the first command"
    (command,) = (line for line in lines if "harness.cli" in line)
    assert command.startswith(f"{sys.executable} -m harness.cli job {tmp_path} ")
    assert f"--lock={tmp_path}/run.yaml" in command and "--digest=" in command
    assert "--retry-before" not in command


def test_what_a_cluster_file_leaves_out_is_not_asked_for(tmp_path: Path) -> None:
    text = Slurm(ClusterSpec()).script(fake_jobs(tmp_path, {"a": 4}), 0)
    asked = {line.split("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")}
    assert asked == {
        f"#SBATCH --{name}"
        for name in ("job-name", "output", "open-mode", "nodes", "ntasks", "array", "requeue")
    }


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (
            "pyxis",
            "srun --container-image=/i.sqsh --container-mounts=/data:/data,{run}:{run} harness job {run} ",
        ),
        ("apptainer", "apptainer exec --nv --bind /data:/data,{run}:{run} /i.sqsh harness job {run} "),
    ],
)
def test_jobs_run_in_a_container(tmp_path: Path, runtime: Any, expected: str) -> None:
    container = Container(runtime=runtime, image="/i.sqsh", mounts=("/data:/data",))
    slurm = Slurm(ClusterSpec(gpus_per_node=8, container=container))
    assert expected.format(run=tmp_path) in slurm.script(fake_jobs(tmp_path, {"a": 1}), 1)


def test_the_last_job_comes_after_all_others_and_takes_no_gpu(tmp_path: Path) -> None:
    cluster = ClusterSpec(partition="gpu", gpus_per_node=8, finish_options=("--partition=cpu",))
    slurm = Slurm(cluster, finish=["--max-failures=0.05"])
    lines = slurm.finish_script(fake_jobs(tmp_path, {"a": 1})[0], ["12", "13"]).splitlines()
    assert "#SBATCH --dependency=afterany:12:13" in lines
    assert lines.index("#SBATCH --partition=cpu") > lines.index("#SBATCH --partition=gpu")
    assert not [line for line in lines if "gpus" in line or "array" in line]
    assert lines[-1].endswith(f"job {tmp_path} --max-failures=0.05")


def test_the_last_job_takes_what_a_judge_takes_that_is_a_model(tmp_path: Path) -> None:
    judge = tmp_path / "judge.yaml"
    judge.write_text(
        "{name: big, asks: What?, classes: [a], verdicts: {a: a}, "
        "model: {name: m, path: m/m, engine_args: {tensor_parallel_size: 2}}}\n"
    )
    cluster = ClusterSpec(
        gpus_per_node=8, gpu_type="h200", time="4:00:00", finish_options=("--partition=cpu",)
    )
    (job,) = fake_jobs(tmp_path, {"a": 1})

    def lines(*judges: str) -> list[str]:
        job.config = msgspec.structs.replace(job.config, judge=judges)
        return Slurm(cluster).finish_script(job, ["12"]).splitlines()

    rule = lines("refusal-keywords")
    assert "#SBATCH --partition=cpu" in rule and not [line for line in rule if "gpus" in line]
    model = lines("refusal-keywords", str(judge))
    assert "#SBATCH --gpus-per-node=h200:2" in model and "#SBATCH --time=4:00:00" in model
    assert "#SBATCH --partition=cpu" not in model


def test_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    odd = tmp_path / "100%A $(touch x) 'q'"
    odd.mkdir()
    text = Slurm(ClusterSpec()).script(fake_jobs(odd, {"it's": 1}), 0)
    (output,) = (line for line in text.splitlines() if line.startswith("#SBATCH --output="))
    assert "100%%A" in output and output.endswith("slurm-%A_%a.log'")
    script = text.replace(f"{sys.executable} -m harness.cli", "printf '%s\\n'")
    script = script.replace("\nexit $status", '\necho "$HARNESS_ENGINE_LOG"')
    environment = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "PATH": os.environ["PATH"]}
    said = subprocess.run(
        ["bash", "-c", script],
        env=environment, capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout.splitlines()  # fmt: skip
    assert said[:3] == ["job", str(odd), "it's"]
    assert said[-1] == f"{odd}/logs/slurm-7_0.log"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "partion: gpu",
            "cluster.yaml:1: unknown key `partion` (did you mean `partition`?); valid keys here: ",
        ),
        ("time: 12:00:00", 'cluster.yaml:1: key `time`: write it in quotes, such as "12:00:00"'),
        ("qos: a\ntime: tomorrow", "cluster.yaml:2: key `time`: 'tomorrow' is no time limit"),
        (
            "environment:\n  HF_TOKEN: hf_x",
            "cluster.yaml:2: key `environment.HF_TOKEN`: a secret is not kept",
        ),
        (
            "container: {runtime: docker, image: x}",
            "cluster.yaml:1: key `container.runtime`: invalid enum value",
        ),
        ("gpus_per_node: -1", "cluster.yaml:1: key `gpus_per_node`: expected `int` >= 0"),
        ("options: [exclusive]", "cluster.yaml:1: 'exclusive' is no option of sbatch"),
    ],
)
def test_a_wrong_cluster_file_is_refused_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load_cluster(cluster_file(tmp_path, text))
    assert said in str(error.value)


def test_the_clusters_that_ship_are_right() -> None:
    shipped = sorted((ROOT / "configs" / "clusters").glob("*.yaml"))
    assert shipped
    for path in shipped:
        assert Slurm(load_cluster(path.stem)).script is not None


@pytest.mark.parametrize("options", [["--cluster", "x.yaml"], ["--wait"]])
def test_options_of_slurm_need_it(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(OWN)
    assert main(["run", str(path), "--out", str(tmp_path / "out"), *options]) == Status.WRONG_INPUT
    assert f"{options[0]} needs --on slurm" in capsys.readouterr().err


def test_where_there_is_no_slurm_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(OWN)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["run", str(path), "--out", str(tmp_path / "out"), "--on", "slurm"]) == Status.WRONG_INPUT
    assert "there is no sbatch here: run it on a login node" in capsys.readouterr().err


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Let commands of Slurm be scripts of `folder/bin`."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, body in scripts.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/bash\ncd {folder}\n{body}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")


BUSY = """\
echo x >> asked
if [ $(wc -l < asked) -le 2 ]; then
    echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 1
fi
"""
"""Of a controller that does not answer the first two times."""


def test_a_controller_that_does_not_answer_is_asked_again_by_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(tmp_path, monkeypatch, sbatch="echo 7", squeue=BUSY)
    monkeypatch.setattr("harness.run.launchers.slurm.POLL_SECONDS", 0.0)
    path = tmp_path / "digits.yaml"
    path.write_text(CONFIG)
    assert (
        main(["run", str(path), "--out", str(tmp_path / "out"), "--on", "slurm", "--wait"]) == Status.STOPPED
    )
    said = capsys.readouterr()
    assert said.out.count("Socket timed out on send/recv operation") == 1
    assert "model one: its job 7_0 was cancelled before it began" in said.err


def test_a_command_of_slurm_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(tmp_path, monkeypatch, squeue="exec tail -f /dev/null")
    monkeypatch.setattr("harness.run.launchers.slurm.ANSWER_SECONDS", 0.2)
    write_submission(tmp_path, Submission(launcher="slurm", job="7", models=("one",), submitted=0.0))
    with pytest.raises(UserError, match="squeue did not answer within 0 s; try again"):
        live_models(tmp_path)


@pytest.mark.parametrize("busy", ["squeue", "scontrol"])
def test_what_was_killed_is_queued_again_though_the_controller_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: str
) -> None:
    scripts = {"squeue": "echo RUNNING", "scontrol": "echo $* >> queued", "sleep": ""}
    commands(tmp_path, monkeypatch, **{**scripts, busy: BUSY + scripts[busy]})
    text = Slurm(ClusterSpec()).script(fake_jobs(tmp_path, {"a": 1}), 0)
    script = text.replace(f"{sys.executable} -m harness.cli", "bash -c 'kill -KILL $$'")
    environment = {**os.environ, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 137
    assert (tmp_path / "queued").read_text() == "requeue 7_0\n"


@pytest.mark.parametrize("state", ["CANCELLED", ""])
def test_what_was_cancelled_or_is_unknown_is_not_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    commands(tmp_path, monkeypatch, squeue=f"echo {state}", scontrol="echo $* >> queued", sleep="")
    text = Slurm(ClusterSpec()).script(fake_jobs(tmp_path, {"a": 1}), 0)
    script = text.replace(f"{sys.executable} -m harness.cli", "bash -c 'kill -KILL $$'")
    environment = {**os.environ, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
    subprocess.run(["bash", "-c", script], env=environment, capture_output=True, check=False)
    assert not (tmp_path / "queued").exists()


def test_an_array_that_slurm_does_not_take_leaves_the_others_to_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it is larger than MaxArraySize. The run ends after all of them."""
    sbatch = """\
if [ -e full ]; then echo 'sbatch: error: Invalid job array specification' >&2; exit 1; fi
cat > job-$(ls job-* | wc -l)
touch full
ls job-* | wc -l
"""
    commands(tmp_path, monkeypatch, sbatch=sbatch, squeue="echo 0")
    jobs = fake_jobs(tmp_path, {"small": 1, "wide": 2})
    monkeypatch.setattr(type(jobs[0]), "is_complete", False)
    slurm = Slurm(ClusterSpec(gpus_per_node=8))
    with pytest.raises(UserError, match=r"sbatch says: .*Invalid job array specification"):
        list(slurm.run(jobs, Unwatched()))
    assert [submission.models for submission in read_submissions(tmp_path)] == [("small",)]
    commands(tmp_path, monkeypatch, sbatch=sbatch.replace("touch full", ""))
    (tmp_path / "full").unlink()
    list(slurm.run(jobs, Unwatched()))
    assert [submission.models for submission in read_submissions(tmp_path)] == [("small",), ("wide",)]
    assert "#SBATCH --dependency=afterany:1:2\n" in (tmp_path / "job-2").read_text()


# A cluster


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        patch.setenv("HF_TOKEN", PLANTED)
        patch.setattr("harness.run.launchers.slurm.POLL_SECONDS", 0.5)
        yield cluster


def run(
    folder: Path, *arguments: str, pace: dict[str, Any] | None = None, models: tuple[str, ...] = ()
) -> int:
    path = folder / "digits.yaml"
    path.write_text(OWN)
    only = [f"models={json.dumps([{'name': name, 'path': name} for name in models])}"] if models else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOLDER", str(folder))
        patch.setenv("PACE", json.dumps(pace or {}))
        return main(["run", str(path), "--out", str(folder / "100% of it"), *arguments, *only])


def started(folder: Path, model: str) -> list[int]:
    """Processes that loaded a model."""
    path = folder / f"{model}-started"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def end(folder: Path) -> dict[str, Any]:
    path = folder / "100% of it" / "end.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def count(folder: Path, model: str) -> int:
    """Finished attempts of a model."""
    directory = RunDirectory(folder / "100% of it")
    return sum(directory.count(c) for c in directory.manifest().cells.values() if c.model == model)


def element(folder: Path, model: str) -> str:
    """The element of the last array that has a model."""
    submission = read_submissions(folder / "100% of it")[-1]
    return f"{submission.job}_{submission.models.index(model)}"


def log(folder: Path) -> str:
    found = sorted((folder / "100% of it" / "logs").glob("*.log"))
    return "\n".join(f"{path.name}: {path.read_text()}" for path in found)


def test_jobs_are_cancelled_told_of_their_limit_and_lose_a_node_and_the_results_are_those_of_one_process(
    slurm: Cluster,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = tmp_path_factory.mktemp("alone")
    assert run(alone) == 0
    cluster = ["--on", "slurm", "--cluster", cluster_file(tmp_path, 'time: "1"\nwarn_seconds: 45')]
    pace = {"one": 1.5, "two": 1.0, "three": 0.0, "four": 2.0}
    capsys.readouterr()
    assert run(tmp_path, *cluster, pace=pace) == 0
    said = capsys.readouterr().out
    (submission,) = read_submissions(tmp_path / "100% of it")
    assert f"submitted to Slurm: job {submission.job}, 4 models" in said and "harness status" in said
    assert len(slurm.queue()) == 5, "four elements and the job that ends the run"

    capsys.readouterr()
    assert run(tmp_path, *cluster, pace=pace) == 0
    assert f"two: job {element(tmp_path, 'two')} of Slurm has it already" in capsys.readouterr().out
    assert len(read_submissions(tmp_path / "100% of it")) == 1

    # One is cancelled: it stays so.
    wait_until(lambda: count(tmp_path, "one"), what=log(tmp_path))
    slurm("scancel", "--signal=KILL", element(tmp_path, "one"))
    # One loses its node, and Slurm begins it again.
    wait_until(lambda: count(tmp_path, "two"), what=log(tmp_path))
    (node,) = slurm("squeue", "-h", "-r", "-j", element(tmp_path, "two"), "-o", "%N").split()
    before = started(tmp_path, "two")
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    wait_until(lambda: not any(map(is_running, before)))
    slurm("scontrol", "update", f"nodename={node}", "state=resume")

    wait_until(lambda: end(tmp_path), 600, log(tmp_path))
    wait_until(lambda: not slurm.queue())
    directory = RunDirectory(tmp_path / "100% of it")
    ends = {name: [worker.ended for worker in read_workers(directory.path, name)] for name in MODELS}
    assert len(ends["two"]) > 1 and "warned" in ends["four"], ends
    assert ends["three"] == ["done"] and len(ends["one"]) == 1
    assert end(tmp_path)["status"] == Status.STOPPED
    (problem,) = end(tmp_path)["problems"]
    assert problem.startswith(f"model one: its job {element(tmp_path, 'one')} was ")
    assert problem.endswith(".log); the same command goes on")
    assert {name: count(tmp_path, name) for name in MODELS[1:]} == dict.fromkeys(MODELS[1:], 160)

    kept = count(tmp_path, "one")
    assert 0 < kept < 160
    capsys.readouterr()
    assert run(tmp_path, *cluster, "--wait") == 0
    assert f"job {read_submissions(directory.path)[-1].job}, 1 models" in capsys.readouterr().out
    assert read_submissions(directory.path)[-1].models == ("one",)
    assert end(tmp_path)["status"] == 0 and end(tmp_path)["finished"] == 640
    assert bare(records(tmp_path, "100% of it")) == bare(records(alone, "100% of it"))
    assert scorecards(tmp_path, "100% of it") == scorecards(alone, "100% of it")
    assert main(["verify", str(directory.path)]) == 0
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or PLANTED.encode() not in path.read_bytes(), path


def test_what_dies_again_and_again_is_given_up_by_name_and_the_rest_goes_on(
    slurm: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pace = {"killed": "killed", "never": "never"}
    cluster = ["--on", "slurm", "--cluster", cluster_file(tmp_path, 'time: "60"')]
    assert run(tmp_path, *cluster, pace=pace, models=("killed", "never", "fine")) == 0
    for number in (1, 2):  # as Slurm tells it that the limit is near
        wait_until(lambda number=number: len(started(tmp_path, "never")) == number, what=log(tmp_path))
        time.sleep(0.5)
        slurm("scancel", "--signal=USR1", "--batch", element(tmp_path, "never"))
    wait_until(lambda: end(tmp_path), 600, log(tmp_path))
    assert end(tmp_path)["status"] == Status.STOPPED
    killed, never = sorted(end(tmp_path)["problems"])
    assert "model killed: its process was killed 3 times before it finished anything (last on " in killed
    assert "model never: the time limit of its job is shorter than it takes to load: it was told " in never
    assert count(tmp_path, "fine") == 160 and count(tmp_path, "never") == 0
    capsys.readouterr()
    assert main(["status", str(tmp_path / "100% of it")]) == 0
    said = capsys.readouterr().out
    assert "fine: many    120/120" in said and "killed: its process was killed 3 times" in said


def test_a_job_refuses_a_config_that_is_not_the_one_that_was_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, models=("one",)) == 0
    out = str(tmp_path / "100% of it")
    assert main(["job", out, "one", "--digest", "0" * 12]) == Status.WRONG_INPUT
    assert "is not the config that was submitted: give `harness run` again" in capsys.readouterr().err
    assert main(["job", out, "other"]) == Status.WRONG_INPUT
    assert "has no model 'other': give one of one" in capsys.readouterr().err


@pytest.mark.engine
def test_models_through_vllm_on_two_nodes_are_those_of_one_process(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text((ROOT / "configs" / "runs" / "demo.yaml").read_text())
    models = ["--model", "aster-dense", "--model", "borea-moe"]
    on_slurm = ["--on", "slurm", "--wait"]
    for out, on in (("alone", []), ("slurm", on_slurm)):
        command = ["run", str(tmp_path / "demo.yaml"), "--out", str(tmp_path / out), "limit=4", *models, *on]
        done = subprocess.run(
            [sys.executable, "-m", "harness.cli", *command],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr} {done.stdout}"
    assert scorecards(tmp_path, "slurm") == scorecards(tmp_path, "alone")
    assert bare(records(tmp_path, "slurm")) == bare(records(tmp_path, "alone"))
    workers = read_workers(tmp_path / "slurm")
    assert len(workers) == 2 and {worker.ended for worker in workers} == {"done"}
