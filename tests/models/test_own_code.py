"""Code that comes with a checkpoint is not run, and not vouched for by anything that the checkpoint says."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.config import ModelSpec, load_model
from harness.errors import UserError
from harness.models import planted
from harness.suites.restore import load_template
from harness.types import Origin

CANARY = """\
import pathlib

pathlib.Path({mark!r}).write_text("ran")
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


class Config(PretrainedConfig):
    model_type = "brings_code"


class Model(PreTrainedModel):
    config_class = Config


class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO_MAP = {
    "AutoConfig": "canary.Config",
    "AutoModelForCausalLM": "canary.Model",
    "AutoTokenizer": ["canary.Tokenizer", "canary.Tokenizer"],
}
RUN = """\
name: canary
models: [{{name: m, path: ./model, origin: {{developer: D, country: XA}}}}]
suites:
  - {{adapter: lm_eval, name: sums, task: planted_arithmetic, include_path: "harness:suites/planted",
     apply_chat_template: true}}
sampling: {{max_tokens: 4}}
limit: 2
engine: {{kind: "{kind}", args: {args}}}
"""


@pytest.fixture(params=["a class of its own", "a class that is known"])
def brings_code(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint whose files name code that lies beside them, and a run config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model = tmp_path / "model"
    shutil.copytree(Path(planted.__file__).parent / "aster-dense", model)
    own = {"model_type": "brings_code", "architectures": ["Model"]} if "own" in request.param else {}
    for name, more in (("config.json", own), ("tokenizer_config.json", {"tokenizer_class": "Tokenizer"})):
        told = json.loads((model / name).read_text()) | {"auto_map": AUTO_MAP} | more
        (model / name).write_text(json.dumps(told))
    (model / "canary.py").write_text(CANARY.format(mark=str(tmp_path / "ran")))
    (tmp_path / "run.yaml").write_text(RUN.format(kind="vllm", args="{}"))
    return tmp_path


def test_no_command_runs_code_that_a_checkpoint_brings(brings_code: Path) -> None:
    for command in (
        ["plan", "run.yaml"],
        ["plan", "run.yaml", "--model", "./model"],
        ["models", "inspect", "./model"],
        ["models", "add", "./model", "--out", "added.yaml"],
        ["plan", "run.yaml", "--model", "added.yaml"],
        ["fetch", "run.yaml"],
    ):
        main(command)
        assert not (brings_code / "ran").exists(), command
    assert not load_model("added.yaml").trust_remote_code
    assert "canary" not in sys.modules


def test_a_tokenizer_that_wants_its_code_is_refused(brings_code: Path) -> None:
    spec = ModelSpec(name="m", path=str(brings_code / "model"), origin=Origin(developer="D", country="XA"))
    with pytest.raises(UserError, match=r"tokenizer of m in .* custom code .* or code of their own"):
        load_template(spec)
    assert not (brings_code / "ran").exists()
