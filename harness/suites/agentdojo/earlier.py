"""Longer conversations: what the agent did for its user before the task that is measured.

The tasks before are others of the suite, done as their authors do them, and of those alone whose solution
changes nothing: so the environment, and with it every verdict, is as in a short conversation. Their results
are from an environment in which nothing is injected, since the attacker came later.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import count
from typing import Any

from harness.errors import AttemptFailure, UserError
from harness.suites.agentdojo.world import Task, World
from harness.types import Message, ToolCall


class Earlier:
    """The user tasks of a suite that can stand before another one."""

    def __init__(self, dojo: Any, wanted: int) -> None:
        """Args: dojo: an AgentDojo task suite, as `load_task_suite` returns it. wanted: tasks before each."""
        self._dojo, self._wanted = dojo, wanted

    def before(self, user_task: str | None) -> tuple[Message, ...]:
        """The conversation before a user task, or before a goal that is put as the user's own request.

        Those that follow it in the suite, and then from the first.

        Raises:
            UserError: the suite has not so many others whose solution changes nothing.
        """
        if not self._wanted:
            return ()
        users = list(self._dojo.user_tasks)
        first = users.index(user_task) + 1 if user_task else 0
        others = [user for user in (*users[first:], *users[:first]) if user != user_task]
        chosen = [self._talks[user] for user in others if user in self._talks][: self._wanted]
        if len(chosen) < self._wanted:
            raise UserError(
                f"earlier: {self._wanted} tasks cannot stand before {user_task or 'a goal'}: the suite has "
                f"{len(chosen)} others whose solution changes nothing"
            )
        return tuple(message for talk in chosen for message in talk)

    @cached_property
    def _talks(self) -> dict[str, Sequence[Message]]:
        """User task whose solution changes nothing -> the conversation about it."""
        talks: dict[str, Sequence[Message]] = {}
        ids = count()
        for task in self._dojo.user_tasks.values():
            world = World(self._dojo, Task(user_task=task.ID, injection_task=None, injections={}))
            try:
                talk = tuple(_talk(task, world, ids))
            except AttemptFailure:
                continue
            if not world.changed and not any(message.error for message in talk):
                talks[task.ID] = talk
        return talks


def _talk(task: Any, world: World, ids: Iterator[int]) -> Iterator[Message]:
    """Each call of the solution in a turn of its own, and then the answer."""
    yield Message(role="user", content=world.request)
    for call in task.ground_truth(world.untouched):
        made = ToolCall(id=f"prior{next(ids):04}", name=call.function, arguments=dict(call.args))
        yield Message(role="assistant", content="", tool_calls=(made,))
        yield from world.call([made])
    yield Message(role="assistant", content=task.GROUND_TRUTH_OUTPUT or "Done.")
