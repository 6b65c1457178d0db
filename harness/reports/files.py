"""From a run directory to scorecards, and the files that they are kept in."""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from harness.analysis.adoption import read_snapshot
from harness.analysis.benchmarks import by_benchmark
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import Asked, make_claims
from harness.analysis.compare import compare
from harness.config import load_config
from harness.disk import replace
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.reports.claims_text import render_claims
from harness.reports.compare_text import render_comparison
from harness.reports.document import Document, make_document
from harness.reports.flips import find_flips, render_flips
from harness.reports.render import render

WRITTEN = ("html", "md", "json")
"""Formats kept beside the records, as `scorecard.<format>`."""


def read_document(
    directory: RunDirectory, by: str = "country", allow: Collection[str] = (), *, claims: bool = True
) -> Document:
    """The document of a run; see `make_document`."""
    return make_document(directory.whole_manifest(), directory.columns, by, allow, claims=claims)


def read_scorecards(directory: RunDirectory) -> list[ModelScorecard]:
    """The scorecard of every model of a run, by benchmark."""
    manifest = directory.whole_manifest()
    return by_benchmark(build_scorecards(manifest, directory.columns), manifest)


def write_scorecards(directory: RunDirectory, *, width: int, color: bool) -> str:
    """Write every kept format, and what checksums are missing; returns the table for the terminal."""
    directory.seal()
    document = make_document(directory.whole_manifest(), directory.columns)
    for form in WRITTEN:
        replace(kept_path(directory, form), render(document, form).encode())
    return render(document, "table", width=width, color=color)


def are_current(directory: RunDirectory) -> bool:
    """Whether the kept scorecards are younger than all that they are made of, our own code included."""
    code = Path(__file__).parents[1].rglob("*.py")
    try:
        oldest = min(kept_path(directory, form).stat().st_mtime_ns for form in WRITTEN)
        records = (directory.path / "records").iterdir()
        made_of = (directory.config_path, directory.manifest_path, *records, *code)
        return all(path.stat().st_mtime_ns <= oldest for path in made_of)
    except OSError:  # something is not there
        return False


def kept_path(directory: RunDirectory, form: str) -> Path:
    """Where a format is kept."""
    return directory.path / f"scorecard.{form}"


def compare_models(
    targets: Sequence[str],
    form: str,
    *,
    allow: Collection[str] = (),
    width: int = 100,
    color: bool = False,
    full: bool = False,
    flips: bool = False,
) -> str:
    """The comparison of two models as text.

    Args:
        targets: `DIR BASE OTHER` for two models of one run; else two of `DIR/MODEL`, or `DIR` where the run
            has one model.
        form: `table`, `md` or `json`.
        allow: protocol fields that may differ.
        width: columns of the table.
        color: whether the table may hold terminal colours.
        full: whether the table may take more than a screen.
        flips: whether to list the samples on which they differ, in place of what they come to.

    Raises:
        UserError: there is no such run or model, or their protocols differ.
    """
    if len(targets) == 3:
        chosen: list[tuple[Path, str | None]] = [(Path(targets[0]), model) for model in targets[1:]]
    elif len(targets) == 2:
        chosen = [_find_run(target) for target in targets]
    else:
        raise UserError("give two models: DIR MODEL MODEL for one run, or DIR/MODEL DIR/MODEL for two runs")
    directories = [RunDirectory(path) for path, _ in chosen]
    a, b = (
        model_scorecard(directory, model) for directory, (_, model) in zip(directories, chosen, strict=True)
    )
    if flips:
        differing = find_flips(a, b, allow)
        return render_flips(differing, form, width=width, color=color, full=full)
    found = [_contents(directory, card) for directory, card in zip(directories, (a, b), strict=True)]
    contents = {suite: (found[0][suite], found[1][suite]) for suite in found[0] if suite in found[1]}
    runs = None if chosen[0][0] == chosen[1][0] else (directories[0].manifest(), directories[1].manifest())
    return render_comparison(compare(a, b, allow, contents, runs), form, width=width, color=color, full=full)


def _contents(directory: RunDirectory, card: ModelScorecard) -> dict[str, dict[str, str]]:
    """Suite -> sample -> content hash, of one model."""
    cells = directory.whole_manifest().cells.values()
    own = [cell for cell in cells if cell.model == card.model.name]
    return {
        cell.suite: {sample: content for (sample, _), content in directory.contents(cell).items()}
        for cell in own
    }


def claim(
    directory: RunDirectory,
    form: str,
    asked: Asked,
    *,
    adoption: Path | None = None,
    width: int = 100,
    color: bool = False,
    full: bool = False,
) -> str:
    """The claims that a run supports as text; see `claims.make_claims`.

    Args:
        directory: the run. Its config gives the price where `asked` has none.
        form: `table`, `md` or `json`.
        asked: what is asked.
        adoption: a snapshot file, see `adoption`.
        width: columns of the tables.
        color: whether the tables may hold terminal colours.
        full: whether the tables may take more than a screen.

    Raises:
        UserError: as `make_claims`, or the snapshot is not right.
    """
    config = load_config(directory.config_path) if directory.config_path.exists() else None
    if asked.price is None and config is not None:
        asked = msgspec.structs.replace(asked, price=config.price_per_gpu_hour)
    if adoption is not None:
        paths = {spec.name: spec.path for spec in config.models} if config else {}
        asked = msgspec.structs.replace(asked, snapshot=read_snapshot(adoption), paths=paths)
    cards = read_scorecards(directory)
    return render_claims(make_claims(cards, asked), form, width=width, color=color, full=full)


def _find_run(target: str) -> tuple[Path, str | None]:
    """(run directory, model) of `DIR/MODEL` or `DIR`; names of models may hold slashes."""
    path = Path(target)
    for folder in (path, *path.parents):
        if RunDirectory(folder).manifest_path.exists():
            return folder, str(path.relative_to(folder)) if folder != path else None
    raise UserError(
        f"{target}: there is no run; give DIR/MODEL, where DIR is a folder that `harness run` wrote"
    )


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
