"""Write a run directory of made-up records, as a run would have left it, to measure commands with.

    python scripts/make_records.py DIR --records 1000000

Half of the suites ask questions, half attack an agent: user tasks crossed with injection tasks (see
made_up.py). Every sample has four attempts, one attempt in fifty failed, a transcript is some hundred bytes.
The same arguments write the same records. `harness run DIR/run.yaml --out DIR` goes on with the run, with
the folder above this one in PYTHONPATH.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from harness.config import load_config
from harness.engines.scripted import ScriptedEngine
from harness.records.directory import RunDirectory
from harness.records.schema import EngineFile
from harness.records.table import parquet_writer, record_schema
from harness.run.plan import hardware, installed_versions, make_manifest, make_plan
from harness.types import SCHEMA_VERSION, CellEntry, Generation, Message, Sample, Transcript

ATTEMPTS = 4
COUNTRIES = ("XA", "XB", "XC")
GROUP = 16_384
"""Rows of a group: some megabytes, as where a run writes them."""
TEXTS = 1000
"""Different transcripts of a cell."""


def make(
    directory: Path, records: int, models: int = 10, suites: int = 2, owed: int = 0, seed: int = 0
) -> None:
    """Write a run of `records` records, divided evenly between the suites of the models.

    Args:
        directory: of the run.
        records: how many there are once the run is complete.
        models: how many.
        suites: of each model.
        owed: how many attempts of each cell have no record yet. Without any the cells are complete.
        seed: of all that is drawn.
    """
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # for scripts.made_up, which the config names
    directory.mkdir(parents=True)
    path = directory / "run.yaml"
    samples = max(1, records // (models * suites * ATTEMPTS))
    path.write_text(json.dumps(_config(models, suites, samples), indent=2))
    config = load_config(path)
    plan = make_plan(config)
    plan.check()
    run = RunDirectory(directory)
    run.prepare(run.dated(config))
    run.ask(make_manifest(plan), keep=lambda cell, model: False)
    engine = EngineFile(
        facts=ScriptedEngine().facts,
        hardware=hardware(),
        versions=installed_versions(),
        started=0.0,
    )
    for number, cell in enumerate(plan.cells):
        run.add_engine(cell.entry, engine)
        table = _table(cell.entry, cell.suite.samples("", None), np.random.default_rng([seed, number]))
        with parquet_writer(run.complete_path(cell.entry)) as writer:
            writer.write_table(table.slice(0, len(table) - owed), row_group_size=GROUP)
        if owed:
            run.reopen(cell.entry)
    if not owed:
        run.compact(cell.entry for cell in plan.cells)
        run.seal()


def _config(models: int, suites: int, samples: int) -> dict[str, Any]:
    return {
        "name": "made-up",
        "models": [_model(number) for number in range(models)],
        "suites": [
            {
                "adapter": "scripts.made_up",
                "name": f"{'agent' if attacked else 'questions'}-{number:02}",
                "samples": samples,
                "attacked": attacked,
            }
            for number in range(-(-suites // 2))
            for attacked in (False, True)
        ][:suites],
        "attempts": ATTEMPTS,
        "engine": {"kind": "scripts.made_up:start"},
        "sampling": {"temperature": 1.0},
    }


def _model(number: int) -> dict[str, Any]:
    country = COUNTRIES[number % len(COUNTRIES)]
    return {
        "name": f"model-{number:03}",
        "path": f"model-{number:03}",
        "origin": {"developer": f"Developer {number % 60:02}", "country": country},
    }


def _table(cell: CellEntry, samples: list[Sample], random: np.random.Generator) -> pa.Table:
    """The records of a cell, by sample and attempt."""
    n = len(samples) * ATTEMPTS
    sample = np.repeat(np.arange(len(samples)), ATTEMPTS)
    kind = pa.map_(pa.string(), pa.string())
    names = pa.array([sample.id for sample in samples])
    clusters = pa.array([sorted(sample.clusters.items()) for sample in samples], kind)
    labels = pa.array([sorted(sample.labels.items()) for sample in samples], kind)
    failed = random.random(n) < 0.02
    columns: dict[str, Any] = {
        "schema_version": np.full(n, SCHEMA_VERSION),
        "model": _constant(cell.model, n),
        "suite": _constant(cell.suite, n),
        "cell": _constant(cell.key, n),
        "sample": names.take(sample),
        "attempt": np.tile(np.arange(ATTEMPTS), len(samples)),
        "content_hash": names.take(sample),
        "failure": pa.array(["engine_error"]).take(pa.array(np.zeros(n, np.int32), mask=~failed)),
        "failure_message": pa.nulls(n, pa.string()),
        "truncated": np.zeros(n, bool),
        "warnings": pa.ListArray.from_arrays(np.zeros(n + 1, np.int32), pa.array([], pa.string())),
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
        "transcript": _transcripts().take(pa.array(random.integers(0, TEXTS, n))),
    }
    schema = record_schema()
    others = {field.name: field.type for field in schema if field.name not in columns}  # counts, all of them
    columns |= {name: pa.repeat(pa.scalar(0, kind), n) for name, kind in others.items()}
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _constant(text: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), n)


@cache
def _transcripts() -> pa.Array:
    """Conversations of some hundred bytes, as JSON."""
    words = np.random.default_rng(0).integers(0, 10**6, (TEXTS, 30))
    texts = [" ".join(map(str, row)) for row in words.tolist()]
    return pa.array(msgspec.json.encode(_transcript(text)).decode() for text in texts)


def _transcript(text: str) -> Transcript:
    reply = Generation(text=text, raw=text, finish_reason="stop", prompt_tokens=100, completion_tokens=50)
    asked, said = Message(role="user", content=text[:100]), Message(role="assistant", content=text)
    return Transcript(messages=(asked, said), generations=(reply,))


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
    parser.add_argument("--suites", type=int, default=2, help="of each model")
    parser.add_argument("--owed", type=int, default=0, help="attempts of each cell that have no record yet")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make(args.directory, args.records, args.models, args.suites, args.owed, args.seed)


if __name__ == "__main__":
    main()
