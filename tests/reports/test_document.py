"""One document that every format is a view of, as its schema says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.analysis.claims import CLAIMS, Claims, evidence, make_claims
from harness.reports import document
from harness.reports.claims_text import render_claims
from harness.reports.differences import sentences_of
from harness.reports.document import VERSION, make_document
from harness.reports.objects import document_object
from harness.reports.render import FORMATS, render
from harness.types import Caution, Manifest
from tests.analysis.synthetic import PROTOCOL, synthetic_run, tables
from tests.conftest import ROOT

SCHEMA = Path(document.__file__).with_name("scorecard.schema.json")
DEMO = ROOT / "results" / "demo"


def check(found: Any) -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(found)


def changed(**engines: dict[str, str]) -> tuple[Manifest, Any]:
    """The synthetic run, engines of some models with other details."""
    manifest, records = synthetic_run()
    models = dict(manifest.models)
    for name, details in engines.items():
        name = name.replace("_", "-")
        engine = msgspec.structs.replace(models[name].engine, details=details)
        models[name] = msgspec.structs.replace(models[name], engine=engine)
    return msgspec.structs.replace(manifest, models=models), tables(records)


def scorecard(*options: str) -> str:
    command = [sys.executable, "-m", "harness.cli", "scorecard", str(DEMO), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_demo_is_as_the_schema_says() -> None:
    found = json.loads(scorecard("--format", "json"))
    check(found)
    assert found["version"] == VERSION and found["claims"]["gaps"][0]["suites"] == 2
    assert found["run"]["harness_version"] == found["versions"]["harness"]
    check(json.loads((DEMO / "scorecard.json").read_text()))


def test_the_schema_refuses_what_it_does_not_know() -> None:
    from jsonschema import ValidationError

    found = document_object(make_document(*changed()))
    check(json.loads(json.dumps(found)))
    for broken in (
        {**found, "more": 1},
        {**found, "version": 1},
        {k: v for k, v in found.items() if k != "by"},
    ):
        with pytest.raises(ValidationError):
            check(json.loads(json.dumps(broken)))


def test_origins_are_what_is_asked() -> None:
    country, developer = (
        json.loads(scorecard("--format", "json", "--by", by)) for by in ("country", "developer")
    )
    assert [one["origin"] for one in country["origins"]] == ["XA", "XB"]
    assert [one["origin"] for one in developer["origins"]] == ["Aster Institute", "Borea Labs"]
    assert (country["by"], developer["by"], developer["claims"]["by"]) == (
        "country",
        "developer",
        "developer",
    )


def test_what_differs_is_said_in_every_format() -> None:
    found = make_document(*changed(borea_moe={"dtype": "float8_e4m3fn", "max_model_len": "512"}))
    for form in FORMATS:
        text = " ".join(render(found, form).replace("<wbr>", "").replace("\\", "").split())
        assert "Engines differ, which can move scores: dtype" in text, form
        assert "float8_e4m3fn for borea-moe" in text and "max_model_len" in text, form


def test_protocols_that_differ_are_shown_with_their_models() -> None:
    manifest, columns = changed()
    key = "aster-dense-questions"
    cell = msgspec.structs.replace(manifest.cells[key], protocol={**PROTOCOL, "prompt": "ffff"})
    manifest = msgspec.structs.replace(manifest, cells={**manifest.cells, key: cell})
    found = make_document(manifest, columns, allow=["prompt"])
    (allowed,) = document_object(found)["allowances"]
    assert allowed == {
        "field": "prompt",
        "suites": ["questions"],
        "values": {"5f2c": ["aster-moe", "borea-dense", "borea-moe"], "ffff": ["aster-dense"]},
    }
    assert allowed in document_object(found)["protocols"]
    for form in ("table", "md", "html"):
        text = " ".join(render(found, form).split())
        assert "prompt (5f2c for 3 models, ffff for aster-dense), which was allowed" in text
    rows = [line for line in render(found, "md").splitlines() if line.startswith("| questions | prompt |")]
    assert len(rows) == 2


def test_attempts_that_differ_are_said() -> None:
    manifest, columns = changed()
    key = "aster-dense-questions"
    cell = msgspec.structs.replace(manifest.cells[key], attempts=8)
    found = make_document(msgspec.structs.replace(manifest, cells={**manifest.cells, key: cell}), columns)
    assert any(
        said.startswith("Attempts at each sample differ in questions: 1 for 3 models, 8 for aster-dense.")
        for said in sentences_of(found.differences)
    )


def test_what_was_not_measured_and_what_was_known_before_stand_on_the_card() -> None:
    manifest, columns = changed()
    cautions = (
        Caution(check="lock", text="gone: no such folder", model="gone", void=True),
        Caution(check="greedy", text="8 attempts are alike at temperature 0", suite="questions"),
    )
    found = make_document(msgspec.structs.replace(manifest, cautions=cautions), columns)
    for form in ("table", "md", "html"):
        text = " ".join(render(found, form).split())
        assert "Not measured: gone: no such folder" in text, form
        assert "questions: 8 attempts are alike at temperature 0" in text, form
    assert [one["void"] for one in document_object(found)["cautions"]] == [True, False]


def test_a_claim_that_fails_takes_no_scorecard_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr(evidence, "_abilities", broken)
    found = make_document(*changed())
    parsed = json.loads(render(found, "json"))
    check(parsed)
    assert parsed["claims"] is None and "ZeroDivisionError: of nothing" in parsed["claims_problem"]
    assert parsed["models"] and parsed["comparisons"]


def test_a_claim_that_cannot_be_computed_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("of nothing")

    document = make_document(*changed())
    whole = document.claims
    for name in CLAIMS:
        monkeypatch.setitem(CLAIMS, name, broken)
        found = make_claims(document.models, origins=document.origins)
        monkeypatch.undo()
        assert found.problems == {name: "ZeroDivisionError: of nothing"} and getattr(found, name) == ()
        others = CLAIMS.keys() - {name}
        assert all(getattr(found, other) == getattr(whole, other) for other in others)
        parsed = document_object(msgspec.structs.replace(document, claims=found))
        check(json.loads(json.dumps(parsed)))
        assert parsed["claims"]["problems"] == found.problems
        for form in ("table", "md"):
            said = " ".join(render_claims(found, form).replace("\\", "").split())
            assert f"Not computed: {name} (ZeroDivisionError: of nothing)." in said


def test_every_claim_has_a_field() -> None:
    assert CLAIMS.keys() < set(Claims.__struct_fields__)
