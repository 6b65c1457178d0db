"""The contract of a suite: what is asked, how a transcript is scored, and what that takes.

`run` needs a model; `score` needs only the transcript, so that scores can be redone years later. What a suite
does not say has a default here, so that no caller has to look for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from harness.config import RunConfig
from harness.engines.base import Engine
from harness.suites.explanation import Explanation
from harness.types import (
    Caution,
    Declared,
    FailureKind,
    Message,
    Metric,
    Sample,
    Sampling,
    Score,
    Struct,
    SuiteGroup,
    Transcript,
)

Render = Callable[[Sequence[Message], bool], str]
"""(messages, add_generation_prompt) -> prompt text, by a model's chat template."""


class Scoring(StrEnum):
    """Where a suite's attempts are scored."""

    INLINE = "inline"
    """In the process of the run, one at a time, within `bounded.LIMIT_SECONDS`."""
    PROCESS = "process"
    """In a process of its own that can be killed: scoring is code that is not ours, on what a model wrote."""
    THREADS = "threads"
    """In threads, several at once: it takes seconds, waits for something else, and bounds its own time."""


class ModelRole(StrEnum):
    """What a model is for that is not the one that is measured."""

    JUDGE = "judge"
    """Scores transcripts, after the run."""
    USER = "user_simulator"
    OPERATOR = "operator"
    ATTACKER = "attacker"
    DETECTOR = "detector"
    """Reads what tools give, and says what is to be withheld from the agent."""


class SecondModel(Struct):
    """A model that a suite needs beside the one that is measured."""

    role: ModelRole
    path: str
    """Folder, hub id, or `package.module:function`."""
    revision: str | None = None
    device: str = "cpu"
    """`cpu`, or a GPU such as `cuda:0`, which the measured model has to leave its memory."""
    weight_bytes: int | None = None
    """None where that is not known, as of files that are not on this machine."""

    @property
    def during(self) -> bool:
        """Whether it is there while the measured model is; a judge comes when that is gone."""
        return self.role is not ModelRole.JUDGE


class Needs(Struct):
    """What a suite asks of an engine, of the model in it, and of the machine, before anything is loaded."""

    tools: bool = False
    """Chats in which the model is offered tools."""
    chat_template: bool = False
    """The text that the model's chat template makes of a conversation, for prompts that are one text."""
    bare_prompts: bool = False
    """Replies to texts as they are, without the model's chat template."""
    loglikelihoods: bool = False
    """How likely given texts are."""
    system_message: bool = False
    """What is measured stands in the system message, as with a defence that is a prompt."""
    user_after_results: bool = False
    """The user speaks right after tool results."""
    users_in_a_row: bool = False
    """The user speaks twice before the model does."""
    sandbox: bool = False
    """To score is to run programs that the model wrote, which takes a sandbox."""
    scoring: Scoring = Scoring.INLINE
    data: dict[str, str | None] = {}
    """Data set of the hub, as it was asked for -> the commit that was read, None for a copy of no commit."""
    models: tuple[SecondModel, ...] = ()
    """Models beside the measured one."""


class Suite(ABC):
    """One suite of one run, with its options resolved. A suite of one's own is a subclass."""

    name: str
    """Unique within the run; metrics are reported as `<name>/<metric>`."""
    drawn_from: int | None = None
    """How many samples there are, where those that are asked were drawn from them at random."""
    drawn_factors: tuple[str, ...] | None = None
    """The clustering factors of the samples that were drawn; None where all were."""
    by_difficulty: tuple[str, ...] = ()
    """Ids of the samples, easiest first, where every k-th was drawn in that order."""
    groups: tuple[SuiteGroup, ...] = ()
    """The groups of the entry of the config that it comes from, the whole first."""

    # These may as well be attributes of an instance or of the class.

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """What this suite measures."""
        raise NotImplementedError

    @cached_property
    def protocol(self) -> dict[str, str]:
        """Field -> value (or its digest) of everything of this suite that could change a score. The field
        `adapter` is always there.
        """
        raise NotImplementedError

    @cached_property
    def needs(self) -> Needs:
        """What it asks for: chats without tools."""
        return Needs()

    @cached_property
    def declared(self) -> Declared:
        """What follows from its metrics, and what else analysis has to know of them: nothing."""
        return Declared()

    # What is asked

    @abstractmethod
    def count(self) -> int:
        """Number of samples, without a model."""

    @abstractmethod
    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """The samples, in a fixed order, as this model is to be shown them.

        Args:
            model_name: how the model is called in prose, for attacks that address it by name.
            render: its chat template, or None where the suite does not use one.
        """

    @abstractmethod
    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Put one sample to the model. Raises `AttemptFailure`."""

    def drawn(self, sampling: Sampling) -> Sampling | None:
        """How its replies are drawn in a run with this sampling: as the run says. None if it draws none."""
        return sampling

    def attempts(self, asked: int, sampling: Sampling) -> int:
        """How many of the attempts that a run asks for are made at a sample: one if all would be alike."""
        return asked

    # How it is scored

    @abstractmethod
    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """Score a whole transcript. One score a metric that applies to this sample: benign samples
        of a hijack suite have no attack metrics. Raises `AttemptFailure`.
        """

    def score_failed(self, sample: Sample, transcript: Transcript, failure: FailureKind) -> tuple[Score, ...]:
        """Scores of an attempt that failed, of metrics with a `booking` alone. None: a failure is missing.

        Args:
            sample: of the attempt.
            transcript: as far as the attempt got, its last reply included.
            failure: why it ended.
        """
        return ()

    # What it takes

    def check(self) -> str | None:
        """What is to be downloaded before a run, in words, None for nothing. Loads no model that is measured.

        Raises:
            UserError: the suite cannot be run.
        """
        return None

    def prepare(self) -> None:  # noqa: B027  (most suites have nothing to do here)
        """Get and load what a run needs, before any model that is measured is loaded. Raises as `check`."""

    async def keep_logs(self, folder: Path) -> None:  # noqa: B027  (most suites have none)
        """Put what code of others has logged about attempts into a folder, for people: nothing here reads it.

        Called when no attempt is made any more. Raises DiskError.
        """

    async def close(self) -> None:  # noqa: B027  (most suites have nothing to do here)
        """Release what attempts have loaded beside the measured model, whose engine has done its work."""

    # What a reader should know

    def cautions(self, config: RunConfig) -> Iterable[Caution]:
        """What bears on its numbers, by its data and options alone. `suite` is set, `model` is not."""
        return ()

    def longest_prompt(self) -> tuple[str, str] | None:
        """The longest prompt: (id of the sample, text without a chat template, with what is scored).

        None where prompts cannot be made without a model.
        """
        return None

    def reading(self) -> str:
        """What it looks for in replies, as far as that can be told: patterns, and code that reads them."""
        return ""

    def prompts(self, sample: Sample) -> tuple[tuple[str, ...], ...]:
        """The texts of every request of a sample that holds no conversation: a prompt, or a context and
        what is scored behind it.
        """
        return ()

    def explain(self, sample: Sample, transcript: Transcript) -> Explanation:
        """What there is to say about an attempt, for a person who reads it."""
        return Explanation()
