"""Chat templates are read and tried before any model is loaded."""

import pytest

from harness.errors import UserError
from harness.models.template import read_template
from harness.models.trials import Sent, try_template

PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
WITH_TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}" + PLAIN


@pytest.mark.parametrize(
    ("source", "tools", "switches"),
    [
        (PLAIN, False, ()),
        (WITH_TOOLS, True, ()),
        # Qwen3
        (
            "{% if enable_thinking is defined and not enable_thinking %}x{% endif %}",
            False,
            ("enable_thinking",),
        ),
        # DeepSeek V3.1 sets a default of its own
        ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}", False, ("thinking",)),
        # gpt-oss
        ("{%- macro a(x) %}{{ x }}{% endmacro %}{{ a(reasoning_effort) }}", False, ("reasoning_effort",)),
        ("{% set tools = 1 %}{{ tools }}", False, ()),
    ],
)
def test_reading(source: str, tools: bool, switches: tuple[str, ...]) -> None:
    found = read_template(source)
    assert (found.tools, found.reasoning_switches) == (tools, switches)


@pytest.mark.parametrize(
    "source",
    [
        PLAIN,
        WITH_TOOLS,
        "{{ bos_token }}{% generation %}" + PLAIN + "{% endgeneration %}",
        "{{ strftime_now('%Y') }}" + PLAIN,
        "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}",
    ],
)
def test_good_templates(source: str) -> None:
    assert try_template(source, Sent(tools=False)).void is None


@pytest.mark.parametrize(
    ("source", "tools", "says"),
    [
        (PLAIN, True, "does not show tools"),
        (
            "{{ raise_exception('No users here') }}",
            False,
            "fails to render a conversation (No users here)",
        ),
        ("{{ messages[5].content }}", False, "fails to render"),
        ("{{ ''.__class__.__mro__ }}", False, "fails to render"),
        ("Hello", False, "leaves out what the user says"),
        ("{% if tools %}{{ tools.x.y }}{% endif %}" + PLAIN, True, "fails to render"),
    ],
)
def test_bad_templates(source: str, tools: bool, says: str) -> None:
    void = try_template(source, Sent(tools=tools)).void
    assert void is not None
    assert says in void


def test_what_is_no_template_is_said() -> None:
    with pytest.raises(UserError, match="is broken in line 1"):
        read_template("{% if %}")
