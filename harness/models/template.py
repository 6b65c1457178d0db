"""What a chat template can do, read from its source. Templates are rendered in a sandbox, never trusted."""

import json
from collections.abc import Callable
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.models.checkpoint import read_json
from harness.models.limits import Exceeded, within_limits
from harness.types import Struct

SWITCHES = (
    "enable_thinking", "thinking", "thinking_budget", "thinking_mode", "reasoning", "reasoning_effort",
    "think", "clear_thinking", "preserve_thinking", "keep_all_reasoning", "add_thoughts",
    "thinking_effort", "reasoning_strength", "thinking_option", "preserved_thinking", "think_render_option",
    "low_effort", "medium_effort", "truncate_history_thinking", "skip_thinking", "drop_thinking",
    "keep_past_thinking",
)  # fmt: skip
"""Variables by which released templates switch reasoning on, off or between efforts."""


class TemplateFacts(Struct):
    """What a chat template refers to."""

    tools: bool
    """It can show tools to the model."""
    reasoning_switches: tuple[str, ...]
    """Variables that switch reasoning."""


@lru_cache(maxsize=256)
def read_template(source: str) -> TemplateFacts:
    """What a template refers to.

    Raises:
        UserError: it is not a template, or to read it takes more than there is.
    """
    try:
        variables = within_limits(lambda: undeclared(source))
    except Exceeded as error:
        raise UserError(f"the chat template {error} to be read") from error
    return TemplateFacts(
        tools="tools" in variables,
        reasoning_switches=tuple(name for name in SWITCHES if name in variables),
    )


def undeclared(source: str) -> set[str]:
    """The variables that a template is to be given. Computes constants that stand in it: see `limits`.

    Raises:
        UserError: it is not a template.
    """
    from jinja2 import TemplateSyntaxError, meta

    try:
        return set(meta.find_undeclared_variables(environment().parse(source)))
    except TemplateSyntaxError as error:
        raise UserError(f"the chat template is broken in line {error.lineno}: {error.message}") from error
    except RecursionError as error:
        raise UserError("the chat template is nested too deeply to be read") from error


def special_tokens(folder: Path) -> dict[str, str]:
    """Names and texts of the special tokens that a tokenizer_config.json states."""
    file = folder / "tokenizer_config.json"
    data = read_json(file) if file.is_file() else {}
    texts = {k: v.get("content") if isinstance(v, dict) else v for k, v in data.items()}
    return {k: v for k, v in texts.items() if k.endswith("_token") and isinstance(v, str)}


def environment(day: Callable[[], date] = date.today) -> Any:
    """As transformers sets it up: https://huggingface.co/docs/transformers/chat_templating_writing.

    Args:
        day: what a template that asks for the date is told; it is noon there.
    """
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the assistant wrote; the text itself is unchanged."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise ValueError(message)

    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    sandbox.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, indent=options.get("indent"), separators=options.get("separators")
    )
    sandbox.globals["raise_exception"] = refuse
    sandbox.globals["strftime_now"] = lambda form: datetime.combine(day(), time(12)).strftime(form)
    return sandbox
