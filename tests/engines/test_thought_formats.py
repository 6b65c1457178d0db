"""Replies in the formats of every family of the registry, as their makers document them.

What a task of lm-eval is given is what lm-eval's own `postprocess_generated_text` makes of the same reply;
what an agent is given is the answer without the thought. The parsers are vLLM's, the tokenizer one of single
bytes that knows a family's marks.
"""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from lm_eval.models.utils import postprocess_generated_text

from harness.config import load_model, names
from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.reading import Reader, Reply
from harness.models.parsers import REQUIRED, registered
from harness.types import Message, Tool, Variant
from tests.engines import test_formats
from tests.engines.reading import WRITERS, reader

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

THOUGHT = "seven is more than six,\n\nthe answer is 6? no"
ANSWER = "The answer is 7"
CHAT = (Message(role="user", content="Six or seven?"),)
NOTE = Tool(name="note", description="Keep a note", parameters={"type": "object", "properties": {}})


class Format(NamedTuple):
    """How a family thinks."""

    prompt: str
    """How its template ends a prompt."""
    thinking: str
    answering: str
    """A reply without a thought."""
    end: str
    """What is given to lm-eval as `think_end_token`."""


THINK, OPENED = "<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"
WRITTEN = Format(THINK, "<think>\n{}\n</think>\n\n{}", "{}", "</think>")
"""The model opens its thought itself, as Qwen3 does."""
GIVEN = Format(OPENED, "{}\n</think>\n\n{}", "</think>{}", "</think>")
"""Its template opens it, as that of DeepSeek R1 does."""

FORMATS = {
    "deepseek_r1": GIVEN,
    "deepseek_v3": Format("<｜Assistant｜></think>", "<think>{}</think>{}", "{}", "</think>"),
    "deepseek_v4": GIVEN,
    "ernie45": GIVEN,
    "gemma4": Format("<|turn>model\n", "<|channel>thought\n{}<channel|>{}", "{}", "<channel|>"),
    "glm45": Format("<|assistant|>", "\n<think>{}</think>\n{}", "\n<think></think>\n{}", "</think>"),
    "granite": Format(
        THINK, "Here is my thought process: {}\n\nHere is my response: {}", "{}", "Here is my response:"
    ),
    "hunyuan_a13b": Format(THINK, "<think>\n{}\n</think>\n<answer>\n{}", "{}", "<answer>"),
    "hy_v3": WRITTEN,
    "inkling": Format(
        "<|message_model|>",
        "<|content_thinking|>{}<|end_message|><|message_model|><|content_text|>{}",
        "<|content_text|>{}",
        "<|content_text|>",
    ),
    "kimi_k2": Format("<|im_middle|>", "<think>{}</think>{}", "{}", "</think>"),
    "kimi_k3": Format(
        THINK,
        "<|open|>think<|sep|>{}<|close|>think<|sep|><|open|>response<|sep|>{}",
        "<|open|>response<|sep|>{}",
        "<|open|>response<|sep|>",
    ),
    "ling3": WRITTEN,
    "mimo": WRITTEN,
    "minimax_m2": GIVEN,
    "minimax_m3": Format("]~b]ai\n", "<mm:think>{}</mm:think>\n{}", "{}", "</mm:think>"),
    "mistral": Format("[/INST]", "[THINK]{}[/THINK]{}", "{}", "[/THINK]"),
    "muse_glimmer": Format(
        "<|start|>assistant",
        " to=self<|message|>{}<|eom|><|start|>assistant to=user<|message|>{}",
        " to=user<|message|>{}",
        " to=user<|message|>",
    ),
    "nemotron_v3": GIVEN,
    "olmo3": GIVEN,
    "openai_gptoss": Format(
        "<|start|>assistant",
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}",
        "<|channel|>final<|message|>{}",
        "<|channel|>final<|message|>",
    ),
    "poolside_v1": WRITTEN,
    "qwen3": WRITTEN,
    "seed_oss": Format("<seed:bos>assistant\n", "<seed:think>{}</seed:think>{}", "{}", "</seed:think>"),
    "step3p5": GIVEN,
}
"""Reasoning parser of a spec -> the format that its models write."""

SPECS = [load_model(name) for name in names("models")]
PAIRS = sorted(
    {
        (s.tool_call_parser or "", s.reasoning_parser)
        for s in SPECS
        if s.reasoning_parser in registered("reasoning")
    }
)
CALLING = test_formats.PAIRS
TEXTUAL = [pair for pair in PAIRS if pair[1] != "openai_gptoss"]
"""Those whose parser reads text. Harmony's reads the tokens of a vocabulary that it downloads."""


def test_every_family_of_the_registry_has_a_format() -> None:
    assert {reasoning for _, reasoning in PAIRS} == FORMATS.keys()


def test_every_spec_of_the_registry_has_its_parsers_tried() -> None:
    """Thoughts, answers, calls and calls after a thought: here, and in `test_formats`."""
    untried = {
        spec.name
        for spec in SPECS
        if (spec.reasoning_parser and (spec.tool_call_parser or "", spec.reasoning_parser) not in PAIRS)
        or (spec.tool_call_parser and (spec.tool_call_parser, spec.reasoning_parser) not in CALLING)
    }
    assert untried == {"solar-open2-250b"}, "whose parsers no released vLLM has"


def tokenizer_of(words: Iterable[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AddedToken, PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<eos>"])}
    plain = [word for word in words if word not in vocabulary and not word.startswith(("<", "[", "]"))]
    split = ["Ġ</", "</"]
    vocabulary |= {word: len(vocabulary) + i for i, word in enumerate(dict.fromkeys([*plain, *split]))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    marks = [word for word in words if word not in vocabulary]
    made.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return made


MARKS = ("<think>", "</think>", "<|channel>", "<channel|>", "<tool_call>", "</tool_call>", "<mm:think>")


MARKED = ("inkling", "kimi_k3", "muse_glimmer")
"""Formats whose answers have marks of their own: a reply without any is none of theirs."""
SPECIAL = (*MARKED, "mistral")
"""Parsers that look for special tokens, which the tokenizer of a format's calls has."""


def reader_of(tool: str, reasoning: str) -> Reader:
    """A reader of replies without a model."""
    from vllm.parser import ParserManager

    if reasoning in SPECIAL:
        return reader(tool, reasoning)
    wanted = [
        *MARKS,
        *REQUIRED["tool_call_parser"].get(tool, ()),
        *REQUIRED["reasoning_parser"].get(reasoning, ()),
    ]
    if reasoning == "olmo3":  # which writes its marks in plain tokens
        wanted = [word for word in wanted if "think>" not in word]
    tokenizer = tokenizer_of(dict.fromkeys(wanted))
    config = SimpleNamespace(model_type="x")
    config = SimpleNamespace(hf_config=config, hf_text_config=config, hf_overrides=None)
    parser = ParserManager.get_parser(
        tool_parser_name=tool or None,
        reasoning_parser_name=reasoning,
        enable_auto_tools=True,
        tokenizer=tokenizer,
    )
    chat = SimpleNamespace(
        parser=parser, effective_chat_template_kwargs=lambda request: {}, use_harmony=False
    )
    return Reader(chat, tokenizer, config, special=("<eos>",), parses_reasoning=True)


def completion(reader: Reader, text: str, reason: str = "stop") -> Any:
    tokens = reader.tokenizer.encode(text, add_special_tokens=False)
    return SimpleNamespace(text=text, token_ids=tokens, finish_reason=reason, stop_reason=None)


def prompt(reader: Reader, text: str) -> list[int]:
    return list(reader.tokenizer.encode(text, add_special_tokens=False))


def as_agent(reader: Reader, before: str, text: str) -> Reply:
    request = chat_request(CHAT, [NOTE], Variant())
    return reader.read(request, prompt(reader, before), completion(reader, text), CHAT, [NOTE])


@pytest.mark.parametrize(("tool", "reasoning"), PAIRS)
@pytest.mark.parametrize("stop", ["\n\n", "\n", "never"])
def test_tasks_are_given_what_lm_eval_makes_of_it(tool: str, reasoning: str, stop: str) -> None:
    speaker, form = reader_of(tool, reasoning), FORMATS[reasoning]
    answer = f"{ANSWER}\nand that is all\n\nQuestion: 8?"
    # Bare: a thought that the task's own prefix, or a switch of the template, did away with.
    bare = () if reasoning in MARKED else (answer, f"\n\n{answer}")
    for text in (form.thinking.format(THOUGHT, answer), form.answering.format(answer), *bare):
        read = speaker.read_text(prompt(speaker, form.prompt), completion(speaker, text))
        expected = postprocess_generated_text(text, [stop], form.end)
        assert postprocess_generated_text(read.text, [stop], None) == expected, text
        assert ANSWER in expected


@pytest.mark.parametrize(("tool", "reasoning"), [p for p in TEXTUAL if p[0] and p[1] not in MARKED])
def test_tasks_are_given_a_call_as_it_was_written(tool: str, reasoning: str) -> None:
    """To lm-eval it is text like any other, after a thought and without one. In `MARKED` it is no answer."""
    speaker, form = reader_of(tool, reasoning), FORMATS[reasoning]
    call = WRITERS[tool].write([test_formats.MEMO])
    for text in (form.thinking.format(THOUGHT, call), form.answering.format(call)):
        read = speaker.read_text(prompt(speaker, form.prompt), completion(speaker, text))
        assert postprocess_generated_text(read.text, ["never"], None) == postprocess_generated_text(
            text, ["never"], form.end
        )


@pytest.mark.parametrize(("tool", "reasoning"), PAIRS)
def test_a_thought_that_the_budget_cut_off_is_no_answer(tool: str, reasoning: str) -> None:
    speaker, form = reader_of(tool, reasoning), FORMATS[reasoning]
    text = form.thinking.format(THOUGHT, "").split(form.end)[0]
    read = speaker.read_text(prompt(speaker, form.prompt), completion(speaker, text, "length"))
    assert read.text == ""
    assert read.reasoning is not None and THOUGHT in read.reasoning
    if reasoning in MARKED:
        return
    # What the model ended itself lm-eval scores as it is.
    ended = speaker.read_text(prompt(speaker, form.prompt), completion(speaker, text))
    assert ended.text == postprocess_generated_text(text, None, form.end)


@pytest.mark.parametrize(("tool", "reasoning"), TEXTUAL)
def test_agents_are_given_the_answer(tool: str, reasoning: str) -> None:
    speaker, form = reader_of(tool, reasoning), FORMATS[reasoning]
    thinking = as_agent(speaker, form.prompt, form.thinking.format(THOUGHT, ANSWER))
    assert (thinking.text.strip(), (thinking.reasoning or "").strip()) == (ANSWER, THOUGHT)
    answering = as_agent(speaker, form.prompt, form.answering.format(ANSWER))
    assert (answering.text.strip(), answering.reasoning) == (ANSWER, None)
    closed = as_agent(speaker, THINK, form.answering.format(ANSWER) if reasoning in MARKED else ANSWER)
    assert (closed.text, closed.reasoning) == (ANSWER, None)
    for reply in (thinking, answering, closed):
        assert (reply.tool_calls, reply.error) == ((), None)


# Of Muse Glimmer's the header is left; the attempt is a failure all the same, since it was cut off.
@pytest.mark.parametrize(("tool", "reasoning"), [p for p in TEXTUAL if p[1] != "muse_glimmer"])
def test_a_thought_that_the_budget_cut_off_is_no_answer_of_an_agents(tool: str, reasoning: str) -> None:
    """As in vllm #35221, where it came back as the answer."""
    speaker, form = reader_of(tool, reasoning), FORMATS[reasoning]
    text = form.thinking.format(THOUGHT, "").split(form.end)[0]
    request = chat_request(CHAT, [NOTE], Variant())
    read = speaker.read(
        request, prompt(speaker, form.prompt), completion(speaker, text, "length"), CHAT, [NOTE]
    )
    assert (read.text.strip(), read.tool_calls) == ("", ())
    assert read.reasoning is not None and THOUGHT in read.reasoning
