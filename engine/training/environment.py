"""What a run was started on, as text by name: what one asks first where two machines disagree."""

import os
import platform
from datetime import datetime
from pathlib import Path

import torch

from engine.training.distributed import Process

CPU_INFO = Path("/proc/cpuinfo")


def environment(process: Process) -> dict[str, str]:
    """Versions, device, processes, system and the time of the start."""
    facts = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": _device_name(process.device),
        "processes": str(process.world_size),
        "threads": f"{torch.get_num_threads()} a process, of {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "started": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    if process.device.type == "cuda":
        facts["CUDA"] = str(torch.version.cuda)
    return facts


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"CPU, {models[0] if models else platform.processor() or platform.machine()}"
