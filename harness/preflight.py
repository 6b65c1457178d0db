"""What can be known of every cell before anything is loaded: one page of checks, each a sentence.

A check reads the files of a checkpoint (not its weights), the config and the suite, and yields a `Caution`
for what a reader of the numbers would want to have known. `harness plan` prints them, `plan --strict` fails
on them, and the manifest keeps them for the cards. What would measure nothing at all is `void`, and refused.

A suite that knows something itself (its data, its budgets) has the method of `Cautious`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from harness.config import ModelSpec, RunConfig
from harness.models import checkpoint
from harness.suites.base import Suite
from harness.types import Architecture, Caution


@dataclass(frozen=True)
class PlannedModel:
    """A model of the run, with what its checkpoint says where that is on this machine."""

    spec: ModelSpec
    architecture: Architecture | None

    @property
    def called(self) -> str:
        """How the model is called in prose."""
        return self.spec.called or self.spec.name


@dataclass(frozen=True)
class Subject:
    """A cell before its model is loaded."""

    config: RunConfig
    model: PlannedModel
    suite: Suite
    folder: Path | None
    """Of the checkpoint; None where it is not on this machine, or is not vLLM's to load."""

    def caution(self, check: str, text: str, *, void: bool = False) -> Caution:
        """A caution about this cell."""
        return Caution(check=check, text=text, model=self.model.spec.name, suite=self.suite.name, void=void)


@runtime_checkable
class Cautious(Protocol):
    """A suite that knows what a reader of its numbers should know, from its data and options alone."""

    def cautions(self, config: RunConfig) -> Iterable[Caution]:
        """What is known of the suite under this config, for every model. `suite` is set, `model` is not."""
        ...


CHECKS: tuple[Callable[[Subject], Iterator[Caution]], ...] = ()
"""The checks of a cell, in the order in which they are told."""


def preflight(
    config: RunConfig, models: Iterable[PlannedModel], suites: Iterable[Suite]
) -> Iterator[Caution]:
    """Everything that the checks find, suites first, then each model on each suite."""
    suites = list(suites)
    for suite in suites:
        if isinstance(suite, Cautious):
            yield from suite.cautions(config)
    for model in models:
        folder = checkpoint.find(model.spec) if model.architecture else None
        for suite in suites:
            subject = Subject(config, model, suite, folder)
            for check in CHECKS:
                yield from check(subject)
