"""A task of Inspect's as a suite.

A sample that Inspect is done with becomes a transcript: the conversation in our types and, in
`Transcript.kept`, what else its scorers look at (choices with their marks, store, metadata, output). They are
called on what is made again of these, so that a verdict needs nothing but the transcript.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from harness.config import RunConfig, as_written
from harness.engines.base import Engine
from harness.engines.scripted import Reply, ScriptedEngine
from harness.errors import AttemptFailure, UserError
from harness.suites.access import Access
from harness.suites.base import Needs, Render, Scoring, Suite
from harness.suites.digests import digest
from harness.suites.inspect_ai.conversation import of_harness, of_inspect
from harness.suites.inspect_ai.evaluation import Attempt, end, evaluate
from harness.suites.inspect_ai.grader import ASKED, ROLE, grader
from harness.suites.inspect_ai.scores import number_of
from harness.suites.inspect_ai.tasks import (
    SCORER,
    SOLVER,
    TO_A_JUDGE,
    check_installed,
    described,
    lacking,
    make_task,
    names_in,
    no_services,
    registered,
    source_of,
    task_function,
)
from harness.suites.subset import Subset, draw, draw_text
from harness.types import Caution, FailureKind, Metric, Sample, Sampling, Score, Transcript

SCORER_VERSION = "1"
"""Raised whenever a change here could change a score."""

Result = TypeVar("Result")

GRADED = ("model_graded_qa", "model_graded_fact")
"""Inspect's scorers that ask a model. It grades C (correct), I (incorrect) and, where it may, P (partly)."""
REHEARSED_REPLIES = 8
"""So often a solver is answered when a task is tried: it may be one that asks for ever."""
RIGHT_OR_WRONG = ("match", "includes", "pattern", "answer", "exact", "choice")
"""Inspect's own scorers that give right or wrong and nothing between."""
FRACTIONS = ("f1",)
"""Its scorers that give a number from 0 to 1."""
MEANS = ("accuracy", "mean", "stderr", "std", "var", "bootstrap_stderr")
"""Its metrics that the mean of the scores and its interval stand for."""
CALLS_TOOLS = ("use_tools", "basic_agent", "react")

STOPPED = {"context": FailureKind.CONTEXT_OVERFLOW, "time": FailureKind.ENGINE_ERROR} | {
    "working": FailureKind.ENGINE_ERROR,
    **dict.fromkeys(("message", "token", "turn", "cost"), FailureKind.ITERATION_CAP),
}
"""Limit of Inspect's that ended an attempt -> our kind of failure. Inspect scores what was there by then."""


class Options(Subset, kw_only=True):
    """Options of the `inspect` adapter."""

    task: str
    """`package/task` of an installed package that declares tasks of Inspect's, or `./file.py@task`."""
    args: dict[str, Any] = {}
    """Arguments of the task."""
    cluster_by: str | None = None
    """Key of the samples' metadata: samples with one value are not independent."""
    values: dict[str, float] = {}
    """Number that a scorer's word stands for, beside C, P, I, N, yes, no, true, false."""
    keys: dict[str, tuple[str, ...]] = {}
    """Scorer -> keys of its scores, where it gives several at once and does not say which."""
    graded: dict[str, tuple[str, ...]] = {}
    """Scorer that asks the role `grader` -> the judge's classes that its metric counts. Of Inspect's own two
    it is C."""
    higher_is_better: dict[str, bool] = {}
    """Metric -> whether more of it is better. Of accuracies it is known."""


def build(name: str | None, options: Options, access: Access) -> list["InspectSuite"]:
    """The suite of a task.

    Raises:
        Absent: its data are not on this machine, and may not be downloaded.
        UserError: there is no such task, or it cannot be run or scored here.
    """
    check_installed()
    return [InspectSuite(name or re.split(r"[/@]", options.task)[-1], options, access)]


class InspectSuite(Suite):
    """One task."""

    def __init__(self, name: str, options: Options, access: Access) -> None:
        """Raises as `build`."""
        self.name, self.options, self._access = name, options, access
        self._task = self._make()
        self._drawing: dict[str, str] = {}
        self._samples = self._asked(_with_ids(self._task.dataset))
        twice = [name for name, count in Counter(str(s.id) for s in self._samples).items() if count > 1]
        if twice:
            raise UserError(f"task {as_written(options.task)} has two samples called {twice[0]!r}")
        self._check_graded()

    def _check_graded(self) -> None:
        """Raises UserError where what is graded by a model cannot be left to a judge."""
        if wrong := self.options.graded.keys() - self._scorers.keys():
            known = ", ".join(self._scorers)
            raise UserError(f"suite {self.name}: graded names {min(wrong)!r}: use one of {known}")
        task = f"task {as_written(self.options.task)}"
        for name, scorer in self._scorers.items():
            if _own_name(scorer) in GRADED and described(scorer)[1].get("model") is not None:
                raise UserError(f"{task}: scorer {name} names the model that it asks: {TO_A_JUDGE}")
        if len(self._graded) > 1:
            raise UserError(
                f"{task} has several scorers that ask a grader ({', '.join(self._graded)}), and a judge "
                "reads an attempt once"
            )

    def _asked(self, samples: list[Any]) -> list[Any]:
        """Those of the task's samples that are asked."""
        options = self.options
        if options.sample is None:
            return samples[: options.limit]
        self.drawn_from = len(samples)
        self._drawing = {"sample": draw_text(options.sample, len(samples), options.sample_seed, "all alike")}
        return [samples[place] for place in draw(len(samples), options.sample, options.sample_seed)]

    def _make(self) -> Any:
        return make_task(self.options.task, self.options.args, self._access)

    @cached_property
    def _scorers(self) -> dict[str, Any]:
        """Name -> scorer, named as in Inspect's logs."""
        from inspect_ai.scorer._scorer import unique_scorer_name

        scorers: dict[str, Any] = {}
        for scorer in self._task.scorer:
            scorers[unique_scorer_name(scorer, list(scorers))] = scorer
        return scorers

    @cached_property
    def _graded(self) -> dict[str, tuple[str, ...]]:
        """Scorer that asks a model -> what the model grades replies that count."""
        own = [name for name, scorer in self._scorers.items() if _own_name(scorer) in GRADED]
        return dict.fromkeys(own, ("C",)) | self.options.graded

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """See `Suite.metrics`: the mean of each scorer's scores, or of each key of them."""
        metrics = list(self._metrics())
        wrong = self.options.higher_is_better.keys() - {metric.name for metric in metrics}
        if wrong:
            known = ", ".join(metric.name for metric in metrics)
            raise UserError(f"suite {self.name}: higher_is_better names {min(wrong)!r}: use one of {known}")
        return tuple(metrics)

    def _metrics(self) -> Iterator[Metric]:
        for name, scorer in self._scorers.items():
            own = _own_name(scorer)
            means = {registered(m).removeprefix("inspect_ai/") for m in _plain_metrics(self._task, scorer)}
            graded = self._graded.get(name, ())
            kind: Any = "rate" if graded or own in RIGHT_OR_WRONG else "mean"
            for metric in [f"{name}:{key}" for key in self._keys(name)] or [name]:
                yield Metric(
                    name=metric,
                    higher_is_better=self.options.higher_is_better.get(metric, "accuracy" in means or None),
                    kind=kind,
                    bounds=(0.0, 1.0) if graded or own in RIGHT_OR_WRONG + FRACTIONS else None,
                    headline=name == next(iter(self._scorers)),
                    judged=graded,
                )

    def _keys(self, scorer: str) -> tuple[str, ...]:
        """The keys of a scorer's scores, none for one number."""
        if scorer in self._graded:
            return ()
        if scorer in self.options.keys:
            return self.options.keys[scorer]
        declared = _metrics_of(self._task, self._scorers[scorer])
        groups = (
            [declared] if isinstance(declared, dict) else [one for one in declared if isinstance(one, dict)]
        )
        keys = tuple(dict.fromkeys(key for group in groups for key in group))
        if any("*" in key for key in keys):
            raise UserError(
                f"suite {self.name}: scorer {scorer} gives scores by keys that it does not name "
                f"({', '.join(keys)}): name them, as `keys: {{{scorer}: [one, another]}}`"
            )
        return keys

    @cached_property
    def _described(self) -> dict[str, Any]:
        """What of the task, beside its samples, could change a score."""
        task = self._task
        limits = ("message_limit", "token_limit", "turn_limit", "time_limit", "working_limit", "cost_limit")
        return {
            "setup": described([task.setup] if task.setup else []),
            "solver": described(task.solver),
            "scorer": described(list(self._scorers.values())),
            "config": task.config.model_dump(exclude_none=True),
            "limits": {name: getattr(task, name) for name in limits},
            "version": task.version,
        }

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        options, function = self.options, task_function(self.options.task)
        package = options.task.partition("/")[0] if "@" not in options.task else None
        return {
            "adapter": "inspect",
            "task": as_written(options.task),
            "args": digest(options.args),
            "inspect_ai": version("inspect_ai"),
            "package": f"{package} {version(package)}" if package else "none",
            "source": source_of(function),
            "described": digest(self._described),
            "samples": digest([_shown(sample) for sample in self._samples]),
            "values": digest(options.values),
            **({"graded": digest(self._graded)} if self._graded else {}),
            "limit": str(options.limit),
            **self._drawing,
            "scorer": SCORER_VERSION,
        }

    @cached_property
    def needs(self) -> Needs:
        """See `Suite.needs`. Tools that a solver of one's own offers are not known beforehand."""
        names = {name.rpartition("/")[2] for name in names_in(self._described["solver"])}
        return Needs(tools=bool(names & set(CALLS_TOOLS)), scoring=Scoring.PROCESS)

    def check(self) -> str | None:
        """See `Suite.check`: whether samples are the same each time, and nothing is lacking."""
        self._rehearse()
        again = self._asked(_with_ids(self._make().dataset))
        if [_shown(sample) for sample in again] != [_shown(sample) for sample in self._samples]:
            raise UserError(
                f"task {as_written(self.options.task)} has other samples each time that it is made: give it "
                "a seed in `args`, or take the shuffling out"
            )
        return None

    def cautions(self, config: RunConfig) -> Iterable[Caution]:
        """See `Suite.cautions`: where Inspect would report something else than a mean."""
        reducers = [registered(one) for one in self._task.epochs_reducer or []]
        names = [registered(m) for s in self._scorers.values() for m in _plain_metrics(self._task, s)]
        other = [n for n in (*names, *reducers) if n.removeprefix("inspect_ai/") not in MEANS]
        for name, counted in self._graded.items():
            if {"partial_credit", "instructions", "grade_pattern"} & {*described(self._scorers[name])[1]}:
                text = f"{name} counts what a judge grades {' or '.join(counted)}; Inspect counts P as half"
                yield Caution(check="inspect_grades", text=text, suite=self.name)
        if other:
            listed = ", ".join(dict.fromkeys(other))
            text = f"Inspect reports {listed} of this task; here it is the mean of the scores"
            yield Caution(check="inspect_metric", text=text, suite=self.name)

    def count(self) -> int:
        """See `Suite.count`."""
        return len(self._samples)

    def attempts(self, asked: int, sampling: Sampling) -> int:
        """See `Suite.attempts`: the task's epochs, where the run does not ask for several."""
        return asked if asked > 1 else self._task.epochs or 1

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`."""
        key = self.options.cluster_by
        return [
            Sample(
                id=str(sample.id),
                content_hash=digest([_shown(sample), self.protocol]),
                clusters={key: str((sample.metadata or {})[key])} if key else {},
                payload=sample,
            )
            for sample in self._samples
        ]

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Have Inspect's solver work on the sample.

        Raises:
            AttemptFailure: the engine did not answer, the solver or a tool raised, or a limit was reached.
        """
        attempt = Attempt(sample.payload, engine, sampling, asyncio.get_running_loop().create_future())
        done = await evaluate(self._make, self, attempt)
        if attempt.error is not None:
            raise attempt.error
        if done.error is not None:
            said = f"the task's solver raised: {done.error.message}"
            raise AttemptFailure(FailureKind.TOOL_ERROR, said) from RuntimeError(done.error.traceback)
        if done.limit is not None and done.limit.type in STOPPED:
            reason = f"the task's limit on its {done.limit.type} ({done.limit.limit:g}) ended the attempt"
            raise AttemptFailure(STOPPED[done.limit.type], reason)
        state = attempt.state
        return Transcript(
            messages=tuple(of_inspect(message) for message in state.messages),
            generations=tuple(attempt.replies),
            kept=_kept(state),
        )

    async def keep_logs(self, folder: Path) -> None:
        """See `Suite.keep_logs`: Inspect's own, which its viewer opens, of all tasks that it ran together."""
        await end(folder)

    async def close(self) -> None:
        """See `Suite.close`."""
        await end()

    def _rehearse(self) -> None:
        """Raises UserError where the task's solver or scorers want what is not here.

        They work on one sample, with a model that gives no answer and one that gives the right one, since
        some scorers ask a model only of what they cannot tell by themselves. What else they make of it tells
        nothing.
        """
        first = Sample(id="", content_hash="", payload=self._samples[0])
        target = first.payload.target
        right = target if isinstance(target, str) else ", ".join(target)
        for whose, error in _apart(self._try(first, ["", f"The answer is {right}\n\nANSWER: {right}"])):
            if why := lacking(error, whose):
                raise UserError(f"task {as_written(self.options.task)} cannot be run here: {why}") from error

    async def _try(self, sample: Sample, texts: list[str]) -> list[tuple[str, Exception]]:
        """(by whose code, what) is raised where a model says the same again and again, for each text."""

        def saying(text: str) -> ScriptedEngine:
            def reply(*_: Any) -> Reply:
                if engine.requests >= REHEARSED_REPLIES:
                    raise AttemptFailure(FailureKind.ITERATION_CAP, "rehearsed")
                return Reply(text=text)

            engine = ScriptedEngine(reply)
            return engine

        with no_services():
            said = await asyncio.gather(
                *(self.run(sample, saying(text), Sampling()) for text in texts), return_exceptions=True
            )
            await end()
            raised = [(SOLVER, one) for one in said if isinstance(one, Exception)]
            for transcript in said:
                if isinstance(transcript, Transcript):
                    try:
                        await self._ask(sample.payload, transcript)
                    except Exception as error:  # the scorer may be anybody's
                        raised.append((SCORER, error))
        return raised

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """Ask the task's scorers of what lies in the transcript.

        Raises:
            AttemptFailure: a scorer gave what is no number.
        """
        scores = _apart(self._ask(sample.payload, transcript))
        return tuple(
            Score(metric=metric, value=value, answer=score.answer, reason=score.explanation)
            if asked is None
            else Score(metric=metric, value=None, operands=(asked, transcript.kept.get("completion", "")))
            for name, (score, asked) in scores.items()
            for metric, value in self._numbers(name, score.value)
        )

    async def _ask(self, sample: Any, transcript: Transcript) -> dict[str, tuple[Any, str | None]]:
        """Scorer -> Inspect's `Score`, of those that gave one, and what is left to a judge.

        Raises:
            AttemptFailure: a scorer asks more than a judge can read.
        """
        from inspect_ai.model._model import init_model_roles
        from inspect_ai.scorer import Target
        from inspect_ai.util._store import init_subtask_store

        state = _restored(sample, transcript)
        scores: dict[str, tuple[Any, str | None]] = {}
        init_subtask_store(state.store)
        init_model_roles({ROLE: grader()} if self._graded else {})
        for name, scorer in self._scorers.items():
            asked: list[str] = []
            ASKED.set(asked)
            score = await scorer(state, Target(sample.target))
            if len(asked) > (name in self._graded):
                raise AttemptFailure(
                    FailureKind.SCORER_ERROR,
                    f"scorer {name} asks a grader {len(asked)} times: `graded` is for one that asks once",
                )
            if score is not None:
                scores[name] = score, next(iter(asked), None)
        return scores

    def _numbers(self, scorer: str, value: Any) -> Iterator[tuple[str, float | None]]:
        """(metric, what it counts) of a scorer's score."""
        if scorer in self._graded:
            yield scorer, float(value in self._graded[scorer]) if isinstance(value, str) else None
            return
        for metric, one in self._values(scorer, value):
            yield metric, number_of(metric, one, self.options.values)

    def _values(self, scorer: str, value: Any) -> Iterator[tuple[str, Any]]:
        """(metric, value) of a scorer's score."""
        keys = self._keys(scorer)
        if not keys and not isinstance(value, Mapping):
            yield scorer, value
            return
        if not isinstance(value, Mapping) or not keys:
            given = f"scorer {scorer} gave {value!r}"
            hint = (
                f"name its keys, as `keys: {{{scorer}: [{', '.join(map(str, value))}]}}`" if not keys else ""
            )
            raise AttemptFailure(FailureKind.SCORER_ERROR, f"{given}: {hint or 'expected a score by key'}")
        yield from ((f"{scorer}:{key}", value[key]) for key in keys if key in value)


def _apart(work: Coroutine[Any, Any, Result]) -> Result:
    """What comes of some work where no event loop runs, as one may here."""

    def run() -> Result:
        with asyncio.Runner() as runner:  # Inspect may replace asyncio.run by one that leaks loops
            return runner.run(work)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def _own_name(thing: Any) -> str:
    """The name by which Inspect knows a part, without its package where that is Inspect."""
    return registered(thing).removeprefix("inspect_ai/")


def _with_ids(dataset: Any) -> list[Any]:
    """The samples, those without an id numbered from 1, as Inspect does."""
    return [
        sample if sample.id is not None else sample.model_copy(update={"id": number})
        for number, sample in enumerate(dataset, 1)
    ]


def _shown(sample: Any) -> Any:
    """All that a solver and a scorer see of a sample, but for the ids that Inspect draws for messages."""
    fields = sample.model_dump(mode="json", exclude_none=True)
    if not isinstance(fields["input"], str):
        fields["input"] = [{k: v for k, v in message.items() if k != "id"} for message in fields["input"]]
    return fields


def _metrics_of(task: Any, scorer: Any) -> Any:
    """What Inspect computes of a scorer's scores: a list of metrics and groups by key, or one such group."""
    from inspect_ai._util.registry import registry_info

    return task.metrics or registry_info(scorer).metadata.get("metrics", [])


def _plain_metrics(task: Any, scorer: Any) -> list[Any]:
    """The same as one list."""
    declared = _metrics_of(task, scorer)
    groups = [declared] if isinstance(declared, dict) else declared
    lists = [list(one.values()) if isinstance(one, dict) else [[one]] for one in groups]
    return [metric for given in lists for metrics in given for metric in metrics]


def _jsonable(value: Any) -> Any:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=repr, inf_nan_mode="strings")


def _metadata(sample: Any, kept: dict[str, Any]) -> dict[str, Any]:
    """The metadata that a solver left: what it left as it was is the sample's own, of whatever type."""
    own = sample.metadata or {}
    return {
        key: own[key] if key in own and _jsonable(own[key]) == said else said for key, said in kept.items()
    }


def _kept(state: Any) -> dict[str, Any]:
    """What scorers may look at beside the conversation."""
    kept = {
        "completion": state.output.completion,
        "stop_reason": state.output.stop_reason if state.output.choices else None,
        "choices": [[c.value, c.correct, c.original_position] for c in state.choices],
        "metadata": state.metadata,
        "store": dict(state.store.items()),
    }
    return {key: value for key, value in _jsonable(kept).items() if value not in (None, [], {})}


def _restored(sample: Any, transcript: Transcript) -> Any:
    """The `TaskState` that a solver left."""
    from inspect_ai.model import ChatCompletionChoice, ModelName, ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState
    from inspect_ai.solver._task_state import Choice

    kept, messages = transcript.kept, [of_harness(message) for message in transcript.messages]
    output = ModelOutput(model="harness/local")
    if "stop_reason" in kept:
        text = kept.get("completion", "")
        output = ModelOutput.from_content("harness/local", text, stop_reason=kept["stop_reason"])
        last = messages[-1] if messages and messages[-1].role == "assistant" else None
        if last is not None and last.text == text:
            output = ModelOutput(
                model="harness/local",
                choices=[ChatCompletionChoice(message=last, stop_reason=kept["stop_reason"])],
            )
    return TaskState(
        model=ModelName("harness/local"),
        sample_id=sample.id,
        epoch=1,
        input=sample.input,
        messages=messages,
        target=Target(sample.target),
        choices=[
            Choice(value=value, correct=correct, original_position=position)
            for value, correct, position in kept.get("choices", [])
        ],
        output=output,
        completed=True,
        metadata=_metadata(sample, kept.get("metadata", {})),
        store=kept.get("store", {}),
    )
