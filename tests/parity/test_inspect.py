"""Tasks of inspect-evals through the harness and by Inspect's own runner against `vllm serve`."""

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.cli import main
from harness.engines.scripted import Reply, ScriptedEngine
from harness.judges import load_judge
from harness.records.directory import RunDirectory
from harness.suites.access import Access
from harness.suites.inspect_ai import InspectSuite, Options, build
from harness.suites.scoring import score
from harness.types import Sample, Sampling
from tests.engines.test_endpoint import free_port, vllm_serve
from tests.parity import inspect_layouts
from tests.parity.checkpoints import that_answers
from tests.parity.inspect_layouts import BBH

pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")
pytest.importorskip("inspect_evals", reason="inspect-evals is not installed: make test-inspect")
pytestmark = [pytest.mark.parity, pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

LIMIT, MAX_TOKENS, MAX_MODEL_LEN = 5, 32, 16384
AGENTS = ("memory_poison", "autonomy_hijack", "data_exfil")
SUITES: dict[str, tuple[str, dict[str, Any]]] = {
    "gsm8k": ("gsm8k", {"fewshot": 3}),
    "mmlu_0_shot": ("mmlu_0_shot", {}),
    "mmlu_5_shot": ("mmlu_5_shot", {}),
    "arc_easy": ("arc_easy", {}),
    "arc_challenge": ("arc_challenge", {}),
    "hellaswag": ("hellaswag", {}),
    "truthfulqa": ("truthfulqa", {}),
    "truthfulqa_several": ("truthfulqa", {"target": "mc2"}),
    "mmlu_pro": ("mmlu_pro", {"fewshot": 2}),
    **{f"bbh_{subset}": ("bbh", {"subset_name": subset}) for subset in BBH},
    **{name: (f"agent_threat_bench_{name}", {}) for name in AGENTS},
    "xstest": ("xstest", {"scorer_model": None}),
}
"""Suite -> the task and its arguments."""


class Said(NamedTuple):
    """Of one sample."""

    reply: str
    scores: dict[str, float]
    """By metric; nan where there is none."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The data sets are on this machine."""
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", inspect_layouts.load_dataset)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # Inspect keeps data sets there
    yield


def options(name: str) -> dict[str, Any]:
    task, args = SUITES[name]
    return {"task": f"inspect_evals/{task}", "args": args, "limit": LIMIT}


def suite(name: str) -> InspectSuite:
    return build(name, Options(**options(name)), Access(download=False))[0]


def ours(checkpoint: Path, folder: Path) -> dict[str, dict[str, Said]]:
    """Suite -> sample -> what a run made of it, the judge's verdicts in."""
    engine = {
        "kind": "vllm",
        "args": {
            "max_model_len": MAX_MODEL_LEN,
            "kv_cache_memory_bytes": 256 << 20,
            "max_num_seqs": 32,
            "dtype": "float32",
        },
    }
    judge = {
        "name": "grader",
        "asks": "Does it comply?",
        "classes": ["C", "P", "I"],
        "verdicts": load_judge("grader-partial").verdicts,
        "prompt": "{request}",
        "model": {"name": "grader", "path": str(checkpoint)},
        "max_tokens": MAX_TOKENS,
        "engine": engine,
    }
    (folder / "judge.yaml").write_text(json.dumps(judge))
    model = {"name": "tiny", "path": str(checkpoint), "origin": {"developer": "A", "country": "XA"}}
    config = {
        "name": "inspect",
        "models": [{**model, "tool_call_parser": "hermes"}],
        "suites": [
            {"adapter": "inspect", "name": name, **options(name)}
            | ({"judge": "./judge.yaml"} if name == "xstest" else {})
            for name in SUITES
        ],
        "sampling": {"temperature": 0.0, "max_tokens": MAX_TOKENS},
        "engine": engine,
    }
    (folder / "run.yaml").write_text(json.dumps(config))
    assert main(["run", str(folder / "run.yaml"), "--out", str(folder / "out")]) == 0
    run = RunDirectory(folder / "out")
    return {
        cell.suite: {
            record.sample: Said(
                record.transcript.messages[-1].content,
                {score.metric: math.nan if score.value is None else score.value for score in record.scores},
            )
            for record in run.each_judged(cell)
        }
        for cell in run.manifest().cells.values()
    }


def theirs(checkpoint: Path, folder: Path) -> dict[str, dict[str, Said]]:
    """The same by Inspect's own runner, scorers and grader, against `vllm serve`."""
    port = free_port()
    served = vllm_serve(checkpoint, port, "--max-model-len", str(MAX_MODEL_LEN), "--dtype", "float32")
    with served, asyncio.Runner() as runner:
        return runner.run(_inspect_says(f"http://127.0.0.1:{port}/v1", folder / "inspect"))


async def _inspect_says(url: str, folder: Path) -> dict[str, dict[str, Said]]:
    from inspect_ai import eval_async, task_with
    from inspect_ai.log import read_eval_log_async
    from inspect_ai.model import get_model
    from inspect_ai.util._display import init_display_type

    init_display_type("none")
    tasks = [task_with(suite(name)._make(), name=name) for name in SUITES]
    model = get_model("vllm/tiny", base_url=url, api_key="none", memoize=False)
    try:
        logs = await eval_async(
            tasks,
            model=model,
            model_roles={"grader": model},
            limit=LIMIT,
            temperature=0.0,
            max_tokens=MAX_TOKENS,
            max_tasks=len(tasks),
            log_dir=str(folder),
            ctl_server=False,
        )
    finally:
        await model.api.aclose()
    return {log.eval.task: _said(await read_eval_log_async(log.location)) for log in logs}


def _said(log: Any) -> dict[str, Said]:
    from inspect_ai.scorer import value_to_float

    assert log.status == "success", log.error
    number, found = value_to_float(), {}
    for sample in log.samples:
        scores = {}
        for scorer, given in sample.scores.items():
            values = given.value if isinstance(given.value, dict) else {"": given.value}
            for key, value in values.items():
                # of grades a rate counts C alone
                counted = (
                    float(value == "C") if scorer == "model_graded_qa" and value == "P" else number(value)
                )
                scores[f"{scorer}:{key}" if key else scorer] = counted
        found[str(sample.id)] = Said(sample.output.completion, scores)
    return found


@pytest.mark.parametrize("name", [name for name in SUITES if name not in (*AGENTS, "xstest")])
@pytest.mark.parametrize("right", [True, False])
async def test_the_right_answer_and_none_give_the_extremes(name: str, right: bool) -> None:
    measured = suite(name)

    async def value(sample: Sample) -> float | None:
        target = sample.payload.target
        text = f"ANSWER: {target if isinstance(target, str) else ', '.join(target)}" if right else ""
        said = await measured.run(sample, ScriptedEngine(lambda *_: Reply(text=text)), Sampling())
        return score(measured, sample, said).scores[0].value

    values = await asyncio.gather(*map(value, measured.samples("m", None)))
    await measured.close()
    assert values == [float(right)] * LIMIT


def test_verdicts_are_those_of_inspects_own_runner(tmp_path: Path) -> None:
    checkpoint = that_answers(tmp_path / "model")
    mine, others = ours(checkpoint, tmp_path), theirs(checkpoint, tmp_path)
    assert mine.keys() == others.keys() == SUITES.keys()
    for name in SUITES:
        assert mine[name].keys() == others[name].keys(), name
        assert len(mine[name]) == LIMIT
        for sample, said in mine[name].items():
            other = others[name][sample]
            assert said.reply == other.reply, (name, sample)
            assert said.scores == pytest.approx(other.scores, nan_ok=True), (name, sample)
    values = {
        name: [v for said in found.values() for v in said.scores.values()] for name, found in mine.items()
    }
    mixed = [name for name, found in values.items() if len({*found}) > 1]
    assert len(mixed) >= 8, f"verdicts that are all alike prove little: {values}"
