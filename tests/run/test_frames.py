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
from harness.engines.vllm.loglikelihoods import Scorer
from harness.engines.vllm.reading import Reply
from harness.types import EngineFacts, Generation

RUN = {
    "main": "parses the command line; errors become sentences and exit statuses",
    "run_command": "reads the config; a terminal watches; scorecards are written however it ends",
    "run": "from a plan to jobs; what could not be measured is kept",
    "InProcess.run": "where and when jobs are run; another launcher stands here",
    "Job.run": "one engine, from its load to its end",
    "Asked.attempt": "one attempt, from its sample to its record",
}
AGENTS = {
    **RUN,
    "AgentDojoSuite.run": "what is asked",
    "MeteredEngine.chat": "what it cost",
    "VllmEngine.chat": "messages become tokens, tokens a reply",
}
REPLIES = {
    **RUN,
    "LmEvalSuite.run": "what is asked",
    "MeteredEngine.complete": "what it cost",
    "VllmEngine.complete": "a text becomes tokens, tokens a reply",
}
CHOICES = {
    **RUN,
    "LmEvalSuite.run": "what is asked",
    "MeteredEngine.score": "what it cost",
    "Scorer.score": "tokens that share a context are put together",
}
WITHIN = {"VllmEngine._ask": "vLLM's errors are classified"}
"""Of log-likelihoods alone: one call has several requests at once."""
TOKENS = {"Scorer.next_tokens": "more candidates than a request may name are several requests", **WITHIN}
LONGER = {"Scorer.continuation": "what the cache swallowed is asked for again", **WITHIN}

CONFIG = """\
name: deep
models: [{name: m, path: m, origin: {developer: A, country: XA}}]
suites: [SUITE]
sampling: {temperature: 0.0}
engine: {kind: "tests.run.test_frames:start"}
"""
TASK = """\
task: OUTPUT
dataset_path: json
dataset_kwargs: {data_files: {test: one.jsonl}}
test_split: test
output_type: OUTPUT
doc_to_text: "{{question}}"
doc_to_target: OF
doc_to_choice: CHOICES
metadata: {version: 1.0}
"""

STACKS: list[list[str]] = []
"""The package's calls above each of vLLM's."""


class Stub:
    """In place of vLLM's `AsyncLLM`."""

    async def generate(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        STACKS.append([*waiting(), *running(sys._getframe(1))])
        chances = {token: SimpleNamespace(logprob=-1.0) for token in (1, 2)}
        completion = SimpleNamespace(finish_reason="stop", token_ids=[1], logprobs=[chances])
        yield SimpleNamespace(
            outputs=[completion], prompt_token_ids=[1], num_cached_tokens=0, prompt_logprobs=Rows()
        )


class Rows:
    """Of a prompt whose three tokens are `a`, as vLLM's `FlatLogprobs`."""

    start_indices, end_indices, token_ids, logprobs = (0, 1, 2), (1, 2, 3), (1, 1, 1), (-1.0, -1.0, -1.0)

    def __len__(self) -> int:
        return 3


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
        self._shared, self._max_num_seqs, self._max_model_len = vllm.Shared(), 1, 100
        self._llm, self._templated = Stub(), False
        self._chat: Any = SimpleNamespace(use_harmony=False)
        self._encoder: Any = SimpleNamespace(
            encode=lambda text: [1],
            pair=lambda context, rest: ([1], ["ab".index(letter) + 1 for letter in rest.strip()]),
            leading_bos=lambda tokens: 0,
        )
        self._reader: Any = SimpleNamespace(
            reasons=False,
            read=lambda *_: Reply(text="Done."),
            read_text=lambda *_: Reply(text="Done."),
        )
        self._scorer = Scorer(self._ask, self._encoder, 100, None, 8)
        self.facts = EngineFacts(name="stub", version="1", details={})

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[str]:
        yield "id"

    async def _render_chat(self, request: Any) -> Any:
        return {"prompt_token_ids": [1]}

    def _check_chat(self, tools: bool) -> None: ...

    def _sampling_params(self, *_: Any) -> Any:
        return SimpleNamespace(detokenize=True)

    def _generation(self, output: Any, reply: Reply, started: float) -> Generation:
        return Generation(
            text=reply.text, raw=reply.text, finish_reason="stop", prompt_tokens=1, completion_tokens=1
        )

    async def close(self) -> None: ...


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    return Engine()


CHOICE = "{adapter: lm_eval, task: multiple_choice, include_path: ./tasks}"


@pytest.mark.parametrize(
    ("suite", "choices", "frames", "beyond"),
    [
        ("{adapter: agentdojo, suite: banking, attack: null, limit: 1}", ["a"], AGENTS, {}),
        ("{adapter: lm_eval, task: generate_until, include_path: ./tasks}", ["a"], REPLIES, {}),
        (CHOICE, ["a", "b"], CHOICES, TOKENS),
        (CHOICE, ["aa"], CHOICES, LONGER),
    ],
    ids=["agents", "replies", "tokens", "longer"],
)
def test_every_call_between_the_command_line_and_vllm_has_a_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suite: str,
    choices: list[str],
    frames: dict[str, str],
    beyond: dict[str, str],
) -> None:
    monkeypatch.setattr(vllm, "chat_request", lambda *_, **__: SimpleNamespace(structured_outputs=None))
    monkeypatch.setattr(vllm, "_final_only", lambda **_: None)
    for name, stub in (("vllm", {}), ("vllm.inputs", {"tokens_input": list})):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**stub))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "one.jsonl").write_text('{"question": "Which?", "answer": "a"}\n')
    for output, target in (("generate_until", '"{{answer}}"'), ("multiple_choice", "0")):
        task = TASK.replace("OUTPUT", output).replace("OF", target).replace("CHOICES", str(choices))
        (tmp_path / "tasks" / f"{output}.yaml").write_text(task)
    path = tmp_path / "deep.yaml"
    path.write_text(CONFIG.replace("SUITE", suite))
    STACKS.clear()
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 0
    (stack,) = STACKS
    assert sorted(stack) == sorted([*frames, *beyond])
    assert len(frames) <= 9
    assert len(beyond) <= 2
