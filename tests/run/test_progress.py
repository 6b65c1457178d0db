"""What a person reads while a run is under way."""

from io import StringIO

from rich.console import Console

from harness.run.progress import LiveProgress


def test_a_model_of_which_nothing_can_be_measured_was_not_finished_before() -> None:
    said = StringIO()
    progress = LiveProgress(Console(file=said, width=100))
    progress.begun("refused", {}, {})
    progress.begun("whole", {"a": 3}, {"a": 3})
    progress.begun("half", {"a": 3}, {"a": 1})
    assert said.getvalue().splitlines() == [
        "refused: nothing of it can be measured",
        "whole: everything was finished before",
        "half: loading (1 attempts are kept)",
    ]
