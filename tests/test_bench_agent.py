"""What `scripts/bench_agent.py` teaches: two turns behind AgentDojo's prompts, whole and cut."""

import random
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import script


@pytest.fixture(scope="module")
def agent() -> ModuleType:
    return script("bench_agent")


@pytest.fixture(scope="module")
def tokenizer(agent: ModuleType) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(agent.FOLDER / agent.LIKE)


def test_a_tool_is_called_and_then_comes_the_answer(agent: ModuleType, tokenizer: Any) -> None:
    turns = agent.turns_of("banking", tokenizer)
    assert len(turns) == 2 * 4
    for first, second in zip(turns[::2], turns[1::2], strict=True):
        assert second.ids[: len(first.ids)] == first.ids
        call, answer = (tokenizer.decode([t.ids[i] for i in t.targets]) for t in (first, second))
        assert '{"name": "get_unread_emails", "arguments": {}}' in call
        assert answer == f"{agent.ANSWER}<|im_end|>"
        assert "</tool_response>" in tokenizer.decode(second.ids[len(first.ids) : second.targets[0]])


def test_lessons_show_ends_of_prompts(agent: ModuleType, tokenizer: Any) -> None:
    known = agent.turns_of("banking", tokenizer)
    first, last = known[0], known[1].targets[-1] - known[1].targets[0]
    cut = agent.ending(first, 50)
    assert cut.targets[0] == 50 and cut.ids == first.ids[first.targets[0] - 50 :]
    assert agent.ending(first, 10**6) == first
    short = agent.lessons(known, random.Random(0), agent.FIRST_LONG)
    assert [len(lesson.targets) - 1 == last for lesson in short] == [False, True] * 8
    assert all(agent.SHORT[0] <= lesson.targets[0] <= agent.SHORT[1] for lesson in short)
    assert len(agent.lessons(known, random.Random(0), agent.FIRST_LONG + 1)) == agent.FEW
