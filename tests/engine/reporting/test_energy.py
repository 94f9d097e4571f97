"""The energy meter on a driver that the test plays; no GPU is needed, and none was measured here."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from engine.data.batches import Batch
from engine.reporting.energy import EnergyMeter
from engine.reporting.journal import Journal

BATCH = Batch(torch.zeros(1), torch.zeros(1), [])


class FakeDriver:
    """nvml: one GPU whose counter goes by `readings`, in mJ; a status of 3 is an error."""

    def __init__(self, readings: list[int], status: int = 0):
        self.readings = iter(readings)
        self.status = status
        self.asked_for = b""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle) -> int:
        self.asked_for = uuid
        handle._obj.value = 77
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, total) -> int:
        assert handle.value == 77
        total._obj.value = next(self.readings)
        return self.status


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch):
    """`play(driver)`: the machine has one GPU, with this driver; None is a machine without its library."""

    def install(driver: FakeDriver | None) -> torch.device:
        def load(name: str) -> FakeDriver:
            if driver is None:
                raise OSError(name)
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(torch.version, "cuda", "13.2")
        properties = SimpleNamespace(uuid="0a1b")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        return torch.device("cuda")

    return install


def test_joules_since_the_last_call(play) -> None:
    driver = FakeDriver([5_000, 7_500, 7_500, 1_007_500])
    meter = EnergyMeter(play(driver))
    assert driver.asked_for == b"GPU-0a1b"
    assert [meter.joules() for _ in range(3)] == [2.5, 0.0, 1000.0]


def test_what_does_not_count_tells_nothing(play) -> None:
    assert EnergyMeter(torch.device("cpu")).joules() is None
    assert EnergyMeter(play(None)).joules() is None
    assert EnergyMeter(play(FakeDriver([0, 0], status=3))).joules() is None


def test_the_log_has_energy_only_where_the_gpu_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    listener = SimpleNamespace(update=lambda step, values, batch: told.append(values))
    journal = Journal([listener], lambda: {"head": 0.1}, torch.device("cpu"))
    journal.update(1, BATCH, {}, 0.5, 0.1)
    monkeypatch.setattr(journal.energy, "joules", lambda: 12.5)
    journal.update(2, BATCH, {}, 0.5, 0.1)
    assert "energy" not in told[0]
    assert told[1]["energy"] == 12.5
