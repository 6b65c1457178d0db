"""Live progress of a run: a table that redraws itself on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.engines.base import Engine
from harness.records.directory import RETRIED
from harness.types import Record

LINE_SECONDS = 10.0
"""Between two plain lines."""


@dataclass
class Tally:
    """One suite of the model that is being run."""

    total: int
    done: int
    before: int
    """Attempts that were finished before this process."""
    truncated: int = 0
    """Attempts that were scored although the token budget cut a reply off."""
    failures: Counter[str] = field(default_factory=Counter)


class LiveProgress:
    """Satisfies `harness.run.runner.Progress`. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._model = ""
        self._tallies: dict[str, Tally] = {}
        self._engine: Engine | None = None
        self._tokens = 0
        self._since = time.monotonic()
        self._drawn = 0.0
        self._retried = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def model(self, name: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """See `Progress.model`."""
        self._end_of_model()
        self._model, self._engine, self._tokens = name, None, 0
        self._since = time.monotonic()
        self._tallies = {s: Tally(total, done[s], done[s]) for s, total in totals.items()}
        if all(t.done == t.total for t in self._tallies.values()):
            self.note(f"{name}: everything was finished before")
        else:
            kept = sum(done.values())
            self.note(f"{name}: loading" + (f" ({kept} attempts are kept)" if kept else ""))

    def loaded(self, engine: Engine) -> None:
        """See `Progress.loaded`."""
        self._engine = engine
        self.note(f"{self._model}: loaded in {time.monotonic() - self._since:.1f} s")
        self._since = self._drawn = time.monotonic()

    def finished(self, suite: str, record: Record) -> None:
        """See `Progress.finished`."""
        tally = self._tallies[suite]
        tally.done += 1
        tally.truncated += record.truncated and record.failure is None
        self._retried += record.failure in RETRIED
        if record.failure:
            tally.failures[record.failure.value] += 1
        self._tokens += record.usage.tokens or 0
        self._draw()

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._console.print(text, markup=False, highlight=False)

    def _draw(self) -> None:
        interval = 0.2 if self._console.is_terminal else LINE_SECONDS
        if time.monotonic() - self._drawn < interval:
            return
        self._drawn = time.monotonic()
        if self._console.is_terminal:
            self._live.update(self._table(), refresh=True)
        else:
            self.note(self._line())

    def _end_of_model(self) -> None:
        if self._engine is not None:
            for suite, tally in self._tallies.items():
                self.note(f"{self._model}: {suite} {tally.done}/{tally.total}{_troubles(tally)}")

    def close(self) -> None:
        """Print the last model's lines."""
        self._end_of_model()
        self._engine = None
        if self._retried:
            self.note(
                f"{self._retried} attempts ended in an error of the engine or of a scorer: the same command "
                "with --retry-failures asks for them again"
            )

    def _line(self) -> str:
        suites = ", ".join(f"{suite} {t.done}/{t.total}{_troubles(t)}" for suite, t in self._tallies.items())
        return f"{self._model}: {suites}; {self._footer()}"

    def _table(self) -> Group:
        table = Table(title=self._model, title_justify="left")
        table.add_column("suite")
        table.add_column("done", justify="right")
        table.add_column("failures by kind")
        for suite, tally in self._tallies.items():
            table.add_row(Text(suite), f"{tally.done}/{tally.total}", _troubles(tally).strip(" ()"))
        return Group(table, Text(self._footer()))  # a caption would be as narrow as the table

    def _footer(self) -> str:
        seconds = max(time.monotonic() - self._since, 1e-9)
        parts = [f"{self._tokens / seconds:,.0f} tokens/s"]
        if self._engine is not None:
            load = self._engine.load()
            parts.append(f"{load.running} running, {load.waiting} waiting")
        return ", ".join([*parts, self._time_left(seconds)])

    def _time_left(self, seconds: float) -> str:
        done = sum(t.done - t.before for t in self._tallies.values())
        left = sum(t.total - t.done for t in self._tallies.values())
        return f"about {seconds / done * left:.0f} s left" if done else "time left not known yet"


def _troubles(tally: Tally) -> str:
    counts = dict(sorted(tally.failures.items()))
    if tally.truncated:
        counts["cut off but scored"] = tally.truncated
    return f" ({', '.join(f'{n} {kind}' for kind, n in counts.items())})" if counts else ""
