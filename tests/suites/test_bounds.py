"""Code that is not ours is bounded in time, and takes nothing else with it."""

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import bounded as bound
from harness.bounded import bounded
from harness.engines.base import Engine
from harness.errors import AttemptFailure, UserError
from harness.suites import scoring, scoring_processes
from harness.suites.base import Needs, Render, Scoring, Suite
from harness.suites.scoring_processes import Scorers
from harness.types import FailureKind, Sample, Sampling, Score, Transcript

TEXT = "so it seems that the reader who looks at this long line of thought never finds an end to it"
ENDLESS = re.compile(r"(?:so) ((?:[a-z]+,? ?)+)\.")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "LIMIT_SECONDS", 0.4)
    monkeypatch.setattr(bound, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(scoring_processes, "GRACE_SECONDS", 0.3)


def swallow() -> None:
    while True:
        try:
            ENDLESS.findall(TEXT)
        except BaseException:
            return


def deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(6000)


def loop() -> None:
    while True:
        pass


def wrong() -> None:
    raise ValueError("no number")


def unknown() -> None:
    raise UserError("name another")


class Checked(Suite):
    """Scores as the name of the sample says."""

    name, needs = "s", Needs(scoring=Scoring.PROCESS)

    def count(self) -> int:
        return 1

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        return [sample("a")]

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        return Transcript()

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        acts: dict[str, Callable[[], Any]] = {
            "regex": lambda: ENDLESS.findall(TEXT), "swallow": swallow, "deaf": deaf, "loop": loop,
            "wrong": wrong, "unknown": unknown, "die": lambda: os._exit(7),
        }  # fmt: skip
        acts.get(sample.id, int)()
        return (Score(metric="pid", value=float(os.getpid())),)


def sample(name: str) -> Sample:
    return Sample(id=name, content_hash="")


def by(scorers: Scorers, *names: str) -> list[Any]:
    suite = Checked()

    async def all_of_them() -> list[Any]:
        calls = [scorers.score(scorers._suites.get("s", suite), sample(n), Transcript()) for n in names]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("name", ["regex", "swallow", "loop"])
def test_a_section_that_does_not_end_is_ended(name: str) -> None:
    suite = Checked()
    with pytest.raises(AttemptFailure, match=f"scoring document {name} of s took longer than 0.4 s") as found:
        scoring.score(suite, sample(name), Transcript())
    assert found.value.kind is FailureKind.SCORER_ERROR
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_waiting_for_a_busy_machine_is_not_counted_as_what_the_processor_does() -> None:
    with bounded("a filter"):
        time.sleep(2 * bound.LIMIT_SECONDS)
    with pytest.raises(AttemptFailure, match="took longer"), bounded("a filter"):
        time.sleep(60)


def test_inside_of_a_section_and_in_threads_nothing_changes() -> None:
    with bounded("outer"), bounded("inner"):
        assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
    found: list[float] = []

    def elsewhere() -> None:
        with bounded("in a thread"):
            found.append(signal.getitimer(signal.ITIMER_REAL)[1])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [0.0]


def test_the_first_interrupt_ends_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "LIMIT_SECONDS", 6000.0)

    async def hang() -> None:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        await asyncio.sleep(0)
        with bounded("a filter"):
            loop()

    # What runs in the background of a shell is started with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(hang())
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 600, "the limit was waited for"


def children() -> set[str]:
    """Processes that this one has started and not yet seen the end of."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_scorers_are_processes_that_are_replaced() -> None:
    suite = Checked()
    before = children()
    with Scorers([suite]) as scorers:
        first = by(scorers, "a")[0].scores[0].value
        assert first != os.getpid()
        scorers._idle = None
        late, gone, dead, failed, known, after = by(scorers, "regex", "deaf", "die", "wrong", "unknown", "b")
        scorers._idle = None
        assert [x.scores[0].value != os.getpid() for x in (after, *by(scorers, "c", "d"))] == [True] * 3
    for error, message in [
        (late, "scoring document regex of s took longer than 0.4 s and was ended"),
        (gone, "document deaf of s took longer than 0.4 s, heeded no signal"),
        (dead, "ended the process that it ran in"),
        (failed, "ValueError: no number"),
    ]:
        assert isinstance(error, AttemptFailure) and error.kind is FailureKind.SCORER_ERROR
        assert message in error.message
    assert isinstance(known, UserError)
    assert children() <= before, "none is left"


def test_a_run_that_is_stopped_waits_for_no_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "LIMIT_SECONDS", 6000.0)
    suite = Checked()

    async def stopped(scorers: Scorers) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scorers.score(suite, sample("deaf"), Transcript()), 0.5)

    began = time.monotonic()
    with Scorers([suite]) as scorers:
        asyncio.run(stopped(scorers))
    assert time.monotonic() - began < 600, "the limit was waited for"


def test_suites_that_run_no_code_of_others_fork_nothing() -> None:
    with Scorers([]) as scorers:
        assert by(scorers, "a")[0].scores[0].value == os.getpid()
