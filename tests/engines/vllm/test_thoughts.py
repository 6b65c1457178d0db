from types import SimpleNamespace

import pytest
from lm_eval.models.utils import postprocess_generated_text

from harness.engines.vllm.thoughts import (
    ANSWERED,
    HARMONY,
    PROSE,
    THINK,
    ThoughtMarks,
    marks_of,
    release_calls,
    split,
)

GEMMA = ThoughtMarks(begin="<|channel>", end="<channel|>", channel="thought\n")
INKLING = ThoughtMarks(begin="<|content_thinking|>", end="<|end_message|>", shared=True)
CALL = '<tool_call>{"name": "weather"}</tool_call>'


@pytest.mark.parametrize(
    ("marks", "opened", "reply", "thought", "answer"),
    [
        (THINK, False, "<think>two\n\nmen</think>\n\nIt is 2", "two\n\nmen", "It is 2"),
        (THINK, True, "two men\n</think>\n\nIt is 2", "two men\n", "It is 2"),
        # Templates that end a thought before it begins, and models that think nothing.
        (THINK, False, "<think>\n\n</think>\n\n2", None, "2"),
        (THINK, True, "</think>2", None, "2"),
        (THINK, False, "It is 2", None, "It is 2"),
        (THINK, False, "  It is 2\n", None, "  It is 2\n"),
        # A model that does not open its thought still ends it.
        (THINK, False, "two men</think>2", "two men", "2"),
        (THINK, True, "two men, or", "two men, or", None),
        (THINK, False, "\n<think>two men, or", "two men, or", None),
        (THINK, False, "Write <think> first.", None, "Write <think> first."),
        # The first mark ends the thought: a call may pass a mark on.
        (THINK, False, "<think>a</think>write </think> there", "a", "write </think> there"),
        (THINK, False, "<think>a</think>\n<think>b</think>2", "a\nb", "2"),
        (THINK, False, f"<think>{CALL}?</think>No.", f"{CALL}?", "No."),
        (GEMMA, False, "<|channel>thought\ntwo men<channel|>2", "two men", "2"),
        (GEMMA, True, "thought\ntwo men<channel|>2", "two men", "2"),
        (GEMMA, False, "<|channel>thought\n<channel|>2", None, "2"),
        (GEMMA, False, "<|channel>thought\ntwo", "two", None),
        (
            HARMONY,
            False,
            "<|channel|>analysis<|message|>two men<|end|><|start|>assistant<|channel|>final<|message|>2",
            "two men",
            "2",
        ),
        (HARMONY, False, "<|channel|>final<|message|>2", None, "2"),
        (ANSWERED, False, "<think>\ntwo men\n</think>\n<answer>\n2\n</answer>", "\ntwo men\n", "2\n"),
        (ANSWERED, True, "</think>\n<answer>2", None, "2"),
        (PROSE, False, "Here is my thought process: a Here is my response: 2", " a ", "2"),
        (INKLING, False, "<|content_text|>2<|end_message|>", None, "<|content_text|>2<|end_message|>"),
        (INKLING, False, "<|content_thinking|>a<|end_message|>2<|end_message|>", "a", "2<|end_message|>"),
        (INKLING, True, "a<|end_message|>2", "a", "2"),
        (INKLING, False, "<|content_thinking|>a", "a", None),
    ],
)
def test_the_thought_ends_where_its_mark_stands(
    marks: ThoughtMarks, opened: bool, reply: str, thought: str | None, answer: str | None
) -> None:
    assert split(reply, marks, opened=opened) == (thought, answer)


@pytest.mark.parametrize(
    "reply",
    [
        "<think>a\n\nb</think>\n\nThe answer is 7\n\nmore",
        "a</think> \t7",
        "<think>a</think>b</think>\n7",
        "<think>a</think>\n<think>b</think>c",
        "no thought\n\nat all",
        "<think>a</think>",
    ],
)
@pytest.mark.parametrize("stop", ["\n\n", "\n", "more"])
def test_a_text_is_what_lm_eval_makes_of_it(reply: str, stop: str) -> None:
    answer = split(reply, THINK, opened=False, last=True)[1]
    assert answer is not None
    assert answer.split(stop)[0] == postprocess_generated_text(reply, [stop], "</think>")


@pytest.mark.parametrize(
    ("marks", "prompt", "opened"),
    [
        (THINK, "<|im_start|>assistant\n<think>\n", True),
        (THINK, "<|Assistant|><think>", True),
        (THINK, "<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        (THINK, "<|im_start|>assistant\n", False),
        (THINK, "write <think> first<|im_end|>\n<|im_start|>assistant\n", False),
        (GEMMA, "<|turn>model\n<|channel>thought\n", True),
        (GEMMA, "<|turn>model\n<|channel>", True),
        (GEMMA, "<|turn>model\n<|channel>thought\n<channel|>", False),
    ],
)
def test_a_prompt_that_opens_a_thought(marks: ThoughtMarks, prompt: str, opened: bool) -> None:
    assert marks.opened_by(prompt) is opened


@pytest.mark.parametrize(
    ("thought", "released"),
    [
        (f"I call it.\n{CALL}", ("I call it.\n", CALL)),
        (f"{CALL}\n{CALL}\n", (None, f"{CALL}\n{CALL}\n")),
        (f"I could write {CALL} but no.", (f"I could write {CALL} but no.", "")),
        (f"I could write {CALL} or\n{CALL}", (f"I could write {CALL} or\n{CALL}", "")),
        ("No call.", ("No call.", "")),
    ],
)
def test_a_call_that_ends_a_thought_without_an_answer_is_meant(
    thought: str, released: tuple[str | None, str]
) -> None:
    assert release_calls(thought, ("<tool_call>",)) == released


class DeepSeekV3ReasoningParser:
    """As vLLM's, which knows no thoughts unless its template is told to let the model think."""

    reasoning_start_str = reasoning_end_str = None


class KimiK3ReasoningParser:
    reasoning_start_str, reasoning_end_str = "<|open|>think<|sep|>", "<|close|>think<|sep|>"


def test_marks_are_those_of_the_parser_unless_it_hides_them() -> None:
    def told(begin: str | None, end: str | None) -> ThoughtMarks | None:
        return marks_of(SimpleNamespace(reasoning_start_str=begin, reasoning_end_str=end))

    assert told("[THINK]", "[/THINK]") == ThoughtMarks(begin="[THINK]", end="[/THINK]")
    assert told("<|channel>", "<channel|>") == GEMMA
    assert told("<|content_thinking|>", "<|end_message|>") == INKLING
    assert told(None, None) is None
    assert marks_of(DeepSeekV3ReasoningParser()) == THINK
    assert marks_of(KimiK3ReasoningParser()) is None
