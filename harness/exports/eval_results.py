"""Hugging Face's `.eval_results/*.yaml`: one file a model, through the writer of huggingface_hub.

    OUT/<model>/.eval_results/<suite>.yaml

The format has no interval and no direction, so both stand in `notes`. The Hub shows an entry only if
`dataset.id` is a benchmark that it knows; a suite whose data is not on the Hub has its own name there.
"""

from pathlib import Path
from typing import Any

from harness.analysis.build import MetricResult, ModelScorecard, build_scorecards
from harness.disk import replace
from harness.exports.names import file_names
from harness.reports import text
from harness.suites.restore import Restored
from harness.types import CellEntry, Manifest


def write(run: Restored, out: Path) -> list[Path]:
    """Write the headline metrics of every suite of every model."""
    manifest = run.manifest
    cards = build_scorecards(manifest, run.directory.columns)
    folders = file_names(card.model.name for card in cards)
    names = file_names(suite for card in cards for suite in card.suites)
    return [
        _write_suite(
            manifest, card, suite, out / folders[card.model.name] / ".eval_results" / f"{names[suite]}.yaml"
        )
        for card in cards
        for suite in card.suites
        if _headlines(card, suite)
    ]


def _headlines(card: ModelScorecard, suite: str) -> list[MetricResult]:
    return [
        result
        for result in card.metrics.values()
        if result.suite == suite and result.metric.headline and result.estimate.value is not None
    ]


def _write_suite(manifest: Manifest, card: ModelScorecard, suite: str, path: Path) -> Path:
    import yaml
    from huggingface_hub import eval_result_entries_to_yaml

    cell = next(c for c in manifest.cells.values() if (c.model, c.suite) == (card.model.name, suite))
    entries = [_entry(manifest, cell, result) for result in _headlines(card, suite)]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    replace(path, content.encode())
    return path


def _entry(manifest: Manifest, cell: CellEntry, result: MetricResult) -> Any:
    from huggingface_hub import EvalResultEntry

    scale = 100.0 if text.is_share(result.metric) else 1.0
    assert result.estimate.value is not None
    return EvalResultEntry(
        dataset_id=cell.protocol.get("dataset_path", cell.suite),
        task_id=f"{cell.suite}/{result.metric.name}",
        value=round(scale * result.estimate.value, 4),
        dataset_revision=cell.protocol.get("dataset_revision"),
        date=manifest.created,
        notes=f"{text.format_estimate(result.estimate, result.metric)}, 95% interval, "
        f"{text.direction(result.metric)}",
    )
