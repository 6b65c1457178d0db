"""A spec that is proposed from what the small files of a checkpoint say."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config import load_model
from harness.config.schemas import Switch
from tests.models.fake_hub import COMMIT, serve
from tests.models.test_checkpoint import make
from tests.models.test_layers import BY_ID

TEMPLATE = (
    "{% if tools %}{{ tools }}<tool_call>{}</tool_call>{% endif %}"
    "{% if enable_thinking is not defined or enable_thinking %}<think>{% else %}<think></think>{% endif %}"
)
CARD = "---\nlicense: apache-2.0\nbase_model: a/base\nbase_model_relation: finetune\n---\n# Ours\n"
DRAWS = {"do_sample": True, "temperature": 0.6, "top_k": 20, "max_new_tokens": 9}


def checkpoint(folder: Path, **config: Any) -> Path:
    made = make(folder, **(BY_ID["Qwen/Qwen3-32B"].config | {"architectures": ["Qwen3ForCausalLM"]} | config))
    (made / "chat_template.jinja").write_text(TEMPLATE)
    (made / "README.md").write_text(CARD)
    (made / "generation_config.json").write_text(json.dumps(DRAWS))
    return made


def add(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["models", "add", str(folder), *more]) == 0
    return capsys.readouterr().out


def test_a_spec_is_proposed_with_its_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "Ours-8B")
    monkeypatch.chdir(tmp_path)
    said = add(folder, capsys)
    spec = load_model("ours-8b.yaml")
    assert (spec.name, spec.path, spec.revision) == ("ours-8b", str(folder), None)
    assert (spec.tool_call_parser, spec.reasoning_parser) == ("hermes", "qwen3")
    assert (spec.origin.licence, spec.origin.base_models, spec.derivation) == (
        "Apache-2.0",
        ("a/base",),
        "finetune",
    )
    assert spec.modes == {
        "thinking": Switch(chat_template_kwargs={"enable_thinking": True}),
        "instruct": Switch(chat_template_kwargs={"enable_thinking": False}),
    }
    assert (spec.default_mode, spec.efforts) == ("thinking", {})
    assert spec.sampling == {"thinking": {"temperature": 0.6, "top_k": 20}}
    assert spec.layouts == {1: {"tensor_parallel_size": 1}}
    assert not spec.origin.stated
    assert not spec.trust_remote_code
    assert spec.sources["licence"] == spec.sources["base_models"] == "README.md"
    assert spec.sources["sampling"] == "generation_config.json"
    assert set(spec.sources) == {
        "base_models", "layouts", "licence", "modes", "reasoning_parser", "sampling", "tool_call_parser",
    }  # fmt: skip
    assert "tool_call_parser: hermes (chat template)" in said
    assert "context: 512 tokens (config.json)" in said
    text = Path("ours-8b.yaml").read_text()
    for key in ("origin.developer", "origin.country", "origin.release_date", "licence_restrictions", "role"):
        assert f"# {key}: " in text
        assert key in said.split("only a person can fill in: ")[1]
    assert "licence:" not in text.split("# origin", 1)[0]


def test_what_no_file_says_is_left_to_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(
        tmp_path / "bare", architectures=["OwnForCausalLM"], model_type="own", auto_map={"A": "x.A"}
    )
    said = add(folder, capsys, "--name", "mine", "--out", str(tmp_path / "mine.yaml"))
    spec = load_model(str(tmp_path / "mine.yaml"))
    assert (spec.tool_call_parser, spec.sampling, spec.layouts) == (None, {}, {})
    assert not spec.trust_remote_code, "whoever made the checkpoint does not say whether it is trusted"
    assert "# trust_remote_code: true, once you have read the code" in (tmp_path / "mine.yaml").read_text()
    assert spec.sources == {}
    assert "no chat template: a base model" in said
    assert "code of its own" in said
    assert "no layout is proposed" in said
    assert {"origin.licence", "origin.base_models"} <= set(
        said.split("fill in: ")[1].split("\n")[0].split(", ")
    )


def test_a_spec_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = checkpoint(tmp_path / "m"), tmp_path / "m.yaml"
    out.write_text("name: m\n")
    assert main(["models", "add", str(folder), "--out", str(out)]) == 2
    assert "is there already: give another file with --out" in capsys.readouterr().err
    assert out.read_text() == "name: m\n"


def test_of_a_repository_the_small_files_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "served")
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    with serve(folder, "us/ours", monkeypatch, tmp_path / "cache") as hub:
        add(Path("us/ours"), capsys, "--out", str(tmp_path / "ours.yaml"))
    spec = load_model(str(tmp_path / "ours.yaml"))
    assert (spec.path, spec.revision, spec.tool_call_parser) == ("us/ours", COMMIT, "hermes")
    assert spec.sources["licence"] == f"https://huggingface.co/us/ours/blob/{COMMIT}/README.md"
    assert sum(sent for name, sent in hub.sent.items() if name.endswith(".safetensors")) <= weights


@pytest.mark.parametrize(
    ("licence", "found"),
    [
        ("license: mit", "MIT"),
        ("license: other\nlicense_name: my-terms v2", "LicenseRef-my-terms-v2"),
        ("license: gemma", "LicenseRef-gemma"),
        ("license: other", None),
        ("license:\n- apache-2.0", "Apache-2.0"),
        ("license: [mit, apache-2.0]", None),
        ("tags: [x]", None),
    ],
)
def test_licences_have_spdx_identifiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], licence: str, found: str | None
) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "README.md").write_text(f"---\n{licence}\n---\n")
    add(folder, capsys, "--out", str(tmp_path / "m.yaml"))
    assert load_model(str(tmp_path / "m.yaml")).origin.licence == found


def test_sampling_of_one_that_does_not_draw_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps(DRAWS | {"do_sample": False}))
    add(folder, capsys, "--out", str(tmp_path / "m.yaml"))
    assert load_model(str(tmp_path / "m.yaml")).sampling == {}


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ({"repetition_penalty": True}, "Expected `float`, got `bool`"),
        ({"temperature": "0.6"}, "Expected `float`, got `str`"),
        ({"top_p": 1.5}, "top_p in (0, 1]"),
    ],
)
def test_sampling_that_is_none_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: dict[str, Any], said: str
) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps(DRAWS | drawn | {"min_p": None}))
    told = add(folder, capsys, "--out", str(tmp_path / "m.yaml"))
    assert "its sampling is left out: " in told
    assert said in told
    assert load_model(str(tmp_path / "m.yaml")).sampling == {}


def test_what_keeps_a_checkpoint_from_being_run_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "m", architectures=["Qwen3ForSequenceClassification"])
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }")
    (folder / "tokenizer.json").unlink()
    said = add(folder, capsys, "--out", str(tmp_path / "a b.yaml"))
    assert "the chat template is broken in line 1" in said
    assert "Qwen3ForSequenceClassification writes no text" in said
    assert "has no tokenizer" in said
    assert f"--model '{tmp_path}/a b.yaml'" in said
    assert load_model(str(tmp_path / "a b.yaml")).tool_call_parser is None


def test_efforts_and_other_switches_of_a_template_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ reasoning_effort }}{{ clear_thinking }}"
    )
    said = add(folder, capsys, "--out", str(tmp_path / "m.yaml"))
    spec = load_model(str(tmp_path / "m.yaml"))
    assert spec.modes == {}
    assert spec.efforts["low"] == Switch(chat_template_kwargs={"reasoning_effort": "low"})
    assert [*spec.efforts] == ["low", "medium", "high"]
    assert "its chat template reads clear_thinking too" in said
