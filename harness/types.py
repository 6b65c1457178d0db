"""The vocabulary of the harness. Read this file first; it imports nothing of ours.

Data walks through it in this order: a `Sample` is put to an engine, which answers with
`Generation`s or `LogLikelihood`s; they make a `Transcript`; a suite turns the transcript into
`Score`s; sample, transcript and scores are kept together as a `Record`; statistics turn the records
of a cell into `Estimate`s. `Manifest` describes the run that the records belong to.
"""

from collections.abc import Iterable
from enum import StrEnum
from math import inf, prod
from typing import Annotated, Any, Literal, dataclass_transform

import msgspec

SCHEMA_VERSION = 1
"""Version of `Record` and `Manifest` on disk. A reader refuses a version that it does not know."""

LARGEST_COUNT = 1 << 40
"""Of what one attempt may have taken, in tokens, seconds or joules: sums over millions of them are exact."""

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass_transform(frozen_default=True, kw_only_default=True)
class _StructMeta(msgspec.StructMeta):
    """Tells type checkers that subclasses of `Struct` are frozen without each saying so."""


class Struct(msgspec.Struct, metaclass=_StructMeta, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every type here: immutable, built by keyword, strict about its keys."""


def total_count(counts: Iterable[int | None]) -> int | None:
    """The sum of counts, None if any of them is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


class FailureKind(StrEnum):
    """Why an attempt has no score. A failed attempt is missing: never wrong, safe or hijacked."""

    ENGINE_ERROR = "engine_error"
    """The engine raised, timed out or answered with an error status."""
    CONTEXT_OVERFLOW = "context_overflow"
    """The prompt did not fit into the model's context."""
    TOOL_PARSE = "tool_parse"
    """The model wrote a tool call that its parser could not read."""
    TRUNCATED = "truncated"
    """The token budget ended the reply where the suite needs a whole one."""
    THOUGHT_CUT = "thought_cut"
    """The token budget ended the reply in mid-thought, before any answer."""
    EMPTY_ANSWER = "empty_answer"
    """The model neither said anything nor called a tool."""
    ITERATION_CAP = "iteration_cap"
    """The agent was still calling tools when its turns ran out."""
    TOOL_ERROR = "tool_error"
    """A tool of the suite raised on the model's arguments instead of answering."""
    SCORER_ERROR = "scorer_error"
    """The transcript is whole, but the suite's checker raised on it."""
    INCOMPLETE_TRANSCRIPT = "incomplete_transcript"
    """What others kept of their attempt does not tell how it ended, so that nobody can judge it again."""


class ToolCall(Struct):
    """A tool call that the model made, as parsed."""

    id: str
    name: str
    arguments: dict[str, Any]


class Message(Struct):
    """One message of a conversation. `name` and `tool_call_id` belong to tool results."""

    role: Role
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    error: bool = False
    """The call was refused or failed, and `content` says why."""


class Tool(Struct):
    """A function that the model may call. `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class Sampling(Struct):
    """How tokens are drawn. Always explicit, always recorded."""

    temperature: float = 0.0
    """0 takes the likeliest token each time (greedy)."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0 means no limit."""
    min_p: float = 0.0
    """Only tokens of at least this probability, relative to the likeliest."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that were there before become less likely."""
    max_tokens: int = 512
    """Budget of one reply, in tokens, where the suite does not set one of its own."""
    seed: int = 0
    """Each attempt derives its own seed from it."""
    stop: tuple[str, ...] = ()
    """A reply ends where one of these texts begins."""

    def __post_init__(self) -> None:
        # A comparison with nan is false, so what is right is asked for.
        if not (0 <= self.temperature < inf and self.max_tokens >= 1 and 0 < self.top_p <= 1):
            raise ValueError("temperature must be a number from 0, max_tokens at least 1, top_p in (0, 1]")


Natural = Annotated[int, msgspec.Meta(ge=0)]

INSTRUCT = "instruct"
"""The mode in which a model answers at once: nothing that it writes is a thought."""


class Variant(Struct):
    """How a model is asked, beside what a suite asks of it. Empty: as its chat template has it by default."""

    mode: str | None = None
    """`thinking` or `instruct`, as a rule: one that the model's spec has."""
    reasoning_effort: str | None = None
    """How long it thinks, by a name that the model's spec has."""
    chat_template_kwargs: dict[str, Any] = {}
    """Variables of the chat template, with those by which mode and effort are switched."""
    system_prompt: str | None = None
    """What every system message begins with."""
    thinking_token_budget: Natural | None = None
    """After so many tokens of thought the engine ends it, and the answer begins."""
    sampling: dict[str, Any] = {}
    """What of `Sampling` it has for itself, over the run's. The key `from` names what that is over in turn:
    `recommended`, the sampling that its spec has for its mode, or `greedy`."""

    @property
    def instruct(self) -> bool:
        """Whether nothing of a reply is a thought."""
        return self.mode == INSTRUCT

    @property
    def protocol(self) -> dict[str, str]:
        """Fields of a cell's protocol: what is said of it, nothing of what is not."""
        asked = {key: value for key, value in msgspec.structs.asdict(self).items() if value not in (None, {})}
        return {
            f"variant.{key}": value
            if isinstance(value, str)
            else msgspec.json.encode(value, order="sorted").decode()
            for key, value in asked.items()
        }


class Generation(Struct):
    """One reply of an engine."""

    text: str
    """The answer, without reasoning and without tool calls."""
    raw: str
    """Everything the model wrote, special tokens included, before any parser touched it."""
    finish_reason: FinishReason
    prompt_tokens: int | None
    """None where a server does not tell it; so of the other counts."""
    completion_tokens: int | None
    cached_tokens: int | None = 0
    """Prompt tokens that came from the prefix cache."""
    bos_tokens: int | None = None
    """BOS tokens that the prompt began with, as it was sent. None where the engine does not see tokens."""
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    """How many of its tokens were thought, 0 for a reply without a thought. None where nobody tells them from
    the others."""
    thought_ended: bool = False
    """Its thought came to the end of its budget (`Variant.thinking_token_budget`), which ends it."""
    tool_calls: tuple[ToolCall, ...] = ()
    parse_error: str | None = None
    """Why the reply could not be parsed as the model's format says, if it could not."""
    seconds: float = 0.0
    """Wall time of the request, waiting included."""
    prompt: str | None = None
    """The text of the prompt, kept only where a tool result of the conversation is not whole in it."""

    @property
    def thought_cut(self) -> bool:
        """Whether it was cut off in its thought, or right behind it: before any answer."""
        answered = self.text.strip() or self.tool_calls
        return self.finish_reason == "length" and bool(self.reasoning) and not answered


class LogLikelihood(Struct):
    """How likely a continuation is after its context."""

    logprob: float
    """Sum over the continuation's tokens, in nats."""
    is_greedy: bool
    """True if greedy decoding would have written exactly this continuation."""
    tokens: int
    """Length of the continuation."""
    prompt_tokens: int = 0
    """Prompt tokens that the engine was sent to compute this, 0 if shared with a sibling."""
    cached_tokens: int = 0
    bos_tokens: int | None = None
    """As of a `Generation`; of a text in several windows that of the window with most."""
    lost_tokens: int = 0
    """Tokens at the beginning of the context that were left out, since they did not fit."""


class Sample(Struct):
    """One item of a suite."""

    id: str
    """Unique within the suite."""
    content_hash: str
    """SHA-256 of everything that the model is shown and that the scorer compares with."""
    clusters: dict[str, str] = {}
    """Factor -> level, for example user_task -> user_task_3. Samples that share a level are not
    independent; intervals are widened for it."""
    labels: dict[str, str] = {}
    """Kinds that the sample belongs to, for metrics of one kind alone: harm -> exfiltration."""
    payload: Any = None
    """What the suite itself needs to run and score the sample. Not written to disk."""


class Usage(Struct):
    """What an attempt cost."""

    engine_seconds: float = 0.0
    """This attempt's share of the time that the engine was busy: every instant is divided evenly
    between the requests in flight, so that shares add up to the busy time of the engine."""
    prompt_tokens: int | None = 0
    """None where a server did not tell it of every reply, which is not 0; so of the other counts."""
    completion_tokens: int | None = 0
    cached_tokens: int | None = 0
    reasoning_tokens: int | None = None
    """Of the completion tokens those that were thought. None where that is not known."""
    requests: int = 0
    joules: float | None = None
    """Its share of the energy of the engine's GPUs while that was busy, divided like the time. None where it
    was not measured, which is not 0."""

    @property
    def tokens(self) -> int | None:
        """Read and written together."""
        return total_count((self.prompt_tokens, self.completion_tokens))


class Transcript(Struct):
    """All that is needed to score an attempt again without a model."""

    messages: tuple[Message, ...] = ()
    """The conversation, for suites that hold one."""
    generations: tuple[Generation, ...] = ()
    """Every reply in the order received."""
    loglikelihoods: tuple[LogLikelihood, ...] = ()
    """Every scored continuation in the order asked."""
    kept: dict[str, Any] = {}
    """What the suite's scorer needs beside the conversation, as JSON has it."""


class Score(Struct):
    """The value of one metric on one attempt."""

    metric: str
    value: float | None
    """None means not measured. It never enters a mean as 0."""
    answer: str | None = None
    """What the scorer read out of the reply."""
    reason: str | None = None
    operands: tuple[Any, ...] | None = None
    """What a corpus metric needs from this sample, where its value is not a mean of samples
    (log-likelihood and word count for a perplexity, for example)."""


class Record(Struct):
    """One finished attempt: the only thing that statistics read."""

    cell: str
    """Key of the cell."""
    sample: str
    attempt: int
    """0-based repetition of the sample."""
    content_hash: str
    clusters: dict[str, str]
    transcript: Transcript
    scores: tuple[Score, ...]
    """Of a failed attempt none but those of metrics with a `booking`."""
    usage: Usage
    started: float
    """Unix time."""
    seconds: float
    """Wall time from start to score."""
    labels: dict[str, str] = {}
    failure: FailureKind | None = None
    failure_message: str | None = None
    truncated: bool = False
    """A reply hit its token budget. Where the suite can still score it, this stands beside the score."""
    lost_tokens: int = 0
    """Most tokens that one of its contexts lost at the beginning (`LogLikelihood.lost_tokens`)."""
    warnings: tuple[str, ...] = ()
    """What checkers, filters and metrics warned of as they scored it, each text once."""
    thoughts_cut: int = 0
    """Replies that were cut off in mid-thought."""
    thoughts_ended: int = 0
    """Replies whose thought came to the end of its budget."""
    schema_version: int = SCHEMA_VERSION


class Interval(Struct):
    """A second interval of an estimate, for another question than its own."""

    low: float
    high: float
    method: str
    """How it was computed, with what was assumed."""


class Corrected(Struct):
    """A rate that a judge gave, corrected for how often that judge errs."""

    value: float
    low: float
    """Lower end of the 95% interval, which holds the judge's errors too."""
    high: float
    method: str


class Estimate(Struct):
    """A number with everything that is needed to believe it or not."""

    value: float | None
    """None if nothing was measured."""
    low: float | None
    """Lower end of the 95% interval."""
    high: float | None
    n: int
    """Attempts that were measured."""
    missing: int
    """Attempts that were not, failures and unscored ones together."""
    clusters: int
    """Independent units behind n (the smallest number over the clustering factors)."""
    method: str
    """How value and interval were computed, with what was assumed; why there is none, where there is none."""
    same_tasks: Interval | None = None
    """Of a rate over tasks that several attempts share: what would come out if the same tasks were run again
    ("on these tasks"). `low` and `high` are then of other tasks of the kind ("tasks like these"). None where
    the two are not told apart, since every attempt has a task of its own."""
    worst_case: Interval | None = None
    """From the interval of `value` if every missing attempt had come out at the lower end to that if all had
    at the upper end. None where `missing` is a share too small to matter (`scorecards.missing`): a model
    with a worst case is to be called neither the best nor better than another."""
    out_of: int | None = None
    """Of a rate that only some attempts have, such as those that were shown an attack: of how many attempts
    it is known whether they have it. None for a rate that all have."""
    corrected: Corrected | None = None
    """Of a rate that a judge gave, where the judge's errors were measured; `value` is the rate as given."""
    warnings: tuple[str, ...] = ()
    """What a reader has to know before the number is believed."""
    contexts_cut: int = 0
    """How many of the n attempts were shown a context that had lost its beginning."""


class Metric(Struct):
    """What a suite measures."""

    name: str
    higher_is_better: bool | None
    """None where neither is better: a rate of being shown an attack, for example. No model is best by it."""
    aggregation: str = "mean"
    """`mean`, or the name of a corpus aggregation of lm-eval, or a dotted path to one."""
    kind: Literal["rate", "mean", "corpus"] = "mean"
    """`rate`: each score is 0 or 1. `mean`: any number. `corpus`: not a mean of samples."""
    bounds: tuple[float, float] | None = None
    hijack: bool = False
    """True for rates of being hijacked, which origin tables compare by risk ratio."""
    where: dict[str, str] = {}
    """Labels that a sample must have for the metric to apply to it."""
    headline: bool = False
    """Shown first, and compared between origins."""
    filter: str = ""
    """lm-eval's name of what its replies went through before, empty where nothing is known of one."""
    applies_to: tuple[str, ...] | None = None
    """Exactly the clustering factors of the samples that have this metric, None for all samples. It tells
    which metrics a failed attempt is missing: where benign samples have the factor `user_task` and attacked
    ones `user_task` and `injection_task`, an attack's metric applies to `("user_task", "injection_task")`."""
    given: tuple[str, ...] = ()
    """Clustering factors of its samples that have one level by design, whatever is measured: no source of
    chance, so that intervals and tests leave them out. The injection task of a denial of service is one: no
    goal of an attacker, but a placeholder. A factor that happens to have one level is not: nothing is known
    about the others."""
    booking: str = ""
    """For metrics that count as a benchmark's authors do: by what rule they count failed attempts too, in
    words for the reader. Empty, as it is for all that the harness itself says: a failed attempt is missing.
    Such a metric is shown apart: it is no headline and no rate of being hijacked."""

    contrast: str = ""
    """A label by whose values metrics of this name are set against one another: between models is compared by
    how much a model's rates differ from one value to another, on the same samples."""

    judged: tuple[str, ...] = ()
    """Classes of a judge's verdict of which the score is 1; of its others it is 0. Empty for a metric that
    the suite scores itself. Until a judge was asked the score is None, and its operands are what is judged:
    (request, reply)."""

    def __post_init__(self) -> None:
        if self.booking and (self.headline or self.hijack):
            raise ValueError(f"{self.name} has a booking, so that it is neither headline nor hijack")
        if not set(self.given) <= set(self.applies_to or ()):
            raise ValueError(f"{self.name} is given {self.given}, which are no factors that it applies to")


class Reference(Struct):
    """What a model did of each level of a factor, such as each task, by another rate.

    In the cell itself, else in one of the same model whose protocol differs in nothing but some fields.
    """

    metric: str
    factor: str
    take: Literal["best", "mean"]
    """`best`: 1 if any attempt at the level was a success. `mean`: the share of them that was."""
    may_differ: tuple[str, ...] = ()
    """Fields of the protocol."""


class DerivedMetric(Struct):
    """A metric that no attempt has a score of: it follows from rates that the attempts have."""

    metric: Metric
    kind: Literal["where_able", "lost"]
    """`where_able`: `of`, where the reference is not 0. `lost`: the reference less `of`."""
    of: str
    reference: Reference
    note: str
    """What a reader of the method has to know."""
    condition: str | None = None
    """A rate that an attempt must have 1 of."""
    left_out: str = ""
    """What is said of successes where the reference is 0: "2 ..."."""

    def __post_init__(self) -> None:
        metric = self.metric
        fits = {
            "where_able": metric.kind == "rate",
            "lost": (metric.kind, metric.bounds) == ("mean", (-1, 1)),
        }
        if not fits[self.kind]:
            raise ValueError(f"{metric.name} is no metric of the kind {self.kind}")


class ChosenMetric(Struct):
    """A rate of the attempts at one level of a label, the level that did most on attempts kept for choosing.

    What is chosen on some samples and measured on others is not flattered by the choice.
    """

    metric: Metric
    of: str
    """The rate that is reported."""
    label: str
    levels: tuple[str, ...]
    """Values of the label; of equals the first is chosen."""
    by: str
    """The rate that chooses, of the attempts kept for it."""
    unit: str
    """The clustering factor by which attempts of models with other levels chosen are paired."""


class Pooling(Struct):
    """The benchmark of several suites that a suite is a part of: pooled, every attempt counts once."""

    benchmark: str
    part: str
    """Which of its parts the suite is."""
    parts: tuple[str, ...]
    """All of them."""
    may_differ: tuple[str, ...]
    """Fields of the protocol in which the parts differ by their nature. In all others they have to agree."""
    metrics: tuple[str, ...]
    """Rates of the harness that are pooled, beside all those with a `booking`."""


class Declared(Struct):
    """What a suite says of its metrics beside the metrics themselves. Analysis knows none of them by name."""

    derived: tuple[DerivedMetric, ...] = ()
    chosen: tuple[ChosenMetric, ...] = ()
    conditions: dict[str, str] = {}
    """Rate that only some attempts have -> the rate that those have 1 of."""
    void: tuple[str, ...] = ()
    """Metrics that say nothing under this protocol, such as being hijacked by an attack without a goal."""
    idle: tuple[str, ...] = ()
    """Rates of attempts that finished without having used any tool: counted together beside the failures."""
    canaries: tuple[str, ...] = ()
    """Rates of attempts in which the agent read a planted answer: counted together beside the failures."""
    pooling: Pooling | None = None


class Architecture(Struct):
    """What a checkpoint says about itself (its config.json and safetensors headers)."""

    model_class: str
    model_type: str
    dense: bool
    total_params: int
    active_params: int
    """Parameters used for one token: with experts, only those that a token is routed to."""
    experts: int | None = None
    experts_per_token: int | None = None
    weight_bytes: int = 0
    context_length: int | None = None
    chat_template_hash: str | None = None
    """First 16 hex digits of the SHA-256 of the chat template, None if there is none."""
    weights_hash: str | None = None
    """SHA-256 over names and contents of the weight files, None if they are not local."""


class Origin(Struct):
    """Where a model comes from."""

    developer: str = "not stated"
    """Who made it."""
    country: str = "ZZ"
    """ISO 3166-1 alpha-2; XA to XZ are user-assigned codes, for fictional origins, and ZZ is one that is not
    stated."""
    base_models: tuple[str, ...] = ()
    """The weights that it was derived from."""
    licence: str | None = None
    """SPDX identifier."""
    release_date: str | None = None
    """ISO 8601."""

    @property
    def stated(self) -> bool:
        """Whether anything can be said of an origin by this model."""
        return self.country != "ZZ"


class EngineFacts(Struct):
    """What computed the tokens. Recorded and shown, since it can move a score."""

    name: str
    version: str
    details: dict[str, str] = {}
    """dtype, quantisation, parallel layout, cache and parser settings."""

    @property
    def gpus(self) -> int | None:
        """How many GPUs it runs on; None on a CPU, and where the engine does not say or several differ."""
        sizes = [self.details.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline", "data")]
        numbers = [int(size) for size in sizes if size is not None and size.isdecimal()]
        on_cpu = self.details.get("device", "cpu") == "cpu"
        return None if on_cpu or len(numbers) < len(sizes) else prod(numbers)


IMPORTED = "imported"
"""Name of the engine of a model that others ran: its records were made from their transcripts."""


class ModelEntry(Struct):
    """A model in a manifest."""

    name: str
    origin: Origin
    architecture: Architecture | None
    engine: EngineFacts | None = None
    """None until the model was first loaded in this run."""
    repository: str | None = None
    """Hub id of its weights, None where they came from a folder alone."""
    variant_of: str | None = None
    """The model of which it is a variant, with the same weights; None where it is the model itself."""
    load_seconds: float | None = None
    """That its engines took to load, those of all processes together; None where nobody knows."""

    @property
    def imported(self) -> bool:
        """Whether others ran it, under a protocol that is only partly known: a reference, not a rival."""
        return self.engine is not None and self.engine.name == IMPORTED

    def before_loading(self) -> "ModelEntry":
        """Without what its engines added to it."""
        return msgspec.structs.replace(self, engine=None, load_seconds=None)

    def known(self, usage: Usage) -> dict[str, float | int | None]:
        """What is known of a cost. Transcripts of others tell how many requests there were, and no more."""
        if self.imported:
            return {**dict.fromkeys(Usage.__struct_fields__), "requests": usage.requests}
        return {**msgspec.structs.asdict(usage), "engine_seconds": usage.engine_seconds or None}


class CellEntry(Struct):
    """A cell in a manifest: model x suite x sampling x seed."""

    key: str
    """Digest of everything that could change a score."""
    model: str
    suite: str
    adapter: str
    protocol: dict[str, str]
    """Field -> value (or its digest) of everything that could change a score, the model's own facts
    left out: two cells with equal protocols are comparable between models."""
    metrics: tuple[Metric, ...]
    samples: int
    attempts: int
    declared: Declared | None = None
    """None in cells of version 0.1, which did not say it."""
    drawn_from: int | None = None
    """How many samples the suite has (of those with `drawn_factors`, where that is given), where those of the
    cell were drawn from them at random."""
    drawn_factors: tuple[str, ...] | None = None
    """Exactly the clustering factors of the samples that were drawn; None where all were."""
    by_difficulty: tuple[str, ...] = ()
    """The samples, easiest first, where every k-th was drawn in that order."""
    tools: bool | None = None
    """Whether the model is offered tools; None in cells of earlier versions, which did not say it."""

    def counted(self, record: Record) -> tuple[Score, ...]:
        """The scores of a record that count: of a failed attempt those alone whose metric books it."""
        if record.failure is None:
            return record.scores
        booked = {metric.name for metric in self.metrics if metric.booking}
        return tuple(score for score in record.scores if score.metric in booked)


class Verdict(Struct):
    """What a judge said of one reply."""

    verdict: str | None
    """A class of the judge; None where there is none: a failed judgement is missing, never a score."""
    raw: str
    """All that it wrote; empty for a judge without a model."""
    usage: Usage = Usage()
    failure: FailureKind | None = None
    failure_message: str | None = None


class JudgedAttempt(Struct):
    """What a judge said of one attempt. Kept apart from the attempt's record, which was there before."""

    sample: str
    attempt: int
    content_hash: str
    """As of the attempt's `Record`."""
    verdict: Verdict
    judged: str
    """SHA-256 of request and reply."""
    started: float
    """Unix time."""
    schema_version: int = SCHEMA_VERSION


class JudgeEntry(Struct):
    """A judge that was asked of the attempts of a cell."""

    name: str
    asks: str
    classes: tuple[str, ...]
    digest: str
    """Of everything that could change a verdict: prompt, expressions, the model's weights."""
    origin: Origin | None = None
    """Of the model that judges; None for a judge without one."""
    repository: str | None = None
    """Hub id of its weights, None where they came from a folder alone."""
    engine: EngineFacts | None = None
    calibration: dict[str, dict[str, dict[str, int]]] | None = None
    """Model whose replies people labelled -> what they called them -> what the judge called them -> how many.
    None for a judge whose errors were not measured."""
    calibrated_on: str | None = None
    """The labelled replies, in words."""
    beside: dict[str, dict[str, dict[str, int]]] = {}
    """Another judge of the cell -> what this one called replies -> what that one called them -> how many.
    Each pair of judges stands once, and is counted as a run is read."""
    schema_version: int = SCHEMA_VERSION


class GroupMetric(Struct):
    """An average that lm-eval makes over the tasks of a group (`aggregate_metric_list`)."""

    name: str
    """lm-eval's name, `<metric>,<filter>`."""
    weight_by_size: bool
    """Whether each task counts by its documents. Otherwise each counts the same."""
    members: dict[str, str]
    """Suite -> its metric that is averaged; members without one are left out, as in lm-eval."""


class SuiteGroup(Struct):
    """Suites that are one benchmark together: those of one entry of a config, and parts of it."""

    name: str
    members: tuple[str, ...]
    """Its suites, those of inner groups included."""
    subgroups: tuple[str, ...] = ()
    """Names of the groups right inside of it."""
    metrics: tuple[GroupMetric, ...] = ()
    """What lm-eval averages over it, nothing for a tag."""
    version: str | None = None
    """As lm-eval has it, None for a tag."""


class Caution(Struct):
    """What is known before anything is loaded and bears on what a number means, or makes it void."""

    check: str
    """Name of the check that found it, such as `greedy_attempts`: stable, for programs."""
    text: str
    """One sentence for a person, with the remedy."""
    model: str | None = None
    """The model that it is about, None if it holds for every model."""
    suite: str | None = None
    """The suite that it is about, None if it holds for every suite."""
    void: bool = False
    """Nothing would be measured, so that the cell is refused. Otherwise it is run, and its card says this."""


class Manifest(Struct):
    """What a run directory says about itself."""

    name: str
    config_digest: str
    harness_version: str
    created: str
    """ISO 8601, UTC."""
    versions: dict[str, str]
    """Package -> version."""
    hardware: dict[str, str]
    models: dict[str, ModelEntry]
    cells: dict[str, CellEntry]
    groups: tuple[SuiteGroup, ...] = ()
    """Suites that are one benchmark together, an outer group before those inside of it."""
    checksums: dict[str, str] = {}
    """File of the run directory -> SHA-256, of the config and of the records of complete cells."""
    cautions: tuple[Caution, ...] = ()
    """What was known before the run, and run all the same."""
    judges: dict[str, tuple[JudgeEntry, ...]] = {}
    """Key of a cell -> the judges that were asked of its attempts since."""
    git_hash: str | None = None
    """Of the folder that the run was begun in, as `git describe --always` says it; None outside of git."""
    schema_version: int = SCHEMA_VERSION
