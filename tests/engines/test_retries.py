"""What a server costs that is gone for a while."""

import asyncio
import time
from typing import Any, cast

import pytest

from harness.engines.metered import BusyClock
from harness.engines.retries import PatientServer
from harness.engines.wire import Blame, Fault, Wire

GONE = 2.0


class Gone:
    """In place of `Wire`: answers nobody for a while after the first answer."""

    base_url = "http://server/v1"

    def __init__(self, fails_after: float) -> None:
        self._fails_after = fails_after
        self._answers_from: float | None = None

    async def post(self, path: str, body: dict[str, Any], timeout_seconds: float | None = None) -> Any:
        now = time.monotonic()
        if self._answers_from is None:
            self._answers_from = now + GONE
        elif now < self._answers_from:
            await asyncio.sleep(min(self._fails_after, self._answers_from - now))
            raise Fault(Blame.SERVER, "gone")
        return {}


@pytest.mark.parametrize("fails_after", [0.0, GONE])
async def test_waiting_for_a_server_that_is_gone_is_no_time_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, fails_after: float
) -> None:
    monkeypatch.setattr("harness.engines.retries.FIRST_PAUSE", 0.02)
    monkeypatch.setattr("harness.engines.retries.LONGEST_PAUSE", 0.05)
    server = PatientServer(cast("Wire", Gone(fails_after)), max_retries=9, patience_seconds=60)
    clock = BusyClock(idle=lambda: server.gone_seconds)

    async def ask() -> float:
        entered = clock.enter()
        await server.ask("/completions", {}, dict)
        return clock.leave(entered).seconds

    started = time.monotonic()
    charged = [await ask(), *await asyncio.gather(ask(), ask(), ask())]
    assert time.monotonic() - started > GONE
    assert server.gone_seconds > GONE / 2
    assert 0.0 <= sum(charged) < GONE / 2
    before = server.gone_seconds
    assert await ask() < GONE / 2
    assert server.gone_seconds == before
