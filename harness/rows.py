"""Tables that a person hands over: rows of CSV or JSON lines, plain or compressed with xz or gzip."""

import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import UserError

_UNPACKED: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, all with the columns of the first.

    Raises:
        UserError: the file cannot be read, has no row, or rows of other columns.
    """
    try:
        text = _UNPACKED.get(path.suffix, bytes)(path.read_bytes()).decode("utf-8-sig")
        if ".jsonl" in path.suffixes:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, lzma.LZMAError, EOFError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read ({error}): give a CSV or JSONL file, which may be compressed (.xz, .gz)"
        ) from error
    if not rows:
        raise UserError(f"{path} has no row; expected a table with a header")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            raise UserError(
                f"{path}, row {number}: expected the columns of the first row, {', '.join(map(str, rows[0]))}"
            )
    return rows
