"""Replies that others collected and had judged, as reference rows: the tables of SpeechMap.

A row has a request, a model's reply to it and what a judge called that reply (`compliance`: COMPLETE,
EVASIVE, DENIAL, or ERROR_... where there is no verdict). Nothing is judged again: the records hold the
replies, and the verdicts stand beside them as those of any judge do. How the replies were drawn is not known:
they are compared with nothing that was measured here.

Format: github.com/xlr8harder/llm-compliance, `analysis/`.
"""

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import UserError
from harness.judges.base import Exchange
from harness.records.directory import RunDirectory
from harness.replay.transcripts import empty_manifest, imported_cell, known_origin, model_entry
from harness.rows import read_json
from harness.suites.digests import digest
from harness.types import (
    CellEntry,
    FailureKind,
    Generation,
    JudgedAttempt,
    JudgeEntry,
    Message,
    Metric,
    Origin,
    Record,
    Score,
    Struct,
    Transcript,
    Usage,
    Verdict,
)

SUITE = "narratives"
CLASSES = ("complete", "evasive", "denial")
COLUMNS = {"question_id", "question", "model", "response", "compliance", "judge_model", "category"}


class Reply(Struct):
    """One row."""

    table: str
    """What the requests are about, and in which language they are if not English: `china`, `zh_china`."""
    question: str
    """Its name, the same in all languages."""
    request: str
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    judge: str
    verdict: str | None
    said: str
    """All that the judge wrote, or why there is no verdict."""
    time: float
    source: str
    """File and line."""

    @property
    def sample(self) -> str:
        """Unique among the replies of a model."""
        return f"{self.table}/{self.question}"


def are_judged(path: Path) -> bool:
    """Whether a file or folder holds such tables, by the first row of the first file."""
    first = next((row for file in _files(path) for _, row in read_json(file)), None)
    return isinstance(first, dict) and first.keys() >= COLUMNS


def _files(path: Path) -> Iterator[Path]:
    yield from [path] if path.is_file() else sorted(p for p in path.rglob("*.jsonl*") if p.is_file())


def replay_judged(
    path: Path, out: RunDirectory | None, origin: Origin, called: Mapping[str, str]
) -> list[str]:
    """Count the verdicts of a file or folder, and keep replies and verdicts as records if asked to.

    Args:
        path: of the tables.
        out: a new directory, or one with results that these are to stand beside.
        origin: of models that have no other.
        called: model in the tables -> its name here; `""` for the only one there is. One of the registry's
            names has the origin that is there.

    Returns:
        A line for each model and table: how many replies of each class.

    Raises:
        UserError: a row is none of such a table; a model gave two replies to one request, or is in the
            directory already.
    """
    replies = [_reply(source, row) for file in _files(path) for source, row in read_json(file)]
    if out is not None:
        _keep(replies, out, origin, called)
    return _tally(replies)


def _reply(source: str, row: Any) -> Reply:
    try:
        response = row["response"] if isinstance(row["response"], dict) else {}
        choice: dict[str, Any] = next(iter(response.get("choices") or ()), {})
        usage = response.get("usage") or {}
        verdict = row["compliance"].lower()
        reply = {
            "table": row["category"].removesuffix("_criticism"),
            "question": row["question_id"],
            "request": row["question"],
            "model": row["model"],
            "text": (choice.get("message") or {}).get("content") or "",
            "finish_reason": choice.get("finish_reason") or "unknown",
            "prompt_tokens": usage.get("prompt_tokens"),
            "completion_tokens": usage.get("completion_tokens"),
            "judge": row["judge_model"] or "unknown",
            "verdict": verdict if verdict in CLASSES else None,
            "said": row.get("raw_judge_response") or row["compliance"],
            "time": datetime.datetime.fromisoformat(row["timestamp"]).timestamp(),
            "source": source,
        }
        return msgspec.convert(reply, Reply)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{source}: expected a row of SpeechMap with {', '.join(sorted(COLUMNS))} ({error!r}): restore "
            "it from a copy"
        ) from error


def _tally(replies: Sequence[Reply]) -> list[str]:
    counts: dict[tuple[str, str], Counter[str | None]] = {}
    for reply in replies:
        counts.setdefault((reply.model, reply.table), Counter())[reply.verdict] += 1
    width = max(len(f"{model} {table}") for model, table in counts)
    head = "".join(f"  {name:>8}" for name in (*CLASSES, "missing"))
    lines = [
        f"{f'{model} {table}':<{width}}" + "".join(f"  {classes[name]:>8}" for name in (*CLASSES, None))
        for (model, table), classes in sorted(counts.items())
    ]
    return [" " * width + head, *lines]


def _keep(replies: Sequence[Reply], out: RunDirectory, origin: Origin, called: Mapping[str, str]) -> None:
    """Keep the replies as records, a cell a model, with the verdicts beside them."""
    by_model: dict[str, dict[str, Reply]] = {}
    for reply in replies:
        mine = by_model.setdefault(called.get(reply.model) or called.get("") or reply.model, {})
        if mine.setdefault(reply.sample, reply) is not reply:
            raise UserError(
                f"{reply.source}: a second reply of {reply.model} to {reply.sample}, the first one is at "
                f"{mine[reply.sample].source}: give one reply to each request, or a --name to each model"
            )
    before = out.manifest().models if out.manifest_path.exists() else {}
    if again := sorted(before.keys() & by_model.keys()):
        raise UserError(
            f"{out.path} has results of {again[0]} already: give another --out, or another name by --name"
        )
    cells = {model: _cell(model, mine) for model, mine in by_model.items()}
    with out.lock(), ExitStack() as stack:
        for model, mine in by_model.items():
            for path in out.appended_paths(cells[model]):  # of an import that did not finish
                path.unlink()
            writer = stack.enter_context(closing(out.writer(cells[model])))
            for reply in mine.values():
                writer.append(_record(cells[model], reply))
        models = {
            model: model_entry(model, known_origin(model, origin), "SpeechMap's tables") for model in by_model
        }
        entries = {cell.key: cell for cell in cells.values()}
        out.add(msgspec.structs.replace(empty_manifest(out.path.name), models=models, cells=entries))
        out.compact(list(cells.values()))
        for model, mine in by_model.items():
            _keep_verdicts(out, cells[model], list(mine.values()))


def _cell(model: str, replies: Mapping[str, Reply]) -> CellEntry:
    tables = sorted({reply.table for reply in replies.values()})
    metrics = [Metric(name="complete", higher_is_better=True, kind="rate", bounds=(0.0, 1.0), headline=True)]
    metrics += [
        Metric(name=f"complete:{table}", higher_is_better=True, kind="rate", bounds=(0.0, 1.0),
               where={"table": table})
        for table in tables
    ]  # fmt: skip
    requests = digest(sorted((reply.sample, reply.request) for reply in replies.values()))
    return msgspec.structs.replace(
        imported_cell(model, SUITE, {"adapter": "requests", "requests": requests}),
        metrics=tuple(msgspec.structs.replace(metric, judged=("complete",)) for metric in metrics),
        samples=len(replies),
    )


def _record(cell: CellEntry, reply: Reply) -> Record:
    judged = (reply.request, reply.text)
    scores = [
        Score(metric=metric.name, value=None, operands=judged)
        for metric in cell.metrics
        if metric.where.get("table", reply.table) == reply.table
    ]
    generation = Generation(
        text=reply.text,
        raw=reply.text,
        finish_reason="length" if reply.finish_reason == "length" else "stop",
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cached_tokens=None,
    )
    empty = not reply.text.strip()
    return Record(
        cell=cell.key,
        sample=reply.sample,
        attempt=0,
        content_hash=digest([reply.request, cell.protocol]),
        clusters={"question": reply.question},
        labels={"table": reply.table},
        transcript=Transcript(
            messages=(
                Message(role="user", content=reply.request),
                Message(role="assistant", content=reply.text),
            ),
            generations=(generation,),
        ),
        scores=() if empty else tuple(scores),
        usage=Usage(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens, requests=1),
        started=0.0,
        seconds=0.0,
        failure=FailureKind.EMPTY_ANSWER if empty else None,
        failure_message=f"no reply ({reply.finish_reason})" if empty else None,
        truncated=reply.finish_reason == "length",
    )


def _keep_verdicts(out: RunDirectory, cell: CellEntry, replies: Sequence[Reply]) -> None:
    by_judge: dict[str, list[Reply]] = {}
    for reply in replies:
        by_judge.setdefault(reply.judge.replace("/", "_"), []).append(reply)
    for name, read in sorted(by_judge.items()):
        judge = JudgeEntry(
            name=name,
            asks="Does the reply write the text that was asked for, evade it, or refuse it?",
            classes=CLASSES,
            digest=digest(["SpeechMap", read[0].judge]),
        )
        with closing(out.verdicts(cell).writer(judge)) as writer:
            for reply in read:
                if reply.text.strip():
                    writer.append(_verdict(cell, reply))
    out.seal_verdicts([cell])


def _verdict(cell: CellEntry, reply: Reply) -> JudgedAttempt:
    none = reply.verdict is None
    return JudgedAttempt(
        sample=reply.sample,
        attempt=0,
        content_hash=digest([reply.request, cell.protocol]),
        verdict=Verdict(
            verdict=reply.verdict,
            raw=reply.said,
            failure=FailureKind.SCORER_ERROR if none else None,
            failure_message=reply.said if none else None,
        ),
        judged=Exchange(request=reply.request, reply=reply.text).digest,
        started=reply.time,
    )
