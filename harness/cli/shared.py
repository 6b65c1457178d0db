"""What commands share: arguments, the console, and how each is described."""

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.hostile import strip_control

if TYPE_CHECKING:
    from rich.console import Console

    from harness.config import RunConfig


FORMATS = ("table", "md", "json", "html")
EXPORTS = (
    "csv",
    "eval-results",
    "every-eval-ever",
    "inspect",
    "lm-eval",
    "mlflow",
    "parquet",
    "readme",
    "wandb",
)
COSTS = ("curve", "both-solved")
GROUPINGS = ("country", "developer", "base", "licence", "type", "size")


class Parser(argparse.ArgumentParser):
    """Says what may have been meant where a command or an option is not known."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        close = difflib.get_close_matches(str(value), list(map(str, action.choices or ())), n=1)
        if action.choices is not None and value not in action.choices and close:
            known = ", ".join(map(str, action.choices))
            message = f"invalid choice: {value!r} (did you mean {close[0]!r}? choose from {known})"
            raise argparse.ArgumentError(action, message)
        super()._check_value(action, value)

    def _print_message(self, message: str, file: Any = None) -> None:
        file = file or sys.stderr
        file.write(message)  # argparse swallows it where that fails
        file.flush()

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse has it, but for options that are nearly one of its own."""
        parsed, rest = super().parse_known_args(args, namespace)
        for text in rest:
            known = [name for name in self._option_string_actions if name.startswith("--")]
            close = difflib.get_close_matches(text.partition("=")[0], known, n=1)
            if text.startswith("--") and close:
                self.error(f"unrecognized arguments: {text} (did you mean {close[0]}?)")
        return parsed, rest


def examples(*commands: str) -> dict[str, Any]:
    """Arguments of `add_parser` that show how a command is called."""
    text = "\n".join(f"  {command}" for command in commands)
    return {"epilog": f"examples:\n{text}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def config_arguments(command: argparse.ArgumentParser) -> None:
    """A run config, and what is set otherwise than in it."""
    command.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG",
        help="a run config (YAML); none is needed where --model and --suite say what is measured",
    )
    command.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="in place of the config's models: a name of the registry, a spec, a folder or a hub id",
    )
    command.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="SUITE",
        help="in place of the config's suites: a name of the registry, or a YAML file",
    )
    command.add_argument("--attempts", metavar="N", help="repetitions of each sample, each with its own seed")
    command.add_argument("--limit", metavar="N", help="only the first samples of suites that set no limit")
    command.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="such as sampling.max_tokens=64 limit=10",
    )


def allow_argument(command: argparse.ArgumentParser) -> None:
    """What may differ between results that are compared."""
    command.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="FIELD",
        help="protocol field that may differ; the output says so",
    )


def programs_argument(command: argparse.ArgumentParser) -> None:
    """Whether programs that models wrote may be run."""
    command.add_argument(
        "--run-programs", action="store_true", help="run what models wrote, in bubblewrap, to score it again"
    )


def trust_argument(*commands: argparse.ArgumentParser) -> None:
    """Whose code may be run that results name."""
    for command in commands:
        command.add_argument(
            "--trust-code",
            action="append",
            default=[],
            type=Path,
            metavar="DIR",
            help="trust code in this folder that the results name; no other code is run",
        )


def suite_argument(*commands: argparse.ArgumentParser) -> None:
    """Where suites of imported transcripts are, which only the reader can say; see `pairs`."""
    for command in commands:
        command.add_argument(
            "--suite",
            action="append",
            default=[],
            metavar="NAME=WHERE",
            help="where a suite is that AgentDojo does not have: desk=./file.py:task_suite, or for one of "
            "AgentDyn's its checkout: shopping=./AgentDyn",
        )


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """What an option that may be repeated says as NAME=VALUE. Raises UserError."""
    return dict(pair(text, option) for text in texts)


def pair(text: str, option: str) -> tuple[str, str]:
    """(NAME, VALUE) of an option's NAME=VALUE. Raises UserError."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UserError(f"{option} {text!r}: expected NAME=VALUE, such as {option} {text or 'NAME'}=VALUE")
    return name, value


def cache_argument(command: argparse.ArgumentParser) -> None:
    """Whether what an earlier call made may be shown."""
    command.add_argument(
        "--no-cache", action="store_true", help="compute all of it, though nothing changed since it was shown"
    )


def full_argument(command: argparse.ArgumentParser) -> None:
    """All of a table."""
    command.add_argument("--full", action="store_true", help="everything, not only what fits on a screen")


def new_console() -> "Console":
    """A terminal as wide as it is, or a file of 100 columns."""
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # where rich ends this process with a status that means another thing here

    return Ours() if sys.stdout.isatty() else Ours(width=100, soft_wrap=True)


def say(sentence: str) -> None:
    """Tell a person, on stderr, what was wrong; names in it may be anybody's."""
    sys.stderr.write(f"harness: {strip_control(sentence)}\n")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are, but for what would steer a terminal."""
    console = new_console()
    for line in lines:
        console.print(strip_control(line), markup=False, highlight=False, soft_wrap=True)


def load(args: argparse.Namespace) -> "RunConfig":
    """The config of a command. Raises UserError."""
    from harness.config import bare_name, load_config

    overrides = [
        *_named("models", args.model, Path.exists),
        *_named("suites", args.suite, Path.is_file),
    ]
    overrides += [f"{key}={value}" for key in ("attempts", "limit") if (value := getattr(args, key))]
    if args.config is None:
        if not (args.model and args.suite):
            raise UserError("nothing says what to measure: give CONFIG, or --model MODEL and --suite SUITE")
        first, *others = args.model
        name = bare_name(first) + (f"-and-{len(others)}-more" if others else "")
        overrides = [f"name={json.dumps(name)}", "sampling={}", *overrides]
    return load_config(args.config, [*overrides, *args.overrides])


def _named(key: str, given: Sequence[str], is_path: Callable[[Path], bool]) -> list[str]:
    """The override that `--model` or `--suite` stands for. Paths are of the working directory."""
    paths = [str(Path(text).absolute()) if is_path(Path(text)) else text for text in given]
    return [f"{key}={json.dumps(paths)}"] if paths else []
