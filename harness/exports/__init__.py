"""Records in the formats of other tools.

A format is a function `write(run, out) -> list[Path]`, which says what it wrote.
"""

import shutil
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from harness.disk import make_folder
from harness.errors import DiskError, UserError
from harness.exports.prompts import Incomplete
from harness.exports.withheld import Withholding
from harness.records.directory import RunDirectory
from harness.suites import is_withheld
from harness.suites.restore import Restored

FORMATS = {
    "csv": "harness.exports.tabular:write_csv",
    "eval-results": "harness.exports.eval_results:write",
    "every-eval-ever": "harness.exports.every_eval_ever:write",
    "inspect": "harness.exports.inspect:write",
    "lm-eval": "harness.exports.lm_eval:write",
    "mlflow": "harness.exports.trackers:write_mlflow",
    "parquet": "harness.exports.tabular:write_parquet",
    "readme": "harness.exports.readme:write",
    "wandb": "harness.exports.trackers:write_wandb",
}
"""Name -> function."""

WITH_TEXTS = ("every-eval-ever", "inspect", "lm-eval")
"""Those that hold what models were shown and wrote."""

IN_PLACE = ("mlflow", "wandb")
"""Stores of trackers, which keep where their files lie: others are moved there once all are written."""


def export(
    directory: RunDirectory,
    form: str,
    out: Path,
    suites: Mapping[str, str] | None = None,
    *,
    all_texts: bool = False,
) -> list[Path]:
    """Write the records of a run in another format.

    Args:
        directory: the run.
        form: a name of `FORMATS`.
        out: a folder, made if it is not there.
        suites: name -> where it is, of imported suites that AgentDojo does not have.
        all_texts: whether texts are written too that are not for everybody, see `withheld`.

    Raises:
        UserError: there is no such format, or what it needs is not installed.
        Incomplete: everything was written, but without the prompts of some suites.
        DiskError: a file could not be written; what was in the folder before is there still.
    """
    if form not in FORMATS:
        raise UserError(f"there is no export format {form!r}: use one of {', '.join(FORMATS)}")
    module, _, name = FORMATS[form].partition(":")
    write = getattr(import_module(module), name)
    run = (Restored if all_texts else Withholding)(directory, suites)
    make_folder(out)
    if form in IN_PLACE:
        placed: list[Path] = write(run, out)
        return placed
    staging = Path(tempfile.mkdtemp(prefix=".export-", dir=out))  # beside its place: one file system
    lacking: Incomplete | None = None
    try:
        try:
            written: list[Path] = write(run, staging)
        except Incomplete as error:  # it is written all the same
            written, lacking = error.paths, error
        places = [out / path.relative_to(staging) for path in written]
        for path, place in zip(written, places, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    except OSError as error:
        raise DiskError(
            f"cannot write to {out} ({error.strerror or error}): what was there before is there still"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if lacking:
        raise Incomplete(str(lacking), places)
    return places


def hashed_suites(directory: RunDirectory) -> list[str]:
    """The suites of a run whose texts are hashes in an export, unless all texts are asked for."""
    return sorted({cell.suite for cell in directory.manifest().cells.values() if is_withheld(cell)})
