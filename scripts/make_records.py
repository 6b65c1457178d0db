"""Write a run directory of made-up records, as a run would have left it, to measure scorecards with.

    python scripts/make_records.py DIR --records 1000000

Half of the records answer questions, half are attacks on an agent: user tasks crossed with injection tasks.
Every sample has four attempts, one attempt in fifty failed, and transcripts are empty. The same arguments
write the same records.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness.records.directory import RunDirectory
from harness.records.table import record_schema, write_table
from harness.types import SCHEMA_VERSION, Architecture, CellEntry, Manifest, Metric, ModelEntry, Origin

ATTEMPTS = 4
INJECTION_TASKS = 25
COUNTRIES = ("XA", "XB", "XC")
HARMS = ("exfiltration", "financial", "malware")
UNIT = (0.0, 1.0)
ATTACKED = ("injection_task", "user_task")
QUESTIONS = (Metric(name="accuracy", higher_is_better=True, kind="rate", bounds=UNIT, headline=True),)
AGENT = (
    Metric(
        name="targeted_asr",
        higher_is_better=False,
        kind="rate",
        bounds=UNIT,
        hijack=True,
        headline=True,
        applies_to=ATTACKED,
    ),
    Metric(name="utility_under_attack", higher_is_better=True, kind="rate", bounds=UNIT, applies_to=ATTACKED),
)


def make(directory: Path, records: int, models: int = 10, seed: int = 0) -> None:
    """Write a run of `records` records, divided evenly between `models` models with two cells each."""
    run = RunDirectory(directory)
    samples = max(1, records // (2 * models * ATTEMPTS))
    cells = [
        _cell(f"model-{number:03}", suite, metrics, samples)
        for number in range(models)
        for suite, metrics in (("questions", QUESTIONS), ("agent", AGENT))
    ]
    run.add(_manifest(cells))
    for number, cell in enumerate(cells):
        write_table(run.complete_path(cell), _table(cell, np.random.default_rng([seed, number])))


def _cell(model: str, suite: str, metrics: tuple[Metric, ...], samples: int) -> CellEntry:
    return CellEntry(
        key=f"{model}-{suite}",
        model=model,
        suite=suite,
        adapter=suite,
        protocol={"suite_version": "1"},
        metrics=metrics,
        samples=samples,
        attempts=ATTEMPTS,
    )


def _manifest(cells: Sequence[CellEntry]) -> Manifest:
    names = sorted({cell.model for cell in cells})
    return Manifest(
        name="made-up",
        config_digest="",
        harness_version="",
        created="2026-01-01T00:00:00+00:00",
        versions={},
        hardware={},
        models={name: _model(name, number) for number, name in enumerate(names)},
        cells={cell.key: cell for cell in cells},
    )


def _model(name: str, number: int) -> ModelEntry:
    country = COUNTRIES[number % len(COUNTRIES)]
    architecture = Architecture(
        model_class="MadeUp",
        model_type="made_up",
        dense=number % 2 == 0,
        total_params=10**9,
        active_params=10**9 if number % 2 == 0 else 10**8,
    )
    origin = Origin(developer=f"Developer {country}", country=country)
    return ModelEntry(name=name, origin=origin, architecture=architecture)


def _table(cell: CellEntry, random: np.random.Generator) -> pa.Table:
    """The records of a cell, by sample and attempt."""
    n = cell.samples * ATTEMPTS
    sample = np.repeat(np.arange(cell.samples), ATTEMPTS)
    names, clusters, labels = _samples(cell)
    failed = random.random(n) < 0.02
    columns: dict[str, Any] = {
        "schema_version": np.full(n, SCHEMA_VERSION),
        "model": _constant(cell.model, n),
        "suite": _constant(cell.suite, n),
        "cell": _constant(cell.key, n),
        "sample": names.take(sample),
        "attempt": np.tile(np.arange(ATTEMPTS), cell.samples),
        "content_hash": names.take(sample),
        "failure": pa.array(["truncated"]).take(pa.array(np.zeros(n, np.int32), mask=~failed)),
        "failure_message": pa.nulls(n, pa.string()),
        "truncated": failed,
        "lost_tokens": np.zeros(n, np.int64),
        "scores": _scores([metric.name for metric in cell.metrics], sample, failed, random),
        "engine_seconds": random.random(n),
        "prompt_tokens": random.integers(100, 2000, n),
        "completion_tokens": random.integers(1, 500, n),
        "cached_tokens": random.integers(0, 100, n),
        "requests": np.ones(n, np.int64),
        "joules": random.random(n),
        "started": np.zeros(n),
        "seconds": random.random(n),
        "clusters": clusters.take(sample),
        "labels": labels.take(sample),
        "transcript": _constant("{}", n),
    }
    schema = record_schema()
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _constant(text: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), n)


def _samples(cell: CellEntry) -> tuple[pa.Array, pa.Array, pa.Array]:
    """(ids, clusters, labels) of the samples of a cell, in the order of their ids."""
    kind = pa.map_(pa.string(), pa.string())
    if cell.suite == "questions":
        names = pa.array([f"question_{i:08}" for i in range(cell.samples)])
        return names, pa.array([[] for _ in range(cell.samples)], kind), _labels(cell.samples, False)
    pairs = [divmod(i, INJECTION_TASKS) for i in range(cell.samples)]
    names = pa.array([f"user_task_{user:06}/injection_task_{task:02}" for user, task in pairs])
    clusters = [
        [("injection_task", f"injection_task_{task:02}"), ("user_task", f"user_task_{user:06}")]
        for user, task in pairs
    ]
    return names, pa.array(clusters, kind), _labels(cell.samples, True)


def _labels(samples: int, attacked: bool) -> pa.Array:
    found = [[("harm", HARMS[i % INJECTION_TASKS % len(HARMS)])] if attacked else [] for i in range(samples)]
    return pa.array(found, pa.map_(pa.string(), pa.string()))


def _scores(
    metrics: Sequence[str],
    sample: np.ndarray[Any, Any],
    failed: np.ndarray[Any, Any],
    random: np.random.Generator,
) -> pa.Array:
    """Scores of 0 or 1 that vary between samples; a failed attempt has none."""
    kept = np.flatnonzero(~failed)
    chances = random.beta(1.0, 1.0, (sample[-1] + 1, len(metrics)))[sample[kept]]
    values = (random.random(chances.shape) < chances).astype(float).ravel()
    n = values.size
    empty = pa.nulls(n, pa.string())
    fields = {
        "metric": pa.array(np.tile(np.asarray(metrics, dtype=object), kept.size), pa.string()),
        "value": pa.array(values),
        "answer": pa.repeat(pa.scalar("yes"), n),
        "reason": empty,
        "operands": empty,
    }
    offsets = np.concatenate([[0], np.cumsum(np.where(failed, 0, len(metrics)))])
    items = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make(args.directory, args.records, args.models, args.seed)


if __name__ == "__main__":
    main()
