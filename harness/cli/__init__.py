"""The command line. Each command is one function; what it does is one call into the room that does it."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import __version__
from harness.cli import judges, models, records, results, running, sites
from harness.cli.running import STOPS, stopped_by
from harness.cli.shared import Parser, examples
from harness.errors import Status, UserError

if TYPE_CHECKING:
    from harness.trust import Trust


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, see `Status`."""
    from harness.memory import rare_collections, within_memory
    from harness.trust import trusting

    for name in ("stdout", "stderr"):  # None where it is closed; a file opened later would take its place
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    args = parse(arguments)
    # Anybody may have made what is read; an engine knows best what it needs.
    bound = stopped_by(*STOPS) if "loads_engines" in args else within_memory()
    try:
        with trusting(_trust(args)), bound, rare_collections():
            status: Status | None = args.command(args)
    except UserError as error:
        sys.stderr.write(f"harness: {error}\n")
        return Status.WRONG_INPUT
    except MemoryError:
        sys.stderr.write(
            "harness: this takes more memory than is free here: free some and try again, and do not trust "
            "files of somebody else's that are small\n"
        )
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
    """What is run is its owner's. What other commands read is data, whoever made it."""
    from harness.trust import OWN, Trust

    if "config" in args or "owned" in args:
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
    if "overrides" in args and args.config and "=" in str(args.config) and not args.config.exists():
        args.overrides, args.config = [str(args.config), *args.overrides], None  # there is no CONFIG
    return args


def parser() -> Parser:
    """The commands and their arguments."""
    top = Parser(
        prog="harness",
        description="Measure open-weight models: capability, and resistance to agent hijacking.",
    )
    top.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for module in (running, results, records, sites, models, judges):
        module.add(commands)
    completion = commands.add_parser(
        "completion",
        help="print what lets a shell complete commands, options and files",
        description="Print a script for a shell that completes the commands, options and files of harness.",
        **examples(
            "harness completion bash",
            "harness completion zsh | tee ~/.zfunc/_harness",
        ),
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(command=completion_command)
    return top


def completion_command(args: argparse.Namespace) -> None:
    """`harness completion`."""
    import shtab

    sys.stdout.write(shtab.complete(parser(), args.shell))
