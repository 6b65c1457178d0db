"""A run in an experiment tracker's own offline store, through its own library: one tracker's run a model.

    OUT/mlflow.db, OUT/artifacts/     mlflow server --backend-store-uri sqlite:///OUT/mlflow.db
    OUT/wandb/offline-run-*           wandb sync OUT/wandb/offline-run-*

A metric `<suite>/<metric>` has its 95% interval, its n and what is missing beside it, as
`<suite>/<metric>/low` and so on; what was not measured has no value there. The scorecard of the model is an
artifact. A tracker keeps where its files lie, so that they are written in place. Nothing is sent anywhere.
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.analysis.build import MetricResult, ModelScorecard, build_scorecards
from harness.disk import make_folder, replace
from harness.errors import DiskError, UserError, pip_install
from harness.exports.names import file_names
from harness.reports.document import document_of
from harness.reports.render import render
from harness.suites.restore import Restored
from harness.types import Manifest

RUN = "harness.run"
"""Tag of MLflow's runs: which run and model they are of."""


def write_mlflow(run: Restored, out: Path) -> list[Path]:
    """Write to `OUT/mlflow.db`; what an earlier export wrote of the same run is replaced.

    Raises:
        UserError: MLflow is not installed.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read where it is imported
    try:
        import alembic  # noqa: F401
        import sqlalchemy  # noqa: F401
        from mlflow import MlflowClient
    except ImportError as error:
        raise UserError(f"an export to MLflow {_needs('mlflow-skinny', error)}") from error
    store = out.resolve() / "mlflow.db"
    make_folder(out)
    with _staged(out) as (staging, made):
        if store.exists():
            shutil.copyfile(store, staging / store.name)
        _fill_mlflow(run, out, MlflowClient(tracking_uri=f"sqlite:///{staging / store.name}"), made)
        (staging / store.name).replace(store)
    return [store, *sorted(path for path in (out / "artifacts").rglob("*") if path.is_file())]


@contextmanager
def _staged(out: Path) -> Iterator[tuple[Path, list[Path]]]:
    """(a folder to write to, what is made beside it), of which nothing stays if it cannot be written.

    The trackers' own logs are silent: on a full disk they would print a traceback a line.
    """
    staging, made = out / f".export-{secrets.token_hex(4)}", list[Path]()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        make_folder(staging)
        yield staging, made
    except UserError:
        raise
    except Exception as error:  # each library has its own way to say that the disk refused
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else "the disk is full, or refuses it"
        raise DiskError(f"cannot write to {out} ({reason}): what was there before is there still") from error
    finally:
        logging.disable(before)
        shutil.rmtree(staging, ignore_errors=True)


def _fill_mlflow(run: Restored, out: Path, client: Any, made: list[Path]) -> None:
    from mlflow.entities import Metric, Param

    manifest = run.manifest
    had = client.get_experiment_by_name(manifest.name)
    folder = (out.resolve() / "artifacts").as_uri()
    experiment = had.experiment_id if had else client.create_experiment(manifest.name, folder)
    for card in build_scorecards(manifest, run.directory.columns):
        identity = _identity(manifest, card)
        for earlier in client.search_runs([experiment], f"tags.`{RUN}` = '{identity}'"):
            client.delete_run(earlier.info.run_id)
        tags = {RUN: identity}
        own = client.create_run(experiment, run_name=card.model.name, tags=tags).info.run_id
        numbers = {name: value for result in card.metrics.values() for name, value in _numbers(result)}
        clean = _names(numbers)
        metrics = [Metric(clean[name], value, 0, 0) for name, value in numbers.items()]
        params = [Param(name, value) for name, value in _facts(manifest, card).items()]
        # As many as MLflow takes at once.
        client.log_batch(own, params=params[:100])
        for first in range(0, len(metrics), 1000):
            client.log_batch(own, metrics=metrics[first : first + 1000])
        made.append(out.resolve() / "artifacts" / own)
        make_folder(made[-1] / "artifacts")
        replace(made[-1] / "artifacts" / "scorecard.md", _scorecard(manifest, card).encode())
        client.set_terminated(own)


def write_wandb(run: Restored, out: Path) -> list[Path]:
    """Write a folder a model below `OUT/wandb`.

    `wandb sync` sends them; a model of the same run has the same id there, however often it is exported.

    Raises:
        UserError: wandb is not installed.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # read where it is imported
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"an export to Weights & Biases {_needs('wandb', error)}") from error
    make_folder(out)
    # Nothing of this machine is to be in it: no code, no git, no hardware, no terminal.
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )
    written = []
    with _staged(out) as (staging, _):
        for path in _fill_wandb(run, staging, settings):
            shutil.rmtree(path.parent / "logs", ignore_errors=True)  # of this machine, and still written to
            place = out / "wandb" / path.parent.name
            make_folder(place.parent)
            path.parent.replace(place)
            written.append(place / path.name)
    return written


def _fill_wandb(run: Restored, staging: Path, settings: Any) -> list[Path]:
    import wandb

    manifest, written = run.manifest, []
    for card in build_scorecards(manifest, run.directory.columns):
        refused: OSError | None = None
        with wandb.init(
            mode="offline",
            dir=str(staging.resolve()),
            project=file_names([manifest.name])[manifest.name],
            id=_identity(manifest, card)[:16],
            name=card.model.name,
            config=_facts(manifest, card),
            settings=settings,
        ) as own:
            own.summary.update({n: v for result in card.metrics.values() for n, v in _numbers(result)})
            path = Path(own.dir) / "scorecard.md"
            try:
                path.write_text(_scorecard(manifest, card), encoding="utf8")
                own.save(str(path), base_path=str(path.parent), policy="now")
            except OSError as error:  # raised in here, wandb would print it with its traceback
                refused = error
            written.append(Path(own.settings.sync_file))
        if refused:
            raise refused
    return written


def _identity(manifest: Manifest, card: ModelScorecard) -> str:
    identity = "\0".join((manifest.name, manifest.created, card.model.name))
    return hashlib.sha256(identity.encode()).hexdigest()


def _numbers(result: MetricResult) -> Iterator[tuple[str, float]]:
    """(name, value) of a metric, of its interval, and of how much stands behind it."""
    name, e = f"{result.suite}/{result.metric.name}", result.estimate
    numbers = {name: e.value, f"{name}/low": e.low, f"{name}/high": e.high, f"{name}/n": e.n}
    numbers[f"{name}/missing"] = e.missing
    yield from ((key, float(value)) for key, value in numbers.items() if value is not None)


def _names(numbers: dict[str, float]) -> dict[str, str]:
    """Name -> one of signs that MLflow takes, and that is its own."""
    cleaned = {name: re.sub(r"[^\w./ :-]", "_", name, flags=re.ASCII)[:240] for name in numbers}
    known = set(cleaned.values())
    if len(known) == len(cleaned):
        return cleaned
    return {
        name: f"{clean}_{hashlib.sha256(name.encode()).hexdigest()[:8]}" for name, clean in cleaned.items()
    }


def _facts(manifest: Manifest, card: ModelScorecard) -> dict[str, str]:
    """What the model is and what measured it."""
    model = card.model
    facts = {
        "run": manifest.name,
        "created": manifest.created,
        "config_digest": manifest.config_digest,
        "harness": manifest.harness_version,
        "developer": model.origin.developer,
        "country": model.origin.country,
        "licence": model.origin.licence or "unknown",
        "repository": model.repository or "unknown",
    }
    if model.architecture is not None:
        facts["total_params"] = str(model.architecture.total_params)
        facts["active_params"] = str(model.architecture.active_params)
        facts["weights_hash"] = str(model.architecture.weights_hash)
    if model.engine is not None:
        facts["engine"] = f"{model.engine.name} {model.engine.version}"
    return facts


def _scorecard(manifest: Manifest, card: ModelScorecard) -> str:
    """The card of one model alone, as Markdown."""
    return render(document_of([card], manifest, claims=False), "md")


def _needs(package: str, error: ImportError) -> str:
    return f"needs the package {package} ({error}): {pip_install('trackers')}"
