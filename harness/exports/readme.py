"""The headline numbers of each model as a table for its README.

OUT/<model>/results.md
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.analysis.build import MetricResult, ModelScorecard, build_scorecards
from harness.disk import replace
from harness.exports.names import file_names
from harness.reports import text
from harness.reports.text import escape_markdown
from harness.reports.words import plain_name
from harness.suites.restore import Restored
from harness.types import Manifest


def write(run: Restored, out: Path) -> list[Path]:
    """Write a table a model."""
    cards = build_scorecards(run.manifest, run.directory.columns)
    folders = file_names(card.model.name for card in cards)
    written = []
    for card in cards:
        results = [one for one in card.metrics.values() if one.metric.headline]
        if results:
            path = out / folders[card.model.name] / "results.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, ("\n".join(_table(run.manifest, card, results)) + "\n").encode())
            written.append(path)
    return written


def _table(manifest: Manifest, card: ModelScorecard, results: Sequence[MetricResult]) -> Iterator[str]:
    yield "| Benchmark | Metric | Result, 95% interval | Attempts |"
    yield "|---|---|---:|---:|"
    for one in results:
        what = f"{plain_name(one.metric)}{text.arrow(one.metric)}"
        number = text.format_interval(one.estimate, one.metric)
        cells = (one.suite, what, number, text.format_count(one.estimate, one.metric))
        yield f"| {' | '.join(map(escape_markdown, cells))} |"
    engine = card.model.engine
    sentence = f"Measured with harness {manifest.harness_version}"
    sentence += f" and {engine.name} {engine.version}" if engine else ""
    yield ""
    sentence += f" on {manifest.created[:10]}. ↑ more is better, ↓ less is better."
    yield escape_markdown(f"{sentence} Attempts that failed are missing, and count neither way.")
