"""The command line. Each command is one function; what it does is one call into the room that does it."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from harness import __version__
from harness.cli import judges, models, records, results, running, sites
from harness.cli.guard import go_on_in_a_child
from harness.cli.running import STOPS, stopped_by
from harness.cli.shared import Parser, examples, say
from harness.errors import Status, UserError

if TYPE_CHECKING:
    from harness.trust import Trust


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, see `Status`.

    Args:
        arguments: by default those of this process; what it reads is then read in a child of it, see
            `harness.cli.guard`.
    """
    from harness.memory import rare_collections, within_memory
    from harness.trust import trusting

    own, said = arguments is None, ""
    if own:
        _set_up_outputs()
    try:
        args = parse(arguments)
        engines = "loads_engines" in args
        if own and not engines:
            go_on_in_a_child()
        # Anybody may have made what is read; an engine knows best what it needs.
        bound = stopped_by(*STOPS) if engines else within_memory()
        with trusting(_trust(args)), bound, rare_collections():
            status: Status = args.command(args) or Status.DONE
        sys.stdout.flush()
    except (UserError, MemoryError, OSError, KeyboardInterrupt) as error:
        status, said = _ended_by(error)
    finally:
        if said:
            with suppress(OSError):  # nobody listens there either
                say(said)
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)
    return status


def _set_up_outputs() -> None:
    """Let both outputs be there, and take what they are given whole or say that they do not."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it is closed; a file opened later would take its place
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(raw := getattr(stream, "buffer", None), io.RawIOBase):
            # PYTHONUNBUFFERED: where a disk or a pipe takes a part, Python drops the rest without a word.
            whole = io.BufferedWriter(raw)
            setattr(sys, name, io.TextIOWrapper(whole, stream.encoding, stream.errors, line_buffering=True))


def _ended_by(error: BaseException) -> tuple[Status, str]:
    """The status that a command ends with, and what is said of it."""
    match error:
        case UserError():
            return Status.WRONG_INPUT, str(error)
        case MemoryError():
            said = "this takes more memory than is free here: free some and try again, and do not trust files"
            return Status.WRONG_INPUT, f"{said} of somebody else's that are small"
        case BrokenPipeError():  # the reader of our output, such as `head`, has gone
            return Status.UNREAD, ""
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            said = f"{where}{error.strerror or error}; free or mend the disk, and try again"
            return Status.WRONG_INPUT, said
    return Status.INTERRUPTED, "stopped; what is finished is kept, the same command resumes"


def _let_go(stream: TextIO) -> None:
    """Give up an output that takes nothing: at its end Python would try once more, and complain."""
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


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
