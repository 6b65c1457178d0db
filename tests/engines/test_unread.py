"""Replies that spell a call, in formats that no parser was named for, and answers that look like them."""

import hashlib
import json
import lzma
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engines.unread import spelled_call
from tests.conftest import shared_data

TOOLS = ("transfer_funds", "list_events", "open_file", "send")
LINES = (Path(__file__).parent / "unread.jsonl").read_text(encoding="utf8").rstrip("\n").split("\n")
CASES = [json.loads(line) for line in LINES]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']}: {case['shape']}" for case in CASES])
def test_calls_are_told_from_answers(case: dict[str, str]) -> None:
    assert (spelled_call(case["text"], TOOLS) is not None) == (case["kind"] == "call")


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
        suite: [tool.name for tool in get_suite("v1.2.2", suite).tools]
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
    # Calls of tools that were not offered, in a wrapper that says what they are.
    assert told[("other", "call")] == 3
