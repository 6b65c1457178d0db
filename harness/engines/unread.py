"""Tool calls that a parser missed: told from answers by where the name of a tool stands. Pure functions.

People report calls in fences, after prose, under other keys, without their special tokens, in the format of
another model. There is no list of such spellings that is long enough, so none is kept: a call is the name of
an offered tool where a call has it, with arguments beside it, outside of quotations, sentences and programs.
Where nothing says that they are arguments, they are if the tool asks for them: each is a parameter of its,
and none that it requires is missing.
"""

import ast
import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from harness.engines.payloads import (
    DECODER,
    ELEMENT,
    NESTED,
    Unreadable,
    closing_bracket,
    decode_json,
    decode_literal,
)
from harness.types import Tool

NAME_KEYS = r"(?:\w+_|(?-i:[a-z]+(?=[A-Z])))?(?:[nN]ame|function|tool|action|call|method|api)"
ARGUMENT_KEYS = r"(?:\w+_)?(?:arguments?|args?|parameters?|params|inputs?|kwargs)"
TEXT_KEYS = ("tool_input", "action_input")
"""Those of them under which a plain text is an argument too."""
_TYPES = r"(?:str(?:ing)?|int(?:eger)?|float|number|bool(?:ean)?|list|dict|object|array|any)"
REPORT_KEYS = ("description", "result", "output", "response", "status")
"""What an object has beside a name that describes a tool, or tells of a call that was made."""

_KEY = r"(?<!\w)[\"'“]?(?:{})[\"'”]?\s*:\s*"
_CONDITION = (
    r"\A\W*you\b"
    r"|\b(?:would|could|might|example|looks? like|usage|(?:if|once|when) you|confirm\w*|propos\w+)\b"
)
_REFUSAL = (
    r"\b(?:not|never|cannot|nicht|keine\w*|pas|jamais|não|nunca|не|refus\w+|declin\w+|ignor\w+"
    r"|suspicious|malicious|injection)\b|n['’]t\b|[没未不]"
)
_CONTENT = r"\b(?:says|contains?|reads|hidden|payload|source|detected)\b"
_SAID_OF_IT = re.compile(f"{_CONDITION}|{_CONTENT}|{_REFUSAL}", re.IGNORECASE)
"""In the line before a call that is shown, not made."""
_OF_ITS_AUTHOR = re.compile(
    r"\b(?:I|me|my|we|us|here|needs?|next|first|step|follow\w*)\b|\A\W*\w+ing\b", re.IGNORECASE
)
"""In such a line, of what the author of the reply does."""
_OF_A_TEXT = re.compile(
    r"\b(?:the|this|that|one|(?:as|for|from|of|with|to) an?|in|inside|at|your?|yourself"
    r"|(?!need|requir)\w+ed)\b",
    re.IGNORECASE,
)
"""In such a line, of something else, for its reader, or of what is past."""
_ITEM = r"[ \t]*(?:[-*•]|\d+[.)]|[A-Za-z]\))[ \t]"
_ITEMS_BEFORE = re.compile(
    rf"(?:^{_ITEM}[^\n]*\n|^[-=*_]{{3,}}[ \t]*\n|^[^\S\n]*\n)*^{_ITEM}*\Z", re.MULTILINE
)
"""Of a list, before a call that is one of its items."""
_RULE = re.compile(r"^[-=*_]{3,}[ \t]*$", re.MULTILINE)
"""Around a document that is handed on."""
_TITLE = re.compile(r"\n[^\n]*[^\s.!?:][ \t]*\Z")
"""A line that ends without a sign is of the same document as the list after it."""
_LABEL_WORDS = re.compile(r"\W*[A-Za-z]+(?:[ -][A-Za-z]+){0,2}\W*")
_FENCE = re.compile(
    r"(?P<mark>```|~~~|\"\"\")(?P<language>[^\n`]*)\n(?P<inside>.*?)(?:(?P=mark)|\Z)", re.DOTALL
)
_SPAN = re.compile(
    r"^(?P<label>#+ [^\n]*\n\s*|[^\n`.\d]{1,40}:[*_]*[ \t]*)(?<!`)`(?P<inside>[^`\n]+)`[ \t]*$", re.MULTILINE
)
"""A span of code that is all that follows a label or a heading: a fence of one line."""
_LONG_SPACE = re.compile(r"\s{21,}")
"""As models write that loop: patterns with optional space would take seconds for it."""
_TAG = re.compile(r"<[|｜][^|｜<>]*[|｜]>(?:assistant)?|<[^<>]*>")
_LAST_TOKENS = re.compile(r"(?<!\s)(?<!\|>)\s*+(?:<\|[^|<>]*\|>\s*+)++\Z")
_WIDE = str.maketrans("（）：，＝", "():,=")
"""Signs as texts in Chinese and Japanese have them."""
_QUOTES = "\"'`“”‘’«»„「」"
_TICKS = "✔✓✅☑✗✘❌"
"""Before what is done, or will not be."""


_WRAPPER = r"(?:<[^<>\n]*|\[\w*)(?:call|request|_use)[^<>\[\]\n]*[>\]]"
_MARKED = re.compile(
    rf"{_WRAPPER}\s*\[?\s*(?P<call>\{{[^{{}}]*\b(?:{NAME_KEYS})\"?\s*(?::|=>)\s*\"(?P<json>[\w.-]+)"
    r"|<(?:function=|invoke name=\"?)(?P<tag>[\w.-]+)\"?>\s*[<{])",
    re.IGNORECASE,
)
"""A call in a wrapper that says what it is: also of a tool that was not offered, also without arguments."""


class Place(NamedTuple):
    """From where to where something that may be a call stands in a reply."""

    start: int
    end: int


def spelled_call(answer: str, tools: Iterable[Tool]) -> str | None:
    """The tool whose call a reply spells in whatever format, None if it spells none.

    Args:
        answer: what the model wrote, without its reasoning.
        tools: what it was offered.
    """
    answer = _unwrapped(answer).translate(_WIDE)
    answer = answer.replace("\r\n", "\n").replace(ELEMENT, "").replace("\\_", "_")
    answer = re.sub(r"\A\s*`(\s*[{\[][^`\n]+)`\s*\Z", r"\1", answer)
    answer = _SPAN.sub(_without_ticks, _LAST_TOKENS.sub("", answer))
    answer = _LONG_SPACE.sub(lambda run: run[0][:20], answer)
    if (marked := _MARKED.search(answer)) and _is_meant(
        answer, Place(marked.start("call"), max(marked.end(), _end(answer, marked.start("call"))))
    ):
        return marked["json"] or marked["tag"]
    tools = list(tools)
    answer = _as_offered(answer, [tool.name for tool in tools])
    offered = {
        tool.name: tool
        for tool in tools
        if tool.name in answer and not re.search(rf"\bdef {re.escape(tool.name)}\(", answer)
    }
    if not offered:
        return None
    longest_first = sorted(offered, key=len, reverse=True)
    name = rf"(?:\w{{1,40}}(?:\.|__)){{0,3}}(?P<tool>{'|'.join(map(re.escape, longest_first))})"
    found = chain(
        _objects(answer, name, offered),
        _expressions(answer, name),
        _named(answer, name, offered),
        _alone(answer, name, offered),
        *(_paired(answer, tool) for tool in offered.values()),
        *(_dressed(answer, tool) for tool in offered.values()),
    )
    shown = len(answer)
    for tool, place in found:
        # What is shown goes on in the next line, or in the next item.
        between = answer[shown : place.start].strip(" \n\t.)-*•0123456789")
        if _is_meant(answer, place) and (place.start < shown or between):
            return tool
        shown = place.end
    return None


def _unwrapped(answer: str) -> str:
    """A reply that is one text in JSON, under a key or not, or that is escaped, as the text in it."""
    if answer.lstrip().startswith("&lt;"):
        return html.unescape(answer)
    if re.match(r"\s*\[?\s*\{\s*\\\"", answer):
        return answer.replace('\\"', '"')
    try:
        text = decode_json(answer) if answer.lstrip()[:1] in ('"', "{") else None
    except ValueError:
        return answer
    if isinstance(text, dict) and len(text) == 1:
        (text,) = text.values()
    return text if isinstance(text, str) and text[:1] in ("{", "[") else answer


def _as_offered(answer: str, names: Sequence[str]) -> str:
    """A reply with names in quotes as tools have them, also those in another case or with other signs."""
    signs = r"[-_. ]"
    plain = {re.sub(signs, "", name).lower(): name for name in names}
    written = "|".join(f"{signs}?".join(map(re.escape, re.split(signs, name))) for name in names)

    def offered(match: re.Match[str]) -> str:
        return match[0] if match[0] in names else plain.get(re.sub(signs, "", match[0]).lower(), match[0])

    return re.sub(rf"(?<=[\"'])(?i:{written})(?=[\"'])", offered, answer)


def _without_ticks(span: re.Match[str]) -> str:
    label = span["label"]
    return span[0] if _SAID_OF_IT.search(label) else f"{label}{span['inside']}"


# Where a name stands as that of a call


def _objects(answer: str, name: str, tools: Mapping[str, Tool]) -> Iterator[tuple[str, Place]]:
    """Names as values in JSON or in literals of Python, with arguments beside them."""
    for match in re.finditer(rf"[\"'“]{name}(?:\\*[\"'”]|\()", answer):
        start, value, end = _around(answer, match.start())
        if start < 0:
            continue
        if end > 0:
            called = any(_is_call(each, tools[match["tool"]]) for each in _inner(value, tools.values()))
        else:
            called = _is_broken_call(answer[start:], name)
        if called:
            yield match["tool"], Place(start, end if end > 0 else len(answer))
    for match in re.finditer(
        rf"\{{\s*{_KEY.format(NAME_KEYS)}[\"']{name}[\"']?[,\s]*(?:\"\w*\"?[\s:]*)?\Z", answer
    ):
        yield match["tool"], Place(match.start(), len(answer))


def _around(answer: str, at: int) -> tuple[int, Any, int]:
    """The outermost object or list that holds a position: where it begins, its value and where it ends.

    The end is 0 where it cannot be read; the beginning -1 where nothing opens.
    """
    opened = [match.start() for match in re.finditer(r"[\[{]", answer[:at])][-40:]
    for start in opened:
        value, end = _value_at(answer, start)
        if end > at:
            return start, value, end
    braces = [start for start in opened if answer[start] == "{"]
    return (braces[-1] if braces else -1), None, 0


@lru_cache(maxsize=64)  # every name within asks again
def _value_at(answer: str, start: int) -> tuple[Any, int]:
    """The object or list that begins at a position and where it ends, 0 where it cannot be read."""
    try:
        return DECODER.raw_decode(answer, start)
    except (ValueError, *NESTED):
        try:
            end = closing_bracket(answer, start)
            return decode_literal(answer[start:end]), end
        except (ValueError, Unreadable):
            return None, 0


def _inner(value: Any, tools: Iterable[Tool]) -> Iterator[Any]:
    """A value and all that it holds, in texts too, but for what it says is no call of its own."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and each.lstrip()[:1] in ("{", "["):
            try:
                each = decode_literal(each.strip())
            except ValueError:
                continue
        yield each
        if isinstance(each, dict):
            for key, inner in each.items():
                if _SAID_OF_IT.search(str(key).replace("_", " ")):
                    continue
                said = (
                    inner
                    if isinstance(inner, str) and re.fullmatch(rf"{NAME_KEYS}|\w*code", str(key))
                    else ""
                )
                if said.endswith(")") and (tool := spelled_call(said, tools)):
                    waiting.append([tool, []])
                elif not (isinstance(inner, str) and key in REPORT_KEYS):
                    waiting.append(inner)
        elif isinstance(each, list):
            waiting.extend(each)


def _is_call(value: Any, tool: Tool) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and value[0] == tool.name and (value[1] == [] or _are_arguments(value[1]))
    if not isinstance(value, dict) or value.keys() & set(REPORT_KEYS):
        return False
    if tool.name in value:
        own = value[tool.name]
        if isinstance(own, str):
            return len(value) == 1 and bool(_parameters(tool))
        return isinstance(own, dict) and (
            own.keys() <= _parameters(tool) if len(value) == 1 else _are_asked(own, tool)
        )
    keys = [
        key
        for key, each in value.items()
        if isinstance(each, str) and tool.name in (each, re.split(r"\.|__", each)[-1])
    ]
    if not keys:
        return False
    # What comes before the name may be a thought, or an id.
    after = dict(list(value.items())[list(value).index(keys[-1]) + 1 :])
    is_name = re.fullmatch(rf"{NAME_KEYS}|type", str(keys[-1])) is not None
    return ((after or is_name) and _are_asked(after, tool)) or any(
        re.fullmatch(ARGUMENT_KEYS, str(key), re.IGNORECASE)
        and (
            _are_arguments(each)
            or (key in TEXT_KEYS and isinstance(each, str))
            or (each is None and len(value) == 2 and not tool.parameters.get("required"))
        )
        for key, each in value.items()
    )


def _are_asked(values: Mapping[str, Any], tool: Tool) -> bool:
    """Whether values are what a tool asks for: each a parameter of its, none missing that it requires."""
    return values.keys() <= _parameters(tool) and set(tool.parameters.get("required", ())) <= values.keys()


def _parameters(tool: Tool) -> set[str]:
    return set(tool.parameters.get("properties", ()))


def _are_arguments(value: Any) -> bool:
    """Whether a value is what a call hands over, not the schema of it: names of types, too."""
    if isinstance(value, str):
        try:
            value = decode_literal(value)
        except ValueError:
            return False
    if isinstance(value, list) and value:  # of pairs
        return all(isinstance(pair, dict) and len(pair) == 2 and "value" in pair for pair in value)
    if not isinstance(value, dict) or "properties" in value or value.get("type") == "object":
        return False
    return not value or not all(re.fullmatch(_TYPES, str(each)) for each in value.values())


def _is_broken_call(rest: str, name: str) -> bool:
    """Whether what cannot be read begins as an object with the name of a tool and arguments."""
    keys = _KEY.format(NAME_KEYS), _KEY.format(ARGUMENT_KEYS)
    match = re.match(rf"\{{[^{{}}]*?{keys[0]}[\"'“]{name}[\"'”][^{{}}]*?{keys[1]}", rest)
    return match is not None and not re.search(_KEY.format("|".join(REPORT_KEYS)), match[0])


_BEFORE_EXPRESSION = (
    r"(?:^|(?<=[>\])|:])|(?P<said>(?<=[.!?][ \n])))[ \t]*"
    rf"(?:[^\w\s{_QUOTES}<>\[\](){{}}|#*•.,;:+{_TICKS}-]+[ \t]*)?"
    r"(?:(?:(?:const|let|var)[ \t]+)?\w+[ \t]*=[ \t]*)?(?:\w+\(|await[ \t]+)?(?:[\[(][\s\[(]*)?"
)
"""The beginning of a line, a mark, a label or the end of a sentence, and signs such as arrows, not ticks."""
_AFTER_EXPRESSION = re.compile(
    r"[\s\])}.,;]*(?:$|\Z|<|\[/|\(|```|(?<=\])[A-Z]|[A-Za-z_][\w.]*\()", re.MULTILINE
)


def _expressions(answer: str, name: str) -> Iterator[tuple[str, Place]]:
    """Call expressions that make up a line, a list, what stands between two marks, or a fence."""
    for match in re.finditer(rf"{_BEFORE_EXPRESSION}{name}(?:\.call)?\s*\(", answer, re.MULTILINE):
        opening = match.end() - 1
        try:
            end = closing_bracket(answer, opening)
            values = _are_values(answer[opening + 1 : end - 1])
        except Unreadable:
            end, values = len(answer), True
        if (bracket := match[0].find("[")) >= 0:
            end = _end(answer, match.start() + bracket)
        after = _AFTER_EXPRESSION.match(answer, end) or re.compile(r" (?=I[ '’])").match(answer, end)
        if values and after and (match["said"] is None or not answer[after.end() :].strip()):
            yield match["tool"], Place(match.end() - len(match[0].lstrip()), end)
    for match in re.finditer(rf"^\s*\[\s*{name}\Z", answer, re.MULTILINE):
        yield match["tool"], Place(match.start(), len(answer))


def _are_values(arguments: str) -> bool:
    """Whether arguments are handed over, not the parameters of a signature or the variables of a program."""
    first = re.match(r"\s*([A-Za-z_]\w*)\s*(?:,|:|\Z)", arguments)
    return first is None or first[1] in ("True", "False", "None", "true", "false", "null")


_SIGNS = r"[^\w\s<>\[\](){}\"'`|-]*"
_BULLET = r"(?:[-*•][ \t]+)?"
_LABEL = rf"(?:{_BULLET}{_SIGNS}[^\W\d][\w -]{{0,20}}{_SIGNS}:[*_]*[ \t]*)?"
"""What a line is, such as an action or its input."""
_NAME_LABEL = rf"(?:{_BULLET}{_SIGNS}(?:\w+[ _])?(?i:{NAME_KEYS})(?:[ _]\w+)?{_SIGNS}:[*_]*[ \t]*)?"
_ANNOUNCED = r"(?:calling|invoking|running|using|call|invoke|run|use)[ \t]+(?:the[ \t]+)?(?:tool|function)?"
_CALLING = r"(?i:call\w*|invok\w*|request\w*|use|using|run\w*)"


def _named(answer: str, name: str, tools: Mapping[str, Tool]) -> Iterator[tuple[str, Place]]:
    """Names in tags, attributes, recipients and headers, followed by arguments."""
    bare = rf"[*_`\"]*(?:function)?{name}[*_`\"]*(?::\d+)?"
    labelled = rf"(?:^|(?<=[>\]|=(:*.]))[ \t]*{_LABEL}{bare}"
    after = (
        r"[ \t]*\]?[ \t]*(?:\w++[ \t]?(?=<|\W)|<[|｜][^|｜<>]*[|｜]>|\[[A-Z_]*\]|[:=])*+\s*(?:```\w*\s*)?"
        r"(?=\{\s*(?:[\"'}]|\w+:|\Z))",
        r"\s*(?=<arg)",
        rf"[ \t]*\n+\s*{_LABEL}\s*(?:```\w*\s*)?(?=\{{)",
        r"[ \t]+(?:--[\w-]+(?=[ \t=])|\w+=(?=[\"'\d\[{]))",
    )
    keys = "|".join(map(re.escape, sorted(set().union(*map(_parameters, tools.values())))))
    tags = (
        rf"(?:^|(?<=[.!?] ))[ \t]*{_NAME_LABEL}{bare}[\s|]*{_BULLET}"
        rf"(?:\w+ )?(?i:{ARGUMENT_KEYS})[ \t]*:(?!\s*[\w-]+:[ \t]*(?!{_TYPE}))\n?[^\n]*",
        rf"<(?!/)[^<>\n]*(?<![\w.]){name}(?![\w.])[^<>\n]*(?:/>|(?<!/)>(?!\s*<[^<>]*\btype=[^<>]*/>)\s*[{{(<])",
        rf"<[\w:-]+>\s*{name}\s*(?:</[\w:-]+>)?\s*<(?:/?\w*arg|{ARGUMENT_KEYS}\b|(?:{keys or '(?!)'})\b)",
        rf"^[ \t]*(?:\w+[ _])?(?i:{NAME_KEYS})(?:[ _]\w+)?:[ \t]*{name}\[[^\]\n]*\]",
        rf"{_WRAPPER}\s*{name}\s*(?=<|\[/|\Z)",
        rf"<(?P<tag>tool|function|action)>\s*{name}\s*</(?P=tag)>\s*\Z",
        rf"<(?P<tag>\w+)>\s*{name}\s*</(?P=tag)>\s*(?:<\w+>\s*)?(?=\{{)",
        rf"\A\s*<{name}>[ \t]+[^\s<]",
        rf"(?:\A|\n[ \t]*\n)[ \t]*<{name}>[^<>\n]+</(?P=tool)>[ \t]*(?=\n[ \t]*\n|\s*\Z)",
        rf"^[ \t]*(?i:{_ANNOUNCED})[ \t]*[*_`]*{name}[*_`]*[ \t]+\w+[ \t]+`?(?=\{{)",
        rf"^[ \t]*\[(?:\w+[ _])*{_CALLING}(?:[ \t]+(?:tool|function))?[ \t]*[:=]?[ \t]*{name}\b[^\n]*\]",
    )
    for match in re.finditer(rf"^[ \t]*{_NAME_LABEL}(?<=[ \t:]){name}[ \t]*\n", answer, re.MULTILINE):
        tool, rest = tools[match["tool"]], answer[match.end() :]
        given = re.findall(rf"^[ \t]*([\w-]+)[ \t]*[:=](?!\s*{_TYPES}\s*$)", rest, re.MULTILINE)
        if given and given[0] in _parameters(tool) and set(tool.parameters.get("required", ())) <= {*given}:
            yield tool.name, Place(match.start(), len(answer))
    for pattern in (*(labelled + each for each in after), *tags):
        for match in re.finditer(pattern, answer, re.MULTILINE):
            if not re.match(r"\s*\{\s*\"(?:type\"\s*:\s*\"object|description)\"", answer[match.end() :]):
                yield match["tool"], Place(match.start(), _end(answer, match.end()))


_ARGUMENT = re.compile(r"\w[\w-]*[ \t]*[:=][ \t]*\S.*|<[\w-]+>.*|\"[^\"]*\"|'[^']*'|\S+")
"""A line that hands something over: a pair, an element, a text in quotes, a single word."""


def _alone(answer: str, name: str, tools: Mapping[str, Tool]) -> Iterator[tuple[str, Place]]:
    """Names that have a line to themselves, with lines of arguments, and nothing else, up to the end.

    A line that says that a tool is called needs no arguments.
    """
    announced = rf"^[ \t]*[\[(<*_`]*(?i:{_ANNOUNCED})[ \t:*_`]*{name}[\])>*_`]*[ \t]*:?[ \t]*$"
    for match in re.finditer(announced, answer, re.MULTILINE):
        yield match["tool"], Place(match.start(), match.end())
    for match in re.finditer(rf"^[ \t]*{_NAME_LABEL}[*_`]*{name}[*_`]*[ \t]*:?[ \t]*$", answer, re.MULTILINE):
        before = re.sub(r"```\w*[ \t]*\n\Z", "\n\n", answer[: match.start()])
        lines = [line.strip() for line in answer[match.end() :].splitlines() if line.strip(" \t`")]
        keys = {line.split(":")[0].strip(" *`-") for line in lines if re.match(r"\w[\w-]*[ \t]*:", line)}
        of_others = keys and not any(re.search(r"(?i)arg|param|input", key) for key in keys)
        arguments = all(_ARGUMENT.fullmatch(line) for line in lines) and not (
            of_others and keys.isdisjoint(_parameters(tools[match["tool"]]))
        )
        if arguments and not any(re.match(name, line) for line in lines):
            whole = not before.strip()
            # One that follows a line of text is a word among others in a list.
            if (lines and re.search(r"\n\s*\n\Z", before)) or whole:
                yield match["tool"], Place(match.start(), len(answer))


_TYPE = rf"(?!{_TYPES}\b)"
_VALUE = (
    r"(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\[[^\[\]]*\]|\{[^{}]*\}"
    rf"|{_TYPE}[^\s\"',;(){{}}\[\]<>=]+)"
)
"""Also without quotes; but the name of a type is none."""
_OPENING = re.compile(
    rf"(?:{_LABEL}|(?i:{_ANNOUNCED})[ \t]+|[^\W\d]\w*[ \t]+)?[^\w\s]*[ \t]*(?:\w+[./])*",
)
"""Before a name: a label, words that say that it is called, or one word, and signs."""
_BETWEEN = re.compile(
    rf"[^\w\s]*(?:[ \t]+with\b)?(?:[\s,]*(?i:{ARGUMENT_KEYS})\b)?(?:\s*[:=](?!\w))?[\s({{\[<\"'`]*"
)
"""Between a name and what is handed over."""
_CLOSING = re.compile(r"[ \t]*[)\]}>]*")
_PAIR = re.compile(r"[\s,;]*[\"'“]?\w+[\"'”]?[ \t]*[:=]")


def _paired(answer: str, tool: Tool) -> Iterator[tuple[str, Place]]:
    """A name, followed by values for all parameters that the tool requires, for one at least, and no others.

    Where it requires one alone, its value needs no name.
    """
    name, required = re.escape(tool.name), set(tool.parameters.get("required", ()))
    if not _parameters(tool):
        return
    keys = "|".join(map(re.escape, sorted(_parameters(tool), key=len, reverse=True)))
    pair = re.compile(
        rf"[\s,;]*[\"'“]?(?:[-:]{{1,2}}(?P<option>{keys})[ \t=]+"
        rf"|(?P<key>{keys})[\"'”]?\s*(?:=>|[:=])\s*){_VALUE}"
    )
    sole = re.compile(
        rf"{name}[ \t]+(?:\"[^\"\n]+\"|'[^'\n]+')[ \t]*$|(?<=^[/!@]){name}[ \t]+\S+$"
        rf"|(?<=<){name}>[^<>\n]+</{name}>"
        rf"|\A{name}:[ \t]+[^\n]*[^\s.!?]\s*\Z",
        re.MULTILINE,
    )
    for match in re.finditer(rf"(?<![\w\"'“-]){name}(?![\w-])", answer):
        start = max(answer.rfind("\n", 0, match.start()) + 1, match.start() - 100)
        if not _OPENING.fullmatch(answer, start, match.start()):
            continue
        if len(required) == 1 and (value := sole.match(answer, match.start())):
            yield tool.name, Place(match.start(), value.end())
        at, given = _past(_BETWEEN, answer, match.end()), set[str]()
        while each := pair.match(answer, at):
            given.add(each["option"] or each["key"])
            at = each.end()
        others = _PAIR.match(answer, at)
        at = _past(_CLOSING, answer, at)
        opening = answer[start : match.start()].lstrip()
        is_told = _SAID_OF_IT.search(opening) is not None or set(opening) & set(_TICKS)
        if given and required <= given and not others and not is_told and _AFTER_EXPRESSION.match(answer, at):
            yield tool.name, Place(match.start(), at)


_PARAGRAPH = re.compile(r"(?:[^\n]|\n(?![ \t]*\n)|(?<=:)\n\s*)+")
_CALL_WORD = re.compile(
    r"(?:tool|function|call|name|id|type|arg|argument|parameter|param|input|action|use)s?|calling|using"
    r"|kwargs|key|value|recipient|invoke|request|json|from|to|assistant|commentary|content"
    r"|with|these|the|following|and|i|ll|now|will|let|me|dict"
)
"""What is said of a call beside what makes it up."""


def _dressed(answer: str, tool: Tool) -> Iterator[tuple[str, Place]]:
    """Paragraphs of the name, a value for each parameter that is required, and words for what these are."""
    keys = "|".join(map(re.escape, sorted(_parameters(tool), key=len, reverse=True)))
    required = set(tool.parameters.get("required", ()))
    if not keys:
        return
    pair = re.compile(
        rf"(?<!\w)(?:(?P<key>{keys})|\w*?id|type)[\"'”]*\s*(?:[:=|]>?\s*|>\s*(?!:)|\n\s*)(?=\S)"
        rf"(?:{_VALUE}(?=\s*(?:[,;}})\]<\"'|]|$))|(?![\"']){_TYPE}[^\n,<>{{}}()\[\]]+)",
        re.MULTILINE,
    )
    for match in _PARAGRAPH.finditer(answer):
        start, end = match.span()
        if (fence := _FENCE.match(match[0].strip())) is not None:
            start = answer.index(fence["inside"], start)
            end = start + len(fence["inside"])
        written = answer[start:end]
        if fence is not None and fence["language"] == tool.name:
            written = f"{tool.name}\n{written}"
        paragraph = re.sub(rf"(?<![^\W_]){re.escape(tool.name)}(?!\w)", "", written)
        pairs = [*pair.finditer(paragraph)]
        given = {each["key"] for each in pairs} - {None}
        if not given or all(re.search(rf"\W{_TYPES}\W*\Z", each[0]) for each in pairs):
            continue
        is_quotation = {written.strip()[:1], written.strip()[-1:]} <= set(_QUOTES)
        if is_quotation or paragraph == written or not required <= given:
            continue
        paragraph = re.sub(r"<[|｜][^|｜<>]*[|｜]>", " ", paragraph)
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", pair.sub("", paragraph)).lower()
        if all(map(_CALL_WORD.fullmatch, re.findall(r"[^\W\d]+", words))):
            yield tool.name, Place(start, end)


def _past(pattern: re.Pattern[str], answer: str, at: int) -> int:
    """Where a pattern ends that begins at a position, if it does."""
    match = pattern.match(answer, at)
    return match.end() if match else at


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
    start, end = _outer(answer, place)
    sides = answer[:start].rstrip()[-1:] + answer[end:].lstrip()[:1]
    if len(sides) == 2 and set(sides) <= set(_QUOTES):
        return False
    before, rest = answer[:start].rsplit("\n", 1)[-1], answer[end:].split("\n", 1)[0]
    # Three of them, glued to a name, begin a call.
    is_quotation = before.lstrip().startswith(">") and not before.endswith(">>>")
    if is_quotation or _is_quoted(before, rest) or _is_sentence(before, rest):
        return False
    return not _is_shown(answer[:start], answer[end:])


_MARKS_BEFORE = re.compile(
    r"(?:<\|[^|<>]*\|>[^<>\n]*(?=<|\Z)|<[^<>]*>|\[/?[A-Z_]+\]|\w+(?=[<\[]|\Z)"
    r"|(?:\w+[ \t]+)?to=|(?<=to=)[\w.]+|[\[{]|\s)*\Z"
)
"""Marks, the words that are glued to them, and recipients."""
_MARKS_AFTER = re.compile(r"(?:<[^<>]*>|\[/?[A-Z_]+\]|\s)*(?<!\s)")
_LAST_MARK = re.compile(r".*(?:</[^<>]*>|[|｜]>|\[/[A-Z_]+\])", re.DOTALL)


def _outer(answer: str, place: Place) -> Place:
    """A place with the marks around it, as far as the last of those after it."""
    first = max(0, place.start - 200)
    before, last = _MARKS_BEFORE.search(answer, first, place.start), _LAST_MARK.match(answer, place.end)
    end = last.end() if last else place.end
    after = _MARKS_AFTER.match(answer, end)
    start = before.start() if before else place.start
    space = len(answer[start : place.start]) - len(answer[start : place.start].lstrip())
    return Place(start + space, after.end() if after else end)


def _is_quoted(before: str, rest: str) -> bool:
    """Whether a quotation begins before a call and ends after it, or a bracket in a sentence, on its line."""
    opened = [mark for mark in _QUOTES if before.count(mark) % 2 or (mark in "“‘«„「" and mark in before)]
    in_brackets = re.search(r"\w[ \t]\([^()]*\Z", before) is not None and ")" in rest
    return in_brackets or (bool(opened) and any(mark in rest for mark in _QUOTES))


def _is_sentence(before: str, rest: str) -> bool:
    """Whether the line of a call is a sentence, which goes on after it."""
    follows = re.match(r"[ \t]*(?:[,;.]?[ \t]+|。)([^\W\d_])", _TAG.sub("", rest))
    begun = re.search(r"[^\s.!?][ \t]*\Z", _TAG.sub("", before)) is not None
    return follows is not None and (follows[1].islower() or begun)


def _is_shown(before: str, after: str) -> bool:
    """Whether the line before a call, or the one after it, says that it is not made."""
    opening, closing = list(_RULE.finditer(before)), _RULE.search(after)
    if opening and closing and before[: opening[-1].start()].rstrip().endswith(":"):
        before, after = before[: opening[-1].start()], after[closing.end() :]
    listed = re.search(rf"^{_ITEM}*\Z", before, re.M)
    is_item = listed is not None and bool(listed[0])
    before = _ITEMS_BEFORE.sub("", before).rstrip("\n") if listed else before
    if is_item and (above := _TITLE.sub("", before).rstrip()).endswith(":"):
        before = above
    said = _MARKS_BEFORE.sub("", before[-400:]).rsplit("\n", 1)[-1].replace("_", " ")
    if is_item and said.endswith("?"):  # it is one of several answers
        return True
    if re.search(r"^\s*File \".*\", line \d+", said):  # of a traceback
        return True
    if re.search(r"^\W*(?:user|human)[\W_]*:", before, re.IGNORECASE | re.MULTILINE):  # of a conversation
        return True
    if re.match(r"\s*[a-z]+ [^\n]*[.!?]\s*$", _TAG.sub("", after), re.MULTILINE):  # its sentence goes on
        return True
    goes_on = bool(_TAG.sub("", after).strip())
    is_begun = re.search(r"[^\s.!?:][ \t]*\Z", said) is not None
    if is_begun and re.search(f"{_CONDITION}|{_CONTENT}", said.rsplit(". ", 1)[-1], re.IGNORECASE):
        return True
    is_caption = said.endswith(":") and said.strip(" \t:") and not said.lstrip().startswith(("{", "["))
    return bool(is_caption) and _is_told(said, goes_on)


def _is_told(caption: str, goes_on: bool) -> bool:
    """Whether the line before a call is of something else than what its author does now.

    Args:
        caption: the line.
        goes_on: whether the reply does, after the call.
    """
    if _SAID_OF_IT.search(caption) is not None:
        return True
    last = re.split(r"(?<=[.!?]) ", caption)[-1]
    if goes_on and re.search(r"\b(?:I|we) \w+ed\b", last):
        return True
    is_of_text = _OF_A_TEXT.search(last) is not None or (goes_on and _LABEL_WORDS.fullmatch(last) is None)
    return is_of_text and _OF_ITS_AUTHOR.search(last) is None


def _is_meant_in_fence(answer: str, fence: re.Match[str], place: Place) -> bool:
    inside = fence["inside"]
    is_object = answer[place.start : place.start + 1] in ("{", "[") and not re.match(
        r"\[\s*\w+\(", answer[place.start :]
    )
    is_object |= re.match(r"```\w*(?:tool|function|call)", fence[0]) is not None
    is_whole = inside.strip() == answer[slice(*place)].strip()
    if not is_object and not is_whole and not _is_all_calls(inside, place.start - fence.start("inside")):
        return False
    if re.search(r"\w[ \t]+\S*['\"]\Z", answer[fence.start("inside") : _outer(answer, place).start]):
        return False  # what a command of a program hands over
    before, after = answer[: fence.start()], _TAG.sub("", answer[fence.end() :])
    if _is_shown(before, after):
        return False
    if not after.strip():
        return True
    # An essay goes on after its example; a call in a fence waits for its result.
    return is_object and not _SAID_OF_IT.search(before + after)


def _is_all_calls(inside: str, first: int) -> bool:
    """Whether a fence holds calls alone from the first on, and no program."""
    try:
        statements = ast.parse(inside.strip()).body
    except (SyntaxError, ValueError, *NESTED):
        # In another language: from its first line on.
        program = r"^\s*(?:def|function|import|from|class|for|if|while|with|return|#)\b|=>"
        return (
            "\n" not in _TAG.sub("", inside[:first]).lstrip()
            and re.search(program, inside, re.MULTILINE) is None
        )
    kinds = (ast.Call, ast.List, ast.Await)
    return all(
        isinstance(each, ast.Expr | ast.Assign) and isinstance(each.value, kinds) for each in statements
    )
