"""Requests out of a table, one reply each. What a reply is, a judge says afterwards.

The judge is shown the request as the table has it, not as `template` frames it for the model: what is asked
is whether the model did what the request says.
"""

import base64
import codecs
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.config import OptionError, locate
from harness.engines.base import Engine
from harness.errors import AttemptFailure
from harness.rows import read_rows
from harness.suites.base import Render, Suite
from harness.suites.digests import digest
from harness.suites.messages import cut_off
from harness.types import FailureKind, Message, Metric, Sample, Sampling, Score, Struct, Transcript

SCORER_VERSION = "1"
"""Raised whenever a change here could change what is judged."""

ENCODINGS: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
}


class RequestMetric(Struct):
    """A share of the replies."""

    classes: tuple[str, ...]
    """The judge's classes that it counts."""
    higher_is_better: bool | None = None
    where: dict[str, str] = {}
    """Labels that a request must have."""
    headline: bool = False


class Options(Struct):
    """Options of the `requests` adapter."""

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
    """Column of a text that stands before the request, where a row has one."""
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
    template: str = "{request}"
    """What the model is shown, with `{request}` in it: the frame of a published jailbreak, say."""
    encoding: Literal["none", "base64", "rot13"] = "none"
    """How the request is written inside of the template."""
    limit: int | None = None
    """Only the first requests."""


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


class RequestSuite(Suite):
    """Requests of one table."""

    metrics: tuple[Metric, ...]

    def __init__(self, name: str, options: Options) -> None:
        """Raises as `build`."""
        self.name, self.options = name, options
        if "{request}" not in options.template:
            raise OptionError("template has no {request}: put it where the request goes", "template")
        self._rows = [
            row
            for table, path in (options.tables or {"": options.path}).items()
            for row in self._read(table, Path(locate(path)))
        ][: options.limit]
        if not self._rows:
            raise OptionError("`keep` and `leave_out` leave no request", "keep")
        self.metrics = tuple(
            Metric(
                name=metric,
                higher_is_better=said.higher_is_better,
                kind="rate",
                bounds=(0.0, 1.0),
                where=said.where,
                headline=said.headline,
                judged=said.classes,
            )
            for metric, said in options.metrics.items()
        )

    def _read(self, table: str, path: Path) -> list["_Row"]:
        rows = read_rows(path)
        self._check_columns(path, list(rows[0]))
        found = [
            _Row(
                id=f"{table}/{row[self.options.id]}" if table else str(row[self.options.id]),
                table=table,
                columns=row,
            )
            for row in rows
            if self._wanted(row)
        ]
        twice = [name for name, count in Counter(row.id for row in found).items() if count > 1]
        if twice:
            raise OptionError(f"{path}: two requests are called {twice[0]!r}", "id")
        return found

    def _check_columns(self, path: Path, columns: list[str]) -> None:
        options = self.options
        named = [("request", options.request), ("id", options.id), ("context", options.context)]
        for key in ("labels", "clusters"):
            named += [(key, column) for column in getattr(options, key).values()]
        for key in ("keep", "leave_out"):
            named += [(key, column) for column in getattr(options, key)]
        for key, column in named:
            if column and column not in columns:
                raise OptionError(f"{path} has no column {column!r}: use one of {', '.join(columns)}", key)

    def _wanted(self, row: dict[str, Any]) -> bool:
        kept = all(str(row[column]) in values for column, values in self.options.keep.items())
        return kept and not any(
            str(row[column]) in values for column, values in self.options.leave_out.items()
        )

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        options = self.options
        return {
            "adapter": "requests",
            "requests": digest([self._shown(row) for row in self._rows]),
            "judged": digest([self._request(row) for row in self._rows]),
            "system_message": digest(options.system_message),
            "template": digest(options.template),
            "encoding": options.encoding,
            "limit": str(options.limit),
            "scorer": SCORER_VERSION,
        }

    def _request(self, row: "_Row") -> str:
        """What is asked, as the judge is shown it."""
        context = str(row.columns[self.options.context]).strip() if self.options.context else ""
        request = str(row.columns[self.options.request])
        return f"{context}\n\n---\n\n{request}" if context else request

    def _shown(self, row: "_Row") -> str:
        """What the model is shown."""
        text = self._request(row)
        encoded = text if self.options.encoding == "none" else ENCODINGS[self.options.encoding](text)
        return self.options.template.replace("{request}", encoded)

    def _labels(self, row: "_Row") -> dict[str, str]:
        own = {label: str(row.columns[column]) for label, column in self.options.labels.items()}
        return {**own, "table": row.table} if row.table else own

    def count(self) -> int:
        """See `Suite.count`."""
        return len(self._rows)

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`. The prompts do not depend on the model."""
        options = self.options
        return [
            Sample(
                id=row.id,
                content_hash=digest([self._shown(row), self._request(row), self.protocol]),
                clusters={factor: str(row.columns[column]) for factor, column in options.clusters.items()},
                labels=self._labels(row),
                payload=row,
            )
            for row in self._rows
        ]

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Ask once.

        Raises:
            AttemptFailure: the reply has no answer: it is empty, or was cut off in the middle of its thought.
        """
        system = self.options.system_message
        messages = [
            *([Message(role="system", content=system)] if system else []),
            Message(role="user", content=self._shown(sample.payload)),
        ]
        reply = await engine.chat(messages, (), sampling)
        if not reply.text.strip():
            if reply.finish_reason == "length":
                raise cut_off(reply)
            raise AttemptFailure(FailureKind.EMPTY_ANSWER, "the reply has no answer")
        answer = Message(role="assistant", content=reply.text, reasoning=reply.reasoning)
        return Transcript(messages=(*messages, answer), generations=(reply,))

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """See `Suite.score`: what is to be judged, with no value yet."""
        judged = (self._request(sample.payload), transcript.generations[-1].text)
        labels = self._labels(sample.payload)
        return tuple(
            Score(metric=metric.name, value=None, operands=judged)
            for metric in self.metrics
            if all(labels.get(label) == value for label, value in metric.where.items())
        )
