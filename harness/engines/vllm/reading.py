"""What a model wrote, read through vLLM's parsers: thought, answer and calls of a reply.

vLLM's parsers are asked, and not believed alone: thoughts are cut off by their marks (thoughts.py), and calls
are read by their format too (formats.py), so that what one of the two loses is no call that was not made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from harness.engines.formats import FORMATS, Format, Written, read_written
from harness.engines.replies import (
    Marks,
    RawCall,
    count_calls,
    read_calls,
    settle_calls,
    strip_tokens,
    unfinished_call,
    unread_call,
    without_arguments,
)
from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.decoder import PRIMED
from harness.engines.vllm.thoughts import ThoughtMarks, marks_of, release_calls, split
from harness.engines.vllm.tokens import Tokens
from harness.types import Message, Struct, Tool, ToolCall, Variant


class Reply(Struct):
    """What a parser made of a reply."""

    text: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    error: str | None = None
    stopped: bool = False
    """A stop string ends the answer, which vLLM was not told about."""


@dataclass
class Reader:
    """Reads the replies of one model, asked as one of its variants."""

    chat: Any
    """vLLM's `OnlineRenderer`, which holds the class of the parser."""
    tokenizer: Any
    model_config: Any
    """vLLM's."""
    special: tuple[str, ...]
    """Tokens that are taken off the text of an answer."""
    parses_reasoning: bool
    """Whether the model has a parser of thoughts."""
    variant: Variant = field(default_factory=Variant)

    @property
    def reasons(self) -> bool:
        """Whether there may be a thought in a reply."""
        return self.parses_reasoning and not self.variant.instruct

    def _request(self) -> Any:
        return chat_request((), (), self.variant, harmony=self.chat.use_harmony)

    @cached_property
    def thoughts(self) -> ThoughtMarks | None:
        """How thoughts are marked in the model's format; None where it has none, or only vLLM knows."""
        parser = self._parser(self.chat.parser, self._request(), []) if self.chat.parser else None
        return marks_of(parser.reasoning_parser) if parser and parser.reasoning_parser else None

    @cached_property
    def _answer_parser(self) -> Any:
        """The class of the parser of what follows a thought, which must not look for another one."""
        if self.thoughts is None or self.thoughts.shared:
            return self.chat.parser
        return type("AnswerParser", (self.chat.parser,), {"reasoning_parser_cls": None})

    def opened(self, prompt_tokens: Tokens, marks: ThoughtMarks) -> bool:
        """Whether a prompt ends within a thought."""
        tail = self.tokenizer.decode(prompt_tokens[-PRIMED:], skip_special_tokens=False)
        return marks.opened_by(tail)

    def read_text(self, prompt_tokens: Tokens, completion: Any) -> Reply:
        """Thought and answer in the continuation of a text."""
        raw, marks = completion.text, self.thoughts
        if not self.reasons:
            return Reply(text=raw)
        if marks is None or marks.shared:
            return self.read(self._request(), prompt_tokens, completion, (), ())
        thought, answer = split(raw, marks, opened=self.opened(prompt_tokens, marks), last=True)
        if answer is None and completion.finish_reason == "stop":
            return Reply(text=raw.lstrip())  # lm-eval keeps what ended by itself
        return Reply(text=(answer or "").lstrip(), reasoning=thought)

    def read(
        self,
        request: Any,
        prompt_tokens: Tokens,
        completion: Any,
        messages: Sequence[Message],
        tools: Sequence[Tool],
    ) -> Reply:
        """Reasoning, answer and tool calls in a reply to a conversation."""
        raw, marks = completion.text, self.thoughts
        if self.chat.parser is None:
            return Reply(text=strip_tokens(raw, self.special))
        thought, answer = None, None
        if marks is not None and not self.chat.use_harmony:
            opened = self.opened(prompt_tokens, marks)
            thought, answer = (None, raw) if self.variant.instruct else split(raw, marks, opened=opened)
        kind = self.chat.parser if answer is None else self._answer_parser
        parser = self._parser(kind, request, prompt_tokens)
        call_marks, formats = _marks(parser), _formats(parser.tool_parser)
        if answer is not None and not tools:
            return Reply(text=strip_tokens(answer, self.special), reasoning=thought)
        if thought and answer is not None and not answer.strip():
            thought, answer = release_calls(thought, call_marks.begin)
        written = raw if answer is None else answer
        try:
            reasoning, content, calls = parser.parse(
                written, request, enable_auto_tools=True, model_output_token_ids=completion.token_ids
            )
        except Exception as error:
            # The parser is vLLM's, its input is the model's: whatever it raises, it could not read it.
            problem = f"{type(error).__name__}: {error}"
            if answer is None or not formats:
                return Reply(text=strip_tokens(written, self.special), reasoning=thought, error=problem)
            reasoning, content, calls = None, None, None  # the format itself may be read all the same
        if answer is None and thought and not (reasoning and (calls or (content or "").strip())):
            # The parser leaves thoughts in the answer, or this one has neither ended nor called anything.
            return Reply(text="", reasoning=thought)
        if answer is None:
            thought, answer = reasoning, raw.replace(reasoning, "", 1) if reasoning else raw
        text = strip_tokens(content or "", self.special)
        parsed = [RawCall(id=call.id, name=call.name, arguments=call.arguments) for call in calls or ()]
        if tools and formats:
            read = self._settle(read_written(answer, formats), text, parsed, raw, messages, tools)
        else:
            read = self._read_calls(answer, text, parsed, call_marks, raw, messages, tools)
        return msgspec.structs.replace(read, reasoning=thought)

    def _settle(
        self,
        written: Written,
        text: str,
        parsed: Sequence[RawCall],
        raw: str,
        messages: Sequence[Message],
        tools: Sequence[Tool],
    ) -> Reply:
        """The calls of an answer in a format that is known, where vLLM's reading and the format's agree."""
        calls, problem = settle_calls(written, parsed, tools, raw, count_calls(messages))
        other = len(parsed) != len(written.calls) or written.rest != written.text
        if written.problem is None and (other or not text.strip()):
            text = strip_tokens(written.text, self.special).strip()
        if problem is None and (written.bare or not calls):
            problem = unread_call(written.rest, written.rest, 0, (), tools)
        return Reply(text=text, tool_calls=calls, error=problem)

    def _read_calls(
        self,
        answer: str,
        text: str,
        parsed: Sequence[RawCall],
        marks: Marks,
        raw: str,
        messages: Sequence[Message],
        tools: Sequence[Tool],
    ) -> Reply:
        """The calls that vLLM's parser found in an answer, in a format of which only marks are known."""
        calls, problem = read_calls(parsed, raw, count_calls(messages))
        if tools and problem is None:
            if problem := unfinished_call(answer, marks):
                calls = calls[:-1]
            else:
                problem = unread_call(without_arguments(answer, calls), text, len(calls), marks.begin, tools)
        return Reply(text=text, tool_calls=calls, error=problem)

    def _parser(self, kind: Any, request: Any, prompt_tokens: Tokens) -> Any:
        # Parsers keep state: one for each reply.
        parser = kind(
            self.tokenizer,
            request.tools,
            chat_template_kwargs=self.chat.effective_chat_template_kwargs(request),
            model_config=self.model_config,
        )
        parser.set_prompt_token_ids(prompt_tokens)
        return parser


def _formats(tool_parser: Any) -> tuple[Format, ...]:
    """How the calls that a parser reads are written, empty if that is not known."""
    from vllm.tool_parsers import ToolParserManager

    made_by = type(tool_parser).__name__
    names = [name for name, (_, by) in ToolParserManager.lazy_parsers.items() if by == made_by]
    return next((FORMATS[name] for name in names if name in FORMATS), ())


def _marks(parser: Any) -> Marks:
    """How tool calls begin and end, as far as the parser says."""
    tool_parser = parser.tool_parser
    engine = getattr(tool_parser, "_parser_engine", None)
    if engine is not None:
        return _grammar_marks(engine.parser_engine_config)
    names = ("tool_call_start_token", "tool_calls_start_token", "tool_start_token", "bot_token")
    return Marks(begin=tuple({mark for name in names if (mark := getattr(tool_parser, name, None))}))


def _grammar_marks(grammar: Any) -> Marks:
    """The terminals around a call in the grammar of one of vLLM's newer parsers."""
    begin = _terminals(grammar, "TOOL_CALL_START")
    # Arguments in JSON tell by themselves that they have ended.
    return Marks(begin=begin, end=() if grammar.tool_args_json else _terminals(grammar, "TOOL_CALL_END"))


def _terminals(grammar: Any, event: str) -> tuple[str, ...]:
    """The terminals by which an event comes about."""
    terminals = {
        terminal
        for (_, terminal), transition in grammar.transitions.items()
        if any(each.name == event for each in transition.events)
    }
    literals = (grammar.terminal_literal(terminal) for terminal in sorted(terminals))
    return tuple(literal for literal in literals if literal)
