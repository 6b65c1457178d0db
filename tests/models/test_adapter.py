"""LoRA adapters by their files: what is read of one, and which weights it may be put over."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness import config as configs
from harness.cli import main
from harness.config import ModelSpec, load_config
from harness.engines import check_engine, one_load
from harness.errors import Status, UserError
from harness.models import adapter
from harness.models.planted import FOLDER
from harness.models.registry import base_countries, lineage
from harness.run.plan import make_plan
from harness.types import Origin

BASE = FOLDER / "aster-dense"
MODULE = "base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight"


def write(
    folder: Path, *, rank: int = 4, width: int = 128, out: int = 128, layer: int = 1, **config: Any
) -> Path:
    """An adapter over a query projection; `aster-dense` has 2 layers, hidden size 128, 4 heads of 32."""
    folder.mkdir(parents=True, exist_ok=True)
    matrices = {
        MODULE.format(layer=layer, side="A"): np.ones((rank, width), np.float32),
        MODULE.format(layer=layer, side="B"): np.ones((out, rank), np.float32),
    }
    save_file(matrices, folder / "adapter_model.safetensors")
    stated = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(stated | config))
    return folder


def test_an_adapter_says_its_rank_targets_base_and_sizes(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "a", base_model_name_or_path="a/b", revision="c0ffee", rank_pattern={"q_proj": 12}
    )
    found = adapter.read(folder)
    assert (found.rank, found.targets, found.base, found.base_revision) == (12, ("q_proj",), "a/b", "c0ffee")
    assert found.sizes == {"model.layers.1.self_attn.q_proj": (128, 128)}
    assert found.digest == adapter.read(folder).digest != adapter.read(write(tmp_path / "b")).digest


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"use_dora": True}, "use_dora is True, which vLLM does not serve"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"r": 0}, "r is 0"),
        ({"r": "8"}, "r is '8'"),
    ],
)
def test_what_is_no_plain_lora_is_refused(tmp_path: Path, config: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        adapter.read(write(tmp_path / "a", **config))


def test_files_that_are_not_there_or_not_whole_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    save_file({"x": np.ones(3, np.float32)}, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match="no lora_A and lora_B: it changes nothing"):
        adapter.read(folder)
    save_file(
        {MODULE.format(layer=0, side="A"): np.ones((4, 8), np.float32)}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(UserError, match="only one of lora_A and lora_B"):
        adapter.read(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match=r"no adapter_model.safetensors: its weights are a pickle"):
        adapter.read(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(UserError, match=r"adapter_config\.json is missing"):
        adapter.read(folder)


@pytest.mark.parametrize(
    ("written", "spec", "why"),
    [
        ({}, {}, None),
        ({"base_model_name_or_path": "/home/somebody/aster"}, {}, None),
        ({"base_model_name_or_path": "aster/dense"}, {"path": "Aster/Dense"}, None),
        (
            {"base_model_name_or_path": "aster/dense"},
            {"path": "aster/dense-awq", "bases": ("aster/dense",)},
            None,
        ),
        (
            {"base_model_name_or_path": "aster/other"},
            {"path": "aster/dense"},
            "was trained on aster/other, and",
        ),
        (
            {"base_model_name_or_path": "aster/dense", "revision": "a" * 40},
            {"path": "aster/dense", "revision": "b" * 40},
            f"trained on commit {'a' * 40}",
        ),
        ({"layer": 2}, {}, "it changes model.layers.2.self_attn.q_proj, and the model has 2 layers"),
        ({"width": 256}, {}, "takes 256 numbers, and the model's hidden size is 128"),
        ({"out": 64}, {}, "is 64 x 128 in the adapter and 128 x 128 in the model"),
    ],
)
def test_a_base_that_does_not_match_is_refused(
    tmp_path: Path, written: dict[str, Any], spec: dict[str, Any], why: str | None
) -> None:
    bases = spec.pop("bases", ())
    given = {"name": "m", "path": str(BASE), "adapter": "a/lora", "origin": Origin(base_models=bases), **spec}
    model, found = ModelSpec(**given), adapter.read(write(tmp_path / "a", **written))
    if why is None:
        adapter.check_base(found, model, BASE, whole=True)
        return
    with pytest.raises(UserError, match=re.escape(why)):
        adapter.check_base(found, model, BASE, whole=True)


RUN = """\
name: adapted
models:
  - harness:models/planted/aster-dense
  - {model: harness:models/planted/aster-dense, adapter: ./mine}
  - model: harness:models/planted/aster-dense
    adapter: ./other
    as: other
    origin: {developer: B, country: XB}
suites: [{adapter: tests.fakes, name: digits, samples: 6}]
sampling: {max_tokens: 16, seed: 1}
"""


def test_a_run_has_the_adapter_in_its_key_and_its_base_in_its_lineage(tmp_path: Path) -> None:
    write(tmp_path / "mine")
    write(tmp_path / "other", rank=8)
    (tmp_path / "run.yaml").write_text(RUN)
    config = load_config(tmp_path / "run.yaml")
    _, mine, other = config.models
    assert [model.name for model in config.models] == ["aster-dense", "aster-dense@mine", "other"]
    assert [len(group) for group in one_load(config.engine, config.models)] == [3]
    assert mine.origin.base_models == other.origin.base_models == ("aster-dense",)
    assert (mine.origin.stated, other.origin.country) == (False, "XB")
    plan = make_plan(config)
    assert not plan.problems
    keys = {cell.entry.key for cell in plan.cells}
    assert len(keys) == 3 and len({cell.identity["weights"] for cell in plan.cells}) == 3
    assert len({tuple(cell.entry.protocol.items()) for cell in plan.cells}) == 1  # to be compared
    assert any("adapter" in line and "rank 4" in line for line in plan.lines())
    write(tmp_path / "mine", lora_alpha=16)
    assert len(keys & {cell.entry.key for cell in make_plan(config).cells}) == 2
    again = configs.to_yaml(config)
    assert "adapter: ./mine" in again and again.count("adapter:") == 3  # the suite's own among them


def test_plan_refuses_a_wrong_base_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "mine", width=64)
    write(tmp_path / "other")
    (tmp_path / "run.yaml").write_text(RUN)
    assert main(["plan", str(tmp_path / "run.yaml")]) == Status.WRONG_INPUT
    told = capsys.readouterr()
    assert "run.yaml:4: the adapter ./mine does not fit model aster-dense@mine: " in told.out
    assert "takes 64 numbers, and the model's hidden size is 128" in told.out


def test_an_engine_that_puts_no_adapter_over_a_model_is_refused(tmp_path: Path) -> None:
    model = ModelSpec(name="m", path="a/b", adapter="a/lora")
    engine = configs.EngineSpec(kind="endpoint", args={"base_url": "http://localhost:1/v1"})
    with pytest.raises(UserError, match="puts no adapter over a model, as m asks"):
        check_engine(engine, [model])


def test_an_adapter_is_another_node_of_the_lineage_than_its_base() -> None:
    base = ModelSpec(name="b", path="a/b", origin=Origin(developer="A", country="XA"))
    over = ModelSpec(
        name="o",
        path="a/b",
        adapter="c/lora",
        origin=Origin(developer="C", country="XC", base_models=("a/b",)),
    )
    nodes = lineage([base, over])
    assert nodes["a/b"].spec is base and nodes["c/lora"].parents == [nodes["a/b"]]
    assert base_countries(over, nodes) == ("XA",)
