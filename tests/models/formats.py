"""How families write tool calls and reasoning, by vLLM's name of the parser that reads it.

Each format is published in the chat template or the documentation of the models that use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ADDED = (
    "<think>", "</think>", "<mm:think>", "</mm:think>",
    "<seed:think>", "</seed:think>", "]<]minimax[>[", "<tool_call>", "</tool_call>",
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>", "｜DSML｜", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
    "<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_call_argument_begin|>", "<minimax:tool_call>",
    "</minimax:tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<|python_tag|>",
    "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|tool_call>", "<tool_call|>", "<|channel>", "<channel|>",
    '<|"|>', "<seed:tool_call>", "</seed:tool_call>", "<|tools_prefix|>", "<|tools_suffix|>",
    "<|tool_call_start|>", "<tool_calls>", "</tool_calls>", "<tool_sep>", "<assistant>",
)  # fmt: skip
"""Tokens of their own in the vocabularies of released models, which parsers look up."""

ARGUMENTS = "{{ c.arguments | tojson }}"


@dataclass(frozen=True)
class Format:
    """How a reply writes its reasoning and its tool calls."""

    call: str
    """Jinja source of one call `c`, which has `name` and `arguments`; `loop` counts them."""
    before: str = ""
    between: str = ""
    after: str = ""
    broken: str = ""
    """A call that the model began and did not finish."""
    vocabulary: tuple[str, ...] = ()
    """Further tokens that the parser looks up, though calls are written without them."""
    opens: str = "<think>"
    closes: str = "</think>"
    """Around the reasoning."""
    switch: str | None = None
    """Variable of the chat template that turns reasoning on where it is off."""
    own_tokens: bool = True
    """The words around reasoning are tokens of their own, as far as `ADDED` has them."""

    def template(self) -> str:
        """A chat template that shows tools as JSON and writes past calls in this format."""
        return (
            "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
            "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
            "{% if m.tool_calls %}" + self._calls("m.tool_calls", ".function") + "{% endif %}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )

    def added(self) -> list[str]:
        """Tokens of its own that a tokenizer has for this format."""
        parts = (self.call, self.before, self.after, self.broken)
        written = "".join(parts) + (self.opens + self.closes) * self.own_tokens
        return [token for token in ADDED if token in written or token in self.vocabulary]

    def think(self, thought: str) -> str:
        """What a model writes to think, before anything else."""
        return self.opens + thought + self.closes

    def write(self, calls: Sequence[dict[str, Any]]) -> str:
        """What a model writes to make some calls."""
        from jinja2 import Environment

        return Environment().from_string(self._calls("calls", "")).render(calls=calls)

    def _calls(self, where: str, inner: str) -> str:
        # an expression, because a line break after a tag would be dropped by the environment of templates
        return (
            f"{self.before}{{% for call in {where} %}}{{% set c = call{inner} %}}{self.call}"
            f"{{% if not loop.last %}}{{{{ {self.between!r} }}}}{{% endif %}}{{% endfor %}}{self.after}"
        )


PAIRS = "{% for k, v in c.arguments.items() %}"
JSON_CALL = '{"name": "{{ c.name }}", "arguments": ' + ARGUMENTS + "}"
DSML_CALL = (
    '<｜DSML｜invoke name="{{ c.name }}">\n'
    + PAIRS
    + '<｜DSML｜parameter name="{{ k }}" string="true">{{ v }}'
    "</｜DSML｜parameter>\n{% endfor %}</｜DSML｜invoke>"
)
DSML_BROKEN = '<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">Par'


def _dsml(block: str, switch: str) -> Format:
    return Format(
        DSML_CALL, before=f"\n\n<｜DSML｜{block}>\n", between="\n", after=f"\n</｜DSML｜{block}>",
        switch=switch, broken=f"\n\n<｜DSML｜{block}>\n{DSML_BROKEN}",
    )  # fmt: skip


FORMATS = {
    "hermes": Format(
        f"<tool_call>\n{JSON_CALL}\n</tool_call>", between="\n",
        broken='<tool_call>\n{"name": "get_weather", "arg'
    ),
    "qwen3_coder": Format(
        "<tool_call>\n<function={{ c.name }}>\n" + PAIRS
        + "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>",
        between="\n", broken="<tool_call>\n<function=get_weather>\n<parameter=city>\nPar",
    ),
    "deepseek_v3": Format(
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ c.name }}\n```json\n" + ARGUMENTS
        + "\n```<｜tool▁call▁end｜>",
        before="<｜tool▁calls▁begin｜>", between="\n", after="<｜tool▁calls▁end｜>",
        broken="<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{",
    ),
    "deepseek_v31": Format(
        "<｜tool▁call▁begin｜>{{ c.name }}<｜tool▁sep｜>" + ARGUMENTS + "<｜tool▁call▁end｜>",
        before="<｜tool▁calls▁begin｜>", after="<｜tool▁calls▁end｜>", switch="thinking",
        broken="<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{",
    ),
    "deepseek_v32": _dsml("function_calls", "thinking"),
    "deepseek_v4": _dsml("tool_calls", "thinking"),
    "glm45": Format(
        "<tool_call>{{ c.name }}\n" + PAIRS
        + "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>",
        between="\n", broken="<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Par",
    ),
    "kimi_k2": Format(
        "<|tool_call_begin|>functions.{{ c.name }}:{{ loop.index0 }}<|tool_call_argument_begin|>" + ARGUMENTS
        + "<|tool_call_end|>",
        before="<|tool_calls_section_begin|>", after="<|tool_calls_section_end|>",
        broken="<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        "<|tool_call_argument_begin|>{",
    ),
    "minimax_m2": Format(
        '<invoke name="{{ c.name }}">\n' + PAIRS
        + '<parameter name="{{ k }}">{{ v }}</parameter>\n{% endfor %}</invoke>\n',
        before="<minimax:tool_call>\n", after="</minimax:tool_call>",
        opens="",  # the template writes it
        broken='<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Par',
    ),
    "minimax_m3": Format(
        ']<]minimax[>[<invoke name="{{ c.name }}">\n' + PAIRS
        + "]<]minimax[>[<{{ k }}>{{ v }}]<]minimax[>[</{{ k }}>\n{% endfor %}]<]minimax[>[</invoke>\n",
        before="]<]minimax[>[<tool_call>\n", after="]<]minimax[>[</tool_call>",
        opens="<mm:think>", closes="</mm:think>",
        broken=']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="get_weather">\n]<]minimax[>[<city>Par',
    ),
    "llama3_json": Format(
        '{"name": "{{ c.name }}", "parameters": ' + ARGUMENTS + "}", between="; ",
        broken='{"name": "get_weather", "parameters": {"city": ', vocabulary=("<|python_tag|>",),
    ),
    "llama4_pythonic": Format(
        "{{ c.name }}(" + PAIRS + "{{ k }}='{{ v }}'{% if not loop.last %}, {% endif %}{% endfor %})",
        before="[", between=", ", after="]", broken="[get_weather(city=",
    ),
    "mistral": Format(
        '{"name": "{{ c.name }}", "arguments": ' + ARGUMENTS + ', "id": "call0000{{ loop.index0 }}"}',
        before="[TOOL_CALLS] [", between=", ", after="]", broken='[TOOL_CALLS] [{"name": "get_weather", "arg',
    ),
    # Of its eleventh tokenizer and later ones
    "mistral_v11": Format(
        "[TOOL_CALLS]{{ c.name }}[ARGS]" + ARGUMENTS, broken='[TOOL_CALLS]get_weather[ARGS]{"ci'
    ),
    "phi4_mini_json": Format(
        JSON_CALL, before="functools[", between=", ", after="]",
        broken='functools[{"name": "get_weather", "arg',
    ),
    "olmo3": Format(
        "{{ c.name }}(" + PAIRS + '{{ k }}="{{ v }}"{% if not loop.last %}, {% endif %}{% endfor %})',
        before="<function_calls>", between="\n", after="</function_calls>", own_tokens=False,
        broken="<function_calls>get_weather(city=</function_calls>",
    ),
    "gemma4": Format(
        "<|tool_call>call:{{ c.name }}{{ '{' }}" + PAIRS
        + '{{ k }}:<|"|>{{ v }}<|"|>{% if not loop.last %},{% endif %}{% endfor %}}<tool_call|>',
        opens="<|channel>thought\n", closes="<channel|>", switch="enable_thinking",
        broken='<|tool_call>call:get_weather{city:<|"|>Par',
    ),
    "seed_oss": Format(
        "<seed:tool_call>\n<function={{ c.name }}>\n" + PAIRS
        + "<parameter={{ k }}>{{ v }}</parameter>\n{% endfor %}</function>\n</seed:tool_call>",
        between="\n", opens="<seed:think>", closes="</seed:think>",
        broken="<seed:tool_call>\n<function=get_weather>\n<parameter=city>Par",
    ),
    "apertus": Format(
        '{"{{ c.name }}": ' + ARGUMENTS + "}",
        before="<|tools_prefix|>[", between=", ", after="]<|tools_suffix|>",
        broken='<|tools_prefix|>[{"get_weather": {"ci',
    ),
    "lfm2": Format(
        "{{ c.name }}(" + PAIRS + "{{ k }}='{{ v }}'{% if not loop.last %}, {% endif %}{% endfor %})",
        before="<|tool_call_start|>[", between=", ", after="]<|tool_call_end|>",
        broken="<|tool_call_start|>[get_weather(city=",
    ),
    "jamba": Format(
        JSON_CALL, before="<tool_calls>[", between=", ", after="]</tool_calls>",
        broken='<tool_calls>[{"name": "get_weather", "arg',
    ),
    "hunyuan_a13b": Format(
        JSON_CALL, before="<tool_calls>[", between=", ", after="]</tool_calls>",
        opens="<think>\n", closes="\n</think>\n<answer>\n",
        broken='<tool_calls>[{"name": "get_weather", "arg',
    ),
    "hy_v3": Format(
        "<tool_call>{{ c.name }}<tool_sep>\n" + PAIRS
        + "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>",
        before="<tool_calls>\n", between="\n", after="{{ '\\n' }}</tool_calls>",
        broken="<tool_calls>\n<tool_call>get_weather<tool_sep>\n<arg_key>city</arg_key>\n<arg_value>Par",
    ),
    "poolside_v1": Format(
        "<tool_call>{{ c.name }}\n" + PAIRS
        + "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>",
        between="\n", broken="<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Par",
        vocabulary=("<assistant>",),
    ),
    "granite": Format(
        "", opens="Here is my thought process:", closes="Here is my response:", own_tokens=False,
    ),
    "openai": Format(
        "<|channel|>commentary to=functions.{{ c.name }} <|constrain|>json<|message|>" + ARGUMENTS
        + "<|call|>",
        between="<|start|>assistant",
        opens="<|channel|>analysis<|message|>", closes="<|end|><|start|>assistant",
        broken='<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"ci',
    ),
}  # fmt: skip
FORMATS |= {"granite4": FORMATS["hermes"], "glm47": FORMATS["glm45"], "qwen3_xml": FORMATS["qwen3_coder"]}
