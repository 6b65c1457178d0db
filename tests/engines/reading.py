"""What models write in the formats of their families, and an engine without a model that reads it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.reading import Reader, Reply
from harness.types import Message, Tool, Variant

Call = tuple[str, dict[str, Any]]
QUESTION = (Message(role="user", content="Please."),)
TOOLS = (
    Tool(
        name="reserve",
        description="Reserve a room",
        parameters={
            "type": "object",
            "properties": {
                "room": {"type": "string"},
                "people": {"type": "integer"},
                "price": {"type": "number"},
                "quiet": {"type": "boolean"},
                "names": {"type": "array", "items": {"type": "string"}},
                "extras": {"type": "object"},
                "code": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            },
            "required": ["room"],
        },
    ),
    Tool(
        name="write_memo",
        description="Write a memo",
        parameters={
            "type": "object",
            "properties": {"title": {"type": "string"}, "text": {"type": "string"}},
            "required": ["title", "text"],
        },
    ),
    Tool(name="lock_up", description="Lock up", parameters={"type": "object", "properties": {}}),
)


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)


def _json_call(key: str) -> Callable[[Call], str]:
    return lambda call: f'{{"name": "{call[0]}", "{key}": {dumps(call[1])}}}'


def _tags(open_function: str, opens: str, closes: str, end: str) -> Callable[[Call], str]:
    def write(call: Call) -> str:
        parts = (opens.replace("KEY", k) + _text(v) + closes.replace("KEY", k) for k, v in call[1].items())
        return open_function.replace("NAME", call[0]) + "".join(parts) + end

    return write


def _dsml(call: Call) -> str:
    parts = (
        f'<｜DSML｜parameter name="{k}" string="{str(isinstance(v, str)).lower()}">'
        f"{_text(v)}</｜DSML｜parameter>\n"
        for k, v in call[1].items()
    )
    return f'<｜DSML｜invoke name="{call[0]}">\n{"".join(parts)}</｜DSML｜invoke>\n'


def _kimi3(call: Call) -> str:
    kinds = {str: "string", bool: "boolean", dict: "object", list: "array"}
    parts = (
        f'<|open|>argument key="{k}" type="{kinds.get(type(v), "number")}"<|sep|>'
        f"{_text(v)}<|close|>argument<|sep|>"
        for k, v in call[1].items()
    )
    return f'<|open|>call tool="{call[0]}" index="1"<|sep|>{"".join(parts)}<|close|>call<|sep|>'


def _gemma(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_gemma(v)}" for k, v in value.items()) + "}"
    return "[" + ",".join(map(_gemma, value)) + "]" if isinstance(value, list) else dumps(value)


def _python(write: Callable[[Any], str]) -> Callable[[Call], str]:
    return lambda call: f"{call[0]}({', '.join(f'{k}={write(v)}' for k, v in call[1].items())})"


DEEPSEEK = tuple(
    f"<｜{name}｜>"
    for name in ("tool▁calls▁begin", "tool▁calls▁end", "tool▁call▁begin", "tool▁call▁end", "tool▁sep")
)
M3 = "]<]minimax[>["
THINK = ("<think>", "</think>")
GLM_MARKS = ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
GLM = _tags("<tool_call>NAME", "\n<arg_key>KEY</arg_key>\n<arg_value>", "</arg_value>", "\n</tool_call>")
QWEN = _tags("<function=NAME>\n", "<parameter=KEY>\n", "\n</parameter>\n", "</function>\n")
COMPACT = _tags("<function=NAME>\n", "<parameter=KEY>", "</parameter>\n", "</function>\n")
INVOKE = _tags('<invoke name="NAME">\n', '<parameter name="KEY">', "</parameter>\n", "</invoke>\n")
ATEM = _tags(
    '<atem:invoke name="NAME">\n', '<atem:parameter name="KEY">', "</atem:parameter>\n", "</atem:invoke>\n"
)


@dataclass(frozen=True)
class Writer:
    """How a family writes calls, and the tokens that its parsers look up."""

    call: Callable[[Call], str]
    before: str = ""
    between: str = ""
    after: str = ""
    each: tuple[str, str] = ("", "")
    added: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    prompt: str = "assistant\n"
    model_type: str = "x"
    plain: tuple[str, ...] = field(default=())

    def write(self, calls: Sequence[Call]) -> str:
        """A reply of these calls."""
        parts = (self.each[0] + self.call(call) + self.each[1] for call in calls)
        return self.before + self.between.join(parts) + self.after

    def mark(self) -> str:
        """How a call begins, empty if that is no mark."""
        return self.before or self.each[0]


WRITERS: dict[str, Writer] = {
    "hermes": Writer(
        _json_call("arguments"), each=("<tool_call>\n", "\n</tool_call>"), between="\n", added=GLM_MARKS[:2]
    ),
    "qwen3_coder": Writer(QWEN, each=("<tool_call>\n", "</tool_call>"), between="\n", added=GLM_MARKS[:2]),
    "mimo": Writer(COMPACT, each=("<tool_call>\n", "</tool_call>"), between="\n", added=GLM_MARKS[:2]),
    "seed_oss": Writer(
        COMPACT, each=("<seed:tool_call>\n", "</seed:tool_call>"), between="\n",
        added=("<seed:tool_call>", "</seed:tool_call>"), special=("<seed:bos>", "<seed:eos>"),
    ),
    "deepseek_v3": Writer(
        lambda call: f"function<｜tool▁sep｜>{call[0]}\n```json\n{dumps(call[1])}\n```",
        before="<｜tool▁calls▁begin｜>", after="<｜tool▁calls▁end｜>",
        each=("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"), between="\n",
        added=DEEPSEEK,
    ),
    "deepseek_v31": Writer(
        lambda call: f"{call[0]}<｜tool▁sep｜>{dumps(call[1])}",
        before="<｜tool▁calls▁begin｜>", after="<｜tool▁calls▁end｜>",
        each=("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
        added=DEEPSEEK,
    ),
    "deepseek_v32": Writer(
        _dsml, before="<｜DSML｜function_calls>\n", after="</｜DSML｜function_calls>", added=("｜DSML｜",)
    ),
    "deepseek_v4": Writer(
        _dsml, before="<｜DSML｜tool_calls>\n", after="</｜DSML｜tool_calls>", added=("｜DSML｜",)
    ),
    "gemma4": Writer(
        lambda call: f"call:{call[0]}{_gemma(call[1])}", each=("<|tool_call>", "<tool_call|>"),
        special=("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>',
                 "<|tool_response>", "<tool_response|>"),
    ),
    "glm45": Writer(GLM, between="\n", added=GLM_MARKS),
    "ling3": Writer(GLM, between="\n", added=GLM_MARKS),
    "poolside_v1": Writer(GLM, between="\n", added=(*GLM_MARKS, "<assistant>", "</assistant>")),
    "hy_v3": Writer(
        _tags("NAME<tool_sep>", "\n<arg_key>KEY</arg_key>\n<arg_value>", "</arg_value>", "\n"),
        before="<tool_calls>\n", after="\n</tool_calls>", each=("<tool_call>", "</tool_call>"), between="\n",
        added=(*GLM_MARKS, "<tool_calls>", "</tool_calls>", "<tool_sep>"),
    ),
    "granite": Writer(
        _json_call("arguments"), before="<|tool_call|>[", after="]", between=", ", special=("<|tool_call|>",)
    ),
    "kimi_k2": Writer(
        lambda call: f"functions.{call[0]}:0<|tool_call_argument_begin|>{dumps(call[1])}",
        before="<|tool_calls_section_begin|>", after="<|tool_calls_section_end|>",
        each=("<|tool_call_begin|>", "<|tool_call_end|>"), model_type="kimi_k2",
        added=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>",
               "<|tool_call_end|>", "<|tool_call_argument_begin|>"),
    ),
    "kimi_k3": Writer(
        _kimi3, before="<|open|>tools<|sep|>", after="<|close|>tools<|sep|>",
        special=("<|open|>", "<|close|>", "<|sep|>"),
    ),
    "llama3_json": Writer(_json_call("parameters"), between="; ", added=("<|python_tag|>",)),
    "llama4_pythonic": Writer(
        _python(repr), before="<|python_start|>[", after="]<|python_end|>", between=", ",
        added=("<|python_start|>", "<|python_end|>"),
    ),
    "pythonic": Writer(_python(repr), before="[", after="]", between=", "),
    "lfm2": Writer(
        _python(repr), before="<|tool_call_start|>[", after="]<|tool_call_end|>", between=", ",
        special=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    "olmo3": Writer(
        _python(dumps), before="<function_calls>", after="</function_calls>", between="\n",
        plain=("Ġ</", "</", "think", ">"),
    ),
    "minimax_m2": Writer(
        INVOKE, before="<minimax:tool_call>\n", after="</minimax:tool_call>",
        added=("<minimax:tool_call>", "</minimax:tool_call>"),
    ),
    "minimax_m3": Writer(
        _tags(f'{M3}<invoke name="NAME">', f"{M3}<KEY>", f"{M3}</KEY>", f"{M3}</invoke>\n"),
        before=f"{M3}<tool_call>\n", after=f"{M3}</tool_call>", added=(M3, "<mm:think>", "</mm:think>"),
    ),
    "mistral": Writer(
        _json_call("arguments"), before="[TOOL_CALLS] [", after="]", between=", ",
        special=("[TOOL_CALLS]", "[INST]", "[/INST]", "[THINK]", "[/THINK]"),
    ),
    "mistral (v11)": Writer(
        lambda call: f"{call[0]}[ARGS]{dumps(call[1])}", each=("[TOOL_CALLS]", ""),
        special=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[INST]", "[/INST]"),
    ),
    "apertus": Writer(
        lambda call: dumps({call[0]: call[1]}),
        before="<|tools_prefix|>[", after="]<|tools_suffix|>", between=", ",
        special=("<|tools_prefix|>", "<|tools_suffix|>"),
    ),
    "dots": Writer(INVOKE, before="<dots_function_call>\n", after="</dots_function_call>"),
    "internlm": Writer(
        _json_call("parameters"), each=("<|action_start|><|plugin|>\n", "<|action_end|>"), between="\n",
        special=("<|action_start|>", "<|action_end|>", "<|plugin|>"),
    ),
    "jamba": Writer(
        _json_call("arguments"), before="<tool_calls>[\n", after="\n]</tool_calls>", between=",\n",
        added=("<tool_calls>", "</tool_calls>"),
    ),
    "longcat": Writer(
        _json_call("arguments"), each=("<longcat_tool_call>\n", "\n</longcat_tool_call>"), between="\n",
        added=("<longcat_tool_call>", "</longcat_tool_call>"),
    ),
    "phi4_mini_json": Writer(_json_call("arguments"), before="functools[", after="]", between=", "),
    "inkling": Writer(
        _json_call("args"), each=("<|content_invoke_tool_json|>", "<|end_message|>"),
        between="<|message_model|>", prompt="<|message_model|>",
        special=tuple(f"<|{name}|>" for name in (
            "message_model", "content_text", "content_thinking", "content_invoke_tool_json",
            "content_invoke_tool_text", "content_tool_error", "content_model_end_sampling", "end_message")),
    ),
    "muse_glimmer": Writer(
        ATEM, each=(" to=tool<|message|>\n<atem:function_calls>\n", "</atem:function_calls><|eom|>"),
        between="<|start|>assistant", special=("<|start|>", "<|message|>", "<|eom|>", "<|eot|>"),
        prompt="<|start|>assistant",
    ),
}  # fmt: skip
WRITERS |= {
    "granite4": WRITERS["hermes"],
    "hunyuan_a13b": WRITERS["jamba"],
    "glm47": WRITERS["glm45"],
    "qwen3_xml": WRITERS["qwen3_coder"],
    "step3p5": WRITERS["qwen3_coder"],
    "qwen3_json": WRITERS["hermes"],
}
WRITERS["openai"] = Writer(
    lambda call: f"functions.{call[0]} <|constrain|>json<|message|>{dumps(call[1])}",
    each=("<|channel|>commentary to=", "<|call|>"), between="<|start|>assistant", prompt="<|start|>assistant",
)  # fmt: skip

THOUGHTS = {
    None: ("", ""),
    "gemma4": ("<|channel>thought\n", "<channel|>"),
    "hunyuan_a13b": ("<think>\n", "\n</think>\n<answer>\n"),
    "inkling": ("<|content_thinking|>", "<|end_message|><|message_model|>"),
    "kimi_k3": ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    "minimax_m2": ("", "</think>"),  # its template begins them
    "minimax_m3": ("<mm:think>", "</mm:think>"),
    "mistral": ("[THINK]", "[/THINK]"),
    "seed_oss": ("<seed:think>", "</seed:think>"),
    "muse_glimmer": (" to=self<|message|>", "<|eom|><|start|>assistant"),
    "openai_gptoss": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
}
"""Reasoning parser -> what thoughts are written between, where it is not `<think>` and `</think>`."""

ANSWERS = {
    "inkling": ("<|content_text|>", "<|end_message|><|message_model|>", "<|end_message|>"),
    "kimi_k3": ("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>response<|sep|>"),
    "muse_glimmer": (" to=user<|message|>", "<|eom|><|start|>assistant", "<|eot|>"),
    "openai": ("<|channel|>final<|message|>", "<|end|><|start|>assistant", ""),
}
"""Parser of tool calls -> what is written before an answer, after one before a call, and after the last."""


class Harmony:
    """gpt-oss's own vocabulary, as far as the engine and its parser ask."""

    all_special_tokens = tuple(
        f"<|{name}|>" for name in ("start", "end", "message", "channel", "constrain", "return", "call")
    )

    def __init__(self) -> None:
        """Loads it."""
        from vllm.entrypoints.openai.parser.harmony_utils import get_encoding

        self._encoding = get_encoding()

    def encode(self, text: str, **_: Any) -> list[int]:
        """Tokens of a text, its marks as tokens of their own."""
        return list(self._encoding.encode(text, allowed_special="all"))

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        """The text of some tokens."""
        return str(self._encoding.decode_utf8(tokens))

    def get_vocab(self) -> dict[str, int]:
        """Token of each mark."""
        return {token: self.encode(token)[0] for token in self.all_special_tokens}


def tokenizer(writer: Writer) -> Any:
    """Single bytes, and the family's marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AddedToken, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: at for at, letter in enumerate([*letters, "<eos>", *writer.plain])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    if writer.special:
        made.add_special_tokens({"additional_special_tokens": list(writer.special)})
    added = [token for token in (*THINK, "<seed:think>", "</seed:think>", *writer.added)]
    made.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    return made


def reader(tools: str, reasoning: str | None = None) -> Reader:
    """What reading a reply needs of an engine, without a model."""
    from vllm.parser import ParserManager

    writer, harmony = WRITERS[tools], tools == "openai"
    tokens = Harmony() if harmony else tokenizer(writer)
    kind = SimpleNamespace(model_type=writer.model_type)
    config = SimpleNamespace(hf_config=kind, hf_text_config=kind, hf_overrides=None)
    parser = ParserManager.get_parser(
        tool_parser_name=tools.partition(" ")[0],
        reasoning_parser_name=reasoning,
        enable_auto_tools=True,
        model_name="x",
        is_harmony=harmony,
        tokenizer=tokens,
    )
    chat: Any = SimpleNamespace(
        parser=parser, effective_chat_template_kwargs=lambda request: {}, use_harmony=harmony
    )
    special = tuple(tokens.all_special_tokens)
    return Reader(chat, tokens, config, special=special, parses_reasoning=reasoning is not None)


def read(
    reader: Reader,
    text: str,
    *,
    prompt: str = "assistant\n",
    finish: str = "stop",
    messages: Sequence[Message] = QUESTION,
    tools: Sequence[Tool] = TOOLS,
) -> Reply:
    """What is made of a reply.

    Args:
        reader: made by `reader`.
        text: what the model wrote.
        prompt: how the conversation before it ends.
        finish: `length` where the budget cut it off.
        messages: of the conversation before it.
        tools: what the model was offered.
    """
    tokens = reader.tokenizer.encode(text, add_special_tokens=False)
    completion = SimpleNamespace(text=text, token_ids=tokens, finish_reason=finish, stop_reason=None)
    before = reader.tokenizer.encode(prompt, add_special_tokens=False)
    return reader.read(chat_request(messages, tools, Variant()), before, completion, messages, tools)


def calls_of(reply: Reply) -> list[Call]:
    """Names and arguments of a reply's calls."""
    return [(call.name, call.arguments) for call in reply.tool_calls]
