"""What stands inside of a tool call, read strictly: JSON, Python, Gemma's own, or markup. Pure functions."""

import ast
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

from harness.types import Struct


class Unreadable(Exception):
    """A call is not written as its format has it."""

    def __init__(self, at: int, expected: str) -> None:
        """Args: at: where in the text; expected: what should stand there."""
        super().__init__(expected)
        self.at = at
        self.expected = expected


class Text(Struct):
    """An argument as markup has it, whose type only the tool's schema tells."""

    text: str
    string: bool | None = None
    """Whether it is a string, where the markup says so."""


class Payload(Struct):
    """What was read of a call, and where it ends."""

    arguments: dict[str, Any]
    end: int
    name: str | None = None
    id: str | None = None


Body = Callable[[str, int], Payload]
NESTED = (RecursionError, MemoryError)
"""What a value that is nested without end raises in parsers of the standard library."""


# JSON


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise ValueError(f"{twice!r} is written twice")
    return members


def _finite(written: str) -> float:
    number = float(written)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{written} is too large for a number")
    return number


def _no_constant(written: str) -> Any:
    raise ValueError(f"{written} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
"""JSON as RFC 8259 has it: no NaN, no infinity (also by overflow), no key twice. Python's own lets them pass,
and records would keep something else than the model wrote."""


def decode_json(written: str) -> Any:
    """A value in JSON, as `DECODER` reads it.

    Raises:
        ValueError: it is none, with a sentence that says why.
    """
    try:
        return DECODER.decode(written)
    except NESTED as error:
        raise ValueError("nested too deeply") from error


def _json_at(text: str, at: int) -> tuple[Any, int]:
    try:
        return DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise Unreadable(error.pos, f"JSON ({error.msg})") from error
    except ValueError as error:
        raise Unreadable(at, f"JSON ({error})") from error
    except NESTED as error:
        raise Unreadable(at, "JSON that is not nested without end") from error


def json_arguments(text: str, at: int) -> Payload:
    """Arguments as an object in JSON."""
    value, end = _json_at(text, at)
    if not isinstance(value, dict):
        raise Unreadable(at, "an object of arguments")
    return Payload(value, end)


def json_call(text: str, at: int) -> Payload:
    """A whole call as an object in JSON: its name, its arguments, perhaps an id, nothing else."""
    value, end = _json_at(text, at)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise Unreadable(at, "an object with a name")
    keys = [key for key in ("arguments", "parameters", "args") if isinstance(value.get(key), dict)]
    if len(keys) != 1 or value.keys() - {"name", keys[0], "id", "type"}:
        raise Unreadable(at, "an object with a name, arguments and nothing else")
    own = value.get("id")
    return Payload(value[keys[0]], end, value["name"], own if isinstance(own, str) else None)


def json_named(text: str, at: int) -> Payload:
    """A whole call as an object in JSON whose one key is the tool's name, and its value the arguments."""
    value, end = _json_at(text, at)
    if not isinstance(value, dict) or len(value) != 1:
        raise Unreadable(at, "an object with the tool's name as its one key")
    [(name, arguments)] = value.items()
    if not name or not isinstance(arguments, dict):
        raise Unreadable(at, "an object of arguments under the tool's name")
    return Payload(arguments, end, name)


# Python

_CONSTANTS = {"true": True, "false": False, "null": None}
_PIECES = re.compile(
    r"'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[()\[\]{}]",
    re.DOTALL,
)
_CALLED = re.compile(r"[A-Za-z_][\w.]*\s*\(")


def python_call(text: str, at: int) -> Payload:
    """A call as Python writes it, of literals by name; JSON's true, false and null stand for Python's."""
    if not (called := _CALLED.match(text, at)):
        raise Unreadable(at, "the name of a tool and a bracket")
    end = closing_bracket(text, called.end() - 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as \d, which Python keeps as they are
            call = ast.parse(text[at:end].strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("arguments have names")
        names = [keyword.arg for keyword in call.keywords]
        if None in names or len(set(names)) < len(names):
            raise ValueError("each argument has a name of its own")
        arguments = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, *NESTED) as error:
        raise Unreadable(at, f"a call in Python ({error})") from error
    return Payload(arguments, end, ast.unparse(call.func))


def closing_bracket(text: str, at: int) -> int:
    """Where the bracket that opens at a position has been closed; brackets in strings do not count.

    Raises:
        Unreadable: it never is.
    """
    depth = 0
    for piece in _PIECES.finditer(text, at):
        depth += (piece[0] in "([{") - (piece[0] in ")]}")
        if depth == 0:
            return piece.end()
    raise Unreadable(len(text), "the bracket that ends the call")


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | bool() | int() | None as value):
            return value
        case ast.Constant(value=float() as value) if abs(value) != float("inf"):
            return value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            return -_literal(node.operand)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return _unique([(_key(key), _literal(value)) for key, value in zip(keys, values, strict=True)])
    raise ValueError("arguments are literals")


def _key(node: ast.expr | None) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError("keys are strings")
    return node.value


def decode_literal(written: str) -> Any:
    """A value in JSON, or as Python writes it.

    Raises:
        ValueError: it is neither.
    """
    try:
        return decode_json(written)
    except ValueError:
        try:
            return _literal(ast.parse(written, mode="eval").body)
        except (SyntaxError, *NESTED) as error:
            raise ValueError("neither JSON nor a literal of Python") from error


# Gemma

_GEMMA_STRING = '<|"|>'
_GEMMA_KEY = re.compile(r"\s*([^:,{}\[\]]+?)\s*:\s*")


def gemma_arguments(text: str, at: int) -> Payload:
    """Arguments as Gemma 4 writes them: bare keys, strings between marks of their own, else as in JSON."""
    try:
        value, end = _gemma_value(text, at)
    except NESTED as error:
        raise Unreadable(at, "arguments that are not nested without end") from error
    return Payload(value, end)


def _gemma_value(text: str, at: int) -> tuple[Any, int]:
    if text.startswith(_GEMMA_STRING, at):
        start = at + len(_GEMMA_STRING)
        end = text.find(_GEMMA_STRING, start)
        if end < 0:
            raise Unreadable(len(text), f"{_GEMMA_STRING} at the end of a string")
        return text[start:end], end + len(_GEMMA_STRING)
    if text.startswith("{", at):
        return _gemma_items(text, at + 1, "}")
    if text.startswith("[", at):
        return _gemma_items(text, at + 1, "]")
    if text.startswith('"', at):
        raise Unreadable(at, f"a string in {_GEMMA_STRING}")
    return _json_at(text, at)


def _gemma_items(text: str, at: int, closing: str) -> tuple[Any, int]:
    pairs: list[tuple[str, Any]] = []
    at = _skip(text, at)
    while not text.startswith(closing, at):
        key = _GEMMA_KEY.match(text, at) if closing == "}" else None
        if closing == "}" and (key is None or _GEMMA_STRING in key[1]):
            raise Unreadable(at, "the name of an argument")
        value, end = _gemma_value(text, key.end() if key else at)
        pairs.append((key[1] if key else "", value))
        at = _skip(text, end)
        if not text.startswith(closing, at):
            if not text.startswith(",", at):
                raise Unreadable(at, f"a comma or {closing}")
            at = _skip(text, at + 1)
    try:
        return (_unique(pairs) if closing == "}" else [value for _, value in pairs]), at + 1
    except ValueError as error:
        raise Unreadable(at, f"each argument once ({error})") from error


def _skip(text: str, at: int) -> int:
    """Where what follows some white space begins."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


# Markup


def markup(opens: str, closes: str, *, trimmed: bool = False) -> Body:
    """Arguments between tags, as plain text.

    Args:
        opens: regular expression before a value, with a group `key`; a group `string` (true or false) or
            `type` tells the type.
        closes: what ends a value; `{key}` stands for the name of the argument.
        trimmed: a line break after the one tag and before the other does not count.
    """
    opening = re.compile(r"\s*" + opens + (r"\n?" if trimmed else ""))

    def read(text: str, at: int) -> Payload:
        arguments: dict[str, Any] = {}
        while match := opening.match(text, at):
            key, close = match["key"], closes.replace("{key}", match["key"])
            end = text.find(close, match.end())
            if end < 0:
                raise Unreadable(len(text), f"{close} at the end of {key}")
            if key in arguments:
                raise Unreadable(match.start(), f"each argument once ({key!r} is written twice)")
            value = text[match.end() : end]
            arguments[key] = Text(value.removesuffix("\n") if trimmed else value, _told(match))
            at = end + len(close)
        return Payload(arguments, at)

    return read


def _told(match: re.Match[str]) -> bool | None:
    """Whether a value is a string, as its tag says."""
    groups = match.groupdict()
    if kind := groups.get("type"):
        return kind == "string"
    return {"true": True, "false": False}.get(groups.get("string") or "")


ELEMENT = "]<]minimax[>["
"""What stands before every tag of MiniMax M3."""


def elements(value: Any) -> str:
    """A value as MiniMax M3 writes what is nested: an element for each key, `item` for those of lists."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else (("item", each) for each in value)
        return "".join(f"{ELEMENT}<{key}>{elements(each)}{ELEMENT}</{key}>" for key, each in pairs)
    return value if isinstance(value, str) else json.dumps(value)
