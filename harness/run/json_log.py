"""Progress for programs: one JSON object a line."""

import sys
import time
from collections import Counter
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

import msgspec

from harness.engines.base import Engine
from harness.records.schema import EndFile
from harness.run.progress import LINE_SECONDS
from harness.types import Record


class JsonProgress:
    """Satisfies `harness.run.attempts.Progress`. Use as a context manager.

    Each line has `time` (ISO 8601, UTC) and `event`: `begun`, `loaded`, `progress` (every ten seconds),
    `ended` of a model; `note`; `end` of the run, with what `end.json` holds.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._done: dict[str, Counter[str]] = {}
        self._failures: dict[str, Counter[str]] = {}
        self._tokens: Counter[str] = Counter()
        self._told: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""

    def _say(self, event: str, **facts: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = msgspec.json.encode({"time": now, "event": event, **facts}).decode()
        self._out.write(line + "\n")
        self._out.flush()

    def begun(self, model: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """See `Progress.begun`."""
        self._done[model], self._failures[model] = Counter(done), Counter()
        self._told[model] = time.monotonic()
        self._say("begun", model=model, total=totals, done=done)

    def loaded(self, model: str, engine: Engine | None) -> None:
        """See `Progress.loaded`."""
        self._say("loaded", model=model)

    def finished(self, model: str, suite: str, record: Record) -> None:
        """See `Progress.finished`."""
        self._done[model][suite] += 1
        self._tokens[model] += record.usage.tokens or 0
        if record.failure:
            self._failures[model][record.failure.value] += 1
        if time.monotonic() - self._told[model] >= LINE_SECONDS:
            self._told[model] = time.monotonic()
            self._tell("progress", model)

    def _tell(self, event: str, model: str) -> None:
        self._say(
            event,
            model=model,
            done=dict(self._done[model]),
            failures=dict(self._failures[model]),
            tokens=self._tokens[model],
        )

    def ended(self, model: str) -> None:
        """See `Progress.ended`."""
        self._tell("ended", model)
        del self._done[model], self._failures[model], self._told[model]

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._say("note", text=text)

    def close(self) -> None:
        """What is still told of has ended."""
        for model in [*self._done]:
            self.ended(model)

    def end(self, end: EndFile) -> None:
        """The run has ended."""
        self._say("end", **msgspec.to_builtins(end))
