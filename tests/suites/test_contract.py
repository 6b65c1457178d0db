"""What callers may rely on of any suite, and where suites and engines of other packages come from."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.config import EngineSpec, ModelSpec, OptionError, RunConfig, SuiteSpec
from harness.engines import open_engine
from harness.errors import UserError
from harness.suites import ADAPTERS, adapters, load_suites
from harness.suites.agentdojo.detectors import DetectorSpec, second_model
from harness.suites.base import ModelRole, Needs, Suite
from harness.suites.explanation import Explanation
from harness.trust import reading_data
from harness.types import FailureKind, Origin, Sample, Sampling, Transcript
from tests.suites.dojo import suite as dojo_suite

PLUGIN = """
from harness.engines.scripted import Reply, ScriptedEngine
from harness.types import Struct
from tests.fakes import DigitSuite

class Options(Struct):
    limit: int | None = None
    samples: int = 3
    scorer: str = "1"

def build(name, options):
    return [DigitSuite(name or "plugged", options)]

async def start(model, args):
    return ScriptedEngine(lambda messages, tools, sampling: Reply(text="7"))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package as an installer leaves it: a module, and metadata that say what it adds."""
    (tmp_path / "plugged_in.py").write_text(PLUGIN)
    metadata = tmp_path / "plugged_in-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-name-of-its-own\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[openweight_harness.suites]\nplugged = plugged_in\nlm_eval = plugged_in\n"
        "[openweight_harness.engines]\nsevens = plugged_in:start\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield
    sys.modules.pop("plugged_in", None)


@pytest.mark.usefixtures("plugin")
def test_an_installed_package_adds_a_suite_by_name_also_for_those_who_read_data() -> None:
    assert adapters()["plugged"] == "plugged_in"
    assert adapters()["lm_eval"] == ADAPTERS["lm_eval"], "what ships keeps its name"
    with reading_data():
        (made,) = load_suites(SuiteSpec(adapter="plugged", options={"samples": 5}))
        assert (made.name, made.count()) == ("plugged", 5)
        with pytest.raises(UserError, match="--trust-code"):
            load_suites(SuiteSpec(adapter="tests.fakes"))


@pytest.mark.usefixtures("plugin")
def test_an_installed_package_adds_an_engine_by_name() -> None:
    model = ModelSpec(name="m", path="m", origin=Origin())
    engine = asyncio.run(open_engine(EngineSpec(kind="sevens"), model))
    assert asyncio.run(engine.chat((), (), Sampling())).text == "7"


def test_without_the_package_its_names_are_unknown() -> None:
    with pytest.raises(OptionError, match="there is no adapter 'plugged'"):
        load_suites(SuiteSpec(adapter="plugged"))


def test_what_a_suite_does_not_say_has_a_default() -> None:
    (made,) = load_suites(SuiteSpec(adapter="tests.hostile_server"))  # a class with no base
    assert isinstance(made, Suite) and made.needs == Needs() and made.groups == ()
    sampling, sample = Sampling(temperature=0.0), Sample(id="0", content_hash="0", payload=0)
    assert made.drawn(sampling) is sampling and made.attempts(3, sampling) == 3
    assert made.check() is None and made.longest_prompt() is None and made.prompts(sample) == ()
    assert made.score_failed(sample, Transcript(), FailureKind.TRUNCATED) == ()
    assert made.explain(sample, Transcript()) == Explanation()
    config = RunConfig(name="r", models=(), suites=(), sampling=sampling)
    assert list(made.cautions(config)) == []


def test_what_is_no_suite_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        name, protocol = "half", {"adapter": "half"}

    monkeypatch.setattr("tests.fakes.build", lambda name, options: [Half()])
    with pytest.raises(UserError, match="made a Half without metrics, count, samples, run, score: make it"):
        load_suites(SuiteSpec(adapter="tests.fakes"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # AgentDojo's clients of closed models
def test_the_classifier_of_a_defence_is_a_second_model() -> None:
    options: dict[str, Any] = {"defence": "transformers_pi_detector", "detector": "tests.fakes:last_digit"}
    (model,) = dojo_suite("agentdojo_mini", **options).needs.models
    assert (model.role, model.path, model.device) == (ModelRole.DETECTOR, "tests.fakes:last_digit", "cpu")
    assert model.during and model.weight_bytes is None
    assert dojo_suite("agentdojo_mini").needs.models == ()


def test_what_the_weights_of_a_second_model_take_is_known_where_they_are_here(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    spec = DetectorSpec(path=str(tmp_path), revision=None, safe_label="SAFE", device="cuda:0")
    assert second_model(spec).weight_bytes == 1000
