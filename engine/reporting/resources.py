"""The memory that a run uses, and the energy that its GPU uses."""

import os
import resource
from pathlib import Path
from typing import Any

import pynvml
import torch

MEGABYTE = 1 << 20
MILLIJOULES = 1000  # per joule
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container on Linux; "max" where there is none


def memory_mb(device: torch.device) -> float:
    """The peak so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_shares(device: torch.device) -> dict[str, float]:
    """The peaks so far as shares of the total, 0..1: of "GPU" where the run is on one, and of "RAM"."""
    shares = {"RAM": memory_mb(torch.device("cpu")) / total_ram_mb()}
    if device.type == "cuda":
        total_mb = torch.cuda.get_device_properties(device).total_memory / MEGABYTE
        shares["GPU"] = memory_mb(device) / total_mb
    return shares


def total_ram_mb(limit: Path = CGROUP_LIMIT) -> float:
    """Of the machine, or the limit of the container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(allowed) if allowed.isdigit() else physical) / MEGABYTE


class EnergyMeter:
    """The energy of an NVIDIA GPU from one call to the next, as its driver counts it."""

    def __init__(self, device: torch.device):
        self._handle = _driver_handle(device)
        self._before = self._total_mj()

    def joules(self) -> float | None:
        """Since the last call, or since the meter was made; of the whole GPU, other programs included.

        None where the device is not a GPU with an energy counter (Volta and later), or the driver is missing.
        """
        now = self._total_mj()
        if now is None or self._before is None:
            return None
        joules, self._before = (now - self._before) / MILLIJOULES, now
        return joules

    def _total_mj(self) -> int | None:
        """Total since the driver was loaded."""
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) if self._handle else None
        except pynvml.NVMLError:
            return None


def _driver_handle(device: torch.device) -> Any:
    """The driver's handle of the device; None where there is none."""
    if device.type != "cuda" or not torch.version.cuda:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError:  # a container without the driver's library
        return None
