"""Real vLLM, told what to write: what comes out is what lm-eval makes of the same reply."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.utils import postprocess_generated_text

from harness.engines.vllm.engine import VllmEngine
from harness.errors import AttemptFailure
from harness.types import FailureKind, Message, Sampling, Tool
from tests.engines.parrot import build_parrot

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ARGS = {"max_model_len": 256, "kv_cache_memory_bytes": 64 << 20, "max_num_seqs": 4, "dtype": "float32"}
QUESTION = (Message(role="user", content="Six or seven?"),)
NOTE = Tool(name="note", description="Keep a note", parameters={"type": "object", "properties": {}})
CALL = '<tool_call>\n{"name": "note", "arguments": {}}\n</tool_call>'


async def start(folder: Path, **parsers: str) -> VllmEngine:
    arguments: dict[str, Any] = dict(ARGS)
    return await VllmEngine.start(str(folder), engine_args=arguments, **parsers)


async def test_a_thinking_model(tmp_path: Path) -> None:
    pieces = ("<think>", f"seven\n\nor {CALL}?", "</think>", "\n\n", "The answer is 7", "\n\n\n", "Six")
    engine = await start(
        build_parrot(tmp_path / "m", pieces), tool_call_parser="hermes", reasoning_parser="qwen3"
    )
    try:
        prompt, raw = engine.render(QUESTION), "".join(pieces)
        for stop in ("\n\n", "answer", "never"):
            text = await engine.complete(prompt, Sampling(stop=(stop,), max_tokens=32))
            assert text.raw == f"{raw}<|im_end|>"
            assert text.text == postprocess_generated_text(raw, [stop], "</think>")
            assert text.finish_reason == "stop"
        assert text.reasoning == pieces[1]
        # A template that opens the thought, and a stop string that only the thought holds (vllm #52393).
        opened = await engine.complete(f"{prompt}<think>", Sampling(stop=("or",), max_tokens=32))
        assert opened.text == postprocess_generated_text("".join(pieces[1:]), ["or"], "</think>")
        assert (opened.reasoning, opened.text) == (pieces[1], "The answer is 7\n\n\nSix")
        cut = await engine.complete(prompt, Sampling(max_tokens=2))
        assert (cut.text, cut.reasoning, cut.finish_reason) == ("", pieces[1], "length")
        said = await engine.chat(QUESTION, [NOTE], Sampling(max_tokens=32))
        assert (said.text, said.tool_calls, said.parse_error) == ("The answer is 7\n\n\nSix", (), None)
        assert said.reasoning == pieces[1]
    finally:
        await engine.close()


async def test_a_model_that_gives_no_numbers_late_in_a_reply_fails(tmp_path: Path) -> None:
    engine = await start(build_parrot(tmp_path / "m", ("It is 7", "and"), nan=True))
    try:
        prompt = engine.render(QUESTION)
        assert (await engine.complete(prompt, Sampling(max_tokens=2))).text == "It is 7and"
        for drawn in (
            Sampling(max_tokens=64),
            Sampling(max_tokens=3),
            Sampling(max_tokens=4, temperature=0.7),
        ):
            said = f"within {drawn.max_tokens} tokens the model came to give no numbers"
            for call in (engine.complete(prompt, drawn), engine.chat(QUESTION, (), drawn)):
                with pytest.raises(AttemptFailure, match=said) as found:
                    await call
                assert found.value.kind is FailureKind.ENGINE_ERROR
    finally:
        await engine.close()


async def test_a_hybrid_that_does_not_think(tmp_path: Path) -> None:
    engine = await start(
        build_parrot(tmp_path / "m", ("It is 7", "\n\n", "no more")),
        tool_call_parser="hermes",
        reasoning_parser="qwen3",
    )
    try:
        text = await engine.complete(engine.render(QUESTION), Sampling(stop=("\n",), max_tokens=8))
        assert (text.text, text.reasoning, text.finish_reason) == ("It is 7", None, "stop")
        said = await engine.chat(QUESTION, [NOTE], Sampling(max_tokens=8))
        assert (said.text, said.reasoning, said.parse_error) == ("It is 7\n\nno more", None, None)
    finally:
        await engine.close()


async def test_a_model_without_parsers_keeps_its_special_tokens(tmp_path: Path) -> None:
    pieces = ("<answer>", "It is 7", "</answer>", "\n\n", "more")
    engine = await start(build_parrot(tmp_path / "m", pieces, special=("<answer>", "</answer>")))
    try:
        prompt = engine.render(QUESTION)
        text = await engine.complete(prompt, Sampling(max_tokens=8))
        assert text.text == "".join(pieces)
        stopped = await engine.complete(prompt, Sampling(stop=("\n\n",), max_tokens=8))
        assert (stopped.text, stopped.finish_reason) == ("<answer>It is 7</answer>", "stop")
        assert stopped.raw == "<answer>It is 7</answer>\n\n"
        # Nobody but the model writes these: they are what it says, to agents too.
        said = await engine.chat(QUESTION, (), Sampling(max_tokens=8))
        assert said.text == "".join(pieces)
    finally:
        await engine.close()
