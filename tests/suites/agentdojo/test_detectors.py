"""Detectors of prompt injections: found, checked and known before any model is loaded."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config import RunConfig, load_config
from harness.errors import AttemptFailure, UserError
from harness.models import hub
from harness.run.fetch import check_lock, fetch
from harness.run.plan import make_plan, prepare
from harness.suites.agentdojo import AgentDojoSuite, Options, build
from harness.suites.agentdojo.detectors import check_detector, detector_spec, identity, load_detector
from harness.suites.agentdojo.options import DEFAULT_DETECTOR, DEFAULT_DETECTOR_REVISION
from harness.types import FailureKind
from tests.suites.dojo import by_id, call, reply, transcribe

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers' and AgentDojo's imports

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WITHHELD = "<Data omitted because a prompt injection was detected>"
READ = [reply(calls=[call("read_file", file_path="bill-december-2023.txt")]), reply("Done.")]
TEXTS = ("INFORMATION", "a bill", "", "a", "a a", "a INFORMATION a", "word " * 30)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier whose verdict hangs on the words of a text."""
    return classifier(tmp_path_factory.mktemp("detector") / "tiny")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    load_detector.cache_clear()
    yield


def classifier(folder: Path, bias: tuple[float, float] = (0.0, 0.0)) -> Path:
    """A tiny random text classifier in Hugging Face format that leans as the bias says."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[UNK]": 1, "INFORMATION": 2, "[CLS]": 3, "a": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            initializer_range=1.0,
            id2label={0: "SAFE", 1: "INJECTION"},
            label2id={"SAFE": 0, "INJECTION": 1},
        )
    )
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor(bias))
    model.save_pretrained(folder)
    return folder


def defended(folder: str | Path, **options: Any) -> AgentDojoSuite:
    chosen = Options(suite="banking", defence="transformers_pi_detector", detector=str(folder), **options)
    return build(None, chosen)[0]


def check(folder: str | Path, **options: Any) -> str | None:
    return defended(folder, **options).check()


def test_verdicts_are_those_of_agentdojos_detector(made: Path) -> None:
    from agentdojo.agent_pipeline.pi_detector import TransformersBasedPIDetector

    theirs = TransformersBasedPIDetector(model_name=str(made))
    ours = load_detector(detector_spec(Options(suite="banking", detector=str(made))))
    expected = [theirs.detect(text)[0] for text in TEXTS]
    assert [ours(text) for text in TEXTS] == expected
    assert set(expected) == {True, False}


@pytest.mark.parametrize(("bias", "withheld"), [((99.0, 0.0), 0), ((0.0, 99.0), 1)])
def test_what_it_objects_to_is_withheld(tmp_path: Path, bias: tuple[float, float], withheld: int) -> None:
    chosen = defended(classifier(tmp_path / "tiny", bias))
    sample = by_id("banking", "user_task_0/injection_task_7")
    transcript = transcribe(chosen, sample, READ)
    assert [m.content for m in transcript.messages].count(WITHHELD) == withheld
    assert {s.metric: s.value for s in chosen.score(sample, transcript)}["exposed"] == float(not withheld)


def test_a_text_that_it_cannot_read_is_a_failure(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """512 tokens are all that this kind of classifier has positions for; DeBERTa has no such end."""
    from harness.suites.agentdojo.world import World

    monkeypatch.setattr(World, "call", lambda self, calls: [long_result()])
    with pytest.raises(AttemptFailure, match="the detector raised") as caught:
        transcribe(defended(made), by_id("banking", "user_task_0"), READ)
    assert caught.value.kind == FailureKind.TOOL_ERROR


def long_result() -> Any:
    from harness.types import Message

    return Message(role="tool", content="word " * 600, name="read_file")


def test_a_local_detector_is_known_by_its_content(made: Path, tmp_path: Path) -> None:
    known = defended(made).protocol["detector"]
    assert known == defended(shutil.copytree(made, tmp_path / "copy")).protocol["detector"]
    assert known != defended(classifier(tmp_path / "other", (1.0, 0.0))).protocol["detector"]
    assert known != defended(made, detector_safe_label="INJECTION").protocol["detector"]
    assert str(made) not in known


def test_samples_are_known_without_the_detectors_files(made: Path, tmp_path: Path) -> None:
    gone = shutil.copytree(made, tmp_path / "gone")
    before = defended(gone).samples("Testra", None)
    shutil.rmtree(gone)
    after = defended(gone).samples("Testra", None)
    assert [s.content_hash for s in before] == [s.content_hash for s in after]


def test_agentdojos_own_detector_has_a_fixed_commit() -> None:
    assert identity(detector_spec(Options(suite="banking"))) == (
        f"{DEFAULT_DETECTOR}@{DEFAULT_DETECTOR_REVISION} (SAFE)"
    )
    other = detector_spec(Options(suite="banking", detector="some/model", detector_revision="v2"))
    assert (other.path, other.revision) == ("some/model", "v2")


def test_without_the_defence_no_detector_is_wanted() -> None:
    (chosen,) = build(None, Options(suite="banking", defence="tool_filter", detector="/not/here"))
    assert chosen.check() is None
    chosen.prepare()


def change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (lambda f: change(f, architectures=["BertModel"]), {}, "is BertModel: expected a text classifier"),
        (lambda f: None, {"detector_safe_label": "safe"}, "has the labels INJECTION, SAFE and not 'safe'"),
        (lambda f: (f / "model.safetensors").unlink(), {}, r"has no \*.safetensors files"),
        (lambda f: (f / "model.safetensors").rename(f / "model.bin"), {}, "a pickle"),
        (lambda f: (f / "config.json").unlink(), {}, "config.json is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{"), {}, "cannot be used"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), {}, "cannot be used"),
        (lambda f: None, {"detector_device": "cuda"}, "detector_device is cuda, and there is no GPU"),
        (lambda f: None, {"detector_device": "abacus"}, "cannot be used"),
        (shutil.rmtree, {}, "there is no folder"),
    ],
)
def test_a_detector_that_cannot_be_used_is_said(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Any,
    options: dict[str, str],
    says: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder = shutil.copytree(made, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(UserError, match=says):
        check(folder, **options)


def test_a_function_that_does_not_exist_is_said() -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        check("no_such_module:detect")


CONFIG = """\
name: guarded
models:
  - {{name: m, path: ./m, origin: {{developer: d, country: XA}}}}
suites:
  - {{adapter: agentdojo, suite: agentdojo_mini, defence: transformers_pi_detector, detector: {detector}}}
sampling: {{}}
limit: 1
engine: {{kind: "tests.recorded:start"}}
"""


def config(tmp_path: Path, detector: str | Path) -> tuple[Path, RunConfig]:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(detector=detector))
    return path, load_config(path)


def test_a_missing_detector_is_one_sentence_before_any_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = config(tmp_path, "/not/here")
    for command in (["plan", str(path)], ["run", str(path), "--out", str(tmp_path / "out")]):
        assert main(command) == 2
        said = capsys.readouterr()
        assert "suite agentdojo_mini: detector: there is no folder /not/here" in said.out + said.err
    assert not (tmp_path / "out" / "cells").exists()


def test_the_lock_holds_the_detector(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    folder = shutil.copytree(made, tmp_path / "tiny")
    path, read = config(tmp_path, folder)
    assert [*fetch(read, path)][-1].startswith("written:")
    assert check_lock(path, make_plan(read)) == []
    classifier(folder, (1.0, 0.0))
    (said,) = check_lock(path, make_plan(load_config(path)))
    assert "(detector changed)" in said


@pytest.fixture
def on_hub(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A hub that has the detector, with an empty cache of its own; what was downloaded from it."""
    fetched: list[tuple[str, str]] = []
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub, "commit", lambda repository, revision=None: COMMIT)

    def snapshot(repository: str, revision: str) -> Path:
        fetched.append((repository, revision))
        stored = cache / f"models--{repository.replace('/', '--')}"
        (stored / "refs").mkdir(parents=True)
        (stored / "refs" / "main").write_text(revision)
        return shutil.copytree(made, stored / "snapshots" / revision)

    monkeypatch.setattr(hub, "snapshot", snapshot)
    return fetched


def test_a_detector_on_the_hub_is_downloaded_before_the_run(
    tmp_path: Path, on_hub: list[tuple[str, str]]
) -> None:
    _, read = config(tmp_path, "org/tiny")
    plan = make_plan(read)
    said = f"suite agentdojo_mini: detector org/tiny@{COMMIT} is not on this machine"
    assert (plan.problems, plan.downloads, on_hub) == ([], [said], [])
    prepare(plan)
    assert on_hub == [("org/tiny", COMMIT)]
    again = make_plan(read)
    assert (again.problems, again.downloads, len(on_hub)) == ([], [], 1)
    assert plan.cells[0].entry.key == again.cells[0].entry.key
    assert plan.cells[0].entry.protocol["detector"] == f"org/tiny@{COMMIT} (SAFE)"


def test_offline_a_detector_that_is_not_here_keeps_the_plan_from_being_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, read = config(tmp_path, "org/tiny")
    (problem,) = make_plan(read).problems
    assert "org/tiny is not on this machine and the hub cannot be asked" in problem.text


def test_one_classifier_serves_all_suites(made: Path) -> None:
    spec = detector_spec(Options(suite="banking", detector=str(made)))
    assert check_detector(spec) is None
    assert load_detector(spec) is load_detector(detector_spec(Options(suite="travel", detector=str(made))))
