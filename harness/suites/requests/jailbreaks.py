"""How a request is put to a model: plainly, or as a published jailbreak puts it.

Prompt templates of others are read out of the packages that ship them, when a run is planned. Such a package
is never imported: its files are data.
"""

import base64
import codecs
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.config import OptionError
from harness.types import Struct

LEET = str.maketrans("aeiostAEIOST", "431057431057")

ENCODINGS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "leet": lambda text: text.translate(LEET),
}


class Jailbreak(Struct):
    """One way to put a request."""

    template: str = "{request}"
    """What the model is shown, with `{request}` where the request goes."""
    package: str = ""
    """An installed package that ships the template, in place of `template`."""
    file: str = ""
    """The template's file in that package: text, YAML or JSON."""
    key: str = ""
    """Where in a YAML or JSON file the template stands, such as `value` or `0`; levels are parted by dots."""
    placeholder: str = "{{ prompt }}"
    """What that template has where the request goes."""
    turns: tuple[str, ...] = ()
    """What the user says in the turns before, one reply each; `{request}` may stand in them too."""
    encoding: Literal["none", "base64", "rot13", "leet"] = "none"
    """How the request is written where it stands."""
    request: str = ""
    """Column of the request as it is put here, such as a translation. The judge sees the request itself."""


class BestOf(Struct):
    """Each model is measured with the jailbreak that does best on it, chosen on other requests."""

    metric: str
    """The metric that the best jailbreak has most of."""
    choose_on: str
    """The table whose requests choose. All metrics are of the other tables."""


def turns(name: str, jailbreak: Jailbreak) -> tuple[str, ...]:
    """What the user says, turn by turn, with `{request}` where the request goes.

    Raises:
        OptionError: the template has no place for the request, or the package does not have it.
    """
    key = f"jailbreaks.{name}"
    if not jailbreak.package:
        last = jailbreak.template
    elif jailbreak.template != "{request}":
        raise OptionError("give either `template` or `package`", f"{key}.template")
    else:
        last = _shipped(key, jailbreak)
    messages = (*jailbreak.turns, last)
    if not any("{request}" in turn for turn in messages):
        raise OptionError("template has no {request}: put it where the request goes", f"{key}.template")
    return messages


def _shipped(key: str, jailbreak: Jailbreak) -> str:
    """The template of a package, with `{request}` in place of its own placeholder."""
    package, file = jailbreak.package, jailbreak.file
    if not package.isidentifier():  # to look for a part of a package imports what is above it
        raise OptionError(f"{package!r} is no name of a package", f"{key}.package")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise OptionError(
            f"package {package} is not installed: install it (pip install --no-deps {package} is enough)",
            f"{key}.package",
        )
    folder = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise OptionError(f"package {package} has no file {file!r}", f"{key}.file")
    text: Any = path.read_text(encoding="utf8")
    if path.suffix in {".yaml", ".yml", ".json"}:
        text = yaml.safe_load(text)
        for step in filter(None, jailbreak.key.split(".")):
            try:
                text = text[int(step)] if isinstance(text, list) else text[step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise OptionError(f"{path} has nothing at {jailbreak.key!r}", f"{key}.key") from None
    if not isinstance(text, str) or jailbreak.placeholder not in text:
        raise OptionError(
            f"{path} has no text with {jailbreak.placeholder!r} at {jailbreak.key!r}", f"{key}.placeholder"
        )
    return text.replace(jailbreak.placeholder, "{request}")
