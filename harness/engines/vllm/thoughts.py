"""What a model wrote, split into its thought and its answer. Pure functions; no engine in here.

Parsers of tool calls take the mark of a call for the end of a thought, and parsers of reasoning take a reply
without any mark for a thought that has not ended. So thoughts are cut off here, by their marks alone, before
anything else is read from a reply.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.types import Struct


class ThoughtMarks(Struct):
    """What thoughts are written between, in the format of a family of models."""

    begin: str
    end: str
    channel: str = ""
    """What comes right after `begin` and is no part of the thought."""
    closing: str = ""
    """What comes right before `end` and is no part of the thought."""
    after: str = ""
    """What comes right after an answer and is no part of it."""
    shared: bool = False
    """Answers and calls end with `end` too: it ends a thought only after a `begin`."""

    def opened_by(self, prompt: str) -> bool:
        """Whether a prompt (its last characters will do) ends within a thought."""
        return prompt.rstrip().endswith((self.begin, f"{self.begin}{self.channel}".rstrip()))


HARMONY = ThoughtMarks(
    begin="<|channel|>analysis<|message|>",
    end="<|channel|>final<|message|>",
    closing="<|end|><|start|>assistant",
)
"""Of gpt-oss. Calls stand between the two, so that this tells answers alone."""

THINK = ThoughtMarks(begin="<think>", end="</think>")
PROSE = ThoughtMarks(begin="Here is my thought process:", end="Here is my response:")
ANSWERED = ThoughtMarks(begin="<think>", end="<answer>", closing="</think>\n", after="</answer>")

UNTOLD: Mapping[str, ThoughtMarks | None] = {
    "GptOssReasoningParser": HARMONY,
    "GraniteReasoningParser": PROSE,
    "HunyuanA13BReasoningParser": ANSWERED,
    # Leave thoughts in the answer: one always, one unless the template is told to let the model think.
    "MiniMaxM2AppendThinkReasoningParser": THINK,
    "DeepSeekV3ReasoningParser": THINK,
    # Their answers have marks of their own, which the parsers take off.
    "KimiK3ReasoningParser": None,
    "CohereCommand3ReasoningParser": None,
    "CohereCommand4ReasoningParser": None,
}
"""Class of a reasoning parser that does not say by itself how thoughts are marked -> how they are."""


def marks_of(parser: Any) -> ThoughtMarks | None:
    """How thoughts are marked in the format of one of vLLM's reasoning parsers.

    None where only the parser knows.
    """
    for kind in type(parser).__mro__:
        if kind.__name__ in UNTOLD:
            return UNTOLD[kind.__name__]
    begin, end = parser.reasoning_start_str, parser.reasoning_end_str
    if not begin or not end:
        return None
    return ThoughtMarks(
        begin=begin,
        end=end,
        channel="thought\n" if begin == "<|channel>" else "",
        shared=end == "<|end_message|>",
    )


def split(
    reply: str, marks: ThoughtMarks, *, opened: bool, last: bool = False
) -> tuple[str | None, str | None]:
    """Thought and answer of a reply. White space between the two belongs to neither.

    A reply without a mark is an answer, unless its prompt opened a thought.

    Args:
        reply: what the model wrote.
        marks: of its format.
        opened: whether its prompt ends within a thought.
        last: the last end mark counts, as in lm-eval's `postprocess_generated_text`; otherwise the first one,
            since a call may pass such a mark on.

    Returns:
        Either is None where there is none: an answer follows a thought only where the thought has ended.
    """
    if marks.shared:
        return _blocks(marks.begin + reply if opened else reply, marks)
    before, mark, after = reply.rpartition(marks.end) if last else reply.partition(marks.end)
    if not mark:
        thinks = opened or reply.lstrip().startswith(marks.begin)
        return (_bare(reply, marks), None) if thinks else (None, reply)
    thought, answer = _bare(before, marks), after.lstrip()
    if marks.after and answer.rstrip().endswith(marks.after):
        answer = answer.rstrip().removesuffix(marks.after)
    if last or not answer.startswith(marks.begin):
        return thought, answer
    further, rest = split(answer, marks, opened=False)
    return "\n".join(part for part in (thought, further) if part) or None, rest


def release_calls(thought: str, begin: Sequence[str]) -> tuple[str | None, str]:
    """Thought and answer of a reply that has nothing after its thought.

    Models forget to end a thought before they call a tool (QwenLM/Qwen3 #1459, vllm #39056). A call was meant
    where nothing but further calls follows it; one that the thought goes on from was only thought of.

    Args:
        thought: of the reply.
        begin: how a call begins.
    """
    first = min((at for mark in begin if (at := thought.find(mark)) >= 0), default=-1)
    if first < 0:
        return thought, ""
    mark = next(mark for mark in begin if thought.startswith(mark, first))
    if not all(call.rstrip().endswith(">") for call in thought[first:].split(mark)[1:]):
        return thought, ""
    return thought[:first] or None, thought[first:]


def _bare(thought: str, marks: ThoughtMarks) -> str | None:
    if thought.lstrip().startswith(marks.begin):
        thought = thought.lstrip().removeprefix(marks.begin)
    thought = thought.removeprefix(marks.channel).removesuffix(marks.closing)
    return thought if thought.strip() else None


def _blocks(reply: str, marks: ThoughtMarks) -> tuple[str | None, str | None]:
    begin, end = re.escape(marks.begin), re.escape(marks.end)
    thoughts = re.findall(f"{begin}(.*?)(?:{end}|$)", reply, re.DOTALL)
    rest = re.sub(f"{begin}.*?{end}", "", reply, flags=re.DOTALL)
    return "\n".join(filter(str.strip, thoughts)) or None, None if marks.begin in rest else rest
