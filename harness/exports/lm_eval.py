"""What lm-eval writes: `results_<time>.json` and `samples_<task>_<time>.jsonl`, a folder a model.

As in lm-eval there is a line for every document and filter, `doc_id` is the document's, and `stderr` is the
sample's standard deviation over the root of n; where lm-eval would bootstrap (corpus metrics) it is `N/A`, as
lm-eval has it with `bootstrap_iters=0`. lm-eval knows no missing scores: failed attempts have no line, and
`n-samples` says how many were measured. Corpus metrics have their value, but nothing in the lines.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from harness.analysis.benchmarks import by_benchmark
from harness.analysis.build import MetricResult, ModelScorecard, build_scorecards
from harness.disk import replace
from harness.exports.inspect import target_of
from harness.exports.names import file_names
from harness.exports.prompts import Prompts
from harness.suites.lm_eval.suite import Item, LmEvalSuite
from harness.suites.restore import Restored
from harness.types import CellEntry, Metric, Record, Sample, Score

NO_FILTER = "none"
"""lm-eval's name of the filter of a task that states none."""
COPIED = 1 << 20
"""Bytes that are copied at once."""


def write(run: Restored, out: Path) -> list[Path]:
    """Write results and samples of every model."""
    cards, prompts = build_scorecards(run.manifest, run.directory.columns), Prompts(run)
    folders = file_names(card.model.name for card in cards)
    paths = [
        path for card in cards for path in _write_model(run, card, out / folders[card.model.name], prompts)
    ]
    return prompts.whole(paths)


def _write_model(run: Restored, card: ModelScorecard, folder: Path, prompts: Prompts) -> list[Path]:
    cells = {c.suite: c for c in run.manifest.cells.values() if c.model == card.model.name}
    folder.mkdir(parents=True, exist_ok=True)
    time = run.manifest.created.replace(":", "-")
    paths = [folder / f"results_{time}.json"]
    for suite, name in file_names(cells).items():
        cell, path = cells[suite], folder / f"samples_{name}_{time}.jsonl"
        _write_samples(run, cell, prompts, path)
        paths.append(path)
    found = _results(run, card, cells, folder.name)
    replace(paths[0], json.dumps(found, indent=2, ensure_ascii=False).encode())
    return paths


def _results(
    run: Restored, card: ModelScorecard, cells: Mapping[str, CellEntry], sanitized: str
) -> dict[str, Any]:
    model = card.model
    numbers: dict[str, dict[str, Any]] = {
        suite: {"name": suite, "alias": suite, "sample_len": card.cells[suite].finished} for suite in cells
    }
    better: dict[str, dict[str, bool | None]] = {suite: {} for suite in cells}
    for result in (*card.metrics.values(), *card.members.values()):
        # Samples here are attempts that did not fail; a benchmark of several suites has rows of its groups.
        if result.suite in cells and result.estimate.value is not None and not result.metric.booking:
            name, under = named(result.metric)
            numbers[result.suite][f"{name},{under}"] = result.estimate.value
            numbers[result.suite][f"{name}_stderr,{under}"] = standard_error(result)
            better[result.suite][name] = result.metric.higher_is_better
    groups = _groups(run, card)
    return {
        "results": {**numbers, **groups},
        **({"groups": groups} if groups else {}),
        "group_subtasks": {
            group.name: [*group.subgroups, *group.members]
            for group in run.manifest.groups
            if set(group.members) <= cells.keys()
        },
        "configs": {suite: _config(cell) for suite, cell in cells.items()},
        "versions": {suite: _version(cell) for suite, cell in cells.items()},
        "n-shot": {suite: _shots(cell) for suite, cell in cells.items()},
        "higher_is_better": better,
        "n-samples": {
            suite: {
                "original": _documents(run, cell),
                "effective": card.cells[suite].finished - sum(card.cells[suite].failures.values()),
            }
            for suite, cell in cells.items()
        },
        "config": {
            "model": model.engine.name if model.engine else "unknown",
            "model_args": {"pretrained": model.name},
            "batch_size": "auto",
            "limit": _limit(cells.values()),
            "bootstrap_iters": 0,
            "origin": msgspec.to_builtins(model.origin),
        },
        "git_hash": None,
        "date": datetime.fromisoformat(run.manifest.created).timestamp(),
        "lm_eval_version": run.manifest.versions.get("lm-eval", "unknown"),
        "transformers_version": run.manifest.versions.get("transformers", "unknown"),
        "model_source": model.engine.name if model.engine else "unknown",
        "model_name": model.name,
        "model_name_sanitized": sanitized,
        "chat_template_sha": model.architecture.chat_template_hash if model.architecture else None,
        "task_hashes": {},
        "total_evaluation_time_seconds": None if model.imported else str(card.usage.engine_seconds),
    }


def named(metric: Metric) -> tuple[str, str]:
    """(lm-eval's name of a metric, the filter that it is under)."""
    name, _, under = metric.name.partition(",")
    return name, under or metric.filter or NO_FILTER


def standard_error(result: MetricResult) -> float | str:
    """As lm-eval has it for means; not a number for anything else, and for one score."""
    values = result.observations.values
    if result.metric.kind == "corpus" or result.metric.aggregation != "mean" or len(values) < 2:
        return "N/A"
    return float(np.std(np.asarray(values, dtype=float), ddof=1)) / math.sqrt(len(values))


def _groups(run: Restored, card: ModelScorecard) -> dict[str, dict[str, Any]]:
    """A row for every group that lm-eval averages."""
    rows: dict[str, dict[str, Any]] = {}
    for whole in by_benchmark([card], run.manifest)[0].suites.values():
        for key, value in whole.group_averages.items():
            group, _, metric = key.rpartition("/")
            name, _, under = metric.partition(",")
            row = rows.setdefault(group, {"name": group, "alias": group})
            row[f"{name},{under or NO_FILTER}"] = value
            row[f"{name}_stderr,{under or NO_FILTER}"] = "N/A"
    return rows


def _limit(cells: Iterable[CellEntry]) -> int | None:
    """The limit that all suites had, None where there was none or they had several."""
    limits = {cell.protocol.get("limit", "None") for cell in cells}
    (only,) = limits if len(limits) == 1 else ("None",)
    return int(only) if only.isdecimal() else None


def _documents(run: Restored, cell: CellEntry) -> int:
    """How many documents the task has, those beyond a limit included."""
    if cell.adapter != "lm_eval" or cell.protocol.get("limit", "None") == "None":
        return cell.samples * cell.attempts
    suite = run.suite(cell)
    assert isinstance(suite, LmEvalSuite)
    return suite.documents * cell.attempts


def _config(cell: CellEntry) -> dict[str, Any]:
    return {
        "task": cell.suite,
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


def _write_samples(run: Restored, cell: CellEntry, made: Prompts, path: Path) -> None:
    """A line for every filter and attempt that did not fail, in the order of filters, documents, attempts.

    Records come in the order of their names: lines are written as they come, then put in order by where they
    lie, so that no more than their places are in memory.
    """
    metrics = {metric.name: named(metric)[1] for metric in cell.metrics if not metric.booking}
    ranks = {name: number for number, name in enumerate(sorted(run.directory.samples(cell)))}
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        kept = {
            under: (stack.enter_context(tempfile.TemporaryFile(dir=path.parent)), list[Place]())
            for under in metrics.values()
        }
        for record in run.records(cell):
            if record.failure is not None:
                continue
            doc_id = int(record.sample) if record.sample.isdecimal() else ranks[record.sample]
            common = _line(record, doc_id, made.sample(cell, record), target_of(cell, record))
            for under, (lines, places) in kept.items():
                scores = [score for score in record.scores if metrics.get(score.metric) == under]
                line = common | {"filter": under} | _scores(scores, record)
                places.append((doc_id, record.attempt, lines.tell()))
                lines.write(msgspec.json.encode(line, enc_hook=str) + b"\n")
        for lines, places in kept.values():
            _in_order(lines, places, file)


Place = tuple[int, int, int]
"""(document, attempt, where its line begins)."""


def _in_order(lines: IO[bytes], places: list[Place], out: IO[bytes]) -> None:
    """Copy lines by document and attempt."""
    lines.seek(0)
    if all(before < after for before, after in pairwise(places)):
        shutil.copyfileobj(lines, out, COPIED)
        return
    for *_, place in sorted(places):
        lines.seek(place)
        out.write(lines.readline())


def _scores(scores: Sequence[Score], record: Record) -> dict[str, Any]:
    """What one filter made of the replies, and its scores."""
    likely = [[str(x.logprob), str(x.is_greedy)] for x in record.transcript.loglikelihoods]
    answers = [score.answer for score in scores if score.answer is not None]
    found = {score.metric.partition(",")[0]: score.value for score in scores if score.value is not None}
    return {"filtered_resps": likely or answers[:1], "metrics": list(found), **found}


def _line(record: Record, doc_id: int, sample: Sample | None, target: str) -> dict[str, Any]:
    """What the lines of all filters have."""
    transcript = record.transcript
    asked = "\n\n".join(m.content for m in transcript.messages if m.role in ("system", "user"))
    item = sample.payload if sample is not None and isinstance(sample.payload, Item) else None
    arguments = [list(instance.args) for instance in item.instances] if item else [[asked]] if asked else []
    # lm-eval logs what its filters read.
    replies: list[Any] = [[reply.raw if item is None else reply.text] for reply in transcript.generations]
    replies += [[[str(x.logprob), str(x.is_greedy)]] for x in transcript.loglikelihoods]
    if item is None:
        doc = {"id": record.sample, "attempt": record.attempt, **record.clusters, **record.labels}
        text = msgspec.json.format(
            msgspec.json.encode(doc)
        ).decode()  # the same of texts, in a tenth of the time
    else:
        doc, text = item.doc, json.dumps(item.doc, indent=2, default=str, ensure_ascii=False)
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
            for i, parts in enumerate(arguments)
        },
        "resps": replies,
        "filtered_resps": [],
        "filter": NO_FILTER,
        "metrics": [],
        "doc_hash": sha256(text),
        "prompt_hash": sha256(str(arguments[0][0])) if arguments else None,
        "target_hash": sha256(target),
    }


def sha256(text: str) -> str:
    """As lm-eval hashes what it logs."""
    return hashlib.sha256(text.encode()).hexdigest()
