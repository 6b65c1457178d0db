"""Live progress of a run: a table that redraws itself on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.engines.base import Engine
from harness.hostile import strip_control
from harness.records.load import RETRIED
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


@dataclass
class Turn:
    """A model that is being run."""

    tallies: dict[str, Tally]
    since: float = field(default_factory=time.monotonic)
    """When it began to load, or began to answer."""
    loaded: bool = False
    engine: Engine | None = None
    tokens: int = 0

    def footer(self) -> str:
        """Speed, load and the time that is left."""
        seconds = max(time.monotonic() - self.since, 1e-9)
        parts = [f"{self.tokens / seconds:,.0f} tokens/s"]
        if self.engine is not None:
            load = self.engine.load()
            parts.append(f"{load.running} running, {load.waiting} waiting")
        done = sum(t.done - t.before for t in self.tallies.values())
        left = sum(t.total - t.done for t in self.tallies.values())
        parts.append(f"about {seconds / done * left:.0f} s left" if done else "time left not known yet")
        return ", ".join(parts)


class LiveProgress:
    """Satisfies `harness.run.attempts.Progress`. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._turns: dict[str, Turn] = {}
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

    def begun(self, model: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """See `Progress.begun`."""
        tallies = {s: Tally(total, done[s], done[s]) for s, total in totals.items()}
        self._turns[model] = Turn(tallies)
        if not totals:
            self.note(f"{model}: nothing of it can be measured")
        elif done == totals:
            self.note(f"{model}: everything was finished before")
        else:
            kept = sum(done.values())
            self.note(f"{model}: loading" + (f" ({kept} attempts are kept)" if kept else ""))

    def loaded(self, model: str, engine: Engine | None) -> None:
        """See `Progress.loaded`."""
        turn = self._turns[model]
        self.note(f"{model}: loaded in {time.monotonic() - turn.since:.1f} s")
        turn.engine, turn.loaded = engine, True
        turn.since = self._drawn = time.monotonic()

    def finished(self, model: str, suite: str, record: Record) -> None:
        """See `Progress.finished`."""
        turn = self._turns[model]
        tally = turn.tallies[suite]
        tally.done += 1
        tally.truncated += record.truncated and record.failure is None
        self._retried += record.failure in RETRIED
        if record.failure:
            tally.failures[record.failure.value] += 1
        turn.tokens += record.usage.tokens or 0
        self._draw()

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._console.print(strip_control(text), markup=False, highlight=False)

    def ended(self, model: str) -> None:
        """See `Progress.ended`."""
        turn = self._turns.pop(model)
        for suite, tally in turn.tallies.items() if turn.loaded else ():
            self.note(f"{model}: {suite} {tally.done}/{tally.total}{_troubles(tally)}")

    def close(self) -> None:
        """Print the last lines."""
        for model in [*self._turns]:
            self.ended(model)
        if self._retried:
            self.note(
                f"{self._retried} attempts ended in an error of the engine or of a scorer: the same command "
                "with --retry-failures asks for them again"
            )

    def _draw(self) -> None:
        interval = 0.2 if self._console.is_terminal else LINE_SECONDS
        if time.monotonic() - self._drawn < interval:
            return
        self._drawn = time.monotonic()
        if self._console.is_terminal:
            self._live.update(Group(*self._tables()), refresh=True)
            return
        for model, turn in self._turns.items():
            suites = (f"{suite} {t.done}/{t.total}{_troubles(t)}" for suite, t in turn.tallies.items())
            self.note(f"{model}: {', '.join(suites)}; {turn.footer()}")

    def _tables(self) -> Iterator[Table | Text]:
        for model, turn in self._turns.items():
            table = Table(title=model, title_justify="left")
            table.add_column("suite")
            table.add_column("done", justify="right")
            table.add_column("failures by kind")
            for suite, tally in turn.tallies.items():
                table.add_row(Text(suite), f"{tally.done}/{tally.total}", _troubles(tally).strip(" ()"))
            yield table
            yield Text(turn.footer())  # a caption would be as narrow as the table


def _troubles(tally: Tally) -> str:
    counts = dict(sorted(tally.failures.items()))
    if tally.truncated:
        counts["cut off but scored"] = tally.truncated
    return f" ({', '.join(f'{n} {kind}' for kind, n in counts.items())})" if counts else ""
