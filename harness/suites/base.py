"""The protocol of a suite: what is asked, and how a transcript is scored.

`run` needs a model; `score` needs only the transcript, so that scores can be redone years later.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from harness.engines.base import Engine
from harness.types import (
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


class Suite(Protocol):
    """One suite of one run, with its options resolved."""

    name: str
    """Unique within the run; metrics are reported as `<name>/<metric>`."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What this suite measures."""
        ...

    @property
    def protocol(self) -> dict[str, str]:
        """Field -> value (or its digest) of everything of this suite that could change a score."""
        ...

    def count(self) -> int:
        """Number of samples, without a model."""
        ...

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """The samples, in a fixed order, as this model is to be shown them.

        Args:
            model_name: how the model is called in prose, for attacks that address it by name.
            render: its chat template, or None where the suite does not use one.
        """
        ...

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Put one sample to the model. Raises `AttemptFailure`."""
        ...

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """Score a whole transcript. One score a metric that applies to this sample: benign samples
        of a hijack suite have no attack metrics. Raises `AttemptFailure`.
        """
        ...


class Needs(Struct):
    """What a suite asks of an engine and of the model in it."""

    tools: bool = False
    """Chats in which the model is offered tools."""
    rendered_chats: bool = False
    """The text that the model's chat template makes of a conversation."""
    loglikelihoods: bool = False
    """How likely given texts are."""
    system_message: bool = False
    """What is measured stands in the system message, as with a defence that is a prompt."""
    user_after_results: bool = False
    """The user speaks right after tool results."""
    users_in_a_row: bool = False
    """The user speaks twice before the model does."""
    sandbox: bool = False
    """To score is to run programs that the model wrote, which takes a sandbox and its time."""


@runtime_checkable
class Needing(Protocol):
    """A suite that asks for more than chats without tools and completions says so here."""

    @property
    def needs(self) -> Needs:
        """What it asks for, known before anything is loaded."""
        ...


def needs_of(suite: Suite) -> Needs:
    """What a suite asks for: nothing in particular where it does not say."""
    return suite.needs if isinstance(suite, Needing) else Needs()


@runtime_checkable
class DrawsItself(Protocol):
    """A suite whose replies are not drawn as the run's `sampling` says has this."""

    def drawn(self, sampling: Sampling) -> Sampling | None:
        """How its replies are drawn in a run with this sampling; None if it draws none."""
        ...


def drawn_sampling(suite: Suite, sampling: Sampling) -> Sampling | None:
    """How the replies of a suite are drawn in a run with this sampling; None if it draws none."""
    return suite.drawn(sampling) if isinstance(suite, DrawsItself) else sampling


@runtime_checkable
class Prompting(Protocol):
    """A suite that can make its prompts without a model has this."""

    def longest_prompt(self) -> tuple[str, str] | None:
        """The longest prompt: (id of the sample, text without a chat template, with what is scored).

        None if it has none.
        """
        ...


@runtime_checkable
class Prepared(Protocol):
    """A suite may need more than the model that is measured, such as a classifier. Then it has these too."""

    def check(self) -> str | None:
        """What is to be downloaded before a run, in words, None for nothing. Loads no model that is measured.

        Raises:
            UserError: the suite cannot be run.
        """
        ...

    def prepare(self) -> None:
        """Get and load what a run needs, before any model that is measured is loaded. Raises as `check`."""
        ...


@runtime_checkable
class Grouped(Protocol):
    """A suite may be a part of a benchmark of several suites. Then it has this too."""

    groups: tuple[SuiteGroup, ...]
    """The groups of the entry of the config that it comes from, the whole first."""


@runtime_checkable
class BooksFailures(Protocol):
    """A suite may keep somebody else's books beside its own (metrics with a `booking`). It has this too."""

    def score_failed(self, sample: Sample, transcript: Transcript, failure: FailureKind) -> tuple[Score, ...]:
        """Scores of an attempt that failed, of metrics with a `booking` alone; none if the books have none.

        Args:
            sample: of the attempt.
            transcript: as far as the attempt got, its last reply included.
            failure: why it ended.
        """
        ...
