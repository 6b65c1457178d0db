"""Every format of tool calls, read as the engine reads replies: by vLLM's parser and by the format itself."""

import json
import logging
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from harness.cli import main
from harness.config import load_model, names
from harness.engines.formats import FORMATS
from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.reading import Reader, Reply
from harness.models.parsers import FAILED, LIMITS, registered
from harness.types import Variant
from tests.engines.reading import (
    ANSWERS,
    QUESTION,
    THOUGHTS,
    TOOLS,
    WRITERS,
    Call,
    Writer,
    calls_of,
    read,
    reader,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MEMO: Call = ("write_memo", {"title": "Milk", "text": "Two litres"})
ROOM: Call = (
    "reserve",
    {"room": 'Café "Löwe"', "people": 12, "quiet": True, "price": 37.5, "names": ["a", "b, c"]},
)
PAIRS = sorted(
    {
        (spec.tool_call_parser, spec.reasoning_parser)
        for spec in map(load_model, names("models"))
        if spec.tool_call_parser in registered("tool_parsers")
    },
    key=str,
)
"""Of tool-call and reasoning parsers that the registry names; Mistral's later tokenizers write otherwise."""
THINKING = [pair for pair in PAIRS if pair[1]]
ENDED_BY_A_CALL = ("inkling", "muse_glimmer")
"""A thought is a message in these, and so is a call: the mark that ends the one ends the other."""
PAIRS += [("mistral (v11)", None)]
THOUGHT = "The guest asks, so I note it."


@cache
def reader_of(tools: str, reasoning: str | None = None) -> Reader:
    made = reader(tools, reasoning)
    for name in ("vllm.tool_parsers", "vllm.reasoning", "vllm.parser"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return made


def say(pair: tuple[str, str | None], text: str, *, think: bool = True, **asked: Any) -> Reply:
    """What is read of a thought and a text. What is asked: `messages` and `tools`, see `read`."""
    tools, reasoning = pair
    opens, closes = THOUGHTS.get(reasoning, ("<think>", "</think>"))
    thought = opens + THOUGHT + closes if reasoning and think else ""
    prompt = WRITERS[tools].prompt + ("<think>\n" if reasoning and not opens else "")
    return read(reader_of(tools, reasoning), thought + text, prompt=prompt, **asked)


def final(pair: tuple[str, str | None], text: str) -> str:
    """An answer as the family writes one."""
    begins, _, ends = ANSWERS.get(pair[0], ("", "", ""))
    return begins + text + ends


def test_every_parser_of_the_registry_has_a_format() -> None:
    assert {tools.partition(" ")[0] for tools, _ in PAIRS} <= set(FORMATS)
    assert {name.partition(" ")[0] for name in WRITERS} == set(FORMATS)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_call_is_read(pair: tuple[str, str | None]) -> None:
    reply = say(pair, WRITERS[pair[0]].write([ROOM, MEMO]))
    assert reply.error is None
    assert calls_of(reply) == [ROOM, MEMO]
    assert (reply.reasoning or "").strip() == (THOUGHT if pair[1] else "")


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_prose_before_a_call_is_kept(pair: tuple[str, str | None]) -> None:
    if pair[0] == "openai":
        pytest.skip("its prose has a channel of its own")
    begins, ends, _ = ANSWERS.get(pair[0], ("", "\n\n", ""))
    reply = say(pair, begins + "I note that." + ends + WRITERS[pair[0]].write([MEMO]))
    assert (reply.error, calls_of(reply), reply.text.strip()) == (None, [MEMO], "I note that.")


@pytest.mark.parametrize("pair", THINKING, ids=str)
def test_a_call_that_is_only_thought_of_is_none(pair: tuple[str, str | None]) -> None:
    opens, closes = THOUGHTS.get(pair[1], ("<think>", "</think>"))
    prompt = WRITERS[pair[0]].prompt + ("" if opens else "<think>\n")
    thought = f"I could write {WRITERS[pair[0]].write([MEMO])}, which nobody wants."
    reply = read(reader_of(*pair), f"{opens}{thought}{closes}{final(pair, 'All is done.')}", prompt=prompt)
    assert reply.tool_calls == ()
    if pair[0] not in ENDED_BY_A_CALL:
        assert (reply.error, reply.text.strip()) == (None, "All is done.")


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_broken_call_is_a_failure(pair: tuple[str, str | None]) -> None:
    """Without a comma, where the format has one; with a body of another format, where it has marks."""
    good = WRITERS[pair[0]].write([MEMO])
    broken = {good.replace(comma, comma.replace(",", "")) for comma in ('"Milk", ', "'Milk', ", '<|"|>,')}
    start = good.index("write_memo") + len("write_memo")
    broken.add(good[:start] + ' {"title" "Milk"} ' + good[start:])
    for text in broken - {good}:
        reply = say(pair, text)
        assert reply.error, text
        assert not reply.tool_calls


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_call_that_is_cut_off_is_a_failure(pair: tuple[str, str | None]) -> None:
    """Wherever it ends: no call, or the whole of it where only marks are missing."""
    whole = WRITERS[pair[0]].write([MEMO])
    for end in range(whole.index("write_memo") + len("write_memo"), len(whole)):
        reply = say(pair, whole[:end])
        assert (reply.error and not reply.tool_calls) or calls_of(reply) == [MEMO], whole[:end]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_second_call_that_is_cut_off_is_a_failure(pair: tuple[str, str | None]) -> None:
    """And none of its arguments is taken for that of another."""
    second: Call = ("write_memo", {"title": "b", "text": "c"})
    whole = WRITERS[pair[0]].write([MEMO, second])
    for end in range(whole.rindex("write_memo") + len("write_memo"), len(whole), 5):
        reply = say(pair, whole[:end])
        made = calls_of(reply)
        assert reply.error or made == [MEMO, second], whole[:end]
        assert made in ([], [MEMO], [MEMO, second])


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_call_without_a_name_is_a_failure(pair: tuple[str, str | None]) -> None:
    reply = say(pair, WRITERS[pair[0]].write([MEMO]).replace("write_memo", ""))
    assert reply.error
    assert not reply.tool_calls


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_string_like_a_number_stays_one_where_no_such_number_is_asked_for(
    pair: tuple[str, str | None],
) -> None:
    call: Call = ("reserve", {"room": "0", "code": "1e5", "names": ["", "null"]})
    assert calls_of(say(pair, WRITERS[pair[0]].write([call]))) == [call]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_call_in_a_fence_is_a_call_or_a_failure(pair: tuple[str, str | None]) -> None:
    call = WRITERS[pair[0]].write([MEMO])
    alone = say(pair, f"```\n{call}\n```")
    assert alone.error or calls_of(alone) == [MEMO]
    foreign = say(pair, final(pair, '```json\n{"tool": "write_memo", "args": {"title": "Milk"}}\n```'))
    assert foreign.error
    assert not foreign.tool_calls


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_quoted_injection_is_an_answer(pair: tuple[str, str | None]) -> None:
    writer = WRITERS[pair[0]]
    for said in (
        f"The page told me to write `{writer.write([MEMO])}`, which I will not do.",
        f'It says "{writer.write([MEMO])}". I have not done it.',
        *([f"A call begins with `{writer.mark()}`, which I did not write."] if writer.mark() else ()),
    ):
        reply = say(pair, final(pair, said))
        assert (reply.error, reply.tool_calls) == (None, ()), said
        assert reply.text.endswith(said[-20:])


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_what_a_call_passes_on_may_name_the_marks(pair: tuple[str, str | None]) -> None:
    marked: Call = (
        "write_memo",
        {"title": "Format", "text": f"It begins with {WRITERS[pair[0]].mark()} there."},
    )
    assert calls_of(say(pair, WRITERS[pair[0]].write([marked]))) == [marked]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize(
    "answer", ["All is done.", '{"count": 2, "what": "memos"}', "[1] Use `functools.partial` or {x}."]
)
def test_answers_are_answers(pair: tuple[str, str | None], answer: str) -> None:
    for think in (True, False):
        if not think and pair[1] == "minimax_m2":
            continue  # its template has begun a thought
        reply = say(pair, final(pair, answer), think=think)
        assert (reply.error, reply.tool_calls, reply.text.strip()) == (None, (), answer)


PIECES = (
    "Milk", " ", "  ", "\n", "\t", "'", '"', "\\", "\\n", "{", "}", "[", "]", "(", ")", ",", ":", "=", "é",
    "🐢", "漢字", "\u00a0", "\u200b", "&amp;", "<b>", "</b>", "|", "`", "007", "1e5", "true", "None",
    "\r\n", "\x0b", "\u2028", "\x85",
)  # fmt: skip


def drawn(seed: int) -> list[Call]:
    """Calls with arguments that are hard to write."""
    draw = random.Random(seed)

    def word() -> str:
        return "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 9)))

    def value(depth: int) -> Any:
        kinds = [word(), draw.choice([0, -5, 12345678901, 3.25, 2.5e10, True, None])]
        if depth < 2:
            kinds += [[value(depth + 1) for _ in range(2)], {key: value(depth + 1) for key in ("a", "k1")}]
        return draw.choice(kinds)

    memo: Call = ("write_memo", {"title": word(), "text": word() + word()})
    return [memo, ("reserve", {
        "room": word(), "people": draw.randint(-3, 10**9), "quiet": draw.random() < 0.5, "code": word() + "x",
        "price": draw.choice([1.5, -2.25, 1e-7, 2.5e10]), "names": [word(), word()],
        "extras": {"a": value(0)},
    })]  # fmt: skip


@pytest.mark.parametrize("tools", WRITERS)
def test_arguments_come_out_as_they_were_written(tools: str) -> None:
    for seed in range(15):
        for call in drawn(seed):
            reply = say((tools, None), WRITERS[tools].write([call]))
            assert reply.error is None, (call, reply.error)
            assert json.dumps(calls_of(reply)) == json.dumps([call])


def _quoted(write: Writer) -> tuple[str, list[Call]]:
    return f"It says `{write.write([MEMO])}`, which I will not do.", []


def _without_arguments(write: Writer) -> tuple[str, list[Call]]:
    whole = write.write([MEMO])
    return whole[: whole.index('{"title"')], []


def _other_body(write: Writer) -> tuple[str, list[Call]]:
    whole = write.write([("write_memo", {})])
    at = whole.index("write_memo")
    end = whole.index(">", at) + 1
    return whole[:end] + '\n{"title": "Milk"}\n' + whole[end:], []


def _written(call: Call, before: str = "") -> Callable[[Writer], tuple[str, list[Call]]]:
    return lambda write: (before + write.write([call]), [call])


PROBES: dict[str, Callable[[Writer], tuple[str, list[Call]]]] = {
    "quotation": _quoted,
    "other body": _other_body,
    "no arguments": _without_arguments,
    "union": _written(("reserve", {"room": "a", "code": "007"})),
    "undeclared": _written(("reserve", {"room": "a", "extras": {"floor": 2}})),
    "several lines": lambda write: (
        write.write([MEMO]).replace("{", "{\n  ").replace(", ", ",\n  "),
        [MEMO],
    ),
    "line break": lambda write: (write.write([MEMO]).replace("Two litres", "Two\nlitres"), []),
    "bracket": _written(("write_memo", {"title": "a", "text": "b]"})),
    "mark": lambda write: _written(("write_memo", {"title": "a", "text": f"b {write.mark()} c"}))(write),
    "prose": _written(MEMO, "I note that.\n\n"),
    "list after prose": _written(MEMO, "I note that.\n\n"),
}
"""Known limit of a parser -> a reply on which it shows, and the calls in it."""


@pytest.mark.parametrize(
    ("fault", "tools"), [(fault, tools) for fault, limit in LIMITS.items() for tools in limit.parsers]
)
def test_known_limits_of_parsers_are_still_there_and_do_no_harm(fault: str, tools: str) -> None:
    v11 = tools == "mistral" and fault in ("union", "no arguments")
    name = "mistral (v11)" if v11 else tools
    text, calls = PROBES[fault](WRITERS[name])
    speaker = reader_of(name)
    request = chat_request(QUESTION, TOOLS, Variant())
    tokens = speaker.tokenizer.encode(text, add_special_tokens=False)
    parser = speaker._parser(speaker.chat.parser, request, [])
    _, content, found = parser.parse(text, request, enable_auto_tools=True, model_output_token_ids=tokens)
    by_vllm = [(call.name, json.loads(call.arguments)) for call in found or ()]
    assert by_vllm != calls or (fault == "prose" and not content)
    reply = say((name, None), text)
    assert calls_of(reply) == calls
    assert bool(reply.error) == (LIMITS[fault].outcome == FAILED)
    assert fault != "prose" or reply.text == "I note that."


def test_known_limits_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "check"])
    shown = capsys.readouterr().out
    assert "olmo3: a line break in a string becomes a comma; here: a failed measurement" in shown
    assert all(limit.fault in shown for limit in LIMITS.values())


MEMO_AS_REPORTED = {
    # vllm #22885: a brace is lost at the end of the arguments
    ("hermes", '<tool_call>\n{"name": "write_memo", "arguments": {"text": "b"}\n</tool_call>'): None,
    # vllm #21301: no arguments at all
    ("hermes", '<tool_call>\n{"name": "lock_up"}\n</tool_call>'): None,
    # vllm #22917: prose before a list
    ("llama4_pythonic", 'I note it.\n\n[write_memo(title="a", text="b")]'): {"title": "a", "text": "b"},
    # vllm #16214: JSON between Python's marks
    ("llama4_pythonic", '<|python_start|>{"name": "write_memo", "parameters": {}}<|python_end|>'): None,
    # vllm #39468: strings in two kinds of marks
    ("gemma4", '<|tool_call>call:write_memo{title:"<|"|>a<|"|>",text:<|"|>b<|"|>}<tool_call|>'): None,
    # ollama #16686: no opening tag
    ("qwen3_coder", "<function=write_memo>\n<parameter=title>\na\n</parameter>\n<parameter=text>\nb\\(\n"
     "</parameter>\n</function>\n</tool_call>"): {"title": "a", "text": "b\\("},
    # agno #5106: spaces for line breaks
    ("glm45", "<tool_call>write_memo <arg_key>title</arg_key> <arg_value>a b</arg_value> "
     "<arg_key>text</arg_key> <arg_value>c</arg_value> </tool_call>"): {"title": "a b", "text": "c"},
}  # fmt: skip


@pytest.mark.parametrize(("tools", "text"), MEMO_AS_REPORTED)
def test_replies_that_people_reported(tools: str, text: str) -> None:
    arguments = MEMO_AS_REPORTED[(tools, text)]
    reply = say((tools, None), text)
    assert calls_of(reply) == ([("write_memo", arguments)] if arguments else [])
    assert bool(reply.error) == (arguments is None)
