"""Tables and JSON lines that people hand over, plain or compressed with xz or gzip."""

import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from harness.disk import check_regular
from harness.errors import UserError

_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}

LARGEST_TABLE = 256 << 20
"""Bytes of a table that is read whole, unpacked. Some kilobytes can stand for more than any machine has."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, all with the columns of the first.

    Raises:
        UserError: the file cannot be read, has no row, or rows of other columns.
    """
    check_regular(path)
    try:
        with _OPENERS.get(path.suffix, Path.open)(path, "rb") as file:
            content = file.read(LARGEST_TABLE + 1)
        if len(content) > LARGEST_TABLE:
            raise ValueError(f"it is larger than {LARGEST_TABLE >> 20} MiB, unpacked")
        text = content.decode("utf-8-sig")
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


LONGEST_LINE = 256 << 20
"""Bytes of one line. Some kilobytes of a compressed file can stand for one that no machine can hold."""


def read_json(file: Path) -> Iterator[tuple[str, Any]]:
    """(file or file:line, JSON value) of a .json, .jsonl or .jsonl.xz file; other kinds of files have none.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        if file.name.endswith(".json"):
            yield str(file), json.loads(file.read_bytes())
        elif file.name.endswith((".jsonl", ".jsonl.xz")):
            with _OPENERS.get(file.suffix, Path.open)(file, "rb") as lines:
                for number in count(1):
                    line = lines.readline(LONGEST_LINE)
                    if not line:
                        break
                    if len(line) == LONGEST_LINE:
                        raise ValueError(f"line {number} is longer than {LONGEST_LINE >> 20} MiB")
                    yield f"{file}:{number}", json.loads(line)
    except (OSError, EOFError, ValueError, lzma.LZMAError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error}); restore it from a copy") from error
