"""Tool calls that a parser missed: told from answers by where the name of a tool stands. Pure functions.

People report calls in fences, after prose, under other keys, without their special tokens, in the format of
another model. There is no list of such spellings that is long enough, so none is kept: a call is the name of
an offered tool where a call has it, with arguments beside it, outside of quotations, sentences and programs.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from harness.engines.payloads import DECODER, NESTED, Unreadable, closing_bracket, decode_literal

NAME_KEYS = ("name", "function", "tool", "tool_name", "function_name", "action", "recipient_name", "call")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "params", "input", "tool_input", "action_input", "kwargs")
REPORT_KEYS = ("description", "result", "output", "response", "status")
"""What an object has beside a name that describes a tool, or tells of a call that was made."""

_KEY = r"[\"'](?:{})[\"']\s*:\s*"
_CONDITION = r"\b(?:would|could|might|may|can be|you can|how (?:to|you)|example|instance)\b"
_REFUSAL = r"\b(?:not|never|cannot|ignor\w+|declin\w+|refus\w+|suspicious|malicious|injection)\b|n['’]t\b"
_SAID_OF_IT = re.compile(f"{_CONDITION}|{_REFUSAL}", re.IGNORECASE)
"""In the line before a call that is shown, not made."""
_REFUSED = re.compile(rf"\W*I\b[^.\n]{{0,60}}?(?:{_REFUSAL})", re.IGNORECASE)
"""A line after a call that was quoted."""
_FENCE = re.compile(r"```[^\n`]*\n(?P<inside>.*?)(?:```|\Z)", re.DOTALL)
_TOKEN = re.compile(r"<\|[^|<>]*\|>(?:assistant)?")
_LONG_SPACE = re.compile(r"\s{21,}")
"""As models write that loop: patterns with optional space would take seconds for it."""
_TAG = re.compile(r"<\|[^|<>]*\|>(?:assistant)?|<[^<>]*>")
_QUOTES = "\"'`“”‘’«»„「」"


_WRAPPER = r"(?:<[^<>\n]*|\[\w*)(?:call|request|_use)[^<>\[\]\n]*[>\]]"
_MARKED = re.compile(
    rf"{_WRAPPER}\s*\[?\s*(?P<call>\{{[^{{}}]*\b(?:{'|'.join(NAME_KEYS)})\"?\s*(?::|=>)\s*\"(?P<json>[\w.-]+)"
    r"|<(?:function=|invoke name=\"?)(?P<tag>[\w.-]+)\"?>\s*[<{])",
    re.IGNORECASE,
)
"""A call in a wrapper that says what it is: also of a tool that was not offered, also without arguments."""


class Place(NamedTuple):
    """From where to where something that may be a call stands in a reply."""

    start: int
    end: int


def spelled_call(answer: str, names: Iterable[str]) -> str | None:
    """The tool whose call a reply spells in whatever format, None if it spells none.

    Args:
        answer: what the model wrote, without its reasoning.
        names: of the tools that it was offered.
    """
    answer = _LONG_SPACE.sub(lambda run: run[0][:20], answer)
    if (marked := _MARKED.search(answer)) and _is_meant(answer, Place(marked.start("call"), marked.end())):
        return marked["json"] or marked["tag"]
    offered = [
        name for name in names if name in answer and not re.search(rf"\bdef {re.escape(name)}\(", answer)
    ]
    if not offered:
        return None
    longest_first = sorted(offered, key=len, reverse=True)
    name = rf"(?:\w{{1,40}}\.){{0,3}}(?P<tool>{'|'.join(map(re.escape, longest_first))})"
    for find in (_objects, _expressions, _named, _alone):
        for tool, place in find(answer, name):
            if _is_meant(answer, place):
                return tool
    return None


# Where a name stands as that of a call


def _objects(answer: str, name: str) -> Iterator[tuple[str, Place]]:
    """Names as values in JSON or in literals of Python, with arguments beside them."""
    for found in re.finditer(rf"(?P<quote>[\"']){name}(?P=quote)", answer):
        start, value, end = _around(answer, found.start())
        if start < 0:
            continue
        if end > 0:
            called = any(_is_call(each, found["tool"]) for each in _inner(value))
        else:
            called = _is_broken_call(answer[start:], name)
        if called:
            yield found["tool"], Place(start, end if end > 0 else len(answer))
    for found in re.finditer(
        rf"\{{\s*{_KEY.format('|'.join(NAME_KEYS))}[\"']{name}[\"']?[,\s]*(?:\"\w*\"?[\s:]*)?\Z", answer
    ):
        yield found["tool"], Place(found.start(), len(answer))


def _around(answer: str, at: int) -> tuple[int, Any, int]:
    """The outermost object or list that holds a position: where it begins, its value and where it ends.

    The end is 0 where it cannot be read; the beginning -1 where nothing opens.
    """
    opened = [found.start() for found in re.finditer(r"[\[{]", answer[:at])][-40:]
    for start in opened:
        try:
            value, end = DECODER.raw_decode(answer, start)
        except (ValueError, *NESTED):
            try:
                end = closing_bracket(answer, start)
                value = decode_literal(answer[start:end])
            except (ValueError, Unreadable):
                continue
        if end > at:
            return start, value, end
    braces = [start for start in opened if answer[start] == "{"]
    return (braces[-1] if braces else -1), None, 0


def _inner(value: Any) -> Iterator[Any]:
    """A value and all that it holds."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        yield each
        waiting.extend(each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())


def _is_call(value: Any, tool: str) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and value[0] == tool and (value[1] == [] or _are_arguments(value[1]))
    if not isinstance(value, dict) or value.keys() & set(REPORT_KEYS):
        return False
    if list(value) == [tool]:
        return _are_arguments(value[tool])
    named = any(str(value.get(key)).rpartition(".")[2] == tool for key in NAME_KEYS)
    return named and any(_are_arguments(value.get(key)) for key in ARGUMENT_KEYS)


def _are_arguments(value: Any) -> bool:
    """Whether a value is what a call hands over, not the schema of it."""
    if isinstance(value, str):
        try:
            value = decode_literal(value)
        except ValueError:
            return False
    return isinstance(value, dict) and not ("properties" in value or value.get("type") == "object")


def _is_broken_call(rest: str, name: str) -> bool:
    """Whether what cannot be read begins as an object with the name of a tool and arguments."""
    keys = _KEY.format("|".join(NAME_KEYS)), _KEY.format("|".join(ARGUMENT_KEYS))
    found = re.match(rf"\{{[^{{}}]*?{keys[0]}[\"']{name}[\"'][^{{}}]*?{keys[1]}", rest)
    return found is not None and not re.search(_KEY.format("|".join(REPORT_KEYS)), found[0])


_BEFORE_EXPRESSION = r"(?:^|(?<=[>\])|:]))[ \t]*(?:print\(|await[ \t]+|\w+[ \t]*=[ \t]*)?(?:[\[(][\s\[(]*)?"
_AFTER_EXPRESSION = re.compile(r"[\s\])}.,;]*(?:$|\Z|<|\[/|\(|```|[A-Za-z_][\w.]*\()", re.MULTILINE)


def _expressions(answer: str, name: str) -> Iterator[tuple[str, Place]]:
    """Call expressions that make up a line, a list, what stands between two marks, or a fence."""
    for found in re.finditer(rf"{_BEFORE_EXPRESSION}{name}\s*\(", answer, re.MULTILINE):
        opening = found.end() - 1
        try:
            end = closing_bracket(answer, opening)
            values = _are_values(answer[opening + 1 : end - 1])
        except Unreadable:
            end, values = len(answer), True
        if (bracket := found[0].find("[")) >= 0:
            end = _end(answer, found.start() + bracket)
        if values and _AFTER_EXPRESSION.match(answer, end):
            yield found["tool"], Place(found.start(), end)
    for found in re.finditer(rf"^\s*\[\s*{name}\Z", answer, re.MULTILINE):
        yield found["tool"], Place(found.start(), len(answer))


def _are_values(arguments: str) -> bool:
    """Whether arguments are handed over, not the parameters of a signature or the variables of a program."""
    first = re.match(r"\s*([A-Za-z_]\w*)\s*(?:,|:|\Z)", arguments)
    return first is None or first[1] in ("True", "False", "None", "true", "false", "null")


_LABEL = r"(?:[*_#]*[A-Za-z][\w -]{0,20}:[*_]*[ \t]*)?"


def _named(answer: str, name: str) -> Iterator[tuple[str, Place]]:
    """Names in tags, attributes, recipients and headers, followed by arguments."""
    bare = rf"(?:^|(?<=[>\]|=(:*.]))[ \t]*{_LABEL}[*_`\"]*(?:function)?{name}[*_`\"]*(?::\d+)?"
    after = (
        r"[ \t]*(?:[A-Za-z]+|<\|[^|<>]*\|>|\[[A-Z_]+\]|[:=])*\s*(?:```\w*\s*)?(?=\{\s*(?:[\"'}]|\w+:|\Z))",
        r"\s*(?=<arg)",
        rf"[ \t]*\n+\s*{_LABEL}(?:```\w*\s*)?(?=\{{)",
        r"[ \t]*\n+\s*(?:\w+ )?(?:Input|Arguments|Parameters|Args)[ \t]*:",
    )
    tags = (
        rf"<[^<>\n]*(?<![\w.]){name}(?![\w.])[^<>\n/]*(?:/>|>\s*(?:[{{(<]))",
        rf"<(?P<tag>[\w:-]+)>\s*{name}\s*</(?P=tag)>\s*<(?!(?P=tag)|/)",
    )
    for pattern in (*(bare + each for each in after), *tags):
        for found in re.finditer(pattern, answer, re.MULTILINE):
            if not re.match(r"\s*\{\s*\"(?:type\"\s*:\s*\"object|description)\"", answer[found.end() :]):
                yield found["tool"], Place(found.start(), _end(answer, found.end()))


_ANNOUNCED = r"(?:calling|invoking|running|using|call|invoke|run|use)[ \t]+(?:the[ \t]+)?(?:tool|function)?"
_ARGUMENT = re.compile(r"\w[\w-]*[ \t]*[:=][ \t]*\S.*|<[\w-]+>.*|\"[^\"]*\"|'[^']*'|\S+")
"""A line that hands something over: a pair, an element, a text in quotes, a single word."""


def _alone(answer: str, name: str) -> Iterator[tuple[str, Place]]:
    """Names that have a line to themselves, with lines of arguments, and nothing else, up to the end.

    A line that says that a tool is called needs no arguments.
    """
    announced = rf"^[ \t]*[\[(<*_`]*(?i:{_ANNOUNCED})[ \t:*_`]*{name}[\])>*_`]*[ \t]*:?[ \t]*$"
    for found in re.finditer(announced, answer, re.MULTILINE):
        yield found["tool"], Place(found.start(), found.end())
    for found in re.finditer(rf"^[ \t]*[*_`]*{name}[*_`]*[ \t]*:?[ \t]*$", answer, re.MULTILINE):
        lines = [line.strip() for line in answer[found.end() :].splitlines() if line.strip()]
        arguments = all(_ARGUMENT.fullmatch(line) for line in lines)
        if arguments and not any(re.match(name, line) for line in lines):
            whole = not answer[: found.start()].strip()
            if lines or whole:
                yield found["tool"], Place(found.start(), len(answer))


def _end(answer: str, at: int) -> int:
    """Where arguments end that begin at a position, as far as that is simple to tell."""
    try:
        return closing_bracket(answer, at) if answer[at : at + 1] in ("{", "[") else at
    except Unreadable:
        return len(answer)


# Whether a call is made there, or shown


def _is_meant(answer: str, place: Place) -> bool:
    fence = next((each for each in _FENCE.finditer(answer) if each.start() <= place.start < each.end()), None)
    if fence is not None:
        return _is_meant_in_fence(answer, fence, place)
    outer = _outer(answer, place)
    sides = answer[max(0, outer.start - 1) : outer.start] + answer[outer.end : outer.end + 1]
    if len(sides) == 2 and set(sides) <= set(_QUOTES):
        return False
    line = answer.rfind("\n", 0, place.start + 1) + 1
    before = answer[line : place.start]
    rest = answer[place.end :].split("\n", 1)[0]
    if before.lstrip().startswith(">") or _is_quoted(before, rest) or _is_sentence(before, rest):
        return False
    return not _is_shown(answer[: max(line, 0)] + before, answer[place.end :])


_MARKS_BEFORE = re.compile(r"(?:<[^<>]*>|\[/?[A-Z_]+\]|\s)*\Z")
_MARKS_AFTER = re.compile(r"(?:<[^<>]*>|\[/?[A-Z_]+\]|\s)*")


def _outer(answer: str, place: Place) -> Place:
    """A place with the marks around it."""
    start, after = max(0, place.start - 200), _MARKS_AFTER.match(answer, place.end)
    before = _MARKS_BEFORE.search(answer[start : place.start])
    return Place(start + before.start() if before else place.start, after.end() if after else place.end)


def _is_quoted(before: str, rest: str) -> bool:
    """Whether a quotation begins before a call and ends after it, on its line."""
    opened = [mark for mark in _QUOTES if before.count(mark) % 2 or (mark in "“‘«„「" and mark in before)]
    return bool(opened) and any(mark in rest for mark in _QUOTES)


def _is_sentence(before: str, rest: str) -> bool:
    """Whether the line of a call is a sentence, which goes on after it."""
    follows = re.match(r"[ \t]*[,;]?[ \t]+([^\W\d_])", _TAG.sub("", rest))
    return follows is not None and (follows[1].islower() or bool(_TAG.sub("", before).strip()))


def _is_shown(before: str, after: str) -> bool:
    """Whether the line before a call, or the one after it, says that it is not made."""
    said = _MARKS_BEFORE.sub("", before[-400:]).rsplit("\n", 1)[-1]
    if said.endswith(":") and _SAID_OF_IT.search(said):
        return True
    rest = _MARKS_AFTER.match(after)
    return _REFUSED.match(after, rest.end() if rest else 0) is not None


def _is_meant_in_fence(answer: str, fence: re.Match[str], place: Place) -> bool:
    inside = fence["inside"]
    is_object = answer[place.start : place.start + 1] in ("{", "[") and not re.match(
        r"\[\s*\w+\(", answer[place.start :]
    )
    if not is_object and not _is_all_calls(inside):
        return False
    before, after = answer[: fence.start()], _TOKEN.sub("", answer[fence.end() :])
    if _is_shown(before, after):
        return False
    if not after.strip():
        return True
    # An essay goes on after its example; a call in a fence waits for its result.
    return is_object and not _SAID_OF_IT.search(before + after)


def _is_all_calls(inside: str) -> bool:
    """Whether a fence holds calls alone, and no program."""
    try:
        statements = ast.parse(inside.strip()).body
    except (SyntaxError, ValueError, *NESTED):
        return (
            re.search(r"^\s*(?:def|import|from|class|for|if|while|with|return|#)\b", inside, re.MULTILINE)
            is None
        )
    kinds = (ast.Call, ast.List, ast.Await)
    return all(
        isinstance(each, ast.Expr | ast.Assign) and isinstance(each.value, kinds) for each in statements
    )
