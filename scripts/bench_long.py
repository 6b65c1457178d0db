"""Measure long conversations twice over: this harness, and the bare engine with the same requests.

    python scripts/bench_long.py [--repeats 3] [--out results/bench/long.md]

The planted model `ember-dense` does every step of the chains of `stepwise`: 48 conversations of 4 to 8
requests, two replies each (a call, and a word when its result is there), so that the longest has 16 replies
and 33 messages. All are in flight at once. The passes are those of `bench_hijack.py`: what the harness does,
scores and records included; the same token ids to the bare engine; and the same once more with replies left
as tokens, beyond which CPU time is the harness's own. The first pass of each is not counted.
"""

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path

from bench_hijack import Passes, measure_ours

from harness.config import EngineSpec, ModelSpec, RunConfig, SuiteSpec
from harness.models.planted import FOLDER
from harness.types import Origin, Record, Sampling

MODEL = "ember-dense"
ENGINE = {"max_model_len": 2048, "max_num_seqs": 64, "kv_cache_memory_bytes": 1 << 28}


def run_config() -> RunConfig:
    """The run of the harness."""
    model = ModelSpec(
        name=MODEL,
        path=str(FOLDER / MODEL),
        origin=Origin(developer="unknown", country="ZZ"),
        tool_call_parser="hermes",
    )
    return RunConfig(
        name="bench",
        models=(model,),
        suites=(SuiteSpec(adapter="stepwise", options={"ways": ["chain"]}),),
        sampling=Sampling(temperature=0.0, max_tokens=64),
        engine=EngineSpec(args=ENGINE),
    )


def report(passes: Passes, records: list[Record]) -> str:
    """The page."""
    longest = max(record.usage.requests for record in records)
    ratio = statistics.median(
        ours.seconds / bare.seconds for ours, bare in zip(passes.harness, passes.bare, strict=True)
    )
    own = statistics.median(
        ours.cpu_ms - front.cpu_ms for ours, front in zip(passes.harness, passes.front_end, strict=True)
    )
    rows = [
        f"| {name} | {one.seconds:.2f} | {one.work.requests} | {one.work.prompt_tokens} | {one.cpu_ms:.2f} |"
        for name, timings in (
            ("harness", passes.harness),
            ("bare engine", passes.bare),
            ("front end", passes.front_end),
        )
        for one in timings
    ]
    return "\n".join(
        [
            "# Long conversations beside the bare engine",
            "",
            f"{len(records)} conversations, the longest of {longest} replies.",
            "Made by `scripts/bench_long.py`.",
            "",
            "| | seconds | requests | prompt tokens | CPU ms a request |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            f"- {ratio:.3f} times the time of the bare engine, which gets all prompts at once (goal: 1.1).",
            f"- {own:.2f} ms of CPU time a reply are the harness's own (goal: 2).",
            "",
        ]
    )


def main() -> None:
    """Measure, and print the page or write it."""
    parser = argparse.ArgumentParser(description="Long conversations beside the bare engine.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        passes, plan, directory = asyncio.run(measure_ours(run_config(), Path(folder), args.repeats))
        page = report(passes, [record for cell in plan.cells for record in directory.records(cell.entry)])
    print(page)
    if args.out is not None:
        args.out.write_text(page)


if __name__ == "__main__":
    main()
