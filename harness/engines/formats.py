"""How tool calls are written, by vLLM's name of the parser that reads them: a second reading. Pure functions.

Parsers are lenient: a broken body becomes a call without arguments, a string another string, a quotation a
call. So each format is also kept here as it is published, and read strictly: whatever stands inside of a call
and has no place there makes it unreadable. `replies.py` compares the two readings.
"""

import re
from typing import Any

from harness.engines.payloads import (
    ELEMENT,
    Body,
    Unreadable,
    gemma_arguments,
    json_arguments,
    json_call,
    json_named,
    markup,
    python_call,
)
from harness.types import Struct


class Format(Struct):
    """A block of calls, each between a head and a tail. All but the body are regular expressions."""

    begin: str
    """By what a reader knows that a call is meant."""
    body: Body
    """Reads the part of a call that no regular expression can: its arguments, or all of it."""
    opens: str = ""
    """What stands before the first call of a block."""
    head: str = ""
    """Before the body of each call. A group `name` is the tool's name, a group `id` the call's id."""
    tail: str = ""
    between: str = r"\s*"
    closes: str = r"\Z"
    """What stands after the last call of a block."""
    bare: bool = False
    """Calls have no mark: what begins like one and is none is an answer."""


class WrittenCall(Struct):
    """A call as it was written. Arguments of markup are `Text`: only the tool's schema tells their types."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


class Written(Struct):
    """What was read out of an answer."""

    calls: tuple[WrittenCall, ...] = ()
    text: str = ""
    """The answer without its calls."""
    problem: str | None = None
    """Why something in the answer that began as a call cannot be read."""
    rest: str = ""
    """The text without the calls and marks that it quotes or speaks of."""
    bare: bool = False
    """Calls need no mark: one that cannot be read is still among the text."""


NAME = r"(?P<name>[\w./-]+)"


def _tagged(tag: str, *, trimmed: bool = False) -> Format:
    """Calls of `<function=name>` and `<parameter=name>` between two tags."""
    return Format(
        begin=rf"<{tag}>|<function=",
        opens=rf"(?:<{tag}>)?\s*",
        head=rf"<function={NAME}>",
        body=markup(r"<parameter=(?P<key>[^>\n]+)>", "</parameter>", trimmed=trimmed),
        tail=rf"\s*(?:</function>|(?=</{tag}>))",
        closes=rf"\s*(?:</{tag}>|\Z)",
    )


def _invoked(block: str, prefix: str = "", attributes: str = "", **rest: str) -> Format:
    """Calls of `<invoke name="...">` and `<parameter name="...">` in a block."""
    return Format(
        begin=rest.get("begin", rf"<{prefix}{block}>|<{prefix}invoke "),
        opens=rest.get("opens", rf"(?:<{prefix}{block}>)?\s*"),
        head=rf"<{prefix}invoke name=[\"']?{NAME}[\"']?>",
        body=markup(
            rf"<{prefix}parameter name=[\"']?(?P<key>[^>\"'\n]+)[\"']?{attributes}>", f"</{prefix}parameter>"
        ),
        tail=rf"\s*</{prefix}invoke>",
        closes=rest.get("closes", rf"\s*(?:</{prefix}{block}>|\Z)"),
    )


def _keyed(begin: str, *, opens: str = "", name_end: str = "", closes: str = "") -> Format:
    """Calls of `<arg_key>` and `<arg_value>`."""
    return Format(
        begin=begin,
        opens=opens,
        head=rf"<tool_call>\s*{NAME}\s*{name_end}",
        body=markup(r"<arg_key>\s*(?P<key>[^<\n]+?)\s*</arg_key>\s*<arg_value>", "</arg_value>"),
        tail=r"\s*</tool_call>",
        closes=closes,
    )


def _deepseek(between_name_and_arguments: str, before: str, tail: str) -> Format:
    return Format(
        begin="<｜tool▁calls▁begin｜>|<｜tool▁call▁begin｜>",
        opens=r"(?:<｜tool▁calls▁begin｜>)?\s*",
        head=rf"<｜tool▁call▁begin｜>{before}{NAME}{between_name_and_arguments}",
        body=json_arguments,
        tail=tail + r"\s*<｜tool▁call▁end｜>",
        closes=r"\s*(?:<｜tool▁calls▁end｜>|\Z)",
    )


def _python(begin: str, opens: str, closes: str, *, between: str = r"\s*,\s*", bare: bool = False) -> Format:
    return Format(begin=begin, opens=opens, body=python_call, between=between, closes=closes, bare=bare)


def _array(begin: str, end: str = "", body: Body = json_call) -> Format:
    """Calls in one list of JSON."""
    return Format(
        begin=begin, opens=begin + r"\s*\[\s*", body=body, between=r"\s*,\s*", closes=rf"\s*\]{end}"
    )


def _object(begin: str, end: str) -> Format:
    """Each call an object of JSON between two marks."""
    closes = rf"\s*(?:{end}|\Z)"
    return Format(begin=begin, opens=rf"{begin}\s*", body=json_call, between="(?!)", closes=closes)


HERMES = _object("<tool_call>", "</tool_call>")
LISTED = _array("<tool_calls>", r"\s*(?:</tool_calls>|\Z)")
GLM = _keyed("<tool_call>")
MINIMAX = re.escape(ELEMENT)
_BARE_LIST = r"\[(?=\s*[A-Za-z_][\w.]*\()"
_LAST_OBJECT = r"(?!\s*;\s*\{)"
_PYTHON_ENDS = r"\s*,?\s*\]"

FORMATS: dict[str, tuple[Format, ...]] = {
    "apertus": (_array(r"<\|tools_prefix\|>", r"\s*(?:<\|tools_suffix\|>|\Z)", json_named),),
    "deepseek_v3": (_deepseek(r"\s*```(?:json)?\s*", "(?:function)?<｜tool▁sep｜>", r"\s*```"),),
    "deepseek_v31": (_deepseek("<｜tool▁sep｜>", "", ""),),
    "deepseek_v32": (_invoked("function_calls", "｜DSML｜", r'(?: string="(?P<string>true|false)")?'),),
    "deepseek_v4": (_invoked("tool_calls", "｜DSML｜", r'(?: string="(?P<string>true|false)")?'),),
    "dots": (_invoked("dots_function_call"),),
    "gemma4": (
        Format(
            begin=r"<\|tool_call>",
            head=rf"<\|tool_call>\s*call:\s*{NAME}\s*(?=\{{)",
            body=gemma_arguments,
            tail=r"\s*(?:<tool_call\|>|\Z)",
            closes="",
        ),
    ),
    "glm45": (GLM,),
    "glm47": (GLM,),
    "granite": (_array(r"<\|tool_call\|>"),),
    "granite4": (HERMES,),
    "hermes": (HERMES,),
    "hunyuan_a13b": (LISTED,),
    "hy_v3": (
        _keyed(
            "<tool_calls>|<tool_call>",
            opens=r"(?:<tool_calls>)?\s*",
            name_end="(?:<tool_sep>)?",
            closes=r"\s*(?:</tool_calls>|\Z)",
        ),
    ),
    "inkling": (_object(r"<\|content_invoke_tool_json\|>", r"<\|end_message\|>"),),
    "internlm": (_object(r"<\|action_start\|>\s*<\|plugin\|>", r"<\|action_end\|>"),),
    "jamba": (LISTED,),
    "kimi_k2": (
        Format(
            begin=r"<\|tool_calls_section_begin\|>|<\|tool_call_begin\|>",
            opens=r"(?:<\|tool_calls_section_begin\|>)?\s*",
            head=rf"<\|tool_call_begin\|>\s*(?P<id>(?:functions\.)?{NAME}(?<!\.)(?::\d+)?)\s*"
            r"<\|tool_call_argument_begin\|>\s*",
            body=json_arguments,
            tail=r"\s*<\|tool_call_end\|>",
            closes=r"\s*(?:<\|tool_calls_section_end\|>|\Z)",
        ),
    ),
    "kimi_k3": (
        Format(
            begin=r"<\|open\|>tools<\|sep\|>",
            opens=r"<\|open\|>tools<\|sep\|>\s*",
            head=rf'<\|open\|>call tool="{NAME}"[^<]*<\|sep\|>',
            body=markup(
                r'<\|open\|>argument key="(?P<key>[^"]+)" type="(?P<type>\w+)"<\|sep\|>',
                "<|close|>argument<|sep|>",
            ),
            tail=r"\s*<\|close\|>call<\|sep\|>",
            closes=r"\s*(?:<\|close\|>tools<\|sep\|>|\Z)",
        ),
    ),
    "lfm2": (
        _python(
            r"<\|tool_call_start\|>",
            r"<\|tool_call_start\|>\s*\[\s*",
            _PYTHON_ENDS + r"\s*(?:<\|tool_call_end\|>|\Z)",
        ),
    ),
    "ling3": (GLM,),
    "llama3_json": (
        Format(
            begin=r"<\|python_tag\|>",
            opens=r"<\|python_tag\|>\s*",
            body=json_call,
            between=r"\s*;\s*",
            closes=_LAST_OBJECT,
        ),
        Format(
            begin=r'\{(?=\s*"(?:name|type|function|arguments|parameters)"\s*:)',
            body=json_call,
            between=r"\s*;\s*",
            closes=_LAST_OBJECT,
            bare=True,
        ),
    ),
    "llama4_pythonic": (
        _python(
            r"<\|python_start\|>",
            r"<\|python_start\|>\s*\[\s*",
            _PYTHON_ENDS + r"\s*(?:<\|python_end\|>|\Z)",
        ),
        _python(_BARE_LIST, r"\[\s*", _PYTHON_ENDS, bare=True),
    ),
    "longcat": (_object("<longcat_tool_call>", "</longcat_tool_call>"),),
    "mimo": (_tagged("tool_call"),),
    "minimax_m2": (_invoked("minimax:tool_call"),),
    "minimax_m3": (
        Format(
            begin=rf"{MINIMAX}<(?:tool_call>|invoke )",
            opens=rf"(?:{MINIMAX}<tool_call>)?\s*",
            head=rf"{MINIMAX}<invoke name=[\"']?{NAME}[\"']?>",
            body=markup(rf"{MINIMAX}<(?P<key>[^/>\n][^>\n]*)>", ELEMENT + "</{key}>"),
            tail=rf"\s*{MINIMAX}</invoke>",
            closes=rf"\s*(?:{MINIMAX}</tool_call>|\Z)",
        ),
    ),
    "mistral": (
        _array(r"\[TOOL_CALLS\]\s*(?=\[(?!ARGS\]|CALL_ID\]))"),
        Format(
            begin=r"\[TOOL_CALLS\]",
            head=rf"\[TOOL_CALLS\]\s*{NAME}\s*(?:\[CALL_ID\](?P<id>\w+))?\s*(?:\[ARGS\]\s*|(?=\{{))",
            body=json_arguments,
            closes="",
        ),
    ),
    "muse_glimmer": (
        _invoked(
            "function_calls", "atem:",
            begin=r"(?:<\|start\|>assistant)?\s?to=(?!self\b|user\b)[\w.-]+(?:<\|message\|>|\Z)"
            "|<atem:function_calls>|<atem:invoke ",
            opens=r"(?:(?:<\|start\|>assistant)?\s*to=[\w.-]+<\|message\|>)?\s*(?:<atem:function_calls>)?\s*",
            closes=r"\s*</atem:function_calls>\s*(?:<\|eom\|>|<\|eot\|>|\Z)",
        ),
    ),
    "olmo3": (
        _python(
            "<function_calls>", r"<function_calls>\s*", r"\s*(?:</function_calls>|\Z)", between=r"\s*?\n\s*"
        ),
    ),
    "openai": (
        Format(
            begin=r"(?:<\|start\|>assistant)?(?:<\|channel\|>\w+\s+)?\s?to=(?:functions\.|\w*\Z)",
            head=rf"(?:<\|start\|>assistant)?(?:<\|channel\|>\w+\s+)?\s*to=functions\.{NAME}"
            r"(?:\s*<\|channel\|>\s*\w+)?(?:\s*<\|constrain\|>\s*\w+|\s+(?:json|code))?\s*<\|message\|>\s*",
            body=json_arguments,
            tail=r"\s*(?:<\|call\|>|<\|end\|>|\Z)",
            closes="",
        ),
    ),
    "phi4_mini_json": (_array("functools(?=\\s*\\[)"),),
    "poolside_v1": (GLM,),
    "pythonic": (_python(_BARE_LIST, r"\[\s*", _PYTHON_ENDS, bare=True),),
    "qwen3_coder": (_tagged("tool_call", trimmed=True),),
    "qwen3_json": (HERMES,),
    "qwen3_xml": (_tagged("tool_call", trimmed=True),),
    "seed_oss": (_tagged("seed:tool_call"),),
    "step3p5": (_tagged("tool_call", trimmed=True),),
}  # fmt: skip


def read_written(answer: str, formats: tuple[Format, ...]) -> Written:
    """Read every call of an answer as its format has it.

    Args:
        answer: what the model wrote, without its reasoning.
        formats: of its family, each tried where its mark stands first.
    """
    calls: list[WrittenCall] = []
    text, rest = "", ""
    past = kept = 0
    # Where calls seem to begin, with the first of the formats that has such a mark there.
    forms = {match.start(): form for form in reversed(formats) for match in re.finditer(form.begin, answer)}
    for start, form in sorted(forms.items()):
        if start < past:
            continue
        try:
            parsed, end = _block(answer, start, form)
            place = "alone" if end in forms else _place(answer, start, end)
        except Unreadable as error:
            if form.bare:
                continue  # whether it is a call in another format is another question
            end = mention_end(answer, start, _mark_end(answer, start, form))
            if not end:
                seen = _shown(answer, error.at)
                why = f"a tool call cannot be read: {error.expected} was expected, not {seen}"
                return Written(tuple(calls), problem=why)
            place = "quoted"
        if place in ("in a sentence", "in a fence with text after it"):
            return Written(tuple(calls), problem=f"there is a tool call {place}: {_shown(answer, start)}")
        rest += answer[past:start]
        past = end
        if place != "quoted":
            calls += parsed
            text += answer[kept:start]
            kept = end
    text, rest = text + answer[kept:], rest + answer[past:]
    bare = any(form.bare for form in formats)
    return Written(tuple(calls), text=_EMPTY_FENCE.sub("", text) if calls else text, rest=rest, bare=bare)


def _block(answer: str, start: int, form: Format) -> tuple[list[WrittenCall], int]:
    """The calls of a block, and where it ends."""
    calls: list[WrittenCall] = []
    at = _matched(form.opens, answer, start).end()
    while True:
        head = _matched(form.head, answer, at)
        body = form.body(answer, head.end())
        at = _matched(form.tail, answer, body.end).end()
        named = head.groupdict()
        name, own = named.get("name") or body.name or "", named.get("id") or body.id
        calls.append(WrittenCall(name, body.arguments, own))
        if closed := re.compile(form.closes).match(answer, at):
            return calls, closed.end()
        at = _matched(form.between, answer, at).end()


def _matched(pattern: str, text: str, at: int) -> re.Match[str]:
    match = re.compile(pattern).match(text, at)
    if match is None:
        raise Unreadable(at, "another part of the call")
    return match


def _shown(answer: str, at: int) -> str:
    return repr(answer[at : at + 40]) if at < len(answer) else "the end of the reply"


# Where a call stands

QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "»": "«", "「": "」"}
_MENTION = re.compile(r"[ \t]+[^\W\d_]|[ \t]*[.,;:!?)]")
"""What follows the mark of a call in a sentence about it."""
_TOKENS = re.compile(r"<\|[^|<>]*\|>(?:assistant)?")
"""Special tokens, which are no words of a sentence."""
_FENCE_BEFORE = re.compile(r"```\w*[ \t]*\n?\s*\Z")
_FENCE_AFTER = re.compile(r"\s*```")
_EMPTY_FENCE = re.compile(r"```\w*\s*```")


def _place(answer: str, start: int, end: int) -> str:
    """Where a call stands: alone, quoted, in a sentence, or in a fence with text after it."""
    before, after = answer[:start], answer[end:]
    if _FENCE_BEFORE.search(before[-40:]) and (fence := _FENCE_AFTER.match(after)):
        return "in a fence with text after it" if _TOKENS.sub("", after[fence.end() :]).strip() else "alone"
    line, rest = before.rsplit("\n", 1)[-1], after.split("\n", 1)[0]
    if QUOTES.get(before[-1:]) == after[:1] != "" or _is_open(line, rest):
        return "quoted"
    rest = _TOKENS.sub("", rest).lstrip()
    follows_text = bool(_TOKENS.sub("", line).strip())
    return (
        "in a sentence" if rest[:1].islower() or (follows_text and rest[:1] in tuple(".,;:!?)")) else "alone"
    )


def _is_open(line: str, rest: str) -> bool:
    """Whether a quotation that a line begins ends in what follows."""
    return any(
        line.count(mark) > (line.count(closing) if mark != closing else line.count(mark) // 2 * 2)
        and closing in rest
        for mark, closing in QUOTES.items()
        if mark != "'"  # of which most are apostrophes
    )


def _mark_end(answer: str, start: int, form: Format) -> int:
    mark = re.compile(form.begin).match(answer, start)
    return mark.end() if mark else start


def mention_end(answer: str, start: int, end: int) -> int:
    """Where the quotation of a mark ends, or a sentence about it goes on; 0 if it is neither.

    Args:
        answer: what the model wrote, without its reasoning.
        start: where a mark begins that nothing readable follows.
        end: where it ends.
    """
    before, after = answer[:start], answer[end:]
    line = _TOKENS.sub("", before.rsplit("\n", 1)[-1])
    closing = QUOTES.get(before[-1:], "")
    if closing and (after[:1] == closing or (line.strip() != before[-1:] and closing in after)):
        return end + after.index(closing)
    return end if line.strip() and _MENTION.match(after) else 0
