"""Which of vLLM's parsers reads what a chat template writes: by the words around calls and thoughts. Pure."""

CALLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("deepseek_v32", ("｜DSML｜", "function_calls")),
    ("deepseek_v4", ("｜DSML｜", "tool_calls")),
    ("deepseek_v3", ("<｜tool▁call▁begin｜>", "```json")),
    ("deepseek_v31", ("<｜tool▁call▁begin｜>",)),
    ("kimi_k3", ("<|open|>", "<|sep|>")),
    ("kimi_k2", ("<|tool_call_begin|>", "<|tool_call_argument_begin|>")),
    ("minimax_m3", ("]<]minimax[>[",)),
    ("minimax_m2", ("<minimax:tool_call>",)),
    ("seed_oss", ("<seed:tool_call>",)),
    ("longcat", ("<longcat_tool_call>",)),
    ("dots", ("<dots_function_call>",)),
    ("muse_glimmer", ("atem:invoke",)),
    ("inkling", ("<|content_invoke_tool_json|>",)),
    ("apertus", ("<|tools_prefix|>",)),
    ("internlm", ("<|action_start|>", "<|plugin|>")),
    ("gemma4", ("<|tool_call>", "<tool_call|>")),
    ("openai", ("<|channel|>", "to=functions.")),
    ("lfm2", ("<|tool_call_start|>",)),
    ("hy_v3", ("<tool_sep>", "<arg_key>")),
    ("poolside_v1", ("<assistant>", "<arg_key>")),
    ("glm45", ("<arg_key>", "<arg_value>")),
    ("qwen3_coder", ("<tool_call>", "<function=", "<parameter=")),
    ("hermes", ("<tool_call>", "</tool_call>")),
    ("jamba", ("<tool_calls>", "</tool_calls>")),
    ("olmo3", ("<function_calls>", "</function_calls>")),
    ("mistral", ("[TOOL_CALLS]",)),
    ("granite", ("<|tool_call|>",)),
    ("phi4_mini_json", ("functools[",)),
    ("llama4_pythonic", ("<|python_start|>",)),
    ("llama3_json", ("<|python_tag|>",)),
    ("llama3_json", ("<|eot_id|>", '"parameters":')),
)
"""Parser of tool calls, and words that all stand in templates of its format; the first that fits is meant."""

THOUGHTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("kimi_k3", ("<|open|>", "think", "<|sep|>")),
    ("minimax_m3", ("<mm:think>",)),
    ("seed_oss", ("<seed:think>",)),
    ("gemma4", ("<|channel>",)),
    ("openai_gptoss", ("<|channel|>analysis",)),
    ("inkling", ("<|content_thinking|>",)),
    ("muse_glimmer", ("to=self",)),
    ("mistral", ("[THINK]",)),
    ("hunyuan_a13b", ("<think>", "<answer>")),
    ("minimax_m2", ("<minimax:tool_call>", "<think>")),
    ("kimi_k2", ("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<think>")),
    ("deepseek_v4", ("｜DSML｜", "tool_calls", "<think>")),
    ("deepseek_v3", ("<｜Assistant｜>", "</think>", "thinking")),
    ("hy_v3", ("<tool_sep>", "<arg_key>", "<think>")),
    ("poolside_v1", ("<assistant>", "<think>")),
    ("glm45", ("<|assistant|>", "<arg_key>", "<think>")),
    ("qwen3", ("enable_thinking", "</think>")),
    ("deepseek_r1", ("</think>",)),
)
"""Parser of thoughts, and words as above."""


def tool_call_parser(template: str) -> str | None:
    """The parser of the calls that a template writes, None if its format is not known."""
    return _first(CALLS, template)


def reasoning_parser(template: str) -> str | None:
    """The parser of the thoughts that a template writes, None if it writes none that are known."""
    return _first(THOUGHTS, template)


def _first(table: tuple[tuple[str, tuple[str, ...]], ...], template: str) -> str | None:
    return next((parser for parser, words in table if all(word in template for word in words)), None)
