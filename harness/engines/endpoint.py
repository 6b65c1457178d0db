"""Any server that speaks the OpenAI chat and completion API.

It can neither score log-likelihoods nor render a conversation: the protocol has no exact way to ask. What a
server says is converted strictly, into the structs here, before anything else sees it; but for its counts of
tokens, which are not known where they are not counts.
"""

import asyncio
import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from harness import hostile
from harness.engines.base import Load
from harness.engines.rendering import begun_by
from harness.engines.replies import (
    RawCall,
    count_calls,
    message_to_openai,
    read_calls,
    tool_to_openai,
    unread_call,
)
from harness.engines.retries import PatientServer, pauses
from harness.engines.wire import Blame, Fault, Wire, read_key
from harness.errors import AttemptFailure, UserError
from harness.types import (
    LARGEST_COUNT,
    EngineFacts,
    FailureKind,
    FinishReason,
    Generation,
    LogLikelihood,
    Message,
    Sampling,
    Struct,
    Tool,
    ToolCall,
    Variant,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

PROBE = "Hi, this is question number {}."
"""What a server that answers anybody answers; numbered, since a cache or a filter judges by the text."""
NAMES = 20
"""Models of a server that a sentence names."""


_URL = re.compile(r"https?://([^\s/:\[\]]+|\[[\w:.%]+\])(:\d{1,5})?(/\S*)?")


class Arguments(Struct):
    """What `engine.args` may hold for an endpoint."""

    base_url: str
    """Ends in /v1, as a rule. Without user name, password or query: it is kept with the results."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; None sends none."""
    timeout_seconds: float = 600.0
    """Of one request, from its first byte to the last of the answer."""
    max_retries: int = 3
    """Further tries of a request that is not answered while others are: lost connections, timeouts, statuses
    of the server's own (5xx, 401 and 403, 404), all but 429, which is asked again until it is answered."""
    patience_seconds: float = 900.0
    """How long a server may answer nobody before the run stops: being started again takes minutes."""
    start_seconds: float = 60.0
    """How long a server that does not answer yet is waited for before the run begins."""
    extra_sampling: bool = True
    """Also send top_k, min_p and repetition_penalty, which the protocol does not have but vLLM, SGLang and
    llama.cpp know. False refuses sampling that needs them."""

    def __post_init__(self) -> None:
        if any(mark in self.base_url for mark in "@?#"):
            raise ValueError(
                "base_url has a user name, a password or a query, which would be kept with the results: "
                "give the key by api_key_env, the name of an environment variable"
            )
        if not _URL.fullmatch(self.base_url):
            raise ValueError("base_url is not a URL that begins with http:// or https:// and names a host")
        if not (self.timeout_seconds > 0 and min(self.patience_seconds, self.start_seconds) >= 0):
            raise ValueError("timeout_seconds is above 0, patience_seconds and start_seconds are from 0")
        if self.max_retries < 0:
            raise ValueError("max_retries is from 0")


class CalledFunction(msgspec.Struct):
    """The function of a tool call, on the wire."""

    name: str | None = None
    arguments: Any = None
    """JSON text, as the protocol has it, or what such a text says."""


OPENS, CLOSES = "<think>", "</think>"
"""What thoughts stand between that a server left in the text."""


class Call(msgspec.Struct):
    """A tool call, on the wire."""

    id: str | None = None
    type: str | None = None
    function: CalledFunction | None = None


class Part(msgspec.Struct):
    """A part of what the model said, on the wire: Mistral's servers tell thoughts from text so."""

    type: Literal["text", "thinking"]
    text: str = ""
    thinking: "str | list[Part]" = ""


class ChatMessage(msgspec.Struct):
    """What the model said, on the wire."""

    content: str | list[Part] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Any = None
    """The older form of a tool call, which no server that knows `tools` needs."""

    @property
    def text(self) -> str:
        """What is said, but for thoughts."""
        return _words(self.content, "text")

    @property
    def thought(self) -> str | None:
        """What is thought, where the server tells it apart."""
        return self.reasoning or self.reasoning_content or _words(self.content, "thinking") or None


class ChatChoice(msgspec.Struct):
    """One reply to a conversation, on the wire."""

    message: ChatMessage
    finish_reason: str | None = None


class TextChoice(msgspec.Struct):
    """One continuation of a text, on the wire."""

    text: str
    finish_reason: str | None = None


class ChatAnswer(msgspec.Struct):
    """The answer to a conversation, on the wire."""

    choices: list[ChatChoice]
    usage: Any = None


class TextAnswer(msgspec.Struct):
    """The answer to a text, on the wire."""

    choices: list[TextChoice]
    usage: Any = None


class KnownModel(msgspec.Struct):
    """A model that a server has, on the wire."""

    id: str


class KnownModels(msgspec.Struct):
    """The models that a server has, on the wire."""

    data: list[KnownModel]


class EndpointEngine:
    """A model behind an OpenAI-compatible server. Build it with `start`."""

    def __init__(
        self, wire: Wire, model: str, facts: EngineFacts, arguments: Arguments, variant: Variant
    ) -> None:
        """Args: model: as the server calls it; variant: how it is asked."""
        self._wire = wire
        self._variant = variant
        self._thought_key: str | None = "reasoning"
        """Where the server tells thoughts and is told them; None: in the text, between marks."""
        self._server = PatientServer(wire, arguments.max_retries, arguments.patience_seconds)
        self._model = model
        self._extra_sampling = arguments.extra_sampling
        self._in_flight = 0
        self._probes = itertools.count(1)
        self.facts = facts

    @classmethod
    async def start(cls, model: str, variant: Variant | None = None, **arguments: Any) -> "EndpointEngine":
        """Connect, and see whether the server has the model.

        Args:
            model: as the server calls it.
            variant: how it is asked.
            arguments: see `Arguments`.

        Raises:
            UserError: the server cannot be reached, does not have the model, or the key is missing.
        """
        given = Arguments(**arguments)
        wire = Wire(given.base_url, read_key(given.api_key_env), given.timeout_seconds)
        try:
            version = await _connect(wire, model, given.start_seconds)
        except UserError:
            await wire.close()
            raise
        details = {"base_url": given.base_url, "model": model, "timeout_seconds": str(given.timeout_seconds)}
        facts = EngineFacts(name="endpoint", version=version, details=details)
        return cls(wire, model, facts, given, variant or Variant())

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        """Reply to a conversation.

        Raises:
            AttemptFailure: the prompt is too long, or the server did not answer with a reply.
            ServerGone: the server answers nobody.
            UserError: the sampling cannot be said in the protocol, or the server refuses every request.
        """
        started = time.perf_counter()
        body = {
            "model": self._model,
            "messages": [
                message_to_openai(message, thoughts=(self._thought_key,))
                if self._thought_key
                else message_to_openai(_with_marks(message), thoughts=())
                for message in begun_by(messages, self._variant.system_prompt)
            ],
            **self._sampling(sampling),
            **_asking(self._variant),
            **({"tools": [tool_to_openai(tool) for tool in tools]} if tools else {}),
        }

        def probe() -> dict[str, Any]:
            asked = {"role": "user", "content": PROBE.format(next(self._probes))}
            return {**body, "messages": [asked], "max_tokens": 1}

        answer = await self._ask("/chat/completions", body, probe, ChatAnswer)
        choice = _only_choice(answer.choices)
        message = _apart(choice.message, self._variant)
        if message.thought != choice.message.thought:
            self._thought_key = None  # a server reads its thoughts where it wrote them
        elif message.reasoning_content and not message.reasoning:
            self._thought_key = "reasoning_content"
        calls, problem = _read_message(msgspec.structs.replace(choice, message=message), messages, tools)
        return Generation(
            text=message.text,
            raw=_raw(choice.message),
            finish_reason=_finish_reason(choice.finish_reason, bool(calls)),
            reasoning=message.thought,
            tool_calls=calls,
            parse_error=problem,
            seconds=time.perf_counter() - started,
            **_tokens(answer.usage),
        )

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """Continue a text. Raises as `chat` does."""
        started = time.perf_counter()
        body = {"model": self._model, "prompt": prompt, **self._sampling(sampling)}
        if self._variant.thinking_token_budget is not None:
            body["thinking_token_budget"] = self._variant.thinking_token_budget

        def probe() -> dict[str, Any]:
            return {**body, "prompt": PROBE.format(next(self._probes)), "max_tokens": 1}

        answer = await self._ask("/completions", body, probe, TextAnswer)
        choice = _only_choice(answer.choices)
        return Generation(
            text=choice.text,
            raw=choice.text,
            finish_reason=_finish_reason(choice.finish_reason, called=False),
            seconds=time.perf_counter() - started,
            **_tokens(answer.usage),
        )

    async def score(self, context: str, continuations: Sequence[str]) -> list[LogLikelihood]:
        """Not possible. Raises `UserError`."""
        raise UserError(_cannot("score log-likelihoods"))

    async def score_rolling(self, text: str) -> LogLikelihood:
        """Not possible. Raises `UserError`."""
        raise UserError(_cannot("score log-likelihoods"))

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Not possible. Raises `UserError`."""
        raise UserError(_cannot("show the text that a chat template makes of a conversation"))

    def load(self) -> Load:
        """Requests in flight; how many of them wait only the server knows."""
        return Load(running=self._in_flight, waiting=0, idle_seconds=self._server.gone_seconds)

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._wire.close()

    async def _ask(
        self, path: str, body: dict[str, Any], probe: Callable[[], dict[str, Any]], kind: type[T]
    ) -> T:
        """The one place where an answer becomes one of the structs above."""
        self._in_flight += 1
        try:
            answer = await self._server.ask(path, body, probe)
            return msgspec.convert(answer, kind, strict=True)
        except msgspec.ValidationError as error:
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR, f"the server's answer is no {kind.__name__}: {error}"
            ) from error
        finally:
            self._in_flight -= 1

    def _sampling(self, sampling: Sampling) -> dict[str, Any]:
        extra = {
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
        }
        used = {key: value for key, value in extra.items() if value != getattr(Sampling(), key)}
        if used and not self._extra_sampling:
            raise UserError(
                f"sampling: the endpoint is not sent {', '.join(used)} because extra_sampling is off;"
                " leave them out, or turn it on if the server knows them"
            )
        arguments: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            # Said even where they are the defaults: servers take theirs from the model's own
            # generation_config.json.
            **(extra if self._extra_sampling else {}),
        }
        return arguments | ({"stop": list(sampling.stop)} if sampling.stop else {})


def _asking(variant: Variant) -> dict[str, Any]:
    """What a request carries of a variant, beside its system prompt.

    The effort stands by itself, as the protocol has it; variables of the chat template and the budget of a
    thought are what vLLM and SGLang know.
    """
    keywords = dict(variant.chat_template_kwargs)
    arguments = {
        "reasoning_effort": keywords.pop("reasoning_effort", None),
        "chat_template_kwargs": keywords or None,
        "thinking_token_budget": variant.thinking_token_budget,
    }
    return {key: value for key, value in arguments.items() if value is not None}


async def _connect(wire: Wire, model: str, seconds: float) -> str:
    """Version of the server, as far as it says. seconds: how long one that is not up yet is waited for."""
    known = await _up(wire, seconds)
    if known and model not in known:
        names = ", ".join(hostile.one_line(name) for name in known[:NAMES])
        more = f" and {len(known) - NAMES} more" if len(known) > NAMES else ""
        raise UserError(f"model: the server at {wire.base_url} has no {model!r}; it has {names}{more}")
    try:
        answer = await wire.get("//version")  # what vLLM's own servers say
    except Fault:
        return "unknown"
    version = answer.get("version") if isinstance(answer, dict) else None
    return hostile.one_line(version) if isinstance(version, str) else "unknown"


async def _up(wire: Wire, seconds: float) -> list[str]:
    """The models of a server once it answers. Raises UserError."""
    began, noted = time.monotonic(), False
    for pause in pauses():
        try:
            return await _models(wire)
        except Fault as fault:
            left = began + seconds - time.monotonic()
            if fault.blame not in (Blame.SERVER, Blame.BUSY) or left <= 0:
                raise UserError(_no_models(wire.base_url, fault)) from fault
            if not noted:
                log.warning("waiting for the server at %s, for up to %.0f s", wire.base_url, left)
                noted = True
        await asyncio.sleep(min(pause, left))
    raise AssertionError("pauses never end")


async def _models(wire: Wire) -> list[str]:
    """The models that a server has, none where it has no list of them. Raises Fault."""
    try:
        answer = await wire.get("/models")
        return [model.id for model in msgspec.convert(answer, KnownModels, strict=True).data]
    except msgspec.ValidationError as error:
        raise Fault(Blame.REFUSED, f"where a list of models was expected: {error}") from error
    except Fault as fault:
        if fault.status == 404:
            return []
        raise


def _no_models(base_url: str, fault: Fault) -> str:
    if fault.blame is Blame.SERVER and fault.status is None:
        return f"base_url: no server answers at {base_url} ({fault.message}); start it, or correct the URL"
    return (
        f"base_url: {base_url}/models does not answer as it should ({fault.message}); check the URL, which "
        "ends in /v1 as a rule, and api_key_env"
    )


def _only_choice(choices: Sequence[T]) -> T:
    if len(choices) != 1:
        number = f"with {len(choices)} choices" if choices else "without a choice"
        raise AttemptFailure(
            FailureKind.ENGINE_ERROR, f"the server answered {number}, where one was expected"
        )
    return choices[0]


def _read_message(
    choice: ChatChoice, messages: Sequence[Message], tools: Sequence[Tool]
) -> tuple[tuple[ToolCall, ...], str | None]:
    """The calls of a reply, and why one could not be read, if one could not."""
    message = choice.message
    for call in message.tool_calls or ():
        if call.type not in (None, "function"):
            return (), f"the reply has a tool call of type {call.type!r}, where `function` was expected"
    if message.function_call is not None:
        return (), "the reply has a `function_call`, which the protocol no longer has"
    if choice.finish_reason in ("tool_calls", "function_call") and not message.tool_calls:
        return (), "the reply ends with tool calls by its finish_reason, and has none"
    raw = [
        RawCall(id=call.id, name=name, arguments=arguments)
        for call in message.tool_calls or ()
        for name, arguments in [_written(call)]
    ]
    calls, problem = read_calls(raw, "", count_calls(messages))
    if tools and problem is None:
        problem = unread_call(message.text, message.text, len(calls), (), tools)
    return calls, problem


def _written(call: Call) -> tuple[str | None, str | None]:
    """(name, arguments as JSON text) of a call; some servers send what the text says."""
    if call.function is None:
        return None, None
    given = call.function.arguments
    return call.function.name, given if given is None or isinstance(given, str) else json.dumps(given)


def _words(content: str | list[Part] | None, kind: str) -> str:
    """The text of the parts of a kind; what has no parts is text."""
    if not isinstance(content, list):
        return content if content and kind == "text" else ""
    parts = [part for part in content if part.type == kind]
    return "".join(part.text if kind == "text" else _words(part.thinking, "text") for part in parts)


def _apart(message: ChatMessage, variant: Variant) -> ChatMessage:
    """A message with its thought apart from its text, also where a server without a parser left it there.

    Raises:
        AttemptFailure: the server tells a thought of a model that is asked not to think.
    """
    if variant.instruct:
        if (message.thought or "").strip():
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR,
                "the server let the model think, which is asked not to: it does not switch its chat template",
            )
        return message
    text = message.text.lstrip()
    opened = text.startswith(OPENS) or (variant.mode is not None and CLOSES in text)
    if message.thought or not opened:
        return message
    thought, _, answer = text.removeprefix(OPENS).partition(CLOSES)
    return msgspec.structs.replace(message, reasoning=thought.strip() or None, content=answer.lstrip())


def _with_marks(message: Message) -> Message:
    """A message with its thought in its text."""
    if message.reasoning is None:
        return message
    text = f"{OPENS}\n{message.reasoning}\n{CLOSES}\n\n{message.content}"
    return msgspec.structs.replace(message, content=text, reasoning=None)


def _raw(message: ChatMessage) -> str:
    """All of the message that is left of what the model wrote, in the order of writing."""
    written = [_written(call) for call in message.tool_calls or ()]
    if message.function_call is not None:
        written.append(("function_call", json.dumps(message.function_call)))
    calls = "".join(f"<tool_call>{name}({arguments})</tool_call>" for name, arguments in written)
    return (message.thought or "") + message.text + calls


def _finish_reason(reason: str | None, called: bool) -> FinishReason:
    if reason == "length":
        return "length"
    # Servers have said that it ended in calls, in one call, or in a stop where there were calls; Together's
    # name what a model stops by.
    if reason not in ("stop", "eos", "tool_calls", "tool_call", "function_call"):
        raise AttemptFailure(FailureKind.ENGINE_ERROR, f"the server ended the reply with {reason!r}")
    return "tool_calls" if called else "stop"


def _tokens(usage: Any) -> dict[str, Any]:
    counts = usage if isinstance(usage, dict) else {}
    prompt = _count(counts.get("prompt_tokens"))
    details = counts.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    impossible = cached is not None and (prompt is None or cached > prompt)
    written = counts.get("completion_tokens_details")
    return {
        "reasoning_tokens": _count(written.get("reasoning_tokens")) if isinstance(written, dict) else None,
        "prompt_tokens": prompt,
        "completion_tokens": _count(counts.get("completion_tokens")),
        "cached_tokens": None if impossible else cached,
    }


def _count(value: Any) -> int | None:
    """A count as it was told; None, not known, for anything else."""
    return value if type(value) is int and 0 <= value <= LARGEST_COUNT else None


def _cannot(what: str) -> str:
    return f"engine: an endpoint cannot {what}, which this suite needs; use engine kind vllm for it"
