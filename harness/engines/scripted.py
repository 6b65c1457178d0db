"""A deterministic engine without a model, for tests of everything that is built on engines.

A policy says what the model would have said. Words count as tokens.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence

from harness.engines.base import Load
from harness.errors import AttemptFailure, EngineDead
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


class Reply(Struct):
    """What a scripted model says."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    finish_reason: FinishReason | None = None
    """None: `tool_calls` if there are any, `length` if the text is over the budget, else `stop`."""
    parse_error: str | None = None


ChatPolicy = Callable[[Sequence[Message], Sequence[Tool], Sampling], Reply]
"""May raise what an engine may raise."""
CompletePolicy = Callable[[str, Sampling], Reply]
ScorePolicy = Callable[[str, str], float]
"""(context, continuation) -> log-probability in nats."""


def echo(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
    """Say the last message again."""
    return Reply(text=messages[-1].content)


def sequence(replies: Iterable[Reply]) -> ChatPolicy:
    """Say one reply after the other, by the turns of each conversation: a conversation with n replies
    of the assistant in it gets the reply with index n; after the last one, the last one again.
    """
    script = tuple(replies)

    def policy(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        turn = sum(message.role == "assistant" for message in messages)
        return script[min(turn, len(script) - 1)]

    return policy


def echo_line(prompt: str, sampling: Sampling) -> Reply:
    """Say the last line of the prompt again."""
    return Reply(text=prompt.rsplit("\n", 1)[-1])


def hashed_score(context: str, continuation: str) -> float:
    """A log-probability between -10 and 0 that only depends on the two texts."""
    digest = hashlib.sha256(f"{context}\x00{continuation}".encode()).digest()
    return -10.0 * int.from_bytes(digest[:8], "big") / 2**64


class ScriptedEngine:
    """Satisfies `Engine`. Cancelling a call leaves no trace of it."""

    def __init__(
        self,
        chat: ChatPolicy = echo,
        *,
        complete: CompletePolicy = echo_line,
        score: ScorePolicy = hashed_score,
        delay: float = 0.0,
        max_model_len: int | None = None,
        max_num_seqs: int = 256,
    ) -> None:
        """Answer by policies.

        Args:
            chat: what is said in conversations.
            complete: how a text goes on.
            score: how likely a continuation is; the likeliest of those asked for together is greedy.
            delay: seconds that each request takes.
            max_model_len: prompts of so many words or more are refused; None refuses none.
            max_num_seqs: requests that run at once; the others wait.
        """
        self.facts = EngineFacts(name="scripted", version="1", details={"delay": str(delay)})
        self.requests = 0
        """Requests answered so far."""
        self._chat, self._complete, self._score = chat, complete, score
        self._delay = delay
        self._max_model_len = max_model_len
        self._max_num_seqs = max_num_seqs
        self._slots = asyncio.Semaphore(max_num_seqs)
        self._in_flight = 0
        self._closed = False

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        """Reply by the chat policy. Raises what the policy raises."""
        prompt = self.render(messages)
        started = time.perf_counter()
        await self._serve(prompt)
        return _generation(prompt, self._chat(messages, tools, sampling), sampling, started)

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """Continue by the completion policy. Raises what the policy raises."""
        started = time.perf_counter()
        await self._serve(prompt)
        return _generation(prompt, self._complete(prompt, sampling), sampling, started)

    async def score(self, context: str, continuations: Sequence[str]) -> list[LogLikelihood]:
        """Log-likelihoods by the score policy."""
        await self._serve(context)
        chances = [self._score(context, continuation) for continuation in continuations]
        return [
            LogLikelihood(
                logprob=chance,
                is_greedy=chance == max(chances),
                tokens=len(continuation.split()),
                prompt_tokens=len(context.split()) if index == 0 else 0,
            )
            for index, (chance, continuation) in enumerate(zip(chances, continuations, strict=True))
        ]

    async def score_rolling(self, text: str) -> LogLikelihood:
        """Log-likelihood of a text by the score policy, without a context."""
        (whole,) = await self.score("", [text])
        return whole

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """One line a message: role, colon, content."""
        lines = [f"{message.role}: {message.content}" for message in messages]
        return "\n".join([*lines, "assistant:"] if add_generation_prompt else lines)

    def load(self) -> Load:
        """Requests running and waiting now."""
        running = min(self._in_flight, self._max_num_seqs)
        return Load(running=running, waiting=self._in_flight - running)

    async def close(self) -> None:
        """No further request is answered."""
        self._closed = True

    async def _serve(self, prompt: str) -> None:
        self._check(prompt)
        self._in_flight += 1
        try:
            async with self._slots:
                await asyncio.sleep(self._delay)
        finally:
            self._in_flight -= 1
        self._check(prompt)
        self.requests += 1

    def _check(self, prompt: str) -> None:
        if self._closed:
            raise EngineDead("the engine was closed")
        words = len(prompt.split())
        if self._max_model_len is not None and words >= self._max_model_len:
            raise AttemptFailure(
                FailureKind.CONTEXT_OVERFLOW,
                f"the prompt has {words} tokens, the model's context {self._max_model_len}",
            )


def _generation(prompt: str, reply: Reply, sampling: Sampling, started: float) -> Generation:
    words = reply.text.split()
    over = len(words) > sampling.max_tokens
    text = " ".join(words[: sampling.max_tokens]) if over else reply.text
    finished: FinishReason = "length" if over else "tool_calls" if reply.tool_calls else "stop"
    return Generation(
        text=text,
        raw=_raw(text, reply),
        finish_reason=reply.finish_reason or finished,
        prompt_tokens=len(prompt.split()),
        completion_tokens=max(1, min(len(words), sampling.max_tokens)),
        reasoning=reply.reasoning,
        tool_calls=reply.tool_calls,
        parse_error=reply.parse_error,
        seconds=time.perf_counter() - started,
    )


def _raw(text: str, reply: Reply) -> str:
    thought = f"<think>{reply.reasoning}</think>" if reply.reasoning is not None else ""
    calls = "".join(f"<tool_call>{call.name}({call.arguments})</tool_call>" for call in reply.tool_calls)
    return thought + text + calls
