"""Checkpoints are known by their own files, and bad ones are refused in one sentence."""

import json
import struct
from pathlib import Path

import pytest

from harness.config import ModelSpec
from harness.errors import UserError
from harness.models import checkpoint
from harness.types import Origin

Tensors = dict[str, list[int]]


def write_safetensors(path: Path, tensors: Tensors, cut: int = 0) -> None:
    """A file of zeros in the safetensors format, short of its last `cut` bytes."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 2
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(offset)
    path.write_bytes(content[: len(content) - cut])


DENSE: Tensors = {"model.embed_tokens.weight": [100, 8], "model.layers.0.mlp.up_proj.weight": [16, 8]}
MOE: Tensors = DENSE | {f"model.layers.0.mlp.experts.{i}.up_proj.weight": [4, 8] for i in range(8)}


def make(folder: Path, tensors: Tensors = DENSE, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    facts = {"architectures": ["SomeForCausalLM"], "model_type": "some", "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(facts | config))
    words = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    (folder / "tokenizer.json").write_text(json.dumps({"model": words}))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_a_dense_checkpoint(tmp_path: Path) -> None:
    found = checkpoint.inspect(make(tmp_path / "m"))
    assert (found.model_class, found.dense, found.context_length) == ("SomeForCausalLM", True, 512)
    assert found.total_params == found.active_params == 100 * 8 + 16 * 8
    assert found.weight_bytes == 2 * found.total_params
    assert found.chat_template_hash is None


def test_an_moe_checkpoint_counts_the_experts_a_token_sees(tmp_path: Path) -> None:
    found = checkpoint.inspect(make(tmp_path / "m", MOE, num_experts=8, num_experts_per_tok=2))
    assert not found.dense
    assert (found.experts, found.experts_per_token) == (8, 2)
    assert found.total_params == 928 + 8 * 32
    assert found.active_params == 928 + 2 * 32


def test_a_wrapped_text_config_is_read(tmp_path: Path) -> None:
    text = {"num_local_experts": 8, "num_experts_per_tok": 1, "max_position_embeddings": 99}
    found = checkpoint.inspect(make(tmp_path / "m", MOE, text_config=text))
    assert found.active_params == 928 + 32
    assert found.context_length == 99


def test_the_fingerprint_sees_weights_config_and_tokenizer(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    hashes = {checkpoint.inspect(folder).weights_hash}
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] = 1
    (folder / "model.safetensors").write_bytes(content)
    hashes.add(checkpoint.inspect(folder).weights_hash)
    (folder / "tokenizer.json").write_text("{}")
    hashes.add(checkpoint.inspect(folder).weights_hash)
    (folder / "README.md").write_text("no matter")
    hashes.add(checkpoint.inspect(folder).weights_hash)
    assert len(hashes) == 3


def test_chat_templates_are_found_in_both_places(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ a }}"}))
    assert checkpoint.chat_template(folder) == "{{ a }}"
    named = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert checkpoint.chat_template(folder) == "d"
    (folder / "chat_template.jinja").write_text("{{ b }}")
    assert checkpoint.chat_template(folder) == "{{ b }}"


def test_the_template_for_tools_is_the_one_that_vllm_takes(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert (checkpoint.chat_template(folder), checkpoint.chat_template(folder, tools=True)) == ("d", "t")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named[:1]}))
    assert (checkpoint.chat_template(folder), checkpoint.chat_template(folder, tools=True)) == (None, "t")
    (folder / "chat_template.jinja").write_text("jinja")
    assert (checkpoint.chat_template(folder), checkpoint.chat_template(folder, tools=True)) == ("jinja",) * 2
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    assert (checkpoint.chat_template(folder), checkpoint.chat_template(folder, tools=True)) == (
        "jinja",
        "tools",
    )


def test_the_template_of_a_processor_is_none_of_the_tokenizers(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "p"}))
    assert checkpoint.chat_template(folder) is None
    assert checkpoint.chat_templates(folder) == ["p"]


@pytest.mark.parametrize("cut", [1, 100, 1900])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    folder = make(tmp_path / "m")
    write_safetensors(folder / "model.safetensors", DENSE, cut)
    with pytest.raises(UserError, match="damaged or cut short"):
        checkpoint.inspect(folder)


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(UserError, match=r"model\.safetensors is a pointer of Git LFS.*git lfs pull"):
        checkpoint.inspect(folder)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("adapter_config.json", "it is an adapter: name it as `adapter` of its base"),
        ("model-Q4_K_M.gguf", "model-Q4_K_M.gguf is not read; give the checkpoint that it was made of"),
        ("checkpoint-500/config.json", "one of the checkpoints in it, such as checkpoint-500"),
        ("notes.txt", "give the folder of a whole checkpoint"),
    ],
)
def test_what_was_meant_by_a_folder_that_is_no_checkpoint_is_told(
    tmp_path: Path, file: str, said: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(UserError, match=rf"has no \*\.safetensors files: .*{said}"):
        checkpoint.weight_files(tmp_path)
    with pytest.raises(UserError, match=rf"config\.json is missing: .*{said}"):
        checkpoint.read_config(tmp_path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin, a pickle"):
        checkpoint.inspect(folder)


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        checkpoint.inspect(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is missing"):
        checkpoint.inspect(folder)


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model-00002\.safetensors is named by"):
        checkpoint.inspect(folder)


def test_weights_that_are_there_in_two_formats_count_once(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    once = checkpoint.inspect(folder)
    write_safetensors(folder / "consolidated.safetensors", {"tok_embeddings.weight": [100, 8]})
    assert checkpoint.inspect(folder).total_params == once.total_params
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_safetensors(folder / "model-00001-of-00001.safetensors", DENSE)
    assert [file.name for file in checkpoint.weight_files(folder)] == ["model-00001-of-00001.safetensors"]


def test_mistrals_own_format(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    moe = {"num_experts": 8, "num_experts_per_tok": 2, "expert_hidden_dim": 4, "num_shared_experts": 1,
           "route_every_n": 1, "first_k_dense_replace": 0}  # fmt: skip
    params = {"dim": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "hidden_dim": 16, "vocab_size": 100,
              "kv_lora_rank": 4, "moe": moe, "max_seq_len": 99,
              "quantization": {"qformat_weight": "fp8_e4m3"}}  # fmt: skip
    (folder / "params.json").write_text(json.dumps(params))
    tensors = {f"layers.0.experts.{i}.w1.weight": [4, 8] for i in range(8)}
    scales = {"layers.0.experts.0.w1.qscale_weight": [1], "layers.0.experts.0.w1.qscale_act": [1]}
    write_safetensors(folder / "consolidated-00001-of-00001.safetensors", tensors | scales)
    index = {"weight_map": {"a": "consolidated-00001-of-00001.safetensors"}}
    (folder / "consolidated.safetensors.index.json").write_text(json.dumps(index))
    found = checkpoint.inspect(folder)
    assert (found.model_class, found.model_type) == ("MistralLarge3ForCausalLM", "deepseek_v3")
    assert (found.total_params, found.active_params, found.context_length) == (8 * 32, 2 * 32, 99)
    assert checkpoint.read_config(folder)["quantization_config"] == {"quant_method": "fp8"}
    (folder / "consolidated-00001-of-00001.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no \*\.safetensors files"):
        checkpoint.inspect(folder)


def test_experts_of_which_nobody_says_how_many_a_token_sees_are_not_counted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"256 parameters are in experts, .*: add the number of experts and"):
        checkpoint.inspect(make(tmp_path / "m", MOE, num_experts=8))
    with pytest.raises(UserError, match=r"256 parameters are in experts"):
        checkpoint.inspect(make(tmp_path / "m", MOE, num_experts_per_tok=2))
    gemma = checkpoint.inspect(make(tmp_path / "m", MOE, num_experts=8, top_k_experts=2))
    assert (gemma.total_params - gemma.active_params, gemma.experts_per_token) == (6 * 32, 2)


def test_finding_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spec(path: str) -> ModelSpec:
        return ModelSpec(name="m", path=path, origin=Origin(developer="D", country="XA"))

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    folder = make(tmp_path / "m")
    assert checkpoint.find(spec(str(folder))) == folder
    assert checkpoint.find(spec("some-organisation/some-model-that-is-not-here")) is None
    with pytest.raises(UserError, match="there is no folder"):
        checkpoint.find(spec(str(tmp_path / "absent")))


def test_numbers_of_parameters_read_well() -> None:
    assert [checkpoint.millions(n) for n in (734_000, 7_600_000_000, 1_040_000_000_000)] == [
        "0.73M",
        "7.6B",
        "1.0T",
    ]


@pytest.mark.parametrize("indexed", [True, False])
def test_a_tensor_that_two_shards_hold_is_refused(tmp_path: Path, indexed: bool) -> None:
    folder = make(tmp_path / "m")
    once = checkpoint.inspect(folder)
    (folder / "model.safetensors").unlink()
    embedding, projection = DENSE
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    homes = {embedding: second, projection: first}
    if indexed:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    write_safetensors(folder / first, {projection: DENSE[projection]})
    write_safetensors(folder / second, {embedding: DENSE[embedding]})
    assert checkpoint.inspect(folder).total_params == once.total_params
    write_safetensors(folder / second, DENSE)
    with pytest.raises(UserError, match=rf"{second} holds the tensor {projection}, which is in {first}"):
        checkpoint.inspect(folder)
