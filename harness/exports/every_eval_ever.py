"""Every Eval Ever 0.3.0: one file a model, and a line for every score of every attempt.

    OUT/data/<run>/<developer>/<model>/<uuid>.json and <uuid>_samples.jsonl

Its schema has no place for a missing score: attempts that failed have no line, and their number stands in
`score_details.details.missing`. It has to be told whether lower is better: where neither is,
`lower_is_better` is true, and `evaluation_description` says so. Right answers are given where the records
keep them (those of lm-eval tasks).
Check with `python -m every_eval_ever validate 'data/*/*/*/*.json*'` in the folder OUT.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.build import MetricResult, ModelScorecard, build_scorecards
from harness.disk import replace
from harness.exports.inspect import target_of
from harness.exports.names import file_names
from harness.exports.prompts import Prompts
from harness.records.seal import checksum
from harness.reports.text import direction
from harness.suites.restore import Restored
from harness.types import CellEntry, Message, Metric, ModelEntry, Record, Score, Usage

SCHEMA = "0.3.0"


def write(run: Restored, out: Path, cards: Sequence[ModelScorecard] | None = None) -> list[Path]:
    """Write the results and the lines of every model of which anything was measured.

    Args:
        run: that they are of.
        out: a folder that is there.
        cards: its scorecards, if they are made already.

    Raises:
        Incomplete: as `export`.
    """
    cards = build_scorecards(run.manifest, run.directory.columns) if cards is None else cards
    measured = [c for c in cards if any(r.estimate.value is not None for r in c.metrics.values())]
    prompts = Prompts(run)
    (base,) = file_names([run.manifest.name]).values()
    developers = file_names(card.model.origin.developer for card in cards)
    models = file_names(card.model.name for card in cards)
    paths = []
    for card in measured:
        identity = f"{developers[card.model.origin.developer]}/{models[card.model.name]}"
        paths += _write_model(run, card, out, (base, identity), prompts)
    return prompts.whole(paths)


def _write_model(
    run: Restored, card: ModelScorecard, out: Path, names: tuple[str, str], prompts: Prompts
) -> list[Path]:
    """Args: names: of the run, and `<developer>/<model>`, as files are called."""
    base, identity = names
    folder = out / "data" / base / identity
    folder.mkdir(parents=True, exist_ok=True)
    stem = _uuid(f"{run.manifest.config_digest}/{run.manifest.created}/{card.model.name}")
    lines, results = folder / f"{stem}_samples.jsonl", folder / f"{stem}.json"
    head = {
        "schema_version": SCHEMA,
        "evaluation_id": f"{base}/{identity}/{_epoch(run)}",
        "model_id": identity,
    }
    evaluation = {
        "schema_version": SCHEMA,
        "evaluation_id": head["evaluation_id"],
        "evaluation_timestamp": run.manifest.created,
        "retrieved_timestamp": _epoch(run),
        "source_metadata": _source(run),
        "eval_library": {"name": "openweight-harness", "version": run.manifest.harness_version},
        "model_info": _model(card.model, head["model_id"]),
        "evaluation_results": [
            _result(run.manifest.cells, card, key, result)
            for key, result in card.metrics.items()
            if result.estimate.value is not None
        ],
    }
    rows = _write_lines(lines, ({**head, **row} for row in _rows(run, card, prompts)))
    if rows:
        evaluation["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": lines.relative_to(out).as_posix(),
            "hash_algorithm": "sha256",
            "checksum": checksum(lines),
            "total_rows": rows,
        }
    replace(results, json.dumps(evaluation, indent=2, allow_nan=False).encode())
    return [results, lines] if rows else [results]


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write rows and return their number; without any there is no file."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            count += 1
    if not count:
        path.unlink()
    return count


def _uuid(text: str) -> uuid.UUID:
    """The same random-looking UUID (version 4 by its bits) for the same text."""
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4)


def _epoch(run: Restored) -> str:
    return str(int(datetime.fromisoformat(run.manifest.created).timestamp()))


def _source(run: Restored) -> dict[str, Any]:
    return {
        "source_name": run.manifest.name,
        "source_type": "evaluation_run",
        "source_organization_name": "unknown",
        "evaluator_relationship": "third_party",
        "additional_details": {"config_digest": run.manifest.config_digest, **run.manifest.hardware},
    }


def _model(model: ModelEntry, identity: str) -> dict[str, Any]:
    origin = model.origin
    facts = {} if model.architecture is None else msgspec.structs.asdict(model.architecture)
    details = {
        "deployment_type": "unknown" if model.imported else "self_deployed",
        "model_availability": "open_weights",
        "country": origin.country,
        "base_models": ", ".join(origin.base_models),
        "licence": origin.licence or "unknown",
        "release_date": origin.release_date or "unknown",
        **{key: str(value) for key, value in facts.items() if value is not None},
        **({} if model.engine is None else {f"engine.{k}": v for k, v in model.engine.details.items()}),
    }
    engine = {} if model.engine is None else {"name": model.engine.name, "version": model.engine.version}
    info = {"name": model.name, "id": identity, "developer": origin.developer, "additional_details": details}
    return {**info, "inference_engine": engine} if engine else info


def _result(
    cells: dict[str, CellEntry], card: ModelScorecard, key: str, result: MetricResult
) -> dict[str, Any]:
    cell = next(c for c in cells.values() if (c.model, c.suite) == (card.model.name, result.suite))
    estimate, metric = result.estimate, result.metric
    low, high = bounds(metric)
    drawn = {name: value for name, value in cell.protocol.items() if name.startswith("sampling.")}
    uncertainty: dict[str, Any] = {"num_samples": estimate.n}
    if estimate.low is not None and estimate.high is not None:
        uncertainty["confidence_interval"] = {
            "lower": estimate.low,
            "upper": estimate.high,
            "confidence_level": 0.95,
            "method": estimate.method,
        }
    return {
        "evaluation_result_id": key,
        "evaluation_name": key,
        "source_data": {
            "dataset_name": result.suite,
            "source_type": "other",
            "additional_details": cell.protocol,
        },
        "metric_config": {
            "metric_id": metric.name,
            "metric_name": metric.name,
            "metric_kind": metric.kind,
            "evaluation_description": "; ".join(filter(None, (direction(metric), metric.booking))),
            "lower_is_better": not metric.higher_is_better,
            "score_type": "continuous",
            "min_score": "-Infinity" if low is None else low,
            "max_score": "Infinity" if high is None else high,
        },
        "score_details": {
            "score": estimate.value,
            "details": {"missing": str(estimate.missing), "clusters": str(estimate.clusters)},
            "uncertainty": uncertainty,
        },
        "generation_config": {"additional_details": {**drawn, "attempts": str(cell.attempts)}},
    }


def bounds(metric: Metric) -> tuple[float | None, float | None]:
    """The smallest and largest value, None where there is none."""
    return (0.0, 1.0) if metric.kind == "rate" else metric.bounds or (None, None)


def is_correct(metric: Metric, value: float) -> bool:
    """True if a score is the best that there can be: for a rate of being hijacked, 0."""
    low, high = bounds(metric)
    return value == (high if metric.higher_is_better else low)


def _rows(run: Restored, card: ModelScorecard, made: Prompts) -> Iterator[dict[str, Any]]:
    """A row for every score that counts, of every attempt."""
    for cell in run.manifest.cells.values():
        if cell.model != card.model.name:
            continue
        metrics = {metric.name: metric for metric in cell.metrics}
        for record in run.records(cell):
            prompt = "\n\n".join(made.texts(cell, record))
            for score in cell.counted(record):
                if score.value is not None and score.metric in metrics:
                    row = _row(cell, metrics[score.metric], record, score, prompt)
                    yield {**row, "token_usage": _tokens(card.model, record.usage)}


def _row(cell: CellEntry, metric: Metric, record: Record, score: Score, prompt: str) -> dict[str, Any]:
    assert score.value is not None
    messages = record.transcript.messages
    kind = _interaction(record)
    single = kind == "single_turn"
    asked = "\n\n".join(m.content for m in messages if m.role in ("system", "user")) or prompt
    turns = [_message(i, message) for i, message in enumerate(messages)]
    calls = sum(len(message.tool_calls) for message in messages)
    return {
        "evaluation_name": f"{cell.suite}/{metric.name}",
        "evaluation_result_id": f"{cell.suite}/{metric.name}",
        "sample_id": record.sample if cell.attempts == 1 else f"{record.sample}#{record.attempt}",
        "sample_hash": record.content_hash,
        "interaction_type": kind,
        "input": {"raw": asked, "reference": [target] if (target := target_of(cell, record)) else []},
        "output": _output(record) if single else None,
        "messages": None if single else turns,
        "answer_attribution": _attribution(score, single, max(0, len(messages) - 1)),
        "evaluation": {
            "score": score.value,
            "is_correct": is_correct(metric, score.value),
            "num_turns": max(1, len(record.transcript.generations)),
            "tool_calls_count": calls,
        },
        "performance": {"latency_ms": 1000 * record.seconds} if record.seconds else None,
        "metadata": {**record.clusters, **record.labels, "attempt": str(record.attempt)},
    }


def _tokens(model: ModelEntry, usage: Usage) -> dict[str, int | None] | None:
    """None where they are not known."""
    if model.imported or usage.tokens is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.tokens,
        "input_tokens_cache_read": usage.cached_tokens,
    }


def _interaction(record: Record) -> str:
    messages = record.transcript.messages
    if any(message.role == "tool" or message.tool_calls for message in messages):
        return "agentic"
    return "multi_turn" if len(record.transcript.generations) > 1 and messages else "single_turn"


def _output(record: Record) -> dict[str, Any]:
    transcript = record.transcript
    raw = [reply.raw for reply in transcript.generations]
    raw += [f"log-likelihood {choice.logprob}" for choice in transcript.loglikelihoods]
    reasoning = [reply.reasoning for reply in transcript.generations if reply.reasoning]
    return {"raw": raw, "reasoning_trace": reasoning or None}


def _message(turn: int, message: Message) -> dict[str, Any]:
    return {
        "turn_idx": turn,
        "role": message.role,
        "content": message.content,
        "reasoning_trace": message.reasoning,
        "tool_calls": [
            {
                "id": call.id,
                "name": call.name,
                "arguments": {
                    k: v if isinstance(v, str) else json.dumps(v) for k, v in call.arguments.items()
                },
            }
            for call in message.tool_calls
        ]
        or None,
        "tool_call_id": [message.tool_call_id] if message.tool_call_id else None,
    }


def _attribution(score: Score, single: bool, turn: int) -> Sequence[dict[str, Any]]:
    if score.answer is None:
        return []
    source = "output.raw" if single else f"messages[{turn}].content"
    return [
        {
            "turn_idx": 0 if single else turn,
            "source": source,
            "extracted_value": score.answer,
            "extraction_method": "custom",
            "is_terminal": True,
        }
    ]
