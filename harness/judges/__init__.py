"""Scoring that reads a reply as a person would: judges, what they say, and how often they are wrong."""

from harness.judges.base import Judge
from harness.judges.spec import JudgeSpec, load_judge

__all__ = ["Judge", "JudgeSpec", "load_judge"]
