"""InjecAgent: hijacking through one tool result, by its own prompts and parser."""

from harness.suites.injecagent.suite import InjecAgentSuite, Options, build

__all__ = ["InjecAgentSuite", "Options", "build"]
