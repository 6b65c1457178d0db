"""What is to be seen of an attempt, whatever it is shown in. Text here is raw: each format defuses it."""

import difflib
import json
from bisect import bisect
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.show.injected import find_injections
from harness.suites.base import Suite
from harness.suites.explanation import Effects, Explanation
from harness.suites.restore import Restored
from harness.types import (
    CellEntry,
    Generation,
    Message,
    ModelEntry,
    Record,
    Sample,
    Score,
    Struct,
    Transcript,
)


class Piece(Struct, omit_defaults=True):
    """A part of a text."""

    text: str
    injected: bool = False
    """The attacker wrote it."""


class Call(Struct, omit_defaults=True):
    """A tool call."""

    name: str
    arguments: str
    """As indented JSON."""
    effects: Effects | None = None
    """None where nothing is known of them."""


class Step(Struct, omit_defaults=True):
    """One message."""

    role: str
    title: str
    pieces: tuple[Piece, ...]
    reasoning: str | None = None
    calls: tuple[Call, ...] = ()
    notes: tuple[str, ...] = ()


class Verdict(Struct, omit_defaults=True):
    """A score and what it rests on."""

    metric: str
    value: str
    reason: str | None
    answer: str | None


class View(Struct, omit_defaults=True):
    """An attempt."""

    pair: str
    model: str
    facts: tuple[tuple[str, str], ...]
    """(name, value)."""
    failure: str | None
    injections: tuple[tuple[str, str], ...]
    """(vector, text)."""
    steps: tuple[Step, ...]
    verdicts: tuple[Verdict, ...]


def find(
    directory: RunDirectory,
    pair: str,
    model: str | None,
    attempt: int,
    suites: Mapping[str, str] | None = None,
) -> tuple[Restored, CellEntry, Record]:
    """The record that is asked for; `suites` as in `show`.

    Raises:
        UserError: there is none; the sentence says what there is.
    """
    run = Restored(directory, suites)
    cells = [c for c in run.manifest.cells.values() if pair.startswith(f"{c.suite}/")]
    if not cells:
        known = sorted({c.suite for c in run.manifest.cells.values()})
        raise UserError(
            f"--pair {pair}: expected <suite>/<sample>, with one of the suites {', '.join(known)}"
        )
    asked = [c for c in cells if model in (None, c.model)]
    matching = {c.model: r for c in asked if (r := _records(directory, c, pair))}
    if not matching and (
        others := {c.model for c in cells if c not in asked and _records(directory, c, pair)}
    ):
        raise UserError(f"{model!r} has no record of {pair}: use one of {', '.join(sorted(others))}")
    if not matching:
        raise UserError(f"there is no record of {pair}: {_close(directory, cells, pair)}")
    if len(matching) > 1:
        raise UserError(f"several models have {pair}: add --model with one of {', '.join(sorted(matching))}")
    ((chosen, (cell, records)),) = matching.items()
    if attempt not in records:
        have = ", ".join(map(str, sorted(records)))
        raise UserError(f"{chosen} has no attempt {attempt} at {pair}: use one of {have}")
    return run, cell, records[attempt]


def _records(
    directory: RunDirectory, cell: CellEntry, pair: str
) -> tuple[CellEntry, dict[int, Record]] | None:
    """The cell with attempt -> record of the pair, None if there is no record."""
    name = pair.removeprefix(f"{cell.suite}/")
    records = {r.attempt: r for r in directory.attempts_at(cell, name)}
    return (cell, records) if records else None


def _close(directory: RunDirectory, cells: Sequence[CellEntry], pair: str) -> str:
    known = sorted({f"{c.suite}/{name}" for c in cells for name in directory.samples(c)})
    at = bisect(known, pair)
    near = known[max(0, at - NEAR) : at + NEAR]
    close = difflib.get_close_matches(pair, near, n=4) or known[:4]
    return f"use one such as {', '.join(close)}" if close else "the run has not come to it yet"


NEAR = 1000
"""Names before and after one that is not there that may be what was meant: to compare all takes seconds."""


def make_view(run: Restored, cell: CellEntry, record: Record) -> View:
    """The attempt of a record, with whatever the run's suite can still say about it."""
    suite = run.suite(cell)
    try:
        return Viewer(run, cell, suite, run.samples(cell, suite)).view(record)
    except UserError as error:  # the chat template that wrote the prompts is not here
        return Viewer(run, cell, suite, {}, str(error)).view(record)


@dataclass(frozen=True)
class Viewer:
    """Makes views of the attempts of one cell."""

    run: Restored
    cell: CellEntry
    suite: Suite | None
    """None where it cannot be made any more: then the transcript alone is shown."""
    samples: Mapping[str, Sample]
    missing: str | None = None
    """Why there are no samples."""

    def view(self, record: Record) -> View:
        """What is to be seen of an attempt of the cell."""
        cell, sample, missing = self.cell, self.samples.get(record.sample), self.missing
        if missing is None and (sample is None or sample.content_hash != record.content_hash):
            sample, missing = None, CHANGED
        explained = Explanation()
        prompts: tuple[tuple[str, ...], ...] = ()
        if sample is not None and self.suite is not None:
            explained = self.suite.explain(sample, record.transcript)
            prompts = self.suite.prompts(sample)
        return View(
            pair=f"{cell.suite}/{record.sample}",
            model=cell.model,
            facts=tuple(_facts(self.run.manifest.models[cell.model], cell, record, missing)),
            failure=f"{record.failure}: {record.failure_message}" if record.failure else None,
            injections=tuple(explained.injections.items()),
            steps=tuple(_steps(record.transcript, explained, prompts)),
            verdicts=tuple(verdict(score, cell, explained, record.transcript) for score in record.scores),
        )


CHANGED = "the suite or its data have changed since: prompts and injections cannot be shown"


def _facts(
    model: ModelEntry, cell: CellEntry, record: Record, missing: str | None
) -> Iterator[tuple[str, str]]:
    origin = f"{model.origin.developer}, {model.origin.country}"
    yield "model", f"{model.name} ({origin})" + (", imported" if model.imported else "")
    protocol = {
        key: cell.protocol[key] for key in ("setting", "attack", "defence", "variant") if key in cell.protocol
    }
    if protocol:
        yield "protocol", ", ".join(f"{key} {value}" for key, value in protocol.items())
    yield "attempt", str(record.attempt)
    if record.started:
        yield "started", datetime.fromtimestamp(record.started, UTC).isoformat(" ", "seconds")
    yield "cost", _cost(record) if not model.imported else "not known: imported transcripts do not say"
    if record.truncated:
        where = " in mid-thought" if record.thoughts_cut else ""
        yield "truncated", f"a reply hit its token budget{where}"
    if record.thoughts_ended:
        yield "thoughts ended", f"{record.thoughts_ended}, by their budget"
    for text in record.warnings:
        yield "warning", text
    if missing:
        yield "not shown", missing


def _cost(record: Record) -> str:
    usage = record.usage
    joules = "" if usage.joules is None else f", {usage.joules:.3g} J"
    return (
        f"{record.seconds:.1f} s, {usage.requests} requests, {_told(usage.prompt_tokens)} tokens read "
        f"({_told(usage.cached_tokens)} cached), {_told(usage.completion_tokens)} written{joules}"
    )


def _told(count: int | None) -> str:
    return "unknown" if count is None else str(count)


def _steps(
    transcript: Transcript, explained: Explanation, prompts: Sequence[tuple[str, ...]]
) -> Iterator[Step]:
    """Every message; where an attempt holds no conversation, every prompt with its replies."""
    if transcript.messages:
        yield from _conversation(transcript, explained.effects, explained.injections)
        return
    each = max(1, len(transcript.generations) // max(1, len(prompts)))  # replies to one prompt
    for number, reply in enumerate(transcript.generations):
        if number // each < len(prompts):
            yield Step(role="user", title="prompt", pieces=(Piece(text=prompts[number // each][0]),))
        yield _reply(reply)
    for number, scored in enumerate(transcript.loglikelihoods):
        context, *continuation = prompts[number] if number < len(prompts) else ("", "")
        if number == 0 or number >= len(prompts) or context != prompts[number - 1][0]:
            yield Step(role="user", title="context", pieces=(Piece(text=context),))
        note = f"log-likelihood {scored.logprob:.3f} over {scored.tokens} tokens"
        greedy = "what greedy decoding writes" if scored.is_greedy else "not what greedy decoding writes"
        text = "".join(continuation)
        yield Step(
            role="assistant", title=f"continuation {number}", pieces=(Piece(text=text),), notes=(note, greedy)
        )


def _reply(reply: Generation) -> Step:
    calls = tuple(Call(name=c.name, arguments=pretty(c.arguments)) for c in reply.tool_calls)
    return Step(
        role="assistant",
        title="reply",
        pieces=(Piece(text=reply.text),),
        reasoning=reply.reasoning,
        calls=calls,
        notes=tuple(_notes(reply)),
    )


def _notes(reply: Generation) -> Iterator[str]:
    if reply.finish_reason == "length":
        yield f"cut off after {_told(reply.completion_tokens)} tokens"
    if reply.parse_error is not None:
        yield f"could not be parsed ({reply.parse_error}); as it was written: {reply.raw}"


def _conversation(
    transcript: Transcript, effects_of_calls: Sequence[Effects], injections: Mapping[str, str]
) -> Iterator[Step]:
    replies = deque(transcript.generations)
    effects = iter(effects_of_calls)
    for message in transcript.messages:
        reply = replies.popleft() if replies and _is_from(message, replies[0]) else None
        yield Step(
            role=message.role,
            title=f"result of {message.name}" if message.role == "tool" else message.name or message.role,
            pieces=tuple(_pieces(message, injections)),
            reasoning=message.reasoning,
            calls=tuple(
                Call(name=c.name, arguments=pretty(c.arguments), effects=next(effects, None))
                for c in message.tool_calls
            ),
            notes=tuple(_notes(reply)) if reply else (),
        )
    yield from (_reply(reply) for reply in replies)


def _is_from(message: Message, reply: Generation) -> bool:
    """Whether a message is what became of this reply, and not what a suite put into the agent's mouth."""
    if message.tool_calls:
        return any(call in reply.tool_calls for call in message.tool_calls)
    return message.role == "assistant" and message.content.startswith((reply.text, reply.raw))


def _pieces(message: Message, injections: Mapping[str, str]) -> Iterator[Piece]:
    text, last = message.content, 0
    spans = find_injections(text, injections) if message.role == "tool" else []
    for start, end in spans:
        yield Piece(text=text[last:start])
        yield Piece(text=text[start:end], injected=True)
        last = end
    yield Piece(text=text[last:])


def verdict(score: Score, cell: CellEntry, explained: Explanation, transcript: Transcript) -> Verdict:
    """A score as words: yes or no where it is a rate, and what it rests on.

    An answer that is the last message of the conversation stands above already.
    """
    last = transcript.messages[-1].content if transcript.messages else None
    name = score.metric.partition(":")[0]
    rates = {metric.name for metric in cell.metrics if metric.kind == "rate"}
    none = "not measured" if score.operands is None else "one number over all samples"
    value = none if score.value is None else f"{score.value:.6g}"
    words = {"0": "no", "1": "yes"} if score.metric in rates else {}
    return Verdict(
        metric=score.metric,
        value=words.get(value, value),
        reason=score.reason or explained.meanings.get(name),
        answer=None if score.answer == last else score.answer,
    )


def pretty(value: Any) -> str:
    """Arguments as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
