"""The energy that a GPU has taken, as NVIDIA's driver counts it. Knows nothing of runs.

The driver's library is asked directly, so that no package is needed for it (nvml.h, nvmlDevice...).
"""

import ctypes
from typing import Any

import torch

LIBRARY = "libnvidia-ml.so.1"  # comes with the driver
MILLIJOULES = 1000


class EnergyMeter:
    """Counts from one call to the next; tells nothing where the device is no GPU that counts."""

    def __init__(self, device: torch.device):
        self._library, self._handle = _open(device)
        self._before = self._total_mj()

    def joules(self) -> float | None:
        """Since the last call, or since the meter was made; of the whole GPU, other programs included."""
        now = self._total_mj()
        if now is None or self._before is None:
            return None
        taken, self._before = (now - self._before) / MILLIJOULES, now
        return taken

    def _total_mj(self) -> int | None:
        """Since the driver was loaded; None where the GPU does not count (before Volta)."""
        if self._library is None:
            return None
        total = ctypes.c_ulonglong()
        failed = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(total))
        return None if failed else total.value


def _open(device: torch.device) -> tuple[Any, ctypes.c_void_p]:
    """The driver's library and its handle of the device; None for the library where there is none."""
    handle = ctypes.c_void_p()
    if device.type != "cuda" or not torch.version.cuda:
        return None, handle
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:  # a container without the driver's tools
        return None, handle
    failed = library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle))
    return (None if failed else library), handle
