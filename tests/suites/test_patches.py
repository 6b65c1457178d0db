"""What is changed in the libraries that suites run on: for versions that are known, and in one thread."""

import os
import random
import secrets
import threading
import uuid
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import pytest

from harness.errors import UserError
from harness.suites.agentdojo import Options, build
from harness.suites.agentdojo import patches as of_agentdojo
from harness.suites.lm_eval import Options as TaskOptions
from harness.suites.lm_eval import build as build_task
from harness.suites.lm_eval import patches as of_lm_eval

PLANTED = TaskOptions(task="planted_choice", include_path="harness/suites/planted")


def installed(monkeypatch: pytest.MonkeyPatch, module: ModuleType, package: str, number: str) -> None:
    known = module.version
    monkeypatch.setattr(module, "version", lambda name: number if name == package else known(name))


def test_agentdojo_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, of_agentdojo, "agentdojo", "0.2.0")
    with pytest.raises(UserError, match=r"agentdojo 0\.2\.0 is installed.*: install agentdojo==0\.1\.35$"):
        build(None, Options(suite="agentdojo_mini"))


@pytest.mark.parametrize(
    ("package", "number", "remedy"),
    [
        ("lm-eval", "0.4.14", r"install lm-eval==0\.4\.13$"),
        ("datasets", "6.0.0", r"install datasets==5\.\*$"),
        ("datasets", "3.9.9", r"install datasets==5\.\*$"),
    ],
)
def test_lm_eval_and_datasets_of_another_version_are_refused(
    monkeypatch: pytest.MonkeyPatch, package: str, number: str, remedy: str
) -> None:
    installed(monkeypatch, of_lm_eval, package, number)
    with pytest.raises(UserError, match=f"{package} {number} is installed.*{remedy}"):
        build_task(None, PLANTED)


def test_known_versions_are_those_that_are_installed() -> None:
    of_agentdojo.check_version()
    of_lm_eval.check_versions()


def test_two_threads_are_not_inside_of_agentdojo_at_once() -> None:
    raised: list[Exception] = []

    def elsewhere() -> None:
        try:
            with of_agentdojo.addressed_to("Other"):
                pass
        except RuntimeError as error:
            raised.append(error)

    with of_agentdojo.addressed_to("One"), of_agentdojo.addressed_to("Two"):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert "two threads" in str(raised[0])
    elsewhere()
    assert len(raised) == 1


def drawn() -> list[object]:
    return [random.random(), secrets.token_hex(4), uuid.uuid4(), os.urandom(4)]


def test_draws_come_from_their_seed_and_go_on_where_they_were() -> None:
    draws, again = of_agentdojo.Draws("seed"), of_agentdojo.Draws("seed")
    with draws:
        first = drawn()
    with draws:
        second = drawn()
    with again:
        assert [drawn(), drawn()] == [first, second]
    assert drawn()[1:] != first[1:]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_drawn_outside_goes_on_after_an_error_inside(error: type[BaseException]) -> None:
    real = os.urandom
    random.seed(1)
    expected = [random.random() for _ in range(3)]
    random.seed(1)
    outer = of_agentdojo.Draws("outer")
    values = [random.random()]
    with pytest.raises(error), outer:
        inside = random.getstate()
        with of_agentdojo.Draws("inner"):
            random.random()
        assert random.getstate() == inside
        raise error
    assert [*values, random.random(), random.random()] == expected
    assert os.urandom is real


def test_draws_that_are_ended_as_they_begin_leave_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = random.getstate(), os.urandom

    def ended(module: ModuleType, name: str, new: object) -> object:
        if module is random:
            raise TimeoutError
        return patch.object(module, name, new)

    monkeypatch.setattr(of_agentdojo, "patch", SimpleNamespace(object=ended))
    with pytest.raises(TimeoutError), of_agentdojo.Draws("seed"):
        pass
    assert random.getstate() == before
    assert os.urandom is real
    assert not of_agentdojo._THREADS
