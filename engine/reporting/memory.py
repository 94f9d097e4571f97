"""How much memory a run holds, and how much there is. Knows nothing of what fills it."""

import os
import resource
from pathlib import Path

import torch

MEGABYTE = 1 << 20
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container on Linux; "max" where there is none


def memory_mb(device: torch.device) -> float:
    """The peak so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_shares(device: torch.device) -> dict[str, float]:
    """The peaks so far over what there is, 0..1: of "GPU" where the run is on one, and of "RAM"."""
    shares = {"RAM": memory_mb(torch.device("cpu")) / total_ram_mb()}
    if device.type == "cuda":
        total_mb = torch.cuda.get_device_properties(device).total_memory / MEGABYTE
        shares["GPU"] = memory_mb(device) / total_mb
    return shares


def total_ram_mb(limit: Path = CGROUP_LIMIT) -> float:
    """Of the machine, or what a container may take of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(allowed) if allowed.isdigit() else physical) / MEGABYTE
