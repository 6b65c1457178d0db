"""Solved examples of lm-eval's prompts, without the one that is asked.

lm-eval leaves the document that is asked out of its own examples only where `fewshot_split` and `test_split`
are written and equal (lm-evaluation-harness #4145). Elsewhere a task may show the model the answer. Here an
example with the same question and answer is replaced; every other prompt is lm-eval's, to the letter.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from harness.errors import UserError


class Examples:
    """Stands in for a task's sampler, which draws the examples."""

    def __init__(self, task: Any) -> None:
        """Args: task: of lm-eval, with a sampler."""
        self._task, self._sampler = task, task.sampler
        self._shown: dict[int, tuple[str, str]] = {}
        """Place of an example in memory -> its question and answer. The sampler keeps them all."""
        self.asked: Any = None
        """The document whose prompt is made."""
        self.replaced = False
        """Whether an example of the last prompt was replaced."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def sample(self, n: int, *args: Any, **kwargs: Any) -> Sequence[Any]:
        """`n` examples as the sampler draws them, but for those that give the answer away."""
        drawn = list(self._sampler.sample(n, *args, **kwargs))
        question = self._read(self.asked, example=False)
        own = [i for i, doc in enumerate(drawn) if doc == self.asked or self._example(doc) == question]
        self.replaced = bool(own)
        if own:
            others = [doc for doc in self._sampler.df if doc != self.asked and doc not in drawn]
            others = [doc for doc in others if self._example(doc) != question]
            if len(others) < len(own):
                raise UserError(
                    f"{n} solved examples are asked for, and {n - len(own) + len(others)} are left without "
                    "the question itself: lower num_fewshot"
                )
            for place, doc in zip(own, Random("".join(question)).sample(others, len(own)), strict=True):
                drawn[place] = doc
        return drawn

    def _example(self, doc: Any) -> tuple[str, str]:
        if id(doc) not in self._shown:
            self._shown[id(doc)] = self._read(doc, example=True)
        return self._shown[id(doc)]

    def _read(self, doc: Any, *, example: bool) -> tuple[str, str]:
        """(question, answer) as a prompt shows them."""
        task, how = self._task, self._task.fewshot_cfg if example else self._task.config
        question, answer = task.doc_to_text(doc, how.doc_to_text), task.doc_to_target(doc, how.doc_to_target)
        choices = task.doc_to_choice(doc, how.doc_to_choice) if how.doc_to_choice else []
        if isinstance(answer, list):
            answer = answer[0] if answer else ""
        return tuple(_text(part, choices) for part in (question, answer))  # type: ignore[return-value]


def _text(part: Any, choices: Sequence[Any]) -> str:
    """A question or an answer, which may be the number of a choice."""
    numbered = isinstance(part, int) and 0 <= part < len(choices)
    return str(choices[part] if numbered else part).strip()
