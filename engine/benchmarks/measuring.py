"""What benchmarks share: ratios, peak memory, and the environment that is written with the figures."""

import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch

PACKAGES = ("torch", "timm", "transformers", "segmentation_models_pytorch", "kornia", "numpy")


def ratio(slower: list[float], faster: list[float]) -> float:
    """How many times faster, as the median over the rounds of the ratio within a round."""
    return median(a / b for a, b in zip(slower, faster, strict=True))


def environment(threads: int) -> dict[str, object]:
    """Device, threads and versions of the measurement."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "device": gpu or platform.processor() or platform.machine(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(package: str) -> str | None:
    """The version of a package, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def peak_mb_in_own_process(module: str, *arguments: str) -> float:
    """Peak memory of a call on a CPU, in a process of its own, since a process never returns its peak.

    `python -m module arguments` makes the call and prints `peak_mb_of` it last.
    """
    command = [sys.executable, "-m", module, *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def peak_mb_of(call: Callable[[], object]) -> float:
    """Resident memory that the call adds to this process, at its peak (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak from here
    before = _status_kb("VmRSS")
    call()
    return (_status_kb("VmHWM") - before) / 1024


def _status_kb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
