"""What an engine answers is checked before it is kept: a record that no one can read is worse than none."""

import math

import msgspec
import pytest

from harness.engines.metered import EDGE_SECONDS, BusyClock, MeteredEngine
from harness.engines.scripted import ScriptedEngine
from harness.errors import AttemptFailure
from harness.types import FailureKind, Generation, LogLikelihood, Sampling

NO_NUMBERS = (math.nan, math.inf, -math.inf)

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("value", NO_NUMBERS)
async def test_a_log_probability_that_is_no_number_fails_its_attempt(value: float) -> None:
    engine = MeteredEngine(ScriptedEngine(score=lambda context, continuation: value), BusyClock())
    for asked in (engine.score("a", ["b", "c"]), engine.score_rolling("a b")):
        with pytest.raises(AttemptFailure, match="not a number") as failed:
            await asked
        assert failed.value.kind is FailureKind.ENGINE_ERROR
    assert engine.transcript.loglikelihoods == ()


@pytest.mark.parametrize("value", NO_NUMBERS)
async def test_a_time_that_is_no_number_fails_its_attempt(value: float) -> None:
    class Timeless(ScriptedEngine):
        async def complete(self, prompt: str, sampling: Sampling) -> Generation:
            return msgspec.structs.replace(await super().complete(prompt, sampling), seconds=value)

    engine = MeteredEngine(Timeless(), BusyClock())
    with pytest.raises(AttemptFailure, match="seconds"):
        await engine.complete("a", Sampling())
    assert engine.transcript.generations == ()


@pytest.mark.parametrize("value", NO_NUMBERS)
async def test_energy_that_is_no_number_is_not_measured(value: float) -> None:
    counts = iter((1.0, value))
    engine = MeteredEngine(ScriptedEngine(delay=2 * EDGE_SECONDS), BusyClock(lambda: next(counts)))
    await engine.complete("a", Sampling())
    assert engine.usage.joules is None
    assert math.isfinite(engine.usage.engine_seconds)


async def test_numbers_are_kept() -> None:
    engine = MeteredEngine(ScriptedEngine(score=lambda context, continuation: -1.5), BusyClock())
    (found,) = await engine.score("a", ["b"])
    assert engine.transcript.loglikelihoods == (found,)
    assert msgspec.json.decode(msgspec.json.encode(found), type=LogLikelihood) == found
