"""Judges: `calibrate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.shared import (
    examples,
    new_console,
    print_lines,
)

if TYPE_CHECKING:
    pass


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
    calibrate.set_defaults(command=calibrate_command)


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
        print_lines([encoded.decode()])
        return
    console = new_console()
    print_lines(table_lines(calibration_table(found), console.width))
    print_lines(line for text in calibration_sentences(found) for line in sentence_lines(text, console.width))
