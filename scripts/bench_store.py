"""Time and peak memory of the commands that read a run, by how large it is.

    python scripts/bench_store.py DIR --records 100000 1000000 10000000 --cells 1200 6000

Runs of made-up records (see make_records.py) are written into DIR, where they are not there yet: of 10 models
on 2 suites with so many records, and of models on 20 suites with so many cells of 40 records. Each command is
a process of its own: its processor seconds, its wall time and its largest resident memory are printed, and
for each step up the exponent of the growth, log(time ratio) / log(size ratio). 1 is linear, 2 is quadratic.
Processor seconds do not tell how busy the machine was. "The first time" holds for a DIR that is new.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SUITES, EACH = 20, 40
"""Of each model, and records of each cell, in the runs of many cells."""
ATTEMPTS = 4
"""Of a sample in make_records.py: what a cell owes where it owes the last one."""

Commands = Mapping[str, tuple[str, ...]]
"""Name -> the words of a command."""

SHOW = ("show", "{run}", "--trust-code", str(ROOT), "--model", "model-000", "--pair")
EXPORT = ("export", "{run}", "--trust-code", str(ROOT), "--out", "{out}", "--format")
RUN = ("run", "{run}/run.yaml", "--out", "{run}")
RECORDS: Commands = {
    "scorecard": ("scorecard", "{run}"),
    "claims": ("claims", "{run}"),
    "export csv": (*EXPORT, "csv"),
    "export parquet": (*EXPORT, "parquet"),
    "export lm-eval": (*EXPORT, "lm-eval"),
    "show one attempt": (*SHOW, "questions-00/question_00000123"),
    "show one that is not there": (*SHOW, "questions-00/question_99999999"),
    "status": ("status", "{run}"),
    "run, the first time": RUN,
    "run, nothing left to do": RUN,
}
"""For complete runs of many records."""
OWED: Commands = {"run, up to its first request": RUN, "status, while it is run": ("status", "{run}")}
"""For runs of many records of which each cell owes the last sample."""
CELLS: Commands = {
    "scorecard": ("scorecard", "{run}"),
    "scorecard by developer": ("scorecard", "{run}", "--by", "developer"),
    "page": ("scorecard", "{run}", "--format", "html"),
    "plan": ("plan", "{run}/run.yaml"),
    "status": ("status", "{run}"),
    "run, the first time": RUN,
    "run, nothing left to do": RUN,
}
"""For complete runs of many cells."""


class Cost(NamedTuple):
    """What a command took."""

    seconds: float
    """Of processor time."""
    wall: float
    megabytes: float
    printed: float
    """Megabytes of output."""


def measure(words: tuple[str, ...], run: Path, out: Path) -> Cost:
    """Run a command in a process of its own; its output goes to a file beside the run.

    An engine that it asks ends it at the first request: what is measured is how long it takes to get there.
    """
    harness = str(Path(sys.executable).with_name("harness"))
    command = [harness, *(word.format(run=run, out=out) for word in words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MADE_UP_EXIT": "1"}
    log = out.parent / "output.txt"
    started = time.perf_counter()
    with log.open("w") as file:
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        process = os.posix_spawn(harness, command, environment, file_actions=actions)
        _, status, used = os.wait4(process, 0)
    wall = time.perf_counter() - started
    code = os.waitstatus_to_exitcode(status)
    absent = "there is no record of" in log.read_text()
    if code not in (0, 3) and not absent:  # 3: written, but something is missing
        raise SystemExit(f"{' '.join(command)} ended with {code}: see {log}")
    shutil.rmtree(out, ignore_errors=True)
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024, log.stat().st_size / 1e6)


def rows(unit: str, runs: Mapping[int, Path], commands: Commands, out: Path) -> Iterator[str]:
    """A line of the table for each command and size.

    Args:
        unit: what sizes count.
        runs: size -> its run.
        commands: to measure.
        out: where exports go.
    """
    before: dict[str, tuple[int, float]] = {}
    for size, run in runs.items():
        for name, words in commands.items():
            cost = measure(words, run, out)
            grown = f"{exponent(before[name], (size, cost.seconds)):.2f}" if name in before else ""
            before[name] = size, cost.seconds
            yield (
                f"| {name} | {size:,} {unit} | {cost.seconds:.1f} | {cost.wall:.1f} | {cost.megabytes:.0f} "
                f"| {cost.printed:.2f} | {grown} |"
            )


def exponent(small: tuple[int, float], large: tuple[int, float]) -> float:
    """Of the growth of time, from two pairs of (size, seconds)."""
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])


def made(path: Path, records: int, models: int, suites: int, owed: int = 0) -> Path:
    """A run of made-up records, which is written if it is not there yet."""
    if not path.exists():
        unfinished = path.with_name(f"{path.name}-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        sizes = {"records": records, "models": models, "suites": suites, "owed": owed}
        words = [f"--{name}={size}" for name, size in sizes.items()]
        # In a process of its own: the largest memory of a child that is measured begins at its parent's.
        make = [sys.executable, str(ROOT / "scripts" / "make_records.py"), str(unfinished), *words]
        subprocess.run(make, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        unfinished.rename(path)
    return path


def main() -> None:
    """Print a line for each command and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--records", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--cells", type=int, nargs="*", default=[1200, 6000])
    args = parser.parse_args()
    folder: Path = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    complete = {n: made(folder / f"{n}-records", n, 10, 2) for n in args.records}
    owed = {n: made(folder / f"{n}-records-owed", n, 10, 2, ATTEMPTS) for n in args.records}
    cells = {n: made(folder / f"{n}-cells", n * EACH, n // SUITES, SUITES) for n in args.cells}
    print("| Command | Size | Processor s | Wall s | Peak MB | Output MB | Exponent |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for unit, runs, commands in (
        ("records", complete, RECORDS),
        ("records", owed, OWED),
        ("cells", cells, CELLS),
    ):
        for row in rows(unit, runs, commands, folder / "out"):
            print(row, flush=True)


if __name__ == "__main__":
    main()
