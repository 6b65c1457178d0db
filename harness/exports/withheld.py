"""Texts that an export leaves out: of suites whose attempts are not for everybody, hashes stand for them.

Requests for harm and the replies to them are not spread unasked, nor are questions whose authors ask that
they are not shown. Numbers, failures and lengths are there all the same.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from harness.suites import is_withheld
from harness.suites.base import Suite
from harness.suites.restore import Restored
from harness.types import CellEntry, Record, Sample

KEPT = ("role", "name", "id", "tool_call_id", "finish_reason", "metric")
"""Fields of transcripts and scores whose texts are of a fixed kind."""


class Withholding(Restored):
    """A run whose texts are hashes where its suites are not for everybody."""

    def records(self, cell: CellEntry) -> Iterator[Record]:
        """See `Restored.records`."""
        records = super().records(cell)
        return map(hashed, records) if is_withheld(cell) else records

    def samples(self, cell: CellEntry, suite: Suite) -> dict[str, Sample]:
        """See `Restored.samples`: none, so that no prompt is made again."""
        return {} if is_withheld(cell) else super().samples(cell, suite)


def hashed(record: Record) -> Record:
    """A record with the SHA-256 of every text that the model was shown or wrote in place of it."""
    texts = {"transcript": record.transcript, "scores": record.scores}
    closed = _hashed(msgspec.to_builtins(texts))
    return msgspec.convert(
        {**msgspec.to_builtins(record), "failure_message": None, "warnings": [], **closed}, Record
    )


def _hashed(value: Any) -> Any:
    if isinstance(value, str):
        return f"sha256:{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}" if value else ""
    if isinstance(value, dict):
        return {key: own if key in KEPT else _hashed(own) for key, own in value.items()}
    return [_hashed(own) for own in value] if isinstance(value, list | tuple) else value
