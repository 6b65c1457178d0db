"""Reading a folder that somebody else made does nothing but read, whatever stands in it: `tests.received`."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import main
from harness.config import ModelSpec
from harness.engines.scripted import ScriptedEngine
from harness.models import planted
from harness.records.directory import RunDirectory
from tests.conftest import ROOT
from tests.received import OWN
from tests.replay.test_transcripts import ATTACKED, BILL, PAYEE, conversation, payment, write
from tests.replay.test_transcripts import run as agentdojo_run
from tests.runs import reseal

CONFIG = f"""\
name: received
models: [{{name: m, path: ./model, origin: {{developer: D, country: XA}}}}]
suites:
  - {{adapter: lm_eval, name: sums, task: planted_arithmetic, include_path: "harness:suites/planted",
     apply_chat_template: true}}
  - {{adapter: agentdojo, suite: agentdojo_mini, attack: important_instructions}}
  - {{adapter: lm_eval, name: perplexities, task: perplexities, include_path: ./tasks}}
sampling: {{}}
limit: 1
engine: {{kind: "{__name__}:start"}}
"""
OTHER = ["models=[{name: n, path: ./model, origin: {developer: E, country: XB}}]"]
OTHER += [f"suites=[{yaml.safe_load(CONFIG)['suites'][0]}]"]
"""Another model on the first suite alone: every cell takes the walk some time."""
TASK = """\
task: perplexities
dataset_path: json
dataset_kwargs: {data_files: {test: texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
metadata: {version: 1.0}
"""


async def start(model: ModelSpec, args: dict[str, Any]) -> ScriptedEngine:
    """For `engine.kind`."""
    return ScriptedEngine()


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three models, one of them imported; beside its config lie a task and a model."""
    folder = tmp_path_factory.mktemp("sent") / "received"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "perplexities.yaml").write_text(TASK)
    (folder / "tasks" / "texts.jsonl").write_text('{"text": "a few words"}\n')
    weightless = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(Path(planted.__file__).parent / "aster-dense", folder / "model", ignore=weightless)
    (folder / "run.yaml").write_text(CONFIG)
    done = agentdojo_run(conversation(BILL, payment(PAYEE)))
    idle = agentdojo_run(conversation(BILL), utility=False, security=False, **ATTACKED)
    write(folder / "runs", done, idle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AgentDojo's clients of closed models
        assert main(["run", str(folder / "run.yaml"), "--out", str(folder)]) == 0
        assert main(["run", str(folder / "run.yaml"), *OTHER, "--out", str(folder / "other")]) == 0
        assert main(["merge", str(folder / "other"), "--out", str(folder)]) == 0
        assert main(["replay", str(folder / "runs"), "--out", str(folder)]) == 0
    shutil.rmtree(folder / "other")
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace(f"{folder}/", "./"))
    for kept in folder.glob("scorecard.*"):  # `scorecard` renders them; `verify` would, of each change anew
        kept.unlink()
    reseal(RunDirectory(folder))
    (folder / ".folder").unlink(missing_ok=True)
    runs = folder.parent / "stored-runs"
    shutil.move(folder / "runs", runs)
    return folder


@pytest.mark.slow
def test_nothing_that_it_names_is_done(received: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "received"
    shutil.copytree(received.parent, copy.parent)
    folders = {name: tmp_path / name for name in OWN}
    for folder in folders.values():
        folder.mkdir()
    reader = subprocess.run(
        [sys.executable, ROOT / "tests/received.py", copy, copy.parent / "stored-runs", tmp_path / "out"],
        env={
            **os.environ,
            **{name: str(folder) for name, folder in folders.items()},
            "HF_HUB_OFFLINE": "0",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in reader.stdout.splitlines()]
    assert found[-1:] and found[-1]["change"] == "all", reader.stderr
    assert {line["status"] for line in found if line["change"] == "none"} == {0}
    assert [line for line in found if isinstance(line["status"], str)] == [], "no traceback"
    # At first packages are imported, which do things of their own: torch makes a folder for its compiler,
    # urllib3 looks whether there is IPv6. The same commands are silent from then on.
    assert [line for line in found if line["seen"] and line["change"] != "first"] == []
    assert not [seen for line in found for seen in line["seen"] if "canary" in seen or str(copy) in seen]
    assert found[-1]["walked"] > 800
