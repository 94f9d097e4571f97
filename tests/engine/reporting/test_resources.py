"""Memory as a share, and the energy meter on a simulated driver; no GPU is needed."""

from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
import torch

from engine.data.batches import Batch
from engine.reporting.callbacks import Callback
from engine.reporting.reporter import Reporter
from engine.reporting.resources import EnergyMeter, memory_shares, total_ram_mb

CPU = torch.device("cpu")
BATCH = Batch(torch.zeros(1), torch.zeros(1), [])


class SimulatedDriver:
    """One GPU whose counter returns `readings`, in mJ; a reading may be an error."""

    def __init__(self, readings: list[int | Exception]):
        self.readings = iter(readings)
        self.asked_for = ""

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked_for = uuid
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert handle == "handle"
        reading = next(self.readings)
        if isinstance(reading, Exception):
            raise reading
        return reading


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch):
    """`simulate(driver)`: the machine has one GPU with this driver; None is a machine without its library."""

    def install(driver: SimulatedDriver | None) -> torch.device:
        def no_library() -> None:
            raise pynvml.NVMLError_LibraryNotFound

        functions = driver or SimpleNamespace(nvmlInit=no_library)
        for name in ("nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"):
            monkeypatch.setattr(pynvml, name, getattr(functions, name, None))
        monkeypatch.setattr(torch.version, "cuda", "13.2")
        properties = SimpleNamespace(uuid="0a1b")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        return torch.device("cuda")

    return install


def test_joules_since_the_last_call(simulate) -> None:
    driver = SimulatedDriver([5_000, 7_500, 7_500, 1_007_500])
    meter = EnergyMeter(simulate(driver))
    assert driver.asked_for == "GPU-0a1b"
    assert [meter.joules() for _ in range(3)] == [2.5, 0.0, 1000.0]


def test_without_a_counter_there_is_no_energy(simulate) -> None:
    assert EnergyMeter(CPU).joules() is None
    assert EnergyMeter(simulate(None)).joules() is None
    refused = pynvml.NVMLError_NotSupported()
    assert EnergyMeter(simulate(SimulatedDriver([refused, refused]))).joules() is None


def test_the_log_has_energy_only_where_the_gpu_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = []

    class Recorder(Callback):
        def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
            logged.append(values)

    reporter = Reporter([Recorder()], lambda: {"head": 0.1}, CPU)
    reporter.log(1, BATCH, {}, 0.5, 0.1)
    monkeypatch.setattr(reporter.energy, "joules", lambda: 12.5)
    reporter.log(2, BATCH, {}, 0.5, 0.1)
    assert "energy" not in logged[0]
    assert logged[1]["energy"] == 12.5


def test_memory_is_a_share_of_what_a_container_may_take(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    whole = total_ram_mb(limit)
    limit.write_text("max\n")
    assert total_ram_mb(limit) == whole
    limit.write_text(f"{64 << 20}\n")
    assert total_ram_mb(limit) == 64
    assert 0 < memory_shares(CPU)["RAM"] < 1
