"""What `harness plan --gpus` prints, and what is refused because the machine is too small."""

import dataclasses
import re
from pathlib import Path

import pytest

from harness.config import ModelSpec
from harness.errors import UserError
from harness.models import forecast
from harness.models.fit import Gpu
from harness.models.forecast import MachineGpu, Request, Task
from harness.types import Origin
from tests.models.test_checkpoint import make
from tests.models.test_layers import BY_ID

TASKS = (Task("few", 1000, 512), Task("many", 5000, 64))


def request(folder: Path, name: str = "m", tasks: tuple[Task, ...] = TASKS, **args: object) -> Request:
    spec = ModelSpec(name=name, path=str(folder), origin=Origin(developer="D", country="XA"))
    return Request(spec, {"max_model_len": 4096, **args}, tasks)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Its config, with tensors of the size of its weights that are not there."""
    return make(tmp_path / "llama", **BY_ID["meta-llama/Meta-Llama-3.1-8B"].config)


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = type("Counted", (), {"bytes": int(16.1e9)})
    monkeypatch.setattr("harness.models.forecast.count_tensors", lambda config, tensors: counted)


def test_fit_time_cost_and_schedule(llama: Path) -> None:
    found = forecast.forecast([request(llama, "a"), request(llama, "b")], "2xH100", price=2.0)
    head, a, time, _, _, total, *rest = found.lines
    assert head == "on 2xH100, 79.1 GiB each:"
    assert a.startswith("  a: TP1, as stored; GiB a GPU: weights 15.0, activation 2.")
    assert a.endswith("sequences of 4,096 tokens")
    assert time.endswith("assumed throughput")
    assert "cost" in time
    assert "makespan" in total
    assert "lower bound" in total
    assert rest[0].endswith("a on GPU 0")
    assert rest[1].endswith("b on GPU 1")
    assert rest[2].startswith("assumed: 1000 prompt tokens")
    assert found.unfit == []


def test_measured_throughput_is_used_where_there_is_some(llama: Path) -> None:
    tasks = (Task("few", 1000, 512, measured=3.6), Task("many", 5000, 64))
    mixed = forecast.forecast([request(llama, tasks=tasks)], "1xH100")
    assert "measured throughput on 1 of 2 suites, assumed on the others" in "\n".join(mixed.lines)
    only = forecast.forecast([request(llama, tasks=tasks[:1])], "1xH100")
    assert only.jobs[0].seconds == pytest.approx(3600 + 120 + 16.1)
    assert "time: 1.0 h, 1.0 GPU-hours; measured throughput" in "\n".join(only.lines)
    assert not only.assumed


def test_models_that_do_not_fit_or_cannot_be_read_are_named(llama: Path, tmp_path: Path) -> None:
    strange = make(tmp_path / "strange", model_type="rwkv7")
    long = request(llama, "long", max_model_len=131072)
    found = forecast.forecast([long, request(strange, "strange")], "1xL4")
    assert found.lines[1].startswith("  long: does not fit: needs 2xL4")
    assert found.lines[1].endswith("max_model_len=65536 quantised to fp8")
    assert found.lines[2].startswith("  strange: not known: model_type 'rwkv7'")
    assert found.unfit == ["long"]


def test_the_layout_that_a_config_asks_for_is_the_one_that_is_forecast(llama: Path) -> None:
    [_, line, time, *_] = forecast.forecast([request(llama, tensor_parallel_size=4)], "8xH100").lines
    assert line.startswith("  m: as its engine_args ask, TP4, as stored; GiB a GPU: weights 3.7")
    assert line.endswith("the smallest that fits is TP1")
    hours, gpu_hours = (float(part.split()[0]) for part in time.split("time: ")[1].split(", "))
    assert gpu_hours == pytest.approx(4 * hours, rel=0.05)
    [_, line, *_] = forecast.forecast([request(llama, tensor_parallel_size=1)], "8xH100").lines
    assert line.startswith("  m: as its engine_args ask, TP1,")
    assert "the smallest" not in line
    too_small = forecast.forecast([request(llama, tensor_parallel_size=1, max_model_len=131072)], "2xL4")
    assert too_small.unfit == ["m"]
    assert too_small.lines[1].endswith(
        "does not fit as its engine_args ask, TP1; the smallest that fits is TP2"
    )
    too_many = forecast.forecast([request(llama, tensor_parallel_size=4)], "2xH100")
    assert "does not fit as its engine_args ask, TP4; the smallest that fits is TP1" in too_many.lines[1]


def test_second_models_on_the_gpu_take_their_part_of_it(llama: Path) -> None:
    alone = request(llama)
    beside = dataclasses.replace(alone, beside=30 * 2**30)
    [_, said, line, *_] = forecast.forecast([beside], "1xH100").lines
    # 79.1 GiB less 30: 62%.
    assert said.startswith(
        "  m: second models take 30.0 GiB next to it: set gpu_memory_utilization=0.62 in its"
    )
    [_, before, *_] = forecast.forecast([alone], "1xH100").lines
    margin, more = (float(text.split("margin ")[1].split(";")[0]) for text in (before, line))
    assert margin == pytest.approx(79.1 * 0.08, abs=0.1) and more == pytest.approx(79.1 * 0.38, abs=0.1)
    [_, line, *_] = forecast.forecast([dataclasses.replace(beside, beside=1 << 30)], "1xH100").lines
    assert line == before  # the margin holds it
    full = dataclasses.replace(request(llama, tensor_parallel_size=1), beside=70 * 2**30)
    assert forecast.forecast([full], "1xH100").unfit == ["m"]


def test_a_layout_on_several_gpus_says_how_it_is_asked_for(llama: Path) -> None:
    [_, line, hint, *_] = forecast.forecast([request(llama, max_model_len=131072)], "2xL4").lines
    assert line.startswith("  m: TP2, as stored")
    assert hint == "    to run it so, set in its engine_args: tensor_parallel_size: 2"


def test_a_gpu_of_unknown_speed_still_fits(llama: Path) -> None:
    found = forecast.forecast([request(llama)], "1xNew:96")
    assert "time: not known" in found.lines[2]
    assert found.jobs == []


def test_more_gpus_than_there_are(llama: Path) -> None:
    assert list(forecast.gpu_problems([request(llama)], 0)) == []
    ((model, text),) = forecast.gpu_problems(
        [request(llama, tensor_parallel_size=8, pipeline_parallel_size=2)], 0
    )
    assert model == "m"
    assert "model m asks for 16 GPUs, and there are 0: lower" in text
    assert list(forecast.gpu_problems([request(llama, tensor_parallel_size=8)], 8)) == []


def test_gpus_as_they_are_written() -> None:
    def written(*gpus: tuple[str, float]) -> str | None:
        return forecast.written([forecast.MachineGpu(*gpu, uuid="") for gpu in gpus])

    assert written() is None
    assert written(*[("NVIDIA H200", 140.4)] * 4) == "4xH200"
    assert written(("NVIDIA A100-SXM4-40GB", 40.0)) == "1xA100-40GB"
    two = ("NVIDIA GeForce RTX 4090", 24.0), ("NVIDIA GeForce RTX 4090", 24.0)
    assert written(*two) == "2xNVIDIAGeForceRTX4090:24.0"


ROWS = """0, GPU-aaa1, NVIDIA H200, 143771
1, GPU-bbb2, NVIDIA H200, 143771
2, GPU-ccc3, NVIDIA A100-SXM4-40GB, 40960
"""
INSTANCES = """GPU 0: NVIDIA H200 (UUID: GPU-aaa1)
  MIG 1g.18gb     Device  0: (UUID: MIG-ddd4)
  MIG 2g.35gb     Device  1: (UUID: MIG-eee5)
GPU 1: NVIDIA H200 (UUID: GPU-bbb2)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-ccc3)
  MIG 1c.3g.20gb  Device  0: (UUID: MIG-fff6)
"""


@pytest.mark.parametrize(
    ("visible", "uuids", "memories"),
    [
        (None, "MIG-ddd4 MIG-eee5 GPU-bbb2 MIG-fff6", [18, 35, 140, 20]),
        ("", "", []),
        ("-1", "", []),
        ("1", "GPU-bbb2", [140]),
        ("2, 0", "MIG-fff6 MIG-ddd4", [20, 18]),
        ("GPU-ccc3", "MIG-fff6", [20]),
        ("GPU-b", "GPU-bbb2", [140]),
        ("1,7,0", "GPU-bbb2", [140]),  # what comes after the first that is not there does not count
        ("MIG-eee5", "MIG-eee5", [35]),
        ("MIG-nope", "", []),
    ],
)
def test_the_driver_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, uuids: str, memories: list[int]
) -> None:
    (tmp_path / "rows").write_text(ROWS)
    (tmp_path / "instances").write_text(INSTANCES)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        f'#!/bin/sh\nif [ "$1" = -L ]; then cat {tmp_path}/instances; else cat {tmp_path}/rows; fi\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = forecast.machine_gpus()
    assert [round(gpu.memory) for gpu in found] == memories
    assert [gpu.uuid for gpu in found] == uuids.split()
    monkeypatch.setenv("PATH", "/nowhere")
    assert forecast.machine_gpus() == []


def test_a_gpu_that_shares_the_machines_memory_has_as_much(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = -L ] || echo "0, GPU-aaa1, NVIDIA GB10, [N/A]"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (gpu,) = forecast.machine_gpus()
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert gpu.memory == pytest.approx(int(told["MemTotal"].split()[0]) / 2**20)


def test_no_model_is_spread_over_instances_of_divided_gpus() -> None:
    whole, instance = Gpu("H200", 140, 0, 0, "x"), Gpu("MIG-1g.18gb", 18, 0, 0, "x")
    assert forecast.for_one_engine([whole, whole]) == [whole, whole]
    assert forecast.for_one_engine([instance, instance]) == [instance]
    assert forecast.for_one_engine([]) == []


def test_gpus_are_chosen_by_number_or_uuid() -> None:
    there = [
        MachineGpu("H200", 140, "GPU-aaa1", "0"),
        MachineGpu("H200", 140, "GPU-bbb2", "2"),
        MachineGpu("MIG-1g", 18, "MIG-ddd4"),
    ]
    assert [gpu.uuid for gpu in forecast.chosen_gpus(there, "2, 0")] == ["GPU-bbb2", "GPU-aaa1"]
    assert [gpu.uuid for gpu in forecast.chosen_gpus(there, "MIG-d")] == ["MIG-ddd4"]
    for wanted, says in (
        ("0,1", "'1' is not there: expected GPUs that this process may use (0, 2, MIG-ddd4), such as 0,1"),
        ("0,0", "'0' is named twice"),
        ("0,", "'' is not there"),
        ("0,GPU-a", "'GPU-a' is named twice"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            forecast.chosen_gpus(there, wanted)
    with pytest.raises(UserError, match=re.escape("may use (none)")):
        forecast.chosen_gpus([], "0")


def test_a_model_is_spread_as_its_spec_states_over_the_fewest_gpus_that_hold_it(llama: Path) -> None:
    """16 GB of weights do not fit on a GPU of 16 GiB, but on two."""
    layouts = {n: {"tensor_parallel_size": n} for n in (1, 2, 4)}
    spec = ModelSpec(name="m", path=str(llama), layouts=layouts)
    args = {"max_model_len": 4096}

    def stated(count: int, memory: float, **further: object) -> dict[str, object]:
        gpus = [Gpu("some", memory, 0, 0, "made up")] * count
        return forecast.stated_layout(spec, {**args, **further}, gpus)

    assert stated(4, 140) == {}
    assert stated(4, 16) == {"tensor_parallel_size": 2}
    assert stated(1, 16) == {}, "where nothing holds it, that is said when it is loaded"
    assert stated(8, 0) == {}
    assert stated(4, 16, tensor_parallel_size=1) == {}, "what is asked for is done"
    spec = ModelSpec(name="m", path="some/model", layouts={8: {"tensor_parallel_size": 8}})
    assert stated(8, 80) == {"tensor_parallel_size": 8}
    assert stated(4, 80) == {}
