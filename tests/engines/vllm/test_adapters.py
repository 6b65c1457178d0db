"""LoRA adapters through real vLLM: what one changes comes back, and one that changes nothing is told."""

import html
from pathlib import Path

import pytest

from harness.cli import main
from harness.engines.vllm.start import lora_args
from harness.errors import Status, UserError
from harness.models.adapter import Adapter
from harness.records.directory import RunDirectory
from tests.engines.adapters import build_adapter
from tests.engines.parrot import build_parrot

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

RUN = """\
name: adapters
models:
  - &base {name: tiny, path: ./m, origin: {developer: Aster Institute, country: XA}}
  - {model: *base, adapter: ./skipping}
  - {model: *base, adapter: ./null}
  - {model: *base, adapter: ./elsewhere}
suites:
  - {adapter: tests.fakes, name: digits, samples: 6}
sampling: {max_tokens: 16, seed: 1}
engine:
  args: {max_model_len: 256, kv_cache_memory_bytes: 67108864, max_num_seqs: 8, dtype: float32}
"""


def test_an_adapter_changes_what_is_planted_on_the_same_load_and_a_null_one_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.engines.vllm import engine

    loads: list[dict[str, object]] = []
    launch = engine.launch

    async def counted(what: engine.Launch) -> object:
        loads.append(what.engine_args)
        return await launch(what)

    monkeypatch.setattr(engine, "launch", counted)
    base = build_parrot(tmp_path / "m", ("one", " two", " three"))
    build_adapter(tmp_path / "skipping", base, skips="one")
    build_adapter(tmp_path / "null", base, skips=None)
    build_adapter(tmp_path / "elsewhere", base, skips="one", prefix="language_model.model")
    (tmp_path / "run.yaml").write_text(RUN)
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == Status.INCOMPLETE
    told = capsys.readouterr()
    assert "null changes nothing: " in told.out + told.err and "elsewhere" in told.out + told.err
    (arguments,) = loads
    assert arguments["enable_lora"] and (arguments["max_lora_rank"], arguments["max_loras"]) == (8, 3)
    directory = RunDirectory(tmp_path / "out")
    manifest = directory.manifest()
    said = {
        cell.model: {
            reply.text for record in directory.records(cell) for reply in record.transcript.generations
        }
        for cell in manifest.cells.values()
        if cell.suite == "digits"
    }
    assert said == {
        "tiny": {"one two three"},
        "tiny@skipping": {"one three"},
        "tiny@null": set(),
        "tiny@elsewhere": set(),
    }
    base_entry, adapted = manifest.models["tiny"], manifest.models["tiny@skipping"]
    assert adapted.origin.base_models == ("tiny",) and not adapted.origin.stated
    assert base_entry.architecture and adapted.architecture
    assert base_entry.architecture.weights_hash != adapted.architecture.weights_hash
    assert adapted.engine and adapted.engine.details["adapter"].startswith("LoRA, rank 2, SHA-256 ")
    assert base_entry.engine and "adapter" not in base_entry.engine.details
    card = html.unescape((tmp_path / "out" / "scorecard.md").read_text())
    assert "tiny@null" in card and "changes nothing" in card


@pytest.mark.parametrize(("ranks", "most"), [((1,), 1), ((2, 9), 16), ((256,), 256), ((300,), 320)])
def test_the_largest_rank_is_one_that_vllm_has(ranks: tuple[int, ...], most: int) -> None:
    arguments = lora_args([of_rank(rank) for rank in ranks])
    assert arguments == {"enable_lora": True, "max_lora_rank": most, "max_loras": len(ranks)}


def test_a_rank_above_all_of_them_is_refused() -> None:
    with pytest.raises(UserError, match="up to rank 512, and one has 513"):
        lora_args([of_rank(513)])


def of_rank(rank: int) -> Adapter:
    return Adapter(Path("a"), str(rank), rank, None, None, (), {})
