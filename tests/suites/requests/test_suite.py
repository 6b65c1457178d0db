"""Requests out of a table: what the model is shown, what the judge will be."""

import base64
from pathlib import Path
from typing import Any

import pytest

from harness.config import OptionError, SuiteSpec
from harness.engines.scripted import Reply, ScriptedEngine
from harness.errors import AttemptFailure, UserError
from harness.suites import load_suites
from harness.suites.requests import Options, RequestSuite, build
from harness.suites.requests.suite import RequestMetric
from harness.types import FailureKind, Sampling
from tests.conftest import shared_data

TABLE = (
    'id,ask,kind,more\n1,"How do I ""end"" it?",safe,\n2,Tell me {request}.,unsafe,Given: x\n3,Sing.,song,\n'
)


def suite(tmp_path: Path, **options: Any) -> RequestSuite:
    table = tmp_path / "asked.csv"
    table.write_text(TABLE)
    given = {
        "request": "ask",
        "labels": {"kind": "kind"},
        "metrics": {"refusal": RequestMetric(classes=("refusal",), where={"kind": "safe"})},
        **options,
    }
    return build(None, Options(path=str(table), **given))[0]


async def test_what_is_judged_is_the_request_and_not_its_frame(tmp_path: Path) -> None:
    seen: list[str] = []

    def policy(messages: Any, tools: Any, sampling: Sampling) -> Reply:
        seen.extend(message.content for message in messages)
        return Reply(text="No.")

    framed = suite(
        tmp_path,
        template="Play a game: {request}!",
        encoding="base64",
        system_message="Be brief.",
        context="more",
    )
    first, second, _ = framed.samples("m", None)
    transcript = await framed.run(first, ScriptedEngine(chat=policy), Sampling())
    encoded = base64.b64encode(b'How do I "end" it?').decode()
    assert seen == ["Be brief.", f"Play a game: {encoded}!"]
    (score,) = framed.score(first, transcript)
    assert score.value is None and score.operands == ('How do I "end" it?', "No.")
    assert framed.score(second, transcript) == ()  # the metric is of safe requests alone
    plain = suite(tmp_path, context="more")
    transcript = await plain.run(second, ScriptedEngine(chat=policy), Sampling())
    assert seen[-1] == "Given: x\n\n---\n\nTell me {request}."


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(text=" \n"), FailureKind.EMPTY_ANSWER),
        (Reply(text="", reasoning="well", finish_reason="length"), FailureKind.THOUGHT_CUT),
        (Reply(text=" ", finish_reason="length"), FailureKind.TRUNCATED),
    ],
)
async def test_a_reply_without_an_answer_is_neither_refusal_nor_compliance(
    tmp_path: Path, reply: Reply, kind: FailureKind
) -> None:
    asked = suite(tmp_path)
    with pytest.raises(AttemptFailure) as error:
        await asked.run(asked.samples("m", None)[0], ScriptedEngine(chat=lambda *_: reply), Sampling())
    assert error.value.kind is kind


def test_rows_are_kept_and_left_out_by_their_columns(tmp_path: Path) -> None:
    ids = lambda **o: [s.id for s in suite(tmp_path, **o).samples("m", None)]  # noqa: E731
    assert ids(leave_out={"kind": ("song",)}) == ["1", "2"]
    assert ids(keep={"kind": ("song", "safe")}) == ["1", "3"]
    assert ids(limit=1) == ["1"]


def test_whatever_changes_what_is_shown_or_judged_changes_the_protocol(tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"template": "Now {request}"},
        {"encoding": "rot13"},
        {"system_message": "x"},
        {"limit": 2},
        {"context": "more"},
    ]
    protocols = [suite(tmp_path, **one).protocol for one in options]
    assert len({tuple(p.items()) for p in protocols}) == len(options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"request": "question"}, "no column 'question': use one of id, ask, kind, more"),
        ({"labels": {"a": "b"}}, "no column 'b'"),
        ({"keep": {"kind": ("none",)}}, "leave no request"),
        ({"template": "x"}, r"template has no \{request\}"),
        ({"id": "more"}, "two requests are called ''"),
    ],
)
def test_options_that_cannot_be_right_are_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        suite(tmp_path, **options)


def test_tables_of_one_make_are_one_suite(tmp_path: Path) -> None:
    for name in ("en", "zh"):
        (tmp_path / f"{name}.csv").write_text(f"id,request\n1,ask in {name}\n")
    options = Options(
        tables={name: str(tmp_path / f"{name}.csv") for name in ("en", "zh")},
        metrics={"complete:zh": RequestMetric(classes=("complete",), where={"table": "zh"})},
        clusters={"question": "id"},
    )
    (found,) = build("narratives", options)
    samples = found.samples("m", None)
    assert [(s.id, s.labels, s.clusters) for s in samples] == [
        ("en/1", {"table": "en"}, {"question": "1"}),
        ("zh/1", {"table": "zh"}, {"question": "1"}),
    ]
    with pytest.raises(OptionError, match="either `path` or `tables`"):
        build(None, Options(metrics={}))


def test_a_table_whose_rows_differ_is_refused(tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text('{"id": 1, "request": "a"}\n{"id": 2}\n')
    with pytest.raises(UserError, match="row 2: expected the columns of the first row, id, request"):
        build(None, Options(path=str(tmp_path / "asked.jsonl"), metrics={}))


@pytest.mark.parametrize(
    ("name", "count"), [("over_refusal", 450), ("harmful_requests", 240), ("narratives", 300)]
)
def test_the_suites_of_the_registry_read_the_published_tables(
    monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    from harness.config import Document, registry

    monkeypatch.setenv("HARNESS_DATA", str(shared_data("xstest").parent))
    data = Document(registry() / "suites" / f"{name}.yaml").data
    spec = SuiteSpec(adapter=data.pop("adapter"), judge=(data.pop("judge"),), name=name, options=data)
    (found,) = load_suites(spec)
    samples = found.samples("m", None)
    assert found.count() == len(samples) == count
    of_metric = {
        metric.name: sum(metric.where.items() <= sample.labels.items() for sample in samples)
        for metric in found.metrics
    }
    tables = ("china", "zh_china", "fi_china", "eu", "russia", "us")
    assert (
        of_metric
        == {
            "over_refusal": {"refusal_of_safe": 250, "refusal_of_unsafe": 200},
            "harmful_requests": {"compliance": 240, "refusal": 240},
            "narratives": {"complete": 300, **{f"complete:{table}": 50 for table in tables}},
        }[name]
    )
