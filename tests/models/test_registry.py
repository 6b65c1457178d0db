"""Every spec of the registry is right, and derivations are told from what specs and folders say."""

import re
from collections import Counter
from pathlib import Path

import pytest

from harness.config import ModelSpec, Openness
from harness.models import registry
from harness.models.parsers import parser_errors, registered
from harness.types import Origin
from tests.models.test_checkpoint import make

SPECS = registry.specs()
LICENCE = re.compile(r"Apache-2\.0|MIT|CC-BY-NC-4\.0|LicenseRef-[A-Za-z0-9.-]+")
LATER = {"solar-open2-250b"}
"""Models whose parsers a later vLLM has."""


def spec(name: str, *bases: str, country: str = "XA", **more: object) -> ModelSpec:
    origin = Origin(developer="D", country=country, base_models=bases)
    return ModelSpec(name=name, path=f"org-{country}/{name}", origin=origin, **more)  # type: ignore[arg-type]


UNPARSED = {
    "granite-3.3-8b-instruct", "llm-jp-4-32b-a3b-thinking", "llm-jp-4-33b-thinking", "llm-jp-4-8b-thinking",
    "solar-open-100b", "telechat3-36b-thinking",
}  # fmt: skip
"""Models that think, and of whose thoughts no source at hand says which of vLLM's parsers reads them."""


@pytest.mark.parametrize("found", SPECS, ids=lambda s: s.name)
def test_specs(found: ModelSpec) -> None:
    assert found.path.startswith("harness:") or re.fullmatch(r"[\w.-]+/[\w.-]+", found.path)
    assert re.fullmatch(r"[A-Z]{2}", found.origin.country)
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", found.origin.release_date or "2020-01-01")
    assert LICENCE.fullmatch(found.origin.licence or "MIT")
    assert set(found.sources) <= set(registry.SOURCED)
    assert all(address.startswith("https://") for address in found.sources.values())
    assert set(found.modes) <= {"thinking", "instruct", "adaptive"}
    assert set(found.sampling) <= ({*found.modes} or {"thinking", "instruct"})
    assert not found.efforts or "thinking" in found.modes
    assert found.reasoning_parser or "thinking" not in found.modes or found.name in UNPARSED
    assert not found.modes or found.default_mode or found.name == "minicpm5-1b", "what it does unasked"
    assert all(v for k, v in found.layouts.items() if k not in (1, 8)) or not found.layouts
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.min_vllm or "0.0.0")
    assert set(registry.unsourced(found)) <= {"country"}, "facts that no checkpoint states need a source"


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
@pytest.mark.parametrize("found", SPECS, ids=lambda s: s.name)
def test_parsers_are_those_of_the_installed_vllm(found: ModelSpec) -> None:
    errors = list(parser_errors(found, found.engine_args))
    assert bool(errors) == (found.name in LATER)


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
def test_an_unknown_parser_is_refused_with_those_there_are() -> None:
    wrong = spec("m", tool_call_parser="hermse", reasoning_parser="qwen")
    tool, reasoning = parser_errors(wrong, {})
    assert "tool_call_parser: vLLM has no 'hermse'; did you mean hermes?" in str(tool)
    assert "glm45" in str(tool)
    assert "reasoning_parser: vLLM has no 'qwen'" in str(reasoning)
    assert (tool.option, reasoning.option) == ("tool_call_parser", "reasoning_parser")
    [error] = parser_errors(wrong, {"tool_parser_plugin": "mine.py"})
    assert error.option == "reasoning_parser"


@pytest.mark.parametrize("found", SPECS, ids=lambda s: s.name)
def test_attacks_address_a_model_by_a_name_in_prose(found: ModelSpec) -> None:
    """An attack says "to you, Qwen", not "to you, qwen3-8b"."""
    assert found.called
    assert found.called != found.name
    assert not any(char.isdigit() for char in found.called)


def test_enough_families() -> None:
    real = [s for s in SPECS if not s.path.startswith("harness:")]
    developers = {s.origin.developer for s in real}
    assert (len(real), len(developers)) >= (130, 35)
    assert len({s.origin.country for s in real if s.origin.stated}) >= 14
    assert {"DeepSeek", "Alibaba", "Z.ai", "Moonshot AI", "MiniMax", "Meta", "NVIDIA", "OpenAI"} <= developers
    assert {"Mistral AI", "Google", "Microsoft", "Allen Institute for AI", "IBM"} <= developers
    assert {
        "Cohere",
        "LG AI Research",
        "Upstage",
        "Swiss AI Initiative",
        "Sarvam AI",
        "AI21 Labs",
    } <= developers


def test_a_checkpoint_has_one_spec() -> None:
    assert [path for path, n in Counter(s.path for s in SPECS).items() if n > 1] == []


def test_one_model_of_a_family_is_current() -> None:
    current = Counter({str(s.called): 0 for s in SPECS}) + Counter(str(s.called) for s in SPECS if s.current)
    assert current == Counter({str(s.called) for s in SPECS})


def test_a_developer_has_one_country() -> None:
    stated = {(s.origin.developer, s.origin.country) for s in SPECS}
    assert [d for d, n in Counter(developer for developer, _ in stated).items() if n > 1] == []


def test_what_is_empty_is_listed_unless_sourced_as_absent() -> None:
    bare = spec("m")
    assert "licence" in registry.gaps(bare)
    assert "country" in registry.gaps(ModelSpec(name="m", path="a/m"))
    assert "openness.data" in registry.gaps(bare)
    full = spec("m", openness=Openness(data=False), sources={"tool_call_parser": "https://a.b"})
    assert not {"openness.data", "tool_call_parser"} & set(registry.gaps(full))
    assert registry.unsourced(full) == ["openness", "country"]
    lines = list(registry.check_lines([full, bare]))
    assert lines[1] == "m: without a source: openness, country"
    assert lines[-1].startswith("of 2 models: 2 without revision")
    assert "1 without openness.data" in lines[-1]
    assert list(registry.check_lines([spec("m", source="its README")])) == []


MODELS = [
    spec("base", country="XA"),
    spec("tuned", "org-XA/base", country="XB", derivation="finetune"),
    spec("small", "org-XB/tuned", country="XC", derivation="quantization"),
    spec("mix", "org-XA/base", "nobody/knows", country="XC", derivation="merge"),
]


def test_origin_by_base_weights() -> None:
    nodes = registry.lineage(MODELS)
    found = {model.name: registry.base_countries(model, nodes) for model in MODELS}
    assert found == {"base": ("XA",), "tuned": ("XA",), "small": ("XA",), "mix": ("?", "XA")}


def test_the_tree() -> None:
    assert list(registry.tree_lines(MODELS)) == [
        "base [D, XA; base not stated]",
        "  mix [D, XC; base weights ?, XA] merge",
        "  tuned [D, XB; base weights XA] finetune",
        "    small [D, XC; base weights XA] quantization",
        "nobody/knows (not in the registry)",
        "  mix [D, XC; base weights ?, XA] merge",
    ]


def test_weights_without_a_base_are_told_from_those_of_which_nobody_says() -> None:
    scratch = spec("scratch", sources={"base_models": "https://a.b"})
    assert "base_models" not in registry.gaps(scratch)
    assert list(registry.tree_lines([scratch])) == ["scratch [D, XA; trained from nothing]"]


def test_a_cycle_does_not_hang() -> None:
    ring = [spec("a", "org-XA/b", "org-XA/c"), spec("b", "org-XA/a"), spec("c")]
    assert registry.base_countries(ring[1], registry.lineage(ring)) == ("XA",)
    assert list(registry.tree_lines(ring)) == ["c [D, XA; base not stated]", "  a [D, XA]", "    b [D, XA]"]


CARD = "---\nlicense: mit\nbase_model: {}\nbase_model_relation: {}\n---\n# A model\n"


@pytest.mark.parametrize(
    ("files", "config", "bases", "derivation"),
    [
        ({"README.md": CARD.format("a/b", "finetune")}, {}, ("a/b",), "finetune"),
        ({"README.md": CARD.format("[a/b, c/d]", "merge")}, {}, ("a/b", "c/d"), "merge"),
        ({"README.md": CARD.format("a/b", "quantized")}, {}, ("a/b",), "quantization"),
        ({"adapter_config.json": '{"base_model_name_or_path": "a/b"}'}, {}, ("a/b",), None),
        (
            {"mergekit_config.yml": "base_model: a/b\nslices:\n- sources:\n  - model: c/d\n"},
            {},
            ("a/b", "c/d"),
            "merge",
        ),
        ({}, {"_name_or_path": "a/b"}, ("a/b",), None),
        (
            {},
            {"_name_or_path": "a/b", "quantization_config": {"quant_method": "fp8"}},
            ("a/b",),
            "quantization",
        ),
        ({"README.md": "no front matter"}, {"_name_or_path": "./"}, (), None),
        ({"README.md": "---\n: [\n---\n"}, {}, (), None),
    ],
)
def test_a_folder_says_what_it_was_made_of(
    tmp_path: Path,
    files: dict[str, str],
    config: dict[str, object],
    bases: tuple[str, ...],
    derivation: str | None,
) -> None:
    folder = make(tmp_path / "m", **config)
    for name, text in files.items():
        (folder / name).write_text(text)
    assert registry.stated_bases(folder) == bases
    assert registry.stated_derivation(folder) == derivation


def test_a_spec_that_says_nothing_of_bases_takes_those_of_its_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (folder / "README.md").write_text(CARD.format("a/b", "finetune"))
    found = registry.with_stated_bases(spec("m"), folder)
    assert (found.origin.base_models, found.derivation) == (("a/b",), "finetune")
    stated = spec("m", "c/d")
    assert registry.with_stated_bases(stated, folder) is stated
