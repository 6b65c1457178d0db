"""What a model wrote is hostile to whoever reads it: made harmless here, before it is shown."""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])(?:[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c))?"  # title, link
    r"|\x1b[ -/]*[0-~]"  # other escapes
)
_DROPPED = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def strip_control(text: str) -> str:
    """Text that moves no cursor, sets no colour and reorders nothing; newlines and tabs stay.

    Removes whole escape sequences (ECMA-48), control and format characters (C0, C1, bidirectional overrides,
    zero width), lone surrogates, private-use characters, line and paragraph separators.
    """
    # Nearly every text is printable, and nothing of what is removed counts as that.
    if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _DROPPED)


def one_line(text: str) -> str:
    """`strip_control`, with every run of white space as one space."""
    return " ".join(strip_control(text).split())


def without_surrogates(value: Any) -> Any:
    """A JSON value in which what UTF-8 cannot hold (lone surrogates, which JSON can smuggle in) is `?`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_surrogates(item) for item in value]
    return value


@cache
def page_template(path: Path, *shared: Path) -> "Template":
    """The template of a page. All that it prints is escaped, and stripped of control characters.

    Kept: compiling it takes longer than filling it in.

    Args:
        path: of the template; it may include others of its folder.
        shared: further folders of templates that it may include.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([path.parent, *shared]),
        autoescape=True,
        finalize=_clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template(path.name)


def breakable(text: str) -> "Markup":
    """Foreign text for a page, with places to break a line within names."""
    from markupsafe import Markup

    return Markup("<wbr>").join(name_parts(strip_control(text)))


def name_parts(name: str) -> list[str]:
    """Where a line may be broken within `suite/name_of:something`: behind `/`, `_`, `:`, before letters."""
    return re.split(r"(?<=[/_:])(?=[^\W\d_])", name)


def _clean(value: Any) -> Any:
    """Strip what a template prints, except markup of its own macros, in which that was done."""
    return strip_control(value) if type(value) is str else value
