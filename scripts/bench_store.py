"""Time and peak memory of the commands that read a run, by how large it is.

    python scripts/bench_store.py DIR --records 100000 1000000

Runs of made-up records (see make_records.py) are written into DIR, where they are not there yet. Each command
is a process of its own: its processor seconds and its largest resident memory are printed, and for each step
up the exponent of the growth, log(time ratio) / log(size ratio). 1 is linear, 2 is quadratic. Processor
seconds do not tell how busy the machine was.
"""

import argparse
import math
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from make_records import make

RECORDS = {
    "scorecard": ("scorecard", "{run}"),
    "claims": ("claims", "{run}"),
    "export csv": ("export", "{run}", "--format", "csv", "--out", "{out}"),
    "export parquet": ("export", "{run}", "--format", "parquet", "--out", "{out}"),
    "export lm-eval": ("export", "{run}", "--format", "lm-eval", "--out", "{out}"),
}
"""Name -> the command, for a run of many records in 20 cells."""


class Cost(NamedTuple):
    """What a command took."""

    seconds: float
    """Of processor time."""
    megabytes: float


def measure(command: tuple[str, ...], run: Path, out: Path) -> Cost:
    """Run a command in a process of its own; its output goes to a file beside the run."""
    harness = str(Path(sys.executable).with_name("harness"))
    words = [harness, *(word.format(run=run, out=out) for word in command)]
    with (out.parent / "output.txt").open("w") as log:
        actions = [(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)]
        process = os.posix_spawn(harness, words, os.environ, file_actions=actions)
        _, status, used = os.wait4(process, 0)
    if (code := os.waitstatus_to_exitcode(status)) not in (0, 3):  # 3: written, but something is missing
        raise SystemExit(f"{' '.join(words)} ended with {code}: see {out.parent / 'output.txt'}")
    shutil.rmtree(out, ignore_errors=True)
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    """Print a line for each command and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000])
    args = parser.parse_args()
    print("| Command | Records | Processor s | Peak MB | Exponent |")
    print("|---|---|---|---|---|")
    for name, command in RECORDS.items():
        before: tuple[int, float] | None = None
        for records in args.records:
            run = args.folder / str(records)
            if not run.exists():
                make(run, records)
            cost = measure(command, run, args.folder / "out")
            grown = "" if before is None else f"{exponent(before, (records, cost.seconds)):.2f}"
            print(
                f"| {name} | {records:,} | {cost.seconds:.1f} | {cost.megabytes:.0f} | {grown} |", flush=True
            )
            before = records, cost.seconds


def exponent(small: tuple[int, float], large: tuple[int, float]) -> float:
    """Of the growth of time, from two pairs of (size, seconds)."""
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])


if __name__ == "__main__":
    main()
