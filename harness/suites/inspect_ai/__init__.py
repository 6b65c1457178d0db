"""Tasks written for Inspect (`inspect_ai`, UK AI Security Institute), on the engine of the run.

Solver, tools and scorers are Inspect's and run in its own evaluation loop, in this process; tokens are the
engine's. A transcript is scored afterwards, from what lies in it.
"""

from harness.suites.inspect_ai.suite import InspectSuite, Options, build

__all__ = ["InspectSuite", "Options", "build"]
