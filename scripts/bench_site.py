"""How long a site takes to build, and how large it is: a made-up root of many models and attempts.

python scripts/bench_site.py --models 200 --suites 60 --attempts 2000000 --out results/bench/site.md
"""

import argparse
import gzip
import hashlib
import json
import os
import platform
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from harness.records.directory import RunDirectory
from harness.records.table import record_schema, write_table
from harness.site.build import Built, build_site
from harness.site.reading import Reading
from harness.site.settings import SiteSettings
from harness.types import (
    Architecture,
    CellEntry,
    EngineFacts,
    Generation,
    Manifest,
    Message,
    Metric,
    ModelEntry,
    Origin,
    Transcript,
)

MODELS_OF_A_RUN = 10
COUNTRIES = ("US", "CN", "FR", "KR", "CA", "AE", "GB", "JP")
UNIT = (0.0, 1.0)
RATE = Metric(name="accuracy", higher_is_better=True, kind="rate", bounds=UNIT, headline=True)
ASKED = "A question of some length, with what is needed to answer it and what is not. " * 6
ANSWERED = "Let us think. One step follows from another, and in the end there is an answer. " * 5


def model_entry(number: int) -> ModelEntry:
    """A model that is like no other."""
    random_ = random.Random(number)
    size = int(10 ** random_.uniform(9, 12))
    return ModelEntry(
        name=f"model-{number:03}-instruct",
        origin=Origin(
            developer=f"Developer {number % 25}",
            country=COUNTRIES[number % len(COUNTRIES)],
            licence="Apache-2.0",
            release_date=f"2026-{number % 12 + 1:02}-15",
        ),
        architecture=Architecture(
            model_class="Made",
            model_type="made",
            dense=number % 2 == 0,
            total_params=size,
            active_params=size if number % 2 == 0 else size // 10,
            weight_bytes=2 * size,
            weights_hash=hashlib.sha256(str(number).encode()).hexdigest(),
        ),
        engine=EngineFacts(name="vllm", version="0.33.0", details={"dtype": "bfloat16"}),
    )


def cell_table(cell: CellEntry, attempts: int, rate: float, random_: random.Random) -> pa.Table:
    """The records of a cell."""
    rows: list[dict[str, Any]] = []
    for i in range(attempts):
        text = f"{ANSWERED}{random_.random()}"
        reply = Generation(text=text, raw=text, finish_reason="stop", prompt_tokens=90, completion_tokens=80)
        asked = Message(role="user", content=f"{i}: {ASKED}")
        said = Transcript(messages=(asked, Message(role="assistant", content=text)), generations=(reply,))
        score = {"metric": RATE.name, "value": float(random_.random() < rate), "answer": None}
        rows.append(
            {
                "schema_version": 1,
                "model": cell.model,
                "suite": cell.suite,
                "cell": cell.key,
                "sample": f"sample_{i:05}",
                "attempt": 0,
                "content_hash": f"{i:064}",
                "failure": None,
                "failure_message": None,
                "truncated": False,
                "lost_tokens": 0,
                "scores": [{**score, "reason": None, "operands": None}],
                "engine_seconds": 0.5,
                "prompt_tokens": 90,
                "completion_tokens": 80,
                "cached_tokens": 0,
                "requests": 1,
                "joules": None,
                "started": 0.0,
                "seconds": 1.0,
                "clusters": [],
                "labels": [],
                "transcript": msgspec.json.encode(said).decode(),
            }
        )
    return pa.Table.from_pylist(rows, schema=record_schema())


def make_run(path: Path, numbers: range, suites: int, attempts: int) -> None:
    """A run of some models on all benchmarks."""
    random_ = random.Random(numbers.start)
    models = {entry.name: entry for entry in map(model_entry, numbers)}
    cells = {}
    for name in models:
        for k in range(suites):
            key = hashlib.sha256(f"{name} {k}".encode()).hexdigest()
            cells[key] = CellEntry(
                key=key,
                model=name,
                suite=f"benchmark_{k:02}",
                adapter="lm_eval",
                protocol={"adapter": "lm_eval", "task": f"benchmark_{k:02}", "num_fewshot": "0"},
                metrics=(RATE,),
                samples=attempts,
                attempts=1,
            )
    manifest = Manifest(
        name=path.name,
        config_digest="0" * 12,
        harness_version="1",
        created=f"2026-06-{numbers.start % 28 + 1:02}T00:00:00Z",
        versions={"vllm": "0.33.0"},
        hardware={"gpu": "made up"},
        models=models,
        cells=cells,
    )
    run = RunDirectory(path)
    run.add(manifest)
    for cell in cells.values():
        write_table(run.complete_path(cell), cell_table(cell, attempts, random_.uniform(0.2, 0.9), random_))
    run.config_path.write_text("name: made\n")
    run.seal()


def sizes(out: Path) -> Iterator[tuple[str, int, int]]:
    """(page, bytes, bytes compressed) of what a visitor of the front loads."""
    for name in ("index.html", "site.css", "site.js"):
        data = (out / name).read_bytes()
        yield name, len(data), len(gzip.compress(data, 6))


def report(steps: list[tuple[str, float, Built]], out: Path, made: str) -> str:
    """The figures as Markdown."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    lines = [
        "# A leaderboard of many runs: time and size",
        "",
        f"{made}. {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when it ended, Python "
        f"{platform.python_version()}. Made by `scripts/bench_site.py`.",
        "",
        "| step | seconds | pages | attempts that can be read |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {seconds:.1f} | {built.pages} | {built.shown:,} |" for name, seconds, built in steps),
        "",
        f"Largest process: {peak / 1024:,.0f} MiB. The site: {total / 1e6:,.0f} MB.",
        "",
        "| file | bytes | compressed |",
        "|---|---:|---:|",
        *(f"| {name} | {size:,} | {packed:,} |" for name, size, packed in sizes(out)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the root, build, add a run, build again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--suites", type=int, default=60)
    parser.add_argument("--attempts", type=int, default=2_000_000)
    parser.add_argument("--work", type=Path, help="a folder to keep what is made (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="where the figures go (default: the terminal)")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="bench_site"))
    each = args.attempts // (args.models * args.suites)
    root = work / "root"
    last = args.models - MODELS_OF_A_RUN
    began = time.monotonic()
    for start in range(0, last, MODELS_OF_A_RUN):
        if not (root / f"run-{start:03}").exists():
            make_run(root / f"run-{start:03}", range(start, start + MODELS_OF_A_RUN), args.suites, each)
    print(f"made in {time.monotonic() - began:.0f} s")
    steps = []

    def build(name: str) -> None:
        start = time.monotonic()
        reading = Reading(settings=SiteSettings())
        built = build_site(root, work / "site", store=work / "cache", reading=reading)
        steps.append((name, time.monotonic() - start, built))
        print(name, json.dumps(msgspec.to_builtins(built)), flush=True)

    build("first: verified, read, published")
    build("nothing changed")
    make_run(root / f"run-{last:03}", range(last, args.models), args.suites, each)
    build(f"one run of {MODELS_OF_A_RUN} models added")
    made = f"{args.models} models, {args.suites} benchmarks, {args.models * args.suites * each:,} attempts"
    text = report(steps, work / "site", made)
    print(text)
    if args.out:
        args.out.write_text(text)
    if args.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
