"""Everything that a config needs, on this machine ahead of an offline run, and a lock that says what it was.

A revision is resolved to its commit first, and that commit is what is downloaded, hashed and locked. Where
there is a lock, a run takes the commits that it names, and is refused where anything else has changed.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from harness.config import ModelSpec, RunConfig, as_written, hub_id, locate
from harness.errors import UserError
from harness.models import hub
from harness.run.lockfile import Lock, LockedModel, differences, file_hashes, read_lock, write_lock
from harness.run.plan import Plan, make_plan, prepare
from harness.suites.base import Suite

CONTENT_FIELDS = ("data", "revision", "config", "version", "suite_version", "detector")
"""Fields of a suite's protocol that say what was fetched for it, and what its samples are."""


def fetch(config: RunConfig, path: Path | None) -> Iterator[str]:
    """Download models and data through the hub's cache, and write the lock; yields a line for each.

    Args:
        config: what is needed.
        path: the config's file, which the lock is put beside; None where there is none: nothing is locked.

    Raises:
        UserError: something is gated or cannot be reached, or the hub may not be asked.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UserError("HF_HUB_OFFLINE is set, and fetching asks the hub: unset it for this command")
    models = {}
    if config.engine.kind == "vllm":
        for spec in config.models:
            models[spec.name] = fetched = _fetch_model(spec)
            yield f"model {spec.name}: {len(fetched.files)} files, {fetched.revision or 'a folder'}"
            if spec.adapter and hub_id(spec.adapter):
                commit = hub.commit(spec.adapter, spec.adapter_revision)
                hub.snapshot(spec.adapter, commit)
                yield f"adapter of {spec.name}: {spec.adapter}, {commit}"
    plan = make_plan(config, Lock(models=models, datasets={}, suites={}))
    plan.check()
    prepare(plan)
    suites: dict[str, dict[str, str]] = {}
    datasets: dict[str, str] = {}
    for name, suite in _suites(plan).items():
        suites[name] = _content(suite)
        revisions = {asked: commit for asked, commit in suite.needs.data.items() if commit}
        datasets |= revisions
        repositories = [f"{asked.partition('@')[0]}@{commit}" for asked, commit in revisions.items()]
        yield f"suite {name}: {suite.count()} samples, {', '.join(repositories) or 'no repository'}"
    if path is not None:
        yield f"written: {write_lock(path, Lock(models=models, datasets=datasets, suites=suites))}"


def check_lock(path: Path | None, plan: Plan) -> list[str]:
    """What differs between the lock beside a config and what would be run, a sentence each.

    Of a run that will be published also the data sets that nothing holds at a commit.

    Raises:
        UserError: the lock cannot be read.
    """
    lock = read_lock(path)
    unheld = _unheld(lock, plan) if plan.config.published else []
    if lock is None:
        return [*unheld]
    specs = {name: model.spec for name, model in plan.models.items()}
    contents = {name: _content(suite) for name, suite in _suites(plan).items()}
    changed = differences(lock, specs if plan.config.engine.kind == "vllm" else {}, contents)
    return [
        *(f"{sentence}; run `harness fetch {path}` again if it is meant" for sentence in changed),
        *unheld,
    ]


def _unheld(lock: Lock | None, plan: Plan) -> Iterator[str]:
    for name, suite in _suites(plan).items():
        for asked, commit in suite.needs.data.items():
            if commit is None or not (asked.endswith(f"@{commit}") or (lock and asked in lock.datasets)):
                yield (
                    f"a published run needs the commit of {asked}, which suite {name} reads: run `harness "
                    "fetch` with this config, or give the suite its `revision`"
                )


def _suites(plan: Plan) -> dict[str, Suite]:
    return {cell.suite.name: cell.suite for cell in plan.cells}


def _fetch_model(spec: ModelSpec) -> LockedModel:
    folder, revision = Path(locate(spec.path)), None
    if not folder.is_dir():
        revision = hub.commit(spec.path, spec.revision)
        folder = hub.snapshot(spec.path, revision)
    return LockedModel(
        path=as_written(spec.path), asked=spec.revision, revision=revision, files=file_hashes(folder)
    )


def _content(suite: Suite) -> dict[str, str]:
    return {key: value for key, value in suite.protocol.items() if key in CONTENT_FIELDS}
