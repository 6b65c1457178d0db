"""`harness models inspect` and the list of models, as people read them."""

import json
from pathlib import Path

import pytest

from harness.cli import main
from tests.models.test_checkpoint import MOE, make
from tests.models.test_layers import BY_ID


def test_inspect_prints_what_the_files_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BY_ID["openai/gpt-oss-20b"].config | {"num_experts_per_tok": 2, "num_local_experts": 8}
    config |= {"layer_types": ["sliding_attention", "full_attention"] * 12, "_name_or_path": "a/b"}
    prediction = {"mtp.layers.0.mlp.up_proj.weight": [4, 8]}
    folder = make(tmp_path / "m", MOE | prediction, **config)
    (folder / "chat_template.jinja").write_text("{{ tools }}{{ reasoning_effort }}")
    assert main(["models", "inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "SomeForCausalLM, MoE" in said
    assert "parameters: 1,184 total, 992 active" in said
    assert "experts: 8 a layer, 2 per token" in said
    assert "left out: 32 in layers for multi-token prediction" in said
    assert "KV cache: 49,152 bytes a token in 16 bits, 12 layers keep a window only" in said
    assert "takes tools, reasoning switches: reasoning_effort" in said
    assert "made of: a/b; base weights ?" in said


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"README.md": "---\nbase_model: Qwen/Qwen3-8B\nbase_model_relation: finetune\n---\n"},
            "made of: Qwen/Qwen3-8B (finetune); base weights CN",
        ),
        # not in the registry itself, but of a developer who is
        (
            {"adapter_config.json": '{"base_model_name_or_path": "meta-llama/Llama-3.2-1B"}'},
            "made of: meta-llama/Llama-3.2-1B; base weights US",
        ),
        # its base in the registry has a base of its own
        (
            {"README.md": "---\nbase_model: [nvidia/DeepSeek-V3.1-NVFP4, x/y]\n---\n"},
            "made of: nvidia/DeepSeek-V3.1-NVFP4, x/y; base weights ?, CN",
        ),
    ],
)
def test_inspect_tells_where_the_base_weights_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], says: str
) -> None:
    folder = make(tmp_path / "m")
    for name, text in files.items():
        (folder / name).write_text(text)
    assert main(["models", "inspect", str(folder)]) == 0
    assert says in capsys.readouterr().out


def test_inspect_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "m", model_type="rwkv7")
    assert main(["models", "inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["architecture"]["total_params"] == 928
    assert (found["kv_bytes_per_token"], found["template"]) == (None, None)


@pytest.mark.parametrize("command", ["check", "tree"])
def test_the_registry_is_printed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", command]) == 0
    assert "deepseek-v3.2" in capsys.readouterr().out


def test_one_bad_model_does_not_hide_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    for name, path in (("good", make(tmp_path / "m")), ("bad", tmp_path / "absent")):
        (tmp_path / "models" / f"{name}.yaml").write_text(
            f"name: {name}\npath: {path}\norigin: {{developer: D, country: XA}}\n"
        )
    monkeypatch.setattr("harness.config.paths.registry", lambda: tmp_path)
    assert main(["models"]) == 0
    bad, good = capsys.readouterr().out.splitlines()
    assert "there is no folder" in bad
    assert "SomeForCausalLM, dense" in good
