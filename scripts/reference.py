"""Write the reference pages of the documentation from the code that they describe.

mkdocs calls `on_files` at each build (mkdocs.yml names this file as a hook), so that no page can be stale.

    python scripts/reference.py commands
"""

import argparse
import ast
import functools
import inspect
import re
import runpy
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages to the build."""
    from mkdocs.structure.files import File

    for name, write in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    return files


def commands() -> str:
    """Every command with its arguments, from the parser, and the exit statuses."""
    from harness.cli import parser
    from harness.errors import Status

    lines = [
        "# Commands",
        "",
        "Bad input is one sentence: which file, line or key, what was expected, what to do.",
        "",
        "## Exit statuses",
        "",
        "| status | meaning |",
        "|---|---|",
    ]
    documented = _documents(Status)
    lines += [f"| {status.value} | {documented.get(status.name) or 'Done.'} |" for status in Status]
    for name, command, summary in _subcommands(parser()):
        lines += _command(f"## harness {name}", command, summary)
        for part, inner, said in _subcommands(command):
            lines += _command(f"### harness {name} {part}", inner, said)
    return "\n".join(lines) + "\n"


def _subcommands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """(name, parser, summary) of each command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from ((name, command, summaries[name]) for name, command in action.choices.items())


def _command(heading: str, command: argparse.ArgumentParser, summary: str) -> list[str]:
    return ["", heading, "", f"{summary[0].upper()}{summary[1:]}.", "", *_usage(command)]


def _usage(command: argparse.ArgumentParser) -> Iterator[str]:
    """How a command is called, and what its arguments mean."""
    command.formatter_class = functools.partial(argparse.HelpFormatter, width=96)
    yield from ("```text", command.format_usage().removeprefix("usage: ").rstrip(), "```", "")
    shown = [
        a for a in command._actions if a.dest != "help" and not isinstance(a, argparse._SubParsersAction)
    ]
    if shown:
        yield from ("| argument | meaning |", "|---|---|")
        yield from (f"| {_argument(action)} | {_cell(_meaning(action))} |" for action in shown)
        yield ""
    if command.epilog:
        yield from ("```text", textwrap.dedent(command.epilog).strip(), "```", "")


def _argument(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    name = "/".join(action.option_strings) or str(value)
    return f"`{name} {value}`" if action.option_strings and action.nargs != 0 else f"`{name}`"


def _meaning(action: argparse.Action) -> str:
    choices = f"one of {', '.join(map(str, action.choices))}" if action.choices else ""
    default = f"default: {action.default}" if action.choices and action.default else ""
    return "; ".join(part for part in (action.help, choices, default) if part)


def configuration() -> str:
    """Every key of a run config, of a model, and of the options of each adapter, from their schemas."""
    from harness import config
    from harness.config.clusters import ClusterSpec, Container
    from harness.engines.endpoint import Arguments
    from harness.suites import ADAPTERS
    from harness.types import Origin, Sampling

    lines = [CONFIGURATION]
    sections: list[tuple[str, type]] = [
        ("A run", config.RunConfig),
        ("A model", config.ModelSpec),
        ("Origin", Origin),
        ("Openness", config.Openness),
        ("Sampling", Sampling),
        ("Engine", config.EngineSpec),
        ("Engine arguments of an endpoint", Arguments),
        ("A cluster", ClusterSpec),
        ("Container", Container),
        *(
            (f"Suite options: adapter {name}", import_module(module).Options)
            for name, module in ADAPTERS.items()
        ),
    ]
    links = {kind: _anchor(title) for title, kind in sections}
    for title, kind in sections:
        lines += ["", f"## {title}", "", _first(kind), "", *_table(kind, links)]
        if kind is config.RunConfig:
            lines += ["", SUITES]
        if kind is config.EngineSpec:
            lines += ["", VLLM]
    return "\n".join(lines) + "\n"


CONFIGURATION = """# Configuration

A config is YAML. A key that does not exist is refused, with its file, its line and the nearest key that does.
Any key can be set on the command line: `harness run hijack limit=10 sampling.temperature=0.6`.

Paths: `./x` and `../x` are relative to the file that says so, `${VARIABLE}` is replaced by an environment
variable, `harness:x` lies inside the installed package, `configs:x` among the configs that ship with it."""

SUITES = """An entry of `models` is the name of a file in `configs/models`, the path of a YAML file, or a
mapping with the keys of [a model](#a-model). An entry of `suites` is the name of a file in `configs/suites`,
or a mapping: `adapter`, an optional `name`, and the options of that adapter (below)."""

VLLM = """With `kind: vllm`, `args` holds vLLM's own engine arguments, such as `max_model_len`,
`tensor_parallel_size`, `gpu_memory_utilization` and `quantization`. A name that vLLM does not know is
refused, with the nearest that it does."""


def vocabulary() -> str:
    """The types that everything speaks in, in the order of `harness/types.py`."""
    from harness import types

    kinds = [
        kind
        for kind in vars(types).values()
        if isinstance(kind, type) and kind.__module__ == types.__name__ and not kind.__name__.startswith("_")
    ]
    structs = [kind for kind in kinds if issubclass(kind, msgspec.Struct) and kind is not types.Struct]
    links = {kind: _anchor(kind.__name__) for kind in structs}
    lines = ["# Vocabulary", "", f"`from harness.types import ...`. {inspect.getdoc(types)}"]
    for kind in kinds:
        if kind in structs:
            lines += ["", f"## {kind.__name__}", "", _first(kind), "", *_table(kind, links)]
        elif issubclass(kind, Enum):
            said = _documents(kind)
            lines += ["", f"## {kind.__name__}", "", _first(kind), "", "| value | meaning |", "|---|---|"]
            lines += [f"| `{member.value}` | {_cell(said[member.name])} |" for member in kind]
    return "\n".join(lines) + "\n"


def modules() -> str:
    """The folder tree, one clause a file."""
    lines = runpy.run_path(str(Path(__file__).with_name("tree.py")))["lines"]()
    return "\n".join(["# Modules", "", "```text", *lines, "```", ""])


PAGES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "configuration": configuration,
    "vocabulary": vocabulary,
    "modules": modules,
}
"""Name of a page below docs/reference -> what writes it."""


def _table(kind: type, links: dict[type, str]) -> Iterator[str]:
    """The fields of a struct as a table: name, type, default, and the string under the field."""
    said, hints = _documents(kind), get_type_hints(kind, include_extras=True)
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    for field in msgspec.structs.fields(kind):
        if field.name in ("lines", "payload"):  # never written down
            continue
        text = _cell(said.get(field.name, ""))
        yield f"| `{field.name}` | {_type(hints[field.name], links)} | {_default(field)} | {text} |"


def _documents(kind: type) -> dict[str, str]:
    """Field or member -> the string that stands under it, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("harness."):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            found |= _strings(body.body if isinstance(body, ast.ClassDef) else [])
    return found


def _strings(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
    """(name, text) of every assignment of a class that a string stands under."""
    name = ""
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if name and isinstance(node.value.value, str):
                yield name, node.value.value
            name = ""


WORDS: dict[Any, str] = {
    str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null", Any: "anything"
}  # fmt: skip


def _type(hint: Any, links: dict[type, str]) -> str:
    """A type in words that a person who writes YAML knows."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in links:
        return f"[{hint.__name__}](#{links[hint]})"
    if origin is Annotated:
        least = next((meta.ge for meta in inner[1:] if isinstance(meta, msgspec.Meta)), None)
        return f"{_type(inner[0], links)} from {least}" if least is not None else _type(inner[0], links)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type(part, links) for part in inner)
    if origin in (tuple, list):
        parts = [part for part in inner if part is not Ellipsis]
        return "list of " + " and ".join(dict.fromkeys(_type(part, links) for part in parts))
    if origin is dict:
        return f"mapping from {_type(inner[0], links)} to {_type(inner[1], links)}"
    return WORDS.get(hint) or f"`{hint.__name__}`"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value in (None, "", (), {}):
        return ""
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{_cell(text)}`" if len(text) <= 60 else "see the source"


def _first(kind: type) -> str:
    """The docstring of a class, its paragraphs as they are."""
    return inspect.getdoc(kind) or ""


def _cell(text: str) -> str:
    """A text as it may stand in a cell of a table: one line, no further column, no HTML outside of code."""
    parts = re.sub(r"\s+", " ", text).replace("|", r"\|").strip().split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def _anchor(title: str) -> str:
    """The anchor that Markdown's table of contents gives a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


if __name__ == "__main__":
    print(PAGES[sys.argv[1]]())
