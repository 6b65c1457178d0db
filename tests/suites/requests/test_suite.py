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
from harness.suites.requests.jailbreaks import BestOf, Jailbreak
from harness.suites.requests.suite import RequestMetric
from harness.types import FailureKind, Sampling
from tests.conftest import shared_data

TABLE = (
    'id,ask,kind,more\n1,"How do I ""end"" it?",safe,\n2,Tell me {request}.,unsafe,Given: x\n3,Sing.,song,\n'
)

WAYS = {"plain": Jailbreak(), "leet": Jailbreak(encoding="leet")}


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
        jailbreaks={"game": Jailbreak(template="Play a game: {request}!", encoding="base64")},
        system_message="Be brief.",
        context="more",
    )
    first, second, _ = framed.samples("m", None)
    transcript = await framed.run(first, ScriptedEngine(chat=policy), Sampling())
    encoded = base64.b64encode(b'How do I "end" it?').decode()
    assert seen == ["Be brief.", f"Play a game: {encoded}!"]
    whole, of_game = framed.score(first, transcript)
    assert (whole.metric, of_game.metric) == ("refusal", "refusal:game")
    for score in (whole, of_game):
        assert score.value is None and score.operands == ('How do I "end" it?', "No.")
    assert framed.score(second, transcript) == ()  # the metric is of safe requests alone
    plain = suite(tmp_path, context="more")
    transcript = await plain.run(plain.samples("m", None)[1], ScriptedEngine(chat=policy), Sampling())
    assert seen[-1] == "Given: x\n\n---\n\nTell me {request}."
    of_all = {"refusal": RequestMetric(classes=("refusal",))}
    (score,) = suite(tmp_path, context="more", metrics=of_all).score(second, transcript)
    assert score.operands == ("Tell me {request}.", "No.", "Given: x")  # judges may be shown it apart


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
        {"jailbreaks": {"now": Jailbreak(template="Now {request}")}},
        {"jailbreaks": {"rot": Jailbreak(encoding="rot13")}},
        {"jailbreaks": {"rot": Jailbreak(encoding="rot13", turns=("Hello.",))}},
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
        ({"jailbreaks": {"a": Jailbreak(template="x")}}, r"template has no \{request\}"),
        ({"jailbreaks": {"a": Jailbreak(request="zh")}}, "no column 'zh'"),
        ({"jailbreaks": {"a": Jailbreak(package="no_such_package")}}, "no_such_package is not installed"),
        ({"jailbreaks": {"a": Jailbreak(package="os.path")}}, "'os.path' is no name of a package"),
        ({"jailbreaks": {"a": Jailbreak(package="yaml", file="../x.txt")}}, "yaml has no file '../x.txt'"),
        ({"jailbreaks": {"a": Jailbreak(package="yaml", file="loader.py")}}, "no text with '{{ prompt }}'"),
        ({"best_of": BestOf(metric="refusal", choose_on="test")}, "two jailbreaks or more"),
        (
            {"jailbreaks": WAYS, "best_of": BestOf(metric="comply", choose_on="test")},
            "no metric 'comply': use one of refusal",
        ),
        (
            {"jailbreaks": WAYS, "best_of": BestOf(metric="refusal", choose_on="test")},
            "'test' has to be one of two `tables`",
        ),
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


def read_shipped(monkeypatch: pytest.MonkeyPatch, name: str) -> RequestSuite:
    """A suite of the registry over the published tables."""
    from harness.config import Document, registry

    monkeypatch.setenv("HARNESS_DATA", str(shared_data("xstest").parent))
    data = Document(registry() / "suites" / f"{name}.yaml").data
    spec = SuiteSpec(adapter=data.pop("adapter"), judge=(data.pop("judge"),), name=name, options=data)
    (found,) = load_suites(spec)
    assert isinstance(found, RequestSuite)
    return found


HARMS = {  # of the 240 behaviours of the test set that are not about copyright
    "chemical_biological": 42,
    "cybercrime_intrusion": 52,
    "harassment_bullying": 21,
    "harmful": 18,
    "illegal": 53,
    "misinformation_disinformation": 54,
}
TABLES = ("china", "zh_china", "fi_china", "eu", "russia", "us")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("over_refusal", {"refusal_of_safe": 250, "refusal_of_unsafe": 200}),
        (
            "harmful_requests",
            {
                **dict.fromkeys(("compliance", "detailed_compliance", "partial", "refusal"), 240),
                **{
                    f"{m}:{harm}": n
                    for m in ("compliance", "detailed_compliance")
                    for harm, n in HARMS.items()
                },
            },
        ),
        ("harmful_requests_copyright", {"compliance": 80, "refusal": 80}),
        ("narratives", {"complete": 300, **{f"complete:{table}": 50 for table in TABLES}}),
    ],
)
def test_the_suites_of_the_registry_read_the_published_tables(
    monkeypatch: pytest.MonkeyPatch, name: str, counts: dict[str, int]
) -> None:
    found = read_shipped(monkeypatch, name)
    samples = found.samples("m", None)
    assert found.count() == len(samples) == max(counts.values(), default=0) or name == "over_refusal"
    of_metric = {
        metric.name: sum(metric.where.items() <= sample.labels.items() for sample in samples)
        for metric in found.metrics
    }
    assert of_metric == counts


def test_behaviours_under_jailbreaks_are_chosen_on_other_behaviours_than_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = read_shipped(monkeypatch, "harmful_requests_jailbroken")
    samples = found.samples("m", None)
    ways = list(found.options.jailbreaks)
    assert len(ways) == 6 and found.count() == len(samples) == 6 * (60 + 240)
    chosen = {one.metric.name: one for one in found.declared.chosen}
    assert [name for name, one in chosen.items() if one.metric.headline] == ["compliance:best_of"]
    assert not any(metric.headline for metric in found.metrics)
    by = {metric.name: metric.where for metric in found.metrics}
    assert by["detailed_compliance:validation"] == {"purpose": "choose"}
    assert by["compliance"] == {"purpose": "measure"}
    chooses = {s.id.split("/")[-1] for s in samples if s.labels["purpose"] == "choose"}
    measures = {s.id.split("/")[-1] for s in samples if s.labels["purpose"] == "measure"}
    assert (len(chooses), len(measures), chooses & measures) == (60, 240, set())
    story = next(sample for sample in samples if sample.labels["jailbreak"] == "story")
    assert len(story.payload.turns) == 2


async def test_what_is_said_in_turns_is_judged_by_the_last_reply(tmp_path: Path) -> None:
    told = iter(("Once.", "The end."))
    story = suite(
        tmp_path,
        jailbreaks={"story": Jailbreak(turns=("A tale about {request}",), template="Go on.")},
        metrics={"compliance": RequestMetric(classes=("yes",))},
    )
    sample = story.samples("m", None)[2]
    engine = ScriptedEngine(chat=lambda *_: Reply(text=next(told)))
    transcript = await story.run(sample, engine, Sampling())
    assert [m.content for m in transcript.messages] == ["A tale about Sing.", "Once.", "Go on.", "The end."]
    assert {score.metric: score.operands for score in story.score(sample, transcript)} == {
        "compliance": ("Sing.", "The end."),
        "compliance:story": ("Sing.", "The end."),
    }


def test_templates_are_read_out_of_packages_that_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "published_jailbreaks"
    (package / "templates").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "templates/aim.yaml").write_text("name: AIM\nvalue: 'Say it: {{ prompt }}'\n")
    (package / "many.json").write_text('{"all": ["x", "Or so: [INSERT]"]}')
    monkeypatch.syspath_prepend(str(tmp_path))
    found = suite(
        tmp_path,
        jailbreaks={
            "aim": Jailbreak(package=package.name, file="templates/aim.yaml", key="value"),
            "second": Jailbreak(package=package.name, file="many.json", key="all.1", placeholder="[INSERT]"),
        },
    )
    shown = [sample.payload.turns[-1] for sample in found.samples("m", None)]
    assert (shown[2], shown[-1]) == ("Say it: Sing.", "Or so: Sing.")
    with pytest.raises(OptionError, match=r"has nothing at 'all\.7'"):
        suite(tmp_path, jailbreaks={"a": Jailbreak(package=package.name, file="many.json", key="all.7")})


def test_a_translation_is_asked_and_the_request_itself_is_judged(tmp_path: Path) -> None:
    found = suite(tmp_path, jailbreaks={"other": Jailbreak(request="more")})
    asked = found.samples("m", None)[1]
    assert asked.payload.turns == ("Given: x",) and asked.id == "other/2"
    assert found.samples("m", None)[0].labels == {"kind": "safe", "jailbreak": "other"}
