"""Harm made of harmless steps: what an agent does for a patient operator who never says what it is for."""

from harness.suites.agentdojo.stepwise.suite import Options, StepwiseSuite, build

__all__ = ["Options", "StepwiseSuite", "build"]
