"""Results roots as many people leave them: runs at several times, under several protocols, some not right."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from harness.records.directory import RunDirectory
from harness.types import (
    CellEntry,
    FailureKind,
    Generation,
    JudgedAttempt,
    JudgeEntry,
    Manifest,
    Message,
    Record,
    Transcript,
    Verdict,
)
from tests.analysis.synthetic import synthetic_run
from tests.runs import make_run

HOSTILE_NAME = "<img src=x onerror=alert(1)>\u202e-moe"
HOSTILE_REPLY = "</script><script>document.title='taken'</script> \u202eeman \x1b[31mred {{ 7*7 }}"
LONG_NAME = "an-organisation-with-a-long-name/" + "a-model-whose-name-does-not-end-" * 6


@dataclasses.dataclass(frozen=True)
class Change:
    """What is otherwise in a run than in the synthetic one."""

    seed: int = 0
    created: str = "2026-01-01T00:00:00Z"
    protocol: tuple[tuple[str, str], ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    samples: Callable[[str], str] = lambda name: name
    replies: Callable[[Record], str] = lambda record: f"The answer to {record.sample}."
    weights: str | None = None
    """Hash of the weights of each model."""
    judged: bool = False
    """Whether two judges have read the replies, the second of which never gave a verdict."""


def make(path: Path, change: Change = Change()) -> RunDirectory:
    """A complete run."""
    manifest, records = synthetic_run(change.seed)
    names = dict(change.names)
    models = {
        names.get(name, name): msgspec.structs.replace(model, name=names.get(name, name))
        for name, model in manifest.models.items()
    }
    for name, model in models.items():
        assert model.architecture is not None
        facts = msgspec.structs.replace(model.architecture, weights_hash=change.weights)
        models[name] = msgspec.structs.replace(model, architecture=facts)
    cells: dict[str, CellEntry] = {}
    found: dict[str, list[Record]] = {}
    for key, cell in manifest.cells.items():
        own = hashlib.sha256(f"{change.seed}{change.protocol}{key}".encode()).hexdigest()
        cells[own] = msgspec.structs.replace(
            cell,
            key=own,
            model=names.get(cell.model, cell.model),
            protocol={**cell.protocol, **dict(change.protocol)},
        )
        found[own] = [
            with_reply(msgspec.structs.replace(r, cell=own), change.replies(r))
            for one in records[key]
            for r in [msgspec.structs.replace(one, sample=change.samples(one.sample))]
        ]
    whole = Manifest(
        name=path.name,
        config_digest="0" * 12,
        harness_version="1",
        created=change.created,
        versions={"vllm": "0.32.0"},
        hardware={"gpu": "none"},
        models=models,
        cells=cells,
    )
    run = make_run(path, whole, found)
    run.compact(cells.values())
    if change.judged:
        for key, cell in cells.items():
            judge(run, cell, found[key])
    run.config_path.write_text("name: synthetic\n")
    run.seal()
    return RunDirectory(path)


JUDGES = {
    "keen": Verdict(verdict="refusal", raw=f"Verdict: refusal. {HOSTILE_REPLY}"),
    "worn": Verdict(verdict=None, raw="I", failure=FailureKind.ENGINE_ERROR, failure_message="it ended"),
}

CALIBRATION = {
    "one": {"refusal": {"refusal": 36, "compliance": 4}, "compliance": {"compliance": 30, "refusal": 10}}
}
"""What people called replies -> what the judge `keen` called them."""
MEASURED = {
    "keen": "a/judge; on 80 replies of one: refusal: sensitivity 90%, specificity 75%; "
    "compliance: sensitivity 75%, specificity 90%",
    "worn": "no model; its errors were not measured",
}


def judge(run: RunDirectory, cell: CellEntry, records: list[Record]) -> None:
    """Write down that every judge of `JUDGES` said the same of each attempt."""
    for name, verdict in JUDGES.items():
        entry = JudgeEntry(
            name=name,
            asks="Does it refuse?",
            classes=("refusal", "compliance"),
            digest="0",
            repository="a/judge" if name == "keen" else None,
            calibration=CALIBRATION if name == "keen" else None,
            calibrated_on="80 replies of one" if name == "keen" else None,
        )
        writer = run.verdicts(cell).writer(entry)
        for record in records:
            writer.append(
                JudgedAttempt(
                    sample=record.sample,
                    attempt=record.attempt,
                    content_hash=record.content_hash,
                    verdict=verdict,
                    judged="0",
                    started=0.0,
                )
            )
        writer.close()


def with_reply(record: Record, text: str) -> Record:
    """A record in which something was asked and said."""
    reply = Generation(text=text, raw=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1)
    messages = (
        Message(role="user", content=f"What of {record.sample}?"),
        Message(role="assistant", content=text),
    )
    return msgspec.structs.replace(record, transcript=Transcript(messages=messages, generations=(reply,)))


def make_root(path: Path) -> Path:
    """Four runs that hold, and two that do not."""
    path.mkdir()
    make(path / "first")
    make(path / "later", Change(seed=1, created="2026-03-01T00:00:00Z"))
    make(path / "other", Change(created="2026-02-01T00:00:00Z", protocol=(("temperature", "1.0"),)))
    hostile = (
        ("aster-dense", HOSTILE_NAME),
        ("aster-moe", LONG_NAME),
        ("borea-dense", "=cmd()"),
        ("borea-moe", "x"),
    )
    make(path / "hostile", Change(seed=2, names=hostile, replies=lambda record: HOSTILE_REPLY, judged=True))
    changed = make(path / "changed")
    file = next(changed.path.glob("cells/*/records.parquet"))
    file.write_bytes(file.read_bytes()[:-9] + b"\0" * 9)
    (path / "broken").mkdir()
    (path / "broken" / "manifest.json").write_text("{")
    (path / "notes").mkdir()
    return path


PUBLIC = "title: Open models\npublication: {questions: public}\n"
"""`site.yaml`: the synthetic suites have adapters that nobody knows, whose attempts are closed."""
