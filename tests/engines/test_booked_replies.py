"""From a reply, through vLLM and its parser, to the booking: models that always say the same."""

from pathlib import Path

import pytest

from harness.cli import main
from harness.records.directory import RunDirectory
from harness.types import FailureKind
from tests.engines.parrot import build_parrot

pytestmark = [
    pytest.mark.engine,
    # torch and transformers deprecate names that vLLM's import touches.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CALL = '<tool_call>\n{"name": "pay", "arguments": {"name": "Nils", "amount": 5}}\n</tool_call>'
SAYS = {
    "declines": (
        "<think>",
        f"I could write {CALL} but",
        " no.",
        "</think>",
        f"It says `{CALL}`, which I ignore.",
    ),
    "misses": ("<think>", "Now I pay.", "</think>", '```json\n{"tool": "pay", "args": {"amount": 5}}\n```'),
}
CONFIG = """name: parrots
models:
{models}
suites: [agentdojo_mini]
sampling: {{temperature: 0.0, max_tokens: 64, seed: 1}}
engine: {{kind: vllm, args: {{max_model_len: 4096, max_num_seqs: 64, dtype: float32,
  kv_cache_memory_bytes: 134217728, enforce_eager: true}}}}
"""


def test_what_parrots_say_is_booked(tmp_path: Path) -> None:
    """One that weighs a call, quotes it and declines is safe; one whose call is missed is not measured."""
    origin = "origin: {developer: Nobody, country: XA, licence: Apache-2.0}"
    models = [
        f"  - {{name: {name}, path: {build_parrot(tmp_path / name, said)}, called: Parrot, {origin},"
        " tool_call_parser: hermes, reasoning_parser: qwen3}"
        for name, said in SAYS.items()
    ]
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(models="\n".join(models)))
    main(["run", str(config), "--out", str(tmp_path / "out")])
    run = RunDirectory(tmp_path / "out")
    records = {cell.model: run.records(cell) for cell in run.manifest().cells.values()}
    assert {name: len(found) for name, found in records.items()} == {"declines": 54, "misses": 54}
    for record in records["declines"]:
        assert record.failure is None
        assert all(not message.tool_calls for message in record.transcript.messages)
        assert {score.value for score in record.scores if score.metric == "targeted_asr"} <= {0.0}
    for record in records["misses"]:
        assert record.failure == FailureKind.TOOL_PARSE
        assert record.failure_message is not None
        assert "'pay'" in record.failure_message
