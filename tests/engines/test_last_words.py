"""The reason why a process of vLLM died is found among what it logged."""

import json
import logging.config
import os
from pathlib import Path

import pytest

from harness.engines.last_words import CONFIG, LastWords


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> LastWords:
    monkeypatch.setenv(CONFIG, "")
    return LastWords("ERROR")


def fail(words: LastWords, *errors: Exception) -> None:
    """Log errors as a process does that was told how to log."""
    logging.config.dictConfig(json.loads(Path(os.environ[CONFIG]).read_text()))
    logger = logging.getLogger("vllm.somewhere")
    for error in errors:
        try:
            raise error
        except Exception:
            logger.exception("It failed.")
    for handler in logging.getLogger("vllm").handlers:
        handler.close()


def test_the_last_error_with_a_reason(words: LastWords) -> None:
    assert str(words) == ""
    elsewhere = Exception("WorkerProc initialization failed due to an exception. See root cause above.")
    fail(words, ValueError("first"), MemoryError("no room\nfor it"), elsewhere)
    assert str(words) == "MemoryError: no room"


def test_one_that_points_elsewhere_is_better_than_none(words: LastWords) -> None:
    fail(words, RuntimeError("See root cause above."))
    assert str(words) == "RuntimeError: See root cause above."


def test_what_was_said_of_another_model_is_forgotten(words: LastWords) -> None:
    fail(words, ValueError("first"))
    words.forget()
    assert str(words) == ""
    fail(words, AssertionError())
    assert str(words) == "AssertionError in `raise error`"
