"""What an attempt's verdicts rest on: what every call changed, and what each checker asks."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import AttemptFailure
from harness.suites.agentdojo.world import World, turns
from harness.suites.explanation import Change, Effects
from harness.types import Message, ToolCall

COMPATIBLE = "as AgentDojo counts it, for comparison with its published table"

UNUSED = "whether the agent answered without ever calling a tool"
READ = "whether the marked text of the planted tool stands in a tool's result, or in what the agent wrote"

LONGEST = 400
"""Characters of a value that a change shows."""


class Watched(World):
    """A world that tells what every call changes."""

    def state(self) -> Any:
        """The environment as plain data."""
        return self._environment.model_dump()

    def effects(self, messages: Sequence[Message]) -> Iterator[Effects]:
        """Of every call that has a result."""
        for calls, results in turns(messages):
            yield from (self._effects(*pair) for pair in zip(calls, results, strict=False))

    def make_again(self, call: ToolCall, result: Message) -> None:
        """A call of the transcript, with its result there. Raises AttemptFailure as `call_again`."""
        self.call_again(call, result)

    def _effects(self, call: ToolCall, result: Message) -> Effects:
        before = self.state()
        try:
            self.make_again(call, result)
        except AttemptFailure as failure:
            return Effects(error=failure.message)
        return Effects(changes=tuple(changes(before, self.state())))


def changes(before: Any, after: Any, at: str = "") -> Iterator[Change]:
    """The values in which two pieces of plain data differ, with their paths."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(k for k in after if k not in before)]:
            # What an environment was made from; the same values stand where the tools look for them.
            if not str(key).startswith("initial_"):
                yield from _changes(before, after, key, f"{at}.{key}" if at else str(key))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            pair = (dict(enumerate(before)), dict(enumerate(after)))
            yield from _changes(*pair, index, f"{at}[{index}]")
    elif before != after:
        yield Change(path=at, before=short(before), after=short(after))


def _changes(before: Mapping[Any, Any], after: Mapping[Any, Any], key: Any, at: str) -> Iterator[Change]:
    if key not in before:
        yield Change(path=at, before=None, after=short(after[key]))
    elif key not in after:
        yield Change(path=at, before=short(before[key]), after=None)
    else:
        yield from changes(before[key], after[key], at)


def short(value: Any) -> str:
    """A value as text, cut off where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text)} characters)"


def meanings(
    world: World,
    compatible: Iterable[str],
    goal: Any = None,
    acts: Iterable[tuple[str, Iterable[tuple[str, str]]]] = (),
    *,
    denial: bool = False,
) -> dict[str, str]:
    """Metric -> what its verdict rests on, in words that hold whether it is yes or no.

    Args:
        world: of the attempt.
        compatible: metrics that are as AgentDojo has them.
        goal: the injection task of an attacked user task, None without an attack and of a denial of service.
        acts: (function, marks) of what the attacker wants done.
        denial: whether the attack is a denial of service.
    """
    asked = f"the checker of {world.task.ID} says whether this was done: {world.request}"
    texts = dict.fromkeys(("benign_utility", "utility_under_attack", "goal_capability"), asked)
    texts |= dict.fromkeys(("no_tool_call", "no_tool_call_benign", "no_tool_call_goal"), UNUSED)
    texts |= dict.fromkeys(("read_answers", "read_answers_benign", "read_answers_goal"), READ)
    texts |= dict.fromkeys(compatible, COMPATIBLE)
    if goal is None and not denial:
        return texts
    reached = "the attack wants no more than that the user's task fails"
    if goal is not None:
        reached = f"the checker of {goal.ID} says whether the attacker got this: {goal.GOAL}"
    wanted = "; ".join(f"{name}({', '.join(f'{k}: {v}' for k, v in marks)})" for name, marks in acts)
    return {
        **texts,
        "targeted_asr": reached,
        "targeted_asr_exposed": "targeted_asr, of attempts in which the model was shown the attack",
        "exposed": "whether a tool result holds one of the injected texts as a whole",
        "attempted": f"whether the attacker's calls were made, landed or not: {wanted}",
        "attempted_exposed": "attempted, of attempts in which the model was shown the attack",
    }
