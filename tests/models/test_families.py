"""Every architecture class of the registry: loaded by vLLM with its spec's own arguments, and used.

Random weights write no tool calls, so replies in the published format of the family are put through the
same parsing as generated ones. With FAMILIES_TABLE set to a file, what was found is written there.
"""

import gc
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import ModelSpec, load_model
from harness.engines.vllm import VllmEngine, _chat_request
from harness.errors import EngineDead, UserError
from harness.models import cache, checkpoint
from harness.models.inspection import layers_of
from harness.models.layers import count_parameters
from harness.types import Generation, Message, Sampling, Tool, ToolCall
from tests.models.formats import Format
from tests.models.tiny_families import FAMILIES, Family, build

FAST = ("qwen3_moe", "deepseek_v3")
SMALL = {
    "max_model_len": 512, "kv_cache_memory_bytes": 128 << 20, "max_num_seqs": 4,
    "max_num_batched_tokens": 512,
}  # fmt: skip
CALLS = ({"name": "get_weather", "arguments": {"city": "Paris"}},
         {"name": "get_weather", "arguments": {"city": "Rome"}})  # fmt: skip
TOOLS = tuple(
    Tool(
        name=name,
        description=f"The {name[4:]} of a city",
        parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    )
    for name in ("get_weather", "get_time")
)
CONVERSATION = (
    Message(role="user", content="Weather in Paris and Rome?"),
    Message(
        role="assistant",
        content="",
        tool_calls=tuple(ToolCall(id=f"call0000{i}", **call) for i, call in enumerate(CALLS)),
    ),
    Message(role="tool", content="sunny", tool_call_id="call00000", name="get_weather"),
)

engine_test = [
    pytest.mark.asyncio(loop_scope="function"),
    # torch and transformers deprecate names that vLLM's import touches.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def _row(name: str, folder: Path, loads: str, tools: str, reasoning: str, began: float) -> None:
    """Set the row of a family in the table, if one is wanted; the other rows stay."""
    if not (file := os.environ.get("FAMILIES_TABLE")):
        return
    path = Path(file)
    old = path.read_text(encoding="utf8").splitlines()[2:] if path.is_file() else []
    rows = {row.split("|")[1].strip(): row for row in old}
    found = checkpoint.inspect(folder).model_class
    loads = loads.replace("|", "/").replace(str(folder), "the checkpoint")
    rows[name] = f"| {name} | {found} | {loads} | {tools} | {reasoning} | {time.monotonic() - began:.0f} |"
    ordered = [rows[family] for family in FAMILIES if family in rows]
    head = ["| family | class | loads | tools | reasoning | seconds |", "|---|---|---|---|---|---|"]
    path.write_text("\n".join([*head, *ordered, ""]), encoding="utf8")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_are_counted_alike_from_tensors_and_from_config(name: str, tmp_path: Path) -> None:
    folder = build(name, tmp_path / name)
    found = checkpoint.inspect(folder)
    computed = count_parameters(checkpoint.read_json(folder / "config.json"))
    assert found.total_params == pytest.approx(computed.total, rel=0.005)
    assert found.active_params == pytest.approx(computed.active, rel=0.005)
    assert found.dense == (found.active_params == found.total_params)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.engine, *engine_test]) for n in FAST]
    + [pytest.param(n, marks=[pytest.mark.families, *engine_test]) for n in FAMILIES if n not in FAST]
)  # fmt: skip
async def test_family(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    family, spec = FAMILIES[name], load_model(FAMILIES[name].spec)
    began = time.monotonic()
    folder = build(name, tmp_path / name)
    if family.refused:
        with pytest.raises((UserError, EngineDead)) as caught:
            await _use(await _start(folder, family, spec))
        captured = capfd.readouterr()  # the core process says it there
        lines = f"{caught.value}\n{captured.out}\n{captured.err}".splitlines()
        said = [line.split("] ")[-1].strip() for line in lines if family.refused in line]
        assert said
        _row(name, folder, f"no: {said[-1]}", "-", "-", began)
        del caught
        gc.collect()  # what vLLM leaves open is collected here, not when another test runs
        return
    engine = await _start(folder, family, spec)
    try:
        _check_cache(engine, folder)
        await _generate(engine)
        tools, reasoning = await _talk(engine, family.written, spec)
    finally:
        await engine.close()
    _row(name, folder, "yes", tools, reasoning, began)


async def _start(folder: Path, family: Family, spec: ModelSpec) -> VllmEngine:
    given = {"dtype": "bfloat16", **spec.engine_args, **SMALL, **family.args}
    return await VllmEngine.start(
        str(folder),
        tool_call_parser=spec.tool_call_parser,
        reasoning_parser=spec.reasoning_parser,
        engine_args={key: value for key, value in given.items() if value is not None},
    )


async def _use(engine: VllmEngine) -> None:
    try:
        await _generate(engine)
    finally:
        await engine.close()


def _check_cache(engine: VllmEngine, folder: Path) -> None:
    """vLLM makes as many blocks of the cache as the harness forecasts, where all layers cache alike."""
    layers = layers_of(checkpoint.read_json(folder / "config.json")) or []
    if any(layer.state_bytes or layer.window or not layer.cache_elements for layer in layers):
        return
    config = engine._llm.vllm_config.cache_config
    block = config.block_size * cache.bytes_per_token(layers)
    assert config.num_gpu_blocks == SMALL["kv_cache_memory_bytes"] // block


async def _generate(engine: VllmEngine) -> None:
    """The engine writes, and scores what it wrote as what it would have written."""
    one = await engine.complete("The weather in", Sampling(max_tokens=8))
    two = await engine.complete("The weather in", Sampling(max_tokens=8))
    assert one.completion_tokens > 0
    assert one.raw == two.raw
    scores = await engine.score("The weather in", [" Paris", " Rome"])
    assert all(score.logprob < 0 and score.tokens >= 1 for score in scores)
    again = await engine.score("The weather in", [" Paris", " Rome"])
    assert [score.logprob for score in again] == [score.logprob for score in scores]


async def _talk(engine: VllmEngine, written: Format | None, spec: ModelSpec) -> tuple[str, str]:
    """Render a conversation with tools, read a good reply and a broken one."""
    if spec.tool_call_parser is None:
        return "none named", f"{spec.reasoning_parser}, not tried" if spec.reasoning_parser else "-"
    if written is None:  # gpt-oss, which writes the token ids of its real vocabulary
        return f"{spec.tool_call_parser}, not tried", f"{spec.reasoning_parser}, not tried"
    rendered = engine.render(CONVERSATION)
    assert written.write(CALLS) in rendered
    thought = "<think>Two cities.</think>" if spec.reasoning_parser and written.thinks else ""
    reply = await _read(engine, thought + written.write(CALLS))
    assert [(c.name, c.arguments) for c in reply.tool_calls] == [
        ("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})
    ]  # fmt: skip
    assert reply.parse_error is None
    if thought:
        assert (reply.reasoning or "").removeprefix("<think>").strip() == "Two cities."
    broken = await _read(engine, thought + written.broken)
    if written.lenient:
        assert [c.arguments for c in broken.tool_calls] == [{}]
    else:
        assert broken.tool_calls == ()
        assert (broken.parse_error is None) == written.silent
    note = (
        " (reads an unfinished call)" * written.lenient + " (a broken call is read as text)" * written.silent
    )
    return spec.tool_call_parser + note, spec.reasoning_parser if thought and spec.reasoning_parser else "-"


async def _read(engine: VllmEngine, written: str) -> Generation:
    """The generation that the engine makes of a reply, as if the model had written it."""
    request = _chat_request(CONVERSATION[:1], TOOLS)
    inputs = await engine._render_chat(request)
    tokens = engine._encoder.encode_bare(written + "<|im_end|>")
    completion: Any = SimpleNamespace(text=written, token_ids=tokens, finish_reason="stop", stop_reason=None)
    output = SimpleNamespace(
        outputs=[completion], prompt_token_ids=inputs["prompt_token_ids"], num_cached_tokens=0
    )
    reply = engine._parse(request, output.prompt_token_ids, completion, CONVERSATION[:1], TOOLS)
    return engine._generation(output, reply, started=0.0)
