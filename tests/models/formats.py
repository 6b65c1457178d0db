"""How families write tool calls and reasoning, by vLLM's name of the parser that reads it.

Each format is published in the chat template or the documentation of the models that use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ADDED = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>",
    "<|tool_call_end|>", "<|tool_call_argument_begin|>", "<minimax:tool_call>", "</minimax:tool_call>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]",
    "[THINK]", "[/THINK]", "<function_calls>", "</function_calls>",
)  # fmt: skip
"""Tokens of their own in the vocabularies of released models, which parsers look up."""

ARGUMENTS = "{{ c.arguments | tojson }}"


@dataclass(frozen=True)
class Format:
    """How a reply writes its tool calls."""

    call: str
    """Jinja source of one call `c`, which has `name` and `arguments`; `loop` counts them."""
    before: str = ""
    between: str = ""
    after: str = ""
    broken: str = ""
    """A call that the model began and did not finish."""
    lenient: bool = False
    """vLLM's parser reads an unfinished call as one without arguments."""
    silent: bool = False
    """A broken call is read as an answer: neither vLLM's parser nor its markers tell."""
    thinks: bool = True
    """Models that use it also reason, between <think> and </think>."""

    def template(self) -> str:
        """A chat template that shows tools as JSON and writes past calls in this format."""
        return (
            "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
            "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
            "{% if m.tool_calls %}" + self._calls("m.tool_calls", ".function") + "{% endif %}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )

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
FORMATS = {
    "hermes": Format(
        f"<tool_call>\n{JSON_CALL}\n</tool_call>", between="\n",
        broken='<tool_call>\n{"name": "get_weather", "arg'
    ),
    "granite4": Format(
        f"<tool_call>\n{JSON_CALL}\n</tool_call>", between="\n", thinks=False,
        broken='<tool_call>\n{"name": "get_weather", "arg',
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
        before="<｜tool▁calls▁begin｜>", after="<｜tool▁calls▁end｜>", thinks=False,
        broken="<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{",
    ),
    "glm45": Format(
        "<tool_call>{{ c.name }}\n" + PAIRS
        + "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>",
        between="\n", broken="<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Par", lenient=True,
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
        broken='<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Par',
    ),
    "llama3_json": Format(
        '{"name": "{{ c.name }}", "parameters": ' + ARGUMENTS + "}", between="; ", thinks=False,
        broken='{"name": "get_weather", "parameters": {"city": ',
    ),
    "llama4_pythonic": Format(
        "{{ c.name }}(" + PAIRS + "{{ k }}='{{ v }}'{% if not loop.last %}, {% endif %}{% endfor %})",
        before="[", between=", ", after="]", thinks=False, broken="[get_weather(city=",
    ),
    # As of its eleventh tokenizer. Earlier ones write a list of calls, which vLLM 0.32 misreads.
    "mistral": Format(
        "[TOOL_CALLS]{{ c.name }}[ARGS]" + ARGUMENTS, thinks=False,
        broken='[TOOL_CALLS]get_weather[ARGS]{"ci',
    ),
    "phi4_mini_json": Format(
        JSON_CALL, before="functools[", between=", ", after="]", thinks=False,
        broken='functools[{"name": "get_weather", "arg',
    ),
    "olmo3": Format(
        "{{ c.name }}(" + PAIRS + '{{ k }}="{{ v }}"{% if not loop.last %}, {% endif %}{% endfor %})',
        before="<function_calls>", between="\n", after="</function_calls>", thinks=False,
        broken="<function_calls>get_weather(city=</function_calls>", silent=True,
    ),
}  # fmt: skip
