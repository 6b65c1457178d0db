"""How far a run is: from its records and its workers' files alone, from any machine, while others write."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from harness.errors import Status
from harness.records.directory import RunDirectory
from harness.records.schema import EndFile, WorkerFile
from harness.records.seal import write
from harness.records.workers import END, SILENT_SECONDS, read_submissions, read_workers
from harness.types import Caution, Struct

STUCK_SECONDS = 600.0
"""After which a worker that finishes nothing is said to be stuck."""


class CellStatus(Struct):
    """How far one model is on one suite."""

    model: str
    suite: str
    done: int
    """Attempts that are finished."""
    total: int
    failures: dict[str, int]
    """Kind -> attempts that could not be measured."""


class ModelStatus(Struct):
    """Who works on a model, and how fast."""

    model: str
    state: str
    """`waiting` (nobody began yet), `loading`, `running`, `stuck` (it lives and finishes nothing), `silent`
    (it was killed, or its disk hangs), `stopped` (on request: the same command goes on), `ended`."""
    host: str | None = None
    job: str | None = None
    """The scheduler's name of the job."""
    pid: int | None = None
    gpus: str | None = None
    log: str | None = None
    """Where its engine's output goes, told from the run directory."""
    seconds: float | None = None
    """That it has been in this state."""
    tokens_per_second: float | None = None
    """Since the model was loaded."""
    seconds_left: float | None = None
    """At the pace so far."""
    starts: int = 0
    """How often a worker began."""
    problems: tuple[str, ...] = ()
    """What it could not measure."""


class RunStatus(Struct):
    """How far a run is."""

    cells: list[CellStatus]
    models: list[ModelStatus]

    @property
    def is_over(self) -> bool:
        """Whether nothing is owed, or everybody who worked on it has ended."""
        return all(cell.done == cell.total for cell in self.cells) or bool(
            self.models and all(model.state == "ended" for model in self.models)
        )


def status(directory: RunDirectory, now: float | None = None) -> RunStatus:
    """How far each cell of a run is, by model and suite, and who works on it.

    Args:
        directory: of the run.
        now: Unix time; this machine's if not given.

    Raises:
        UserError: there is no run, or its files cannot be read.
    """
    cells = [
        CellStatus(
            model=cell.model,
            suite=cell.suite,
            done=kinds.total(),
            total=cell.samples * cell.attempts,
            failures=dict(sorted((kind, count) for kind, count in kinds.items() if kind)),
        )
        for cell in directory.cells()
        for kinds in [directory.kinds(cell)]
    ]
    workers: dict[str, list[WorkerFile]] = {}
    for worker in read_workers(directory.path):
        workers.setdefault(worker.model, []).append(worker)
    submitted = {name for each in read_submissions(directory.path) for name in each.models}
    models, owing = [], dict.fromkeys((cell.model for cell in cells), 0)
    for cell in cells:
        owing[cell.model] += cell.total - cell.done
    for name, owed in owing.items():
        if name in workers:
            state = _model(workers[name], owed, time.time() if now is None else now)
            if state.log and not (directory.path / state.log).exists():  # its engine said nothing
                state = msgspec.structs.replace(state, log=None)
            models.append(state)
        elif owed and name in submitted:
            models.append(ModelStatus(model=name, state="waiting"))
    return RunStatus(
        cells=sorted(cells, key=lambda cell: (cell.model, cell.suite)),
        models=sorted(models, key=lambda model: model.model),
    )


def _model(workers: Sequence[WorkerFile], owed: int, now: float) -> ModelStatus:
    last = workers[-1]
    state, since = _state(last, now)
    latest = {worker.share: worker for worker in workers}
    side = [worker for worker in latest.values() if _state(worker, now)[0] == "running"]
    # A worker that stands still has no pace; what it did tells of its speed all the same.
    speeds = [(w, w.beat - w.loaded) for w in side or [last] if w.loaded and w.beat > w.loaded]
    pace = sum(w.finished / seconds for w, seconds in speeds) if side else 0.0
    if side and state == "ended":  # a replica that did its share, while others go on
        last = max(side, key=lambda worker: worker.began)
        state, since = _state(last, now)
    return ModelStatus(
        model=last.model,
        state=state,
        host=last.host,
        job=last.job,
        pid=last.pid,
        gpus=",".join(worker.gpus for worker in side if worker.gpus) or last.gpus,
        log=last.log,
        seconds=max(now - since, 0.0),
        tokens_per_second=sum(w.tokens / seconds for w, seconds in speeds) if speeds else None,
        seconds_left=owed / pace if pace else None,
        starts=max(Counter(worker.share for worker in workers).values()),
        problems=tuple(problem.text for problem in last.problems),
    )


def _state(worker: WorkerFile, now: float) -> tuple[str, float]:
    """(state, since when)."""
    if worker.ended is not None:
        return ("stopped" if worker.ended in ("warned", "stopped") else "ended"), worker.beat
    if now - worker.beat > SILENT_SECONDS:
        return "silent", worker.beat
    if worker.loaded is None:
        return "loading", worker.began
    answered = max(worker.answered or 0.0, worker.loaded)
    return ("stuck", answered) if now - answered > STUCK_SECONDS else ("running", worker.loaded)


def status_lines(state: RunStatus) -> Iterator[str]:
    """The same for a person: a line for each cell, one for each model that somebody works on, one for all."""
    width = max((len(f"{cell.model}: {cell.suite}") for cell in state.cells), default=0)
    for cell in state.cells:
        name = f"{cell.model}: {cell.suite}"
        failed = ", ".join(f"{count} {kind}" for kind, count in cell.failures.items())
        yield f"{name:<{width}}  {cell.done}/{cell.total}{f'  {failed}' if failed else ''}"
    for model in state.models:
        yield from _model_lines(model)
    done, total = sum(cell.done for cell in state.cells), sum(cell.total for cell in state.cells)
    whole = sum(cell.done == cell.total for cell in state.cells)
    yield f"{whole} of {len(state.cells)} cells are complete, {done} of {total} attempts finished"


SAID = {
    "waiting": "waits for its turn",
    "loading": "loading for {time}",
    "running": "running for {time}",
    "stuck": "stuck: it has finished nothing for {time}",
    "silent": "silent for {time}: it was killed, or its disk hangs",
    "stopped": "stopped {time} ago: it goes on in its next turn, or with the same command",
}


def _model_lines(model: ModelStatus) -> Iterator[str]:
    if model.state != "ended":
        parts = [SAID[model.state].format(time=_time(model.seconds or 0.0))]
        if model.host:
            job = f", job {model.job}" if model.job else ""
            gpus = f", GPU {model.gpus}" if model.gpus else ""
            parts.append(f"on {model.host}{job}{gpus}")
        if model.state == "running" and model.tokens_per_second is not None:
            parts.append(f"{model.tokens_per_second:,.0f} tokens/s")
            left = model.seconds_left
            parts.append("time left not known yet" if left is None else f"about {_time(left)} left")
        if model.starts > 1:
            parts.append(f"start {model.starts}")
        yield f"{model.model}: {', '.join(parts)}"
    for problem in model.problems:
        yield f"{model.model}: {problem.removeprefix(f'model {model.model}: ')}"
    if model.log and (model.state != "ended" or model.problems):
        yield f"{model.model}: its log: {model.log}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


MEANINGS = {
    Status.DONE: "everything was measured",
    Status.WRONG_INPUT: "the input is wrong",
    Status.INCOMPLETE: "the rest was measured, but a model or a suite was not",
    Status.STOPPED: "an engine is gone: the same command goes on",
    Status.FAILURES: "everything was measured, but for more failures than were to be accepted",
    Status.INTERRUPTED: "it was stopped: the same command goes on",
}


def write_end(
    directory: RunDirectory, ended: Status, problems: Sequence[Caution], max_failures: float | None = None
) -> EndFile:
    """Keep how a run ended, for programs.

    Args:
        directory: of the run.
        ended: how.
        problems: what could not be measured.
        max_failures: the share of attempts that may have failed in a run that is done.

    Raises:
        UserError: the run cannot be read, or the file not be written.
    """
    cells = status(directory).cells
    failures: dict[str, int] = {}
    for cell in cells:
        for kind, count in cell.failures.items():
            failures[kind] = failures.get(kind, 0) + count
    finished = sum(cell.done for cell in cells)
    if ended is Status.DONE and max_failures is not None and sum(failures.values()) > max_failures * finished:
        ended = Status.FAILURES
    end = EndFile(
        name=directory.name(),
        status=ended,
        meaning=MEANINGS[ended],
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        cells=len(cells),
        complete=sum(cell.done == cell.total for cell in cells),
        attempts=sum(cell.total for cell in cells),
        finished=finished,
        failures=dict(sorted(failures.items())),
        problems=tuple(dict.fromkeys(problem.text for problem in problems)),
    )
    write(directory.path / END, end)
    return end
