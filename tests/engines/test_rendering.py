import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engines.rendering import (
    RecallingFilter,
    Shown,
    check_template,
    hiding_prompt,
    recall_json,
    tell_day,
)
from harness.errors import UserError
from harness.types import Message
from tests.engines import tiny

PARAMETERS = {"type": "object", "properties": {"x": {"type": "string"}}}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "description": "Löst <b> & 'x'", "parameters": PARAMETERS},
}


@pytest.mark.parametrize(
    "template", ["{% if tools %}x{% endif %}", {"default": "{{ messages }}", "tool_use": "{{ tools }}"}]
)
def test_templates_with_tools(template: object) -> None:
    check_template(template)


def test_templates_without_tools_are_refused() -> None:
    check_template("{{ messages }}", tools=False)
    with pytest.raises(UserError, match="does not show tools"):
        check_template("{{ messages }}")
    with pytest.raises(UserError, match="no chat template"):
        check_template(None, tools=False)


@pytest.mark.integration
def test_templates_of_tokenizers() -> None:
    with pytest.raises(UserError, match="no chat template"):
        check_template(tiny.tokenizer(chat_template=None))
    check_template(tiny.tokenizer())


def test_json_of_tools_is_what_it_was() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    forms = ("tojson", "tojson(1)", "tojson(true, 1)", "tojson(indent=1)", "tojson(indent=true)")
    parts = ("t", "t.function", "t.function.parameters", "t.function.name")
    shown = "".join(f"{{{{ {part} | {form} }}}}" for form in forms for part in parts)
    template = "{% for t in tools %}" + shown + "{% endfor %}{{ messages | tojson(indent=2) }}"
    message = {"role": "user", "content": "x"}
    (plain,), _ = render_jinja_template([[message]], tools=[TOOL, TOOL], chat_template=template)
    recall_json({"default": template})
    tool = Shown(TOOL)
    for _ in range(2):
        (recalled,), _ = render_jinja_template([[message]], tools=[tool, tool], chat_template=template)
        assert recalled == plain
    function = tool["function"]
    assert len(forms) == len(tool._texts) == len(function._texts) == len(function["parameters"]._texts)


def test_tools_and_their_texts_are_recalled_and_nothing_else() -> None:
    asked = []

    def tojson(value: Any, **options: Any) -> str:
        asked.append(value)
        return str(value)

    recalling, tool = RecallingFilter(tojson), Shown(TOOL)
    for value in (tool, "name", TOOL, [tool], "x" * 2000, 1, True):
        assert recalling(value) == recalling(value) == str(value)
    assert asked == [tool, "name", *[TOOL] * 2, *[[tool]] * 2, *["x" * 2000] * 2, 1, 1, True, True]
    assert [type(value) for value in asked[-4:]] == [int, int, bool, bool]


def test_filters_are_replaced_once() -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    template = "{{ tools | tojson }} of this test"
    recall_json(template)
    first = _compile_jinja_template(template).environment.filters["tojson"]
    recall_json(template)
    assert _compile_jinja_template(template).environment.filters["tojson"] is first
    recall_json(None)


def test_a_template_that_cannot_be_read_is_left_alone() -> None:
    good = "{{ tools | tojson }} beside a bad one"
    recall_json({"bad": "{% no_such_tag %}", "default": good})
    from transformers.utils.chat_template_utils import _compile_jinja_template

    assert isinstance(_compile_jinja_template(good).environment.filters["tojson"], RecallingFilter)


@pytest.mark.parametrize(
    ("results", "prompt", "hidden"),
    [
        (["It opens at seven."], "tool: It opens at seven.", False),
        (['It opens\nat "seven".'], 'tool: "It opens\\nat \\"seven\\"."', False),
        (["It opens\nat seven."], "tool: {'result': 'It opens\\nat seven.'}", False),
        (["  \n"], "user: hello", False),
        ([], "user: hello", False),
        (["It opens at seven."], "user: hello", True),
        (["It opens at seven.", "Paid."], "tool: It opens at seven.", True),
        (["It opens at seven, and not before."], "tool: It opens at seven...", True),
    ],
)
def test_a_prompt_is_kept_where_a_result_does_not_stand_in_it_whole(
    results: list[str], prompt: str, hidden: bool
) -> None:
    messages = [Message(role="user", content="hello"), *(Message(role="tool", content=r) for r in results)]
    assert hiding_prompt(prompt, messages) == (prompt if hidden else None)
    assert hiding_prompt(None, messages) is None


def test_every_template_of_a_checkpoint_writes_the_day_that_it_is_told(tmp_path: Path) -> None:
    """Of a tokenizer with several, and of a processor; told again, they write the other day."""
    from transformers.utils.chat_template_utils import render_jinja_template

    sources = {name: name + "{{ strftime_now('%d %b %Y') }}" for name in ("default", "tool_use", "processor")}
    tokenizer = SimpleNamespace(chat_template={k: v for k, v in sources.items() if k != "processor"})
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": sources["processor"]}))
    for day, written in (("2026-11-27", "27 Nov 2026"), ("2026-11-28", "28 Nov 2026")):
        tell_day(tokenizer, tmp_path, day)
        for name, source in sources.items():
            (text,), _ = render_jinja_template([[]], chat_template=source)
            assert text == f"{name}{written}"
