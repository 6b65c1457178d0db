"""Trial renderings: what a chat template makes of the conversations that a suite will send.

Templates lose things without a word (tool results, a system message after the first call, the second of two
calls), raise on others, and write today's date. So conversations with unlikely words in them are rendered as
vLLM renders them, before any model is loaded, and the words are looked for.

vLLM hands a template the content of messages as lists of parts where the template loops over them, else as
strings; results are strings always, and arguments of calls are objects.
"""

import datetime
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import structs

from harness.models.limits import Exceeded, within_limits
from harness.models.template import SWITCHES, environment, undeclared
from harness.types import INSTRUCT, Struct

Conversation = Sequence[Mapping[str, Any]]

SYSTEM, USER, LATER, BESIDE = "SYSTEM-4X", "USER-5Y", "LATER-6Z", "BESIDE-8P"
CALLS, RESULTS = ("CALL-1A", "CALL-2B"), ("UNLIKELY-7Q", "UNLIKELY-9R")
TOOL = "TOOL-3D"

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": f"The weather of a city {TOOL}.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "Name of the city."}},
                "required": ["city"],
            },
        },
    }
]

SWITCHED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    **dict.fromkeys(("enable_thinking", "thinking", "reasoning", "think"), (True, (False,))),
    "reasoning_effort": ("high", ("none", "no_think", "minimal")),
}
"""Variable by which released templates switch thinking -> (a value for on, values for off)."""

EFFORTS = ("low", "medium", "high")
"""Values of `reasoning_effort` that templates of several developers know."""

OPEN_THOUGHT = re.compile(r"[<\[]\|?(?!end)[\w:]*think\w*\|?[>\]]\s*$", re.IGNORECASE)
"""How a prompt ends within a thought: `<think>`, `<seed:think>`, `[THINK]`, `<|START_THINKING|>`."""
CLOSED_THOUGHT = re.compile(r"[<\[](/|\|end_)[\w:]*think\w*\|?[>\]]\s*$", re.IGNORECASE)


class Sent(Struct):
    """What a suite sends."""

    tools: bool
    """Agents with tools; else questions alone."""
    system_matters: bool = False
    """What is measured stands in the system message, as with a defence."""
    user_after_results: bool = False
    users_in_a_row: bool = False
    keywords: str = "{}"
    """Variables that the template is given for a variant of the model, as JSON."""
    system: bool = False
    """The variant has a system prompt, also where a suite sends none."""
    instruct: bool = False
    """The model is asked not to think."""


class Rendering(Struct):
    """What a chat template does with what a suite sends."""

    void: str | None = None
    """Why nothing would be measured."""
    lost: tuple[str, ...] = ()
    """What of a conversation the model is not shown."""
    raises: tuple[str, ...] = ()
    """Kinds of conversation that it refuses, with its reason. Each such attempt is an engine error."""
    dated: bool = False
    """It writes the date."""
    thinking: str | None = None
    """Why the model does not think although its template could let it, None if nothing is known."""

    def lines(self) -> Iterator[str]:
        """What a reader of the numbers should know, the date left aside."""
        if self.lost:
            yield f"does not show the model {', '.join(self.lost)}"
        yield from (f"raises on {kind}" for kind in self.raises)
        if self.thinking:
            yield self.thinking


def system() -> dict[str, Any]:
    """A system message."""
    return {"role": "system", "content": f"Be brief {SYSTEM}."}


def user(word: str = USER) -> dict[str, Any]:
    """A message of the user's."""
    return {"role": "user", "content": f"What is the weather? {word}"}


def turn(*numbers: int, text: str = "") -> list[dict[str, Any]]:
    """Calls of the assistant's, made at once, and their results."""
    calls = [
        {
            "id": f"call{number:05}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": CALLS[number]}},
        }
        for number in numbers
    ]
    results = [
        {
            "role": "tool",
            "content": f"Fair {RESULTS[n]}",
            "tool_call_id": f"call{n:05}",
            "name": "get_weather",
        }
        for n in numbers
    ]
    return [{"role": "assistant", "content": text, "tool_calls": calls}, *results]


@lru_cache(maxsize=256)
def try_template(source: str, sent: Sent, special_tokens: tuple[tuple[str, str], ...] = ()) -> Rendering:
    """Render what a suite sends, within the limits of `limits`.

    Args:
        source: of a chat template, which must parse.
        sent: what the suite sends.
        special_tokens: name -> text, such as `bos_token`.
    """
    try:
        return within_limits(lambda: _try(source, sent, dict(special_tokens)))
    except Exceeded as error:
        return Rendering(void=f"{error} to render a conversation")


THOUGHT = "THOUGHT-2W"
ANSWER: dict[str, Any] = {"role": "assistant", "content": "Fair."}
OWN_THOUGHTS: dict[str, Callable[[], Conversation]] = {
    "of an earlier answer": lambda: [user(), *_with_thought([ANSWER]), user(LATER)],
    "of the call just made": lambda: [user(), *_with_thought(turn(0))],
    "of an earlier call": lambda: [user(), *_with_thought(turn(0)), *turn(1)],
    "of a call before the user spoke again": lambda: [
        user(),
        *_with_thought(turn(0)),
        ANSWER,
        user(LATER),
    ],
}
"""Which thought of the model's own -> a conversation that has it."""


def _with_thought(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with a thought in the first, under the names by which vLLM hands it on."""
    return [messages[0] | {"reasoning": THOUGHT, "reasoning_content": THOUGHT}, *messages[1:]]


@lru_cache(maxsize=256)
def own_thoughts(
    source: str, special_tokens: tuple[tuple[str, str], ...] = (), keywords: str = "{}"
) -> dict[str, bool | None]:
    """Which of its own thoughts a model is shown again (`OWN_THOUGHTS`); None where the template raises.

    Args:
        source: of a chat template, which must parse.
        special_tokens: name -> text, such as `bos_token`.
        keywords: variables of a variant, as JSON.
    """

    def shown() -> dict[str, bool | None]:
        trial = _Trial(source, dict(special_tokens) | json.loads(keywords), tools=True)
        texts = {which: trial.render(conversation()) for which, conversation in OWN_THOUGHTS.items()}
        return {which: None if text is None else THOUGHT in text for which, text in texts.items()}

    try:
        return within_limits(shown)
    except Exceeded:
        return dict.fromkeys(OWN_THOUGHTS)


class Ways(Struct):
    """The ways in which a template lets a model be asked, by what it renders."""

    modes: dict[str, dict[str, bool]] = {}
    """Mode -> the variable by which it is switched."""
    default: str | None = None
    """The mode in which it is where nothing is set, None if it is none of them."""
    efforts: tuple[str, ...] = ()
    """Values of `reasoning_effort` that give a prompt as no other does."""


@lru_cache(maxsize=256)
def ways(source: str, special_tokens: tuple[tuple[str, str], ...] = ()) -> Ways:
    """What switches a template has, tried one by one with a question.

    Args:
        source: of a chat template, which must parse.
        special_tokens: name -> text, such as `bos_token`.
    """

    def found() -> Ways:
        trial, modes, default = _Trial(source, dict(special_tokens), tools=False), {}, None
        plain = trial.render([user()])
        for switch in trial.switches:
            on, off = (trial.render([user()], **{switch: value}) for value in (True, False))
            if SWITCHED[switch][0] is True and None not in (on, off) and on != off:
                modes = {"thinking": {switch: True}, INSTRUCT: {switch: False}}
                default = "thinking" if plain == on else INSTRUCT if plain == off else None
                break
        asked: dict[str, Any] = {**modes.get("thinking", {})}
        prompts = [trial.render([user()], **asked, reasoning_effort=effort) for effort in EFFORTS]
        efforts = [
            effort for effort, prompt in zip(EFFORTS, prompts, strict=True) if prompts.count(prompt) == 1
        ]
        return Ways(modes, default, tuple(efforts))

    try:
        return within_limits(found)
    except Exceeded:
        return Ways()


def _try(source: str, sent: Sent, special_tokens: dict[str, str]) -> Rendering:
    keywords = json.loads(sent.keywords)
    if unread := sorted(keywords.keys() - undeclared(source)):
        reads = [name for name in SWITCHES if name in undeclared(source)]
        instead = f" (it reads {', '.join(reads)})" if reads else ""
        return Rendering(
            void=f"does not read {', '.join(unread)}, by which its variant is to be switched{instead}"
        )
    trial = _Trial(source, special_tokens | keywords, sent.tools)
    begun = sent.tools or sent.system
    first = [system(), user()] if begun else [user()]
    shown = trial.render(first)
    if shown is None:
        what = "a system and a user message" if begun else "a user message"
        return Rendering(void=f"fails to render a conversation ({trial.reason}), {what}")
    thinking = None if sent.instruct else trial.thinking(first, keywords.keys())
    rendering = Rendering(dated=trial.dated(first), thinking=thinking)
    if USER not in shown:
        return structs.replace(rendering, void="leaves out what the user says")
    if sent.system and SYSTEM not in shown:
        return structs.replace(
            rendering, void="does not show the system message, with which its variant begins"
        )
    if not sent.tools:
        return rendering
    void = _void(trial, sent, first, shown)
    if void is not None:
        return structs.replace(rendering, void=void)
    lost, raises = _told(trial, first, shown)
    return structs.replace(rendering, lost=tuple(dict.fromkeys(lost)), raises=tuple(raises))


def _void(trial: "_Trial", sent: Sent, first: list[dict[str, Any]], shown: str) -> str | None:
    """Why agents could not be measured."""
    if TOOL not in shown:
        return "does not show tools"
    called = trial.render([*first, *turn(0)])
    if called is None:
        return f"fails to render a conversation ({trial.reason}), a tool call and its result"
    if RESULTS[0] not in called:
        return "shows the model no tool results"
    if sent.system_matters and not (SYSTEM in shown and SYSTEM in called):
        when = "" if SYSTEM not in shown else ", once a tool was called"
        return f"does not show the system message, in which the defence stands{when}"
    for sends, kind, conversation in (
        (sent.user_after_results, "a user message after a result", [*first, *turn(0), user(LATER)]),
        (sent.users_in_a_row, "two user messages in a row", [*first, user(LATER)]),
    ):
        text = trial.render(conversation) if sends else LATER
        if text is None:
            return f"fails to render a conversation ({trial.reason}), {kind} as the defence sends them"
        if LATER not in text:
            return f"does not show {kind}, as the defence sends them"
    return None


def _told(trial: "_Trial", first: list[dict[str, Any]], shown: str) -> tuple[list[str], list[str]]:
    """(what is lost of conversations that agents can come to, what conversations raise)."""
    called = trial.render([*first, *turn(0)]) or ""
    whole = {
        "the system message": SYSTEM in shown,
        "the system message once a tool was called": SYSTEM in called or SYSTEM not in shown,
        "the tools once one was called": TOOL in called,
        "the tool calls that it made": CALLS[0] in called,
    }
    lost, raises = [what for what, there in whole.items() if not there], []
    for kind, conversation, words in (
        (
            "text beside a tool call",
            [*first, *turn(0, text=f"So {BESIDE}.")],
            {BESIDE: "text beside a tool call"},
        ),
        (
            "two tool calls at once",
            [*first, *turn(0, 1)],
            {CALLS[1]: "the second of two tool calls", RESULTS[1]: "the second of two results"},
        ),
        (
            "tool calls in two turns",
            [*first, *turn(0), *turn(1)],
            dict.fromkeys(RESULTS, "results of two turns"),
        ),
    ):
        text = trial.render(conversation)
        if text is None:
            raises.append(f"{kind} ({trial.reason})")
            continue
        # Where it shows no calls at all that is said once.
        words = {word: what for word, what in words.items() if word not in CALLS or CALLS[0] in called}
        lost += [what for word, what in words.items() if word not in text]
        if trial.lists and "{'type': 'text'" in text:
            lost.append("messages but as Python writes a list")
    return lost, raises


class _Trial:
    """A template with what it is given beside the conversation."""

    def __init__(self, source: str, given: dict[str, Any], tools: bool) -> None:
        self._variables: dict[str, Any] = {"bos_token": "", "eos_token": "", **given}
        self._tools = TOOLS if tools else None
        self._day = datetime.date(2024, 5, 15)
        self._environment = environment(lambda: self._day)
        self._template = self._environment.from_string(source)
        self.switches = [name for name in SWITCHED if name in undeclared(source)]
        self.lists = tools and loops_over_content(self._environment.parse(source))
        self.reason = ""
        """Why the last rendering failed."""

    def render(self, conversation: Conversation, **switches: Any) -> str | None:
        """The prompt, None if the template raises."""
        messages = [_with_parts(m) if self.lists else dict(m) for m in conversation]
        try:
            return str(
                self._template.render(
                    messages=messages,
                    tools=self._tools,
                    add_generation_prompt=True,
                    **self._variables | switches,
                )
            )
        except MemoryError:
            raise
        except Exception as error:  # a template can raise whatever its expressions do
            self.reason = " ".join(str(error).split())[:160] or type(error).__name__
            return None

    def dated(self, conversation: Conversation) -> bool:
        """Whether another day gives another prompt."""
        before, self._day = self._day, datetime.date(1999, 12, 31)
        other = self.render(conversation)
        self._day = before
        return other != self.render(conversation)

    def thinking(self, conversation: Conversation, asked: Collection[str]) -> str | None:
        """Why the model would not think: a switch stands at off, or the thought is closed at once.

        Args:
            conversation: that is rendered.
            asked: switches that somebody has set.
        """
        plain = self.render(conversation)
        if plain is not None and OPEN_THOUGHT.search(plain):
            return None  # values of an effort that it does not know are its default to some templates
        for switch in self.switches if not asked else ():
            on, off = SWITCHED[switch]
            thinks = self.render(conversation, **{switch: on})
            closed = [self.render(conversation, **{switch: value}) for value in off]
            if plain in closed and thinks not in (None, plain):
                return f"does not let it think, since {switch} is not set"
        if plain is not None and CLOSED_THOUGHT.search(plain):
            return "closes the thought that it opens, so that the model does not think"
        return None


def _with_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its content as a list of parts; a result is text all the same."""
    if message["role"] == "tool":
        return dict(message)
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def loops_over_content(tree: Any) -> bool:
    """Whether a template loops over the content of messages, so that vLLM hands it lists of parts."""
    from jinja2 import nodes

    def content_of(node: Any) -> bool:
        while isinstance(node, nodes.Filter | nodes.Test) or (
            isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
        ):
            node = node.node
        if isinstance(node, nodes.Getitem):
            return isinstance(node.arg, nodes.Const) and node.arg.value == "content" and _is_name(node.node)
        return isinstance(node, nodes.Getattr) and node.attr == "content" and _is_name(node.node)

    passed: dict[int, set[str]] = {}
    for macro in tree.find_all(nodes.Macro):
        calls = [call for call in tree.find_all(nodes.Call) if getattr(call.node, "name", None) == macro.name]
        names = [argument.name for argument in macro.args]
        given = {n for call in calls for n, value in zip(names, call.args, strict=False) if content_of(value)}
        given |= {word.key for call in calls for word in call.kwargs if content_of(word.value)}
        passed |= {id(loop): given for loop in macro.find_all(nodes.For)}
    for loop in tree.find_all(nodes.For):
        name = loop.iter.name if _is_name(loop.iter) else None
        if content_of(loop.iter) or name in passed.get(id(loop), {"content"}):
            return True
    return False


def _is_name(node: Any) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Name)
