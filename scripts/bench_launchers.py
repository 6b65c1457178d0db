"""What it costs to run jobs in processes of their own, and how well the order of jobs fills a cluster.

    python scripts/bench_launchers.py > results/bench/launchers.md

The first table runs a matrix of models whose engine waits and then answers at once, so that what is computed
is the harness: the processor seconds of such a run beyond those of one model alone, by job. They do not tell
how busy the machine was. The second simulates models of the registry on 64 GPUs in the order of
`harness.run.launchers.processes`, which sees forecasts alone; true durations are 0.5 to 2 times these.
"""

import asyncio
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.config import ModelSpec
from harness.engines.scripted import Reply, ScriptedEngine
from harness.models.fit import Job, lower_bound
from harness.models.registry import specs

ROOT = Path(__file__).resolve().parents[1]
MODELS, LOAD = 10, 2.0
"""Of the matrix, and seconds that each takes to load."""
GPUS, JOBS, HOURS = 64, 60, (0.5, 4.0)
"""Of the simulation: forecasts are drawn evenly from HOURS."""


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
    path = f"{ROOT}:{ROOT / 'scripts'}"
    command = [sys.executable, "-m", "harness.cli", "run", str(config), "--out", str(folder / name)]
    began, used = time.monotonic(), processor_seconds()
    subprocess.run(
        [*command, "--workers", str(workers)],
        check=True, capture_output=True, cwd=ROOT,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    return time.monotonic() - began, processor_seconds() - used


def processor_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def simulate(seed: int) -> float:
    """Makespan over its lower bound, of jobs begun as soon as they find room: widest first, then longest."""
    draw = random.Random(seed)
    chosen = draw.sample([spec for spec in specs() if spec.layouts], JOBS)
    forecasts = [Job(spec.name, min(spec.layouts), draw.uniform(*HOURS) * 3600) for spec in chosen]
    true = {job.name: job.seconds * draw.uniform(0.5, 2.0) for job in forecasts}
    owed = sorted(forecasts, key=lambda job: (-job.gpus, -job.seconds))
    running: list[tuple[float, Job]] = []
    now, free = 0.0, GPUS
    while owed or running:
        for job in [*owed]:
            if job.gpus <= free:
                owed.remove(job)
                free -= job.gpus
                running.append((now + true[job.name], job))
        now, ended = min(running, key=lambda each: each[0])
        running.remove((now, ended))
        free += ended.gpus
    return now / lower_bound([Job(job.name, job.gpus, true[job.name]) for job in forecasts], GPUS)


def main() -> None:
    """Print both tables."""
    print("# Jobs in processes of their own\n\n    python scripts/bench_launchers.py\n")
    print("Two CPU cores, shared with other processes.\n")
    print(f"{MODELS} models, each of which loads for {LOAD:.0f} s and then answers 50 samples at once.\n")
    print("| Workers | Wall s | Processor s a job |\n|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2, 4):
            (_, one), (wall, used) = (
                seconds(Path(folder), models, workers, f"r{models}-{workers}") for models in (1, MODELS)
            )
            print(f"| {workers} | {wall:.1f} | {(used - one) / (MODELS - 1):.2f} |")
    print(f"\nSimulated: {JOBS} models of the registry on {GPUS} GPUs, by seed.\n")
    print("| Seed | Makespan / lower bound | GPUs idle |\n|---:|---:|---:|")
    for seed in range(5):
        ratio = simulate(seed)
        print(f"| {seed} | {ratio:.2f} | {1 - 1 / ratio:.0%} |")


if __name__ == "__main__":
    main()
