"""Logs of Inspect's (`.eval`, `.json`) as reference rows: what another run of a task came to.

Nothing is scored again, and nothing that a log names is loaded: the records hold the conversations with the
scores that Inspect gave. An attempt that a limit ended has its score too, as Inspect counts it; one that
ended in an error is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from harness.disk import check_regular
from harness.errors import AttemptFailure, UserError, pip_install
from harness.records.directory import RunDirectory
from harness.replay.transcripts import empty_manifest, imported_cell, known_origin, model_entry
from harness.suites.digests import digest
from harness.suites.inspect_ai.conversation import of_inspect
from harness.suites.inspect_ai.scores import number_of
from harness.types import (
    CellEntry,
    FailureKind,
    Generation,
    Message,
    Metric,
    Origin,
    Record,
    Score,
    Transcript,
    Usage,
)

ENDINGS = {"max_tokens": "length", "model_length": "length", "tool_calls": "tool_calls"}
"""Inspect's reason why a reply ended -> ours; every other is a stop."""


def are_logs(path: Path) -> bool:
    """Whether a file is a log of Inspect's, by its name, or a folder holds some."""
    return any(True for _ in _files(path))


def _files(path: Path) -> Iterator[Path]:
    yield from [path] if path.is_file() and path.suffix == ".eval" else sorted(path.glob("*.eval"))


def replay_logs(path: Path, out: RunDirectory | None, origin: Origin, called: Mapping[str, str]) -> list[str]:
    """Tell the means of a log's scores, and keep its samples as records if asked to.

    Args:
        path: a log, or a folder of logs.
        out: a new directory, or one with results that these are to stand beside.
        origin: of models that have no other.
        called: model in the logs -> its name here; `""` for the only one there is. One of the registry's
            names has the origin that is there.

    Returns:
        A line for each log and metric: the mean, how many attempts have it, how many are missing.

    Raises:
        UserError: a log cannot be read or holds no samples, or the directory has its task already.
    """
    lines = []
    for file in _files(path):
        log = _read(file)
        model = called.get(log.eval.model) or called.get("") or log.eval.model.partition("/")[2]
        scores = {(str(s.id), s.epoch - 1): _scores(s) for s in log.samples}
        if out is not None:
            _keep(log, model, scores, out, origin)
        lines += _tally(model, log.eval.task, list(scores.values()))
    return lines


def _read(file: Path) -> Any:
    check_regular(file)
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise UserError(f"to read {file} takes inspect_ai: {pip_install('inspect')}") from error
    try:
        # By all of its path: a name alone, such as `http::x.eval`, may be read as an address.
        log = read_eval_log(str(file.absolute()), resolve_attachments=True)
    except Exception as error:  # whatever Inspect makes of a file that is none of its logs
        raise UserError(f"{file} is no log of Inspect's ({type(error).__name__}): restore it") from error
    if not log.samples:
        raise UserError(
            f"{file} holds no samples: it was written with `log_samples=False`, or nothing was run"
        )
    return log


def _scores(sample: Any) -> dict[str, Score]:
    """Metric -> score of a sample."""
    scores = {}
    for scorer, given in (sample.scores or {}).items():
        values = given.value if isinstance(given.value, dict) else {"": given.value}
        for key, value in values.items():
            metric = f"{scorer}:{key}" if key else scorer
            try:
                number, reason = number_of(metric, value, {}), given.explanation
            except AttemptFailure as failure:  # what it counts, only the task's author knows
                number, reason = None, failure.message
            scores[metric] = Score(metric=metric, value=number, answer=given.answer, reason=reason)
    return scores


def _tally(model: str, task: str, samples: Sequence[Mapping[str, Score]]) -> list[str]:
    lines = []
    for metric in dict.fromkeys(name for scores in samples for name in scores):
        values = [s[metric].value for s in samples if metric in s]
        numbers = [value for value in values if value is not None]
        mean = f"{sum(numbers) / len(numbers):.4f}" if numbers else "n/a"
        lines.append(
            f"{model}  {task}/{metric}  {mean}  n {len(numbers)}  missing {len(samples) - len(numbers)}"
        )
    return lines


def _keep(
    log: Any,
    model: str,
    scored: Mapping[tuple[str, int], Mapping[str, Score]],
    out: RunDirectory,
    origin: Origin,
) -> None:
    """Keep a log's samples as the records of a cell."""
    cell = _cell(log, model, scored)
    before = out.manifest() if out.manifest_path.exists() else None
    if before and any((c.model, c.suite) == (cell.model, cell.suite) for c in before.cells.values()):
        raise UserError(
            f"{out.path} has {cell.suite} of {model} already: give another --out, or another name by --name"
        )
    known = before.models.get(model) if before else None
    with out.lock(), closing(out.writer(cell)) as writer:
        for sample in log.samples:
            writer.append(_record(cell, sample, scored[str(sample.id), sample.epoch - 1]))
    with out.lock():
        entry = known or model_entry(model, known_origin(model, origin), "a log of Inspect's")
        manifest = empty_manifest(out.path.name)
        out.add(msgspec.structs.replace(manifest, models={model: entry}, cells={cell.key: cell}))
        out.compact([cell])


def _cell(log: Any, model: str, scored: Mapping[tuple[str, int], Mapping[str, Score]]) -> CellEntry:
    values: dict[str, list[float]] = {}
    for scores in scored.values():
        for name, score in scores.items():
            values.setdefault(name, []).extend([] if score.value is None else [score.value])
    accuracies = {s.name for s in (log.results.scores if log.results else ()) if "accuracy" in s.metrics}
    spec = log.eval
    protocol = {
        "adapter": "inspect",
        "task": spec.task,
        "args": digest(spec.task_args),
        "version": str(spec.task_version),
        "inspect_ai": spec.packages.get("inspect_ai", "unknown"),
        "samples": digest(sorted((str(sample.id), _content(sample)) for sample in log.samples)),
        "scorers": digest(sorted(values)),
    }
    return msgspec.structs.replace(
        imported_cell(model, spec.task.rpartition("/")[2], protocol),
        metrics=tuple(
            Metric(
                name=name,
                higher_is_better=name.partition(":")[0] in accuracies or None,
                kind="rate" if set(numbers) <= {0.0, 1.0} else "mean",
                bounds=(0.0, 1.0) if set(numbers) <= {0.0, 1.0} else None,
                headline=name == next(iter(values)),
            )
            for name, numbers in values.items()
        ),
        samples=len({sample for sample, _ in scored}),
        attempts=len({attempt for _, attempt in scored}),
    )


def _content(sample: Any) -> str:
    """What was asked, and what is right: without the ids that Inspect draws for messages."""
    asked = sample.input
    if not isinstance(asked, str):
        asked = [[message.role, message.text] for message in asked]
    return digest([asked, sample.target])


def _record(cell: CellEntry, sample: Any, scores: Mapping[str, Score]) -> Record:
    messages = tuple(of_inspect(message) for message in sample.messages)
    ended = ENDINGS.get(sample.output.stop_reason if sample.output.choices else "stop", "stop")
    used = list((sample.model_usage or {}).values())
    error = sample.error.message if sample.error else None
    return Record(
        cell=cell.key,
        sample=str(sample.id),
        attempt=sample.epoch - 1,
        content_hash=digest([_content(sample), cell.protocol]),
        clusters={},
        transcript=Transcript(messages=messages, generations=tuple(_replies(messages, ended))),
        scores=() if error else tuple(scores.values()),
        usage=Usage(
            prompt_tokens=sum(u.input_tokens for u in used),
            completion_tokens=sum(u.output_tokens for u in used),
            requests=sum(message.role == "assistant" for message in messages),
        ),
        started=0.0,
        seconds=sample.total_time or 0.0,
        failure=FailureKind.ENGINE_ERROR if error else None,
        failure_message=error,
        truncated=ended == "length",
    )


def _replies(messages: Sequence[Message], ended: Any) -> Iterator[Generation]:
    answers = [message for message in messages if message.role == "assistant"]
    for message in answers:
        yield Generation(
            text=message.content,
            raw=message.content,
            finish_reason=ended if message is answers[-1] else "tool_calls" if message.tool_calls else "stop",
            prompt_tokens=None,
            completion_tokens=None,
            cached_tokens=None,
            reasoning=message.reasoning,
            tool_calls=message.tool_calls,
        )
