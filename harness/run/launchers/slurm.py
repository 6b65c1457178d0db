"""Jobs on a cluster, through Slurm: a job array, each of whose elements is one model with its cells.

The text of the script is our own, and no library's. submitit pickles what is to be called, which only the
same versions of Python and of every package can load; it asks sacct how jobs are, which clusters without
accounting cannot answer; and it requeues on a signal alone, not what was killed. Here an element is a command
line (`harness job DIR MODEL`), the run directory is its state, and squeue says what is queued or runs.

Slurm itself requeues what was preempted and what a node took down. The script requeues what was told that its
time limit is near, and what was killed; `harness job` gives up what dies again and again. What was cancelled
is never requeued: `scontrol requeue` would revive it, so the script asks for the state first.
"""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness import config as configs
from harness.config.clusters import ClusterSpec
from harness.errors import UserError
from harness.models.fit import GPUS, Gpu
from harness.models.forecast import gpus_wanted
from harness.records.directory import RunDirectory
from harness.records.layout import file_name
from harness.records.schema import Submission
from harness.records.workers import LOGS, read_submissions, write_submission
from harness.run.attempts import Progress
from harness.run.collect import collect
from harness.run.jobs import Job
from harness.run.judging import judges_of

POLL_SECONDS = 5.0
"""Between two looks at the queue, of a command that waits."""

ANSWER_SECONDS = 120.0
"""That a command of Slurm has."""


SCRIPT = """\
export HARNESS_JOB="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
export HARNESS_ENGINE_LOG={log}
models=({models})
warned= ended=
{command} "${{models[$SLURM_ARRAY_TASK_ID]}}" {arguments} &
child=$!
trap 'warned=yes; kill -USR1 $child' USR1
trap 'ended=yes; kill -TERM $child' TERM
status=128
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
wait $child; status=$?
if [ -n "$ended" ]; then exit $status; fi
if [ $status -gt 128 ] && {{ [ -n "$warned" ] || [ $status -ne 130 ]; }}; then
    for pause in 0 2 5 10 20; do  # a controller that is busy, or begins anew, answers later
        sleep $pause
        state="$(timeout 20 squeue -h -j "$HARNESS_JOB" -o %T)" || continue
        [ "$state" != RUNNING ] || timeout 20 scontrol requeue "$HARNESS_JOB" || continue
        break
    done
fi
exit $status
"""
"""What follows the options: run the element's model, hand signals on, and queue again what is to go on."""


class Slurm:
    """Satisfies `Launcher`. Each job is submitted as an element of an array; it runs `harness job`."""

    def __init__(
        self,
        cluster: ClusterSpec,
        *,
        wait: bool = False,
        lock: Path | None = None,
        finish: Sequence[str] = (),
    ) -> None:
        """Give jobs to Slurm.

        Args:
            cluster: where, and what jobs ask for.
            wait: whether `run` waits for them. If not, it ends when they are submitted.
            lock: the config beside which the lock lies, see `harness.run.lockfile`.
            finish: arguments of the command that ends the run.
        """
        self._cluster, self._wait, self._lock, self._finish = cluster, wait, lock, finish

    def run(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Job]:
        """See `Launcher.run`. Where it does not wait only jobs that owe nothing are yielded."""
        if not jobs:
            return
        directory = jobs[0].directory
        queued = live_models(directory.path)
        for model, element in queued.items():
            progress.note(f"{model}: job {element} of Slurm has it already")
        free = [job for job in jobs if job.name not in queued]
        submissions = self._submit([job for job in free if not job.is_complete], directory, progress)
        if not self._wait:
            if submissions:
                others = dict.fromkeys(element.rpartition("_")[0] for element in queued.values())
                sbatch(self.finish_script(jobs[0], [*others, *(s.job for s in submissions)]))
            yield from (job for job in free if job.is_complete)
            return
        waiting, reported = {job.name: job for job in jobs}, ""
        while waiting:
            try:
                queued = live_models(directory.path)
            except UserError as error:  # jobs go on while the controller is busy, or begins anew
                if str(error) != reported:
                    progress.note(f"{error}: this command does, while jobs go on")
                reported = str(error)
                time.sleep(POLL_SECONDS)
                continue
            for name in [name for name in waiting if name not in queued]:
                job = waiting.pop(name)
                job.problems += collect(directory, name)
                progress.note(f"{name}: {'not all of it was measured' if job.problems else 'done'}")
                yield job
            if waiting:
                time.sleep(POLL_SECONDS)

    def _submit(self, jobs: Sequence[Job], directory: RunDirectory, progress: Progress) -> list[Submission]:
        """Submit an array for each number of GPUs that jobs ask for. Raises UserError."""
        by_gpus: dict[int, list[Job]] = {}
        for job in sorted(jobs, key=lambda job: -job.work):
            by_gpus.setdefault(job.gpus if self._cluster.gpus_per_node else 0, []).append(job)
        (directory.path / LOGS).mkdir(exist_ok=True)
        submissions = []
        for gpus, batch in by_gpus.items():
            number = sbatch(self.script(batch, gpus))
            submissions.append(
                Submission(
                    launcher="slurm",
                    job=number,
                    models=tuple(job.name for job in batch),
                    submitted=time.time(),
                )
            )
            write_submission(directory.path, submissions[-1])
            progress.note(f"submitted to Slurm: job {number}, {len(batch)} models")
        return submissions

    def script(self, jobs: Sequence[Job], gpus: int) -> str:
        """The text of an array of jobs that take as many GPUs each."""
        first, cluster = jobs[0], self._cluster
        run = first.directory.path.resolve()
        throttle = f"%{cluster.at_once}" if cluster.at_once else ""
        options = {
            "array": f"0-{len(jobs) - 1}{throttle}",
            **self._resources(),
            "gpus-per-node": self._gpus(gpus) if gpus else None,
            "signal": f"B:USR1@{cluster.warn_seconds}" if cluster.time else None,
        }
        log = f"{run / LOGS}/slurm-$HARNESS_JOB.log"
        body = SCRIPT.format(
            log=f'"{_in_quotes(log)}"',
            models=" ".join(shlex.quote(job.name) for job in jobs),
            command=" ".join([*self._command(run, gpus), "job", shlex.quote(str(run))]),
            arguments=" ".join(map(shlex.quote, self._arguments(first))),
        )
        return self._head(first, f"{run / LOGS}/slurm-%A_%a.log", options, self._cluster.options) + body

    def finish_script(self, job: Job, after: Sequence[str]) -> str:
        """The text of the job that comes after all others, however they end.

        It lets the judges read that the config names, with the GPUs that their models take, and writes the
        scorecards.
        """
        run, cluster = job.directory.path.resolve(), self._cluster
        options: dict[str, object] = {"dependency": f"afterany:{':'.join(after)}", "time": "60"}
        further, gpus = (*cluster.options, *cluster.finish_options), 0
        models = [(judge.engine.args, judge.model) for judge in judges_of(job.config) if judge.model]
        if models:  # as long, and with as much, as what is measured
            further = cluster.options
            options |= self._resources()
            if cluster.gpus_per_node:
                gpus = max(gpus_wanted({**args, **model.engine_args}) for args, model in models)
                options["gpus-per-node"] = self._gpus(gpus)
        arguments = [*self._finish, *([f"--lock={self._lock.resolve()}"] if self._lock else [])]
        command = [*self._command(run, gpus), "job", *map(shlex.quote, (str(run), *arguments))]
        return self._head(job, f"{run / LOGS}/slurm-%j.log", options, further) + " ".join(command) + "\n"

    def _resources(self) -> dict[str, object]:
        """What a job that loads a model asks for beside its GPUs."""
        cluster = self._cluster
        return {
            "time": cluster.time,
            "cpus-per-task": cluster.cpus_per_task,
            "mem": cluster.memory,
            "constraint": cluster.constraint,
        }

    def _gpus(self, count: int) -> str:
        return f"{self._cluster.gpu_type}:{count}" if self._cluster.gpu_type else str(count)

    def _head(self, job: Job, log: str, further: Mapping[str, object], options: Sequence[str]) -> str:
        cluster = self._cluster
        common = {
            "job-name": f"harness-{file_name(job.config.name)}",
            "output": _escaped(log),
            "open-mode": "append",
            "nodes": 1,
            "ntasks": 1,
            "partition": cluster.partition,
            "account": cluster.account,
            "qos": cluster.qos,
            "reservation": cluster.reservation,
        }
        lines = [
            f"#SBATCH --{k}={shlex.quote(str(v))}" for k, v in {**common, **further}.items() if v is not None
        ]
        lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in options)]
        lines += [f"export {k}={shlex.quote(v)}" for k, v in cluster.environment.items()]
        return "\n".join(["#!/bin/bash", *lines, *cluster.setup, ""])

    def _command(self, run: Path, gpus: int) -> list[str]:
        """How the harness is called in a job."""
        container = self._cluster.container
        if container is None:
            return [shlex.quote(sys.executable), "-m", "harness.cli"]
        mounts = [shlex.quote(mount) for mount in (*container.mounts, f"{run}:{run}")]
        image = shlex.quote(container.image)
        if container.runtime == "pyxis":
            return ["srun", f"--container-image={image}", f"--container-mounts={','.join(mounts)}", "harness"]
        nvidia = ["--nv"] if gpus else []
        return ["apptainer", "exec", *nvidia, f"--bind {','.join(mounts)}", image, "harness"]

    def _arguments(self, job: Job) -> Iterator[str]:
        yield f"--digest={configs.digest(job.config)}"
        if job.retry_before:
            yield f"--retry-before={job.retry_before!r}"
        if self._lock is not None:
            yield f"--lock={self._lock.resolve()}"


def node_gpus(cluster: ClusterSpec) -> list[Gpu]:
    """The GPUs of a node, as far as they are known."""
    kind = (cluster.gpu_type or "").lower()
    return [GPUS.get(kind, Gpu(kind, 0, 0, 0, "not known"))] * cluster.gpus_per_node


def _in_quotes(text: str) -> str:
    """Text between double quotes of bash, but for the variable that it ends with."""
    head, mark, tail = text.partition("$HARNESS_JOB")
    return re.sub(r'([\\"$`])', r"\\\1", head) + mark + tail


def _escaped(path: str) -> str:
    """A path for sbatch, to which `%` means something in its folder's name too; a backslash ends that."""
    folder, _, name = path.rpartition("/")
    return f"{folder.replace('%', '%%')}/{name}"


def sbatch(script: str) -> str:
    """Submit a script, which is written to no file; returns the job's id.

    Raises:
        UserError: Slurm does not take it, or is not here.
    """
    answer = _ask(["sbatch", "--parsable"], script)
    return answer.strip().splitlines()[-1].partition(";")[0]


def live_models(run: Path) -> dict[str, str]:
    """Model -> the element of a job array that is queued, or runs, for it.

    Raises:
        UserError: Slurm does not answer.
    """
    live: dict[str, str] = {}
    for submission in read_submissions(run):
        if submission.launcher == "slurm":
            for index in _live_elements(submission.job):
                if index < len(submission.models):
                    live[submission.models[index]] = f"{submission.job}_{index}"
    return live


def _live_elements(job: str) -> Iterator[int]:
    try:
        answer = _ask(["squeue", "--noheader", "--array", f"--jobs={job}", "--format=%K"])
    except UserError as error:
        if "Invalid job id" in str(error):  # it ended some minutes ago, and Slurm has forgotten it
            return
        raise
    yield from (int(index) for index in answer.split())


def _ask(command: list[str], stdin: str = "") -> str:
    try:
        answer = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
    except FileNotFoundError as error:
        raise UserError(f"--on slurm: there is no {command[0]} here: run it on a login node") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"--on slurm: {command[0]} did not answer within {ANSWER_SECONDS:.0f} s; try again"
        ) from error
    if answer.returncode:
        why = " ".join(answer.stderr.split())
        what = "correct the file of --cluster, or try again" if command[0] == "sbatch" else "try again"
        raise UserError(f"--on slurm: {command[0]} says: {why}; {what}")
    return answer.stdout
