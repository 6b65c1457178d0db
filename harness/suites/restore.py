"""What a run directory does not hold, made again from what it does: suites, and the samples behind records.

Needs no model. Of a checkpoint at most the tokenizer is read, for prompts that its chat template wrote.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from harness.config import ModelSpec, RunConfig
from harness.engines.rendering import render, tell_day
from harness.errors import UserError
from harness.hostile import one_line
from harness.models import checkpoint
from harness.models.trials import Sent, try_template
from harness.records.directory import RunDirectory
from harness.suites import imported_suite, load_suites
from harness.suites.access import Access
from harness.suites.base import Render, Suite
from harness.trust import Untrusted, own_folder, reading_data
from harness.types import CellEntry, Manifest, Message, Record, Sample


class Restored:
    """A finished run, with its suites."""

    def __init__(self, directory: RunDirectory, own: Mapping[str, str] | None = None) -> None:
        """Args: directory: of the run; own: see `harness.suites.imported_suite`.

        Raises:
            UserError: the directory is no run.
        """
        self.directory = directory
        self._own = own or {}
        self.manifest: Manifest = directory.whole_manifest()

    @cached_property
    def config(self) -> RunConfig:
        """The config of the run; UserError if it is not there."""
        return self.directory.config()

    @cached_property
    def _suites(self) -> tuple[dict[str, Suite], list[UserError]]:
        """(suites by name, why others could not be made)."""
        suites: dict[str, Suite] = {}
        refused: list[UserError] = []
        try:
            access = Access(download=False, locked=self._revisions())
            specs = self.config.suites
        except UserError as error:  # kept too: every cell asks
            return suites, [error]
        for spec in specs:
            try:
                suites |= {suite.name: suite for suite in load_suites(spec, self.config.subset, access)}
            except UserError as error:
                refused.append(error)
        return suites, refused

    def _revisions(self) -> dict[str, str]:
        """Data sets of the hub, as the run asked for them -> the commits that it read."""
        texts = [cell.protocol.get("revision", "{}") for cell in self.manifest.cells.values()]
        try:
            read = [msgspec.json.decode(text, type=dict[str, str | None]) for text in texts]
        except msgspec.DecodeError as error:
            raise UserError(
                f"{self.directory.manifest_path}: revision in a protocol is not what a suite writes "
                f"({error}); restore the file from a copy"
            ) from error
        return {asked: commit for commits in read for asked, commit in commits.items() if commit}

    def suite(self, cell: CellEntry) -> Suite:
        """The suite of a cell.

        Raises:
            UserError: it cannot be made any more from what lies with the records.
        """
        if self.manifest.models[cell.model].imported:
            return imported_suite(cell, self.directory.injections_path(cell), self._own)
        with reading_data():
            suites, refused = self._suites
        if cell.suite in suites:
            return suites[cell.suite]
        if refused:
            raise refused[0]
        raise UserError(
            f"{self.directory.config_path} makes no suite {cell.suite!r}, only "
            f"{', '.join(suites)}: use the versions that {self.directory.manifest_path.name} names"
        )

    def records(self, cell: CellEntry) -> Iterator[Record]:
        """The records of a cell with what judges said of them, some megabytes at a time."""
        return self.directory.each_judged(cell)

    def samples(self, cell: CellEntry, suite: Suite) -> dict[str, Sample]:
        """Id -> sample, as the cell's model was shown it.

        Raises:
            UserError: the prompts need a chat template that is not on this machine.
        """
        if self.manifest.models[cell.model].imported:
            return {sample.id: sample for sample in suite.samples(cell.model, None)}
        spec = next((m for m in self.config.models if m.name == cell.model), None)
        if spec is None:
            raise UserError(
                f"{self.directory.config_path} has no model {cell.model!r}: restore it from a copy"
            )
        with reading_data():
            render = renderer(spec, self.config.date) if suite.needs.chat_template else None
            return {s.id: s for s in suite.samples(spec.called or spec.name, render)}


def renderer(spec: ModelSpec, day: str | None = None) -> Render:
    """The chat template of a checkpoint, without its model. Raises UserError as `load_template`."""
    template = load_template(spec, day)

    def as_text(messages: Sequence[Message], add_generation_prompt: bool) -> str:
        return render(template, messages, spec.variant, add_generation_prompt=add_generation_prompt)

    return as_text


def load_tokenizer(spec: ModelSpec) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        UserError: the checkpoint is not on this machine, or cannot be read.
    """
    folder = checkpoint.find(spec)
    if folder is None:
        raise UserError(
            f"the prompts of {spec.name} need its chat template, and {spec.path} is not on this machine: "
            "download its tokenizer files"
        )
    from transformers import AutoTokenizer

    if spec.trust_remote_code and not own_folder(str(folder))[1]:
        raise Untrusted(f"the code that comes with the tokenizer of {spec.name}", str(folder))
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # whatever transformers makes of files that are not as they should be
        reason = one_line(f"{type(error).__name__}: {error}")[:300]
        raise UserError(
            f"the tokenizer of {spec.name} in {folder} cannot be loaded ({reason}): its files are "
            "damaged, or want another transformers, or code of their own"
        ) from error


def load_template(spec: ModelSpec, day: str | None = None) -> Callable[..., str]:
    """The chat template of a checkpoint as its tokenizer applies it.

    Raises:
        UserError: as `load_tokenizer`, or it has no chat template.
    """
    tokenizer = load_tokenizer(spec)
    folder = Path(tokenizer.name_or_path)
    if tokenizer.chat_template is None:
        raise UserError(f"the prompts of {spec.name} need a chat template, and {folder} has none")
    if refused := try_template(str(tokenizer.chat_template), Sent(tools=False)).void:
        raise UserError(f"the chat template of {spec.name} in {folder} {refused}")
    if day is not None:
        tell_day(tokenizer, folder, day)
    template: Callable[..., str] = tokenizer.apply_chat_template
    return template
