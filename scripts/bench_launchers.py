"""What it costs to run jobs in processes of their own, and how well the order of jobs fills a cluster.

    python scripts/bench_launchers.py > results/bench/launchers.md

The first table is of the demo, four models through vLLM on the CPU. The second runs a matrix of models
whose engine waits and then answers at once, so that what is computed is the harness: the processor seconds of
such a run beyond those of one model alone, by job. They do not tell how busy the machine was. The third
simulates models of the registry on 64 GPUs in the order and the parts of `harness.run.launchers.processes`,
which sees forecasts alone; true durations are 0.5 to 2 times these.
"""

import asyncio
import math
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from harness.config import ModelSpec
from harness.engines.scripted import Reply, ScriptedEngine
from harness.models.fit import NODE, Job, lower_bound
from harness.models.forecast import LOADING, START_SECONDS
from harness.models.registry import specs
from harness.run.launchers.processes import GRAIN, halves

ROOT = Path(__file__).resolve().parents[1]
MODELS, LOAD = 20, 2.0
"""Of the matrix, and seconds that each takes to load."""
GPUS, JOBS, SEEDS = 64, 60, 40
"""Of the simulation."""
HOURS, TRUTH, WEIGHTS = (0.5, 4.0), (0.5, 2.0), {1: (15e9, 60e9), 8: (200e9, 700e9)}
"""Drawn evenly: what is forecast, what it takes over that, and bytes of a model, by GPUs that it takes."""
MOST_PARTS = 8
"""Of a model with 32,768 attempts and 256 in flight: see `harness.run.launchers.processes.FULL`."""


async def start(model: ModelSpec, args: dict[str, Any]) -> ScriptedEngine:
    """For `engine.kind`: an engine that loads for a while, and then answers at once."""
    await asyncio.sleep(LOAD)
    return ScriptedEngine(chat=lambda messages, tools, sampling: Reply(text="4"))


def seconds(folder: Path, models: int, workers: int, name: str) -> tuple[float, float]:
    """(wall seconds, processor seconds) of `harness run` on some models."""
    config = folder / f"{name}.yaml"
    entries = "".join(f"  - {{name: m{n}, path: m{n}}}\n" for n in range(models))
    config.write_text(
        f"name: {name}\nmodels:\n{entries}suites: [{{adapter: tests.fakes, name: digits, samples: 50}}]\n"
        "sampling: {temperature: 0.0}\nengine: {kind: 'bench_launchers:start'}\n"
    )
    return run(config, folder / name, workers)


def run(config: Path, out: Path, workers: int) -> tuple[float, float]:
    """(wall seconds, processor seconds) of `harness run`."""
    path = f"{ROOT}:{ROOT / 'scripts'}"
    command = [sys.executable, "-m", "harness.cli", "run", str(config), "--out", str(out)]
    began, used = time.monotonic(), processor_seconds()
    subprocess.run(
        [*command, "--workers", str(workers)],
        check=True, capture_output=True, cwd=ROOT,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(out.parent), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    return time.monotonic() - began, processor_seconds() - used


def timeless_scorecard(out: Path) -> bytes:
    """What equal results give in equal bytes."""
    command = [sys.executable, "-m", "harness.cli", "scorecard", str(out), "--format", "json", "--no-timings"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(out.parent)}
    return subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment).stdout


def processor_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@cache
def registry() -> list[ModelSpec]:
    """The models that say how many GPUs they take."""
    return [spec for spec in specs() if spec.layouts]


def simulate(seed: int, grain: float) -> float:
    """Makespan over its lower bound, which has each model loaded once.

    Args:
        seed: of the models, the forecasts and the truth.
        grain: see `harness.run.launchers.processes.GRAIN`; infinite for models that are not in parts.
    """
    draw = random.Random(seed)
    chosen = draw.sample(registry(), JOBS)
    forecasts = [Job(spec.name, min(spec.layouts), draw.uniform(*HOURS) * 3600) for spec in chosen]
    truth = {job.name: draw.uniform(*TRUTH) for job in forecasts}
    load = {job.name: START_SECONDS + draw.uniform(*WEIGHTS[job.gpus]) / LOADING for job in forecasts}
    bound = lower_bound(forecasts, GPUS)
    parts = [
        Job(job.name, job.gpus, (job.seconds - load[job.name]) / count)
        for job in forecasts
        for _, count in halves(job.seconds, grain * bound, MOST_PARTS)
    ]
    owed = sorted(parts, key=lambda job: (-job.seconds, -job.gpus))
    running: list[tuple[float, int, Job]] = []
    now, free = 0.0, [NODE] * (GPUS // NODE)
    while owed or running:
        for job in [*owed]:
            if rooms := [node for node, left in enumerate(free) if left >= job.gpus]:
                node = min(rooms, key=lambda node: free[node])
                free[node] -= job.gpus
                owed.remove(job)
                running.append((now + (load[job.name] + job.seconds) * truth[job.name], node, job))
        ended = min(running, key=lambda each: each[0])
        running.remove(ended)
        now, node, job = ended
        if more := next((part for part in owed if part.name == job.name), None):  # its model is loaded
            owed.remove(more)
            running.append((now + more.seconds * truth[more.name], node, more))
        else:
            free[node] += job.gpus
    return now / lower_bound([Job(j.name, j.gpus, j.seconds * truth[j.name]) for j in forecasts], GPUS)


def main() -> None:
    """Print both tables."""
    print("# Jobs in processes of their own\n\n    python scripts/bench_launchers.py\n")
    print("Two CPU cores, shared with other processes.\n")
    print("The demo: four models through vLLM on the CPU, 1,016 attempts.\n")
    print("| Workers | Wall s | Processor s | Scorecard without timings |\n|---:|---:|---:|:---|")
    with tempfile.TemporaryDirectory() as folder:
        cards: list[bytes] = []
        for workers in (1, 2, 4):
            out = Path(folder) / f"demo-{workers}"
            wall, used = run(ROOT / "configs" / "runs" / "demo.yaml", out, workers)
            cards.append(timeless_scorecard(out))
            same = "the same bytes" if cards[-1] == cards[0] else "differs"
            print(f"| {workers} | {wall:.0f} | {used:.0f} | {same} |")
    print(f"\n{MODELS} models, each of which loads for {LOAD:.0f} s and then answers 50 samples at once.\n")
    print("| Workers | Wall s | Processor s a job |\n|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2, 4):
            (_, one), (wall, used) = (
                seconds(Path(folder), models, workers, f"r{models}-{workers}") for models in (1, MODELS)
            )
            print(f"| {workers} | {wall:.1f} | {(used - one) / (MODELS - 1):.2f} |")
    print(f"\nMakespan over its lower bound, simulated: {JOBS} models of the registry on {GPUS} GPUs.\n")
    print("| Seed | Whole models | In parts | GPUs idle or loading again, in parts |\n|---:|---:|---:|---:|")
    found = [(simulate(seed, math.inf), simulate(seed, GRAIN)) for seed in range(SEEDS)]
    rows = [(str(seed), *found[seed]) for seed in range(5)]
    rows.append((f"mean of {SEEDS}", *(statistics.mean(ratios) for ratios in zip(*found, strict=True))))
    rows.append((f"worst of {SEEDS}", *(max(ratios) for ratios in zip(*found, strict=True))))
    for name, whole, ratio in rows:
        print(f"| {name} | {whole:.2f} | {ratio:.2f} | {1 - 1 / ratio:.0%} |")
    print(
        "\nLongest first by forecast; what finds room goes before what does not. Whole models: as on Slurm\n"
        "and Ray. In parts: as on one machine, where an engine goes on with the next part of its model, and\n"
        "GPUs without other work take one over. The last part of a model is an eighth of it, as where it\n"
        "has 32,768 attempts, 256 in flight; one of fewer than 8,192 is not in parts. A node has eight GPUs."
    )


if __name__ == "__main__":
    main()
