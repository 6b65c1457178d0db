"""Asking a server until it answers: which failures are a request's own, and when a server is given up.

A request is to blame where the server answers others, one that says next to nothing if there is no other.
Where it answers nobody, everybody waits; what was never answered is owed, and no attempt has failed.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness.engines.wire import Blame, Fault, Wire
from harness.errors import AttemptFailure, ServerGone, UserError
from harness.types import FailureKind

OVERFLOW_WORDS = ("context length", "context_length", "maximum model length", "too long", "too many tokens")
"""What servers write when a prompt does not fit (vLLM, OpenAI, SGLang, llama.cpp, Anthropic)."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two tries of a request, doubled from one to the next."""
PROBE_SECONDS = 60.0
"""Within which a server that serves answers a request for one token."""
QUIET_SECONDS = 5.0
"""After which a line says what is waited for."""
NOTE_SECONDS = 60.0
"""Between two such lines."""

log = logging.getLogger(__name__)


class PatientServer:
    """A server that may be busy, be restarted or go away."""

    def __init__(self, wire: Wire, max_retries: int, patience_seconds: float) -> None:
        """Args: see `harness.engines.endpoint.Arguments`."""
        self._wire = wire
        self._max_retries = max_retries
        self._patience = patience_seconds
        self._answered: float | None = None
        """When an answer came last."""
        self._served = float("-inf")
        """When the latest of the requests was sent that were answered."""
        self._up_since: float | None = None
        """Since when the server is known to serve, None while it is not known to."""
        self._blamed = self._unanswered_probe = self._noted = float("-inf")
        self._gone_since: float | None = None
        """Since when nobody is answered, None where somebody was since the last failure."""
        self._gone_before = 0.0
        self._probing = asyncio.Lock()
        self._on_wire = 0

    @property
    def gone_seconds(self) -> float:
        """For how long so far nobody was answered while somebody asked, beginning with what failed first."""
        now = 0.0 if self._gone_since is None else time.monotonic() - self._gone_since
        return self._gone_before + now

    async def ask(self, path: str, body: dict[str, Any], probe: Callable[[], dict[str, Any]]) -> Any:
        """The JSON that answers a request.

        Args:
            path: below the base URL.
            body: of the request.
            probe: makes a request of the same kind that a server which serves anybody answers.

        Raises:
            AttemptFailure: this request cannot be answered, while others can.
            ServerGone: no request is answered, for longer than the patience lasts.
            UserError: the server never answered, and refuses every request.
        """
        began, strikes, waits = time.monotonic(), 0, pauses()
        while True:
            started = time.monotonic()
            try:
                return await self._try(path, body)
            except Fault as fault:
                problem, failed = fault, time.monotonic()
            if self._own(problem):
                raise AttemptFailure(_kind(problem), problem.message) from problem
            if self._gone_since is None:
                self._gone_since = max(started, self._answered or started)
            await self._wait(problem, began, next(waits))
            if problem.blame is Blame.BUSY:
                continue
            up_since = self._up_since
            if await self._serves(failed, path, probe):
                # What failed before the server was seen to be up may have failed for that alone.
                strikes += up_since is not None and started >= up_since
                if problem.blame is Blame.REQUEST or strikes > self._max_retries:
                    raise AttemptFailure(_kind(problem), problem.message) from problem
            elif self._answered is None and problem.blame is not Blame.SERVER and not self._on_wire:
                raise UserError(
                    f"base_url: {self._wire.base_url} refuses every request ({problem.message}); check the "
                    "URL, which ends in /v1 as a rule, the model and api_key_env"
                ) from problem

    async def _try(self, path: str, body: dict[str, Any], timeout_seconds: float | None = None) -> Any:
        self._on_wire += 1
        started = time.monotonic()
        try:
            answer = await self._wire.post(path, body, timeout_seconds)
        finally:
            self._on_wire -= 1
        self._answered = time.monotonic()
        if self._gone_since is not None:
            self._gone_before, self._gone_since = self._gone_before + self._answered - self._gone_since, None
        self._served = max(self._served, started)
        if self._up_since is None:
            self._up_since = self._answered
        return answer

    def _own(self, problem: Fault) -> bool:
        """Whether a failure is the request's own beyond doubt.

        A refusal is one if others were answered since the last: a server that was started again without its
        parser of tool calls refuses everybody.
        """
        if _kind(problem) is FailureKind.CONTEXT_OVERFLOW:
            return True
        if problem.blame is not Blame.REQUEST or self._answered is None or self._answered < self._blamed:
            return False
        self._blamed = time.monotonic()
        return True

    async def _wait(self, problem: Fault, began: float, pause: float) -> None:
        """Sleep before the next try.

        Raises:
            ServerGone: patience is at its end, or shorter than what the server asks for.
        """
        now = time.monotonic()
        quiet = now - max(began, self._answered or began)
        left = self._patience - quiet
        asked = problem.retry_after
        if left <= 0 or (asked is not None and asked > left):
            wants = f"asks to wait {asked:.0f} s" if asked else f"has answered nothing for {quiet:.0f} s"
            raise ServerGone(
                f"the server at {self._wire.base_url} {wants} ({problem.message}), and engine.args."
                f"patience_seconds is {self._patience:g}"
            )
        if now - self._noted >= NOTE_SECONDS and max(quiet, asked or 0.0) > QUIET_SECONDS:
            self._noted = now
            log.warning(
                "waiting for the server at %s, for up to %.0f s more (%s)",
                self._wire.base_url,
                left,
                problem.message,
            )
        await asyncio.sleep(min(pause, left) if asked is None else asked)

    async def _serves(self, since: float, path: str, probe: Callable[[], dict[str, Any]]) -> bool:
        """Whether the server has answered any request that was sent since then, else whether it does now."""
        async with self._probing:
            if self._served > since:
                return True
            if self._unanswered_probe > since:
                return False
            try:
                await self._try(path, probe(), PROBE_SECONDS)
            except Fault:
                self._unanswered_probe = time.monotonic()
                self._up_since = None
                return False
            return True


def pauses() -> Iterator[float]:
    """Seconds before each further try; drawn, so that requests that failed together do not come together."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.75, 1.0)
        pause = min(2 * pause, LONGEST_PAUSE)


def _kind(fault: Fault) -> FailureKind:
    words = fault.message.lower()
    overflow = fault.status in (400, 413, 422) and any(phrase in words for phrase in OVERFLOW_WORDS)
    return FailureKind.CONTEXT_OVERFLOW if overflow else FailureKind.ENGINE_ERROR
