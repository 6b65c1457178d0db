"""Judges: `calibrate`, `judge`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.cli.shared import examples, new_console, print_lines


def add(commands: Any) -> None:
    """Add the commands to the command line."""
    calibrate = commands.add_parser(
        "calibrate",
        help="measure how often a judge is wrong",
        **examples(
            "harness calibrate JUDGE --labels labels.csv",
            "harness calibrate judge.yaml --labels a.csv b.jsonl --out calibration.json",
        ),
    )
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
    calibrate.set_defaults(command=calibrate_command, loads_engines=True)

    judge = commands.add_parser(
        "judge",
        help="have a judge read the replies that wait for one",
        **examples(
            "harness judge results/DIR --judge refusal-keywords",
            "harness judge results/* --judge ./my-judge.yaml",
        ),
    )
    judge.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="folders that `run` wrote")
    judge.add_argument("--judge", required=True, metavar="JUDGE", help="of the registry, or a YAML file")
    judge.set_defaults(command=judge_command, loads_engines=True)


def calibrate_command(args: argparse.Namespace) -> None:
    """`harness calibrate`."""
    import asyncio

    import msgspec

    from harness.disk import make_folder, replace
    from harness.judges import load_judge
    from harness.judges.base import judging
    from harness.judges.calibration import calibrate
    from harness.judges.labels import read_labels
    from harness.reports.calibration import calibration_sentences, calibration_table
    from harness.reports.terminal import sentence_lines, table_lines

    if args.out:
        make_folder(args.out.parent)
    spec = load_judge(args.judge)
    labelled = read_labels(args.labels, spec)
    calibration = calibrate(spec, labelled, asyncio.run(judging(spec, [one.exchange for one in labelled])))
    encoded = msgspec.json.format(msgspec.json.encode(calibration))
    console = new_console()
    if args.format == "json":
        sys.stdout.write(encoded.decode() + "\n")
    else:
        lines = [
            line
            for text in calibration_sentences(calibration)
            for line in sentence_lines(text, console.width)
        ]
        print_lines([*table_lines(calibration_table(calibration), console.width), *lines])
    if args.out:  # last: what was judged is seen in any case
        replace(args.out, encoded)


def judge_command(args: argparse.Namespace) -> None:
    """`harness judge`."""
    import asyncio
    from contextlib import ExitStack

    from harness.judges import load_judge
    from harness.judges.second_pass import judge_runs
    from harness.records.directory import RunDirectory
    from harness.reports.kept import write_scorecards

    spec = load_judge(args.judge)
    directories = [RunDirectory(path) for path in args.directories]
    console = new_console()
    with ExitStack() as stack:
        for directory in directories:
            stack.enter_context(directory.lock())
        done = asyncio.run(judge_runs(directories, spec, lambda text: print_lines([text])))
        for directory in directories:
            write_scorecards(directory, width=console.width, color=False)
    print_lines(
        [
            f"{spec.name}: {done.read} replies read in {done.cells} cells, {done.missing} of them without a "
            f"verdict: `harness scorecard {args.directories[0]}`"
        ]
    )
