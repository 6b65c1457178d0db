"""Names of files of a run."""

import re

from harness.types import CellEntry


def records_stem(cell: CellEntry) -> str:
    """Name of the files of a cell's records, without what tells their form.

    Names of models and suites may hold anything; the key keeps the cleaned-up names apart.
    """
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{cell.model}--{cell.suite}")[:120].lstrip(".")
    return f"{readable}--{re.sub('[^A-Za-z0-9_-]', '_', cell.key[:12])}"
