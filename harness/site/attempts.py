"""The attempts of a cell as files that a browser loads when it is asked for them: an index, and shards.

All text in them is a model's or its suite's: it is stripped here of what moves or reorders text, and the page
shows it as text alone.
"""

import gzip
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import UserError
from harness.hostile import strip_control
from harness.judges.calibration import errors
from harness.records.verdicts import Key
from harness.reports.words import plain_name
from harness.show.view import View, Viewer
from harness.site.local import without_folders
from harness.stats.misclassification import confusions
from harness.suites.restore import Restored
from harness.types import CellEntry, JudgeEntry, Record, Struct

SHARD_BYTES = 256 << 10
"""About how much JSON a shard holds, before it is compressed: one or a few attempts at most are larger."""
LONGEST = 200_000
"""Characters of one text that are published; of a longer one the beginning."""

Choice = int | None
"""How many attempts of a cell are published: so many, None for all. -1: those that failed."""
FAILURES = -1


class Published(Struct):
    """What is published of the attempts of a cell."""

    attempts: int
    """That the index tells the scores of."""
    shown: int
    """Whose transcripts can be read."""
    bytes: int
    """Of the files."""
    closed: str = ""
    """Why no transcript can be read, in a clause; empty where some can."""


def publish(
    run: Restored, cell: CellEntry, folder: Path, choice: Choice, closed: str, *, restore: bool
) -> Published:
    """Write the attempts of a cell: `index.json.gz`, and `<number>.json.gz` for each shard.

    Args:
        run: that it is of.
        cell: which.
        folder: where the files go; it is there.
        choice: how many transcripts are published.
        closed: why none is, in a clause; then samples have their content hashes in place of names.
        restore: whether the suite is made again, for prompts, injections and what calls changed.
    """
    viewer = _viewer(run, cell, restore=restore and not closed)
    votes = {} if closed else _votes(run, cell)
    index = _Index(cell, hashed=bool(closed))
    shard: list[bytes] = []
    size = shown = held = 0

    def write(number: int) -> int:
        return _write(folder / f"{number}.json.gz", b"[" + b",".join(shard) + b"]")

    for record in run.directory.each_judged(cell):
        failed = record.failure is not None
        wanted = not closed and (failed if choice == FAILURES else choice is None or shown < choice)
        index.add(record, len(index.shards) if wanted else None, len(shard))
        if not wanted:
            continue
        text = _view(viewer, record, votes.get((record.sample, record.attempt), ()))
        shard.append(text)
        shown, held = shown + 1, held + len(text)
        if held >= SHARD_BYTES:
            size += write(len(index.shards))
            index.shards.append(len(shard))
            shard, held = [], 0
    if shard:
        size += write(len(index.shards))
        index.shards.append(len(shard))
    size += _write(folder / "index.json.gz", msgspec.json.encode(index.object()))
    return Published(attempts=len(index.samples), shown=shown, bytes=size, closed=closed)


def _write(path: Path, content: bytes) -> int:
    """Write a file, compressed so that the same content gives the same bytes; returns its size."""
    packed = gzip.compress(content, 6, mtime=0)
    path.write_bytes(packed)
    return len(packed)


class _Index:
    """The scores of a cell's attempts, and which shard has each."""

    def __init__(self, cell: CellEntry, *, hashed: bool) -> None:
        self._named = {
            metric.name: plain_name(metric) for metric in sorted(cell.metrics, key=lambda m: not m.headline)
        }
        self.samples: list[str] = []
        self.shards: list[int] = []
        """How many attempts each finished shard holds."""
        self._hashed = hashed
        self._attempts: list[int] = []
        self._failures: list[str | None] = []
        self._values: dict[str, list[float | None]] = {name: [] for name in self._named}
        self._places: list[tuple[int, int] | None] = []

    def add(self, record: Record, shard: int | None, place: int) -> None:
        """Args: shard, place: where its transcript is, None where it is not published."""
        name = (
            f"#{hashlib.sha256(record.sample.encode()).hexdigest()[:16]}" if self._hashed else record.sample
        )
        scores = {score.metric: score.value for score in record.scores}
        self.samples.append(strip_control(name))
        self._attempts.append(record.attempt)
        self._failures.append(record.failure.value if record.failure else None)
        self._places.append(None if shard is None else (shard, place))
        for metric, values in self._values.items():
            values.append(scores.get(metric))

    def object(self) -> dict[str, Any]:
        """Headlines first; metrics that no attempt has a value of are left out."""
        values = {name: own for name, own in self._values.items() if any(v is not None for v in own)}
        return {
            "samples": self.samples,
            "attempts": self._attempts,
            "failures": self._failures,
            "places": self._places,
            "values": values,
            "named": {name: self._named[name] for name in values},
        }


def _viewer(run: Restored, cell: CellEntry, *, restore: bool) -> Viewer:
    if not restore:
        return Viewer(run, cell, None, {}, "the suite was not made again, so that prompts are not shown")
    try:
        suite = run.suite(cell)
        return Viewer(run, cell, suite, run.samples(cell, suite))
    except UserError as error:
        return Viewer(run, cell, None, {}, without_folders(str(error)))


class Vote(Struct, omit_defaults=True):
    """What one judge said of an attempt."""

    judge: str
    asks: str
    """What the judge was asked."""
    measured: str
    """Its model, and how often it was right on replies that people labelled, in a sentence."""
    verdict: str | None
    """A class; None where it gave none."""
    raw: str = ""
    """All that it wrote; empty for a judge without a model."""
    failure: str | None = None
    """Why there is no verdict."""


def _votes(run: Restored, cell: CellEntry) -> dict[Key, list[Vote]]:
    """Attempt -> what each judge said of it, by the name of the judge."""
    kept = run.directory.verdicts(cell)
    votes: dict[Key, list[Vote]] = {}
    for name, judge in kept.judges().items():
        measured = _measured(judge)
        for key, judged in kept.of(name).items():
            own = judged.verdict
            failure = f"{own.failure}: {own.failure_message or ''}" if own.failure else None
            vote = Vote(
                judge=name,
                asks=judge.asks,
                measured=measured,
                verdict=own.verdict,
                raw=own.raw,
                failure=failure,
            )
            votes.setdefault(key, []).append(vote)
    return votes


def _measured(judge: JudgeEntry) -> str:
    """See `Vote.measured`."""
    model = judge.repository or (judge.origin.developer if judge.origin else "no model")
    if not judge.calibration:
        return f"{model}; its errors were not measured"
    rights = [
        f"{name}: sensitivity {100 * sensitivity.value:.0f}%, specificity {100 * specificity.value:.0f}%"
        for name in judge.classes
        for sensitivity, specificity in [errors(confusions(judge.calibration, [name]).values())]
        if sensitivity.value is not None and specificity.value is not None
    ]
    return f"{model}; on {judge.calibrated_on}: {'; '.join(rights)}"


class Attempt(View):
    """An attempt as the page reads it."""

    sample: str
    attempt: int
    votes: tuple[Vote, ...] = ()


def _view(viewer: Viewer, record: Record, votes: Sequence[Vote]) -> bytes:
    """An `Attempt` as JSON: nothing moves or reorders text, none of it is longer than `LONGEST`."""
    try:
        view = viewer.view(record)
    except Exception as error:  # a transcript may hold anything that a suite does not expect
        reason = f"the suite cannot explain it: {type(error).__name__}"
        view = Viewer(viewer.run, viewer.cell, None, {}, reason).view(record)
    shown = Attempt(
        sample=record.sample, attempt=record.attempt, votes=tuple(votes), **msgspec.structs.asdict(view)
    )
    with suppress(UnicodeEncodeError):
        encoded = msgspec.json.encode(shown)
        if len(encoded) < LONGEST and _is_harmless(encoded.decode()):
            return encoded  # as most are: to take each apart would be half of the time that a site takes
    return msgspec.json.encode(_harmless(msgspec.to_builtins(shown)))


def _is_harmless(text: str) -> bool:
    """Whether nothing in JSON is to be taken out: no escape but of quotes, backslashes, tabs, new lines."""
    escapes = text.replace(r"\\", "")
    return text.isprintable() and not any(one in escapes for one in (r"\b", r"\f", r"\r", r"\u"))


def _harmless(value: Any) -> Any:
    """A value whose keys are our own, with `_text` of each text."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {key: _harmless(item) for key, item in value.items()}
    return [_harmless(item) for item in value] if isinstance(value, tuple | list) else value


def _text(text: str) -> str:
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}\n[{len(text) - LONGEST:,} more characters]"
    return strip_control(text)
