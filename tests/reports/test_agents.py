"""What a model does with tools, and what a task that it solved took: as planted, over suites of two kinds."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from harness.analysis.agents import AgentCard, agent_cards
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.cli import main
from harness.records.directory import RunDirectory
from harness.records.table import bare_row, to_row, write_parquet
from harness.reports.agents import agent_tables
from harness.reports.objects import document_object
from harness.types import CellEntry, FailureKind, Generation, Message, Metric, Record, ToolCall, Transcript
from tests.analysis.synthetic import HIJACK, cell, document, manifest_of, record, tables
from tests.analysis.test_compare import write

SOLVED = Metric(name="solved", higher_is_better=True, kind="rate", bounds=(0.0, 1.0), headline=True)
NAME = "aster-dense"


def with_calls(made: Record, calls: int, tokens: int = 110) -> Record:
    """A record of a model that called tools so often, in one reply."""
    reply = Generation(
        text="",
        raw="",
        finish_reason="tool_calls",
        prompt_tokens=100,
        completion_tokens=10,
        tool_calls=tuple(ToolCall(id=str(i), name="look", arguments={}) for i in range(calls)),
    )
    usage = replace(made.usage, prompt_tokens=tokens - 10)
    return replace(made, transcript=Transcript(generations=(reply,)), usage=usage)


def planted(*, tools: bool | None = True) -> tuple[list[CellEntry], dict[str, list[Record]]]:
    """An attacked suite and one without attacks.

    `agent`: 20 tasks, of which 8 are solved, 10 are not and 2 have a call that cannot be read; each takes 3
    calls and 110 tokens, those that are solved 5. 20 attacked ones take 50 calls and 10,000 tokens.
    `errands`: 10 tasks, 9 solved, one call and 60 tokens each.
    """
    agent = replace(cell(NAME, "agent", HIJACK, 40), tools=tools)
    errands = replace(cell(NAME, "errands", (SOLVED,), 10), tools=tools)
    found: list[Record] = []
    for i in range(20):
        clusters = {"user_task": f"user_task_{i}"}
        failure = FailureKind.TOOL_PARSE if i >= 18 else None
        solved = {"benign_utility": float(i < 8)}
        one = record(agent.key, f"user_task_{i}", solved, clusters=clusters, failure=failure)
        found.append(with_calls(one, 5 if i < 8 else 3))
        both = {**clusters, "injection_task": "injection_task_0"}
        scores = {"utility_under_attack": 1.0, "targeted_asr": 0.0}
        attacked = record(agent.key, f"user_task_{i}/injection_task_0", scores, clusters=both)
        found.append(with_calls(attacked, 50, 10_000))
    plain = [with_calls(record(errands.key, f"e{i}", {"solved": float(i < 9)}), 1, 60) for i in range(10)]
    return [agent, errands], {agent.key: found, errands.key: plain}


def built(cells: Sequence[CellEntry], records: dict[str, list[Record]]) -> ModelScorecard:
    (card,) = build_scorecards(manifest_of(cells), tables(records))
    return card


def values(one: AgentCard) -> tuple[float | None, ...]:
    found = (one.utility, one.parse_failures, one.calls, one.tokens_per_solved, one.seconds_per_solved)
    return tuple(None if estimate is None else estimate.value for estimate in found)


def test_each_suite_and_all_of_them_are_as_planted() -> None:
    together, agent, errands = agent_cards(built(*planted()))
    assert (together.suites, agent.suites, errands.suites) == (("agent", "errands"), ("agent",), ("errands",))
    calls = (8 * 5 + 10 * 3) / 18
    planted_agent = (8 / 18, 2 / 40, calls, 20 * 110 / 8, 20 * 0.25 / 8)
    planted_errands = (0.9, 0.0, 1.0, 10 * 60 / 9, 10 * 0.25 / 9)
    assert values(agent) == pytest.approx(planted_agent)
    assert values(errands) == pytest.approx(planted_errands)
    means = [(a + b) / 2 for a, b in zip(planted_agent, planted_errands, strict=True)]
    assert values(together) == pytest.approx(means)
    assert agent.calls and (agent.calls.n, agent.calls.missing) == (18, 2)
    for estimate in (
        agent.utility,
        agent.parse_failures,
        agent.tokens_per_solved,
        together.seconds_per_solved,
    ):
        assert estimate and estimate.value is not None
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low < estimate.value < estimate.high


def test_an_attack_is_no_task_to_be_solved() -> None:
    cells, records = planted()
    metrics = tuple(replace(m, headline=True) for m in HIJACK if m.name != "benign_utility")
    attacked = [replace(cells[0], metrics=metrics), cells[1]]
    card = built(attacked, records)
    together, agent, errands = agent_cards(card)
    _, row, _ = agent_tables(document([card]))[0].rows
    assert [cell for i, cell in enumerate(row[1:]) if i != 1] == ["no task to solve"] * 4
    assert values(agent)[0] is None and values(agent)[2:] == (None, None, None)
    assert values(together)[0] == values(errands)[0] and values(together)[1] == pytest.approx(1 / 40)


def test_who_solves_nothing_has_no_price_of_a_solved_task() -> None:
    cells, records = planted()
    none = [replace(r, scores=(replace(r.scores[0], value=0.0),)) for r in records[cells[1].key]]
    together, _, errands = agent_cards(built(cells, {**records, cells[1].key: none}))
    assert errands.tokens_per_solved and errands.tokens_per_solved.value is None
    assert "no task was solved" in errands.tokens_per_solved.method
    assert together.tokens_per_solved and together.tokens_per_solved.value is None
    assert values(together)[0] == pytest.approx(8 / 36)


@pytest.mark.parametrize("tools", [False, None])
def test_suites_without_tools_have_no_card(tools: bool | None) -> None:
    card = built(*planted(tools=tools))
    assert agent_cards(card) == ()
    assert agent_tables(document([card])) == [] and "agents" not in document_object(document([card]))


def test_records_that_do_not_tell_calls_or_tokens_leave_them_unknown(tmp_path: Path) -> None:
    cells, records = planted()
    errands = cells[1]
    untold = [replace(r, usage=replace(r.usage, prompt_tokens=None)) for r in records[errands.key]]
    write_parquet(tmp_path / "errands.parquet", errands, untold)
    earlier = pq.read_table(tmp_path / "errands.parquet").drop_columns("tool_calls")
    (card,) = build_scorecards(manifest_of([errands]), lambda _: earlier)
    (one,) = agent_cards(card)
    assert values(one)[:4] == (0.9, 0.0, None, None) and one.seconds_per_solved is not None


def test_calls_are_counted_before_a_cell_is_complete_too(tmp_path: Path) -> None:
    cells, records = planted()
    run = RunDirectory(write(tmp_path / "run", manifest_of(cells), records))
    whole = run.columns(cells[0])["tool_calls"].to_pylist()
    run.complete_path(cells[0]).unlink()
    writer = run.writer(cells[0])
    for one in records[cells[0].key]:
        writer.append(one)
    writer.close()
    assert sorted(run.columns(cells[0])["tool_calls"].to_pylist()) == sorted(whole)
    assert sum(whole) == 8 * 5 + 12 * 3 + 20 * 50


def test_calls_of_others_in_the_conversation_are_not_the_model_s() -> None:
    """Steps that others did before stand in its messages, which tell only where no replies were kept."""
    (one, *_), _ = planted()
    made = with_calls(record(one.key, "x", {"benign_utility": 1.0}), 2)
    before = Message(role="assistant", content="", tool_calls=made.transcript.generations[0].tool_calls * 3)
    with_others = replace(made.transcript, messages=(before,))
    told = [replace(made, transcript=with_others), replace(made, transcript=Transcript(messages=(before,)))]
    for row in (to_row, bare_row):
        assert [row(one, record)["tool_calls"] for record in told] == [2, 6]


def test_every_format_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run", manifest_of(planted()[0]), planted()[1])
    shown = {}
    for form in ("table", "md", "html", "json"):
        assert main(["scorecard", str(run), "--format", form, *(["--full"] if form == "table" else [])]) == 0
        shown[form] = capsys.readouterr().out
    for form in ("table", "md", "html"):
        assert "Agents: tasks with tools" in shown[form] and "all 2 suites" in shown[form]
    assert max(map(len, shown["table"].splitlines())) <= 100
    first, *rest = json.loads(shown["json"])["agents"]
    assert first["suites"] == ["agent", "errands"] and [one["suites"] for one in rest] == [
        ["agent"],
        ["errands"],
    ]
    assert first["cost"]["tokens_per_solved"]["value"] == pytest.approx((275 + 600 / 9) / 2, rel=1e-5)
