"""Variants as a run config names them, and who says how their replies are drawn."""

from pathlib import Path

import pytest

from harness.config import RunConfig, drawn_by, load_config, to_yaml
from harness.errors import UserError
from harness.types import Sampling

MODEL = """\
name: m
path: ./weights
called: Emm
modes:
  thinking: {chat_template_kwargs: {enable_thinking: true}}
  instruct: {chat_template_kwargs: {enable_thinking: false}, system_prompt: /no_think}
default_mode: thinking
efforts:
  low: {chat_template_kwargs: {reasoning_effort: low}}
  high: {chat_template_kwargs: {reasoning_effort: high}}
sampling:
  thinking: {temperature: 0.6, top_p: 0.95}
"""


LOW = {"enable_thinking": True, "reasoning_effort": "low"}


def load(folder: Path, models: str, sampling: str = "{}") -> RunConfig:
    (folder / "m.yaml").write_text(MODEL)
    path = folder / "run.yaml"
    path.write_text(
        f"name: r\nmodels: [{models}]\nsuites: [{{adapter: tests.fakes}}]\nsampling: {sampling}\n"
    )
    return load_config(path)


def refusal(folder: Path, models: str, sampling: str = "{}") -> str:
    with pytest.raises(UserError) as caught:
        load(folder, models, sampling)
    assert "\n" not in str(caught.value) and "run.yaml:2: " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "name", "keywords"),
    [
        ("./m.yaml@thinking", "m@thinking", {"enable_thinking": True}),
        ("./m.yaml@instruct", "m@instruct", {"enable_thinking": False}),
        ("./m.yaml@high", "m@high", {"enable_thinking": True, "reasoning_effort": "high"}),
        ("./m.yaml@thinking-low", "m@thinking-low", LOW),
        ("{model: ./m.yaml, as: mine, chat_template_kwargs: {x: 1}}", "mine", {"x": 1}),
        (
            "{model: ./m.yaml, as: mine, mode: thinking, chat_template_kwargs: {enable_thinking: 2}}",
            "mine",
            {"enable_thinking": 2},
        ),
        ("{model: ./m.yaml, thinking_token_budget: 64}", "m@64-tokens", {}),
        (
            "{model: ./m.yaml, mode: thinking, sampling: greedy}",
            "m@thinking-greedy",
            {"enable_thinking": True},
        ),
    ],
)
def test_a_variant_is_named_and_resolved(
    tmp_path: Path, entry: str, name: str, keywords: dict[str, object]
) -> None:
    config = load(tmp_path, entry)
    (model,) = config.models
    assert (model.name, model.called) == (name, "Emm")
    assert model.variant.chat_template_kwargs == keywords
    kept = tmp_path / "kept.yaml"
    kept.write_text(to_yaml(config))
    assert load_config(kept).models[0].variant == model.variant


def test_a_mode_may_be_asked_for_in_the_system_message(tmp_path: Path) -> None:
    config = load(tmp_path, "{model: ./m.yaml, mode: instruct, system_prompt: Be brief., as: brief}")
    assert config.models[0].variant.system_prompt == "/no_think\nBe brief."


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("./m.yaml@fast", "m has no variant 'fast': it has m@thinking, m@instruct, m@low, m@high"),
        (
            "./m.yaml@thinking@high",
            "m@thinking is a variant already: name a mode and an effort with a hyphen",
        ),
        ("{model: ./m.yaml, mode: fast}", "m has no mode 'fast': it has thinking, instruct"),
        ("{model: ./m.yaml, reasoning_effort: max}", "m has no effort 'max': it has low, high"),
        ("{model: ./m.yaml, mode: instruct, reasoning_effort: low}", "no thought to make an effort at"),
        ("{model: ./m.yaml, moed: thinking}", "did you mean `mode`"),
        ("{model: ./m.yaml, chat_template_kwargs: {x: 1}}", "needs a name of its own: say it as `as`"),
        ("{model: {name: n, path: o/n}, mode: thinking}", "its spec names none; say `{model: ..., as: ..."),
        ("./m.yaml@high, ./m.yaml@high", "give each once, and variants names of their own by `as`"),
        (
            "{model: ./m.yaml, thinking_token_budget: -1, mode: thinking}",
            "key `thinking_token_budget`: expected `int` >= 0",
        ),
        ("{model: ./m.yaml, mode: instruct, sampling: recommended}", "for mode instruct, only for thinking"),
        ("{model: ./m.yaml, as: a, sampling: {top_q: 1}}", "unknown key `top_q` (did you mean `top_p`?)"),
        ("{model: ./m.yaml, as: a, sampling: hot}", "expected `recommended`, `greedy` or a mapping"),
    ],
)
def test_what_a_model_lacks_is_refused_with_what_it_has(tmp_path: Path, entry: str, says: str) -> None:
    assert says in refusal(tmp_path, entry)


PLAIN, ASKED = "./m.yaml", "{{model: ./m.yaml, as: a, sampling: {}}}"


@pytest.mark.parametrize(
    ("entry", "run", "drawn"),
    [
        (PLAIN, "{}", Sampling()),
        (PLAIN, "{temperature: 0.9, seed: 3}", Sampling(temperature=0.9, seed=3)),
        (PLAIN, "recommended", Sampling(temperature=0.6, top_p=0.95)),
        (PLAIN, "{from: recommended, max_tokens: 9}", Sampling(temperature=0.6, top_p=0.95, max_tokens=9)),
        (PLAIN, "{from: recommended, top_p: 0.5}", Sampling(temperature=0.6, top_p=0.5)),
        (PLAIN, "greedy", Sampling()),
        (ASKED.format("recommended"), "{top_k: 5, top_p: 0.5}", Sampling(temperature=0.6, top_p=0.95)),
        (ASKED.format("greedy"), "{temperature: 1.0, max_tokens: 9}", Sampling(max_tokens=9)),
        (ASKED.format("{top_k: 2}"), "{temperature: 1.0}", Sampling(temperature=1.0, top_k=2)),
        (
            ASKED.format("{from: recommended, top_k: 2}"),
            "greedy",
            Sampling(temperature=0.6, top_p=0.95, top_k=2),
        ),
        (ASKED.format("greedy"), "recommended", Sampling()),
    ],
)
def test_a_variant_wins_over_the_run_and_the_run_over_the_spec(
    tmp_path: Path, entry: str, run: str, drawn: Sampling
) -> None:
    config = load(tmp_path, entry, run)
    assert drawn_by(config.sampling, config.models[0]) == drawn
    kept = tmp_path / "kept.yaml"
    kept.write_text(to_yaml(config))
    again = load_config(kept)
    assert drawn_by(again.sampling, again.models[0]) == drawn


def swept(folder: Path, over: str) -> RunConfig:
    (folder / "m.yaml").write_text(MODEL)
    path = folder / "run.yaml"
    path.write_text(
        f"name: r\nmodels: [./m.yaml]\nsuites: [{{adapter: tests.fakes}}]\nsampling: {{}}\nsweep: {over}\n"
    )
    return load_config(path)


def test_a_sweep_is_every_combination_named_by_what_varies(tmp_path: Path) -> None:
    config = swept(tmp_path, "{mode: [thinking, instruct], sampling.temperature: [0, 0.7]}")
    drawn = {model.name: drawn_by(config.sampling, model).temperature for model in config.models}
    assert drawn == {
        "m@thinking,temperature=0": 0,
        "m@thinking,temperature=0.7": 0.7,
        "m@instruct,temperature=0": 0,
        "m@instruct,temperature=0.7": 0.7,
    }
    assert {model.variant.mode for model in config.models} == {"thinking", "instruct"}
    kept = tmp_path / "kept.yaml"
    kept.write_text(to_yaml(config))
    assert load_config(kept).models[3].variant == config.models[3].variant


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ("{mode: thinking}", "each with a list of values"),
        ("{mode: [thinking, fast]}", "m has no mode 'fast': it has thinking, instruct"),
        ("{temperature: [0]}", "unknown key `temperature`"),
        ("{sampling.heat: [0]}", "unknown key `heat`"),
    ],
)
def test_what_a_sweep_cannot_vary_is_refused(tmp_path: Path, over: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        swept(tmp_path, over)
    assert says in str(caught.value) and "run.yaml:" in str(caught.value)
