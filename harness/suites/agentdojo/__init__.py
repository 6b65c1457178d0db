"""Agent hijacking with AgentDojo's environments, tools, attacks and checkers.

AgentDojo (Debenedetti et al., 2024, arXiv 2406.13352) gives an agent a user task and tools whose
results carry an attacker's instructions. Its benchmark loop and its model classes are not used here:
they run one agent at a time and book engine failures as successful attacks. A transcript is scored by
replaying its tool calls in a fresh environment, so that a verdict needs nothing but the transcript.
"""

from harness.suites.agentdojo.options import Options
from harness.suites.agentdojo.suite import AgentDojoSuite, build

__all__ = ["AgentDojoSuite", "Options", "build"]
