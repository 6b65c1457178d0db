"""Stub."""

from collections.abc import Sequence

from harness.scorecards.build import ModelScorecard
from harness.scorecards.origins import OriginScorecard


def render_html(scorecards: Sequence[ModelScorecard], origins: Sequence[OriginScorecard]) -> str:
    """Stub."""
    return ""
