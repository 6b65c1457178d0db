"""YAML files as data in which every key knows its line."""

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from harness.errors import UserError

T = TypeVar("T")
KeyPath = tuple[str | int, ...]


class OptionError(UserError):
    """An option of a suite, or a key of a model's spec, is wrong."""

    def __init__(self, message: str, option: str) -> None:
        """Args: message: the sentence. option: which."""
        super().__init__(message)
        self.option = option


class Document:
    """A YAML file as data, with the line of every key."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if the file cannot be read or is not YAML."""
        import yaml

        self.path = path
        try:
            text = _text(path)
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
            _check_extent(path, node)
            self.data: Any = yaml.load(text, Loader=yaml.CSafeLoader)
        except OSError as error:
            beside = [file.name for file in path.parent.glob("*.y*ml")]
            close = difflib.get_close_matches(path.name, beside, n=1)
            hint = f"did you mean {path.with_name(close[0])}?" if close else "give the path of a YAML file"
            raise UserError(f"cannot read {path}: {error.strerror}; {hint}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text; give the path of a YAML file") from error
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f":{min(where.line + 1, len(text.splitlines()))}" if where else ""
            problem = getattr(error, "problem", None) or "not YAML"
            raise UserError(f"{path}{line}: {problem}; expected YAML") from error
        except (ValueError, OverflowError) as error:  # a date or a number that there is not
            raise UserError(f"{path}: {error}; expected YAML, with such a value in quotes") from error
        self.overrides: dict[KeyPath, str] = {}
        """Keys that the command line set -> what it said."""
        self.lines: dict[KeyPath, int] = {}
        for key, number in _lines(node, ()) if node else ():
            if key in self.lines:
                raise UserError(f"{path}:{number}: key `{dotted(key)}` is written twice; keep one")
            self.lines[key] = number

    def inside(self, at: KeyPath) -> Iterator[KeyPath]:
        """The keys below another one, as far as the file states them, in its order."""
        keys, places = self._order
        first = places.get(at, len(keys)) + 1 if at else 0
        for place in range(first, len(keys)):
            if keys[place][: len(at)] != at:
                break
            yield keys[place]

    @cached_property
    def _order(self) -> tuple[list[KeyPath], dict[KeyPath, int]]:
        """The keys, each before those below it, and the place of each."""
        keys = list(self.lines)
        return keys, {key: place for place, key in enumerate(keys)}

    def where(self, key: KeyPath) -> str:
        """`file:line` of the key or of the nearest enclosing one, or the override that set it."""
        within = [key[:length] for length in range(len(key), -1, -1)]
        if set_by := next((self.overrides[outer] for outer in within if outer in self.overrides), None):
            return f"override {set_by!r}"
        key = next((outer for outer in within if outer in self.lines), ())
        return f"{self.path}:{self.lines.get(key, 1)}"

    def convert(self, data: Any, kind: type[T], at: KeyPath = ()) -> T:
        """Data as a typed struct.

        Raises:
            UserError: an unknown or missing key, or a value of the wrong type, with file and line.
        """
        try:
            return msgspec.convert(data, kind, strict=True)
        except msgspec.ValidationError as error:
            message, key = explain(error, kind)
            raise UserError(f"{self.where(at + key)}: {message}") from error


class NoDocument(Document):
    """What there is where no file is given, and the command line sets every key."""

    def __init__(self) -> None:
        self.path, self.data, self.overrides, self.lines = Path(), {}, {}, {}

    def where(self, key: KeyPath) -> str:
        """The override that set the key, or the command line."""
        return super().where(key) if key in self.overrides else "the command line"


MAX_BYTES, MAX_NODES, MAX_DEPTH = 16 << 20, 200_000, 64
"""Of a YAML file, its aliases written out: some lines of them can stand for more than a machine can hold."""


def _text(path: Path) -> str:
    """The text of a YAML file. Raises UserError if it is no file, or longer than any that is meant."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file; give the path of a YAML file")
    with path.open("rb") as file:
        read = file.read(MAX_BYTES + 1)
    if len(read) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB; give the path of a YAML file")
    return read.decode("utf8")


def _check_extent(path: Path, node: Any) -> None:
    """Raises UserError for a document that is too large or too deep once its aliases are written out."""
    left, count = [(node, 0)] if node else [], 0
    while left:
        current, depth = left.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise UserError(
                f"{path}:{current.start_mark.line + 1}: with its aliases written out the file has more than "
                f"{MAX_NODES} values or {MAX_DEPTH} levels; write it without them"
            )
        if current.id == "mapping":
            left += [(part, depth + 1) for pair in current.value for part in pair]
        elif current.id == "sequence":
            left += [(part, depth + 1) for part in current.value]


def _lines(node: Any, at: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """Every key of a YAML node with its line, nested keys after their parents."""
    if node.id == "mapping":
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line + 1
            yield from _lines(value, (*at, key.value))
    elif node.id == "sequence":
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _lines(value, (*at, index))


def explain(error: msgspec.ValidationError, kind: Any) -> tuple[str, KeyPath]:
    """What a validation error says, in our words: (sentence, key it is about)."""
    text, _, tail = str(error).partition(" - at `$")
    key = tuple(
        int(index) if index else name for name, index in re.findall(r"\.?([^.\[\]`]+)|\[(\d+)\]", tail)
    )
    key = tuple(part for part in key if part != "...")
    unknown = re.search(r"unknown field `(.+)`", text)
    if unknown:
        valid = fields(_type_at(kind, key))
        return unknown_key(unknown[1], valid), (*key, unknown[1])
    missing = re.search(r"missing required field `(.+)`", text)
    if missing:
        return f"key `{dotted((*key, missing[1]))}` is missing; add it", key
    about = f"key `{dotted(key)}`: " if key else ""
    return f"{about}{text[0].lower()}{text[1:]}", key


def unknown_key(name: str, valid: Sequence[str]) -> str:
    """The sentence about a key that does not exist."""
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown key `{name}`{hint}; valid keys here: {', '.join(valid)}"


def dotted(key: KeyPath) -> str:
    """A key path as a person writes it."""
    return ".".join(str(part) for part in key) or "the whole file"


def fields(kind: Any) -> list[str]:
    """Keys that may be written in a file."""
    known = msgspec.structs.fields(kind) if isinstance(kind, type) else ()
    return [field.encode_name for field in known if field.name != "lines"]


def _type_at(kind: Any, key: KeyPath) -> Any:
    """The struct type that stands at a key path inside another."""
    for part in key:
        kind = get_args(kind)[0] if isinstance(part, int) else get_type_hints(kind).get(part, object)
        if get_origin(kind) not in (tuple, list, dict) and get_args(kind):
            kind = next(a for a in get_args(kind) if a is not type(None))
    return kind
