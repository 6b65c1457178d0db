"""The pure parts of `scripts/bench_hijack.py`: which tasks, whose verdict, why two differ, what is told."""

import json

import msgspec
import pytest

from harness.suites.agentdojo.stored import StoredRun
from harness.types import FailureKind, Message, Record, Score, ToolCall, Transcript, Usage
from tests.conftest import script

BENCH = script("bench_hijack")
PAIR = "user_task_0/injection_task_0"
CALL = ToolCall(id="a", name="get_balance", arguments={})
ASKED = (Message(role="system", content="s"), Message(role="user", content="u"))
TALK = (
    *ASKED,
    Message(role="assistant", content="", tool_calls=(CALL,)),
    Message(role="tool", content="12:00", name="get_balance", tool_call_id="a"),
    Message(role="assistant", content="Done."),
)
INJECTIONS = {"vector": "obey"}


def run(messages: tuple[Message, ...] = TALK, **changes: object) -> StoredRun:
    made = StoredRun(
        source="f", pipeline="vllm_parsed", suite="banking", version="v1.2.2", user_task="user_task_0",
        injection_task="injection_task_0", attack="important_instructions", injections=INJECTIONS,
        messages=messages, error=None, utility=True, security=False,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def attempt(messages: tuple[Message, ...] = TALK, **changes: object) -> object:
    scores = (Score(metric="utility_under_attack", value=1.0), Score(metric="targeted_asr", value=0.0))
    record = Record(
        cell="c", sample=PAIR, attempt=0, content_hash="h", clusters={},
        transcript=Transcript(messages=messages), scores=scores, usage=Usage(), started=0.0, seconds=0.0,
    )  # fmt: skip
    return BENCH.Attempt("banking", msgspec.structs.replace(record, **changes), INJECTIONS)


def swap(position: int, **changes: object) -> tuple[Message, ...]:
    changed = msgspec.structs.replace(TALK[position], **changes)
    return (*TALK[:position], changed, *TALK[position + 1 :])


@pytest.mark.parametrize(
    ("pairs", "expected"), [(None, (16, 9)), (6, (1, 6)), (9, (1, 9)), (30, (3, 9)), (999, (16, 9))]
)
def test_pairs_are_a_rectangle(pairs: int | None, expected: tuple[int, int]) -> None:
    assert BENCH.rectangle(16, 9, pairs) == expected


def test_runs_that_broke_off_and_runs_without_an_attack_have_no_verdict_on_it() -> None:
    assert BENCH.their_verdict(run()) == (True, False)
    overflow = run(error="maximum context length", utility=False, security=True)
    assert BENCH.their_verdict(overflow) == (None, None)
    assert BENCH.their_verdict(run(injection_task=None, security=True)) == (True, None)


def test_the_harness_is_asked_in_agentdojos_terms() -> None:
    judge = BENCH.ImportedSuite("banking", "v1.2.2", "important_instructions")
    hijacked = (Score(metric="utility_under_attack", value=0.0), Score(metric="targeted_asr", value=1.0))
    assert BENCH.our_verdict(attempt(scores=hijacked), judge) == (False, True)
    goal = attempt(sample="injection_task_0", scores=(Score(metric="goal_capability", value=1.0),))
    assert BENCH.our_verdict(goal, judge) == (True, None)
    overflow = attempt(scores=(), failure=FailureKind.CONTEXT_OVERFLOW, failure_message="too long")
    assert BENCH.our_verdict(overflow, judge) == (None, None)
    truncated = attempt(scores=(), failure=FailureKind.TRUNCATED, failure_message="cut off")
    assert BENCH.our_verdict(truncated, judge) == (False, False)


@pytest.mark.parametrize(
    ("theirs", "ours", "reason"),
    [
        (run(injections={"vector": "other"}), attempt(), "prompt: the injected texts"),
        (run(swap(1, content="v")), attempt(), "message 1 (user): prompt"),
        (run(swap(2, content="Hm.")), attempt(), "message 2 (assistant): another reply"),
        (run(swap(3, content="13")), attempt(), "message 3 (tool): tool result: get_balance"),
        (
            run(swap(3, content="2026-01-02 03:04:05.678901")),
            attempt(swap(3, content="2024-05-15 12:00:00")),
            "message 3 (tool): clock",
        ),
        (run(TALK[:3], error="boom"), attempt(), "AgentDojo stopped after 3 messages: boom"),
        (
            run(),
            attempt(TALK[:3], failure=FailureKind.TOOL_PARSE),
            "the harness stopped after 3 messages: tool_parse",
        ),
        (run(swap(4, content="")), attempt(swap(4, content="")), "empty answer"),
        (run(), attempt(), "the same conversation"),
    ],
)
def test_reasons(theirs: StoredRun, ours: object, reason: str) -> None:
    assert BENCH.explain(theirs, ours).startswith(reason)


def test_ids_of_calls_are_no_difference() -> None:
    other = msgspec.structs.replace(CALL, id="z")
    assert BENCH.first_difference(swap(2, tool_calls=(other,)), TALK) is None
    renamed = msgspec.structs.replace(CALL, name="get_iban")
    assert BENCH.first_difference(swap(2, tool_calls=(renamed,)), TALK) == 2


def test_comparison_counts_pairs_and_lists_what_differs() -> None:
    same = BENCH.compare([run()], [attempt()])
    assert (same.pairs, same.verdicts_equal, same.conversations_equal, same.differences) == (1, 1, 1, [])
    other = BENCH.compare([run(swap(4, content="No."), utility=False)], [attempt()])
    assert (other.pairs, other.verdicts_equal, other.conversations_equal) == (1, 0, 0)
    [difference] = other.differences
    assert (difference.task, difference.agentdojo, difference.harness) == (
        f"banking/{PAIR}", (False, False), (True, False),
    )  # fmt: skip
    assert difference.reason == "message 4 (assistant): another reply to the same conversation"
    with pytest.raises(SystemExit, match="not the same tasks"):
        BENCH.compare([run()], [])


def test_the_figures_compare_passes_with_their_neighbours() -> None:
    work = BENCH.Work(requests=10, prompt_tokens=100, completion_tokens=20)
    timings = [
        (2.0, 0.02, 2.0, 0.005),
        (2.2, 0.021, 2.0, 0.005),
        (9.0, 0.1, 6.0, 0.02),
    ]  # the last is a slow round
    ours = [BENCH.Timing(seconds=s, work=work, cpu_seconds=cpu) for s, cpu, _, _ in timings]
    bare = [BENCH.Timing(seconds=s, work=work, cpu_seconds=1.0) for _, _, s, _ in timings]
    front_end = [BENCH.Timing(seconds=1.0, work=work, cpu_seconds=cpu) for *_, cpu in timings]
    verdicts = BENCH.Comparison(pairs=3, verdicts_equal=2)
    verdicts.differences.append(
        BENCH.Difference("t", BENCH.Verdict(True, None), BENCH.Verdict(None, None), "r")
    )
    found = BENCH.result(BENCH.Timing(seconds=22.0, work=work), BENCH.Passes(ours, bare, front_end), verdicts)
    figures = json.loads(json.dumps(found))
    assert figures.pop("details")["verdicts"]["differences"][0]["reason"] == "r"
    assert figures == {
        "vs_agentdojo": 10.0, "vs_bare_engine": 1.1, "cpu_ms_per_turn": 1.6, "verdicts_equal": 2, "pairs": 3,
    }  # fmt: skip


def test_engine_arguments_as_flags_of_the_server() -> None:
    assert BENCH.flag("enforce_eager", True) == ["--enforce-eager"]
    assert BENCH.flag("enable_chunked_prefill", False) == ["--no-enable-chunked-prefill"]
    assert BENCH.flag("override_generation_config", {"a": 1}) == [
        "--override-generation-config", '{"a": 1}',
    ]  # fmt: skip


def test_counters_of_the_server() -> None:
    text = '# TYPE vllm:n_total counter\nvllm:n_total{a="1"} 3.0\nvllm:n_total{a="2"} 4.0\nvllm:n_totals 9\n'
    assert BENCH.counter(text, "vllm:n_total") == 7
