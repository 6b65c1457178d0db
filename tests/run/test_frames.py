"""How deep the way is from the command line to vLLM: each call on it has a reason to be there."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

import harness
from harness.cli import main
from harness.config import ModelSpec
from harness.engines.vllm import engine as vllm
from harness.types import EngineFacts, Generation

FRAMES = {
    "main": "parses the command line; errors become sentences and exit statuses",
    "run_command": "reads the config; a terminal watches; scorecards are written however it ends",
    "run": "from a plan to jobs; what could not be measured is kept",
    "InProcess.run": "where and when jobs are run; another launcher stands here",
    "Job.run": "one engine, from its load to its end",
    "Asked.attempt": "one attempt, from its sample to its record",
    "AgentDojoSuite.run": "what is asked",
    "MeteredEngine.chat": "what it cost",
    "VllmEngine.chat": "messages become tokens, tokens a reply",
}

CONFIG = """\
name: deep
models: [{name: m, path: m, origin: {developer: A, country: XA}}]
suites: [{adapter: agentdojo, suite: banking, attack: null, limit: 1}]
sampling: {temperature: 0.0}
engine: {kind: "tests.run.test_frames:start"}
"""

STACKS: list[list[str]] = []
"""The package's calls above each of vLLM's."""


class Stub:
    """In place of vLLM's `AsyncLLM`."""

    async def generate(self, *_: Any) -> AsyncIterator[Any]:
        STACKS.append([*waiting(), *running(sys._getframe(1))])
        completion = SimpleNamespace(finish_reason="stop", token_ids=[1])
        yield SimpleNamespace(outputs=[completion], prompt_token_ids=[1])


def running(frame: FrameType | None) -> list[str]:
    """The calls on the stack, outermost first; those of the event loop are not ours."""
    found = []
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return [code.co_qualname for code in reversed(found) if ours(code)]


def waiting() -> list[str]:
    """The calls that wait for this one in other tasks."""
    found = []
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        awaited: Any = task.get_coro()
        while (code := getattr(awaited, "cr_code", None)) is not None:
            found += [code.co_qualname] if ours(code) and code.co_name != "_sync" else []
            awaited = awaited.cr_await
    return found


def ours(code: Any) -> bool:
    return Path(code.co_filename).is_relative_to(Path(harness.__file__).parent)


class Engine(vllm.VllmEngine):
    """The real one, with nothing of vLLM but a stub of its call."""

    def __init__(self) -> None:
        self._shared, self._max_num_seqs = vllm.Shared(), 1
        self._llm, self._parses_reasoning, self._templated = Stub(), False, False
        self.facts = EngineFacts(name="stub", version="1", details={})

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[str]:
        yield "id"

    async def _render_chat(self, request: Any) -> Any:
        return {"prompt_token_ids": [1]}

    def _check_chat(self, tools: bool) -> None: ...

    def _stop_token_ids(self) -> list[int]:
        return []

    def _sampling_params(self, *_: Any) -> Any:
        return SimpleNamespace(detokenize=True)

    def _parse(self, *_: Any) -> vllm.Reply:
        return vllm.Reply(text="Done.")

    def _generation(self, output: Any, reply: vllm.Reply, started: float) -> Generation:
        return Generation(
            text=reply.text, raw=reply.text, finish_reason="stop", prompt_tokens=1, completion_tokens=1
        )

    async def close(self) -> None: ...


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    return Engine()


def test_every_call_between_the_command_line_and_vllm_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "_chat_request", lambda *_: SimpleNamespace(structured_outputs=None))
    path = tmp_path / "deep.yaml"
    path.write_text(CONFIG)
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 0
    (stack,) = STACKS
    assert sorted(stack) == sorted(FRAMES)
    assert len(stack) <= 9
