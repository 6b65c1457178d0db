"""Records of runs: `merge`, `replay`, `show`, `export`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.cli.shared import (
    EXPORTS,
    examples,
    new_console,
    pair,
    pairs,
    print_lines,
    programs_argument,
    say,
    suite_argument,
    trust_argument,
)
from harness.errors import Status, UserError


def add(commands: Any) -> None:
    """Add the commands to the command line."""
    _add_merge(commands)
    _add_replay(commands)
    _add_show(commands)
    _add_export(commands)
    _add_prune(commands)
    _add_difficulty(commands)


def _add_merge(commands: Any) -> None:
    merge = commands.add_parser(
        "merge",
        help="put runs together, or parts of one",
        **examples(
            "harness merge results/monday results/tuesday --out results/both",
            "harness merge results/old --out results/new",
        ),
    )
    merge.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="folders that `run` wrote")
    merge.add_argument("--out", type=Path, required=True, help="where the run goes that has the cells of all")
    merge.set_defaults(command=merge_command)


def _add_replay(commands: Any) -> None:
    replay = commands.add_parser(
        "replay",
        help="score transcripts again, without a model",
        **examples(
            "harness replay results/demo", "harness replay runs/ --out imported --developer Acme --country US"
        ),
    )
    replay.add_argument("path", type=Path, metavar="DIR", help="a folder that `run` or AgentDojo wrote")
    replay.add_argument("--format", choices=("table", "json"), default="table")
    replay.add_argument("--out", type=Path, metavar="DIR2", help="keep AgentDojo's runs as records here")
    replay.add_argument("--benchmark-version", metavar="V", help="where AgentDojo's files do not say it")
    replay.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="[PIPELINE=]NAME",
        help="how the model of AgentDojo's runs is called",
    )
    replay.add_argument("--developer", help="who made the models of AgentDojo's runs")
    replay.add_argument("--country", help="where: ISO 3166-1 alpha-2")
    programs_argument(replay)
    replay.set_defaults(command=replay_command)
    suite_argument(replay)
    trust_argument(replay)


def _add_show(commands: Any) -> None:
    show = commands.add_parser(
        "show",
        help="print one attempt, or list those that failed",
        **examples(
            "harness show results/demo --failed --limit 10",
            "harness show results/demo --pair banking/user_task_0 --model aster-moe",
        ),
    )
    show.add_argument("directory", type=Path, metavar="DIR", help="a folder with records")
    what = show.add_mutually_exclusive_group(required=True)
    what.add_argument("--pair", metavar="SUITE/SAMPLE", help="one attempt, such as banking/user_task_0")
    what.add_argument(
        "--failed", action="store_true", help="list attempts that failed, were wrong or were hijacked"
    )
    show.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="NAME[=PATH:OBJECT]",
        help="with --failed: only of this suite; else where a suite is that AgentDojo does not have",
    )
    show.add_argument("--limit", type=int, default=50, help="with --failed: at most so many; 0 for all")
    show.add_argument("--model", help="whose attempt, where there are several models")
    show.add_argument("--attempt", type=int, default=0, help="which, where there are several; from 0")
    show.add_argument("--format", choices=("terminal", "html"), default="terminal")
    show.set_defaults(command=show_command)
    trust_argument(show)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write records in a format of other tools",
        **examples(
            "harness export results/demo --format csv --out tables",
            "harness export results/demo --format inspect --out logs",
        ),
    )
    export.add_argument("directory", type=Path, metavar="DIR", help="a folder with records")
    export.add_argument("--format", required=True, metavar="FORMAT", help=", ".join(EXPORTS))
    export.add_argument("--out", type=Path, required=True, metavar="DIR2", help="where files go")
    export.add_argument(
        "--all-texts",
        action="store_true",
        help="also what is not for everybody (requests for harm, closed questions): they are hashes else",
    )
    export.set_defaults(command=export_command)
    suite_argument(export)
    trust_argument(export)


def _add_prune(commands: Any) -> None:
    prune = commands.add_parser(
        "prune",
        help="list what can go without loss of a record: logs, leftovers, cells no longer asked for",
        **examples("harness prune results", "harness prune results/demo --yes"),
    )
    prune.add_argument(
        "directory", type=Path, metavar="DIR", help="a folder that `run` writes, or a folder of such folders"
    )
    prune.add_argument("--yes", action="store_true", help="remove it; records of a run are never removed")
    prune.set_defaults(command=prune_command)


def _add_difficulty(commands: Any) -> None:
    difficulty = commands.add_parser(
        "difficulty",
        help="fit how hard each sample of a task is, for `sample: informative`",
        **examples(
            "harness difficulty results",
            "harness difficulty results --out difficulty.json",
        ),
    )
    difficulty.add_argument("root", type=Path, metavar="ROOT", help="a folder of run directories")
    difficulty.add_argument(
        "--out", type=Path, metavar="FILE", help="where it goes; without, only what there is"
    )
    difficulty.set_defaults(command=difficulty_command)


def difficulty_command(args: argparse.Namespace) -> None:
    """`harness difficulty`."""
    from harness.suites import difficulty

    answers = difficulty.answers_under(args.root)
    difficulty.check_enough(answers, args.root)
    fitted = difficulty.fit(answers)
    print_lines(
        f"{one.task}: {len(one.difficulty)} samples, by the answers of {len(one.models)} models"
        for one in fitted
    )
    few = len(answers) - len(fitted)
    if few:
        print_lines([f"{few} more with fewer than {difficulty.LEAST_MODELS} models"])
    if args.out:
        difficulty.write(fitted, args.out)
        print_lines([f"written to {args.out}: give it to suites as `sample: informative` and `difficulty`"])


def merge_command(args: argparse.Namespace) -> None:
    """`harness merge`."""
    from harness.records.directory import RunDirectory
    from harness.records.merge import merge
    from harness.reports.kept import write_scorecards

    console, out = new_console(), RunDirectory(args.out)
    print_lines(merge([RunDirectory(path) for path in args.directories], out))
    sys.stdout.write(write_scorecards(out, width=console.width, color=False))


def replay_command(args: argparse.Namespace) -> Status:
    """`harness replay`.

    Raises:
        UserError: nothing could be judged.
    """
    import msgspec

    from harness.records.directory import RunDirectory
    from harness.replay import replay
    from harness.replay.inspect_logs import are_logs, replay_logs
    from harness.replay.judgements import are_judged, replay_judged
    from harness.replay.report import render_json, render_table
    from harness.replay.transcripts import UNKNOWN_ORIGIN
    from harness.reports.kept import write_scorecards

    called = dict(pair(text, "--name") if "=" in text else ("", text) for text in args.name)
    readers = {are_logs: replay_logs, are_judged: replay_judged}
    foreign = not RunDirectory(args.path).is_run
    take_in = next((read for are, read in readers.items() if foreign and are(args.path)), None)
    if take_in is not None:
        known = {key: getattr(args, key) for key in ("developer", "country") if getattr(args, key)}
        origin = msgspec.structs.replace(UNKNOWN_ORIGIN, **known)
        print_lines(take_in(args.path, args.out and RunDirectory(args.out), origin, called))
        if args.out is not None:
            write_scorecards(RunDirectory(args.out), width=new_console().width, color=False)
        return Status.DONE
    report = replay(
        args.path,
        args.out,
        version=args.benchmark_version,
        developer=args.developer,
        country=args.country,
        suites=pairs(args.suite, "--suite"),
        names=called,
        run_programs=args.run_programs,
    )
    sys.stdout.write(render_json(report) if args.format == "json" else render_table(report))
    if report.runs and not report.judged:
        raise UserError(f"nothing was judged: {report.differences[0].reason}")
    if args.out is not None:
        console, directory = new_console(), RunDirectory(args.out)
        with directory.lock():
            write_scorecards(directory, width=console.width, color=False)
    unknown = report.runs - report.judged
    if len(report.differences) > unknown:
        return Status.DIFFERS
    return Status.INCOMPLETE if unknown or report.left_out else Status.DONE


def show_command(args: argparse.Namespace) -> None:
    """`harness show`."""
    from harness.records.directory import RunDirectory
    from harness.show import show
    from harness.show.failed import failed

    console, directory = new_console(), RunDirectory(args.directory)
    if args.failed:
        if len(args.suite) > 1:
            raise UserError("--suite with --failed: expected one name")
        suite = next(iter(args.suite), None)
        print_lines(failed(directory, suite=suite, model=args.model, limit=args.limit))
        return
    text = show(
        directory,
        args.pair,
        suites=pairs(args.suite, "--suite"),
        model=args.model,
        attempt=args.attempt,
        form=args.format,
        width=console.width,
        color=console.is_terminal,
    )
    sys.stdout.write(text)


def prune_command(args: argparse.Namespace) -> None:
    """`harness prune`."""
    from harness.disk import cache_folder, remove
    from harness.records.prune import leftovers
    from harness.reports.text import format_bytes

    unneeded, skipped = leftovers(args.directory, cache_folder())
    for text in skipped:
        say(text)
    print_lines(f"{left.path}  {format_bytes(left.size)}  {left.what}" for left in unneeded)
    total = format_bytes(sum(left.size for left in unneeded))
    if not unneeded:
        print_lines(["nothing may go: there are records alone, and what is made of them"])
    elif args.yes:
        for left in unneeded:
            remove(left.path)
        print_lines([f"removed: {total}"])
    else:
        print_lines([f"{total} may go: --yes removes it"])


def export_command(args: argparse.Namespace) -> Status:
    """`harness export`."""
    from harness.exports import WITH_TEXTS, export, hashed_suites
    from harness.exports.prompts import Incomplete
    from harness.records.directory import RunDirectory

    try:
        suites, directory = pairs(args.suite, "--suite"), RunDirectory(args.directory)
        paths = export(directory, args.format, args.out, suites, all_texts=args.all_texts)
        lack = None
    except Incomplete as error:
        paths, lack = error.paths, error
    print_lines(f"written: {path}" for path in paths)
    if args.format in WITH_TEXTS and not args.all_texts and (closed := hashed_suites(directory)):
        print_lines([f"hashes stand for the texts of {', '.join(closed)}: --all-texts writes them"])
    if lack:
        say(str(lack))
    return Status.INCOMPLETE if lack else Status.DONE
