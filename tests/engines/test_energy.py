"""Energy: read from the counters of the GPUs that the engine runs on, or not measured."""

import sys
from types import ModuleType
from typing import Any

import pytest

from harness.engines.energy import open_meter
from harness.engines.metered import BusyClock, MeteredEngine, Share
from harness.types import EngineFacts


def facts(**details: str) -> EngineFacts:
    sizes = {f"{kind}_parallel_size": "1" for kind in ("tensor", "pipeline", "data")}
    return EngineFacts(name="vllm", version="0", details={"device": "NVIDIA H200", **sizes, **details})


class Board:
    """Eight boards of which each counter stands at 1000 J times its number, and MIG is on one."""

    class NVMLError(Exception):
        pass

    broken = False
    divided = 7

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetMigMode(self, board: int) -> list[int]:  # noqa: N802
        if board == 0:
            raise self.NVMLError("not supported")
        return [int(board == self.divided), 0]

    def nvmlDeviceGetTotalEnergyConsumption(self, board: int) -> int:  # noqa: N802
        if self.broken:
            raise self.NVMLError("gone")
        return 1_000_000 * board


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> Board:
    """NVML, and a vLLM that may use boards 2, 3, 7 and 0."""
    nvml = Board()

    class Platform:
        def device_id_to_physical_device_id(self, number: int) -> int:
            return (2, 3, 7, 0)[number]

    for name, content in {
        "vllm": {},
        "vllm.third_party": {"pynvml": nvml},
        "vllm.platforms": {"current_platform": Platform()},
    }.items():
        module: Any = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return nvml


def test_the_boards_of_the_engine_are_added_up(boards: Board) -> None:
    meter = open_meter(facts(tensor_parallel_size="2"))
    assert meter is not None and meter() == 2000 + 3000
    boards.broken = True
    assert meter() is None


@pytest.mark.parametrize(
    "found",
    [
        facts(device="cpu"),
        EngineFacts(name="vllm", version="0"),
        EngineFacts(name="endpoint", version="0", details=facts().details),
        facts(tensor_parallel_size="3"),  # the third is divided
        facts(tensor_parallel_size="8"),  # more than there are
    ],
)
def test_what_cannot_be_measured_is_not(boards: Board, found: EngineFacts) -> None:
    assert open_meter(found) is None


def test_boards_without_a_counter(boards: Board) -> None:
    boards.broken = True
    assert open_meter(facts()) is None


def test_gpus_are_those_of_the_layout() -> None:
    assert facts(tensor_parallel_size="4", data_parallel_size="2").gpus == 8
    assert facts(device="cpu").gpus is None
    assert EngineFacts(name="endpoint", version="1").gpus is None


def test_energy_is_divided_like_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 W while idle, 300 W while one request runs, 500 W while two do."""
    now, counter = [0.0], [0.0]

    def later(seconds: float, watts: float) -> None:
        now[0] += seconds
        counter[0] += seconds * watts

    monkeypatch.setattr("harness.engines.metered.time.perf_counter", lambda: now[0])
    clock = BusyClock(lambda: counter[0])
    later(10, 100)
    first = clock.enter()
    later(2, 300)
    second = clock.enter()
    later(4, 500)
    assert clock.leave(first) == (pytest.approx(2 + 2), pytest.approx(600 + 1000))
    later(1, 300)
    assert clock.leave(second) == (pytest.approx(2 + 1), pytest.approx(1000 + 300))
    later(50, 100)  # idle: charged to nobody
    third = clock.enter()
    later(1, 300)
    assert clock.leave(third) == (pytest.approx(1), pytest.approx(300))


def test_a_counter_that_goes_leaves_nothing_measured() -> None:
    readings: list[float | None] = [1.0, None]
    clock = BusyClock(lambda: readings.pop(0))
    entered = clock.enter()
    clock._counted = -1.0
    assert clock.leave(entered).joules is None
    assert clock.nothing == Share(0.0, None)


@pytest.mark.parametrize(("meter", "joules"), [(None, None), (lambda: 5.0, 0.0)])
def test_an_attempt_without_a_request_took_nothing(meter: Any, joules: float | None) -> None:
    engine: Any = None
    assert MeteredEngine(engine, BusyClock(meter)).usage.joules == joules
