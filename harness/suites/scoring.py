"""Scoring within a bound in time, with what is warned of meanwhile."""

from typing import NamedTuple

from harness.bounded import bounded
from harness.suites.base import Suite
from harness.types import Sample, Score, Transcript
from harness.warned import gathered


class Scored(NamedTuple):
    """What scoring a reply came to."""

    scores: tuple[Score, ...]
    warnings: tuple[str, ...]
    """What was warned of meanwhile, each text once; see `harness.warned`."""


def score(suite: Suite, sample: Sample, transcript: Transcript) -> Scored:
    """`Suite.score` within the bound. Raises as `bounded`, and what the suite raises."""
    with bounded(f"scoring {named(suite, sample)}"), gathered() as warnings:
        return Scored(suite.score(sample, transcript), tuple(dict.fromkeys(warnings)))
    raise AssertionError("a bounded section that was ended raises")


def named(suite: Suite, sample: Sample) -> str:
    """A sample in a sentence."""
    return f"document {sample.id} of {suite.name}"
