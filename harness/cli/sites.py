"""Many runs as a site: `site`, and a run made ready for one: `submit`."""

import argparse
from pathlib import Path
from typing import Any

from harness.cli.shared import examples, print_lines, programs_argument, say, trust_argument
from harness.errors import Status, UserError


def add(commands: Any) -> None:
    """Add the commands to the command line."""
    site = commands.add_parser(
        "site",
        help="build a leaderboard out of many runs",
        **examples(
            "harness site results --out site",
            "harness site results --out site --config site.yaml --allowed-signers signers",
        ),
    )
    site.add_argument("root", type=Path, metavar="ROOT", help="a folder of run directories")
    site.add_argument("--out", type=Path, required=True, metavar="SITE", help="where the site goes")
    site.add_argument("--config", type=Path, metavar="FILE", help="site.yaml: title, policies, corrections")
    site.add_argument(
        "--allowed-signers",
        type=Path,
        metavar="FILE",
        help="who may have signed: minisign public key, or file of allowed ssh signers",
    )
    site.add_argument(
        "--attempts",
        default="all",
        metavar="all|failures|N",
        help="transcripts that are published of each cell",
    )
    site.add_argument("--quick", action="store_true", help="do not score again, and show no prompts")
    site.add_argument(
        "--cache", type=Path, metavar="DIR", help="what is kept for the next time (default: in ~/.cache)"
    )
    site.add_argument(
        "--limit-seconds", type=float, default=1800.0, metavar="S", help="that one run may take to read"
    )
    site.set_defaults(command=site_command)

    submit = commands.add_parser(
        "submit",
        help="make a run ready to be given to others",
        **examples(
            "harness submit results/study --out submission",
            "harness submit results/study --out submission --key ~/.ssh/id_ed25519",
        ),
    )
    submit.add_argument("directory", type=Path, metavar="DIR", help="a folder that `run` wrote")
    submit.add_argument("--out", type=Path, required=True, metavar="DIR2", help="where the submission goes")
    submit.add_argument("--key", type=Path, metavar="FILE", help="private ssh key to sign with")
    programs_argument(submit)
    submit.set_defaults(command=submit_command)
    trust_argument(site, submit)


def site_command(args: argparse.Namespace) -> Status:
    """`harness site`."""
    from harness.site.build import build_site
    from harness.site.reading import Reading

    if args.allowed_signers is not None and not args.allowed_signers.is_file():
        raise UserError(f"--allowed-signers {args.allowed_signers}: expected a file")
    reading = Reading(
        signers=args.allowed_signers,
        quick=args.quick,
        attempts=_choice(args.attempts),
        seconds=args.limit_seconds,
        trusted=tuple(args.trust_code),
    )
    built = build_site(
        args.root,
        args.out,
        settings=args.config,
        store=args.cache,
        reading=reading,
        tell=lambda line: print_lines([line]),
    )
    print_lines(
        [
            f"{built.models} models, {built.columns} columns, {built.attempts:,} attempts "
            f"({built.shown:,} to be read) of {built.runs} runs, {built.pages} pages",
            f"{args.out / 'index.html'} in {built.seconds:.1f} s",
        ]
    )
    for said in built.refused:
        say(f"not taken: {said}")
    return Status.INCOMPLETE if built.refused else Status.DONE


def submit_command(args: argparse.Namespace) -> Status:
    """`harness submit`."""
    from harness.records.directory import RunDirectory
    from harness.site.submit import submit

    made = submit(RunDirectory(args.directory), args.out, args.key, run_programs=args.run_programs)
    print_lines([made.summary, f"{args.out}: {'signed' if made.signed else 'not signed'}"])
    return Status.DONE


def _choice(text: str) -> int | None:
    """How many attempts of a cell are published; see `harness.site.attempts.Choice`."""
    if text in ("all", "failures"):
        return None if text == "all" else -1
    if not text.isdecimal():
        raise UserError(f"--attempts {text}: expected all, failures, or how many of each cell")
    return int(text)
