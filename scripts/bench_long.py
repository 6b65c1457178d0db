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
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_hijack import Passes, Recorder, Timing, Work, bare_pass, forget_yaml, run_plan

from harness.config import EngineSpec, ModelSpec, RunConfig, SuiteSpec
from harness.engines import open_engine
from harness.models.planted import FOLDER
from harness.records.directory import RunDirectory
from harness.run.plan import Plan, make_manifest, make_plan
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


async def harness_pass(
    plan: Plan, folder: Path, engine: Any, recorder: Recorder
) -> tuple[Timing, list[Record]]:
    """Run and score every conversation."""
    await recorder.reset_prefix_cache()
    recorder.requests.clear()
    forget_yaml()
    directory = RunDirectory(folder)
    directory.add(make_manifest(plan))
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await run_plan(plan, directory, engine)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    records = [record for cell in plan.cells for record in directory.records(cell.entry)]
    work = Work(
        requests=sum(record.usage.requests for record in records),
        prompt_tokens=sum(record.usage.prompt_tokens or 0 for record in records),
        completion_tokens=sum(record.usage.completion_tokens or 0 for record in records),
    )
    return Timing(seconds=wall, work=work, cpu_seconds=cpu), records


async def measure(folders: list[Path]) -> tuple[Passes, list[Record]]:
    """All passes that count, each in a folder but the first, and the records of the last one."""
    config = run_config()
    engine: Any = await open_engine(config.engine, config.models[0])
    engine._llm = recorder = Recorder(engine._llm)
    passes = Passes()
    records: list[Record] = []
    try:
        for folder in folders:
            plan = make_plan(config)  # anew each time, so that no suite remembers the pass before
            timing, records = await harness_pass(plan, folder, engine, recorder)
            passes.harness.append(timing)
            passes.bare.append(await bare_pass(recorder, decode=True))
            passes.front_end.append(await bare_pass(recorder, decode=False))
    finally:
        engine._llm = recorder._llm
        await engine.close()
    return passes.counted(), records


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
        folders = [Path(folder) / str(number) for number in range(args.repeats + 1)]
        for each in folders:
            each.mkdir()
        page = report(*asyncio.run(measure(folders)))
    print(page)
    if args.out is not None:
        args.out.write_text(page)


if __name__ == "__main__":
    main()
