"""What somebody who builds an agent asks of a model, over all suites that offer it tools."""

from collections.abc import Sequence

from harness import stats
from harness.analysis.build import ModelScorecard
from harness.analysis.tool_use import ToolUse
from harness.types import Estimate, Metric, Struct

UTILITY = Metric(name="utility", higher_is_better=True, kind="rate", bounds=(0.0, 1.0))
CALLS = Metric(name="calls", higher_is_better=None)
TOKENS = Metric(name="tokens_per_solved", higher_is_better=False)
SECONDS = Metric(name="seconds_per_solved", higher_is_better=False)


class AgentCard(Struct):
    """One suite of a model, or all of them, each counting the same. None: not known, or nothing to know."""

    suites: tuple[str, ...]
    utility: Estimate | None
    """Tasks solved where nobody attacks."""
    parse_failures: Estimate
    calls: Estimate | None
    """Of tools, in an attempt."""
    tokens_per_solved: Estimate | None
    seconds_per_solved: Estimate | None


def agent_cards(card: ModelScorecard) -> tuple[AgentCard, ...]:
    """All suites of a model that offer tools together, then each where there are several; or none."""
    own = [_of_suite(card, name, suite.tool_use) for name, suite in card.cells.items() if suite.tool_use]
    return (_together(own), *own) if len(own) > 1 else tuple(own)


def _of_suite(card: ModelScorecard, name: str, used: ToolUse) -> AgentCard:
    result = {**card.metrics, **card.members}.get(f"{name}/{used.utility}")
    costs = not card.model.imported  # transcripts of others do not tell them
    return AgentCard(
        suites=(name,),
        utility=None if result is None else result.estimate,
        parse_failures=used.parse_failures,
        calls=used.calls,
        tokens_per_solved=used.tokens if costs else None,
        seconds_per_solved=used.seconds if costs else None,
    )


def _together(own: Sequence[AgentCard]) -> AgentCard:
    tasks = [one for one in own if one.utility]
    return AgentCard(
        suites=tuple(name for one in own for name in one.suites),
        utility=_mean([one.utility for one in tasks]),
        parse_failures=stats.average([one.parse_failures for one in own]),
        calls=_mean([one.calls for one in tasks]),
        tokens_per_solved=_mean([one.tokens_per_solved for one in tasks]),
        seconds_per_solved=_mean([one.seconds_per_solved for one in tasks]),
    )


def _mean(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """None where one is not known: a mean of the others would be of something else."""
    known = [one for one in estimates if one is not None]
    return stats.average(known) if known and len(known) == len(estimates) else None
