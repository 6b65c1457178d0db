"""What lm-eval writes: `results_<time>.json` and `samples_<task>_<time>.jsonl`, a folder a model.

lm-eval knows no missing scores: failed attempts have no line, `n-samples` says how many were asked and how
many were measured. Its `stderr` is here the half width of the 95% interval over 1.96, clusters included.
Corpus metrics have their value, but nothing in the lines.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from harness import stats
from harness.disk import replace
from harness.exports.every_eval_ever import slug
from harness.exports.inspect import target_of
from harness.exports.prompts import Prompts
from harness.restore import Restored
from harness.scorecards.build import ModelScorecard, build_scorecards
from harness.store import RunDirectory
from harness.types import CellEntry, Record


def write(directory: RunDirectory, out: Path) -> list[Path]:
    """Write results and samples of every model."""
    run = Restored(directory)
    cards, prompts = build_scorecards(run.manifest, directory.columns), Prompts(run)
    return prompts.whole([path for card in cards for path in _write_model(run, card, out, prompts)])


def _write_model(run: Restored, card: ModelScorecard, out: Path, prompts: Prompts) -> list[Path]:
    cells = {c.suite: c for c in run.manifest.cells.values() if c.model == card.model.name}
    folder = out / slug(card.model.name)
    folder.mkdir(parents=True, exist_ok=True)
    time = run.manifest.created.replace(":", "-")
    results = folder / f"results_{time}.json"
    replace(results, json.dumps(_results(run, card, cells), indent=2, ensure_ascii=False).encode())
    paths = [results]
    for suite, cell in cells.items():
        path = folder / f"samples_{slug(suite)}_{time}.jsonl"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in _lines(run, cell, prompts))
        paths.append(path)
    return paths


def _results(run: Restored, card: ModelScorecard, cells: dict[str, CellEntry]) -> dict[str, Any]:
    model = card.model
    numbers: dict[str, dict[str, Any]] = {slug(suite): {"alias": slug(suite)} for suite in cells}
    better: dict[str, dict[str, bool | None]] = {slug(suite): {} for suite in cells}
    for result in card.metrics.values():
        name, _, filter_name = result.metric.name.partition(",")
        estimate, task = result.estimate, slug(result.suite)
        if estimate.value is None or result.metric.booking:  # samples here are attempts that did not fail
            continue
        error: float | str = "N/A"
        if estimate.low is not None and estimate.high is not None:
            error = (estimate.high - estimate.low) / (2 * stats.Z)
        numbers[task][f"{name},{filter_name or 'none'}"] = estimate.value
        numbers[task][f"{name}_stderr,{filter_name or 'none'}"] = error
        better[task][name] = result.metric.higher_is_better
    return {
        "results": numbers,
        "group_subtasks": {slug(suite): [] for suite in cells},
        "configs": {slug(suite): _config(cell) for suite, cell in cells.items()},
        "versions": {slug(suite): _version(cell) for suite, cell in cells.items()},
        "n-shot": {slug(suite): _shots(cell) for suite, cell in cells.items()},
        "higher_is_better": better,
        "n-samples": {
            slug(suite): {
                "original": card.suites[suite].expected,
                "effective": card.suites[suite].finished - sum(card.suites[suite].failures.values()),
            }
            for suite in cells
        },
        "config": {
            "model": model.engine.name if model.engine else "unknown",
            "model_args": {"pretrained": model.name},
            "batch_size": "auto",
            "limit": None,
            "origin": msgspec.to_builtins(model.origin),
        },
        "git_hash": None,
        "date": datetime.fromisoformat(run.manifest.created).timestamp(),
        "lm_eval_version": run.manifest.versions.get("lm-eval", "unknown"),
        "transformers_version": run.manifest.versions.get("transformers", "unknown"),
        "model_source": model.engine.name if model.engine else "unknown",
        "model_name": model.name,
        "model_name_sanitized": slug(model.name),
        "chat_template_sha": model.architecture.chat_template_hash if model.architecture else None,
        "task_hashes": {},
        "total_evaluation_time_seconds": None if model.imported else str(card.usage.engine_seconds),
    }


def _config(cell: CellEntry) -> dict[str, Any]:
    return {
        "task": slug(cell.suite),
        "dataset_path": cell.protocol.get("dataset_path", cell.suite),
        "output_type": cell.protocol.get("output_type", "generate_until"),
        "repeats": cell.attempts,
        "metadata": cell.protocol,
    }


def _version(cell: CellEntry) -> str:
    return cell.protocol.get("task_version") or cell.protocol.get("benchmark_version") or "0"


def _shots(cell: CellEntry) -> int:
    shots = cell.protocol.get("num_fewshot", "0")
    return int(shots) if shots.isdecimal() else 0


def _lines(run: Restored, cell: CellEntry, made: Prompts) -> Iterator[dict[str, Any]]:
    """A line for every attempt that did not fail, by sample and attempt."""
    records = run.directory.records(cell)
    prompts = made.of(cell, records)
    ids = {name: number for number, name in enumerate(sorted({record.sample for record in records}))}
    booked = {metric.name for metric in cell.metrics if metric.booking}
    for record in records:
        if record.failure is None:
            scores = tuple(score for score in record.scores if score.metric not in booked)
            record = msgspec.structs.replace(record, scores=scores)
            yield _line(record, ids[record.sample], prompts.get(record.sample, ()), target_of(cell, record))


def _line(record: Record, number: int, prompts: Sequence[str], target: str) -> dict[str, Any]:
    transcript = record.transcript
    asked = "\n\n".join(m.content for m in transcript.messages if m.role in ("system", "user"))
    arguments = list(prompts) or ([asked] if asked else [])
    replies: list[Any] = [[reply.raw] for reply in transcript.generations]
    replies += [[[str(x.logprob), str(x.is_greedy)]] for x in transcript.loglikelihoods]
    answers = [score.answer for score in record.scores if score.answer is not None]
    scores = {
        score.metric.partition(",")[0]: score.value for score in record.scores if score.value is not None
    }
    return {
        "doc_id": number,
        "doc": {"id": record.sample, "attempt": record.attempt, **record.clusters, **record.labels},
        "target": target,
        "arguments": {f"gen_args_{i}": {"arg_0": text} for i, text in enumerate(arguments)},
        "resps": replies,
        "filtered_resps": answers[:1],
        "filter": "none",
        "metrics": list(scores),
        "doc_hash": record.content_hash,
        "prompt_hash": hashlib.sha256("".join(arguments).encode()).hexdigest() if arguments else None,
        "target_hash": hashlib.sha256(target.encode()).hexdigest(),
        **scores,
    }
