"""From run directories to what is asked of them: scorecards, two models compared, claims."""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from harness.analysis.benchmarks import by_benchmark
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import Claims, make_claims
from harness.analysis.claims.evidence import Asked
from harness.analysis.claims.snapshot import read_snapshot
from harness.analysis.compare import ModelComparison, compare
from harness.analysis.flips import Flips, find_flips
from harness.config import load_config
from harness.errors import UserError
from harness.records.directory import RunDirectory


def read_scorecards(directory: RunDirectory) -> list[ModelScorecard]:
    """The scorecard of every model of a run, by benchmark."""
    manifest = directory.whole_manifest()
    return by_benchmark(build_scorecards(manifest, directory.columns), manifest)


def model_scorecard(directory: RunDirectory, model: str | None) -> ModelScorecard:
    """The scorecard of one model of a run; None for the only one that there is.

    Raises:
        UserError: the run has no such model, or several where none is named.
    """
    manifest = directory.whole_manifest()
    if model is None and len(manifest.models) == 1:
        model = next(iter(manifest.models))
    if model not in manifest.models:
        asked = "several models" if model is None else f"no model {model!r}"
        known = ", ".join(sorted(manifest.models))
        raise UserError(f"{directory.path} has {asked}: name one of {known}")
    cells = {key: cell for key, cell in manifest.cells.items() if cell.model == model}
    alone = msgspec.structs.replace(manifest, models={model: manifest.models[model]}, cells=cells)
    (card,) = by_benchmark(build_scorecards(alone, directory.columns), manifest)
    return card


def compare_runs(targets: Sequence[str], allow: Collection[str] = ()) -> ModelComparison:
    """Two models compared.

    Args:
        targets: `DIR BASE OTHER` for two models of one run; else two of `DIR/MODEL`, or `DIR` where the run
            has one model.
        allow: protocol fields that may differ.

    Raises:
        UserError: there is no such run or model, or their protocols differ.
    """
    (a, ours), (b, theirs) = _two(targets)
    contents = [_contents(directory, card) for directory, card in ((a, ours), (b, theirs))]
    both = {suite: (contents[0][suite], contents[1][suite]) for suite in contents[0] if suite in contents[1]}
    runs = None if a.path == b.path else (a.manifest(), b.manifest())
    return compare(ours, theirs, allow, both, runs)


def flips_of_runs(targets: Sequence[str], allow: Collection[str] = ()) -> Flips:
    """The samples on which two models differ; arguments and errors as of `compare_runs`."""
    (_, ours), (_, theirs) = _two(targets)
    return find_flips(ours, theirs, allow)


def _two(targets: Sequence[str]) -> list[tuple[RunDirectory, ModelScorecard]]:
    """(run, scorecard) of both models."""
    if len(targets) == 3:
        chosen: list[tuple[Path, str | None]] = [(Path(targets[0]), model) for model in targets[1:]]
    elif len(targets) == 2:
        chosen = [_find_run(target) for target in targets]
    else:
        raise UserError("give two models: DIR MODEL MODEL for one run, or DIR/MODEL DIR/MODEL for two runs")
    directories = [RunDirectory(path) for path, _ in chosen]
    return [
        (directory, model_scorecard(directory, model))
        for directory, (_, model) in zip(directories, chosen, strict=True)
    ]


def _find_run(target: str) -> tuple[Path, str | None]:
    """(run directory, model) of `DIR/MODEL` or `DIR`; names of models may hold slashes."""
    path = Path(target)
    for folder in (path, *path.parents):
        if RunDirectory(folder).manifest_path.exists():
            return folder, str(path.relative_to(folder)) if folder != path else None
    raise UserError(
        f"{target}: there is no run; give DIR/MODEL, where DIR is a folder that `harness run` wrote"
    )


def _contents(directory: RunDirectory, card: ModelScorecard) -> dict[str, dict[str, str]]:
    """Suite -> sample -> content hash, of one model and the records of it that can be read."""
    cells = directory.whole_manifest().cells.values()
    own = [cell for cell in cells if cell.model == card.model.name and cell.suite not in card.unread]
    return {
        cell.suite: {sample: content for (sample, _), content in directory.contents(cell).items()}
        for cell in own
    }


def claim(directory: RunDirectory, asked: Asked, adoption: Path | None = None) -> Claims:
    """The claims that a run supports; see `claims.make_claims`.

    Args:
        directory: the run. Its config gives the price where `asked` has none.
        asked: what is asked.
        adoption: a snapshot file, see `claims.snapshot`.

    Raises:
        UserError: as `make_claims`, or the snapshot is not right.
    """
    config = load_config(directory.config_path) if directory.config_path.exists() else None
    if asked.price is None and config is not None:
        asked = msgspec.structs.replace(asked, price=config.price_per_gpu_hour)
    if adoption is not None:
        paths = {spec.name: spec.path for spec in config.models} if config else {}
        asked = msgspec.structs.replace(asked, snapshot=read_snapshot(adoption), paths=paths)
    return make_claims(read_scorecards(directory), asked)
