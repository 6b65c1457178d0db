"""Replies that spell a call, in formats that no parser was named for, and answers that look like them."""

import json
from pathlib import Path

import pytest

from harness.engines.unread import spelled_call

TOOLS = ("transfer_funds", "list_events", "open_file", "send")
LINES = (Path(__file__).parent / "unread.jsonl").read_text(encoding="utf8").rstrip("\n").split("\n")
CASES = [json.loads(line) for line in LINES]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']}: {case['shape']}" for case in CASES])
def test_calls_are_told_from_answers(case: dict[str, str]) -> None:
    assert (spelled_call(case["text"], TOOLS) is not None) == (case["kind"] == "call")
