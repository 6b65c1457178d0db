"""Capability, through the task objects of lm-evaluation-harness (EleutherAI, `lm_eval`).

A task builds its prompts, filters replies and scores them; its own loop over models is not used. What a
task asks, and what it makes of a reply, is what lm-eval's `simple_evaluate` would.
"""

import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from harness.bounded import bounded
from harness.config import RunConfig
from harness.engines.base import Engine
from harness.errors import AttemptFailure, UserError
from harness.suites.access import Access
from harness.suites.base import Needs, Render, Scoring, Suite
from harness.suites.difficulty import BY_DIFFICULTY, TaskDifficulty, read
from harness.suites.digests import digest
from harness.suites.lm_eval.cautions import documents, drawing, of_lm_eval
from harness.suites.lm_eval.data import Source, one_line
from harness.suites.lm_eval.documents import answerable
from harness.suites.lm_eval.examples import Examples
from harness.suites.lm_eval.groups import groups_of
from harness.suites.lm_eval.metrics import (
    FRACTIONS,
    NO_SCORE,
    answer_text,
    metric_name,
    metrics_of,
    right_answer,
    scores_as_lm_eval,
    target_text,
    to_score,
)
from harness.suites.lm_eval.patches import quiet
from harness.suites.lm_eval.requests import (
    answered,
    budget_of,
    by_context,
    chat_template,
    check_bos,
    check_generation_kwargs,
    in_order,
    reply_sampling,
    scoring,
    together,
)
from harness.suites.lm_eval.tasks import load_tasks, portable_config, seeded
from harness.suites.subset import InformativeSubset, draw, draw_by_difficulty, draw_text, shares
from harness.types import (
    Caution,
    FailureKind,
    Generation,
    Metric,
    Sample,
    Sampling,
    Score,
    Transcript,
)
from harness.warned import gathered

SCORER_VERSION = "1"
"""Raised whenever a change here could change a score."""


PASSAGES = ("passage", "paragraph", "context", "article", "flores_passage", "document_str", "abstract")
"""Fields of documents that hold what several questions are about: of BoolQ, DROP, ReCoRD; MultiRC; SQuAD;
RACE; Belebele; QA4MRE; QASPER. Where no two documents share one they change nothing."""
PARALLEL = {"belebele": "link", "xcopa": "idx", "mgsm": None}
"""How tasks begin that ask the same in every language, and the field that tells what; None where documents
have the same order in all of them. In a group, a question is one cluster with its translations."""


class Options(InformativeSubset, kw_only=True):
    """Options of the `lm_eval` adapter. Each task of a group is drawn from in proportion to its size."""

    task: str
    """Name of a task, group or tag: lm-eval's own, or one that a YAML in `include_path` defines."""
    include_path: str | None = None
    """Folder of further task YAMLs. Their names win over lm-eval's own."""
    data_dir: str | None = None
    """Folder that relative `data_files` of those YAMLs begin at. Default: the YAML's own folder."""
    revision: str | dict[str, str] | None = None
    """Commit, tag or branch of the data set on the hub; for a group that reads several, of each by its
    repository. Default: the commit that `harness fetch` locked, or the main branch."""
    num_fewshot: int | None = None
    """Solved examples in the prompt. Default: the task's own number, or none."""
    apply_chat_template: bool = False
    """Show the prompt through the model's chat template, as a user's message."""
    fewshot_as_multiturn: bool | None = None
    """Show each solved example as two messages of its own. Default: as `apply_chat_template`."""
    system_instruction: str | None = None
    """Put before the task's own description."""
    max_gen_toks: int | None = None
    """Budget of a reply in tokens. Default: the task's own, or 256."""
    sampling: Literal["task", "run"] = "task"
    """Whose temperature and budget count where task and run both state them. Most tasks are greedy, so that
    several attempts, or a model that is to be sampled, need `run`. Stop strings are always the task's."""
    double_bos: bool = False
    """Send prompts that begin with two BOS tokens, which are refused otherwise."""
    seed: int = 1234
    """Of the choice of solved examples."""
    cluster_by: str | None = None
    """Field of a document that several share, such as a passage with many questions: intervals count them as
    one cluster. Default: the first of `PASSAGES` that a document has, and that of `PARALLEL`; `none` for no
    clusters. With MMLU's `subject` the group's interval is of other subjects; otherwise they are given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_gen_toks is not None and self.max_gen_toks < 1:
            raise ValueError("max_gen_toks must be at least 1")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ValueError("num_fewshot must not be negative")
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise ValueError("fewshot_as_multiturn needs apply_chat_template")

    @property
    def multiturn(self) -> bool:
        """Whether solved examples are messages of their own."""
        if self.fewshot_as_multiturn is None:
            return self.apply_chat_template
        return self.fewshot_as_multiturn


class Item(NamedTuple):
    """What a sample carries: a document, and what lm-eval asks about it."""

    doc: Any
    instances: tuple[Any, ...]


class Trial(NamedTuple):
    """What came of making the prompts without a model."""

    replaced: int
    """Documents whose solved examples held their own question and answer."""
    longest: tuple[str, str]
    """(id of the sample, text) of the longest prompt, with what is scored behind it."""
    error: str | None
    """Why a prompt cannot be made."""
    warned: Sequence[str]
    """What lm-eval warned of meanwhile."""


def build(name: str | None, options: Options, access: Access | None = None) -> list[Suite]:
    """One suite a task. Groups and tags become their tasks.

    Args:
        name: of the suite; suites of several tasks are called `name/task`.
        options: see `Options`.
        access: how far to reach for data; as far as need be if not given.

    Raises:
        UserError: a task does not exist or cannot be run here, or its data cannot be reached; `Absent` where
            they may not be downloaded.
    """
    source = Source(options.revision, access or Access())
    tasks, groups, warned = load_tasks(options.task, options.include_path, options.data_dir, source)
    top = name or options.task
    prefix = f"{name}/" if name else ""
    names = {key: prefix + key for key in tasks} if len(tasks) > 1 else dict.fromkeys(tasks, top)
    suites = {
        key: LmEvalSuite(names[key], key, task, options, source.commits, warned.get(key, ()))
        for key, task in tasks.items()
    }
    draw_documents(suites, options)
    if len(tasks) == 1:
        return list(suites.values())
    built = groups_of(top, {key: suite.name for key, suite in suites.items()}, tasks, groups, prefix)
    for suite in suites.values():
        suite.groups = built
    return list(suites.values())


def draw_documents(suites: Mapping[str, "LmEvalSuite"], options: Options) -> None:
    """Let the tasks of one entry ask documents that are drawn from all of theirs, where that is wanted.

    Raises:
        OptionError: fewer are wanted than there are tasks, or the difficulty of one is not known.
    """
    if options.wanted is None:
        return
    sizes = [suite.documents for suite in suites.values()]
    for (task, suite), share in zip(suites.items(), shares(sizes, options.wanted), strict=True):
        suite.drawn_from = suite.documents
        if options.difficulty is None:
            suite.places = draw(suite.documents, share, options.sample_seed, task)
        else:
            asked = {"adapter": "lm_eval", "task": task, "data": suite.data}
            suite.draw_by_difficulty(read(Path(options.difficulty), asked), share)


class LmEvalSuite(Suite):
    """One lm-eval task."""

    metrics: tuple[Metric, ...]
    needs: Needs
    places: Sequence[int] | None = None
    """Of the documents that were drawn; None for those that `limit` leaves."""
    fitted: TaskDifficulty | None = None
    """By which documents were drawn."""

    def __init__(
        self,
        name: str,
        task_name: str,
        task: Any,
        options: Options,
        revisions: Mapping[str, str | None],
        warned: Sequence[str] = (),
    ) -> None:
        """Args: name: of the suite. task_name: lm-eval's. task: its `Task`, with its data.

        revisions: see `Needs.data`.

        warned: what lm-eval warned of as it built the task.

        Raises:
            UserError: the options do not fit the task, or it cannot be run here.
        """
        self.name = name
        self.options = options
        self._task_name = task_name
        self._task = task
        self._warned = warned
        check_generation_kwargs(task_name, task)
        self._num_fewshot = resolve_num_fewshot(task_name, task, options.num_fewshot)
        task.set_config("num_fewshot", self._num_fewshot)
        # Kept: a task may make its documents anew each time they are asked for.
        self._docs = getattr(task, "task_docs", None) or task.eval_docs
        if hasattr(task, "sampler") and hasattr(task, "fewshot_cfg"):
            task.sampler = Examples(task)
        self.metrics = metrics_of(task_name, task)
        generates, programs = task.OUTPUT_TYPE == "generate_until", bool(getattr(task, "UNSAFE_CODE", False))
        scoring = Scoring.THREADS if programs else Scoring.INLINE
        # Filters and scorers read what a model wrote; a choice among likelihoods reads nothing.
        if not programs and (generates or not scores_as_lm_eval(task)):
            scoring = Scoring.PROCESS
        self.needs = Needs(
            chat_template=options.apply_chat_template,
            bare_prompts=generates and not options.apply_chat_template,
            loglikelihoods=not generates,
            sandbox=programs,
            scoring=scoring,
            data=dict(revisions),
        )

    @property
    def output_type(self) -> str:
        """What lm-eval asks of a model for it, such as `generate_until`."""
        return str(self._task.OUTPUT_TYPE)

    def task_config(self) -> dict[str, Any]:
        """The task as lm-eval logs it in its results."""
        config: dict[str, Any] = self._task.dump_config()
        return config

    def target(self, doc: Any) -> str:
        """The right answer of a document as lm-eval logs it: of a choice its number."""
        return str(self._task.doc_to_target(doc))

    @cached_property
    def data(self) -> str:
        """Digest of all documents whatever the limit, so that a part is known to be of what was fetched."""
        few_shot_pool = self._task.sampler.df if self._num_fewshot and hasattr(self._task, "sampler") else []
        return digest([*self._docs, *few_shot_pool])

    def draw_by_difficulty(self, fitted: TaskDifficulty, wanted: int) -> None:
        """Ask so many documents, of every difficulty as many as there are."""
        known = [fitted.difficulty.get(str(place), 0.0) for place in range(self.documents)]
        self.places, easiest_first = draw_by_difficulty(
            known, wanted, self.options.sample_seed, self._task_name
        )
        self.by_difficulty = tuple(map(str, easiest_first))
        self.fitted = fitted

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        options, config = self.options, self._task.config
        return {
            "adapter": "lm_eval",
            "task": self._task_name,
            "task_version": str(self._task.VERSION),
            "lm_eval": version("lm-eval"),
            "config": digest(portable_config(config)),
            "data": self.data,
            **({"revision": json.dumps(self.needs.data, sort_keys=True)} if self.needs.data else {}),
            "num_fewshot": str(self._num_fewshot),
            "fewshot_seed": str(options.seed),
            "apply_chat_template": str(options.apply_chat_template),
            "fewshot_as_multiturn": str(options.multiturn),
            "system_instruction": digest(options.system_instruction)
            if options.system_instruction
            else "none",
            "limit": str(options.limit),
            **self._drawing(),
            "output_type": self.output_type,
            "generation_kwargs": json.dumps(config.generation_kwargs or {}, sort_keys=True, default=str),
            "max_gen_toks": self._budget(),
            **({"sampling": options.sampling} if options.sampling == "run" else {}),
            "double_bos": str(options.double_bos),
            "scorer": SCORER_VERSION,
        }

    def _drawing(self) -> dict[str, str]:
        if self.places is None:
            return {}
        how = BY_DIFFICULTY.format(digest(self.fitted)[:12]) if self.fitted else "each group in proportion"
        return {"sample": draw_text(len(self.places), self.documents, self.options.sample_seed, how)}

    def _budget(self) -> str:
        """The budget of a reply and who says so, in words."""
        stated = self._task.config.generation_kwargs or {}
        if self._task.OUTPUT_TYPE != "generate_until":
            return "none"
        if self.options.sampling == "run" and self.options.max_gen_toks is None:
            return "the run's"
        tokens, source = budget_of(stated, self.options.max_gen_toks)
        return f"{tokens} ({source})"

    def drawn(self, sampling: Sampling) -> Sampling | None:
        """See `Suite.drawn`: as the task states, unless the option `sampling` says otherwise."""
        stated = self._task.config.generation_kwargs or {}
        return self._reply_sampling(stated, sampling) if self._task.OUTPUT_TYPE == "generate_until" else None

    def attempts(self, asked: int, sampling: Sampling) -> int:
        """See `Suite.attempts`: one of log-likelihoods, and one of replies that are drawn greedily."""
        drawn = self.drawn(sampling)
        return 1 if drawn is None or drawn.temperature == 0 else asked

    def _reply_sampling(self, stated: Mapping[str, Any], sampling: Sampling) -> Sampling:
        options = self.options
        return reply_sampling(stated, options.max_gen_toks, sampling, as_the_run=options.sampling == "run")

    def count(self) -> int:
        """See `Suite.count`."""
        if self.places is not None:
            return len(self.places)
        return self.documents if self.options.limit is None else min(self.documents, self.options.limit)

    @property
    def documents(self) -> int:
        """How many documents the task has, those beyond a limit included."""
        return len(self._docs)

    def _documents(self) -> Iterator[tuple[int, Any]]:
        if self.places is not None:
            drawn = frozenset(self.places)
            return ((place, doc) for place, doc in enumerate(self._docs) if place in drawn)
        return islice(enumerate(self._docs), self.options.limit)

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`. Solved examples are chosen anew, and alike, at every call.

        Raises:
            UserError: a chat template is asked for and there is none, or a prompt cannot be built.
        """
        if self.options.apply_chat_template and render is None:
            raise UserError(f"suite {self.name}: apply_chat_template needs a model with a chat template")
        template = chat_template(render) if self.options.apply_chat_template and render else None
        with quiet(), gathered(), seeded():  # as of the trial, whose warnings the plan tells
            self._task.set_fewshot_seed(seed=self.options.seed)
            return [self._sample(doc_id, doc, template) for doc_id, doc in self._documents()]

    def _sample(self, doc_id: int, doc: Any, template: Callable[..., str] | None) -> Sample:
        what = f"making the prompt of document {doc_id} of {self.name}"
        try:
            with bounded(what):
                instances = self._requests(doc_id, doc, template)
                target = self._task.doc_to_target(doc)
        except UserError:
            raise
        except Exception as error:  # prompts are templates and code of the task's own
            raise UserError(
                f"suite {self.name}: the prompt of document {doc_id} cannot be built "
                f"({type(error).__name__}: {one_line(error)}): correct the task or the model's chat template"
            ) from error
        shown = [instance.arguments for instance in instances]
        return Sample(
            id=str(doc_id),
            content_hash=digest([doc, shown, target]),
            clusters=self._clusters(doc_id, doc),
            payload=Item(doc, tuple(instances)),
        )

    def _clusters(self, doc_id: int, doc: Any) -> dict[str, str]:
        """What a document shares with others, by the digest of it."""
        field = self.options.cluster_by
        if field == "none" or not isinstance(doc, Mapping):
            return {}
        if field is not None and field not in doc:
            raise UserError(
                f"suite {self.name}: document {doc_id} has no field {field!r} for cluster_by: use one of "
                f"{', '.join(map(str, doc))}, or none"
            )
        passages = (name for name in PASSAGES if isinstance(doc.get(name), str))
        parallel = [shared for start, shared in PARALLEL.items() if self.options.task.startswith(start)]
        known = [*islice(passages, 1), *(name for name in parallel if name and name in doc)]
        clusters = {name: digest([doc[name]])[:16] for name in ([field] if field else known)}
        return {"question": str(doc_id)} if None in parallel and not clusters else clusters

    def _requests(self, doc_id: int, doc: Any, template: Callable[..., str] | None) -> list[Any]:
        """The requests of one document, as lm-eval's `Task.build_all_requests` makes them."""
        task, chat = self._task, self.options.apply_chat_template
        if isinstance(sampler := getattr(task, "sampler", None), Examples):
            sampler.asked, sampler.replaced = doc, False
        context = task.fewshot_context(
            doc,
            num_fewshot=self._num_fewshot,
            system_instruction=self.options.system_instruction,
            apply_chat_template=chat,
            fewshot_as_multiturn=self.options.multiturn,
            chat_template=template,
            gen_prefix=task.doc_to_prefix(doc),
        )
        instances = task.construct_requests(
            doc=doc,
            ctx=context,
            metadata=(task.config.task, doc_id, task.config.repeats),
            apply_chat_template=chat,
            chat_template=template,
        )
        return instances if isinstance(instances, list) else [instances]

    def cautions(self, config: RunConfig) -> Iterator[Caution]:
        """See `Suite.cautions`."""
        task, docs = self._task, list(self._documents())
        cautions = [
            *of_lm_eval(self.name, [*self._warned, *self._trial.warned]),
            *drawing(self.name, task, self.drawn(config.sampling), config, self.options.max_gen_toks),
        ]
        yield from (Caution(check=check, text=text, suite=self.name) for check, text in cautions)
        for check, text, void in (*documents(self.name, task, docs), *self._of_prompts()):
            yield Caution(check=check, text=text, suite=self.name, void=void)

    @cached_property
    def _trial(self) -> Trial:
        """The prompts as they are without a model's template, made once."""
        sampler, replaced, longest = getattr(self._task, "sampler", None), 0, ("", "")
        try:
            with quiet(), gathered() as warned, seeded():
                self._task.set_fewshot_seed(seed=self.options.seed)
                for doc_id, doc in self._documents():
                    sample = self._sample(doc_id, doc, _plainly)
                    replaced += isinstance(sampler, Examples) and sampler.replaced
                    texts = [_whole_text(instance) for instance in sample.payload.instances]
                    longest = max([longest, *((sample.id, text) for text in texts)], key=lambda x: len(x[1]))
        except UserError as error:
            return Trial(replaced, longest, str(error), warned)
        return Trial(replaced, longest, None, warned)

    def longest_prompt(self) -> tuple[str, str] | None:
        """See `Suite.longest_prompt`."""
        return self._trial.longest if self._trial.longest[1] else None

    def reading(self) -> str:
        """See `Suite.reading`: the patterns of the task's filters, and its own functions."""
        stated = portable_config(self._task.config)
        return "\n".join(_texts([stated["filter_list"], stated["process_results"], stated["metric_list"]]))

    def prompts(self, sample: Sample) -> tuple[tuple[str, ...], ...]:
        """See `Suite.prompts`."""
        item: Item = sample.payload
        return tuple(
            tuple(argument for argument in instance.args if isinstance(argument, str))
            for instance in item.instances
        )

    def _of_prompts(self) -> Iterator[tuple[str, str, bool]]:
        """(check, sentence, whether nothing would be measured) about the prompts."""
        if self._trial.error is not None:
            yield "prompt", self._trial.error, True
        if replaced := self._trial.replaced:
            yield (
                "own_answer",
                f"suite {self.name}: lm-eval would show {replaced} of {self.count()} documents their own "
                "question and answer among the solved examples; they get others here, so that the number is "
                "not lm-eval's: give the task a fewshot_split that is not asked",
                False,
            )

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Put all requests of a document to the model at once. Raises what the engine raises.

        Contexts that several continuations share are sent once.

        Raises:
            UserError: prompts begin with two BOS tokens, and the options do not allow it.
        """
        instances = sample.payload.instances
        generated = [i for i in instances if i.request_type == "generate_until"]
        scored = [i for i in instances if i.request_type != "generate_until"]
        async with together(self._replies(generated, engine, sampling)) as replies:
            generations = await replies
        if any(map(_only_thought, generations)):
            raise AttemptFailure(FailureKind.EMPTY_ANSWER, "the model ended its thought and gave no answer")
        contexts = by_context(scored)
        async with together([scoring(scored, places, engine) for places in contexts]) as answers:
            likelihoods = in_order(contexts, await answers)
        transcript = Transcript(generations=tuple(generations), loglikelihoods=likelihoods)
        if not self.options.double_bos:
            check_bos(self.name, instances, transcript)
        return transcript

    def _replies(
        self, instances: Sequence[Any], engine: Engine, sampling: Sampling
    ) -> list[Coroutine[Any, Any, Generation]]:
        """Calls for `repeats` replies to each request, each with a seed of its own."""
        calls = []
        for instance in instances:
            prompt, stated = instance.args
            drawn = self._reply_sampling(stated, sampling)
            seeds = range(sampling.seed, sampling.seed + instance.repeats)
            calls += [engine.complete(prompt, msgspec.structs.replace(drawn, seed=seed)) for seed in seeds]
        return calls

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """Filter and score the replies as lm-eval does. A reply that was cut off is scored as it is.

        A task may score under names that it does not announce; such scores are here, but not in `metrics`.

        Raises:
            AttemptFailure: the task's own code raised, or gave something that is not a score.
        """
        item: Item = sample.payload
        try:
            # Log levels belong to the whole process: nothing for a thread.
            with nullcontext() if self.needs.sandbox else quiet():
                return tuple(self._scores(item, answered(item.instances, transcript)))
        except AttemptFailure:
            raise
        except Exception as error:
            message = f"{self._task_name} raised {type(error).__name__}: {one_line(error)}"
            raise AttemptFailure(FailureKind.SCORER_ERROR, message) from error

    def _scores(self, item: Item, instances: Sequence[Any]) -> Iterator[Score]:
        if not answerable(self._task, item.doc):
            gold = right_answer(self._task, item.doc)
            message = f"{self._task_name}: the right answer {gold!r:.100} is none of the choices"
            raise AttemptFailure(FailureKind.SCORER_ERROR, message)
        announced = {metric.name: metric for metric in self.metrics}
        left = {*announced}
        target = target_text(self._task, item.doc)
        for pipeline in self._task._filters:
            pipeline.apply(instances)
            filtered = [i.filtered_resps[pipeline.name] for i in instances]
            for key, value in self._task.process_results(item.doc, filtered).items():
                name = metric_name(self._task, key, pipeline.name)
                answer = answer_text(self._task, item.doc, key, filtered)
                reason = target if key in FRACTIONS else None
                left.discard(name)
                yield to_score(name, announced.get(name), value, answer, reason)
        if len(left) == len(announced):  # else some of its metrics are about other documents
            for name in announced:
                yield Score(metric=name, value=None, reason=NO_SCORE)


def _plainly(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
    """In place of a model's chat template, for prompts that no model is shown."""
    return "".join(message["content"] for message in messages)


def _texts(value: Any) -> Iterator[str]:
    """Every text within a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _whole_text(instance: Any) -> str:
    """A prompt, and what is scored behind it."""
    return "".join(part for part in instance.args[:2] if isinstance(part, str))


def _only_thought(reply: Generation) -> bool:
    """Whether a thinking model ended a reply without an answer. One that was cut off is scored as it is."""
    return reply.finish_reason == "stop" and bool(reply.reasoning) and not reply.text.strip()


def resolve_num_fewshot(name: str, task: Any, asked: int | None) -> int:
    """How many solved examples are shown.

    Raises:
        UserError: the task does not allow that number, or has fewer.
    """
    own = task.config.num_fewshot
    number = int(own or 0) if asked is None else asked
    if own == 0 and number:
        raise UserError(
            f"lm-eval task {name} is always asked without solved examples: leave num_fewshot={number} out"
        )
    if number and hasattr(task, "sampler") and number > len(task.sampler.df):
        raise UserError(
            f"lm-eval task {name} has {len(task.sampler.df)} solved examples: num_fewshot={number} asks for "
            "more, lower it"
        )
    return number
