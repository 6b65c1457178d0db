"""Reading tool calls out of replies. Pure functions, shared by the engines.

Parsers of tool calls are lenient: a call that they cannot read comes back as plain text, or not at
all. Here such a reply is told apart from one that calls no tool.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.engines.formats import Written, WrittenCall, mention_end
from harness.engines.payloads import ELEMENT, Text, decode_json, decode_literal, elements
from harness.engines.unread import spelled_call
from harness.types import Message, Struct, Tool, ToolCall


class RawCall(Struct):
    """A tool call as a parser hands it over, its arguments still text."""

    id: str | None
    name: str | None
    arguments: str | None


class Marks(Struct):
    """What calls are written between, as far as a parser says."""

    begin: tuple[str, ...] = ()
    """How a call begins."""
    end: tuple[str, ...] = ()
    """How one ends. Stated where a parser reads a call that has not ended as one with fewer arguments."""


def read_calls(
    calls: Iterable[RawCall], written: str, number: int
) -> tuple[tuple[ToolCall, ...], str | None]:
    """Decode the arguments of tool calls.

    Args:
        calls: as parsed.
        written: what the model wrote. An id found in it, or made of the tool's name, is kept; any other
            was drawn at random by the parser, and is replaced so that a run can be repeated.
        number: tool calls earlier in the conversation, to number these after them.

    Returns:
        The calls that could be read, and why one could not, if one could not.
    """
    read: list[ToolCall] = []
    for call in calls:
        try:
            name, arguments = _decode(call)
        except ValueError as error:
            return tuple(read), str(error)
        own = _id(call.id, name, written, number + len(read), read)
        read.append(ToolCall(id=own, name=name, arguments=arguments))
    return tuple(read), None


def _id(given: str | None, name: str, written: str, number: int, before: Iterable[ToolCall]) -> str:
    own = given and (given in written or f"{name}:" in given)
    if given and own and all(call.id != given for call in before):  # else answers are told to the wrong call
        return given
    # Nine letters and digits: what the strictest templates ask of an id.
    return f"call{number:05d}"


def _decode(call: RawCall) -> tuple[str, dict[str, Any]]:
    if not call.name:
        raise ValueError("a tool call has no name")
    try:
        arguments = decode_json(call.arguments or "{}")
    except ValueError as error:
        raise ValueError(f"the arguments of the call of {call.name!r} are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments of the call of {call.name!r} are not a JSON object")
    return call.name, arguments


def settle_calls(
    written: Written, parsed: Sequence[RawCall], tools: Sequence[Tool], raw: str, number: int
) -> tuple[tuple[ToolCall, ...], str | None]:
    """The calls of an answer, where its format and the parser agree on them.

    What the format tells with certainty (JSON, Python, strings) is taken as it was written, whatever the
    parser made of it. The types of other arguments in markup are those of the parser, as far as the text
    accounts for them.

    Args:
        written: the answer, read as its format has it.
        parsed: the calls as the parser hands them over.
        tools: what the model was offered.
        raw: the whole reply; see `read_calls`.
        number: see `read_calls`.

    Returns:
        The calls that could be read, and why one could not, if one could not.
    """
    if written.problem is not None:
        return (), written.problem
    if parsed and not written.calls and written.rest == written.text:
        return (), f"the parser reads {len(parsed)} tool calls where the format has none"
    schemas = {tool.name: tool.parameters.get("properties", {}) for tool in tools}
    pairs = parsed if [call.name for call in parsed] == [call.name for call in written.calls] else ()
    calls: list[ToolCall] = []
    for at, call in enumerate(written.calls):
        pair = pairs[at] if pairs else RawCall(id=call.id, name=call.name, arguments=None)
        try:
            arguments = _arguments(call, pair, schemas.get(call.name, {}))
        except ValueError as error:
            return tuple(calls), f"the arguments of the call of {call.name!r} cannot be read: {error}"
        own = _id(call.id or pair.id, call.name, raw, number + at, calls)
        calls.append(ToolCall(id=own, name=call.name, arguments=arguments))
    return tuple(calls), None


def _arguments(call: WrittenCall, parsed: RawCall, schemas: dict[str, Any]) -> dict[str, Any]:
    if not any(isinstance(value, Text) for value in call.arguments.values()):
        return call.arguments
    read = decode_json(parsed.arguments or "{}")
    return {
        key: _typed(value, schemas.get(key), read, key) if isinstance(value, Text) else value
        for key, value in call.arguments.items()
    }


def _typed(value: Text, schema: Any, read: dict[str, Any], key: str) -> Any:
    """An argument that was written as text, in the type that its tag or its schema gives it."""
    kinds = _kinds(schema)
    if value.string or (value.string is None and kinds == {"string"}):
        return value.text
    if value.string is False:
        return decode_json(value.text)
    certain = bool(kinds) and "string" not in kinds
    if isinstance(read.get(key), float) and "string" in kinds and "number" not in kinds:
        return value.text  # 1e5 is no integer
    if isinstance(read.get(key), str) and read[key].strip() == value.text.strip():
        return value.text
    if key in read and _accounts(value.text, read[key], schema):
        # A whole number with a point is a number with a point.
        exact = certain and kinds != {"integer"} and isinstance(read[key], int)
        return decode_literal(value.text.strip()) if exact else read[key]
    if certain:
        return decode_json(value.text)
    raise ValueError(f"{key!r} is written as {value.text[:40]!r}, which the parser does not read so")


def _kinds(schema: Any) -> set[str]:
    """The types that a schema allows, none if it does not say."""
    if not isinstance(schema, dict):
        return set()
    own = schema.get("type")
    kinds = {own} if isinstance(own, str) else set(own or ())
    return kinds.union(*(_kinds(other) for key in ("anyOf", "oneOf") for other in schema.get(key) or ()))


def _accounts(text: str, value: Any, schema: Any) -> bool:
    """Whether a value, written again, is the text it was read from."""
    if isinstance(value, dict | list) and ELEMENT in text:
        return _is_declared(value, schema) and "".join(text.split()) == "".join(elements(value).split())
    try:
        return _alike(decode_literal(text.strip()), value)
    except ValueError:
        return False


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are equal, where true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _is_declared(value: Any, schema: Any) -> bool:
    """Whether a schema says of each value inside of another of what type it is."""
    if not isinstance(schema, dict):
        return False
    if isinstance(value, dict):
        inner = schema.get("properties", {})
        return all(_is_declared(each, inner.get(key)) for key, each in value.items())
    if isinstance(value, list):
        return all(_is_declared(each, schema.get("items")) for each in value)
    return len(_kinds(schema)) == 1


def unfinished_call(answer: str, marks: Marks) -> str | None:
    """Why the last call of a reply, though it was read, is not one that the model made; None if it is.

    Args:
        answer: what the model wrote, without its reasoning.
        marks: of calls, in the format of the parser.
    """
    if not marks.end or _last(answer, marks.begin) <= _last(answer, marks.end):
        return None
    return f"the reply ends inside of a tool call, which {' or '.join(map(repr, marks.end))} would end"


def unread_call(answer: str, text: str, read: int, begin: Sequence[str], tools: Sequence[Tool]) -> str | None:
    """Why a reply looks as if a tool call in it was not read, or None if it does not.

    Args:
        answer: what the model wrote, without its reasoning.
        text: what the parser left of it as plain text.
        read: tool calls that were read out of it.
        begin: how a call begins in the format of the parser.
        tools: what the model was offered.
    """
    for marker in begin:
        places = [match.start() for match in re.finditer(re.escape(marker), answer)]
        begun = sum(not mention_end(answer, at, at + len(marker)) for at in places)
        if begun > read:
            return f"{begun} tool calls begin with {marker!r}, {read} could be read"
    if read:
        return None
    if (tool := spelled_call(text, tools)) is not None:
        return f"the reply spells a call of {tool!r} that the parser does not read"
    return None


def without_arguments(answer: str, calls: Iterable[ToolCall]) -> str:
    """An answer without the texts that its calls pass on, which may name the marks of calls."""
    waiting: list[Any] = [call.arguments for call in calls]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and value.strip():
            answer = answer.replace(value, "").replace(json.dumps(value, ensure_ascii=False)[1:-1], "")
        elif isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return answer


def _last(text: str, marks: Iterable[str]) -> int:
    """Where the last of some marks begins in a text, -1 if there is none."""
    return max((text.rfind(mark) for mark in marks), default=-1)


def count_calls(messages: Iterable[Message]) -> int:
    """Tool calls in a conversation."""
    return sum(len(message.tool_calls) for message in messages)


_ELEMENT = re.compile(r"<\|(?:open|close)\|>[^<]*<\|sep\|>")
"""A mark of Kimi K3's: its name stands between special tokens."""


_TAG = re.compile(r"<([A-Za-z][\w.-]*)>")


def framing_tokens(special: Sequence[str], spoken: str) -> tuple[str, ...]:
    """The special tokens that frame a reply, and are no part of what it says.

    That is all of them but pairs such as `<answer>` and `</answer>` that nobody but the model writes: who
    trained it to answer between tags of its own has often made them special tokens.

    Args:
        special: of the tokenizer.
        spoken: what frames conversations in words: chat template, code of the parsers, BOS and EOS.
    """
    pairs = [(tag, f"</{match[1]}>") for tag in special if (match := _TAG.fullmatch(tag))]
    own = {t for pair in pairs if pair[1] in special and not any(t in spoken for t in pair) for t in pair}
    return tuple(token for token in special if token not in own)


def strip_tokens(text: str, special: Iterable[str]) -> str:
    """A text without the special tokens in it, and without the names that stand between some of them."""
    text = _ELEMENT.sub("", text)
    for token in special:
        text = text.replace(token, "")
    return text


def message_to_openai(
    message: Message, *, arguments_as_text: bool = True, thoughts: Sequence[str] = ("reasoning",)
) -> dict[str, Any]:
    """A message as the chat completions API has it.

    Args:
        message: to convert.
        arguments_as_text: False leaves arguments as objects, as chat templates want them.
        thoughts: keys under which a thought stands: servers and templates differ.
    """
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        out |= dict.fromkeys(thoughts, message.reasoning)
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        out["name"] = message.name
    if message.tool_calls:
        out["tool_calls"] = [_call_to_openai(call, arguments_as_text) for call in message.tool_calls]
    return out


def _call_to_openai(call: ToolCall, arguments_as_text: bool) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False) if arguments_as_text else call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def tool_to_openai(tool: Tool) -> dict[str, Any]:
    """A tool as the chat completions API has it."""
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }
