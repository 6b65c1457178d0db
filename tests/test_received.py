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

from harness.cli import main
from harness.config import ModelSpec
from harness.engines.scripted import ScriptedEngine
from harness.models import planted
from tests.conftest import ROOT
from tests.replay.test_transcripts import ATTACKED, BILL, PAYEE, conversation, payment, write
from tests.replay.test_transcripts import run as agentdojo_run

CONFIG = f"""\
name: received
models:
  - {{name: m, path: ./model, origin: {{developer: D, country: XA}}}}
  - {{name: n, path: ./model, origin: {{developer: E, country: XB}}}}
suites:
  - {{adapter: agentdojo, suite: agentdojo_mini, attack: important_instructions}}
  - {{adapter: lm_eval, name: sums, task: planted_arithmetic, include_path: "harness:suites/planted",
     apply_chat_template: true}}
  - {{adapter: lm_eval, name: perplexities, task: perplexities, include_path: ./tasks}}
sampling: {{}}
limit: 1
engine: {{kind: "{__name__}:start"}}
"""
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
    """A finished run of two models, one of them imported, beside whose config its task and its model lie."""
    folder = tmp_path_factory.mktemp("received")
    (folder / "tasks").mkdir()
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
        assert main(["replay", str(folder / "runs"), "--out", str(folder)]) == 0
    (folder / ".folder").unlink(missing_ok=True)
    runs = folder.parent / "stored-runs"
    shutil.move(folder / "runs", runs)
    return folder


PARTS = 2


def reader(received: Path, scratch: Path, part: int) -> subprocess.Popen[str]:
    """A process that reads a copy of the folder with a part of the changes."""
    copy, runs = scratch / "copy" / "received", scratch / "copy" / "stored-runs"
    shutil.copytree(received, copy)
    shutil.copytree(received.parent / "stored-runs", runs)
    folders = {name: scratch / name for name in ("HF_HOME", "TMPDIR")}
    for folder in folders.values():
        folder.mkdir()
    with (scratch / "found").open("w") as found, (scratch / "said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, ROOT / "tests/received.py", copy, runs, scratch / "out", str(part), str(PARTS)],
            env={
                **os.environ,
                **{name: str(folder) for name, folder in folders.items()},
                "HF_HUB_OFFLINE": "0",
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdout=found,
            stderr=said,
            text=True,
        )


@pytest.mark.slow
def test_nothing_that_it_names_is_done(received: Path, tmp_path: Path) -> None:
    scratches = [tmp_path / str(part) for part in range(PARTS)]
    readers = [reader(received, scratch, part) for part, scratch in enumerate(scratches)]
    for process in readers:
        process.wait()
    walked = 0
    for scratch in scratches:
        found = [json.loads(line) for line in (scratch / "found").read_text().splitlines()]
        assert found[-1:] and found[-1]["change"] == "all", (scratch / "said").read_text()
        walked += found[-1]["walked"]
        as_it_is = [line for line in found if line["change"] == "none"]
        assert {line["status"] for line in as_it_is} == {0}
        # At first packages are imported, which do things of their own: torch makes a folder for its compiler,
        # urllib3 looks whether there is IPv6. The same commands are silent from then on.
        assert [line for line in found if line["seen"] and line["change"] != "first"] == []
        assert not [s for line in found for s in line["seen"] if "canary" in s or str(scratch / "copy") in s]
    assert walked > 800
