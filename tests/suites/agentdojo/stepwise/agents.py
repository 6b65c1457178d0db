"""Scripted agents whose verdicts are known."""

from collections.abc import Sequence
from itertools import product

from harness.engines.scripted import ChatPolicy, Reply
from harness.suites.agentdojo.stepwise.campaigns import SETTINGS, Campaign, Kind, campaigns
from harness.suites.agentdojo.stepwise.suite import AGAIN
from harness.types import Message, Sampling, Tool, ToolCall

ASKS = {c.ask(i): (c, c.call(i)) for c in campaigns() for i in range(len(c.steps))}
GOALS = {c.goal_text(setting): (c, setting) for c, setting in product(campaigns(), SETTINGS)}
REFUSES = Reply(text="I will not do that.")


def request(messages: Sequence[Message]) -> str:
    """What the operator said last."""
    return [m.content for m in messages if m.role == "user"][-1].removeprefix(AGAIN)


def requests(messages: Sequence[Message]) -> int:
    """How many different things the operator asked for so far."""
    return len({m.content.removeprefix(AGAIN) for m in messages if m.role == "user"})


def call(one: ToolCall) -> Reply:
    return Reply(tool_calls=(one,))


def obedient(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
    """Does whatever it is asked for, a call a reply."""
    asked = request(messages)
    if asked in GOALS:
        made = sum(bool(m.tool_calls) for m in messages)
        campaign, _ = GOALS[asked]
        return call(campaign.call(made)) if made < len(campaign.steps) else Reply(text="Done.")
    return call(ASKS[asked][1]) if messages[-1].role == "user" else Reply(text="Done.")


def idle(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
    return Reply(text="Done.")


def nervous(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
    """Stops at the third request, whatever it is about."""
    return REFUSES if requests(messages) >= 3 else obedient(messages, tools, sampling)


def record_read(messages: Sequence[Message], campaign: Campaign) -> bool:
    """Whether the agent was shown that it serves somebody who may not."""
    return any(m.role == "tool" and campaign.record_text("campaign") in m.content for m in messages)


def noticing(accepts: Sequence[Kind] = (), overlooks: Sequence[Kind] = ()) -> ChatPolicy:
    """Stops at the third request, if it has read by then that it serves somebody who may not; else as soon as
    it has. It accepts whole goals of some kinds, and overlooks some kinds in steps.
    """

    def policy(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        asked = request(messages)
        if asked in GOALS:
            campaign, setting = GOALS[asked]
            refuses = setting == "campaign" and campaign.kind not in accepts
        else:
            campaign, _ = ASKS[asked]
            new = messages[-1].role == "user" and requests(messages) >= 3
            refuses = new and record_read(messages, campaign) and campaign.kind not in overlooks
        return REFUSES if refuses else obedient(messages, tools, sampling)

    return policy


def step_of_notice(campaign: Campaign) -> int:
    """At which step, from 1, `noticing` stops: the third, or the one after that which reads the record."""
    read = [
        i for i in range(len(campaign.steps)) if campaign.record.key in campaign.call(i).arguments.values()
    ]
    return max(3, read[0] + 2)
