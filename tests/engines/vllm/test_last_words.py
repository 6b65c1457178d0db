"""The reason why a process of vLLM died is found among what it logged."""

import json
import logging.config
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engines.vllm.last_words import CONFIG, LOG, LastWords


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> LastWords:
    monkeypatch.setenv(CONFIG, "")
    return LastWords()


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


def test_a_log_of_ones_own_is_added_to_and_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "engine.log"
    log.write_text("ValueError: of an earlier one\n")
    monkeypatch.setenv(LOG, str(log))
    monkeypatch.setenv(CONFIG, "set anew by what follows")
    words = LastWords()
    assert words.keep() == log and str(words) == ""
    with log.open("a") as file:
        file.write("ValueError: of this one\n")
    assert str(words) == "ValueError: of this one"


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


NEEDED = (
    "To serve at least one request with the model's max seq len (4096), (0.0 GiB KV cache is needed, which "
    "is larger than the available KV cache memory (0.0 GiB). Try increasing `gpu_memory_utilization`."
)


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        (NEEDED, "the key-value cache has no room for one request of max_model_len 4096"),
        (
            "No available memory for the cache blocks. Try increasing",
            "no memory is left for the key-value cache",
        ),
    ],
)
def test_memory_is_told_in_plain_words(words: LastWords, said: str, plain: str) -> None:
    fail(words, ValueError(said))
    assert str(words) == plain


def test_a_long_error_is_cut_between_words(words: LastWords) -> None:
    fail(words, ValueError(" ".join(["syllable"] * 100)))
    assert len(str(words)) <= 500
    assert str(words).endswith("syllable ...")


def test_what_is_written_to_stderr_meanwhile_is_heard_and_not_shown(
    words: LastWords, capfd: pytest.CaptureFixture[str]
) -> None:
    with words.heard():
        subprocess.run([sys.executable, "-c", "raise OSError('no such device')"], check=False)
    subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('later')"], check=True)
    assert str(words) == "OSError: no such device"
    assert capfd.readouterr().err == "later"
    assert words.keep().read_text().endswith("OSError: no such device\n")
