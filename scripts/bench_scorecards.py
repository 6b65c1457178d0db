"""Measure how long scorecards take, and how much memory, by the number of records.

    python scripts/bench_scorecards.py --records 1000000 2000000 5000000 10000000

Each size is a run directory of `make_records`, read and aggregated by `harness scorecard --format json` in a
process of its own. Time is wall time of that process, memory its largest resident set.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from make_records import make

SIZES = (1_000_000, 2_000_000, 5_000_000, 10_000_000)


def measure(records: int, models: int) -> dict[str, float]:
    """Wall and CPU seconds, and peak memory in MB, of the scorecards of a run of so many records."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        make(directory, records, models)
        size = sum(path.stat().st_size for path in (directory / "cells").rglob("*.parquet"))
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "scorecard", str(directory), "--format", "json"],
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"harness scorecard failed with status {status}")
    return {
        "records": records,
        "parquet_mb": round(size / 1e6),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),
        "seconds_per_million": round(seconds / records * 1e6, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def table(rows: Sequence[dict[str, float]]) -> str:
    """The measurements as a Markdown table."""
    header = list(rows[0])
    lines = [f"| {' | '.join(header)} |", f"|{' ---: |' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(f'{row[key]:,}' for key in header)} |" for row in rows)])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, nargs="+", default=SIZES)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    rows = [measure(records, args.models) for records in args.records]
    print(json.dumps(rows, indent=2) if args.json else table(rows))


if __name__ == "__main__":
    main()
