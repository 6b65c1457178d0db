"""A function in a process of its own: its answer, its error, its end."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from harness.errors import UserError
from harness.forked import NoAnswer, cores, forked, shared_out


def test_it_returns_and_raises_as_if_it_were_called_here() -> None:
    here = os.getpid()
    with forked(os.getpid) as first, forked(lambda: [here, 2]) as second:
        assert second() == [here, 2]
        assert first() != here

    def refuse() -> None:
        raise UserError("no such suite")

    with forked(refuse) as answer, pytest.raises(UserError, match="no such suite"):
        answer()


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "seconds", "said"),
    [(killed, None, "ended by the machine"), (signal.pause, 0.1, "did not answer in 0.1 s")],
)
def test_no_answer_is_told(work: Callable[[], None], seconds: float | None, said: str) -> None:
    with forked(work, seconds) as answer, pytest.raises(NoAnswer, match=said):
        answer()


def test_its_process_ends_with_the_context() -> None:
    told, tells = os.pipe()

    def wait_for_ever() -> None:
        os.write(tells, str(os.getpid()).encode())
        signal.pause()

    with pytest.raises(KeyboardInterrupt), forked(wait_for_ever):
        process = int(os.read(told, 20))
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    for end in (told, tells):
        os.close(end)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever threads other tests left."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@pytest.mark.usefixtures("alone")
def test_items_are_shared_out_and_come_in_their_order() -> None:
    found = list(shared_out(lambda item: (item, os.getpid()), range(7), 2))
    assert [item for item, _ in found] == [*range(7)]
    assert len({process for _, process in found} - {os.getpid()}) == 2
    assert list(shared_out(str, [], 2)) == [] and cores() >= 1


@pytest.mark.usefixtures("alone")
def test_an_error_comes_in_its_place() -> None:
    def reciprocal(item: int) -> float:
        return 1 / item

    found = shared_out(reciprocal, [1, 2, 0, 4], 2)
    assert [next(found), next(found)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(found)


class Refused(Exception):
    """Of two arguments, one of which it hands on: it is pickled, and cannot be made again."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")


def unpicklable() -> None:
    error = ValueError("no such group")
    error.at = threading.Lock()  # type: ignore[attr-defined]
    raise error


def refuse() -> None:
    raise Refused("a.json", "is damaged")


@pytest.mark.parametrize(
    ("work", "said"),
    [(refuse, "Refused: a.json: is damaged"), (unpicklable, "ValueError: no such group")],
)
def test_what_an_error_says_is_not_lost_with_its_class(work: Callable[[], None], said: str) -> None:
    """Others told of a broken pool in its place: strictdoc#3201, pythonfutures#30, result#200."""
    with forked(work) as answer, pytest.raises(RuntimeError, match=said):
        answer()


@pytest.mark.usefixtures("alone")
def test_of_several_processes_one_that_is_killed_is_told() -> None:
    """Others waited for ever: taskgraph#116, oktoberfest#372, LiCSBAS2#164."""

    def work(item: int) -> int:
        if item == 3:
            killed()
        return item

    found = shared_out(work, range(6), 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(NoAnswer, match="ended by the machine"):
        next(found)


@pytest.mark.usefixtures("alone")
def test_processes_end_when_the_one_that_asked_is_killed() -> None:
    """Others went on for days: simpler#1493, mloda#1322."""
    alive, told = os.pipe()
    if (process := os.fork()) == 0:
        found = shared_out(lambda item: item, range(1000), 2)
        next(found)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(told)
    os.waitpid(process, 0)
    assert os.read(alive, 1) == b""  # once all have ended that could write to it
    os.close(alive)


def test_beside_other_threads_nothing_is_forked() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert {*shared_out(lambda _: os.getpid(), range(4), 2)} == {os.getpid()}
    over.set()
    thread.join()
