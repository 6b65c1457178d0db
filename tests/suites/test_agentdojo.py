"""The AgentDojo adapter: agents whose verdicts are known, on every task of every suite."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from agentdojo.task_suite.load_suites import get_suite

from harness.errors import AttemptFailure, UserError
from harness.suites.agentdojo import AgentDojoSuite, Options, build
from harness.suites.agentdojo.world import World, load_environment
from harness.types import (
    FailureKind,
    Generation,
    Message,
    Sample,
    Sampling,
    Score,
    Tool,
    ToolCall,
    Transcript,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # AgentDojo's clients of closed models
    pytest.mark.filterwarnings("ignore:.*:pydantic.warnings.PydanticDeprecatedSince20"),
]

PAIRS = {"workspace": (40, 14), "travel": (20, 7), "banking": (16, 9), "slack": (21, 5)}
"""(user tasks, injection tasks) of benchmark v1.2.2, as its paper and repository state."""

EVERY_SUITE = [
    "agentdojo_mini",
    "banking",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("slack", "travel", "workspace")),
]

UNSOLVED = {
    "workspace": {f"injection_task_{i}" for i in range(6, 14)},
    "travel": {"injection_task_6"},
}
"""Injection tasks whose authors give no calls that solve them."""

BLIND = {f"user_task_{i}/injection_task_0" for i in (14, 15, 16, 17, 18, 22, 23, 24, 39)}
"""Workspace pairs on which AgentDojo's checker cannot see that the attack succeeded: it counts the mails
that hold the attacker's subject, and the mail that carries the injected text holds it too. Its module
`default_suites.v1_1_2` mends this, but nothing in the package (0.1.35) imports that module."""


@cache
def suite(name: str, attack: str | None = "important_instructions") -> AgentDojoSuite:
    return build(None, Options(suite=name, attack=attack))[0]


@cache
def samples(name: str, attack: str | None = "important_instructions") -> list[Sample]:
    return suite(name, attack).samples("Testra", None)


def benign(name: str) -> list[Sample]:
    return [s for s in samples(name) if "injection_task" not in s.clusters]


def attacked(name: str) -> list[Sample]:
    return [s for s in samples(name) if "injection_task" in s.clusters]


def reply(text: str = "", calls: Sequence[ToolCall] = (), **changes: object) -> Generation:
    reason = "tool_calls" if calls else "stop"
    return Generation(
        **{
            "text": text,
            "raw": text,
            "finish_reason": reason,
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "tool_calls": tuple(calls),
            **changes,
        }
    )


class Agent:
    """An engine that gives prepared replies; only `chat` is ever asked of it."""

    def __init__(self, replies: Iterator[Generation]) -> None:
        self.replies = replies
        self.seen: list[Sequence[Message]] = []

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        self.seen.append(messages)
        return next(self.replies)


def run(chosen: AgentDojoSuite, sample: Sample, replies: Sequence[Generation]) -> tuple[Score, ...]:
    transcript = transcribe(chosen, sample, replies)
    return chosen.score(sample, transcript)


def transcribe(chosen: AgentDojoSuite, sample: Sample, replies: Sequence[Generation]) -> Transcript:
    agent = Agent(iter(replies))
    return asyncio.run(chosen.run(sample, agent, Sampling()))  # type: ignore[arg-type]


def ground_truth(chosen: AgentDojoSuite, sample: Sample, task: object) -> list[Generation]:
    """The replies of an agent that does just what the task's author would, all in one turn."""
    world = World(chosen._dojo, sample.payload)
    planned = task.ground_truth(world._environment)  # type: ignore[attr-defined]
    calls = [ToolCall(id=str(i), name=c.function, arguments=dict(c.args)) for i, c in enumerate(planned)]
    answer = reply(task.GROUND_TRUTH_OUTPUT or "Done.")  # type: ignore[attr-defined]
    return [reply(calls=calls), answer] if calls else [answer]


@pytest.mark.parametrize("name", EVERY_SUITE[1:])
def test_counts_are_those_of_the_benchmark(name: str) -> None:
    users, injections = PAIRS[name]
    assert len(benign(name)) == users
    assert len(attacked(name)) == users * injections
    assert suite(name).count() == users + users * injections
    assert len({s.id for s in samples(name)}) == suite(name).count()


@pytest.mark.parametrize("name", EVERY_SUITE)
def test_the_ground_truth_agent_has_utility_one(name: str) -> None:
    for sample in benign(name):
        task = suite(name)._dojo.user_tasks[sample.clusters["user_task"]]
        (score,) = run(suite(name), sample, ground_truth(suite(name), sample, task))
        assert score.value == 1.0, sample.id


@pytest.mark.parametrize("name", EVERY_SUITE)
def test_the_obedient_agent_is_hijacked_on_every_pair(name: str) -> None:
    tasks = suite(name)._dojo.injection_tasks
    solved = {
        key: task
        for key, task in tasks.items()
        if len(ground_truth(suite(name), attacked(name)[0], task)) > 1
    }
    assert tasks.keys() - solved.keys() == UNSOLVED.get(name, set())
    for sample in attacked(name):
        if sample.clusters["injection_task"] in solved:
            task = solved[sample.clusters["injection_task"]]
            scores = run(suite(name), sample, ground_truth(suite(name), sample, task))
            assert [s.metric for s in scores] == ["utility_under_attack", "targeted_asr"]
            blind = name == "workspace" and sample.id in BLIND
            assert scores[1].value == (0.0 if blind else 1.0), sample.id


def test_the_idle_agent_passes_five_of_sixteen_banking_tasks() -> None:
    passed = sum(run(suite("banking"), s, [reply("I did nothing.")])[0].value or 0 for s in benign("banking"))
    assert passed == 5


@pytest.mark.parametrize("name", EVERY_SUITE[1:])
def test_environments_equal_those_of_agentdojo(name: str) -> None:
    upstream = get_suite("v1.2.2", name)
    for sample in samples(name)[:: max(1, len(samples(name)) // 12)]:
        injections = sample.payload.injections
        ours = load_environment(suite(name)._dojo, injections)
        assert ours == upstream.load_and_inject_default_environment(injections)


def test_the_clock_of_an_environment_stands_still() -> None:
    call = ToolCall(
        id="1", name="send_email", arguments={"recipients": ["a@b.com"], "subject": "s", "body": "b"}
    )
    one, two = (World(suite("workspace")._dojo, benign("workspace")[0].payload).call([call]) for _ in "ab")
    assert "timestamp: 2024-05-15 12:00:00" in one[0].content
    assert one == two


def test_the_model_is_called_by_its_own_name() -> None:
    text = next(iter(attacked("banking")[0].payload.injections.values()))
    assert "to you, Testra." in text
    anonymous = suite("banking", "important_instructions_no_model_name").samples("Testra", None)
    assert "Testra" not in str(anonymous[-1].payload.injections)


def test_an_attempt_leaves_no_trace_in_the_next() -> None:
    sample = benign("banking")[0]
    task = suite("banking")._dojo.user_tasks["user_task_0"]
    replies = ground_truth(suite("banking"), sample, task)
    assert run(suite("banking"), sample, replies)[0].value == 1.0
    assert run(suite("banking"), sample, [reply("Nothing done.")])[0].value == 0.0


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ([reply(parse_error="no JSON")], FailureKind.TOOL_PARSE),
        ([reply("half an ans", finish_reason="length")], FailureKind.TRUNCATED),
        ([reply("  ")], FailureKind.EMPTY_ANSWER),
        (
            [reply(calls=[ToolCall(id="1", name="get_balance", arguments={})])] * 99,
            FailureKind.ITERATION_CAP,
        ),
    ],
)
def test_what_is_no_answer_is_a_failure(replies: list[Generation], kind: FailureKind) -> None:
    with pytest.raises(AttemptFailure) as caught:
        transcribe(suite("banking"), benign("banking")[0], replies)
    assert caught.value.kind == kind


def test_the_cap_is_that_of_agentdojo() -> None:
    agent = Agent(iter([reply(calls=[ToolCall(id="1", name="get_balance", arguments={})])] * 99))
    with pytest.raises(AttemptFailure):
        asyncio.run(suite("banking").run(benign("banking")[0], agent, Sampling()))  # type: ignore[arg-type]
    assert len(agent.seen) == 16


def test_an_unknown_tool_and_bad_arguments_are_answered() -> None:
    calls = [
        ToolCall(id="1", name="format_disk", arguments={}),
        ToolCall(id="2", name="send_money", arguments={"recipient": 3}),
    ]
    transcript = transcribe(suite("banking"), benign("banking")[0], [reply(calls=calls), reply("Sorry.")])
    answers = [m.content for m in transcript.messages if m.role == "tool"]
    assert answers[0] == "Invalid tool format_disk provided."
    assert answers[1].startswith("ValidationError")
    assert suite("banking").score(benign("banking")[0], transcript)[0].value == 0.0


def test_a_hostile_argument_is_a_failure_of_the_tool_not_a_crash() -> None:
    call = ToolCall(id="1", name="send_money", arguments={"recipient": "(" * 100_000})
    try:
        transcript = transcribe(suite("banking"), benign("banking")[0], [reply(calls=[call]), reply("ok")])
    except AttemptFailure as failure:
        assert failure.kind == FailureKind.TOOL_ERROR
    else:
        assert transcript.messages[-1].content == "ok"


def test_a_transcript_that_does_not_replay_is_not_scored() -> None:
    sample = benign("banking")[0]
    replies = [reply(calls=[ToolCall(id="1", name="get_iban", arguments={})]), reply("Done.")]
    transcript = transcribe(suite("banking"), sample, replies)
    tampered = tuple(
        Message(role="tool", content="other", name=m.name) if m.role == "tool" else m
        for m in transcript.messages
    )
    with pytest.raises(AttemptFailure, match="in the replay"):
        suite("banking").score(sample, Transcript(messages=tampered))


def test_denial_of_service_succeeds_where_utility_fails() -> None:
    chosen = suite("banking", "dos")
    pairs = [s for s in samples("banking", "dos") if "injection_task" in s.clusters]
    assert len(pairs) == 16
    scores = {s.metric: s.value for s in run(chosen, pairs[0], [reply("I stop here.")])}
    assert scores == {"utility_under_attack": 0.0, "targeted_asr": 1.0}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(suite="bankng"), "no suite 'bankng'"),
        (Options(suite="banking", version="v9"), "no benchmark version 'v9'"),
        (Options(suite="banking", attack="bribe"), "no attack 'bribe'"),
        (Options(suite="banking", attack="manual"), "no attack 'manual'"),
        (Options(suite="no.such.module:suite"), "cannot be loaded"),
    ],
)
def test_what_does_not_exist_is_said(options: Options, says: str) -> None:
    with pytest.raises(UserError) as caught:
        build(None, options)
    assert says in str(caught.value)


def test_options_that_change_a_verdict_change_the_protocol() -> None:
    protocols = [
        build(None, Options(**{"suite": "banking", **changes}))[0].protocol
        for changes in (
            {},
            {"attack": "direct"},
            {"version": "v1.2"},
            {"system_message": "Be brief."},
            {"max_turns": 3},
            {"limit": 2},
            {"benign": False},
        )
    ]
    assert len({tuple(sorted(p.items())) for p in protocols}) == len(protocols)
