"""Whatever a server says: nothing is lost, nothing failed has a score, the same command completes."""

import base64
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.cli import main
from harness.errors import Status
from harness.records.directory import RunDirectory
from harness.types import FailureKind, Record
from tests import hostile_server
from tests.hostile_server import (
    BUSY,
    CALLED,
    FAILED,
    KEY,
    READ,
    REFUSALS,
    SAMPLES,
    SERVERS,
    UNANSWERED,
    UNREAD,
    Server,
)

CONFIG = """\
name: hostile
models: [{{name: tiny, path: tiny, origin: {{developer: A, country: XA}}}}]
suites: [{{adapter: tests.hostile_server}}]
sampling: {{temperature: 0.0, max_tokens: 16}}
engine:
  kind: endpoint
  max_concurrency: 3
  args:
    base_url: "{url}"
    api_key_env: HOSTILE_KEY
    timeout_seconds: {timeout}
    max_retries: 0
    patience_seconds: {patience}
    start_seconds: 0
"""
SLOW = (hostile_server.hang, hostile_server.drip, FAILED["cut off"])
"""They take as long as they are given."""
FORMS = (KEY, base64.b64encode(KEY.encode()).decode()[:-3], quote(KEY, safe=""), "PASSW0RD")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with hostile_server.serving() as started:
        yield started


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *args, **named: None)
    monkeypatch.setattr("harness.engines.retries.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("harness.engines.retries.PROBE_SECONDS", 0.2)
    monkeypatch.setenv("HOSTILE_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-SECRET")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-SECRET")


class Asked:
    """The three commands of one behaviour."""

    def __init__(
        self, server: Server, folder: Path, behaviour: hostile_server.Behaviour, *, everywhere: bool = False
    ) -> None:
        self.server, self.folder, server.everywhere = server, folder, everywhere
        timeout, patience = (0.6, 2.5) if behaviour in SLOW else (20, 0.8)
        patience = patience if everywhere else 60
        (folder / "run.yaml").write_text(CONFIG.format(url=server.url, timeout=timeout, patience=patience))
        server.behaviour, server.headers = behaviour, []

    def run(self) -> int:
        return main(["run", str(self.folder / "run.yaml"), "--out", str(self.folder / "out")])

    def heal(self) -> None:
        self.server.behaviour = None

    def records(self) -> list[Record]:
        directory = RunDirectory(self.folder / "out")
        if not directory.manifest_path.exists():
            return []
        return [r for cell in directory.manifest().cells.values() for r in directory.records(cell)]

    def ends_well(self) -> list[Record]:
        """The same command with a server that behaves, then the scorecard; returns all records."""
        before = {(r.sample, r.attempt): r for r in self.records()}
        self.heal()
        assert self.run() == Status.DONE
        after = {(r.sample, r.attempt): r for r in self.records()}
        assert len(after) == SAMPLES
        assert {key: after[key] for key in before} == before, "what was finished is kept"
        assert main(["scorecard", str(self.folder / "out")]) == Status.DONE
        for path in self.folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not [form for form in FORMS if form.encode() in content], path
        sent = [
            {name for name in headers if re.search("org|project|stainless", name, re.I)}
            for headers in self.server.headers
        ]
        assert not any(sent)
        return list(after.values())


def scores(record: Record) -> dict[str, float | None]:
    return {score.metric: score.value for score in record.scores}


def bad(record: Record) -> bool:
    return int(record.sample) % 4 in (0, 1)


def chat(record: Record) -> bool:
    return int(record.sample) % 2 == 0


@pytest.mark.parametrize("name", READ)
def test_odd_answers_are_read(server: Server, tmp_path: Path, name: str) -> None:
    asked = Asked(server, tmp_path, READ[name])
    assert asked.run() == Status.DONE
    records = asked.records()
    assert len(records) == SAMPLES
    assert [(r.failure, scores(r)["acc"]) for r in records] == [(None, 1.0)] * SAMPLES
    thoughts = {reply.reasoning for r in records for reply in r.transcript.generations}
    assert thoughts == ({None, "8?"} if name == "thoughts as a part" else {None})
    if name.startswith(("usage", "more cached")):
        told = [
            (r.usage.prompt_tokens, r.usage.completion_tokens, r.usage.cached_tokens)
            for r in records
            if bad(r)
        ]
        assert set(told) == {(7, 3, None) if name == "more cached than sent" else (None, None, None)}
    asked.ends_well()


@pytest.mark.parametrize("name", CALLED)
def test_calls_are_read_where_their_meaning_is_plain(server: Server, tmp_path: Path, name: str) -> None:
    asked = Asked(server, tmp_path, CALLED[name])
    assert asked.run() == Status.DONE
    for record in asked.records():
        assert record.failure is None
        assert scores(record)["called"] == float(bad(record) and chat(record))
        ids = [call.id for reply in record.transcript.generations for call in reply.tool_calls]
        assert len(set(ids)) == len(ids), "what a tool says is told to the call that it answers"
    asked.ends_well()


@pytest.mark.parametrize("name", UNREAD)
def test_calls_that_cannot_be_read_are_failures(server: Server, tmp_path: Path, name: str) -> None:
    asked = Asked(server, tmp_path, UNREAD[name])
    assert asked.run() == Status.DONE
    records = asked.records()
    assert len(records) == SAMPLES
    for record in records:
        if bad(record) and chat(record):
            assert record.failure in (FailureKind.TOOL_PARSE, FailureKind.ENGINE_ERROR)
            assert record.scores == ()
    asked.ends_well()


@pytest.mark.parametrize("name", UNANSWERED)
def test_a_thought_is_no_answer(server: Server, tmp_path: Path, name: str) -> None:
    behaviour, kind = UNANSWERED[name]
    asked = Asked(server, tmp_path, behaviour)
    assert asked.run() == Status.DONE
    for record in asked.records():
        assert record.failure == (kind if bad(record) and chat(record) else None)
        assert bool(record.scores) is (record.failure is None)
    asked.ends_well()


@pytest.mark.parametrize("name", FAILED)
def test_answers_that_are_none_are_failures(server: Server, tmp_path: Path, name: str) -> None:
    asked = Asked(server, tmp_path, FAILED[name])
    assert asked.run() == Status.DONE
    records = asked.records()
    assert len(records) == SAMPLES
    kind = FailureKind.CONTEXT_OVERFLOW if name == "too long" else FailureKind.ENGINE_ERROR
    for record in records:
        assert record.failure == (kind if bad(record) else None), (record.sample, record.failure_message)
        assert bool(record.scores) is not bad(record)
        assert len(record.failure_message or "") < 1000
        if name.startswith("an error with"):
            assert not bad(record) or "this is the reason" in (record.failure_message or "")
    asked.ends_well()


@pytest.mark.parametrize("name", [*SERVERS, *REFUSALS])
def test_a_request_that_is_not_answered_while_others_are_is_a_failure(
    server: Server, tmp_path: Path, name: str
) -> None:
    asked = Asked(server, tmp_path, (SERVERS | REFUSALS)[name])
    assert asked.run() == Status.DONE
    records = asked.records()
    assert len(records) == SAMPLES
    for record in records:
        assert record.failure == (FailureKind.ENGINE_ERROR if bad(record) else None)
        assert bool(record.scores) is not bad(record)
    asked.ends_well()


@pytest.mark.parametrize("name", [*SERVERS, *BUSY])
def test_a_server_that_answers_nobody_costs_no_attempt(
    server: Server, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(server, tmp_path, (SERVERS | BUSY)[name], everywhere=True)
    assert asked.run() == Status.STOPPED
    said = capsys.readouterr().err
    assert server.url in said and "the same command resumes" in said and "patience_seconds" in said
    assert asked.records() == []
    assert [r.failure for r in asked.ends_well()] == [None] * SAMPLES


@pytest.mark.parametrize("name", REFUSALS)
def test_a_server_that_refuses_everybody_is_said_at_once(
    server: Server, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(server, tmp_path, REFUSALS[name], everywhere=True)
    assert asked.run() == Status.WRONG_INPUT
    said = capsys.readouterr().err
    assert server.url in said and "refuses every request" in said
    assert "PASSW0RD" not in said
    assert asked.records() == []
    assert [r.failure for r in asked.ends_well()] == [None] * SAMPLES


def test_a_server_that_dies_in_the_middle_and_comes_back_costs_nothing(
    server: Server, tmp_path: Path
) -> None:
    first = server.asked

    def dies(handler: hostile_server.Handler) -> None:
        if first + 4 <= server.asked < first + 14:
            handler.hang_up()
        else:
            handler.answer(hostile_server.good(handler.chat))

    asked = Asked(server, tmp_path, dies, everywhere=True)
    assert asked.run() == Status.DONE
    assert [r.failure for r in asked.records()] == [None] * SAMPLES
    assert server.asked >= first + 14
    asked.ends_well()
