"""Making records of transcripts that AgentDojo's own benchmark left, and checking their verdicts.

The records stand in a run directory like any other's. Their model is marked as imported: its engine is
called `imported`, and what cannot be known of it is said to be unknown.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version as package_version
from pathlib import Path

import msgspec

from harness import __version__
from harness.config import load_model, names
from harness.disk import replace
from harness.errors import UserError
from harness.records.append import RecordWriter
from harness.records.directory import RunDirectory
from harness.replay.report import Counts, Difference, Report
from harness.run.plan import hardware, installed_versions
from harness.suites.agentdojo.agentdyn import load_agentdyn
from harness.suites.agentdojo.compatible import BROKEN
from harness.suites.agentdojo.imported import (
    MAIN_ATTACK,
    ImportedSuite,
    Judged,
    agreement,
    broken_off,
    called_by,
)
from harness.suites.agentdojo.own_suites import load_own
from harness.suites.agentdojo.stored import UNNAMED, StoredRun, read_runs
from harness.trust import OWN, reading_data, trusting
from harness.types import (
    IMPORTED,
    CellEntry,
    EngineFacts,
    Manifest,
    ModelEntry,
    Origin,
    Record,
    Sampling,
    Usage,
)

VERDICTS = ("utility", "security")
Verdicts = tuple[bool | None, bool | None]
"""(utility, security) in AgentDojo's terms."""

UNKNOWN_ORIGIN = Origin(developer="unknown", country="ZZ")
"""ZZ is a code that ISO 3166 leaves to its users; Unicode's CLDR has it for an unknown region."""


def replay_imported(
    path: Path,
    out: RunDirectory | None = None,
    *,
    version: str | None = None,
    origin: Origin = UNKNOWN_ORIGIN,
    suites: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Report:
    """Judge every transcript of a file or folder, and keep them as records if asked to.

    Args:
        path: what AgentDojo wrote; see `harness.suites.agentdojo.stored`.
        out: a new directory, or one with results that these are to stand beside.
        version: AgentDojo's benchmark version, for files that do not say it.
        origin: of the models.
        suites: see `harness.replay.replay`.
        names: see `harness.replay.replay`.

    Raises:
        UserError: there are no transcripts, one cannot be read, or `out` has these models already.
    """
    with trusting(OWN):  # the person who replays says where they are
        for name, own in (suites or {}).items():  # what is wrong with one is said at once
            load_own(own) if ":" in own else load_agentdyn(name, own)
    collected = Collection(out, suites or {}, names or {})
    with closing(collected):
        for run in read_runs(path, version):
            collected.add(run)
        report = collected.counts.report(collected.unknown)
        if not report.runs:
            raise UserError(
                f"{path} holds neither a run of this harness (no run.json and cells) nor transcripts in "
                "AgentDojo's format (.json, .jsonl or .jsonl.xz with suite_name, user_task_id and messages)"
            )
        if out and collected.models:
            ran = {"version": "AgentDojo's own benchmark", "source": str(path)}
            collected.write(out, [model_entry(name, origin, **ran) for name in collected.models])
    return report


@dataclass
class Cell:
    """The records of one model on one suite under one attack, as they come in."""

    suite: ImportedSuite
    entry: CellEntry
    writer: RecordWriter
    attempts: Counter[str] = field(default_factory=Counter)
    """Of each sample."""
    kinds: set[tuple[str, ...]] = field(default_factory=set)
    """Clustering factors of the samples."""
    injections: dict[str, dict[str, str]] = field(default_factory=dict)

    def append(self, run: StoredRun, judged: Judged) -> None:
        """Keep a run as one more attempt at its sample."""
        sample = judged.sample
        self.writer.append(to_record(self.entry.key, run, judged, self.attempts[sample.id]))
        self.attempts[sample.id] += 1
        self.kinds.add(tuple(sorted(sample.clusters)))
        self.injections[sample.id] = sample.payload.injections

    def finished(self) -> CellEntry:
        """The cell as what came in makes it: metrics of what is there, and how many samples there are."""
        return msgspec.structs.replace(
            self.entry,
            metrics=tuple(m for m in self.suite.metrics if m.applies_to in self.kinds),
            samples=len(self.attempts),
            attempts=max(self.attempts.values()),
            declared=self.suite.declared,
            tools=self.suite.needs.tools,
        )


class Collection:
    """Judges runs one by one, and keeps them if there is where to."""

    def __init__(self, out: RunDirectory | None, suites: Mapping[str, str], names: Mapping[str, str]) -> None:
        self._out, self._suites, self._names = out, suites, names
        self._resources = ExitStack()
        self._pipelines: dict[str, StoredRun] = {}
        """Name of a model here -> the first run of its pipeline."""
        self.unknown = 0
        """Runs of suites or tasks that there are not."""
        self._before = {} if out is None or not out.manifest_path.exists() else out.manifest().models
        self._cells: dict[tuple[str, str], Cell] = {}
        self._suite = lru_cache(maxsize=None)(ImportedSuite)
        self.counts = Counts()

    def add(self, run: StoredRun) -> None:
        """Judge one run, count it, keep its record."""
        own = self._suites.get(run.suite)
        try:
            with trusting(OWN) if own else reading_data():
                suite = self._suite(run.suite, run.version, run.attack or MAIN_ATTACK, own)
            judged = suite.judge(run, called_by(run.pipeline))
        except UserError as error:  # a suite or a task that AgentDojo does not have
            self._count(run, run.suite, (None, None), (False, False), str(error))
            self.unknown += 1
            return
        same = agreement(run, judged)
        why = "" if all(same) else reason(suite, run, judged, same)
        self._count(run, suite.name, (judged.utility, judged.security), same, why)
        if self._out is not None:
            self._cell(self._out, suite, self._model(run)).append(run, judged)

    def _model(self, run: StoredRun) -> str:
        """How the model of a run is called here.

        Raises:
            UserError: two models would have one name.
        """
        model = self._names.get(run.pipeline) or self._names.get("") or run.model
        known = self._pipelines.setdefault(model, run)
        if known.pipeline != run.pipeline:
            raise UserError(
                f"{model} would be the name of two pipelines, {known.pipeline} and {run.pipeline}: "
                f"name each, as by --name {known.pipeline}={model}"
            )
        if run.pipeline == UNNAMED and known.folder != run.folder:
            raise UserError(
                f"the runs in {known.folder or known.source} and in {run.folder or run.source} are of "
                f"pipelines called {UNNAMED}, as AgentDojo calls every model that it does not know: replay "
                "one folder at a time, each with a --name"
            )
        return model

    def _count(
        self, run: StoredRun, suite: str, replayed: Verdicts, same: tuple[bool, bool], why: str
    ) -> None:
        stored = run.utility, run.security
        model = self._names.get(run.pipeline) or self._names.get("") or run.model
        self.counts.add(model, suite, utility=same[0], security=same[1])
        if not all(same):
            self.counts.differ(
                Difference(
                    model=model,
                    pair=f"{suite}/{run.sample}",
                    stored=dict(zip(VERDICTS, stored, strict=True)),
                    replayed=dict(zip(VERDICTS, replayed, strict=True)),
                    reason=why,
                    source=run.source,
                )
            )

    def _cell(self, out: RunDirectory, suite: ImportedSuite, model: str) -> Cell:
        """The cell of a model and a suite.

        Raises:
            UserError: the directory has the model already, or has this suite in another version.
        """
        known = self._cells.get((model, suite.name))
        if known is not None and known.suite is not suite:
            versions = f"{known.suite.options.version} and {suite.options.version}"
            raise UserError(
                f"{model} ran {suite.name} in benchmark versions {versions}: keep these in two directories"
            )
        if model in self._before:
            raise UserError(
                f"{out.path} has results of {model} already: give another --out, or another name by --name"
            )
        if known is None:
            if not self._cells:  # locked, and made, once there is something to keep
                self._resources.enter_context(out.lock())
            entry = imported_cell(model, suite.name, suite.protocol)
            for path in out.appended_paths(entry):  # of an import that did not finish
                path.unlink()
            known = Cell(suite, entry, out.writer(entry))
            self._cells[model, suite.name] = known
        return known

    def close(self) -> None:
        """Close the records' files, and let the directory go."""
        for cell in self._cells.values():
            cell.writer.close()
        self._resources.close()

    def write(self, out: RunDirectory, models: Iterable[ModelEntry]) -> None:
        """Add models and cells to the directory's manifest, and compact the records."""
        for cell in self._cells.values():
            cell.writer.close()
        entries = {cell.entry.key: cell.finished() for cell in self._cells.values()}
        named = {model.name: model for model in models}
        out.add(msgspec.structs.replace(empty_manifest(out.path.name), models=named, cells=entries))
        for cell in self._cells.values():
            replace(out.injections_path(cell.entry), msgspec.json.encode(cell.injections, order="sorted"))
        out.compact([cell.entry for cell in self._cells.values()])

    @property
    def models(self) -> list[str]:
        """Models that records were kept of."""
        return sorted({model for model, _ in self._cells})


def reason(suite: ImportedSuite, run: StoredRun, judged: Judged, same: tuple[bool, bool]) -> str:
    """Why the verdicts of a run are not those that it was given; `same` is from `agreement`."""
    stored = run.utility, run.security
    other = [name for name, equal in zip(VERDICTS, same, strict=True) if not equal]
    absent = [name for name, value in zip(VERDICTS, stored, strict=True) if value is None and name in other]
    unheld = [f"its file does not hold {' and '.join(absent)}"] if absent else []
    return "; ".join(unheld if absent == other else [*unheld, changed_verdict(suite, run, judged)])


def changed_verdict(suite: ImportedSuite, run: StoredRun, judged: Judged) -> str:
    """Why a verdict that a run was given is not the one that it gets now."""
    failure = broken_off(run)
    if failure is not None and failure.kind in BROKEN:
        return (
            f"{failure.message}: AgentDojo counts such a run as utility false and security true, "
            "here it is a failure without a verdict"
        )
    if judged.failure_message is not None and judged.utility is None:
        return judged.failure_message
    changed = suite.changed_answer(run, called_by(run.pipeline))
    if changed is not None:
        return f"a tool of AgentDojo {package_version('agentdojo')} is not the one that ran: {changed}"
    return "the checker's verdict on the same calls, results and answer is another one"


def to_record(key: str, run: StoredRun, judged: Judged, attempt: int) -> Record:
    """A judged run as a record. What it cost in tokens is not known."""
    sample = judged.sample
    return Record(
        cell=key,
        sample=sample.id,
        attempt=attempt,
        content_hash=sample.content_hash,
        clusters=sample.clusters,
        labels=sample.labels,
        transcript=judged.transcript,
        scores=judged.scores,
        usage=Usage(requests=sum(m.role == "assistant" for m in run.messages)),
        started=0.0,
        seconds=run.seconds,
        failure=judged.failure,
        failure_message=judged.failure_message,
    )


def imported_cell(model: str, suite: str, own: Mapping[str, str]) -> CellEntry:
    """A cell that nothing has come in for yet. How its tokens were drawn is not known.

    Args:
        model: as it is called here.
        suite: its name.
        own: the suite's protocol.
    """
    protocol = {**own, **{f"sampling.{name}": "unknown" for name in Sampling.__struct_fields__}}
    key = hashlib.sha256(msgspec.json.encode([IMPORTED, model, protocol], order="sorted")).hexdigest()
    return CellEntry(
        key=key,
        model=model,
        suite=suite,
        adapter=protocol["adapter"],
        protocol=protocol,
        metrics=(),
        samples=0,
        attempts=1,
    )


def model_entry(name: str, origin: Origin, version: str, **details: str) -> ModelEntry:
    """A model that others ran, in what `version` says."""
    engine = EngineFacts(name=IMPORTED, version=version, details=details)
    return ModelEntry(name=name, origin=origin, architecture=None, engine=engine)


def known_origin(name: str, otherwise: Origin) -> Origin:
    """The registry's, of a model that has one of its names."""
    return load_model(name).origin if name in names("models") else otherwise


def empty_manifest(name: str) -> Manifest:
    """The manifest of a directory that holds nothing but imported records."""
    return Manifest(
        name=name,
        config_digest=IMPORTED,
        harness_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=installed_versions(),
        hardware=hardware(),
        models={},
        cells={},
    )
