"""A function in a process of its own: its answer, its error, its end."""

import os
import signal
from collections.abc import Callable

import pytest

from harness.errors import UserError
from harness.forked import NoAnswer, forked


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
