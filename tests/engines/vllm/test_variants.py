"""Variants of one model through real vLLM: what is planted for each mode, effort and budget comes back."""

import html
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli import main
from harness.config import ModelSpec
from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.engine import VllmEngine
from harness.errors import Status, UserError
from harness.records.directory import RunDirectory
from harness.suites.restore import renderer
from harness.types import Generation, Message, Sampling, Variant
from tests.engines.parrot import REPLIES, build_switched

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ARGS = {"max_model_len": 256, "kv_cache_memory_bytes": 64 << 20, "max_num_seqs": 4, "dtype": "float32"}
QUESTION = (Message(role="user", content="Six or seven?"),)
LONG = Sampling(max_tokens=32)

THINKING = Variant(mode="thinking", chat_template_kwargs={"enable_thinking": True})
INSTRUCT = Variant(mode="instruct", chat_template_kwargs={"enable_thinking": False})
HIGH = Variant(mode="thinking", chat_template_kwargs={"enable_thinking": True, "reasoning_effort": "high"})
BUDGET = Variant(mode="thinking", chat_template_kwargs=HIGH.chat_template_kwargs, thinking_token_budget=3)
"""One of them is the template's, which lets the prompt end behind `<think>`."""


LOW = ("low", " idea", " of", " more", "</think>", "after a thought")


def said(reply: Generation) -> tuple[str | None, str]:
    return reply.reasoning, reply.text


@pytest.mark.asyncio
async def test_what_is_planted_for_each_variant_comes_back(tmp_path: Path) -> None:
    folder = build_switched(tmp_path / "m", {**REPLIES, "": ("<think>",), "<think>": LOW})
    engine = await VllmEngine.start(str(folder), reasoning_parser="qwen3", engine_args=ARGS)
    try:
        thinking, instruct, high, budget = map(engine.as_variant, (THINKING, INSTRUCT, HIGH, BUDGET))
        for asked, expected in (
            (engine, ("low idea of more", "after a thought")),
            (thinking, ("low idea of more", "after a thought")),
            (high, ("high and long thought", "after a thought")),
            (budget, ("high and", "after a thought")),
            (instruct, (None, "at once</think>after a thought")),
        ):
            for replies in (
                await asked.chat(QUESTION, (), LONG),
                await asked.complete(asked.render(QUESTION), LONG),
            ):
                assert said(replies) == expected
        stop = Sampling(max_tokens=32, stop=("once", "low"))
        assert said(await instruct.chat(QUESTION, (), stop)) == (None, "at ")
        assert said(await thinking.chat(QUESTION, (), stop)) == ("low idea of more", "after a thought")
        long_prompt = high.render(QUESTION)
        for reply, tokens, ended, cut in (
            (await thinking.chat(QUESTION, (), LONG), 4, False, False),
            (await high.complete(long_prompt, LONG), 4, False, False),
            (await budget.complete(long_prompt, LONG), 2, True, False),
            (await high.complete(long_prompt, Sampling(max_tokens=3)), 3, False, True),
            (await high.complete(long_prompt, Sampling(max_tokens=5)), 4, False, True),
            (await high.complete(long_prompt, Sampling(max_tokens=6)), 4, False, False),
            (await instruct.chat(QUESTION, (), LONG), 0, False, False),
            # A thought that the model begins by itself has the same budget.
            (await budget.complete("Six or seven?", LONG), 4, True, False),
        ):
            assert (reply.reasoning_tokens, reply.thought_ended, reply.thought_cut) == (tokens, ended, cut)
        for variant in (THINKING, INSTRUCT, HIGH, Variant(system_prompt="Be brief.")):
            one = engine.as_variant(variant)
            spec = ModelSpec(name="m", path=str(folder), variant=variant)
            assert one.render(QUESTION) == renderer(spec)(QUESTION, True)
            request = chat_request(QUESTION, (), variant, templated=True)
            sent = (await one._render_chat(request))["prompt_token_ids"]
            assert sent == engine._encoder.encode_bare(one.render(QUESTION))
        prompt = engine.as_variant(Variant(system_prompt="Be brief.")).render
        assert "system\nBe brief.<" in prompt(QUESTION)
        assert "system\nBe brief.\n\nBe kind.<" in prompt(
            [Message(role="system", content="Be kind."), *QUESTION]
        )
    finally:
        await instruct.close()
    assert engine._shared.closed


def test_a_budget_is_refused_where_nobody_knows_how_a_thought_ends() -> None:
    engine = object.__new__(VllmEngine)
    engine._llm = SimpleNamespace(vllm_config=SimpleNamespace(reasoning_config=None))
    with pytest.raises(UserError, match=r"thinking_token_budget.*reasoning_config"):
        engine.as_variant(BUDGET)


RUN = """\
name: variants
models:
  - model: &model
      name: tiny
      path: ./m
      reasoning_parser: qwen3
      modes:
        thinking: {chat_template_kwargs: {enable_thinking: true}}
        instruct: {chat_template_kwargs: {enable_thinking: false}}
      default_mode: thinking
      efforts: {high: {chat_template_kwargs: {reasoning_effort: high}}}
      sampling: {thinking: {temperature: 0.6, top_k: 20}}
    mode: thinking
    sampling: recommended
    as: tiny@thinking
  - {model: *model, mode: instruct}
  - {model: *model, reasoning_effort: high, thinking_token_budget: 3}
suites:
  - {adapter: tests.fakes, name: digits, samples: 6}
sampling: {max_tokens: 32, seed: 1}
engine:
  args: {max_model_len: 256, kv_cache_memory_bytes: 67108864, max_num_seqs: 8, dtype: float32}
"""


def test_variants_share_one_load_of_the_weights_and_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.engines import vllm

    loads: list[str] = []
    launch = vllm.engine.launch

    async def counted(what: vllm.engine.Launch) -> object:
        loads.append(what.model)
        return await launch(what)

    monkeypatch.setattr(vllm.engine, "launch", counted)
    build_switched(tmp_path / "m", REPLIES)
    (tmp_path / "run.yaml").write_text(RUN)
    names = ["tiny@thinking", "tiny@instruct", "tiny@high-3-tokens"]
    assert main(["plan", str(tmp_path / "run.yaml")]) == Status.DONE
    planned = capsys.readouterr().out
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == Status.DONE
    assert len(loads) == 1
    card = html.unescape((tmp_path / "out" / "scorecard.md").read_text())  # an @ would name somebody
    assert all(name in planned and name in card for name in names)
    differ = "(instruct for tiny@instruct, thinking for tiny@high-3-tokens and tiny@thinking)"
    assert f"protocols differ in variant.mode {differ}" in card
    assert "Thoughts ended by budget" in card and "of them thinking" in card
    directory = RunDirectory(tmp_path / "out")
    cells = {cell.model: cell for cell in directory.manifest().cells.values()}
    assert [*cells] == names
    thoughts = {
        name: {
            reply.reasoning for record in directory.records(cell) for reply in record.transcript.generations
        }
        for name, cell in cells.items()
    }
    assert thoughts == {names[0]: {"low thought"}, names[1]: {None}, names[2]: {"high and"}}
    asked = {name: {k: v for k, v in cell.protocol.items() if "variant" in k} for name, cell in cells.items()}
    assert asked[names[0]] == {
        "variant.mode": "thinking",
        "variant.chat_template_kwargs": '{"enable_thinking":true}',
        "variant.sampling": '{"from":"recommended"}',
    }
    assert asked[names[1]] == {
        "variant.mode": "instruct",
        "variant.chat_template_kwargs": '{"enable_thinking":false}',
    }
    assert asked[names[2]] == {
        "variant.mode": "thinking",
        "variant.reasoning_effort": "high",
        "variant.thinking_token_budget": "3",
        "variant.chat_template_kwargs": '{"enable_thinking":true,"reasoning_effort":"high"}',
    }
    assert [cell.protocol["sampling.temperature"] for cell in cells.values()] == ["0.6", "0.0", "0.0"]
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == Status.DONE
    assert len(loads) == 1
