"""Any server that speaks the OpenAI chat and completion API.

It can neither score log-likelihoods nor render a conversation: the protocol has no exact way to ask.
"""

import os
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from harness.engines.base import Load
from harness.engines.replies import (
    RawCall,
    count_calls,
    message_to_openai,
    read_calls,
    tool_to_openai,
    unread_call,
)
from harness.errors import AttemptFailure, UserError
from harness.types import (
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
)

T = TypeVar("T")

OVERFLOW_WORDS = ("context length", "context_length", "maximum model length", "too long", "too many tokens")
"""What servers write when a prompt does not fit (vLLM, OpenAI, SGLang, llama.cpp, Anthropic)."""


class Arguments(Struct):
    """What `engine.args` may hold for an endpoint."""

    base_url: str
    """Ends in /v1, as a rule."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; None sends none."""
    timeout_seconds: float = 600.0
    """Of one request."""
    max_retries: int = 3
    """Further tries after lost connections, timeouts and statuses 408, 409, 429 and 5xx."""
    extra_sampling: bool = True
    """Also send top_k, min_p and repetition_penalty, which the protocol does not have but vLLM, SGLang and
    llama.cpp know. False refuses sampling that needs them."""


class EndpointEngine:
    """A model behind an OpenAI-compatible server. Build it with `start`."""

    def __init__(self, client: Any, model: str, facts: EngineFacts, *, extra_sampling: bool) -> None:
        """Args: client: an `openai.AsyncOpenAI`. model: as the server calls it."""
        self._client = client
        self._model = model
        self._extra_sampling = extra_sampling
        self._in_flight = 0
        self.facts = facts

    @classmethod
    async def start(cls, model: str, **arguments: Any) -> "EndpointEngine":
        """Connect, and see whether the server has the model.

        Args:
            model: as the server calls it.
            arguments: see `Arguments`.

        Raises:
            UserError: the server cannot be reached, does not have the model, or the key is missing.
        """
        from openai import AsyncOpenAI

        given = Arguments(**arguments)
        client = AsyncOpenAI(
            base_url=given.base_url,
            api_key=_api_key(given.api_key_env),
            timeout=given.timeout_seconds,
            max_retries=given.max_retries,
        )
        try:
            version = await _connect(client, given.base_url, model)
        except UserError:
            await client.close()
            raise
        details = {"base_url": given.base_url, "model": model, "timeout_seconds": str(given.timeout_seconds)}
        facts = EngineFacts(name="endpoint", version=version, details=details)
        return cls(client, model, facts, extra_sampling=given.extra_sampling)

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        """Reply to a conversation.

        Raises:
            AttemptFailure: the prompt is too long, or the server did not answer with a reply.
            UserError: the sampling cannot be said in the protocol.
        """
        started = time.perf_counter()
        options: dict[str, Any] = {"tools": [tool_to_openai(tool) for tool in tools]} if tools else {}
        response = await self._ask(
            self._client.chat.completions.create(
                model=self._model,
                messages=[message_to_openai(message) for message in messages],
                **self._sampling(sampling),
                **options,
            )
        )
        choice = _only_choice(response)
        calls, problem = _read_message(choice.message, messages, tools)
        text = choice.message.content or ""
        return Generation(
            text=text,
            raw=_raw(choice.message),
            finish_reason=_finish_reason(choice.finish_reason, bool(calls)),
            reasoning=_reasoning(choice.message),
            tool_calls=calls,
            parse_error=problem,
            seconds=time.perf_counter() - started,
            **_tokens(response),
        )

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """Continue a text. Raises as `chat` does."""
        started = time.perf_counter()
        response = await self._ask(
            self._client.completions.create(model=self._model, prompt=prompt, **self._sampling(sampling))
        )
        choice = _only_choice(response)
        return Generation(
            text=choice.text,
            raw=choice.text,
            finish_reason=_finish_reason(choice.finish_reason, called=False),
            seconds=time.perf_counter() - started,
            **_tokens(response),
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
        return Load(running=self._in_flight, waiting=0)

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.close()

    async def _ask(self, request: Awaitable[T]) -> T:
        """The one place where the client's errors are classified."""
        from openai import APIStatusError, OpenAIError

        self._in_flight += 1
        try:
            return await request
        except APIStatusError as error:
            overflow = error.status_code in (400, 413, 422) and _is_overflow(error.message)
            kind = FailureKind.CONTEXT_OVERFLOW if overflow else FailureKind.ENGINE_ERROR
            raise AttemptFailure(kind, f"status {error.status_code}: {error.message}") from error
        except OpenAIError as error:
            raise AttemptFailure(FailureKind.ENGINE_ERROR, f"{type(error).__name__}: {error}") from error
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
            "extra_body": extra if self._extra_sampling else None,
        }
        return arguments | ({"stop": list(sampling.stop)} if sampling.stop else {})


def _api_key(name: str | None) -> str:
    if name is None:
        return "none"
    if name not in os.environ:
        raise UserError(f"api_key_env: the environment variable {name} is not set; set it to the API key")
    return os.environ[name]


async def _connect(client: Any, base_url: str, model: str) -> str:
    """Version of the server, as far as it says."""
    from openai import APIConnectionError, APIStatusError, NotFoundError

    try:
        known = [entry.id for entry in (await client.models.list()).data]
    except NotFoundError:
        return "unknown"
    except APIConnectionError as error:
        raise UserError(
            f"base_url: no server answers at {base_url} ({error.__cause__ or error}); start it, or correct"
            " the URL"
        ) from error
    except APIStatusError as error:
        raise UserError(
            f"base_url: {base_url} answers with status {error.status_code}; check the URL and api_key_env"
        ) from error
    if known and model not in known:
        raise UserError(f"model: the server at {base_url} has no {model!r}; it has {', '.join(known)}")
    return await _version(client, base_url)


async def _version(client: Any, base_url: str) -> str:
    """What vLLM's own servers say at /version."""
    from httpx import URL
    from openai import OpenAIError

    try:
        answer: Any = await client.get(str(URL(base_url).copy_with(path="/version")), cast_to=object)
    except OpenAIError:
        return "unknown"
    return str(answer.get("version", "unknown")) if isinstance(answer, dict) else "unknown"


def _is_overflow(message: str) -> bool:
    return any(words in message.lower() for words in OVERFLOW_WORDS)


def _only_choice(response: Any) -> Any:
    if not response.choices:
        raise AttemptFailure(FailureKind.ENGINE_ERROR, "the server answered without a choice")
    return response.choices[0]


def _read_message(
    message: Any, messages: Sequence[Message], tools: Sequence[Tool]
) -> tuple[tuple[ToolCall, ...], str | None]:
    raw = [
        RawCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in message.tool_calls or ()
        if call.type == "function"
    ]
    calls, problem = read_calls(raw, "", count_calls(messages))
    if tools and problem is None:
        text = message.content or ""
        problem = unread_call(text, text, len(calls), (), tools)
    return calls, problem


def _reasoning(message: Any) -> str | None:
    return getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)


def _raw(message: Any) -> str:
    """All of the message that is left of what the model wrote, in the order of writing."""
    calls = "".join(
        f"<tool_call>{call.function.name}({call.function.arguments})</tool_call>"
        for call in message.tool_calls or ()
        if call.type == "function"
    )
    return (_reasoning(message) or "") + (message.content or "") + calls


def _finish_reason(reason: str | None, called: bool) -> FinishReason:
    if reason == "length":
        return "length"
    if reason not in ("stop", "tool_calls"):
        raise AttemptFailure(FailureKind.ENGINE_ERROR, f"the server ended the reply with {reason!r}")
    return "tool_calls" if called else "stop"


def _tokens(response: Any) -> dict[str, Any]:
    usage = response.usage
    if usage is None:
        return {"prompt_tokens": 0, "completion_tokens": 0}
    cached = getattr(usage, "prompt_tokens_details", None)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": (cached.cached_tokens or 0) if cached else 0,
    }


def _cannot(what: str) -> str:
    return f"engine: an endpoint cannot {what}, which this suite needs; use engine kind vllm for it"
