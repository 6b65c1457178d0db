"""Logs that `inspect view` opens: one `.eval` file a cell, made of inspect_ai's own objects.

An attempt that failed is a sample with an error and without scores; Inspect leaves it out of its means, as
the harness does. What a value means, and which way is better, stands in the log's metadata.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import UserError, pip_install
from harness.exports.prompts import Prompts
from harness.records.layout import cell_name
from harness.reports.text import direction
from harness.suites.restore import Restored
from harness.types import (
    CellEntry,
    Message,
    Metric,
    ModelEntry,
    Record,
    Sampling,
    Score,
    Usage,
    total_count,
)

MEANING = {
    "rate": "each attempt is 0 (no) or 1 (yes)",
    "mean": "a number for each attempt",
    "corpus": "not a mean of attempts: each has the operands, the value is computed from all of them",
}


BUFFERED = 256
"""Samples in memory at once."""


def write(run: Restored, out: Path) -> list[Path]:
    """Write one log a cell.

    Raises:
        UserError: inspect-ai is not installed.
    """
    try:
        import inspect_ai.log  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"logs for Inspect need the package inspect-ai ({error}): {pip_install('export')}"
        ) from error

    paths, prompts = [], Prompts(run)
    for cell in run.manifest.cells.values():
        path = out / file_name(run.manifest.created, cell_name(cell))
        with asyncio.Runner() as runner:  # Inspect may replace asyncio.run by one that leaks loops
            runner.run(_write_log(run, cell, prompts, path))
        paths.append(path)
    return prompts.whole(paths)


async def _write_log(run: Restored, cell: CellEntry, prompts: Prompts, path: Path) -> None:
    """As `inspect_ai.log.write_eval_log`, which wants all samples of a log at once."""
    from inspect_ai.log import EvalPlan, condense_sample
    from inspect_ai.log._recorders.eval import EvalRecorder

    model, seen = run.manifest.models[cell.model], Seen(cell)
    spec, recorder = _spec(run, cell), EvalRecorder(str(path.parent))
    try:
        await recorder.log_init(spec, str(path), clean=True)
        (log,) = recorder.data.values()
        await recorder.log_start(spec, EvalPlan())
        for record in run.records(cell):
            seen.add(record)
            sample = to_sample(model, cell, record, prompts.texts(cell, record))
            await recorder.log_sample(spec, condense_sample(sample))
            if seen.records % BUFFERED == 0:
                await log.write_buffered_samples()  # `flush` would copy the whole file each time
        complete = seen.records >= cell.samples * cell.attempts
        status: Any = "success" if complete else "cancelled"
        await recorder.log_finish(spec, status, seen.stats(model), seen.results(), None)
    except BaseException:
        # Its temporary file must not outlive the error: what is collected later complains on stderr.
        with suppress(OSError):  # what could not be written cannot be finished either
            await recorder.log_discard(spec)
        raise


def file_name(created: str, cell: str) -> str:
    """`<time>_<task>_<id>.eval`, which is how Inspect's viewer reads the names of its files."""
    readable, _, key = cell.rpartition("--")
    return f"{created.replace(':', '-')}_{readable.replace('_', '-')}_{key}.eval"


def _spec(run: Restored, cell: CellEntry) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalSpec
    from inspect_ai.model import GenerateConfig

    manifest, model = run.manifest, run.manifest.models[cell.model]
    version = cell.protocol.get("benchmark_version") or cell.protocol.get("task_version") or 0
    return EvalSpec(
        eval_id=cell.key[:22],
        run_id=manifest.config_digest,
        task_id=cell.key[22:44],
        created=manifest.created,
        task=cell.suite,
        task_version=version,
        task_args=cell.protocol,
        dataset=EvalDataset(
            name=cell.suite,
            samples=cell.samples,
            sample_ids=sorted(run.directory.samples(cell)),
            shuffled=False,
        ),
        model=cell.model,
        model_generate_config=GenerateConfig(**sampling(cell)),
        model_args=dict(model.engine.details) if model.engine else {},
        config=EvalConfig(epochs=cell.attempts),
        packages=manifest.versions,
        metadata={
            "origin": msgspec.to_builtins(model.origin),
            "architecture": msgspec.to_builtins(model.architecture),
            "engine": msgspec.to_builtins(model.engine),
            "imported": model.imported,
            "harness_version": manifest.harness_version,
            "cell": cell.key,
            "polarity": {metric.name: polarity(metric) for metric in cell.metrics},
        },
    )


def sampling(cell: CellEntry) -> dict[str, Any]:
    """How tokens were drawn, in Inspect's words; nothing where it is not known."""
    stated = {name: cell.protocol.get(f"sampling.{name}") for name in Sampling.__struct_fields__}
    names = ("temperature", "top_p", "top_k", "max_tokens", "seed")
    try:
        drawn = msgspec.convert({name: stated[name] for name in names}, Sampling, strict=False)
    except msgspec.ValidationError:
        return {}
    return {name: getattr(drawn, name) for name in names}


def polarity(metric: Metric) -> str:
    """What a value says, and which way is better."""
    hijacked = "; 1 means that the model was hijacked" if metric.hijack else ""
    failed = metric.booking or "a failed attempt has no value"
    return f"{direction(metric)}; {MEANING[metric.kind]}{hijacked}; {failed}"


class Seen:
    """What Inspect's header says of the records of a cell, which go by one after the other."""

    def __init__(self, cell: CellEntry) -> None:
        self._cell = cell
        self._usage = Usage()
        self._failed = 0
        self._scores: dict[str, tuple[int, float]] = {}
        """Metric -> how many attempts have a value, and the sum of them."""
        self._started, self._completed = 0.0, 0.0
        self.records = 0

    def add(self, record: Record) -> None:
        """Count a record."""
        known = [time for time in (self._started, record.started) if time]
        self._started = min(known, default=0.0)
        self._completed = max(self._completed, _completed(record))
        self._usage = _sum(self._usage, record.usage)
        self._failed += record.failure is not None
        self.records += 1
        for score in record.scores:
            if score.value is not None:
                count, total = self._scores.get(score.metric, (0, 0.0))
                self._scores[score.metric] = count + 1, total + score.value

    def stats(self, model: ModelEntry) -> Any:
        """An `inspect_ai.log.EvalStats`."""
        from inspect_ai.log import EvalStats

        return EvalStats(
            started_at=_time(self._started) or "",
            completed_at=_time(self._completed) or "",
            model_usage=_usage(model, self._usage),
        )

    def results(self) -> Any:
        """An `inspect_ai.log.EvalResults`."""
        from inspect_ai.log import EvalResults

        return EvalResults(
            total_samples=self._cell.samples * self._cell.attempts,
            completed_samples=self.records - self._failed,
            logged_samples=self.records,
            scores=[self._metric(metric) for metric in self._cell.metrics if metric.kind != "corpus"],
        )

    def _metric(self, metric: Metric) -> Any:
        """The plain mean, with n. Intervals are the scorecards' business."""
        from inspect_ai.log import EvalMetric, EvalScore

        count, total = self._scores.get(metric.name, (0, 0.0))
        return EvalScore(
            name=metric.name,
            scorer=metric.name,
            scored_samples=count,
            unscored_samples=self.records - count,
            metrics={"mean": EvalMetric(name="mean", value=total / count)} if count else {},
            metadata={"polarity": polarity(metric)},
        )


def to_sample(model: ModelEntry, cell: CellEntry, record: Record, prompts: Sequence[str]) -> Any:
    """A record as an `inspect_ai.log.EvalSample`."""
    from inspect_ai.log import EvalSample

    used = _usage(model, record.usage)
    messages = [to_message(cell, message) for message in _conversation(record, prompts)]
    asked = next((i for i, m in enumerate(messages) if m.role == "assistant"), len(messages))
    return EvalSample(
        id=record.sample,
        epoch=record.attempt + 1,
        input=messages[:asked] or "",
        target=target_of(cell, record),
        messages=messages,
        output=_output(cell, record, used.get(cell.model)),
        scores=_scores(cell, record) or None,
        error=_error(record),
        model_usage=used,
        started_at=_time(record.started),
        completed_at=_time(_completed(record)),
        total_time=record.seconds or None,
        metadata=_metadata(model, record),
    )


def _conversation(record: Record, prompts: Sequence[str]) -> Iterator[Message]:
    """The messages, or what a completion was asked and what it wrote."""
    transcript = record.transcript
    if transcript.messages:
        yield from transcript.messages
        return
    yield from (Message(role="user", content=prompt) for prompt in dict.fromkeys(prompts))
    for reply in transcript.generations:
        yield Message(
            role="assistant", content=reply.text, reasoning=reply.reasoning, tool_calls=reply.tool_calls
        )


def to_message(cell: CellEntry, message: Message) -> Any:
    """A message as Inspect's."""
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        ContentReasoning,
        ContentText,
    )
    from inspect_ai.tool import ToolCall

    if message.role == "tool":
        return ChatMessageTool(
            content=message.content, tool_call_id=message.tool_call_id, function=message.name
        )
    if message.role != "assistant":
        kind = ChatMessageSystem if message.role == "system" else ChatMessageUser
        return kind(content=message.content)
    content: Any = message.content
    if message.reasoning is not None:
        content = [ContentReasoning(reasoning=message.reasoning), ContentText(text=message.content)]
    calls = [ToolCall(id=c.id, function=c.name, arguments=c.arguments) for c in message.tool_calls]
    return ChatMessageAssistant(content=content, tool_calls=calls or None, model=cell.model)


def _scores(cell: CellEntry, record: Record) -> dict[str, Any]:
    """Metric -> score, of what counts. A failed attempt has none but those that are booked all the same."""
    meaning = {metric.name: polarity(metric) for metric in cell.metrics}
    scores = {s.metric: to_score(s, s.reason or meaning.get(s.metric)) for s in cell.counted(record)}
    return {name: score for name, score in scores.items() if score is not None}


def to_score(score: Score, explanation: str | None) -> Any:
    """A score as Inspect's, None if nothing was measured."""
    from inspect_ai.scorer import Score as InspectScore

    value = score.value if score.operands is None else msgspec.to_builtins(score.operands)
    if value is None:
        return None
    if isinstance(value, tuple | list):
        value = msgspec.json.encode(value).decode()
    return InspectScore(value=value, answer=score.answer, explanation=explanation)


def target_of(cell: CellEntry, record: Record) -> str:
    """What the right answer is, where the scorer says it: lm-eval's does."""
    if cell.adapter != "lm_eval":
        return ""
    measured = [s for s in record.scores if s.value is not None or s.operands is not None]
    return next((score.reason for score in measured if score.reason is not None), "")


def _output(cell: CellEntry, record: Record, usage: Any) -> Any:
    from inspect_ai.model import ModelOutput

    if not record.transcript.generations:
        return ModelOutput(model=cell.model)
    last = record.transcript.generations[-1]
    stop_reason: Any = "max_tokens" if last.finish_reason == "length" else last.finish_reason
    output = ModelOutput.from_content(cell.model, last.text, stop_reason=stop_reason)
    output.usage = usage
    return output


def _error(record: Record) -> Any:
    from inspect_ai.log import EvalError

    if record.failure is None:
        return None
    message = f"{record.failure}: {record.failure_message}"
    return EvalError(message=message, traceback=message, traceback_ansi=message)


def _metadata(model: ModelEntry, record: Record) -> dict[str, Any]:
    return {
        "clusters": record.clusters,
        "labels": record.labels,
        "content_hash": record.content_hash,
        "failure": record.failure,
        "truncated": record.truncated,
        "engine_seconds": model.known(record.usage)["engine_seconds"],
        "requests": record.usage.requests,
        "log_likelihoods": msgspec.to_builtins(record.transcript.loglikelihoods),
        "unparsed": [reply.raw for reply in record.transcript.generations if reply.parse_error is not None],
    }


def _usage(model: ModelEntry, usage: Usage) -> dict[str, Any]:
    """Model -> tokens, nothing where they are not known."""
    from inspect_ai.model import ModelUsage

    if model.imported or usage.prompt_tokens is None or usage.completion_tokens is None:
        return {}
    used = ModelUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.tokens,
        input_tokens_cache_read=usage.cached_tokens,
    )
    return {model.name: used}


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt_tokens=total_count((one.prompt_tokens, other.prompt_tokens)),
        completion_tokens=total_count((one.completion_tokens, other.completion_tokens)),
        cached_tokens=total_count((one.cached_tokens, other.cached_tokens)),
        requests=one.requests + other.requests,
    )


def _completed(record: Record) -> float:
    """Seconds since 1970, 0 for a time that is not known."""
    return record.started + record.seconds if record.started else 0.0


def _time(seconds: float) -> str | None:
    """ISO 8601, None for a time that is not known."""
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None
