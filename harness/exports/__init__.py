"""Records in the formats of other tools.

A format is a function `write(directory, out) -> list[Path]`, which says what it wrote.
"""

from importlib import import_module
from pathlib import Path

from harness.errors import UserError
from harness.store import RunDirectory, make_folder

FORMATS = {
    "csv": "harness.exports.tabular:write_csv",
    "eval-results": "harness.exports.eval_results:write",
    "every-eval-ever": "harness.exports.every_eval_ever:write",
    "inspect": "harness.exports.inspect:write",
    "lm-eval": "harness.exports.lm_eval:write",
    "parquet": "harness.exports.tabular:write_parquet",
}
"""Name -> function."""


def export(directory: RunDirectory, form: str, out: Path) -> list[Path]:
    """Write the records of a run in another format.

    Args:
        directory: the run.
        form: a name of `FORMATS`.
        out: a folder, made if it is not there.

    Raises:
        UserError: there is no such format, or what it needs is not installed.
    """
    if form not in FORMATS:
        raise UserError(f"there is no export format {form!r}: use one of {', '.join(FORMATS)}")
    module, _, name = FORMATS[form].partition(":")
    write = getattr(import_module(module), name)
    make_folder(out)
    paths: list[Path] = write(directory, out)
    return paths
