"""Requests out of a table, one reply each. What a reply is, a judge says afterwards.

The judge is shown the request as the table has it, not as `template` frames it for the model: what is asked
is whether the model did what the request says.
"""

import base64
import codecs
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.config import OptionError
from harness.engines.base import Engine
from harness.errors import AttemptFailure
from harness.rows import read_rows
from harness.suites.agents import digest
from harness.suites.base import Render, Suite
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

    path: str
    """The table: CSV or JSONL, which may be compressed (.xz, .gz)."""
    metrics: dict[str, RequestMetric]
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
    return [RequestSuite(name or Path(options.path).name.split(".")[0], options)]


class RequestSuite(Suite):
    """Requests of one table."""

    metrics: tuple[Metric, ...]

    def __init__(self, name: str, options: Options) -> None:
        """Raises as `build`."""
        self.name, self.options = name, options
        if "{request}" not in options.template:
            raise OptionError("template has no {request}: put it where the request goes", "template")
        rows = read_rows(Path(options.path))
        self._check_columns(list(rows[0]))
        self._rows = [row for row in rows if self._wanted(row)][: options.limit]
        if not self._rows:
            raise OptionError(f"no row of {options.path} is left by `keep` and `leave_out`", "keep")
        self._check_ids()
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

    def _check_columns(self, columns: list[str]) -> None:
        options = self.options
        named = [("request", options.request), ("id", options.id), ("context", options.context)]
        for key in ("labels", "clusters"):
            named += [(key, column) for column in getattr(options, key).values()]
        for key in ("keep", "leave_out"):
            named += [(key, column) for column in getattr(options, key)]
        for key, column in named:
            if column and column not in columns:
                raise OptionError(
                    f"{options.path} has no column {column!r}: use one of {', '.join(columns)}", key
                )

    def _wanted(self, row: dict[str, Any]) -> bool:
        kept = all(str(row[column]) in values for column, values in self.options.keep.items())
        return kept and not any(
            str(row[column]) in values for column, values in self.options.leave_out.items()
        )

    def _check_ids(self) -> None:
        seen: set[str] = set()
        for row in self._rows:
            name = str(row[self.options.id])
            if name in seen:
                raise OptionError(f"{self.options.path}: two requests are called {name!r}", "id")
            seen.add(name)

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

    def _request(self, row: dict[str, Any]) -> str:
        """What is asked, as the judge is shown it."""
        context = str(row[self.options.context]).strip() if self.options.context else ""
        request = str(row[self.options.request])
        return f"{context}\n\n---\n\n{request}" if context else request

    def _shown(self, row: dict[str, Any]) -> str:
        """What the model is shown."""
        text = self._request(row)
        encoded = text if self.options.encoding == "none" else ENCODINGS[self.options.encoding](text)
        return self.options.template.replace("{request}", encoded)

    def count(self) -> int:
        """See `Suite.count`."""
        return len(self._rows)

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`. The prompts do not depend on the model."""
        options = self.options
        return [
            Sample(
                id=str(row[options.id]),
                content_hash=digest([self._shown(row), self._request(row), self.protocol]),
                clusters={factor: str(row[column]) for factor, column in options.clusters.items()},
                labels={label: str(row[column]) for label, column in options.labels.items()},
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
            kind = FailureKind.TRUNCATED if reply.finish_reason == "length" else FailureKind.EMPTY_ANSWER
            raise AttemptFailure(kind, "the reply has no answer")
        answer = Message(role="assistant", content=reply.text, reasoning=reply.reasoning)
        return Transcript(messages=(*messages, answer), generations=(reply,))

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """See `Suite.score`: what is to be judged, with no value yet."""
        judged = (self._request(sample.payload), transcript.generations[-1].text)
        labels = {label: str(sample.payload[column]) for label, column in self.options.labels.items()}
        return tuple(
            Score(metric=metric.name, value=None, operands=judged)
            for metric in self.metrics
            if all(labels.get(label) == value for label, value in metric.where.items())
        )
