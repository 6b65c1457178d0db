"""Requests out of a table, one reply each. What a reply is, a judge says afterwards.

The judge is shown the request as the table has it, not as a jailbreak puts it to the model: what is asked is
whether the model did what the request says.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from harness.config import OptionError, locate
from harness.engines.base import Engine
from harness.errors import AttemptFailure
from harness.rows import read_rows
from harness.suites.base import Render, Suite
from harness.suites.digests import digest
from harness.suites.messages import cut_off
from harness.suites.requests.jailbreaks import ENCODINGS, BestOf, Jailbreak, turns
from harness.suites.subset import Subset, draw_stratified, draw_text
from harness.types import (
    ChosenMetric,
    Declared,
    FailureKind,
    Message,
    Metric,
    Sample,
    Sampling,
    Score,
    Struct,
    Transcript,
)

SCORER_VERSION = "1"
"""Raised whenever a change here could change what is judged."""

JAILBREAK, PURPOSE = "jailbreak", "purpose"
"""Labels of a sample: how the request is put; whether it chooses the best jailbreak, or is measured."""


class RequestMetric(Struct):
    """A share of the replies."""

    classes: tuple[str, ...]
    """The judge's classes that it counts."""
    higher_is_better: bool | None = None
    where: dict[str, str] = {}
    """Labels that a request must have."""
    by: tuple[str, ...] = ()
    """Labels: a metric more for each of their values, `<metric>:<value>`."""
    contrast: str = ""
    """One of `by`: between origins is compared by how much the rate differs between its values."""
    headline: bool = False


class Options(Subset, kw_only=True):
    """Options of the `requests` adapter.

    `limit` is of each table. Kinds that `labels` tells apart are drawn from in proportion.
    """

    metrics: dict[str, RequestMetric]
    """Name -> which share of the replies it is."""
    path: str = ""
    """The table: CSV or JSONL, which may be compressed (.xz, .gz)."""
    tables: dict[str, str] = {}
    """Several tables with the same columns, name -> path, in place of one: a sample is then called
    `<table>/<id>`, and has the label `table`."""
    request: str = "request"
    """Column of the request."""
    id: str = "id"
    """Column of what tells a request from others."""
    context: str = ""
    """Column of a text that stands before the request, where a row has one. Judges may be shown it apart."""
    labels: dict[str, str] = {}
    """Label -> column: kinds of requests, for metrics of one kind alone."""
    clusters: dict[str, str] = {}
    """Factor -> column: requests that share a level are not independent."""
    keep: dict[str, tuple[str, ...]] = {}
    """Column -> values: rows with another one are left out."""
    leave_out: dict[str, tuple[str, ...]] = {}
    """Column -> values: rows with one of them are left out."""
    system_message: str = ""
    """What the model is told first; empty for nothing."""
    jailbreaks: dict[str, Jailbreak] = {}
    """Name -> a way to put every request. None: as it is. A sample is then called `<jailbreak>/<id>`, and has
    the label `jailbreak`; each metric has one more for every jailbreak, `<metric>:<jailbreak>`."""
    best_of: BestOf | None = None
    """The best jailbreak of each model: `<metric>:best_of`, which is the headline in place of `<metric>`."""


def build(name: str | None, options: Options) -> list["RequestSuite"]:
    """The suite.

    Raises:
        OptionError: the options name a column that the table has not, or leave no request.
        UserError: the table cannot be read.
    """
    if bool(options.path) == bool(options.tables):
        raise OptionError("give either `path` or `tables`", "path")
    return [RequestSuite(name or Path(options.path or "requests").name.split(".")[0], options)]


@dataclass(frozen=True)
class _Row:
    """A request with all that its table says of it."""

    id: str
    table: str
    columns: dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """A request as it is put to the model."""

    row: _Row
    jailbreak: str
    """Empty where the suite has none."""
    turns: tuple[str, ...]
    """What the user says, one reply each."""


class RequestSuite(Suite):
    """Requests of one make, each put in every way that the options name."""

    def __init__(self, name: str, options: Options) -> None:
        """Raises as `build`."""
        self.name, self.options = name, options
        self._ways = {way: turns(way, jailbreak) for way, jailbreak in options.jailbreaks.items()} or {
            "": ("{request}",)
        }
        rows = [
            row
            for table, path in (options.tables or {"": options.path}).items()
            for row in self._read(table, Path(locate(path)))[: options.limit]
        ]
        self._drawing: dict[str, str] = {}
        if options.sample is not None and rows:
            self._drawing = {"sample": draw_text(options.sample, len(rows), options.sample_seed)}
            if len(self._ways) == 1:  # else a request that is drawn is asked in several ways
                self.drawn_from = len(rows)
            kinds = [" ".join(str(row.columns[name]) for name in options.labels.values()) for row in rows]
            rows = [rows[place] for place in draw_stratified(kinds, options.sample, options.sample_seed)]
        self._rows = rows
        if not self._rows:
            raise OptionError("`keep` and `leave_out` leave no request", "keep")
        if (best := options.best_of) is not None:
            self._check_best(best)

    def _read(self, table: str, path: Path) -> list[_Row]:
        rows = read_rows(path)
        self._check_columns(path, list(rows[0]))
        requests = [
            _Row(
                id=f"{table}/{row[self.options.id]}" if table else str(row[self.options.id]),
                table=table,
                columns=row,
            )
            for row in rows
            if self._wanted(row)
        ]
        twice = [name for name, count in Counter(row.id for row in requests).items() if count > 1]
        if twice:
            raise OptionError(f"{path}: two requests are called {twice[0]!r}", "id")
        return requests

    def _check_columns(self, path: Path, columns: list[str]) -> None:
        options = self.options
        named = [("request", options.request), ("id", options.id), ("context", options.context)]
        for key in ("labels", "clusters"):
            named += [(key, column) for column in getattr(options, key).values()]
        for key in ("keep", "leave_out"):
            named += [(key, column) for column in getattr(options, key)]
        named += [(f"jailbreaks.{name}.request", way.request) for name, way in options.jailbreaks.items()]
        for key, column in named:
            if column and column not in columns:
                raise OptionError(f"{path} has no column {column!r}: use one of {', '.join(columns)}", key)

    def _check_best(self, best: BestOf) -> None:
        options = self.options
        if len(options.jailbreaks) < 2:
            raise OptionError("there is nothing to choose: give two jailbreaks or more", "best_of")
        if best.metric not in options.metrics:
            raise OptionError(
                f"no metric {best.metric!r}: use one of {', '.join(options.metrics)}", "best_of.metric"
            )
        if best.choose_on not in options.tables or len(options.tables) < 2:
            raise OptionError(
                f"{best.choose_on!r} has to be one of two `tables` or more: one chooses, others measure",
                "best_of.choose_on",
            )

    def _wanted(self, row: dict[str, Any]) -> bool:
        kept = all(str(row[column]) in values for column, values in self.options.keep.items())
        return kept and not any(
            str(row[column]) in values for column, values in self.options.leave_out.items()
        )

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """See `Suite.metrics`: each as the options have it, by the values of labels, and by jailbreak."""
        return tuple(
            Metric(
                name=name,
                higher_is_better=option.higher_is_better,
                kind="rate",
                bounds=(0.0, 1.0),
                where=where,
                headline=option.headline and name == metric and self.options.best_of is None,
                judged=option.classes,
                contrast=option.contrast if option.contrast in where else "",
            )
            for metric, option in self.options.metrics.items()
            for name, where in self._parts(metric, option)
        )

    def _parts(self, metric: str, option: RequestMetric) -> Iterator[tuple[str, dict[str, str]]]:
        """(name, labels that a request must have) of a metric, and of those of its parts."""
        best = self.options.best_of
        measured = {PURPOSE: "measure"} if best else {}
        yield metric, {**measured, **option.where}
        for label in (*option.by, *([JAILBREAK] if self.options.jailbreaks else [])):
            for value in sorted({self._labels(asked).get(label, "") for asked in self._asked} - {""}):
                yield f"{metric}:{value}", {**measured, **option.where, label: value}
        if best is not None and metric == best.metric:
            yield f"{metric}:{best.choose_on}", {**option.where, PURPOSE: "choose"}

    @cached_property
    def declared(self) -> Declared:
        """See `Suite.declared`: every metric with the jailbreak that is best on the model."""
        options, best = self.options, self.options.best_of
        if best is None:
            return Declared()
        plain = {metric.name: metric for metric in self.metrics if metric.name in options.metrics}
        return Declared(
            chosen=tuple(
                ChosenMetric(
                    metric=replace(metric, name=f"{name}:best_of", headline=options.metrics[name].headline),
                    of=name,
                    label=JAILBREAK,
                    levels=tuple(options.jailbreaks),
                    by=f"{best.metric}:{best.choose_on}",
                    unit="request",
                )
                for name, metric in plain.items()
            )
        )

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        options = self.options
        return {
            "adapter": "requests",
            "requests": digest([asked.turns for asked in self._asked]),
            "judged": digest([self._request(row) for row in self._rows]),
            "system_message": digest(options.system_message),
            **({"context": "told to judges apart"} if options.context else {}),
            "jailbreaks": ", ".join(options.jailbreaks) or "none",
            "best_of": f"{options.best_of.metric} on {options.best_of.choose_on}" if options.best_of else "",
            "limit": str(options.limit),
            **self._drawing,
            "scorer": SCORER_VERSION,
        }

    @cached_property
    def _asked(self) -> list[_Asked]:
        """Every request in every way, in the order of the jailbreaks and of the tables."""
        return [
            _Asked(row, way, tuple(turn.replace("{request}", self._put(row, way)) for turn in texts))
            for way, texts in self._ways.items()
            for row in self._rows
        ]

    def _request(self, row: _Row, column: str = "") -> str:
        """What is asked; without a column, as the judge is shown it."""
        context, request = self._context(row), str(row.columns[column or self.options.request])
        return f"{context}\n\n---\n\n{request}" if context else request

    def _context(self, row: _Row) -> str:
        return str(row.columns[self.options.context]).strip() if self.options.context else ""

    def _put(self, row: _Row, way: str) -> str:
        """The request where it stands in what the model is shown."""
        jailbreak = self.options.jailbreaks.get(way, Jailbreak())
        return ENCODINGS[jailbreak.encoding](self._request(row, jailbreak.request))

    def _labels(self, asked: _Asked) -> dict[str, str]:
        row, best = asked.row, self.options.best_of
        return {
            **{label: str(row.columns[column]) for label, column in self.options.labels.items()},
            **({"table": row.table} if row.table else {}),
            **({JAILBREAK: asked.jailbreak} if asked.jailbreak else {}),
            **({PURPOSE: "choose" if row.table == best.choose_on else "measure"} if best else {}),
        }

    def _clusters(self, asked: _Asked) -> dict[str, str]:
        """What a request shares with others; with itself, where it is put in several ways."""
        own = {"request": asked.row.id} if len(self._ways) > 1 else {}
        row = asked.row.columns
        return {**own, **{factor: str(row[column]) for factor, column in self.options.clusters.items()}}

    def count(self) -> int:
        """See `Suite.count`."""
        return len(self._asked)

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`. The prompts do not depend on the model."""
        return [
            Sample(
                id=f"{asked.jailbreak}/{asked.row.id}" if asked.jailbreak else asked.row.id,
                content_hash=digest([asked.turns, self._request(asked.row), self.protocol]),
                clusters=self._clusters(asked),
                labels=self._labels(asked),
                payload=asked,
            )
            for asked in self._asked
        ]

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Ask, turn by turn.

        Raises:
            AttemptFailure: a reply has no answer: it is empty, or was cut off in the middle of its thought.
        """
        system = self.options.system_message
        messages = [Message(role="system", content=system)] if system else []
        replies = []
        for turn in sample.payload.turns:
            messages.append(Message(role="user", content=turn))
            reply = await engine.chat(messages, (), sampling)
            if not reply.text.strip():
                if reply.finish_reason == "length":
                    raise cut_off(reply)
                raise AttemptFailure(FailureKind.EMPTY_ANSWER, "the reply has no answer")
            messages.append(Message(role="assistant", content=reply.text, reasoning=reply.reasoning))
            replies.append(reply)
        return Transcript(messages=tuple(messages), generations=tuple(replies))

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """See `Suite.score`: what is to be judged, with no value yet. Of several replies it is the last."""
        row, context = sample.payload.row, self._context(sample.payload.row)
        request = str(row.columns[self.options.request])
        judged = (request, transcript.generations[-1].text, *([context] if context else []))
        labels = self._labels(sample.payload)
        return tuple(
            Score(metric=metric.name, value=None, operands=judged)
            for metric in self.metrics
            if all(labels.get(label) == value for label, value in metric.where.items())
        )
