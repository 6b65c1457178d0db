import json

import msgspec
import pytest

from harness.engines.replies import (
    Marks,
    RawCall,
    framing_tokens,
    message_to_openai,
    read_calls,
    strip_tokens,
    unfinished_call,
    unread_call,
)
from harness.types import Message, Tool, ToolCall

SEND = Tool(name="send_money", description="", parameters={})


def raw(arguments: str | None, *, call_id: str | None = "chatcmpl-tool-8d0f", name: str = "f") -> RawCall:
    return RawCall(id=call_id, name=name, arguments=arguments)


def test_random_ids_are_replaced_by_numbers_in_the_conversation() -> None:
    calls, problem = read_calls([raw("{}"), raw('{"a": 1}', call_id=None)], "...", 3)
    assert problem is None
    assert calls == (
        ToolCall(id="call00003", name="f", arguments={}),
        ToolCall(id="call00004", name="f", arguments={"a": 1}),
    )


@pytest.mark.parametrize(("call_id", "written"), [("functions.f:0", ""), ("abc123def", "[abc123def]")])
def test_ids_of_the_model_are_kept(call_id: str, written: str) -> None:
    calls, _ = read_calls([raw("{}", call_id=call_id)], written, 0)
    assert calls[0].id == call_id


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (raw('{"a": '), "not JSON"),
        (raw("[1]"), "not a JSON object"),
        (raw("{}", name=""), "no name"),
    ],
)
def test_unreadable_calls(call: RawCall, why: str) -> None:
    calls, problem = read_calls([raw("{}"), call, raw("{}")], "", 0)
    assert len(calls) == 1
    assert problem is not None
    assert why in problem


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ('{"amount": NaN}', "NaN is not JSON"),
        ('{"amount": -Infinity}', "-Infinity is not JSON"),
        ('{"amounts": [1, 1e999]}', "1e999 is too large"),
        ('{"amount": 1, "amount": 2}', "'amount' is written twice"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_what_python_reads_as_json_and_is_none(arguments: str, why: str) -> None:
    """RFC 8259, sections 4 and 6. A store would keep null, or the last of the two."""
    calls, problem = read_calls([raw(arguments)], arguments, 0)
    assert calls == ()
    assert problem is not None
    assert why in problem


@pytest.mark.parametrize(
    "n", ["123456789012345678901234567890", "1.0", "-0.0", "1e22", "1e-400", '"\\u0000"']
)
def test_what_is_read_is_what_records_keep(n: str) -> None:
    arguments = f'{{"n": {n}}}'
    calls, problem = read_calls([raw(arguments)], arguments, 0)
    assert problem is None
    message = Message(role="assistant", content="", tool_calls=calls)
    kept = msgspec.json.decode(msgspec.json.encode(message), type=Message).tool_calls[0].arguments
    assert repr(kept) == repr(json.loads(arguments))


def test_no_arguments_are_an_empty_object() -> None:
    calls, problem = read_calls([raw(None), raw("")], "", 0)
    assert problem is None
    assert [call.arguments for call in calls] == [{}, {}]


@pytest.mark.parametrize(
    ("answer", "read", "markers"),
    [
        ("<|call|>broken", 0, ("<|call|>",)),
        ("<|call|>good<|call|>broken", 1, ("<|call|>",)),
        ("<|call|> is how I begin it: <|call|>broken", 1, ("<|call|>",)),
        (' [{"name": "send_money", "parameters": {}}]', 0, ()),
        ("[send_money(to='x')]", 0, ()),
    ],
)
def test_calls_that_were_not_read(answer: str, read: int, markers: tuple[str, ...]) -> None:
    assert unread_call(answer, answer, read, markers, [SEND]) is not None


@pytest.mark.parametrize(
    ("answer", "read", "markers"),
    [
        ("It is sunny.", 0, ("<|call|>",)),
        ("<|calls|>one, two", 2, ("<|calls|>",)),
        ("I would not use send_money(to='x') here.", 0, ()),
        ("A call begins with `<|call|>`, which I did not write.", 0, ("<|call|>",)),
        ("The mark <|call|> begins one.", 0, ("<|call|>",)),
        ('{"name": "Ann"}', 0, ()),
    ],
)
def test_replies_in_order(answer: str, read: int, markers: tuple[str, ...]) -> None:
    assert unread_call(answer, answer, read, markers, [SEND]) is None


@pytest.mark.parametrize(
    ("answer", "broken"),
    [
        ("<call>f<x>1</x></call>", False),
        ("<call>f<x>1</x></f></call> Done.", False),
        ("<call>f<x>1</x></f>", False),
        ("<call>f<x>1", True),
        ("<call>f</call><call>f<x>1</x>", True),
        ("Nothing was called.", False),
    ],
)
def test_a_call_that_was_read_and_has_not_ended(answer: str, broken: bool) -> None:
    assert bool(unfinished_call(answer, Marks(begin=("<call>",), end=("</call>", "</f>")))) == broken
    assert unfinished_call(answer, Marks(begin=("<call>",))) is None  # nothing is known of its end


def test_messages_in_the_api_format() -> None:
    call = ToolCall(id="1", name="f", arguments={"é": 1})
    message = Message(role="assistant", content="", tool_calls=(call,), reasoning="hm")
    assert message_to_openai(message) == {
        "role": "assistant",
        "content": "",
        "reasoning": "hm",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"é": 1}'}}],
    }
    as_object = message_to_openai(message, arguments_as_text=False)
    assert as_object["tool_calls"][0]["function"]["arguments"] == {"é": 1}


def test_special_tokens_are_stripped() -> None:
    assert strip_tokens("<s>a</s>b", ["<s>", "</s>"]) == "ab"


@pytest.mark.parametrize(
    ("special", "spoken", "framing"),
    [
        (("<|im_end|>", "<answer>", "</answer>"), "<|im_end|>", ("<|im_end|>",)),
        (("<answer>", "</answer>"), "between <answer> and", ("<answer>", "</answer>")),  # the template's
        (("<s>", "</s>", "<unk>"), "<s> </s>", ("<s>", "</s>", "<unk>")),  # BOS and EOS
        (("<tool_call>", "</tool_call>"), 'start = "<tool_call>"', ("<tool_call>", "</tool_call>")),
        (("<pad>", "<image>", "[INST]", "[/INST]"), "", ("<pad>", "<image>", "[INST]", "[/INST]")),
    ],
)
def test_only_pairs_that_nobody_else_writes_are_a_part_of_a_reply(
    special: tuple[str, ...], spoken: str, framing: tuple[str, ...]
) -> None:
    assert framing_tokens(special, spoken) == framing
