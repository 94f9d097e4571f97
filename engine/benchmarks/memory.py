"""Peak memory of one call on a CPU: in a process of its own, since a process never gives its peak back."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def peak_mb_in_own_process(module: str, *arguments: str) -> float:
    """What `python -m module arguments` prints last: a number."""
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
