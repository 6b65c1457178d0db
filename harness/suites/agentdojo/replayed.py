"""Making the calls of somebody else's transcript again, and judging what they come to.

Results are not compared with what the transcript shows, as in the suite's own scoring: other machines have
other clocks, other versions of AgentDojo other tools, and defences change what an agent is shown. Two things
are taken from the transcript: that a call was refused, and what the environment drew at random.

Where a suite draws at random (codes, ids), two worlds with different seeds make the same calls side by side.
The parts in which their results differ were drawn. What stands there in the transcript is what was drawn
then: the agent's later words and arguments that repeat it mean what is drawn now.
"""

import re
from collections.abc import Callable, Collection, Sequence
from difflib import SequenceMatcher
from typing import Any

from msgspec import structs

from harness.errors import AttemptFailure
from harness.suites.agentdojo.defences import withheld
from harness.suites.agentdojo.world import Checker, Task, World, function_calls
from harness.types import FailureKind, Message, ToolCall

WORD = re.compile(r"\w+|\W")
STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?")
"""A time of day, which was another one then."""
KNOWN = 12
"""Letters of a line at least, by which it is known where other lines are gone."""


class Retold(World):
    """A world in which the calls of a transcript are made again."""

    def __init__(self, dojo: Any, task: Task, seed: int = 0) -> None:
        """Args: dojo, task, seed: see `World`."""
        super().__init__(dojo, task, seed=seed)
        self._twin = Retold(dojo, task, seed=1) if dojo.draws and seed == 0 else None
        self._meant: dict[str, str] = {}
        self.answers: list[tuple[Message, Message]] = []
        """(result now, result then) of calls that were not refused and in whose results nothing was drawn."""

    def offer(self, tools: Collection[str]) -> None:
        """See `World.offer`."""
        super().offer(tools)
        if self._twin is not None:
            self._twin.offer(tools)

    def replay(
        self, messages: Sequence[Message], shows: Callable[[str, Message], bool] = lambda *_: True
    ) -> None:
        """See `World.replay`.

        Raises:
            AttemptFailure: the transcript lacks a result, or what was drawn cannot be found in it.
        """
        results = iter([message for message in messages if message.role == "tool"])
        for message in messages[:-1]:
            for call in message.tool_calls:
                then = next(results, None)
                if then is None:
                    raise AttemptFailure(
                        FailureKind.SCORER_ERROR, f"the result of {call.name} is not in the transcript"
                    )
                self.retell(call, then)
        for world in (self, self._twin) if self._twin else (self,):
            world._trace += function_calls([world._as_drawn(call) for call in messages[-1].tool_calls])

    def verdict(self, task: Any, answer: str, checker: Checker | None = None) -> bool:
        """See `World.verdict`.

        Raises:
            AttemptFailure: the checker raised, or its verdict hangs on what is drawn.
        """
        verdict = super().verdict(task, self._translated(answer), checker)
        if self._twin is not None and self._twin.verdict(task, answer, checker) != verdict:
            raise AttemptFailure(
                FailureKind.INCOMPLETE_TRANSCRIPT,
                f"the environment draws at random, and the checker of {task.ID} says another thing each time",
            )
        return verdict

    def retell(self, call: ToolCall, then: Message) -> None:
        """Make a call of the transcript again, which had a result then. Raises AttemptFailure as `replay`."""
        now = self.call_again(self._as_drawn(call), then)
        twin = self._twin
        other = now if twin is None else twin.call_again(twin._as_drawn(call), then)
        if then.error:
            return
        if twin is None or now.content == other.content:
            self.answers.append((now, then))
            return
        if then.content == withheld():  # nobody was told what was drawn
            return
        parts = drawn_parts(now.content, other.content, then.content)
        if parts is None:
            raise AttemptFailure(
                FailureKind.INCOMPLETE_TRANSCRIPT,
                f"the environment draws at random: {call.name} answers {now.content[:60]!r} now and answered "
                f"{then.content[:60]!r} then, which does not tell what was drawn",
            )
        for drawn_then, drawn_now, drawn_by_twin in parts:
            self._meant[drawn_then], twin._meant[drawn_then] = drawn_now, drawn_by_twin

    def _as_drawn(self, call: ToolCall) -> ToolCall:
        """A call of the transcript with what was drawn here in place of what was drawn then."""
        if not self._meant:
            return call
        arguments = {name: self._value(value) for name, value in call.arguments.items()}
        return structs.replace(call, arguments=arguments)

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if isinstance(value, str):
            return self._translated(value)
        if type(value) is int and str(value) in self._meant:  # True is no number
            meant = self._meant[str(value)]
            return int(meant) if meant.isdecimal() else meant
        return value

    def _translated(self, text: str) -> str:
        if not self._meant:
            return text
        known = "|".join(map(re.escape, sorted(self._meant, key=len, reverse=True)))
        return re.sub(rf"(?<!\w)(?:{known})(?!\w)", lambda match: self._meant[match[0]], text)


def drawn_parts(one: str, other: str, then: str) -> list[tuple[str, str, str]] | None:
    """What was drawn in a result of a transcript.

    Args:
        one: the result in a world.
        other: the same result where other things were drawn.
        then: the result in the transcript; a defence may have put something around it.

    Returns:
        (drawn then, drawn in `one`, drawn in `other`) of every part in which these differ, or None if the
        result of the transcript is not like them elsewhere.
    """
    words, others = WORD.findall(one), WORD.findall(other)
    pattern, gaps = "", []
    for kind, a, b, c, d in SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        here, there = "".join(words[a:b]), "".join(others[c:d])
        if kind == "equal":
            pattern += STAMP.pattern.join(map(re.escape, STAMP.split(here)))
        else:
            pattern += r"(\w+)" if re.fullmatch(r"\w+", here) else "(.+?)"
            gaps.append((here, there))
    match = re.fullmatch(f".*?{pattern}.*?", then, re.DOTALL) or _lines_with_gaps(pattern, then)
    if match is None:
        return None
    return [(drawn, *gap) for drawn, gap in zip(match.groups(), gaps, strict=True)]


def _lines_with_gaps(pattern: str, then: str) -> re.Match[str] | None:
    """The lines in which something was drawn, where a defence took others away."""
    lines = [line for line in pattern.split(re.escape("\n")) if re.compile(line).groups]
    if any(len(re.findall(r"\w", line)) < KNOWN for line in lines):
        return None
    return re.search(".*?".join(f"^{line}$" for line in lines), then, re.DOTALL | re.MULTILINE)
