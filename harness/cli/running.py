"""Before and during a run: `plan`, `fetch`, `run`."""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.shared import (
    config_arguments,
    examples,
    load,
    new_console,
    print_lines,
)
from harness.errors import DiskError, Status, UserError

if TYPE_CHECKING:
    from harness.types import Caution


STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a terminal that closes, and a scheduler before its time limit, send."""


def add(commands: Any) -> None:
    """Add the commands to the command line."""
    run = commands.add_parser(
        "run",
        help="run a config; the same command resumes",
        **examples("harness run demo", "harness run configs/runs/hijack.yaml --out results/hijack limit=10"),
    )
    config_arguments(run)
    run.add_argument("--out", type=Path, help="where results go (default: results/<name>-<digest>)")
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
        "--workers",
        type=int,
        metavar="N",
        help="models at once, each in a process and on GPUs of its own (default: as many as there are GPUs)",
    )
    run.add_argument("--on", metavar="LAUNCHER", help="what runs the jobs (default: this machine)")
    run.set_defaults(command=run_command)

    fetch = commands.add_parser(
        "fetch",
        help="download models and data, and write a lock of what they are",
        **examples("harness fetch demo", "harness fetch my-run.yaml models.0.revision=main"),
    )
    config_arguments(fetch)
    fetch.set_defaults(command=fetch_command)

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

    status = commands.add_parser(
        "status",
        help="say how far a run is",
        **examples("harness status results/demo", "harness status results/demo --format json"),
    )
    status.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` writes")
    status.add_argument("--format", choices=("table", "json"), default="table")
    status.set_defaults(command=status_command)


@contextmanager
def stopped_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let signals stop what is under way as Ctrl-C does, those that are not ignored (as `nohup` has it)."""
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_command(args: argparse.Namespace) -> Status:
    """`harness run`."""
    from harness import config as configs
    from harness.models.forecast import machine_gpus
    from harness.records.directory import RunDirectory
    from harness.reports.kept import are_current, write_scorecards
    from harness.run.launchers import open_launcher
    from harness.run.progress import LiveProgress
    from harness.run.runner import outcome, plan_run, run

    config = load(args)
    directory = RunDirectory(args.out or Path("results") / f"{config.name}-{configs.digest(config)}")
    config = directory.dated(config)
    gpus = [gpu.uuid for gpu in machine_gpus()] if config.engine.kind == "vllm" else []
    launcher = open_launcher(args.on, args.workers, gpus)
    plan = plan_run(config, args.config, len(gpus))
    plan.check()
    console = new_console()
    ended: Exception | KeyboardInterrupt | None = None
    with directory.lock(), stopped_by(*STOPS), LiveProgress(console) as progress:
        directory.prepare(config)
        try:
            run(plan, directory, progress, launcher, retry_failures=args.retry_failures, root=args.root)
        except (UserError, KeyboardInterrupt) as error:
            ended = error
        progress.close()
        if are_current(directory):
            progress.note(
                f"the scorecards are as they were: `harness scorecard {directory.path}` prints them"
            )
        elif not directory.measured_nothing() and not isinstance(ended, DiskError):
            text = write_scorecards(directory, width=console.width, color=console.is_terminal)
            if ended is None:
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            for name in ("scorecard.html", "scorecard.md", "scorecard.json"):
                console.print(
                    f"written: {directory.path / name}", markup=False, highlight=False, soft_wrap=True
                )
    if ended is not None:
        raise ended
    _complain(plan.problems)
    return outcome(plan.problems)


def _complain(problems: "Iterable[Caution]") -> None:
    """Say what cannot be, or was not, measured, a line each."""
    for text in dict.fromkeys(problem.text for problem in problems):
        sys.stderr.write(f"harness: {text}\n")


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
    found = [] if args.gpus else machine_gpus()
    gpus = args.gpus or written(found)
    plan = plan_run(config, args.config, parse_gpus(gpus)[0] if gpus else 0, download=False)
    print_lines(plan.lines())
    if gpus:
        price = plan.config.price_per_gpu_hour if args.price is None else args.price
        print_lines(forecast_plan(plan, gpus, price, args.measured).lines)
    if plan.problems:
        rest = "`harness run` measures the rest" if plan.cells else "nothing is left to measure"
        sys.stderr.write(f"harness: what is missing is named above; {rest}\n")
        return Status.WRONG_INPUT
    if args.strict and plan.cautions:
        return Status.WARNED
    return Status.DONE


def status_command(args: argparse.Namespace) -> None:
    """`harness status`."""
    import msgspec

    from harness.records.directory import RunDirectory
    from harness.run.status import status, status_lines

    found = status(RunDirectory(args.directory))
    as_json = args.format == "json"
    print_lines(
        [msgspec.json.format(msgspec.json.encode(found)).decode()] if as_json else status_lines(found)
    )
