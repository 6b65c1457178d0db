"""Scoring that reads a reply as a person would: judges, what they say, and how often they are wrong."""

from harness.judges.base import Judge, Verdict
from harness.judges.spec import JudgeSpec, load_judge

__all__ = ["Judge", "JudgeSpec", "Verdict", "load_judge"]
