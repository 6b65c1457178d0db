"""Quantised checkpoints through real vLLM: rows of one table, compared with the model in full precision."""

from pathlib import Path

import pytest

import harness
from harness.cli import main
from harness.errors import Status
from harness.models.planted import FOLDER
from tests.engines.quantised import build_gptq, build_int8

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

RUN = """\
name: quantisation
models:
  - harness:models/planted/aster-dense
  - {name: gptq, path: ./gptq, origin: {base_models: [aster-dense]}, derivation: quantization}
  - {name: int8, path: ./int8, origin: {base_models: [aster-dense]}, derivation: quantization}
suites: [planted_choice]
sampling: {max_tokens: 8, seed: 1}
sample: 60
engine: {args: {max_model_len: 512, kv_cache_memory_bytes: 67108864}}
"""


def test_four_and_eight_bits_stand_beside_full_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = FOLDER / "aster-dense"
    build_gptq(tmp_path / "gptq", base)
    build_int8(tmp_path / "int8", base)
    (tmp_path / "run.yaml").write_text(RUN)
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == Status.DONE
    run = harness.open_run(tmp_path / "out")
    models = run.manifest.models
    told = {name: model.engine.details.get("quantization") for name, model in models.items() if model.engine}
    assert told == {"aster-dense": None, "gptq": "auto_gptq", "int8": "compressed-tensors"}
    sizes = {model.architecture.total_params for model in models.values() if model.architecture}
    assert len(sizes) == 1  # scales are no parameters, and a packed word is eight
    stored = {name: model.architecture.weight_bytes for name, model in models.items() if model.architecture}
    assert stored["gptq"] < stored["int8"] < stored["aster-dense"]
    card = run.scorecard().query("metric == 'acc'").set_index("model")
    assert set(card["n"]) == {60}
    assert abs(card["value"]["int8"] - card["value"]["aster-dense"]) <= 0.1
    moved = run.divergences("aster-dense").set_index("model")
    assert set(moved.index) == {"gptq", "int8"} and set(moved["n"]) == {60}
    assert 0 < moved["kl"]["int8"] < moved["kl"]["gptq"]
    assert moved["same_choice"]["int8"] >= 0.9
    capsys.readouterr()
    assert main(["compare", f"{tmp_path}/out/aster-dense", f"{tmp_path}/out/int8"]) == Status.DONE
    assert "planted_choice" in capsys.readouterr().out
