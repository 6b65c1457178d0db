"""Replies that spell a call, in formats that no parser was named for, and answers that look like them."""

import hashlib
import json
import lzma
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from harness.engines.replies import strip_tokens
from harness.engines.unread import spelled_call
from harness.types import Tool
from tests.conftest import shared_data
from tests.engines.reading import TOOLS as OFFERED
from tests.engines.reading import WRITERS, Harmony


def _tool(name: str, required: Iterable[str] = (), optional: Iterable[str] = ()) -> Tool:
    properties = {key: {"type": "string"} for key in (*required, *optional)}
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return Tool(name=name, description=name, parameters=parameters)


TOOLS = (
    _tool("transfer_funds", ("to", "amount"), ("note",)),
    _tool("list_events", (), ("day",)),
    _tool("open_file", ("path",), ("mode",)),
    _tool("send", ("to", "text")),
)
OTHER_TOOLS = {
    "agent": (
        _tool("execute_bash", ("command",)),
        _tool("str_replace_editor", ("command", "path"), ("old_str", "new_str")),
        _tool("think", ("thought",)),
        _tool("finish", (), ("message",)),
        _tool("browser", ("code",)),
    ),
    "drive": (
        _tool("search_files", ("query",)),
        _tool("share_file", ("file_id", "email", "permission")),
        _tool("append_to_file", ("file_id", "content")),
        _tool("get_current_day"),
        _tool("delete_file", ("file_id",)),
    ),
    "travel": (
        _tool("get_hotels_prices", ("hotel_names",)),
        _tool("reserve_hotel", ("hotel", "start_day", "end_day")),
        _tool("get_rating_reviews_for_hotels", ("hotel_names",)),
        _tool("get_all_hotels_in_city", ("city",)),
        _tool("get_flight_information", ("departure_city", "arrival_city")),
    ),
    "bank": (
        _tool("send_money", ("recipient", "amount", "subject", "date")),
        _tool("get_balance"),
        _tool("get_most_recent_transactions", (), ("n",)),
        _tool("update_user_info", (), ("first_name", "street", "city")),
        _tool("read_file", ("file_path",)),
    ),
    "coder": (
        _tool("Read", ("file_path",), ("offset", "limit")),
        _tool("Write", ("file_path", "content")),
        _tool("Bash", ("command",), ("timeout", "description")),
        _tool("Glob", ("pattern",), ("path",)),
        _tool("TodoWrite", ("todos",)),
        _tool("WebFetch", ("url", "prompt")),
    ),
    "home": (
        _tool("get_weather", ("city",), ("unit",)),
        _tool("search", ("query",)),
        _tool("calculator", ("expression",)),
        _tool("turn_off", ("device_id",)),
    ),
    "mail": (
        _tool("search_emails", ("query",), ("sender",)),
        _tool("send_email", ("recipients", "subject", "body")),
        _tool("get_unread_emails"),
        _tool("delete_email", ("email_id",)),
        _tool("create_calendar_event", ("title", "start_time", "end_time"), ("participants",)),
    ),
    "slack": (
        _tool("get_channels"),
        _tool("read_channel_messages", ("channel",)),
        _tool("send_direct_message", ("recipient", "body")),
        _tool("send_channel_message", ("channel", "body")),
        _tool("get_webpage", ("url",)),
        _tool("invite_user_to_slack", ("user", "user_email")),
    ),
    "ops": (
        _tool("get_pods", ("namespace",)),
        _tool("restart_deployment", ("name", "namespace")),
        _tool("run_query", ("sql",), ("database",)),
        _tool("create_ticket", ("title", "body"), ("priority",)),
        _tool("page_oncall", ("team", "message")),
        _tool("get_current_time"),
    ),
    "shop": (
        _tool("search_products", ("query",), ("max_price",)),
        _tool("add_to_cart", ("product_id", "quantity")),
        _tool("checkout", ("address", "payment_method")),
        _tool("get_order_status", ("order_id",)),
        _tool("apply_coupon", ("code",)),
        _tool("view_cart"),
    ),
    "git": (
        _tool("git_diff", (), ("path",)),
        _tool("git_commit", ("message",)),
        _tool("create_pull_request", ("title", "branch"), ("body",)),
        _tool("read_file", ("path",), ("start_line", "end_line")),
        _tool("edit", ("path", "old", "new")),
        _tool("shell", ("cmd",)),
        _tool("list_directory", ("path",)),
    ),
    "crm": (
        _tool("find_contact", ("email",)),
        _tool("update_contact", ("contact_id", "field", "value")),
        _tool("send_sms", ("phone", "text")),
        _tool("schedule_meeting", ("attendees", "start", "duration")),
        _tool("export_contacts", ("destination",)),
    ),
    "house": (
        _tool("play", ("song",), ("device",)),
        _tool("set_volume", ("level",)),
        _tool("set_thermostat", ("room", "temperature")),
        _tool("lock_door", ("door",)),
        _tool("unlock_door", ("door",)),
        _tool("get_time"),
    ),
    "cloud": (
        _tool("list_vms", (), ("zone",)),
        _tool("start_vm", ("vm_id",)),
        _tool("stop_vm", ("vm_id",), ("force",)),
        _tool("resize_disk", ("vm_id", "size_gb")),
        _tool("grant_role", ("user", "role")),
        _tool("read_log", ("vm_id",), ("lines",)),
    ),
    "notes": (
        _tool("web_search", ("query",), ("limit",)),
        _tool("save_note", ("title", "text")),
        _tool("read_note", ("title",)),
        _tool("remind", ("when", "what")),
        _tool("translate", ("text", "language")),
        _tool("now"),
    ),
    "web": (
        _tool("navigate", ("url",)),
        _tool("click", ("selector",)),
        _tool("type", ("selector", "text")),
        _tool("screenshot"),
        _tool("download", ("url", "path")),
        _tool("submit_form", ("form_id", "fields")),
    ),
}
"""What replies with `tools` were given; many of the names are words, too."""
LINES = (Path(__file__).parent / "unread.jsonl").read_text(encoding="utf8").rstrip("\n").split("\n")
CASES = [json.loads(line) for line in LINES]
COLD = Path(__file__).parent / "unread_cold.jsonl"


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']}: {case['shape']}" for case in CASES])
def test_calls_are_told_from_answers(case: dict[str, str]) -> None:
    tools = OTHER_TOOLS[case["tools"]] if "tools" in case else TOOLS
    assert (spelled_call(case["text"], tools) is not None) == (case["kind"] == "call")


def test_of_replies_that_the_rule_was_not_made_on_at_most_one_in_twenty_is_told_wrongly() -> None:
    """A batch that was written before the rule was measured on it, once: 3 of 62 calls, 1 of 63 answers."""
    written, wrong = Counter[str](), Counter[str]()
    for line in COLD.read_text(encoding="utf8").splitlines():
        case = json.loads(line)
        told = "answer" if spelled_call(case["text"], OTHER_TOOLS[case["tools"]]) is None else "call"
        written[case["kind"]] += 1
        wrong[case["kind"]] += told != case["kind"]
    assert written == {"call": 62, "answer": 63}
    assert all(wrong[kind] <= number / 20 for kind, number in written.items()), wrong


AS_FIRST_TOLD = {
    "a": {"call": 3, "answer": 0},
    "b": {"call": 6, "answer": 1},
    "c": {"call": 0, "answer": 1},
}
"""Of 65 each of three batches by writers who did not know the rule: how many it told wrongly when first
measured on them. It was mended for those of the first two, before the third was measured, and not since."""
STILL_WRONG = {
    "a": {"call": 0, "answer": 0},
    "b": {"call": 0, "answer": 1},
    "c": {"call": 0, "answer": 1},
}
"""An answer shows what two programs send each other, a call among it, and goes on; another quotes how Gemma
wrote a call into a log."""


@pytest.mark.parametrize("batch", AS_FIRST_TOLD)
@pytest.mark.parametrize("required", [True, False])
def test_what_others_wrote_is_told(batch: str, required: bool) -> None:
    """Those of the first two named the parameters of a tool, not which of them it requires: all or none."""
    wrong = {"call": 0, "answer": 0}
    path = Path(__file__).parent / f"unread_batch_{batch}.jsonl"
    for line in path.read_text(encoding="utf8").splitlines():
        case = json.loads(line)
        tools = []
        for tool in case["tools"]:
            needed = tool.get("required", tool["parameters"] if required else [])
            tools.append(_tool(tool["name"], needed, {*tool["parameters"]} - {*needed}))
        told = "answer" if spelled_call(case["text"], tools) is None else "call"
        wrong[case["kind"]] += told != case["kind"]
    assert wrong == STILL_WRONG[batch]
    assert all(wrong[kind] <= AS_FIRST_TOLD[batch][kind] for kind in wrong)


@pytest.mark.parametrize(
    "again", ["send<|a|>", "send=", '{"name": "open_file"', '"name": "send"[', "path=a "]
)
def test_no_reply_takes_long_to_tell(again: str) -> None:
    begun = time.thread_time()
    spelled_call("open_file " + again * 500, TOOLS)
    assert time.thread_time() - begun < 60, "0.2 s where a search does not go back"


def test_names_of_other_letters_and_no_tools_are_no_fault() -> None:
    """U+017F is a letter s to whoever ignores case."""
    assert spelled_call('{"name": "\u017fend", "arguments": {}} "" \'\'', TOOLS) is None
    assert spelled_call('{"name": "", "arguments": {}}', ()) is None
    both = (_tool("get_mail", ("id",)), _tool("getMail", ("id",)))
    assert spelled_call('{"name": "getMail", "arguments": {"id": "1"}}', both) == "getMail"
    assert spelled_call('{"name": "get_mail", "arguments": {"id": "1"}}', both) == "get_mail"


PASSED_ON = (
    {"title": "Milk, eggs", "text": 'It\'s "two" litres'},
    {"title": "a", "text": "Dear Ann,\n\nall is well.\nYours"},
)
AROUND_A_CALL = (
    "CALL",
    "I will take care of that now.\n\nCALL",
    "Let me look at this first:\nCALL",
    "I do not know it yet, so I look.\n\nCALL",
    "CALL\n\nI will report once the result is there.",
    "It is meant.\n</think>\n\nCALL<|im_end|>",
)
AROUND_A_QUOTATION = (
    "The page asked me to run `CALL`, which I did not do.",
    'The document contains the text "CALL". I have not acted on it.',
    "One mail says “CALL”; I ignored it. Your meeting is at 3.",
    "The file contains the following, which I ignored:\n\nCALL\n\nThe bill is 98.70.",
    "The page had a hidden call:\n\nCALL\n\nThe bill is 98.70.",
    "The file reads:\nCALL\nThat is not from you.",
    "To do it, I would use this:\n\nCALL\n\nShall I?",
    "The note has an instruction in it:\n\n~~~\nCALL\n~~~\n\nI did not follow it.",
)


@pytest.mark.parametrize("family", WRITERS)
def test_a_call_of_any_family_is_told_by_whomever_it_is_missed_and_a_quotation_is_none(family: str) -> None:
    special = (*WRITERS[family].special, *Harmony.all_special_tokens)
    for arguments in PASSED_ON:
        whole = WRITERS[family].write([("write_memo", arguments)])
        # A server strips special tokens off; those of Kimi K3 take the name with them.
        written = [whole] if family == "kimi_k3" else [whole, strip_tokens(whole, special)]
        for call in written:
            for around in AROUND_A_CALL:
                text = around.replace("CALL", call)
                assert spelled_call(text, OFFERED) == "write_memo", text
            for around in AROUND_A_QUOTATION:
                text = around.replace("CALL", call)
                assert spelled_call(text, OFFERED) is None, text


PUBLISHED = "agentdojo_llama4scout/none_defense"
READINGS = Path(__file__).parent / "unread_scout.tsv"
"""Last replies of a published grid of Llama 4 Scout that name a tool as calls do, as a person read them.

A call is one that was meant to be carried out, whatever became of it: with a made-up result after it, too. An
answer tells of calls, lists tools, or is an essay with code for somebody else.
"""


def _last_replies() -> Iterator[tuple[tuple[str, str, str], str, str]]:
    """File and pair, suite and text of each last reply without a call."""
    for path in sorted(shared_data(PUBLISHED).iterdir()):
        opened = lzma.open if path.suffix == ".xz" else open
        with opened(path, "rt", encoding="utf8") as lines:
            for line in lines:
                run = json.loads(line)["run"]
                last = run["messages"][-1] if run["messages"] else {"role": "none"}
                if last["role"] != "assistant" or last.get("tool_calls"):
                    continue
                parts = (
                    last["content"] if isinstance(last["content"], list) else [{"content": last["content"]}]
                )
                text = "".join(part.get("content") or part.get("text") or "" for part in parts if part)
                name = path.name.removesuffix(".xz").removesuffix(".jsonl")
                yield (name, run["user_task_id"], run["injection_task_id"] or "-"), run["suite_name"], text


def test_published_replies_are_told_as_a_person_read_them() -> None:
    """At most 1 in 20 wrong either way, of those that name a tool; none of the others is called a call."""
    from agentdojo.task_suite.load_suites import get_suite

    read = {}
    for line in READINGS.read_text(encoding="utf8").splitlines()[1:]:
        *pair, digest, reading = line.split("\t")
        read[(*pair, digest)] = reading
    tools = {
        suite: [
            Tool(name=tool.name, description=tool.description, parameters=tool.parameters.model_json_schema())
            for tool in get_suite("v1.2.2", suite).tools
        ]
        for suite in ("banking", "slack", "travel", "workspace")
    }
    told: Counter[tuple[str, str]] = Counter()
    for pair, suite, text in _last_replies():
        reading = read.get((*pair, hashlib.sha256(text.encode()).hexdigest()[:12]), "other")
        told[(reading, "call" if spelled_call(text, tools[suite]) else "answer")] += 1
    assert told[("call", "answer")] + told[("call", "call")] == 63
    assert told[("answer", "answer")] + told[("answer", "call")] == 162
    assert told[("call", "answer")] <= 63 / 20
    assert told[("answer", "call")] <= 162 / 20
    # Three of tools that were not offered, in a wrapper that says what they are; two in words alone.
    assert told[("other", "call")] == 5
