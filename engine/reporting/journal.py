"""What happens in a run, told to whoever listens: the log file, TensorBoard, the console.

Device tensors become numbers here and only here, once a log step. Knows nothing of how training works.
"""

import json
import math
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.reporting.energy import EnergyMeter
from engine.reporting.pictures import Picture
from engine.run_folder import write_text
from engine.scoring.confusion import Scores

MEGABYTE = 1 << 20


class Listener(Protocol):
    """Whoever wants to know. `values` are plain numbers under the tags of the log."""

    def tick(self, step: int) -> None: ...

    def update(self, step: int, values: dict[str, float]) -> None: ...

    def scoring(self, done: int, total: int) -> None: ...

    def evaluation(self, step: int, scores: Scores, log_loss: float, pictures: list[Picture]) -> None: ...

    def close(self) -> None: ...


class Journal:
    """Tells every listener. A process that is not the main one has none.

    Args:
        listeners: in the order in which they are told.
        learning_rates: asked at each log step; group -> rate. `lr` is the highest, `base_lr` the lowest.
        device: whose memory and energy are reported.
    """

    def __init__(self, listeners: Sequence[Listener], learning_rates, device: torch.device):
        self.listeners = listeners
        self.learning_rates = learning_rates
        self.device = device
        self.energy = EnergyMeter(device)

    def tick(self, step: int) -> None:
        for listener in self.listeners:
            listener.tick(step)

    def update(self, step: int, metrics: dict[str, Tensor], seconds: float, data_seconds: float) -> None:
        """One log step; `seconds` are per update."""
        if not self.listeners:
            return
        rates = self.learning_rates()
        values = {_tag(name): float(value) for name, value in metrics.items()}
        values |= {"lr": max(rates.values()), "base_lr": min(rates.values())}
        values |= {"time": seconds, "data_time": data_seconds, "memory": memory_mb(self.device)}
        joules = self.energy.joules()
        if joules is not None:
            values["energy"] = joules  # since the last line
        for listener in self.listeners:
            listener.update(step, values)

    def scoring(self, done: int, total: int) -> None:
        for listener in self.listeners:
            listener.scoring(done, total)

    def evaluation(self, step: int, scores: Scores, log_loss: float, pictures: list[Picture]) -> None:
        for listener in self.listeners:
            listener.evaluation(step, scores, log_loss, pictures)

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


class JsonLog:
    """log.jsonl: one JSON object a line. A resumed run goes on behind the lines that its state has seen."""

    def __init__(self, path: Path, resume_at: int):
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= resume_at]
        write_text(path, "".join(kept))
        self._file = path.open("a", buffering=1)  # a line at a time, so that it can be followed

    def tick(self, step: int) -> None:
        """Updates between log steps are not written."""

    def update(self, step: int, values: dict[str, float]) -> None:
        self._write({"step": step, "split": "train", **values})

    def scoring(self, done: int, total: int) -> None:
        """Progress is not written."""

    def evaluation(self, step: int, scores: Scores, log_loss: float, pictures: list[Picture]) -> None:
        row = {
            "mIoU": scores.mIoU,
            "mAcc": scores.mAcc,
            "aAcc": scores.aAcc,
            "loss": log_loss,
            "IoU": scores.IoU,
        }
        self._write({"step": step, "split": "val", **row})

    def close(self) -> None:
        self._file.close()

    def _write(self, row: dict) -> None:
        self._file.write(json.dumps(without_nan(row)) + "\n")


def without_nan(value):
    """The same with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _lines(path: Path) -> list[str]:
    """Whole lines only: a crash can leave half of the last one."""
    return (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if path.exists()
        else []
    )


def _tag(name: str) -> str:
    return f"decode.{name}" if name == "acc_seg" or name.startswith(("loss_", "grad_")) else name


def memory_mb(device: torch.device) -> float:
    """The peak so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
