"""Parsers are told by what a chat template writes."""

import pytest

from harness.models.dialects import reasoning_parser, tool_call_parser
from tests.engines.reading import THOUGHTS, WRITERS

CALL = ("write_memo", {"title": "Milk"})
ALIKE = {
    "glm47": "glm45",
    "granite4": "hermes",
    "hunyuan_a13b": "jamba",
    "ling3": "glm45",
    "mimo": "qwen3_coder",
    "mistral (v11)": "mistral",
    "qwen3_json": "hermes",
    "qwen3_xml": "qwen3_coder",
    "step3p5": "qwen3_coder",
}
"""Formats that are written as those of another parser are: which of them is meant, only the model tells."""
UNMARKED = {"pythonic", "llama3_json"}
"""Formats whose calls have no mark of their own."""


@pytest.mark.parametrize("name", WRITERS)
def test_calls_are_known_by_their_marks(name: str) -> None:
    writer = WRITERS[name]
    template = "".join((*writer.added, *writer.special)) * (name == "poolside_v1") + writer.write([CALL])
    assert tool_call_parser(template) == (None if name in UNMARKED else ALIKE.get(name, name))


def test_llama_is_known_by_its_turns() -> None:
    assert tool_call_parser('<|eot_id|>{"name": "a", "parameters": {}}') == "llama3_json"
    assert tool_call_parser("{{ messages }}") is None


@pytest.mark.parametrize("name", [name for name in THOUGHTS if name not in (None, "minimax_m2")])
def test_thoughts_are_known_by_their_marks(name: str) -> None:
    assert reasoning_parser("hm".join(THOUGHTS[name])) == name


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        ("{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>{% endif %}", "qwen3"),
        ("<|im_start|>assistant\n<think>\n{{ m.content.split('</think>') }}", "deepseek_r1"),
        ("<|assistant|><think></think><arg_key>", "glm45"),
        ("<param><tool_sep>{% if enable_thinking %}<think>{% else %}</think>{% endif %}", "qwen3"),
        ("<｜Assistant｜>{% if thinking %}<think>{% else %}</think>{% endif %}", "deepseek_v3"),
        ("{{ m.content }}", None),
    ],
)
def test_think_tags_are_of_several_families(template: str, parser: str | None) -> None:
    assert reasoning_parser(template) == parser
