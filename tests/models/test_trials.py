"""What chat templates do with the conversations that suites send is found out by rendering them.

The templates here are small ones of our own with the traits of released ones.
"""

import pytest

from harness.models.template import environment
from harness.models.trials import (
    OWN_THOUGHTS,
    Rendering,
    Sent,
    loops_over_content,
    own_thoughts,
    try_template,
    ways,
)

AGENTS = Sent(tools=True)

TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"
CALLS = "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}"
EVERYTHING = TOOLS + "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}" + CALLS + "{% endfor %}"


def each(body: str, head: str = TOOLS) -> str:
    return head + "{% for m in messages %}" + body + "{% endfor %}"


def shown(body: str, **sent: bool) -> Rendering:
    return try_template(each(body), Sent(tools=True, **sent))


def test_a_template_that_shows_everything_has_nothing_to_tell() -> None:
    assert try_template(EVERYTHING, AGENTS) == Rendering()


@pytest.mark.parametrize(
    ("body", "void"),
    [
        (
            "{% if m.role != 'tool' %}{{ m.content }}" + CALLS + "{% endif %}",
            "shows the model no tool results",
        ),
        (
            "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }}",
            "fails to render a conversation (no system), a system and a user message",
        ),
        (
            "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].arguments.x.y }}{% endif %}",
            "fails to render a conversation",
        ),
        # As before vLLM made objects of them: some templates want arguments as text.
        (
            "{{ m.content }}{% for c in m.tool_calls or [] %}{{ 'x' + c.function.arguments }}{% endfor %}",
            "a tool call and its result",
        ),
        ("{% if m.role != 'user' %}{{ m.content }}{% endif %}", "leaves out what the user says"),
    ],
)
def test_what_makes_a_measurement_void(body: str, void: str) -> None:
    found = shown(body).void
    assert found is not None
    assert void in found


def test_a_template_that_refers_to_tools_and_lists_none_shows_none() -> None:
    source = "{% if tools %}You have tools.{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert try_template(source, AGENTS).void == "does not show tools"


@pytest.mark.parametrize(
    ("body", "lost"),
    [
        ("{{ m.content }}", ["the tool calls that it made"]),
        ("{% if not m.tool_calls %}{{ m.content }}{% endif %}" + CALLS, ["text beside a tool call"]),
        (
            "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% endif %}",
            ["the second of two tool calls"],
        ),
        (
            "{% if m.role != 'tool' or messages[loop.index0 - 1].role != 'tool' %}{{ m.content }}{% endif %}"
            + CALLS,
            ["the second of two results"],
        ),
        ("{% if m.role != 'system' %}{{ m.content }}{% endif %}" + CALLS, ["the system message"]),
        # Mistral's second and third versions
        (
            "{% if m.role == 'system' and messages[-1].role != 'user' %}{% else %}{{ m.content }}{% endif %}"
            + CALLS,
            ["the system message once a tool was called"],
        ),
        (
            "{% if m.role != 'tool' or loop.last or loop.nextitem.role == 'tool' %}{{ m.content }}{% endif %}"
            + CALLS,
            ["results of two turns"],
        ),
    ],
)
def test_what_is_lost_is_told(body: str, lost: list[str]) -> None:
    found = shown(body)
    assert (found.void, list(found.lost), found.raises) == (None, lost, ())


def test_two_calls_at_once_that_raise_are_told() -> None:
    one = "{% if (m.tool_calls or []) | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}"
    found = shown(one + SAID)
    assert (found.void, found.raises) == (None, ("two tool calls at once (one at a time)",))
    assert list(found.lines()) == ["raises on two tool calls at once (one at a time)"]


def test_a_defence_that_the_template_does_not_show_or_refuses_is_void() -> None:
    no_system = "{% if m.role != 'system' %}{{ m.content }}{% endif %}" + CALLS
    assert shown(no_system).void is None
    assert "in which the defence stands" in (shown(no_system, system_matters=True).void or "")
    alternating = (
        "{% if m.role == 'user' and loop.index0 and messages[loop.index0 - 1].role != 'system' %}"
        "{{ raise_exception('no') }}{% endif %}{{ m.content }}" + CALLS
    )
    assert shown(alternating).void is None
    assert "a user message after a result" in (shown(alternating, user_after_results=True).void or "")
    assert "two user messages in a row" in (shown(alternating, users_in_a_row=True).void or "")


DATED = "{% if strftime_now is defined %}{% set day = strftime_now('%Y') %}{% endif %}{{ day }}"
FOR_EVER = "{% set day = date_string if date_string is defined else '26 Jul 2024' %}{{ day }}"


@pytest.mark.parametrize(
    ("head", "dated"),
    [
        ("{{ strftime_now('%d %b %Y') }}", True),
        (DATED, True),
        (FOR_EVER, False),  # Llama 3.1
        # Mistral's: only where there is no system message
        ("{% if messages[0].role != 'system' %}{{ strftime_now('%Y') }}{% endif %}", False),
        ("", False),
    ],
)
def test_whether_a_prompt_holds_the_date(head: str, dated: bool) -> None:
    assert try_template(head + EVERYTHING, AGENTS).dated is dated


OPEN_IF_TRUE = "{% if enable_thinking is defined and enable_thinking %}<think>{% endif %}"
SHUT_IF_FALSE = "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
SHUT_UNLESS_TRUE = "{% if not (enable_thinking is defined and enable_thinking is true) %}</think>{% endif %}"
OWN_DEFAULT = "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}"


@pytest.mark.parametrize(
    ("end", "thinking"),
    [
        (OPEN_IF_TRUE, "enable_thinking is not set"),
        (SHUT_IF_FALSE, None),
        (SHUT_UNLESS_TRUE, "enable_thinking is not set"),
        (OWN_DEFAULT, "thinking is not set"),
        ("{{ reasoning_effort | default('medium') }}", None),
        ("{% set e = reasoning_effort | default('no_think') %}{{ e }}", "reasoning_effort is not set"),
        ("<think></think>\n", "closes the thought"),
        ("<|START_THINKING|><|END_THINKING|>", "closes the thought"),
        ("<think>", None),
        ("<seed:think>\n", None),
        ("[THINK]", None),
        (SHUT_UNLESS_TRUE.replace("</think>", "<|END_THINKING|>"), "enable_thinking is not set"),
        # GLM-5.2: any effort but high is the most.
        ("{{ 'High' if reasoning_effort == 'high' else 'Max' }}<think>", None),
    ],
)
def test_whether_a_model_is_let_think(end: str, thinking: str | None) -> None:
    found = try_template(EVERYTHING + end, AGENTS).thinking
    assert (found is None) == (thinking is None)
    assert thinking is None or thinking in (found or "")


@pytest.mark.parametrize(
    ("source", "lists"),
    [
        (EVERYTHING, False),
        (each("{% for part in m.content %}{{ part.text }}{% endfor %}"), True),
        (each("{% for part in m['content'] | list %}{{ part.text }}{% endfor %}"), True),
        (each("{% set content = m.content %}{% for c in content %}{{ c.text }}{% endfor %}"), True),
        (
            "{% macro show(x) %}{% for part in x %}{{ part.text }}{% endfor %}{% endmacro %}"
            + each("{{ show(m.content) }}"),
            True,
        ),
        (
            "{% macro show(x) %}{% for part in x %}{{ part.text }}{% endfor %}{% endmacro %}"
            + each("{{ m.content }}{{ show(m.tool_calls) }}"),
            False,
        ),
    ],
)
def test_content_is_handed_over_as_vllm_does(source: str, lists: bool) -> None:
    assert loops_over_content(environment().parse(source)) is lists


def test_a_call_without_text_beside_it_is_handed_over_as_one_empty_part() -> None:
    """As vLLM does; the templates of Devstral read the first part of whatever is a list."""
    body = "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}" + CALLS
    assert try_template(each(body + "{% for part in m.content %}{% endfor %}"), AGENTS) == Rendering()


def test_lists_that_are_written_as_python_writes_them_are_told() -> None:
    """As the first templates of Gemma 4 did with the system message."""
    found = shown(
        "{% if m.role in ('system', 'tool') %}{{ m.content }}"
        "{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}" + CALLS
    )
    assert found.lost == ("messages but as Python writes a list",)


SWITCH = "{% if enable_thinking %}<think>{% else %}<think></think>{% endif %}"


def test_a_variant_is_tried_with_what_switches_it() -> None:
    source = EVERYTHING + SWITCH
    assert try_template(source, AGENTS).thinking == "does not let it think, since enable_thinking is not set"
    on = Sent(tools=True, keywords='{"enable_thinking": true}')
    assert try_template(source, on) == Rendering()
    off = '{"enable_thinking": false}'
    said = try_template(source, Sent(tools=True, keywords=off)).thinking
    assert said == "closes the thought that it opens, so that the model does not think"
    assert try_template(source, Sent(tools=True, keywords=off, instruct=True)) == Rendering()


ON, OFF = "<think>", "<think></think>"


@pytest.mark.parametrize(
    ("body", "switch", "default"),
    [
        (f"{{% if enable_thinking %}}{ON}{{% else %}}{OFF}{{% endif %}}", "enable_thinking", "instruct"),
        (
            f"{{% if enable_thinking in (false, '') %}}{OFF}{{% else %}}{ON}{{% endif %}}",
            "enable_thinking",
            "thinking",
        ),
        (f"{{% if thinking is true %}}{ON}{{% else %}}{OFF}{{% endif %}}", "thinking", "instruct"),
        (
            f"{{% if thinking is true %}}{ON}{{% elif thinking is false %}}{OFF}{{% endif %}}",
            "thinking",
            None,
        ),
        ("{% if thinking %}{% endif %}", None, None),
        ("{% if thinking is false %}{{ raise_exception('no') }}{% endif %}", None, None),
        ("{% if thinking_mode == 'enabled' %}<think>{% endif %}", None, None),
        ("<think>", None, None),
    ],
)
def test_the_modes_of_a_template_are_tried(body: str, switch: str | None, default: str | None) -> None:
    found = ways(EVERYTHING + body)
    expected = {"thinking": {switch: True}, "instruct": {switch: False}} if switch else {}
    assert (found.modes, found.default, found.efforts) == (expected, default, ())


@pytest.mark.parametrize(
    ("body", "efforts"),
    [
        ("Effort: {{ reasoning_effort or 'medium' }}", ("low", "medium", "high")),
        ("{% if reasoning_effort == 'high' %}Think hard.{% endif %}", ("high",)),
        ("{% if thinking %}<think>{{ reasoning_effort }}{% endif %}", ("low", "medium", "high")),
        ("{% if reasoning_effort == 'none' %}<think></think>{% endif %}", ()),
        ("{% if reasoning_effort != 'low' %}{{ raise_exception('only low') }}{% endif %}", ("low",)),
        ("{{ 9 ** (9 ** 9) }}{{ reasoning_effort }}", ()),
    ],
)
def test_the_efforts_of_a_template_are_tried(body: str, efforts: tuple[str, ...]) -> None:
    assert ways(EVERYTHING + body).efforts == efforts


def test_what_a_template_does_not_read_switches_nothing() -> None:
    sent = Sent(tools=True, keywords='{"enable_thinking": true, "thinking": true}')
    assert try_template(EVERYTHING + SWITCH, sent).void == (
        "does not read thinking, by which its variant is to be switched (it reads enable_thinking)"
    )


def test_a_system_prompt_that_is_not_shown_is_void() -> None:
    source = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    assert try_template(source, Sent(tools=False)).void is None
    said = try_template(source, Sent(tools=False, system=True)).void
    assert said == "does not show the system message, with which its variant begins"


THOUGHT = "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
SAID = "{{ m.content }}" + CALLS
SINCE_THE_USER = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (EVERYTHING, (False, False, False, False)),
        (each(THOUGHT + SAID), (True, True, True, True)),
        (
            each("{% if m.tool_calls %}" + THOUGHT + "{% endif %}" + SAID),
            (False, True, True, True),
        ),
        (
            SINCE_THE_USER + each("{% if loop.index0 > ns.last %}" + THOUGHT + "{% endif %}" + SAID),
            (False, True, True, False),
        ),
        (
            each(
                "{% if loop.revindex < 3 %}" + THOUGHT.replace("_content", "") + "{% endif %}{{ m.content }}"
            ),
            (True, True, False, False),
        ),
        (
            each(
                "{% if m.role == 'tool' %}{{ raise_exception('none') }}{% endif %}"
                + THOUGHT
                + "{{ m.content }}"
            ),
            (True, None, None, None),
        ),
    ],
)  # each with the trait of released ones: what a model thought before, as its makers want it shown
def test_which_of_its_own_thoughts_a_model_is_shown(source: str, shown: tuple[bool | None, ...]) -> None:
    assert own_thoughts(source) == dict(zip(OWN_THOUGHTS, shown, strict=True))


def test_a_switch_may_keep_thoughts() -> None:
    source = each("{% if preserve_thinking %}" + THOUGHT + "{% endif %}{{ m.content }}")
    assert set(own_thoughts(source).values()) == {False}
    assert set(own_thoughts(source, (), '{"preserve_thinking": true}').values()) == {True}
