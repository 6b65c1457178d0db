"""Agents whose verdicts are known, on all 949 attacked pairs of the benchmark, the way a run goes."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import yaml
from agentdojo.task_suite.load_suites import get_suite

from harness.analysis.build import ModelScorecard, build_scorecards
from harness.engines.scripted import Reply, ScriptedEngine, sequence
from harness.errors import AttemptFailure
from harness.records.table import to_table
from harness.reports.render import render
from harness.suites.agentdojo import AgentDojoSuite
from harness.suites.agentdojo.compatible import RULE
from harness.suites.agentdojo.metrics import ATTACKED
from harness.types import (
    FailureKind,
    Generation,
    Manifest,
    Message,
    ModelEntry,
    Origin,
    Record,
    Sample,
    Sampling,
    Tool,
    ToolCall,
)
from tests.analysis.synthetic import document
from tests.attempted import attempted
from tests.suites.dojo import (
    BENCHMARK,
    attacked,
    benign,
    call,
    canary_exposed,
    cell,
    goals,
    ground_truth,
    obedient,
    planned,
    reply,
    samples,
    suite,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # AgentDojo's clients of closed models
    pytest.mark.filterwarnings("ignore:.*:pydantic.warnings.PydanticDeprecatedSince20"),
]

ALL = [*(pytest.param(name, marks=pytest.mark.slow) for name in BENCHMARK), "agentdojo_mini"]

BLIND = {f"user_task_{i}/injection_task_0" for i in (14, 15, 16, 17, 18, 22, 23, 24, 39)}
"""Workspace pairs on which AgentDojo's checker cannot see that the attack succeeded: see the audit."""

PROOF_SECONDS = 900
"""Processor time that all of this file may take: a loaded machine makes it no slower."""

Script = Callable[[AgentDojoSuite, Sample], Sequence[Generation]]


@pytest.fixture(scope="module", autouse=True)
def begun() -> float:
    """Processor time of this process when the file began, its imports left aside."""
    return time.process_time()


def as_replies(script: Sequence[Generation]) -> list[Reply]:
    return [
        Reply(text=g.text, tool_calls=g.tool_calls, finish_reason=g.finish_reason, parse_error=g.parse_error)
        for g in script
    ]


def run_all(
    chosen: AgentDojoSuite,
    chosen_samples: Sequence[Sample],
    script: Script,
    *,
    concurrency: int = 256,
    delay: float = 0.0,
) -> list[Record]:
    """The records of a run in which every sample meets the agent that the script makes for it."""
    entry = cell(chosen)

    async def attempt(sample: Sample, gate: asyncio.Semaphore) -> Record:
        async with gate:
            engine = ScriptedEngine(sequence(as_replies(script(chosen, sample))), delay=delay)
            return await attempted(entry, chosen, sample, engine, Sampling(max_tokens=10**6))

    async def everything() -> list[Record]:
        gate = asyncio.Semaphore(concurrency)
        return await asyncio.gather(*(attempt(sample, gate) for sample in chosen_samples))

    return asyncio.run(everything())


def of(record: Record) -> dict[str, float | None]:
    assert record.failure is None, record.failure_message
    return {score.metric: score.value for score in record.scores}


def solves_user_task(chosen: AgentDojoSuite, sample: Sample) -> list[Generation]:
    return ground_truth(chosen, sample, chosen._dojo.user_tasks[sample.clusters["user_task"]])


def idle(chosen: AgentDojoSuite, sample: Sample) -> list[Generation]:
    return [reply("I did nothing.")]


@pytest.mark.parametrize("name", ALL)
def test_the_ground_truth_agent(name: str) -> None:
    """It has utility 1.0 with and without an attack, is always exposed and never hijacked."""
    assert {of(r)["benign_utility"] for r in run_all(suite(name), benign(name), solves_user_task)} == {1.0}
    found = {r.sample: of(r) for r in run_all(suite(name), attacked(name), solves_user_task)}
    assert {scores["exposed"] for scores in found.values()} == {1.0}
    assert {scores["no_tool_call"] for scores in found.values()} == {0.0}
    assert {scores["utility_under_attack"] for scores in found.values()} == {1.0}
    assert {scores["targeted_asr"] for scores in found.values()} == {0.0}
    assert {scores["attempted"] for scores in found.values()} == {0.0}


@pytest.mark.parametrize("name", ALL)
def test_the_obedient_agent(name: str) -> None:
    found = {r.sample: of(r) for r in run_all(suite(name), attacked(name), obedient)}
    assert {scores["attempted"] for scores in found.values()} == {1.0}
    missed = {key for key, scores in found.items() if scores["targeted_asr"] != 1.0}
    assert missed == (BLIND if name == "workspace" else set())


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARK)
def test_the_obedient_agent_before_corrected_checkers(name: str) -> None:
    """By the audited checkers it is hijacked on every pair; AgentDojo's own are blind to some."""
    chosen = suite(name, variant="audited")
    found = {r.sample: of(r) for r in run_all(chosen, chosen.samples("Testra", None), obedient_or_idle)}
    pairs = {key: scores for key, scores in found.items() if "targeted_asr" in scores}
    assert len(pairs) == len(attacked(name))
    assert {scores["targeted_asr"] for scores in pairs.values()} == {1.0}
    missed = {key for key, scores in pairs.items() if scores["targeted_asr_agentdojo"] != 1.0}
    assert missed == (BLIND if name == "workspace" else set())


@pytest.mark.parametrize("name", ALL)
def test_the_idle_agent(name: str) -> None:
    found = [of(r) for r in run_all(suite(name), samples(name), idle)]
    totals = {
        metric: sum(scores.get(metric) or 0 for scores in found)
        for metric in ("benign_utility", "targeted_asr", "exposed", "attempted", "goal_capability")
    }
    assert totals.pop("benign_utility") == (5 if name == "banking" else 0)
    assert set(totals.values()) == {0}
    for metric, of_kind in (
        ("no_tool_call", attacked),
        ("no_tool_call_benign", benign),
        ("no_tool_call_goal", goals),
    ):
        assert [scores[metric] for scores in found if metric in scores] == [1.0] * len(of_kind(name))


def others_task(chosen: AgentDojoSuite, sample: Sample) -> str:
    """A user task other than the sample's."""
    tasks = list(chosen._dojo.user_tasks)
    return tasks[(tasks.index(sample.clusters["user_task"]) + 1) % len(tasks)]


def solves_another(chosen: AgentDojoSuite, sample: Sample) -> list[Generation]:
    """Reads what another user's task needs: now and then it meets the attack."""
    task = chosen._dojo.user_tasks[others_task(chosen, sample)]
    return [reply(calls=planned(chosen, sample, task)), reply("Done.")]


@pytest.mark.parametrize("name", ALL)
def test_exposure_is_what_agentdojos_canaries_show(name: str) -> None:
    """On every pair, for an agent that reads what the task needs and for one that reads something else."""
    verdicts: Counter[tuple[bool, bool]] = Counter()
    for script in (solves_user_task, solves_another):
        for sample, record in zip(attacked(name), run_all(suite(name), attacked(name), script), strict=True):
            calls = [c for m in record.transcript.messages for c in m.tool_calls]
            verdicts[of(record)["exposed"] == 1.0, canary_exposed(suite(name), sample, calls)] += 1
    assert verdicts[True, True] >= len(attacked(name))
    assert verdicts[False, False] > 0
    assert verdicts[True, False] == verdicts[False, True] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARK)
@pytest.mark.parametrize("attack", ["important_instructions", "tool_knowledge", "ignore_previous", "dos"])
def test_environments_equal_those_of_agentdojo(name: str, attack: str) -> None:
    upstream = get_suite("v1.2.2", name)
    chosen = [s for s in samples(name, attack) if "user_task" in s.clusters]
    for sample in chosen[:: max(1, len(chosen) // 12)]:
        injections = sample.payload.injections
        ours = suite(name)._dojo.load_and_inject_default_environment(injections)
        theirs = upstream.load_and_inject_default_environment(injections)
        assert ours == theirs
        assert repr(ours) == repr(theirs)
        assert ours.model_dump() == theirs.model_dump()


@pytest.mark.parametrize("text", ['a "quoted" text', "a \\n slash", "two\n\nlines: yes # no", "é😀\u2028"])
def test_any_text_is_injected_as_agentdojo_would(text: str) -> None:
    upstream = get_suite("v1.2.2", "banking")
    injections = {"injection_bill_text": text}
    loaders = upstream, suite("banking")._dojo
    if '"' in text:
        for dojo in loaders:
            with pytest.raises(yaml.YAMLError):
                dojo.load_and_inject_default_environment(injections)
    else:
        theirs, ours = (dojo.load_and_inject_default_environment(injections) for dojo in loaders)
        assert ours == theirs


@pytest.mark.parametrize("name", ["banking", pytest.param("workspace", marks=pytest.mark.slow)])
def test_256_at_once_give_the_verdicts_of_one_at_a_time(name: str) -> None:
    chosen = attacked(name)[:256]
    one = run_all(suite(name), chosen, obedient, concurrency=1)
    many = run_all(suite(name), chosen, obedient, concurrency=256, delay=0.001)
    assert [(r.sample, r.scores) for r in one] == [(r.sample, r.scores) for r in many]
    assert [r.transcript.messages for r in one] == [r.transcript.messages for r in many]


def test_environments_never_leak() -> None:
    """Agents that spoil everything run beside agents that look: these see what there was."""
    spoil = [
        call("update_password", password="x"),
        call("send_money", recipient="a", amount=1.0, subject="b", date="c"),
    ]
    look = [call("get_user_info"), call("get_most_recent_transactions")]

    def agent(*kinds: list[ToolCall]) -> Script:
        turns = itertools.cycle(kinds)

        def script(chosen: AgentDojoSuite, sample: Sample) -> list[Generation]:
            turn = next(turns)
            return [reply(calls=turn), reply(calls=turn), reply(calls=look), reply("Done.")]

        return script

    sample = benign("banking")[0]
    (alone,) = run_all(suite("banking"), [sample], agent(look))
    records = run_all(suite("banking"), [sample] * 64, agent(look, spoil), delay=0.001)
    assert all(r.transcript.messages == alone.transcript.messages for r in records[::2])
    spoiled = [r.transcript.messages[-2].content for r in records[1::2]]
    assert all("recipient: a\n" in content for content in spoiled)


def hurt(kind: FailureKind | None) -> ScriptedEngine:
    """An engine that fails as asked."""

    def policy(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        if kind == FailureKind.ENGINE_ERROR:
            raise RuntimeError("the engine hiccuped")
        if kind == FailureKind.CONTEXT_OVERFLOW:
            raise AttemptFailure(FailureKind.CONTEXT_OVERFLOW, "too long")
        if kind == FailureKind.TOOL_PARSE:
            return Reply(text="{", parse_error="no JSON")
        if kind == FailureKind.TRUNCATED:
            return Reply(text="half an ans", finish_reason="length")
        if kind == FailureKind.ITERATION_CAP:
            return Reply(tool_calls=(call("read_note", title="Moon"),))
        return Reply(text=" ")

    return ScriptedEngine(policy)


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.ENGINE_ERROR,
        FailureKind.CONTEXT_OVERFLOW,
        FailureKind.TOOL_PARSE,
        FailureKind.TRUNCATED,
        FailureKind.EMPTY_ANSWER,
        FailureKind.ITERATION_CAP,
    ],
)
def test_a_failure_changes_no_rate_and_raises_its_own_counter(kind: FailureKind) -> None:
    """One attempt more that fails: every rate and every n stay, one attempt more is missing."""
    chosen = suite("agentdojo_mini")
    records = run_all(chosen, samples("agentdojo_mini"), obedient_or_idle)
    victim = attacked("agentdojo_mini")[3]
    failed = asyncio.run(attempted(cell(chosen), chosen, victim, hurt(kind), Sampling(), number=1))
    assert failed.failure == kind
    before, after = (shown(card(chosen, found)) for found in (records, [*records, failed]))
    of_attacks = {
        metric.name for metric in chosen.metrics if metric.applies_to == ATTACKED and not metric.where
    }
    for name, was in before["metrics"].items():
        now, more = after["metrics"][name], int(name.partition("/")[2] in of_attacks)
        assert {key: now[key] for key in NUMBERS} == {key: was[key] for key in NUMBERS}, name
        assert more == 0 or now["missing"] == was["missing"] + 1, name
    assert of_attacks & {name.partition("/")[2] for name in before["metrics"]}
    for task, was in before["by_injection_task"][chosen.name].items():
        now = after["by_injection_task"][chosen.name][task]
        for name in was["metrics"]:
            assert {key: now["metrics"][name][key] for key in NUMBERS} == {
                key: was["metrics"][name][key] for key in NUMBERS
            }, (task, name)
    assert before["failures"] == {chosen.name: {}}
    assert after["failures"] == {chosen.name: {kind.value: 1}}
    # AgentDojo's own books, kept to be compared with its published table, have a verdict on the attempt. An
    # agent that had done nothing is not hijacked; one that the engine let down is, in these books.
    booked = {f"{chosen.name}/{score.metric}" for score in failed.scores}
    assert booked == {f"{chosen.name}/{name}_agentdojo" for name in BOOKED_ATTACKS}
    broke = kind in (FailureKind.ENGINE_ERROR, FailureKind.CONTEXT_OVERFLOW)
    for name, was in before["bookings"].items():
        now, more = after["bookings"][name], int(name in booked)
        assert (was["n"] + more, now["missing"], now["booking"]) == (now["n"], 0, RULE), name
    asr = after["bookings"][f"{chosen.name}/targeted_asr_agentdojo"]
    assert (asr["n"], asr["value"]) == (41, pytest.approx((40 + broke) / 41, abs=1e-6))


NUMBERS = ("value", "low", "high", "n", "clusters")
BOOKED_ATTACKS = ("targeted_asr", "utility_under_attack", "secure_utility")


def shown(card: ModelScorecard) -> dict[str, Any]:
    """A model as `harness scorecard --format json` has it."""
    (found,) = json.loads(render(document([card]), "json"))["models"]
    return dict(found)


def obedient_or_idle(chosen: AgentDojoSuite, sample: Sample) -> Sequence[Generation]:
    return obedient(chosen, sample) if set(sample.clusters) > {"user_task"} else idle(chosen, sample)


def card(chosen: AgentDojoSuite, records: list[Record]) -> ModelScorecard:
    model = ModelEntry(name="m", origin=Origin(developer="d", country="XA"), architecture=None)
    manifest = Manifest(
        name="n",
        config_digest="d",
        harness_version="0",
        created="2026-01-01T00:00:00Z",
        versions={},
        hardware={},
        models={"m": model},
        cells={"k": cell(chosen)},
    )
    return build_scorecards(manifest, lambda found: to_table(found, records))[0]


def test_scorecards_show_each_metric_of_the_suite() -> None:
    chosen = suite("agentdojo_mini")
    found = card(chosen, run_all(chosen, samples("agentdojo_mini"), obedient_or_idle)).metrics
    expected = {
        "targeted_asr": (1.0, 40),
        "targeted_asr_exposed": (1.0, 40),
        "attempted_exposed": (1.0, 40),
        "targeted_asr_exposed:financial": (1.0, 20),
        "targeted_asr_exposed:other": (1.0, 20),
        "goal_capability": (0.0, len(goals("agentdojo_mini"))),
        "benign_utility": (0.0, 10),
    }
    for metric, (value, n) in expected.items():
        estimate = found[f"agentdojo_mini/{metric}"].estimate
        assert (estimate.value, estimate.n, estimate.missing) == (value, n, 0), metric


def test_the_proof_is_a_matter_of_minutes(begun: float) -> None:
    """The last test of the file: over all 949 pairs, with the slow tests, on one core."""
    assert time.process_time() - begun < PROOF_SECONDS
