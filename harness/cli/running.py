"""Before and during a run: `plan`, `fetch`, `run`."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.cli.shared import (
    config_arguments,
    examples,
    load,
    new_console,
    print_lines,
    say,
)
from harness.errors import DiskError, Status, UserError

if TYPE_CHECKING:
    from harness.config.clusters import ClusterSpec
    from harness.models.forecast import MachineGpu
    from harness.records.directory import RunDirectory
    from harness.run.json_log import JsonProgress
    from harness.run.progress import LiveProgress
    from harness.run.status import RunStatus
    from harness.types import Caution


STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a terminal that closes, and a scheduler before its time limit, send."""


WATCH_SECONDS = 2.0
"""Between two looks at a run that is watched."""


def add(commands: Any) -> None:
    """Add the commands to the command line."""
    _add_run(commands)
    _add_job(commands)
    _add_fetch(commands)
    _add_plan(commands)
    _add_status(commands)


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a config; the same command resumes",
        **examples(
            "harness run configs/runs/hijack.yaml --out results/hijack limit=10",
            "harness run --model Qwen/Qwen3-8B --suite banking --suite battery_gsm8k",
        ),
    )
    config_arguments(run)
    run.add_argument("--out", type=Path, help="where results go (default: results/<name>-<digest>)")
    run.add_argument(
        "--dry-run", action="store_true", help="print the resolved config as YAML, and start nothing"
    )
    run.add_argument(
        "--retry-failures",
        action="store_true",
        help="run attempts again whose engine or scorer failed; what comes of it supersedes their records",
    )
    run.add_argument(
        "--root",
        type=Path,
        metavar="ROOT",
        help="a folder of run directories: cells that are complete in one of them are taken, not run again",
    )
    run.add_argument(
        "--same-engine",
        action="store_true",
        help="take from --root only what the versions of vLLM, torch and transformers computed that are here",
    )
    run.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="models at once, each in a process and on GPUs of its own (default: as many as there are GPUs)",
    )
    run.add_argument(
        "--gpus",
        metavar="LIST",
        help="GPUs of this machine that may be used, such as 0,1 or UUIDs (default: all that "
        "CUDA_VISIBLE_DEVICES leaves)",
    )
    run.add_argument(
        "--on",
        metavar="LAUNCHER",
        help="what runs jobs: slurm, ray, or package.module:function (default: this machine)",
    )
    run.add_argument(
        "--address", metavar="HOST:PORT", help="of the head of a Ray cluster (default: this machine's own)"
    )
    run.add_argument(
        "--cluster",
        metavar="FILE",
        help="what Slurm is asked for: a YAML file, or a name of configs/clusters",
    )
    run.add_argument(
        "--wait", action="store_true", help="wait for what Slurm was given, and print the scorecards"
    )
    _end_arguments(run)
    run.set_defaults(command=run_command, loads_engines=True)


def _add_job(commands: Any) -> None:
    job = commands.add_parser(
        "job",
        help="run one model of a run that was planned, as jobs of a scheduler do; without MODEL: end the run",
        **examples("harness job results/demo aster-dense", "harness job results/demo"),
    )
    job.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` writes, of your own")
    job.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="of its config (default: none; let judges read, write scorecards)",
    )
    job.add_argument("--digest", help="of the config that was submitted; another one is refused")
    job.add_argument("--lock", type=Path, metavar="CONFIG", help="the config that the lock is next to")
    job.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="GPUs of all nodes that are reserved (default: this machine's own)",
    )  # fmt: skip
    job.add_argument(
        "--retry-before", type=float, default=0.0, metavar="TIME",
        help="run attempts again whose engine or scorer failed before this Unix time",
    )  # fmt: skip
    _end_arguments(job)
    job.set_defaults(command=job_command, owned=True, loads_engines=True)


def _add_fetch(commands: Any) -> None:
    fetch = commands.add_parser(
        "fetch",
        help="download models and data, and write a lock of what they are",
        **examples("harness fetch demo", "harness fetch my-run.yaml models.0.revision=main"),
    )
    config_arguments(fetch)
    fetch.set_defaults(command=fetch_command)


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser(
        "plan",
        help="show cells, sample counts and what is missing",
        **examples("harness plan demo", "harness plan my-run.yaml --gpus 8xH200 --price 3.5"),
    )
    config_arguments(plan)
    plan.add_argument("--gpus", help="does it fit on these, such as 8xH200 (default: this machine's own)")
    plan.add_argument(
        "--price", type=float, help="of an hour of one GPU (default: the config's price_per_gpu_hour)"
    )
    plan.add_argument("--strict", action="store_true", help="end with status 5 where there are warnings")
    plan.add_argument("--measured", type=Path, metavar="DIR", help="results of a run to take the speed from")
    plan.set_defaults(command=plan_command)


def _add_status(commands: Any) -> None:
    status = commands.add_parser(
        "status",
        help="say how far a run is",
        **examples("harness status results/demo", "harness status results/demo --format json"),
    )
    status.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` writes")
    status.add_argument("--format", choices=("table", "json"), default="table")
    status.add_argument("--watch", action="store_true", help="go on showing it until the run has ended")
    status.set_defaults(command=status_command)


def _end_arguments(command: argparse.ArgumentParser) -> None:
    """How a run is told of, and its end."""
    command.add_argument("--log", choices=("text", "json"), default="text", help="how progress is written")
    command.add_argument(
        "--max-failures",
        type=_share,
        metavar="SHARE",
        help="end with status 6 where a larger share of attempts could not be measured, such as 0.05",
    )
    command.add_argument(
        "--notify",
        metavar="COMMAND",
        help="a command of yours for when the run has ended (default: HARNESS_NOTIFY of the environment)",
    )


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("expected a share from 0 to 1, such as 0.05")
    return share


@contextmanager
def stopped_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let signals stop what is under way as Ctrl-C does, those that are not ignored (as `nohup` has it)."""
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number))


def run_command(args: argparse.Namespace) -> Status:
    """`harness run`."""
    from harness import config as configs
    from harness.models.forecast import machine_gpus
    from harness.records.directory import RunDirectory
    from harness.run.launchers import open_launcher
    from harness.run.launchers.ray import Ray
    from harness.run.launchers.slurm import node_gpus
    from harness.run.lockfile import lock_path
    from harness.run.notify import NOTIFY
    from harness.run.runner import outcome, plan_run, run

    config = load(args)
    if args.dry_run:
        sys.stdout.write(configs.to_yaml(config))
        return Status.DONE
    directory = RunDirectory(args.out or Path("results") / f"{config.name}-{configs.digest(config)}")
    config = directory.dated(config)
    cluster = _cluster(args)
    there = _own_gpus(args) if config.engine.kind == "vllm" and args.on not in ("slurm", "ray") else []
    launcher = open_launcher(
        args.on,
        args.workers,
        [gpu.uuid for gpu in there],
        cluster=cluster,
        wait=args.wait,
        lock=args.config if args.config and lock_path(args.config).is_file() else None,
        finish=finish_arguments(args),
        address=args.address,
    )
    if args.notify:
        os.environ[NOTIFY] = args.notify  # what is submitted inherits it, and no file has it
    gpus, judge_gpus = node_gpus(cluster) if cluster else [gpu.sized for gpu in there], None
    if isinstance(launcher, Ray):
        gpus, judge_gpus = launcher.gpus(), len(machine_gpus())  # judges read in this process
    plan = plan_run(config, args.config, gpus, judge_gpus=judge_gpus)
    plan.check()
    ended: UserError | KeyboardInterrupt | None = None
    elsewhere: list[str] = []
    with directory.lock(), open_progress(args) as progress:
        directory.prepare(config)
        try:
            elsewhere = run(
                plan,
                directory,
                progress,
                launcher,
                retry_failures=args.retry_failures,
                root=args.root,
                same_engine=args.same_engine,
            )
        except (UserError, KeyboardInterrupt) as error:
            ended = error
        progress.close()
        if elsewhere and ended is None:
            progress.note(f"`harness status {directory.path}` says how far it is")
            complain(plan.problems)
            return outcome(plan.problems)
        return conclude(args, directory, progress, ended, plan.problems)


def _own_gpus(args: argparse.Namespace) -> "list[MachineGpu]":
    """The GPUs of this machine that a run may use, which alone its engines see. Raises UserError."""
    from harness.models.forecast import chosen_gpus, machine_gpus

    there = machine_gpus()
    if args.gpus is not None:
        there = chosen_gpus(there, args.gpus)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in there)
    return there


def _cluster(args: argparse.Namespace) -> "ClusterSpec | None":
    """What Slurm is asked for, None where it is not. Raises UserError."""
    from harness.config.clusters import ClusterSpec, load_cluster

    if args.address and args.on != "ray":
        raise UserError("--address needs --on ray: add that, or take it out")
    if args.gpus is not None and args.on in ("slurm", "ray"):
        raise UserError("--gpus is for this machine: --on slurm and --on ray know the GPUs of their nodes")
    if args.on != "slurm":
        if args.cluster or args.wait:
            raise UserError(
                f"{'--cluster' if args.cluster else '--wait'} needs --on slurm: add that, or take it out"
            )
        return None
    return load_cluster(args.cluster) if args.cluster else ClusterSpec()


def finish_arguments(args: argparse.Namespace) -> list[str]:
    """What of a command line holds for the end of the run, wherever that is."""
    return [] if args.max_failures is None else [f"--max-failures={args.max_failures}"]


def open_progress(args: argparse.Namespace) -> "LiveProgress | JsonProgress":
    """Who is told what happens: a person, or a program."""
    from harness.run.json_log import JsonProgress
    from harness.run.progress import LiveProgress

    return JsonProgress() if args.log == "json" else LiveProgress(new_console())


def conclude(
    args: argparse.Namespace,
    directory: "RunDirectory",
    progress: "LiveProgress | JsonProgress",
    ended: "UserError | KeyboardInterrupt | None",
    problems: "Sequence[Caution]",
) -> Status:
    """Write the scorecards and how the run ended, and tell whoever is to know."""
    from harness.records.workers import END
    from harness.run.json_log import JsonProgress
    from harness.run.notify import notify
    from harness.run.runner import outcome
    from harness.run.status import write_end

    if not isinstance(ended, DiskError):
        _keep_scorecards(directory, progress, show=ended is None and args.log != "json")
    status = outcome(problems)
    if ended is not None:
        status = Status.WRONG_INPUT if isinstance(ended, UserError) else Status.INTERRUPTED
    if not isinstance(ended, DiskError) and directory.is_run:
        end = write_end(directory, status, problems, args.max_failures)
        status = Status(end.status)
        if isinstance(progress, JsonProgress):
            progress.end(end)
        if wrong := notify(directory.path / END, end):
            say(wrong)
    if ended is not None:
        raise ended
    complain(problems)
    return status


def _keep_scorecards(
    directory: "RunDirectory", progress: "LiveProgress | JsonProgress", *, show: bool
) -> None:
    from harness.reports.kept import are_current, write_scorecards

    if are_current(directory):
        progress.note(f"the scorecards are as they were: `harness scorecard {directory.path}` prints them")
    elif not directory.measured_nothing():
        console = new_console()
        text = write_scorecards(directory, width=console.width, color=console.is_terminal)
        if show:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        for name in ("scorecard.html", "scorecard.md", "scorecard.json"):
            progress.note(f"written: {directory.path / name}")


def job_command(args: argparse.Namespace) -> Status:
    """`harness job`."""
    from harness.records.directory import RunDirectory
    from harness.run.collect import collect
    from harness.run.one_model import run_model
    from harness.run.runner import judge_measured, outcome

    directory = RunDirectory(args.directory)
    with open_progress(args) as progress:
        if args.model is None:
            with directory.lock():
                models = dict.fromkeys(cell.model for cell in directory.manifest().cells.values())
                problems = [problem for model in models for problem in collect(directory, model)]
                problems += judge_measured(directory, progress, args.lock)
                directory.keep_cautions((*directory.manifest().cautions, *problems))
                return conclude(args, directory, progress, None, problems)
        problems = run_model(
            directory,
            args.model,
            progress,
            digest=args.digest,
            lock=args.lock,
            retry_before=args.retry_before,
            gpus=args.gpus,
        )
        progress.close()
    complain(problems)
    return outcome(problems)


def complain(problems: "Iterable[Caution]") -> None:
    """Say what cannot be, or was not, measured, a line each."""
    for text in dict.fromkeys(problem.text for problem in problems):
        say(text)


def fetch_command(args: argparse.Namespace) -> None:
    """`harness fetch`."""
    from harness.run.fetch import fetch

    print_lines(fetch(load(args), args.config))


def plan_command(args: argparse.Namespace) -> Status:
    """`harness plan`."""
    from harness.models.fit import parse_gpus
    from harness.models.forecast import machine_gpus, written
    from harness.run.plan import forecast_plan
    from harness.run.runner import plan_run

    config = load(args)
    machine = [] if args.gpus else machine_gpus()
    gpus = args.gpus or written(machine)
    count, gpu = parse_gpus(gpus) if gpus else (0, None)
    plan = plan_run(config, args.config, [gpu] * count if gpu else [], download=False)
    print_lines(plan.lines())
    if gpus:
        price = plan.config.price_per_gpu_hour if args.price is None else args.price
        print_lines(forecast_plan(plan, gpus, price, args.measured).lines)
    if plan.problems:
        rest = "`harness run` measures the rest" if plan.cells else "nothing is left to measure"
        say(f"what is missing is named above; {rest}")
        return Status.WRONG_INPUT
    if args.strict and plan.cautions:
        return Status.WARNED
    return Status.DONE


def status_command(args: argparse.Namespace) -> None:
    """`harness status`."""
    import msgspec

    from harness.records.directory import RunDirectory
    from harness.run.status import RunStatus, status, status_lines

    directory = RunDirectory(args.directory)

    def lines(state: RunStatus) -> Iterable[str]:
        if args.format == "json":
            return [msgspec.json.format(msgspec.json.encode(state)).decode()]
        return status_lines(state)

    state = status(directory)
    if args.watch:
        _watch(directory, state, lines)
    else:
        print_lines(lines(state))


def _watch(
    directory: "RunDirectory", state: "RunStatus", lines: "Callable[[RunStatus], Iterable[str]]"
) -> None:
    """Show how far a run is until it has ended: in place on a terminal, elsewhere when it changes."""
    from rich.live import Live
    from rich.text import Text

    from harness.run.status import status

    console, before = new_console(), ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            text = "\n".join(lines(state))
            if console.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != before:
                print_lines([text])
            before = text
            if state.is_over:
                return
            time.sleep(WATCH_SECONDS)
            state = status(directory)
