"""The command line. Each command is one function; what it does is one call into the room that does it."""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.errors import DiskError, Status, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.config import RunConfig
    from harness.trust import Trust
    from harness.types import Caution

FORMATS = ("table", "md", "json", "html")
EXPORTS = ("csv", "eval-results", "every-eval-ever", "inspect", "lm-eval", "parquet")
COSTS = ("curve", "both-solved")
GROUPINGS = ("country", "developer", "base", "licence", "type", "size")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, see `Status`."""
    from harness.trust import trusting

    args = parse(arguments)
    try:
        with trusting(_trust(args)):
            status: Status | None = args.command(args)
    except UserError as error:
        sys.stderr.write(f"harness: {error}\n")
        return Status.WRONG_INPUT
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output, such as `head`, has gone
            sys.stderr.close()
            return Status.DONE
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"harness: {where}{error.strerror or error}; free or mend the disk, and try again\n")
        return Status.WRONG_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("harness: stopped; what is finished is kept, the same command resumes\n")
        return Status.INTERRUPTED
    return status or Status.DONE


def _trust(args: argparse.Namespace) -> "Trust":
    """A config at the command line is its owner's. What other commands read is data, whoever made it."""
    from harness.trust import OWN, Trust

    if "config" in args:
        return OWN
    folders: list[Path] = getattr(args, "trust_code", [])
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--trust-code {folder}: expected a folder with code that you trust")
    return Trust(folders=tuple(folders))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; overrides may stand on either side of the options."""
    top = parser()
    args, rest = top.parse_known_args(arguments)
    if rest and ("overrides" not in args or any(text.startswith("-") or "=" not in text for text in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    top = argparse.ArgumentParser(
        prog="harness",
        description="Measure open-weight models: capability, and resistance to agent hijacking.",
    )
    top.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a config; the same command resumes")
    _config_arguments(run)
    run.add_argument("--out", type=Path, help="where results go (default: results/<name>-<digest>)")
    run.add_argument(
        "--retry-failures",
        action="store_true",
        help="run attempts again whose engine or scorer failed; what comes of it supersedes their records",
    )
    run.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="models at once, each in a process and on GPUs of its own (default: as many as there are GPUs)",
    )
    run.add_argument("--on", metavar="LAUNCHER", help="who runs it (default: this machine)")
    run.set_defaults(command=run_command)

    fetch = commands.add_parser("fetch", help="download models and data, and write a lock of what they are")
    _config_arguments(fetch)
    fetch.set_defaults(command=fetch_command)

    plan = commands.add_parser("plan", help="show cells, sample counts and what is missing")
    _config_arguments(plan)
    plan.add_argument("--gpus", help="does it fit on these, such as 8xH200 (default: this machine's own)")
    plan.add_argument(
        "--price", type=float, help="of an hour of one GPU (default: the config's price_per_gpu_hour)"
    )
    plan.add_argument("--strict", action="store_true", help="end with status 5 where there are warnings")
    plan.add_argument("--measured", type=Path, metavar="DIR", help="results of a run to take the speed from")
    plan.set_defaults(command=plan_command)

    _models_arguments(commands)
    _judge_arguments(commands)

    pin = commands.add_parser("pin", help="write the hub commits of models into their files")
    pin.add_argument("target", metavar="CONFIG|MODEL", help="a run config, or a model of the registry")
    pin.set_defaults(command=pin_command)

    suites = commands.add_parser("suites", help="list the suites of the registry, and the adapters")
    suites.set_defaults(command=suites_command)

    _result_arguments(commands)
    _record_arguments(commands)

    doctor = commands.add_parser("doctor", help="say what this machine has, and what is missing")
    doctor.set_defaults(command=doctor_command)
    return top


def _result_arguments(commands: Any) -> None:
    scorecard = commands.add_parser("scorecard", help="print the scorecards of a run")
    scorecard.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` wrote")
    scorecard.add_argument("--format", choices=FORMATS, default="table")
    scorecard.add_argument("--by", choices=GROUPINGS, default="country", help="what an origin is")
    _allow_argument(scorecard)
    _full_argument(scorecard)
    scorecard.set_defaults(command=scorecard_command)

    compare = commands.add_parser(
        "compare", help="compare two models, paired by sample", usage="harness compare DIR A B | DIR/A DIR/B"
    )
    compare.add_argument("targets", nargs="+", help="a run and two of its models, or two of DIR/MODEL")
    compare.add_argument("--format", choices=FORMATS[:3], default="table")
    compare.add_argument("--flips", action="store_true", help="list the samples on which they differ")
    _allow_argument(compare)
    _full_argument(compare)
    compare.set_defaults(command=compare_command)

    claims = commands.add_parser("claims", help="gaps, abilities, size and cost, each with its instrument")
    claims.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` wrote")
    claims.add_argument("--format", choices=FORMATS[:3], default="table")
    claims.add_argument("--by", choices=GROUPINGS, default="country", help="what an origin is")
    claims.add_argument(
        "--price",
        type=float,
        metavar="X",
        help="of an hour of one GPU, in any currency (default: the config's price_per_gpu_hour)",
    )
    claims.add_argument("--cost", choices=COSTS, help="compare costs as CAISI did in 2025, or in 2026")
    claims.add_argument("--adoption", type=Path, metavar="FILE", help="dated snapshot of downloads (YAML)")
    _allow_argument(claims)
    _full_argument(claims)
    claims.set_defaults(command=claims_command)
    _trust_argument(scorecard, compare, claims)

    verify = commands.add_parser("verify", help="check that a run's files are what its records give")
    verify.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` wrote")
    verify.add_argument(
        "--key", type=Path, metavar="FILE", help="minisign public key, or file of allowed ssh signers"
    )
    verify.add_argument(
        "--quick", action="store_true", help="do not score again: checksums, scorecards and signature alone"
    )
    _programs_argument(verify)
    verify.set_defaults(command=verify_command)
    _trust_argument(verify)


def _record_arguments(commands: Any) -> None:
    replay = commands.add_parser("replay", help="score transcripts again, without a model")
    replay.add_argument("path", type=Path, metavar="DIR", help="a folder that `run` or AgentDojo wrote")
    replay.add_argument("--format", choices=("table", "json"), default="table")
    replay.add_argument("--out", type=Path, metavar="DIR2", help="keep AgentDojo's runs as records here")
    replay.add_argument("--benchmark-version", metavar="V", help="where AgentDojo's files do not say it")
    replay.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="NAME=PATH:OBJECT",
        help="where a suite is that AgentDojo does not have, such as shopping=./file.py:task_suite",
    )
    replay.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="[PIPELINE=]NAME",
        help="how the model of AgentDojo's runs is called",
    )
    replay.add_argument("--developer", help="who made the models of AgentDojo's runs")
    replay.add_argument("--country", help="where: ISO 3166-1 alpha-2")
    _programs_argument(replay)
    replay.set_defaults(command=replay_command)

    show = commands.add_parser("show", help="print one attempt, or list those that failed")
    show.add_argument("directory", type=Path, metavar="DIR", help="a folder with records")
    what = show.add_mutually_exclusive_group(required=True)
    what.add_argument("--pair", metavar="SUITE/SAMPLE", help="one attempt, such as banking/user_task_0")
    what.add_argument(
        "--failed", action="store_true", help="list attempts that failed, were wrong or were hijacked"
    )
    show.add_argument("--suite", help="with --failed: of this suite alone")
    show.add_argument("--limit", type=int, default=50, help="with --failed: at most so many; 0 for all")
    show.add_argument("--model", help="whose attempt, where there are several models")
    show.add_argument("--attempt", type=int, default=0, help="which, where there are several; from 0")
    show.add_argument("--format", choices=("terminal", "html"), default="terminal")
    show.set_defaults(command=show_command)

    export = commands.add_parser("export", help="write records in a format of other tools")
    export.add_argument("directory", type=Path, metavar="DIR", help="a folder with records")
    export.add_argument("--format", required=True, metavar="FORMAT", help=", ".join(EXPORTS))
    export.add_argument("--out", type=Path, required=True, metavar="DIR2", help="where files go")
    export.set_defaults(command=export_command)
    _trust_argument(replay, show, export)


def _judge_arguments(commands: Any) -> None:
    calibrate = commands.add_parser("calibrate", help="measure how often a judge is wrong")
    calibrate.add_argument("judge", metavar="JUDGE", help="a judge of the registry, or a YAML file")
    calibrate.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="replies that people labelled: CSV, JSONL",
    )
    calibrate.add_argument("--format", choices=("table", "json"), default="table")
    calibrate.add_argument(
        "--out", type=Path, metavar="FILE", help="keep it here, for `calibration` of the judge"
    )
    calibrate.set_defaults(command=calibrate_command)


def _models_arguments(commands: Any) -> None:
    models = commands.add_parser("models", help="list the models of the registry, or look into them")
    models.set_defaults(command=models_command)
    what = models.add_subparsers(metavar="WHAT")
    inspect = what.add_parser("inspect", help="what a checkpoint says about itself, weights unread")
    inspect.add_argument("target", metavar="PATH_OR_ID", help="a folder, a hub id, or a name of the registry")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.set_defaults(command=inspect_command)
    add = what.add_parser("add", help="propose a spec for a model of your own, from its small files")
    add.add_argument("target", metavar="PATH_OR_ID", help="a folder, or a hub id")
    add.add_argument("--name", help="how tables call it (default: the last part of PATH_OR_ID)")
    add.add_argument("--out", type=Path, metavar="FILE", help="the spec (default: <name>.yaml)")
    add.set_defaults(command=add_command)
    what.add_parser(
        "check", help="list facts that are missing from the registry, and tool calls that parsers misread"
    ).set_defaults(command=check_command)
    what.add_parser("tree", help="show which models derive from which").set_defaults(command=tree_command)


def _config_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, metavar="CONFIG", help="a run config (YAML)")
    command.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="in place of the config's models: a name of the registry, a spec, a folder or a hub id",
    )
    command.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="such as sampling.max_tokens=64 limit=10",
    )


def _allow_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="FIELD",
        help="protocol field that may differ; recorded",
    )


def _programs_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run-programs", action="store_true", help="run what models wrote, in bubblewrap, to score it again"
    )


def _trust_argument(*commands: argparse.ArgumentParser) -> None:
    for command in commands:
        command.add_argument(
            "--trust-code",
            action="append",
            default=[],
            type=Path,
            metavar="DIR",
            help="run code below this folder that the results name; without it none is",
        )


def _full_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--full", action="store_true", help="all of it, not what fits on a screen")


def _console() -> "Console":
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=100, soft_wrap=True)


def _print(lines: Iterable[str]) -> None:
    console = _console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _load(args: argparse.Namespace) -> "RunConfig":
    from harness.config import load_config

    return load_config(args.config, [*_models_override(args.model), *args.overrides])


def _models_override(given: Sequence[str]) -> list[str]:
    """The override that `--model` stands for. Paths are of the working directory, not of the config's."""
    models = [str(Path(text).absolute()) if Path(text).exists() else text for text in given]
    return [f"models={json.dumps(models)}"] if models else []


STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a terminal that closes, and a scheduler before its time limit, send."""


@contextmanager
def _stopped_by(*numbers: signal.Signals) -> Iterator[None]:
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

    config = _load(args)
    directory = RunDirectory(args.out or Path("results") / f"{config.name}-{configs.digest(config)}")
    config = directory.dated(config)
    gpus = [gpu.uuid for gpu in machine_gpus()] if config.engine.kind == "vllm" else []
    launcher = open_launcher(args.on, args.workers, gpus)
    plan = plan_run(config, args.config, len(gpus))
    plan.check()
    console = _console()
    ended: Exception | KeyboardInterrupt | None = None
    with directory.lock(), _stopped_by(*STOPS), LiveProgress(console) as progress:
        directory.prepare(config)
        try:
            run(plan, directory, progress, launcher, retry_failures=args.retry_failures)
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

    _print(fetch(_load(args), args.config))


def plan_command(args: argparse.Namespace) -> Status:
    """`harness plan`."""
    from harness.models.fit import parse_gpus
    from harness.models.forecast import machine_gpus, written
    from harness.run.plan import forecast_plan
    from harness.run.runner import plan_run

    config = _load(args)
    found = [] if args.gpus else machine_gpus()
    gpus = args.gpus or written(found)
    plan = plan_run(config, args.config, parse_gpus(gpus)[0] if gpus else 0, download=False)
    _print(plan.lines())
    if gpus:
        price = plan.config.price_per_gpu_hour if args.price is None else args.price
        _print(forecast_plan(plan, gpus, price, args.measured).lines)
    if plan.problems:
        rest = "`harness run` measures the rest" if plan.cells else "nothing is left to measure"
        sys.stderr.write(f"harness: what is missing is named above; {rest}\n")
        return Status.WRONG_INPUT
    if args.strict and plan.cautions:
        return Status.WARNED
    return Status.DONE


def models_command(args: argparse.Namespace) -> None:
    """`harness models`."""
    from harness.models.inspection import list_lines

    _print(list_lines())


def inspect_command(args: argparse.Namespace) -> None:
    """`harness models inspect`."""
    import msgspec

    from harness.models.inspection import inspect

    found = inspect(args.target)
    _print([msgspec.json.format(msgspec.json.encode(found)).decode()] if args.json else found.lines())


def add_command(args: argparse.Namespace) -> None:
    """`harness models add`."""
    from harness.models.proposal import add

    _print(add(args.target, args.name, args.out))


def check_command(args: argparse.Namespace) -> None:
    """`harness models check`."""
    from harness.models.parsers import limit_lines
    from harness.models.registry import check_lines, specs

    models = list(specs())
    _print([*check_lines(models), "parsers of tool calls (vLLM 0.32):", *limit_lines(models)])


def tree_command(args: argparse.Namespace) -> None:
    """`harness models tree`."""
    from harness.models.registry import specs, tree_lines

    _print(tree_lines(specs()))


def pin_command(args: argparse.Namespace) -> None:
    """`harness pin`."""
    from harness.models.pin import pin

    _print(pin(args.target))


def suites_command(args: argparse.Namespace) -> None:
    """`harness suites`."""
    from harness import config as configs
    from harness.suites import adapters

    console = _console()
    for name in configs.names("suites"):
        spec = configs.Document(configs.registry() / "suites" / f"{name}.yaml").data
        options = ", ".join(f"{k}={v}" for k, v in spec.items() if k != "adapter")
        console.print(
            f"{name:<24} {spec['adapter']}: {options}", markup=False, highlight=False, soft_wrap=True
        )
    console.print(
        f"adapters: {', '.join(adapters())} (any lm-eval task, any AgentDojo suite), or package.module "
        "of your own",
        highlight=False,
        soft_wrap=True,
    )


def scorecard_command(args: argparse.Namespace) -> Status:
    """`harness scorecard`."""
    from harness.records.directory import RunDirectory
    from harness.reports.document import read_document
    from harness.reports.render import render

    console = _console()
    document = read_document(RunDirectory(args.directory), args.by, args.allow, claims=args.format == "json")
    text = render(document, args.format, width=console.width, color=console.is_terminal, full=args.full)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return _left_out(document.incomplete)


def _left_out(sentences: "Sequence[str]") -> Status:
    """Say what could not be read or computed, a line each."""
    for said in sentences:
        sys.stderr.write(f"harness: {said}\n")
    return Status.INCOMPLETE if sentences else Status.DONE


def compare_command(args: argparse.Namespace) -> Status:
    """`harness compare`."""
    from harness.analysis.runs import compare_runs, flips_of_runs
    from harness.reports.compare_text import render_comparison
    from harness.reports.flips_text import render_flips

    console = _console()
    shown: dict[str, Any] = {"width": console.width, "color": console.is_terminal, "full": args.full}
    if args.flips:
        flips = flips_of_runs(args.targets, args.allow)
        sys.stdout.write(render_flips(flips, args.format, **shown))
        return _left_out(flips.unread)
    comparison = compare_runs(args.targets, args.allow)
    sys.stdout.write(render_comparison(comparison, args.format, **shown))
    return _left_out(comparison.unread)


def replay_command(args: argparse.Namespace) -> Status:
    """`harness replay`.

    Raises:
        UserError: nothing could be judged.
    """
    from harness.records.directory import RunDirectory
    from harness.replay import replay
    from harness.replay.report import render_json, render_table
    from harness.reports.kept import write_scorecards

    report = replay(
        args.path,
        args.out,
        version=args.benchmark_version,
        developer=args.developer,
        country=args.country,
        suites=dict(_pair(text, "--suite") for text in args.suite),
        names=dict(_pair(text, "--name") if "=" in text else ("", text) for text in args.name),
        run_programs=args.run_programs,
    )
    sys.stdout.write(render_json(report) if args.format == "json" else render_table(report))
    if report.runs and not report.judged:
        raise UserError(f"nothing was judged: {report.differences[0].reason}")
    if args.out is not None:
        console, directory = _console(), RunDirectory(args.out)
        with directory.lock():
            write_scorecards(directory, width=console.width, color=False)
    unknown = report.runs - report.judged
    if len(report.differences) > unknown:
        return Status.DIFFERS
    return Status.INCOMPLETE if unknown or report.left_out else Status.DONE


def _pair(text: str, option: str) -> tuple[str, str]:
    """(NAME, VALUE) of an option's NAME=VALUE. Raises UserError."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UserError(f"{option} {text!r}: expected NAME=VALUE, such as {option} {text or 'NAME'}=VALUE")
    return name, value


def show_command(args: argparse.Namespace) -> None:
    """`harness show`."""
    from harness.records.directory import RunDirectory
    from harness.show import show
    from harness.show.failed import failed

    console, directory = _console(), RunDirectory(args.directory)
    if args.failed:
        _print(failed(directory, suite=args.suite, model=args.model, limit=args.limit))
        return
    text = show(
        directory,
        args.pair,
        model=args.model,
        attempt=args.attempt,
        form=args.format,
        width=console.width,
        color=console.is_terminal,
    )
    sys.stdout.write(text)


def export_command(args: argparse.Namespace) -> Status:
    """`harness export`."""
    from harness.exports import export
    from harness.exports.prompts import Incomplete
    from harness.records.directory import RunDirectory

    try:
        paths, lack = export(RunDirectory(args.directory), args.format, args.out), None
    except Incomplete as error:
        paths, lack = error.paths, error
    _print(f"written: {path}" for path in paths)
    if lack:
        sys.stderr.write(f"harness: {lack}\n")
    return Status.INCOMPLETE if lack else Status.DONE


def claims_command(args: argparse.Namespace) -> Status:
    """`harness claims`."""
    from harness.analysis.claims.evidence import Asked
    from harness.analysis.runs import claim
    from harness.records.directory import RunDirectory
    from harness.reports.claims_text import render_claims

    if args.price is not None and not 0 < args.price < float("inf"):
        raise UserError(f"--price {args.price:g}: expected the price of an hour of one GPU, above 0")
    asked = Asked(by=args.by, price=args.price, cost=args.cost, allow=tuple(args.allow))
    claims, console = claim(RunDirectory(args.directory), asked, args.adoption), _console()
    text = render_claims(claims, args.format, width=console.width, color=console.is_terminal, full=args.full)
    sys.stdout.write(text)
    return _left_out([*claims.unread, *claims.not_computed])


def calibrate_command(args: argparse.Namespace) -> None:
    """`harness calibrate`."""
    import asyncio

    import msgspec

    from harness.disk import replace
    from harness.judges import load_judge
    from harness.judges.base import judging
    from harness.judges.calibration import calibrate
    from harness.judges.labels import read_labels
    from harness.reports.calibration import calibration_sentences, calibration_table
    from harness.reports.terminal import sentence_lines, table_lines

    spec = load_judge(args.judge)
    labelled = read_labels(args.labels, spec)
    found = calibrate(spec, labelled, asyncio.run(judging(spec, [one.exchange for one in labelled])))
    encoded = msgspec.json.format(msgspec.json.encode(found))
    if args.out:
        replace(args.out, encoded)
    if args.format == "json":
        _print([encoded.decode()])
        return
    console = _console()
    _print(table_lines(calibration_table(found), console.width))
    _print(line for text in calibration_sentences(found) for line in sentence_lines(text, console.width))


def verify_command(args: argparse.Namespace) -> Status:
    """`harness verify`."""
    from harness.records.directory import RunDirectory
    from harness.replay.verify import verify

    findings = verify(
        RunDirectory(args.directory), args.key, quick=args.quick, run_programs=args.run_programs
    )
    _print(f"{'ok' if finding.good else '!!'}  {finding.text}" for finding in findings)
    bad = sum(not finding.good for finding in findings)
    if bad:
        sys.stderr.write(
            f"harness: {args.directory} does not hold what it says ({bad} findings above): restore a copy\n"
        )
    return Status.DIFFERS if bad else Status.DONE


def doctor_command(args: argparse.Namespace) -> None:
    """`harness doctor`."""
    from harness.run.doctor import examine

    console = _console()
    for finding in examine():
        mark, remedy = ("ok", "") if finding.good else ("!!", f"; {finding.remedy}")
        console.print(f"{mark}  {finding.text}{remedy}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
