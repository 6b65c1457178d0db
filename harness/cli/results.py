"""Numbers of a run: `scorecard`, `compare`, `claims`, `verify`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli.shared import (
    COSTS,
    FORMATS,
    GROUPINGS,
    allow_argument,
    cache_argument,
    examples,
    full_argument,
    new_console,
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
    _add_scorecard(commands)
    _add_compare(commands)
    _add_claims(commands)
    _add_verify(commands)


def _add_scorecard(commands: Any) -> None:
    scorecard = commands.add_parser(
        "scorecard",
        help="print the scorecards of a run",
        **examples(
            "harness scorecard results/demo",
            "harness scorecard results/demo --by developer --format md --full",
        ),
    )
    scorecard.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` wrote")
    scorecard.add_argument("--format", choices=FORMATS, default="table")
    scorecard.add_argument("--by", choices=GROUPINGS, default="country", help="what an origin is")
    scorecard.add_argument(
        "--no-timings",
        action="store_true",
        help="leave out dates, seconds, energy and cached tokens, so that equal results are equal bytes",
    )
    allow_argument(scorecard)
    full_argument(scorecard)
    cache_argument(scorecard)
    scorecard.set_defaults(command=scorecard_command)
    trust_argument(scorecard)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare two models, paired by sample",
        usage="harness compare DIR A B | DIR/A DIR/B",
        **examples(
            "harness compare results/demo aster-moe borea-moe",
            "harness compare january/aster-moe july/aster-moe --flips",
        ),
    )
    compare.add_argument("targets", nargs="+", help="a run and two of its models, or two of DIR/MODEL")
    compare.add_argument("--format", choices=FORMATS[:3], default="table")
    compare.add_argument("--flips", action="store_true", help="list the samples on which they differ")
    allow_argument(compare)
    full_argument(compare)
    compare.set_defaults(command=compare_command)
    trust_argument(compare)


def _add_claims(commands: Any) -> None:
    claims = commands.add_parser(
        "claims",
        help="gaps, abilities, size and cost, each with its instrument",
        **examples("harness claims results/demo", "harness claims results/demo --price 2.5 --cost curve"),
    )
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
    allow_argument(claims)
    full_argument(claims)
    claims.set_defaults(command=claims_command)
    trust_argument(claims)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        help="check that a run's files are what its records give",
        **examples("harness verify results/demo", "harness verify results/demo --quick --key minisign.pub"),
    )
    verify.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` wrote")
    verify.add_argument(
        "--key", type=Path, metavar="FILE", help="minisign public key, or file of allowed ssh signers"
    )
    verify.add_argument(
        "--quick", action="store_true", help="do not score again: only checksums, scorecards, signature"
    )
    suite_argument(verify)
    programs_argument(verify)
    verify.set_defaults(command=verify_command)
    trust_argument(verify)


def scorecard_command(args: argparse.Namespace) -> Status:
    """`harness scorecard`."""
    from harness.records.directory import RunDirectory
    from harness.reports.kept import scorecard

    console = new_console()
    shown = scorecard(
        RunDirectory(args.directory),
        args.format,
        by=args.by,
        allow=args.allow,
        width=console.width,
        color=console.is_terminal,
        full=args.full,
        recalling=not (args.no_cache or args.trust_code),  # nobody knows whether trusted code changed
        timings=not args.no_timings,
    )
    sys.stdout.write(shown.text.rstrip("\n") + "\n")
    return _left_out(shown.incomplete)


def _left_out(sentences: Sequence[str]) -> Status:
    """Say what could not be read or computed, a line each."""
    for said in sentences:
        say(said)
    return Status.INCOMPLETE if sentences else Status.DONE


def compare_command(args: argparse.Namespace) -> Status:
    """`harness compare`."""
    from harness.analysis.runs import compare_runs, flips_of_runs
    from harness.reports.compare_text import render_comparison
    from harness.reports.flips_text import render_flips

    console = new_console()
    shown: dict[str, Any] = {"width": console.width, "color": console.is_terminal, "full": args.full}
    if args.flips:
        flips = flips_of_runs(args.targets, args.allow)
        sys.stdout.write(render_flips(flips, args.format, **shown))
        return _left_out(flips.unread)
    comparison = compare_runs(args.targets, args.allow)
    sys.stdout.write(render_comparison(comparison, args.format, **shown))
    return _left_out(comparison.unread)


def claims_command(args: argparse.Namespace) -> Status:
    """`harness claims`."""
    from harness.analysis.claims.evidence import Asked
    from harness.analysis.runs import claim
    from harness.records.directory import RunDirectory
    from harness.reports.claims_text import render_claims

    if args.price is not None and not 0 < args.price < float("inf"):
        raise UserError(f"--price {args.price:g}: expected the price of an hour of one GPU, above 0")
    asked = Asked(by=args.by, price=args.price, cost=args.cost, allow=tuple(args.allow))
    claims, console = claim(RunDirectory(args.directory), asked, args.adoption), new_console()
    text = render_claims(claims, args.format, width=console.width, color=console.is_terminal, full=args.full)
    sys.stdout.write(text)
    return _left_out([*claims.unread, *claims.not_computed])


def verify_command(args: argparse.Namespace) -> Status:
    """`harness verify`."""
    from harness.records.directory import RunDirectory
    from harness.replay.verify import verify

    findings = verify(
        RunDirectory(args.directory),
        args.key,
        pairs(args.suite, "--suite"),
        quick=args.quick,
        run_programs=args.run_programs,
    )
    marks = {True: "ok", False: "!!", None: "--"}
    print_lines(f"{marks[finding.good]}  {finding.text}" for finding in findings)
    bad = sum(finding.good is False for finding in findings)
    if bad:
        say(f"{args.directory} does not hold what it says ({bad} findings above): restore a copy")
    return Status.DIFFERS if bad else Status.DONE
