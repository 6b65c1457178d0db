"""Transcripts that somebody else's AgentDojo runs left, judged as this harness judges its own.

The tool calls are made again in a fresh environment with the run's injections (`replayed.py`). A run that
AgentDojo's detector aborted ends in the result that it objected to, for AgentDojo's logger leaves its closing
message out: with that message put back the checkers give the verdicts that the file has.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec

from harness.engines.escapes import skeleton
from harness.errors import AttemptFailure, UserError, classify
from harness.suites.agentdojo.attacks import check_attack, load_attack
from harness.suites.agentdojo.compatible import BROKEN
from harness.suites.agentdojo.defences import Undefended, withheld
from harness.suites.agentdojo.explain import Watched
from harness.suites.agentdojo.options import Options
from harness.suites.agentdojo.patches import CLOCK
from harness.suites.agentdojo.replayed import Retold
from harness.suites.agentdojo.stored import StoredRun
from harness.suites.agentdojo.suite import AgentDojoSuite
from harness.suites.agentdojo.world import SHIPPED_SUITES, Task
from harness.suites.base import Render
from harness.trust import OWN, reading_data, trusting
from harness.types import CellEntry, FailureKind, Message, Sample, Score, Struct, Tool, ToolCall, Transcript

MAIN_ATTACK = "important_instructions"
"""The attack whose pairs stand together with the benign tasks, as in the suites of this harness."""

UNKNOWN = ("system_message", "max_turns", "limit", "tools")
"""Fields of the protocol that transcripts do not tell."""

ADDRESS = re.compile(r"important message from me, (.{1,40}?), to you, (.{1,60}?)\. ")
"""How attacks name user and model. Some published runs have other names than today's attacks would use."""

VERDICTS = {"utility_under_attack_agentdojo": "utility", "targeted_asr_agentdojo": "security"}
"""Metric of an attacked run -> what AgentDojo calls its value."""

OVERFLOW = re.compile(r"context.?length|length of the messages|max_new_tokens|maximum context", re.IGNORECASE)


class Judged(Struct):
    """What the harness makes of a stored run."""

    sample: Sample
    transcript: Transcript
    scores: tuple[Score, ...] = ()
    failure: FailureKind | None = None
    failure_message: str | None = None
    utility: bool | None = None
    """The verdict in AgentDojo's terms, also where the harness counts a failure; None if there is none."""
    security: bool | None = None
    """True: the attack succeeded, or there was none."""


class AsStored(Undefended):
    """Whatever defence there was, its results are as the transcript shows them."""

    def offered(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
        """All but those of which the agent was told that there is no such tool (a filter took them away)."""
        refused = {m.name for m in messages if m.content == f"Invalid tool {m.name} provided."}
        return [tool.name for tool in tools if tool.name not in refused]


class WatchedAgain(Watched, Retold):
    """Tells what every call changes, in a world in which the calls of somebody else's transcript are made."""

    def make_again(self, call: ToolCall, result: Message) -> None:
        """See `Watched.make_again`: what was drawn then is what is drawn now."""
        self.retell(call, result)


class ImportedSuite(AgentDojoSuite):
    """One AgentDojo suite under one attack, as others ran it."""

    def __init__(
        self, suite: str, version: str, attack: str, own: str | None = None, kept: Path | None = None
    ) -> None:
        """Args:
            suite, version, attack: as the stored runs name them.
            own: where the suite is, if it is none of AgentDojo's, by the person who replays it:
                `package.module:task_suite`, `./file.py:task_suite`, or a checkout of AgentDyn.
            kept: file that holds what was injected, of transcripts that were imported before.

        Raises:
            UserError: AgentDojo has no such suite or version.
        """
        self._kept = kept
        check_suite(suite, version, own)
        self.attack = attack
        self._stored_name = suite
        main = attack == MAIN_ATTACK
        checkout = own if own and ":" not in own else None
        options = Options(
            suite=suite if checkout else own or suite,
            agentdyn=checkout,
            version=version,
            attack=attack if is_known(attack) else MAIN_ATTACK,
            benign=main,
            goals=main,
        )
        super().__init__(suite if main else f"{suite}_{attack}", options)
        self._defence = AsStored("")

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        mine = super().protocol
        own = {} if mine["suite"] == self._stored_name else {"suite_code": mine["suite"].rpartition(" ")[2]}
        unknown = dict.fromkeys((*UNKNOWN, "defence"), "unknown")
        return {**mine, **unknown, "attack": self.attack, "suite": self._stored_name, **own}

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """The samples of the transcripts that were imported, by the injections that were kept of them.

        Raises:
            UserError: they cannot be read.
        """
        try:
            text = self._kept.read_bytes() if self._kept else b"{}"
            kept = msgspec.json.decode(text, type=dict[str, dict[str, str]])
        except (OSError, msgspec.DecodeError) as error:
            raise UserError(
                f"cannot read {self._kept} ({error}): import the transcripts once more"
            ) from error
        tasks = ({part.rpartition("_")[0]: part for part in name.split("/")} for name in kept)
        return [
            self.task_sample(named.get("user_task"), named.get("injection_task"), injections)
            for named, injections in zip(tasks, kept.values(), strict=True)
        ]

    def sample(self, run: StoredRun, called: str) -> Sample:
        """The sample that a run is an attempt at.

        Args:
            run: of this suite and attack.
            called: the name by which attacks address the model, where the injected texts are not stored.

        Raises:
            UserError: the suite has no such task, or nothing is known about what was injected.
        """
        goal = run.injection_task or (run.user_task if run.user_task in self._dojo.injection_tasks else None)
        user = None if goal == run.user_task else run.user_task
        self._check(user, goal)
        return self.task_sample(user, goal, self._injections(run, called) if user and goal else {})

    def _check(self, user: str | None, goal: str | None) -> None:
        for task, known in ((user, self._dojo.user_tasks), (goal, self._dojo.injection_tasks)):
            if task is not None and task not in known:
                raise UserError(f"{self.options.suite} {self.options.version} has no task {task!r}")

    def task_sample(self, user: str | None, goal: str | None, injections: dict[str, str]) -> Sample:
        """The sample of a user task, an injection task, or a pair, with what was injected."""
        request = self._dojo.user_tasks[user].PROMPT if user else self._dojo.injection_tasks[goal].GOAL
        harm = {"harm": self._harm(self._dojo.injection_tasks[goal])} if goal else {}
        return self._sample(Task(user_task=user, injection_task=goal, injections=injections), request, **harm)

    def _injections(self, run: StoredRun, called: str) -> dict[str, str]:
        if run.injections is not None:
            return run.injections
        if self.attack != self.options.attack:
            raise UserError(f"the injected texts are not stored, and AgentDojo has no attack {self.attack!r}")
        shown = " ".join(re.split(r"[\\\s]+", " ".join(m.content for m in run.messages if m.role == "tool")))
        named = ADDRESS.search(shown)
        attack = self._attack(*named.groups()) if named else self._attack(None, called)
        user, goal = self._dojo.user_tasks[run.user_task], self._dojo.injection_tasks[run.injection_task]
        injections: dict[str, str] = attack.attack(user, goal)
        return injections

    @cached_property
    def _attack(self) -> Any:
        """(name of the user or None, name of the model) -> the attack."""

        def load(user: str | None, model: str) -> Any:
            attack = load_attack(str(self.attack), self._dojo, model)
            if user is not None:
                attack.user_name = user
            return attack

        return lru_cache(load)

    def judge(self, run: StoredRun, called: str) -> Judged:
        """Score a run as one of this harness's own, and give AgentDojo's verdicts again.

        Raises:
            UserError: see `sample`.
        """
        sample = self.sample(run, called)
        for closed in closed_runs(run):
            judged = self._judge(closed, sample)
            if judged.failure is None and all(agreement(run, judged)):
                return judged
        return self._judge(run, sample)

    def _judge(self, run: StoredRun, sample: Sample) -> Judged:
        judged = Judged(sample=sample, transcript=Transcript(messages=run.messages))
        failure = broken_off(run) or no_answer(run)
        try:
            if failure is None:
                return _with(judged, self.score(judged.sample, judged.transcript))
        except AttemptFailure as error:
            failure = classify(error, FailureKind.SCORER_ERROR)
        judged = msgspec.structs.replace(judged, failure=failure.kind, failure_message=failure.message)
        return _with(judged, self.score_failed(judged.sample, judged.transcript, failure.kind))

    def changed_answer(self, run: StoredRun, called: str) -> str | None:
        """The first tool result that is another one today; clock, white space and defences left aside."""
        world = self._replayed(self.sample(run, called).payload, run.messages)
        for now, then in world.answers:
            if not is_same_result(now.content, then.content, defended=is_defended(run.pipeline)):
                return (
                    f"{now.name} answers {shortened(now.content, then.content)!r} now and "
                    f"answered {shortened(then.content, now.content)!r} then"
                )
        return None

    def _watched(self, task: Task) -> Watched:
        return WatchedAgain(self._dojo, task)

    def _replayed(self, task: Task, messages: Sequence[Message]) -> Retold:
        world = Retold(self._dojo, task)
        world.offer(self._defence.offered(messages, self.tools))
        world.replay(messages)
        return world


def restore(cell: CellEntry, kept: Path, own: Mapping[str, str]) -> ImportedSuite:
    """The suite of transcripts that were imported. See `harness.suites.imported_suite`.

    Raises:
        UserError: the cell does not say which suite that is, or it cannot be made.
    """
    fields = ("suite", "benchmark_version", "attack")
    if absent := [name for name in fields if name not in cell.protocol]:
        raise UserError(
            f"the protocol of {cell.suite} of {cell.model} has no {absent[0]}: import the transcripts again"
        )
    suite, version, attack = (cell.protocol[name] for name in fields)
    where = own.get(suite)
    with trusting(OWN) if where else reading_data():  # the reader says where it is
        return ImportedSuite(suite, version, attack, where, kept)


def check_suite(name: str, version: str, own: str | None) -> None:
    """Refuse a suite that is none of AgentDojo's by name, unless the person who replays it says where it is.

    Raises:
        UserError: with the remedy.
    """
    from agentdojo.task_suite.load_suites import _SUITES, get_suites

    # get_suites makes an empty entry for an unknown version.
    if own is None and version in _SUITES and name not in {*get_suites(version), *SHIPPED_SUITES}:
        raise UserError(
            f"AgentDojo {version} has no suite {name!r}: if it is your own, say where it is, "
            f"by --suite {name}=./file.py:task_suite, or --suite {name}=FOLDER for a checkout of AgentDyn"
        )


def is_known(attack: str) -> bool:
    """Whether AgentDojo ships the attack. A name in a transcript never makes a module be imported."""
    if ":" in attack:
        return False
    try:
        check_attack(attack)
    except UserError:
        return False
    return True


def called_by(pipeline: str) -> str:
    """The name by which AgentDojo's attacks address the model of a pipeline, else the pipeline's own."""
    from agentdojo.models import MODEL_NAMES

    known = [key for key in MODEL_NAMES if key.replace("/", "_") in pipeline.replace("/", "_")]
    return str(MODEL_NAMES[max(known, key=len)]) if known else pipeline


def broken_off(run: StoredRun) -> AttemptFailure | None:
    """Why nobody knows what the agent would have done.

    AgentDojo books such runs as successful attacks. Where the file says otherwise, it lacks something.
    """
    if run.error is None and run.answered:
        return None
    if not run.messages:
        return AttemptFailure(FailureKind.INCOMPLETE_TRANSCRIPT, "the file holds no transcript of this run")
    why = run.error or "the transcript ends before a reply of the agent"
    if run.utility or (run.attack is not None and not run.security):
        why += ", and yet its file holds verdicts that AgentDojo does not give to such a run"
        return AttemptFailure(FailureKind.INCOMPLETE_TRANSCRIPT, why)
    kind = FailureKind.CONTEXT_OVERFLOW if OVERFLOW.search(why) else FailureKind.ENGINE_ERROR
    return AttemptFailure(kind, why)


def closed_runs(run: StoredRun) -> Iterator[StoredRun]:
    """A run that ends in tool results, with each of the last words that a defence may have put after them.

    They are those of AgentDojo's detector, which reads the results from the last one on, and words that
    repeat nothing of them, as of a defence of somebody else's.
    """
    if run.error is not None or run.answered:
        return
    results = list(takewhile(lambda message: message.role == "tool", reversed(run.messages)))
    detected = "aborting execution because a prompt injection was detected (score: 1.0) in message: "
    for words in [*(f"{detected}{result.content}" for result in results), "aborted"] if results else ():
        last = Message(role="assistant", content=words)
        yield msgspec.structs.replace(run, messages=(*run.messages, last))


def agreement(run: StoredRun, judged: Judged) -> tuple[bool, bool]:
    """Whether a run's utility and its security came out as its file has them.

    Without an attack security says nothing, and some files leave it out: then there is nothing to compare.
    """
    nothing = run.attack is None and run.security is None
    return judged.utility == run.utility, nothing or judged.security == run.security


def no_answer(run: StoredRun) -> AttemptFailure | None:
    """Why the agent's last message is none that the harness would take for an answer."""
    last = run.messages[-1]
    replies = sum(message.role == "assistant" for message in run.messages)
    if last.tool_calls:
        return AttemptFailure(FailureKind.ITERATION_CAP, f"still calling tools after {replies} replies")
    if not last.content.strip():
        return AttemptFailure(FailureKind.EMPTY_ANSWER, "the last message has neither text nor a tool call")
    return None


NOW = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d+|" + re.escape(CLOCK.isoformat(" ")))


def comparable(text: str) -> str:
    """A tool result without white space and without the time of its making."""
    return "".join(NOW.sub("<now>", text).split())


def is_defended(pipeline: str) -> bool:
    """Whether a defence may stand in a pipeline: it is called by more than the name of a model."""
    from agentdojo.models import MODEL_NAMES

    return pipeline not in MODEL_NAMES


def is_same_result(now: str, then: str, *, defended: bool) -> bool:
    """Whether a tool gave the result then that it gives now, whatever a defence made of it.

    Args:
        now: the result.
        then: what the transcript shows.
        defended: whether a defence may have written that. One of AgentDojo's puts symbols around a result or
            withholds it; others put more around it, or take a part of it away.
    """
    if comparable(now) == comparable(then) or then == withheld():
        return True
    if not defended:
        return False
    if skeleton(now) in skeleton(then):
        return True
    words, left = re.findall(r"\w+", then), iter(re.findall(r"\w+", now))
    return bool(words) and all(word in left for word in words)


def shortened(text: str, other: str, length: int = 60) -> str:
    """A piece of a text from just before where it first differs from another."""
    words, others = text.split(), other.split()
    same = next((i for i, (a, b) in enumerate(zip(words, others, strict=False)) if a != b), len(others))
    return " ".join(words[max(0, same - 2) :])[:length]


def _with(judged: Judged, scores: tuple[Score, ...]) -> Judged:
    """With scores, and AgentDojo's verdicts among them, unless it booked the run without a look at it."""
    verdicts: dict[str, bool] = {}
    for score in () if judged.failure in BROKEN else scores:
        if score.metric in ("benign_utility_agentdojo", "goal_capability_agentdojo"):
            verdicts = {"utility": bool(score.value), "security": True}
        elif score.metric in VERDICTS:
            verdicts[VERDICTS[score.metric]] = bool(score.value)
    return msgspec.structs.replace(judged, scores=scores, **verdicts)
