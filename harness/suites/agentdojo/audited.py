"""AgentDojo with corrected checkers: the adapter `agentdojo` with `variant: audited` for its default."""

from typing import Literal

from harness.suites import agentdojo
from harness.suites.agentdojo import AgentDojoSuite


class Options(agentdojo.Options):
    """Options of the `agentdojo_audited` adapter."""

    variant: Literal["upstream", "audited"] = "audited"


def build(name: str | None, options: Options) -> list[AgentDojoSuite]:
    """The one suite that the options describe. Raises as `agentdojo.build`."""
    return agentdojo.build(name or f"{options.suite}_audited", options)
